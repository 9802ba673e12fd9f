"""The highest arrival rate at which the targets are kept, found by bracketing.

The closed loop says where to look: its rate is the first to be tried. Upwards by GROWTH while the targets are kept,
downwards while they are not, and then between the highest that kept them and the lowest that did not. What is found so
may have been lucky: it counts when it keeps them again in CONFIRMATIONS fresh probes, all of them; else a rate CLOSE
below it is held to the same.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import add_driver, add_durability, positive
from bench.phase import Phase, run_phase
from bench.progress import note
from bench.scenario import DELAYED_EVERY, Scenario
from bench.scenarios import SCENARIOS
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict, judge
from bench.verdicts import Judged, verdict_table

GROWTH = 1.5
CLOSE = 1.1
"""Two rates as close as that are the answer."""
MOST_PROBES = 16
CONFIRMATIONS = 2
MOST_CONFIRMED = 8
"""Rates that are tried so, each below the last."""
LOWEST_RATE = 1.0
HEADER = ("rate, tasks/s", "enqueue p99 ms", "claim p99 ms", "busy", "never issued", "backlog", "")


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate, tried. `backlog`: tasks that waited at the end of the window, or were with a worker.

    `confirms` is whether it was tried to see if the rate found holds.
    """

    rate: float
    enqueue_p99: float
    claim_p99: float
    busy_share: float
    missed: int
    backlog: int
    passed: bool
    confirms: bool = False

    @classmethod
    def of(cls, phase: Phase, waiting: int, behind_seconds: float) -> Probe:
        """`waiting` is how many tasks there were when the window opened: what they fall by is part of keeping up."""
        assert phase.rate is not None
        # What was there, and what the producers had enqueued by then, less what the workers had completed.
        enqueued = phase.latency["enqueue"].count - phase.missed_arrivals
        backlog = waiting + enqueued - phase.latency["complete"].count
        kept = all(verdict.passed for verdict in judge([phase]))
        falls = waiting / CLEARED_SECONDS * phase.seconds
        allowed = max(0.0, waiting - falls) + phase.rate * behind_seconds
        return cls(
            phase.rate,
            phase.latency["enqueue"].p99,
            phase.latency["claim"].p99,
            phase.busy_share,
            phase.missed_arrivals,
            backlog,
            kept and phase.missed_arrivals == 0 and backlog <= allowed,
        )


BEHIND_SECONDS = 0.25
"""Workers that are further behind at the end don't keep up."""
CLEARED_SECONDS = 60.0
"""So soon a backlog that is there at the beginning has to be gone, at the pace of the window."""


@dataclass(frozen=True, slots=True)
class CapacityReport(Judged):
    scenario: Scenario
    closed: float
    probes: list[Probe]

    @property
    def rate(self) -> float:
        """The one that kept the targets in all of the last probes; 0 when none did."""
        last = self.probes[-CONFIRMATIONS:]
        return last[-1].rate if last and all(probe.passed and probe.confirms for probe in last) else 0.0

    @property
    def verdicts(self) -> list[Verdict]:
        """Some rate keeps the targets."""
        return [Verdict("a rate that keeps the targets", f"{self.rate:,.0f} tasks/s", self.rate > 0)]


def measure(scenario: Scenario, folder: Path) -> CapacityReport:
    """Probes of `scenario.seconds` each; CrewError when a process fails."""
    with scenario.open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, scenario.durability)
    with scratch_folder(folder) as place:
        closed = run_phase("closed loop", replace(scenario, rate=None), place / "closed").capacity

    def probe(rate: float) -> Probe:
        with scratch_folder(folder) as place:
            phase = run_phase(f"paced {rate:,.0f}/s", replace(scenario, rate=rate), place / "paced")
        found = Probe.of(phase, scenario.backlog, BEHIND_SECONDS + scenario.delay_seconds / DELAYED_EVERY)
        note(f"{rate:,.0f}/s: {'kept' if found.passed else 'not kept'}")
        return found

    return CapacityReport(facts, scenario, closed, search(probe, max(LOWEST_RATE, closed)))


def search(probe: Callable[[float], Probe], first: float) -> list[Probe]:
    """Every probe made, in order; the last CONFIRMATIONS confirm the rate found, if there is one.

    On the way a rate that failed is tried once more, as a moment of the machine's is no answer: that alone would find
    rates that are kept every other time.
    """
    probes: list[Probe] = []

    def passes(rate: float) -> bool:
        for _ in range(2):
            probes.append(probe(rate))
            if probes[-1].passed:
                return True
        return False

    low, high = 0.0, float("inf")
    rate = first
    while len(probes) < MOST_PROBES and high > low * CLOSE and rate >= LOWEST_RATE:
        if passes(rate):
            low = rate
        else:
            high = rate
        if high == float("inf"):
            rate = low * GROWTH
        elif low == 0:
            rate = high / GROWTH
        else:
            rate = (low * high) ** 0.5
    for _ in range(MOST_CONFIRMED if low else 0):
        if all(_again(probe, low, probes) for _ in range(CONFIRMATIONS)):
            break
        low /= CLOSE
    return probes


def _again(probe: Callable[[float], Probe], rate: float, probes: list[Probe]) -> bool:
    probes.append(replace(probe(rate), confirms=True))
    return probes[-1].passed


def render(report: CapacityReport) -> str:
    """The report as text."""
    scenario = report.scenario
    note_ = (
        f"{scenario.producers} producers, {scenario.workers} workers, {scenario.seconds:g} s a probe;"
        f" the closed loop got {report.closed:,.0f} tasks/s through;\n"
        "a rate is kept when enqueue and claim p99 and SQLITE_BUSY are within the targets and "
        f"the workers are at most {BEHIND_SECONDS:g} s behind at the end;\n"
        f"the answer is a rate that was kept in {CONFIRMATIONS} fresh probes on end"
        + (
            f"; the {scenario.backlog:,} tasks that wait at first must fall so fast that they are gone within"
            f" {CLEARED_SECONDS:g} s"
            if scenario.backlog
            else ""
        )
    )
    rows = [
        [
            f"{probe.rate:,.0f}",
            f"{probe.enqueue_p99:.3f}",
            f"{probe.claim_p99:.3f}",
            f"{probe.busy_share:.3%}",
            f"{probe.missed:,}",
            f"{probe.backlog:,}",
            ("kept" if probe.passed else "not kept") + (", to confirm" if probe.confirms else ""),
        ]
        for probe in report.probes
    ]
    return "\n\n".join((describe(report.machine), note_, table(HEADER, rows), verdict_table(report.verdicts)))


LINE = "the highest arrival rate that keeps the targets"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "The highest arrival rate at which enqueue p99, claim p99 and SQLITE_BUSY stay within the targets and the"
        " workers keep up, found by bracketing."
    )
    parser.epilog = (
        "example:\n  python -m bench capacity --scenario mixed-payloads --durability full --json capacity.json\n\n"
        "exit status: 0 there is such a rate, 1 there is none or a process failed, 2 wrong usage, 130 interrupted"
    )
    parser.add_argument(
        "--scenario", choices=tuple(SCENARIOS), default="steady", metavar="NAME", help="(default steady)"
    )
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="N", help="of a probe (default 5)")
    add_durability(parser)
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    load = SCENARIOS[options.scenario].load
    load = replace(load, seconds=options.seconds, durability=options.durability, driver=options.driver)
    report = measure(load, folder)
    return Findings(render(report), report.as_json(), report.passed)
