"""End to end: producers and workers on this queue, against a queue written by hand on the standard library's sqlite3.

Every round gives each side a fresh file and new processes, in turned order each second round, so that a slow minute of
the machine hits both.
"""

from __future__ import annotations

import sqlite3
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import plain_queue
from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import DURABILITIES, EXIT_STATUS, add_durabilities, positive, whole
from bench.pair_actors import produce, produce_plainly, work, work_plainly
from bench.pair_turn import KINDS, PERCENTILES, PairFigures, PairTurn
from bench.phase import read_rows
from bench.scenario import Durability, Scenario
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict
from bench.trace import Trace
from bench.turn import Ratios
from bench.verdicts import Judged, verdict_table

OURS, THEIRS = "prismq", "sqlite3 by hand"
OPERATIONS_TIMES: Mapping[Durability, float] = {"normal": 1.3, "full": 4.0}
SHORTER_TIMES = 20.0
COLUMNS = (
    ("operations/s", "operations", ",.0f"),
    ("enqueued/s", "enqueued", ",.0f"),
    ("completed/s", "completed", ",.0f"),
    ("longest call, ms", "longest", ",.3f"),
    ("longest of all, ms", "longest_of_all", ",.3f"),
    ("waits for a task", "waited", ",d"),
    ("SQLITE_BUSY", "busy", ",d"),
)
"""Header, field of PairFigures and format of each."""
LATENCY_HEADER = ("", "p50 ms", "p99 ms", "p99.9 ms", "max ms")


@dataclass(frozen=True, slots=True)
class Contest:
    """One durability, run by both sides; one turn a round."""

    durability: Durability
    ours: list[PairTurn]
    theirs: list[PairTurn]

    def figures(self) -> dict[str, PairFigures]:
        return {OURS: PairFigures.of(self.ours), THEIRS: PairFigures.of(self.theirs)}

    def rounds(self) -> list[dict[str, PairFigures]]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [{OURS: PairFigures.of([ours]), THEIRS: PairFigures.of([theirs])} for ours, theirs in pairs]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"figures": {side: asdict(figures) for side, figures in self.figures().items()}}


@dataclass(frozen=True, slots=True)
class PairsReport(Judged):
    """`seconds` is the length of a turn; a contest for each durability."""

    producers: int
    workers: int
    seconds: float
    contests: list[Contest]

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for one in self.contests for verdict in judge(one.durability, one.rounds())]

    def as_json(self) -> dict[str, Any]:
        """Everything, latencies in unrounded milliseconds."""
        return Judged.as_json(self) | {"contests": [contest.as_json() for contest in self.contests]}


def measure(
    folder: Path, producers: int, workers: int, rounds: int, seconds: float, durabilities: Sequence[Durability]
) -> PairsReport:
    """`rounds` turns of `seconds` for each side and durability; CrewError when a process fails."""
    with Scenario().open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, " and ".join(durabilities))
    facts["stdlib_sqlite"] = sqlite3.sqlite_version
    contests = []
    for durability in durabilities:
        scenario = Scenario(producers, workers, seconds, durability)
        contests.append(_contest(folder, scenario, rounds))
    return PairsReport(facts, producers, workers, seconds, contests)


def judge(durability: Durability, rounds: Sequence[Mapping[str, PairFigures]]) -> list[Verdict]:
    """Nothing measured is nothing kept."""
    limit = OPERATIONS_TIMES[durability]
    times = Ratios.between(rounds, OURS, THEIRS, "operations")
    shorter = Ratios.between(rounds, THEIRS, OURS, "longest")
    astray = sum(figures.astray for sides in rounds for figures in sides.values())
    return [
        Verdict(f"{durability}: operations/s >= {limit:g} times", f"{times} times", times.middle >= limit),
        Verdict(
            f"{durability}: longest call {SHORTER_TIMES:g} times shorter",
            f"{shorter} times",
            shorter.middle >= SHORTER_TIMES,
        ),
        Verdict(f"{durability}: nothing lost, nothing twice, on either side", f"{astray:,} tasks", astray == 0),
    ]


