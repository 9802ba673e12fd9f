"""How throughput and the longest calls change with the number of processes that write: 1 to 16 of them, three ways.

Committing together, the gate alone, and SQLite's own waiting; interleaved rounds on fresh files, as `bench.group` has
them.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.findings import Findings
from bench.group import GATE, PLAIN, SIDES, Contest, contest_of
from bench.group_actors import TOGETHER
from bench.machine import describe, machine_facts
from bench.options import DURABILITIES, EXIT_STATUS, add_durabilities, positive, whole
from bench.scenario import Durability, Scenario
from bench.table import table
from bench.targets import Verdict
from bench.turn import ratio
from bench.verdicts import Judged, verdict_table
from bench.waiting import ALSO

PROCESSES = (1, 2, 4, 8, 16)
KEPT_SHARE = 0.7
"""Of a lone process's calls/s, with the most processes."""
HEADER = ("processes", "durability", "side", "calls/s", "p50 ms", "p99 ms", "max ms", "most : least")


@dataclass(frozen=True, slots=True)
class ScaleReport(Judged):
    """A contest for each durability and number of processes, in that order."""

    contests: list[Contest]

    @property
    def verdicts(self) -> list[Verdict]:
        verdicts = []
        for durability in dict.fromkeys(contest.durability for contest in self.contests):
            fewest, *_, most = [contest for contest in self.contests if contest.durability == durability] * 2
            found = ratio(most.figures()[TOGETHER].enqueued, fewest.figures()[TOGETHER].enqueued)
            promise = f"{durability}: {most.processes} processes keep >= {KEPT_SHARE:g} of one's calls/s"
            verdicts.append(Verdict(promise, f"{found:.2f}", found >= KEPT_SHARE))
        astray = sum(contest.astray for contest in self.contests)
        return [*verdicts, Verdict("every task in the file, once", f"{astray:,} not", astray == 0)]

    def as_json(self) -> dict[str, Any]:
        """Everything, latencies in unrounded milliseconds."""
        return Judged.as_json(self) | {"contests": [contest.as_json() for contest in self.contests]}


def measure(
    folder: Path, processes: Sequence[int], rounds: int, seconds: float, durabilities: Sequence[Durability]
) -> ScaleReport:
    """Turns of `seconds` for each side, number of processes and durability; CrewError when a process fails."""
    with Scenario().open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, " and ".join(durabilities))
    contests = [
        contest_of(folder, list(SIDES), durability, number, rounds, seconds)
        for durability in durabilities
        for number in sorted(set(processes))
    ]
    return ScaleReport(facts, contests)


def render(report: ScaleReport) -> str:
    """The report as text."""
    first = report.contests[0]
    note = (
        f"processes that enqueue in a closed loop: medians of {len(first.turns[TOGETHER])} interleaved rounds,"
        f" {first.seconds:g} s a side;\n"
        "max: the median of the rounds' longest calls; most : least: calls of the most served process : those of the"
        f" least served;\n{ALSO}"
    )
    rows = []
    for contest in report.contests:
        for side in (TOGETHER, GATE, PLAIN):
            found = contest.figures()[side]
            figures = (found.p50, found.p99, found.longest)
            rows.append(
                [
                    f"{contest.processes}",
                    contest.durability,
                    side,
                    f"{found.enqueued:,.0f}",
                    *(f"{figure:,.3f}" for figure in figures),
                    f"{found.producer_split:.2f}",
                ]
            )
        rows.append([])
    return "\n\n".join(
        (describe(report.machine), note, table(HEADER, rows[:-1], left=3), verdict_table(report.verdicts))
    )


LINE = "throughput and tails with 1 to 16 processes"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "More and more processes that enqueue into one file without a pause: committing together, against the queue's"
        " gate alone and SQLite's own waiting, in interleaved rounds on fresh files."
    )
    parser.epilog = (
        "example:\n  python -m bench scale --processes 1 4 --rounds 1 --seconds 1 --json scale.json\n\n" + EXIT_STATUS
    )
    parser.add_argument(
        "--processes", type=whole, nargs="+", default=list(PROCESSES), metavar="P", help="(default 1 2 4 8 16)"
    )
    parser.add_argument("--rounds", type=whole, default=3, metavar="N", help="(default 3)")
    parser.add_argument("--seconds", type=positive, default=2.0, metavar="N", help="of a side's turn (default 2)")
    add_durabilities(parser)


def run(options: Namespace, folder: Path) -> Findings:
    durabilities = DURABILITIES[options.durability]
    report = measure(folder, options.processes, options.rounds, options.seconds, durabilities)
    return Findings(render(report), report.as_json(), report.passed)
