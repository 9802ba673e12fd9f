"""What committing together is worth: the same load with it, with the gate alone, and with SQLite's own waiting.

Every round gives each side a fresh file, in turned order each second round, so that a slow minute of the machine hits
all of them.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import lone
from bench.accounting import account
from bench.contend import ENQUEUING_COLUMNS
from bench.findings import Findings
from bench.group_actors import TOGETHER, press
from bench.journal import read_journals
from bench.lone import Lone, lone_table
from bench.machine import describe, machine_facts
from bench.options import DURABILITIES, EXIT_STATUS, add_durabilities, positive, whole
from bench.phase import read_rows
from bench.scenario import Durability, Scenario
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict
from bench.trace import Trace
from bench.turn import Figures, Ratios, Turn, middle
from bench.verdicts import Judged, verdict_table
from bench.waiting import ALSO, PlainWaiting

GATE, PLAIN = "gate", "SQLite's own waiting"
SIDES: Mapping[str, tuple[type[Scenario], bool]] = {
    TOGETHER: (Scenario, True),
    GATE: (Scenario, False),
    PLAIN: (PlainWaiting, False),
}
"""The load of each, and whether callers commit together."""
TIMES: Mapping[Durability, Mapping[str, float]] = {"normal": {GATE: 1.5, PLAIN: 1.2}, "full": {GATE: 3.5}}
"""At least so many times the throughput of these."""
P99_MS: Mapping[Durability, float] = {"full": 10.0}
FEW = (1, 2, 4, 8)
"""Processes of the shorter turns."""
SHORT_SECONDS = 1.0
SHORT_ROUNDS = 3
FEW_HEADER = ("processes", "durability", "group commit, calls/s", "gate, calls/s", "ratio", "p99 ms", "p99 ms, gate")


@dataclass(frozen=True, slots=True)
class Contest:
    """Processes that enqueue, one turn a round for each side; `astray` tasks are lost, there twice, or nobody's."""

    durability: Durability
    processes: int
    seconds: float
    turns: dict[str, list[Turn]]
    astray: int

    def figures(self) -> dict[str, Figures]:
        return {side: Figures.of(turns) for side, turns in self.turns.items()}

    def rounds(self) -> list[dict[str, Figures]]:
        together = zip(*self.turns.values(), strict=True)
        return [dict(zip(self.turns, (Figures.of([turn]) for turn in turns), strict=True)) for turns in together]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"figures": {side: asdict(figures) for side, figures in self.figures().items()}}


@dataclass(frozen=True, slots=True)
class GroupReport(Judged):
    """`contests` and `lone` have an entry for each durability, `few` one for each number of processes of each."""

    contests: list[Contest]
    few: list[Contest]
    lone: list[Lone]

    @property
    def verdicts(self) -> list[Verdict]:
        verdicts = []
        for contest, caller in zip(self.contests, self.lone, strict=True):
            verdicts += judge(contest.durability, contest.rounds())
            verdicts += lone.judge(caller.durability, caller.ratios())
        astray = sum(contest.astray for contest in (*self.contests, *self.few))
        return [*verdicts, Verdict("every task in the file, once", f"{astray:,} not", astray == 0)]

    def as_json(self) -> dict[str, Any]:
        """Everything, latencies in unrounded milliseconds."""
        parts: dict[str, Sequence[Contest | Lone]] = {"contests": self.contests, "few": self.few, "lone": self.lone}
        return Judged.as_json(self) | {name: [one.as_json() for one in each] for name, each in parts.items()}


def measure(
    folder: Path, processes: int, rounds: int, seconds: float, durabilities: Sequence[Durability]
) -> GroupReport:
    """All parts for each durability: turns of `seconds`, shorter ones with few processes; CrewError when one fails."""
    with Scenario().open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, " and ".join(durabilities))
    contests, few, callers = [], [], []
    for durability in durabilities:
        contests.append(contest_of(folder, list(SIDES), durability, processes, rounds, seconds))
        callers.append(Lone.of(durability, rounds * seconds, folder))
        few += [
            contest_of(
                folder, [TOGETHER, GATE], durability, number, min(rounds, SHORT_ROUNDS), min(seconds, SHORT_SECONDS)
            )
            for number in sorted({*(number for number in FEW if number < processes), processes})
        ]
    return GroupReport(facts, contests, few, callers)


