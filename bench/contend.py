"""Whether processes that all want the same file are served in turn: the queue's waiting against SQLite's own.

Every round gives each side a fresh file, in turned order each second round, so that a slow minute of the machine hits
both.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

from bench import actors
from bench.actors import Seat
from bench.findings import Findings
from bench.held_journal import HeldJournal
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, positive, whole
from bench.scenario import Scenario
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict
from bench.trace import Trace
from bench.turn import Figures, Ratios, Turn, middle
from bench.verdicts import Judged, verdict_table
from bench.waiting import ALSO, PlainWaiting

OURS, THEIRS = "prismq", "SQLite's own waiting"
SIDES: dict[str, type[Scenario]] = {OURS: Scenario, THEIRS: PlainWaiting}
SHORTER_TIMES = 10.0
THROUGHPUT_SHARE = 0.6
COMPLETED_SHARE = 0.45
"""Of the enqueued; 0.5 is a fair share, as a worker commits twice a task."""
SPLIT = 1.5
PAIR = 2
"""Producers, and workers, of the mixed load."""
Columns: TypeAlias = tuple[tuple[str, str, str], ...]
"""Header, field of Figures and format of each."""
ENQUEUING_COLUMNS: Columns = (
    ("calls/s", "enqueued", ",.0f"),
    ("p50 ms", "p50", ".3f"),
    ("p99 ms", "p99", ".3f"),
    ("p99.9 ms", "p99_9", ".3f"),
    ("max ms", "longest", ".3f"),
    ("max of all ms", "longest_of_all", ".3f"),
    ("most : least", "producer_split", ".2f"),
    ("SQLITE_BUSY", "busy", ",d"),
)
MIXED_COLUMNS: Columns = (
    ("enqueued/s", "enqueued", ",.0f"),
    ("completed/s", "completed", ",.0f"),
    ("completed : enqueued", "completed_share", ".3f"),
    ("most : least, producers", "producer_split", ".2f"),
    ("workers", "worker_split", ".2f"),
    ("SQLITE_BUSY", "busy", ",d"),
)


@dataclass(frozen=True, slots=True)
class Contest:
    """One load, run by both sides; one turn a round."""

    producers: int
    workers: int
    ours: list[Turn]
    theirs: list[Turn]

    @property
    def name(self) -> str:
        return f"{self.producers} producers, {self.workers} workers" if self.workers else f"{self.producers} producers"

    def figures(self) -> dict[str, Figures]:
        return {OURS: Figures.of(self.ours), THEIRS: Figures.of(self.theirs)}

    def rounds(self) -> list[dict[str, Figures]]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [{OURS: Figures.of([ours]), THEIRS: Figures.of([theirs])} for ours, theirs in pairs]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"figures": {side: asdict(figures) for side, figures in self.figures().items()}}


@dataclass(frozen=True, slots=True)
class ContendReport(Judged):
    """`seconds` is the length of a turn, `enqueuing` the many producers, `mixed` the few with workers."""

    seconds: float
    enqueuing: Contest
    mixed: Contest

    @property
    def verdicts(self) -> list[Verdict]:
        return judge(self.enqueuing.rounds(), self.mixed.rounds())

    def as_json(self) -> dict[str, Any]:
        """Everything, latencies in unrounded milliseconds."""
        contests = {"enqueuing": self.enqueuing, "mixed": self.mixed}
        return Judged.as_json(self) | {name: contest.as_json() for name, contest in contests.items()}


def measure(folder: Path, processes: int, rounds: int, seconds: float) -> ContendReport:
    """Both loads, `rounds` turns of `seconds` for each side; CrewError when a process fails."""
    queue = Scenario().open(folder / "facts.db")
    facts = machine_facts(folder, queue, "normal")
    queue.close()
    enqueuing = _contest(folder, processes, 0, rounds, seconds)
    mixed = _contest(folder, PAIR, PAIR, rounds, seconds)
    return ContendReport(facts, seconds, enqueuing, mixed)


def judge(enqueuing: Sequence[Mapping[str, Figures]], mixed: Sequence[Mapping[str, Figures]]) -> list[Verdict]:
    """Against SQLite's own waiting where many enqueue; alone where workers have to keep their share."""
    shorter = Ratios.between(enqueuing, THEIRS, OURS, "longest")
    throughput = Ratios.between(enqueuing, OURS, THEIRS, "enqueued")
    share = middle(mixed, OURS, "completed_share")
    splits = {kind: middle(mixed, OURS, f"{kind}_split") for kind in ("producer", "worker")}
    return [
        Verdict(f"longest call {SHORTER_TIMES:g} times shorter", f"{shorter} times", shorter.middle >= SHORTER_TIMES),
        Verdict(
            f"throughput >= {THROUGHPUT_SHARE:g} times", f"{throughput} times", throughput.middle >= THROUGHPUT_SHARE
        ),
        Verdict(f"completed : enqueued >= {COMPLETED_SHARE:g}", f"{share:.3f}", share >= COMPLETED_SHARE),
        *(
            Verdict(f"most : least served <= {SPLIT:g}, {kind}s", f"{found:.2f}", 0 < found <= SPLIT)
            for kind, found in splits.items()
        ),
    ]