def render(report: PairsReport) -> str:
    """The report as text."""
    note = (
        f"{report.producers} producers, {report.workers} workers in a closed loop: medians of"
        f" {len(report.contests[0].ours)} interleaved rounds, {report.seconds:g} s a side;\n"
        f"{THEIRS}: SQLite {report.machine['stdlib_sqlite']}, WAL, BEGIN IMMEDIATE, busy_timeout"
        f" {plain_queue.BUSY_TIMEOUT_MS} ms; one file each;\n"
        "longest call: the median of the rounds' longest; a worker that finds nothing sleeps in claim(wait=...),"
        " or asks each millisecond:\n"
        f"such a wait is not in the latencies; ratio: {OURS} : {THEIRS}, of rates and longest calls the median of the"
        " rounds', their least and largest"
    )
    tables = [text for contest in report.contests for text in (_table(contest), _latency_table(contest))]
    return "\n\n".join((describe(report.machine), note, *tables, verdict_table(report.verdicts)))


LINE = "producers and workers, against a queue on the standard library's sqlite3"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Producers and workers in a closed loop, every operation by itself: the public API, against a queue written by"
        " hand on the standard library's sqlite3, in interleaved rounds on fresh files. Every task is accounted for."
    )
    parser.epilog = (
        "example:\n  python -m bench pairs --producers 2 --workers 2 --rounds 3 --json pairs.json\n\n" + EXIT_STATUS
    )
    parser.add_argument("--producers", type=whole, default=4, metavar="P", help="producer processes (default 4)")
    parser.add_argument("--workers", type=whole, default=4, metavar="W", help="worker processes (default 4)")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=positive, default=4.0, metavar="N", help="of a side's turn (default 4)")
    add_durabilities(parser)


def run(options: Namespace, folder: Path) -> Findings:
    durabilities = DURABILITIES[options.durability]
    report = measure(folder, options.producers, options.workers, options.rounds, options.seconds, durabilities)
    return Findings(render(report), report.as_json(), report.passed)


def _contest(folder: Path, scenario: Scenario, rounds: int) -> Contest:
    sides = {OURS: _ours, THEIRS: _theirs}
    turns: dict[str, list[PairTurn]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            label = f"{scenario.durability}, round {number + 1} of {rounds}, {side}"
            with scratch_folder(folder) as place:
                turns[side].append(sides[side](label, scenario, place))
    return Contest(scenario.durability, turns[OURS], turns[THEIRS])


def _ours(label: str, scenario: Scenario, place: Path) -> PairTurn:
    trace = Trace.of(label, scenario, place / "turn", produce, work)
    return PairTurn.of(trace, read_rows(place / "turn" / "queue.db"), scenario.lease_seconds)


def _theirs(label: str, scenario: Scenario, place: Path) -> PairTurn:
    """On a file that only sqlite3 opens, beside the queue file that no process uses."""
    database = place / "plain.db"
    plain_queue.create(database)
    parts = partial(produce_plainly, database), partial(work_plainly, database)
    trace = Trace.of(label, scenario, place / "turn", *parts)
    return PairTurn.of(trace, plain_queue.rows(database), scenario.lease_seconds)


def _table(contest: Contest) -> str:
    figures = contest.figures()
    rows = [[side, *(format(getattr(one, field), form) for _, field, form in COLUMNS)] for side, one in figures.items()]
    ratios = [Ratios.between(contest.rounds(), OURS, THEIRS, field).cell for _, field, _ in COLUMNS]
    return table((contest.durability, *(name for name, *_ in COLUMNS)), [*rows, ["ratio", *ratios]])


def _latency_table(contest: Contest) -> str:
    rows = []
    for name in KINDS:
        sides = {side: [one.latency[name][field] for field in PERCENTILES] for side, one in contest.figures().items()}
        rows += [[name, side, *(f"{value:,.3f}" for value in values)] for side, values in sides.items()]
        pairs = zip(sides[OURS], sides[THEIRS], strict=True)
        rows.append([name, "ratio", *(f"{ours / theirs:.3f}" if theirs else "-" for ours, theirs in pairs)])
    return table((f"{contest.durability}, operation", *LATENCY_HEADER), rows, left=2)