def judge(durability: Durability, rounds: Sequence[Mapping[str, Figures]]) -> list[Verdict]:
    """Against the others' throughput; nothing measured is nothing kept."""
    verdicts = []
    for other, times in TIMES[durability].items():
        found = Ratios.between(rounds, TOGETHER, other, "enqueued")
        promise = f"{durability}: throughput >= {times:g} times, {other}"
        verdicts.append(Verdict(promise, f"{found} times", found.middle >= times))
    if durability in P99_MS:
        limit, p99 = P99_MS[durability], middle(rounds, TOGETHER, "p99")
        verdicts.append(Verdict(f"{durability}: p99 < {limit:g} ms", f"{p99:.3f} ms", 0 < p99 < limit))
    return verdicts


def render(report: GroupReport) -> str:
    """The report as text."""
    first = report.contests[0]
    few = report.few[0]
    note = (
        f"{first.processes} processes that enqueue in a closed loop: medians of {len(first.turns[TOGETHER])}"
        f" interleaved rounds, {first.seconds:g} s a side;\n"
        "max: the median of the rounds' longest calls; most : least: calls of the most served process : those of the"
        " least served; ratios: the median of the rounds', their least and largest;\n"
        f"few processes: {len(few.turns[TOGETHER])} rounds, {few.seconds:g} s a side;"
        " lone caller: one process alone on two files, in turn;\n" + ALSO
    )
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            *map(_contest_table, report.contests),
            _few_table(report.few),
            lone_table(report.lone),
            verdict_table(report.verdicts),
        )
    )


LINE = "what committing together is worth"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Processes that enqueue into one file without a pause: committing together, against the queue's gate alone and"
        " SQLite's own waiting, in interleaved rounds on fresh files. Then a caller that has its file to itself, and"
        " how much there is to gain with fewer processes."
    )
    parser.epilog = (
        "example:\n  python -m bench group --durability full --rounds 3 --seconds 2 --json group.json\n\n" + EXIT_STATUS
    )
    parser.add_argument("--processes", type=whole, default=16, metavar="P", help="that enqueue (default 16)")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=positive, default=3.0, metavar="N", help="of a side's turn (default 3)")
    add_durabilities(parser)


def run(options: Namespace, folder: Path) -> Findings:
    durabilities = DURABILITIES[options.durability]
    report = measure(folder, options.processes, options.rounds, options.seconds, durabilities)
    return Findings(render(report), report.as_json(), report.passed)


def contest_of(
    folder: Path, sides: Sequence[str], durability: Durability, processes: int, rounds: int, seconds: float
) -> Contest:
    """Interleaved turns of `seconds` for each of these sides; CrewError when a process fails."""
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    astray = 0
    for number in range(rounds):
        for side in sides[:: -1 if number % 2 else 1]:
            load, together = SIDES[side]
            label = f"{durability}, {processes} processes, round {number + 1} of {rounds}, {side}"
            scenario = load(processes, 0, seconds, durability, group_commit=together)
            with scratch_folder(folder) as place:
                trace = Trace.of(label, scenario, place / "turn", press, press)
                turns[side].append(Turn.of(trace))
                astray += _astray(trace, place / "turn" / "queue.db", scenario)
    return Contest(durability, processes, seconds, turns, astray)


def _astray(trace: Trace, database: Path, scenario: Scenario) -> int:
    found = account(read_journals(trace.journals), read_rows(database), scenario.lease_seconds)
    return len(found.lost) + len(found.duplicated) + len(found.unasked)


def _contest_table(contest: Contest) -> str:
    figures = contest.figures()
    fields = [(field, form) for _, field, form in ENQUEUING_COLUMNS]
    rows = [[side, *(format(getattr(one, field), form) for field, form in fields)] for side, one in figures.items()]
    for other in (GATE, PLAIN):
        ratios = [Ratios.between(contest.rounds(), TOGETHER, other, field).cell for field, _ in fields]
        rows.append([f"{TOGETHER} : {other}", *ratios])
    return table(
        (f"{contest.durability}, {contest.processes} processes", *(name for name, *_ in ENQUEUING_COLUMNS)), rows
    )


def _few_table(few: Sequence[Contest]) -> str:
    rows = []
    for contest in few:
        together, gate = (contest.figures()[side] for side in (TOGETHER, GATE))
        rows.append(
            [
                f"{contest.processes}",
                contest.durability,
                f"{together.enqueued:,.0f}",
                f"{gate.enqueued:,.0f}",
                Ratios.between(contest.rounds(), TOGETHER, GATE, "enqueued").cell,
                f"{together.p99:.3f}",
                f"{gate.p99:.3f}",
            ]
        )
    return table(FEW_HEADER, rows, left=2)