def render(report: ContendReport) -> str:
    """The report as text."""
    enqueuing, mixed = report.enqueuing, report.mixed
    note = (
        f"medians of {len(enqueuing.ours)} interleaved rounds, {report.seconds:g} s a side, in a closed loop;"
        " max: the median of the rounds' longest calls;\n"
        "most : least: calls of the most served process : those of the least served;"
        f" ratio: {OURS} : {THEIRS}, the median of the rounds', their least and largest;\n{ALSO}"
    )
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            _table(enqueuing, ENQUEUING_COLUMNS),
            _table(mixed, MIXED_COLUMNS),
            verdict_table(report.verdicts),
        )
    )


LINE = "whether many processes at once are served in turn"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Processes that enqueue into one file without a pause, then two producers and two workers: the queue's own"
        " waiting against SQLite's, in interleaved rounds on fresh files, and how evenly the processes are served."
    )
    parser.epilog = (
        "example:\n  python -m bench contend --processes 8 --rounds 3 --seconds 2 --json contend.json\n\n" + EXIT_STATUS
    )
    parser.add_argument("--processes", type=whole, default=16, metavar="P", help="that enqueue (default 16)")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="N", help="of a side's turn (default 5)")


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.processes, options.rounds, options.seconds)
    return Findings(render(report), report.as_json(), report.passed)


def press(scenario: Scenario, seat: Seat) -> None:
    """Part: the main job's producer, its journal held in memory."""
    with patch.object(actors, "Journal", HeldJournal):
        actors.produce(scenario, seat)


def serve(scenario: Scenario, seat: Seat) -> None:
    """Part: the main job's worker, its journal held in memory."""
    with patch.object(actors, "Journal", HeldJournal):
        actors.work(scenario, seat)


def _contest(folder: Path, producers: int, workers: int, rounds: int, seconds: float) -> Contest:
    turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in list(SIDES)[:: -1 if number % 2 else 1]:
            label = f"{producers} + {workers}, round {number + 1} of {rounds}, {side}"
            scenario = SIDES[side](producers, workers, seconds)
            with scratch_folder(folder) as place:
                turns[side].append(Turn.of(Trace.of(label, scenario, place / "turn", press, serve)))
    return Contest(producers, workers, turns[OURS], turns[THEIRS])


def _table(contest: Contest, columns: Columns) -> str:
    figures = contest.figures()
    rows = [[side, *(format(getattr(one, field), form) for _, field, form in columns)] for side, one in figures.items()]
    ratios = [Ratios.between(contest.rounds(), OURS, THEIRS, field).cell for _, field, _ in columns]
    return table((contest.name, *(name for name, *_ in columns)), [*rows, ["ratio", *ratios]])
