"""The native driver against the Python driver: single operations of one process, in interleaved rounds.

What is judged is the best round of each operation: others on the machine make a round worse, never better, and both
drivers of a round see about the same of them. So the bound holds on any machine, however busy.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.bare import Timings, api_timings
from bench.bare_sqlite import PAYLOAD
from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, UsageError, whole
from bench.progress import live_line
from bench.scenario import Driver, Scenario
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import Judged, verdict_table
from prismq import native

LINE = "the native driver against the Python driver"
DRIVERS: tuple[Driver, Driver] = ("native", "python")
SHARE = 0.9
"""Of the Python driver's p50; a C module that doesn't keep that is not worth its trouble."""
HEADER = ("operation", "native, p50 us", "Python, p50 us", "median ratio", "best")


@dataclass(frozen=True, slots=True)
class DriversReport(Judged):
    """`microseconds` has a p50 a round, by driver and operation."""

    operations: int
    microseconds: Mapping[str, Sequence[Timings]]

    @property
    def ratios(self) -> dict[str, list[float]]:
        """Native : Python of each round, by operation."""
        rounds = list(zip(*(self.microseconds[driver] for driver in DRIVERS), strict=True))
        return {name: [ours[name] / theirs[name] for ours, theirs in rounds] for name in rounds[0][0]}

    @property
    def verdicts(self) -> list[Verdict]:
        return [
            Verdict(f"{name}: best round <= {SHARE:g} of the Python driver's", f"{min(found):.2f}", min(found) <= SHARE)
            for name, found in self.ratios.items()
        ]


def measure(folder: Path, rounds: int, operations: int) -> DriversReport:
    """Both drivers in turn, on fresh files, the first one second in every other round."""
    with Scenario().open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, "normal")
    taken: dict[str, list[Timings]] = {driver: [] for driver in DRIVERS}
    with live_line("drivers", rounds) as update:
        for number in range(rounds):
            update(number, f"round {number + 1} of {rounds}")
            for driver in DRIVERS[:: -1 if number % 2 else 1]:
                taken[driver].append(api_timings(folder / f"{driver}-{number}.db", PAYLOAD, operations, driver))
    return DriversReport(facts, operations, taken)


def render(report: DriversReport) -> str:
    """The report as text."""
    middles = {
        driver: {name: median(each[name] for each in rounds) for name in rounds[0]}
        for driver, rounds in report.microseconds.items()
    }
    rows = [
        [name, *(f"{middles[driver][name]:.1f}" for driver in DRIVERS), f"{median(found):.2f}", f"{min(found):.2f}"]
        for name, found in report.ratios.items()
    ]
    rounds = len(report.microseconds[DRIVERS[0]])
    note = f"{rounds} interleaved rounds of {report.operations:,} operations each, a transaction an operation"
    return "\n\n".join((describe(report.machine), note, table(HEADER, rows), verdict_table(report.verdicts)))


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Single operations of one process through the native driver and through the Python driver, in interleaved"
        " rounds on fresh files. Judged by the best round, so that a busy machine is no reason to fail."
    )
    parser.epilog = "example:\n  python -m bench drivers --rounds 5 --json drivers.json\n\n" + EXIT_STATUS
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--operations", type=whole, default=2_000, metavar="N", help="a round (default 2000)")


def run(options: Namespace, folder: Path) -> Findings:
    if native.load() is None:
        raise UsageError("drivers: the compiled module is not installed, there is nothing to compare")
    report = measure(folder, options.rounds, options.operations)
    return Findings(render(report), report.as_json(), report.passed)
