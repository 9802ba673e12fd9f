"""The longest calls of a queue that keeps up, told from what the operating system does to any process.

The producers time a control call beside each enqueue: a loop of about an enqueue's CPU time with no SQLite in it. A
call that waited for the CPU and not for the queue shows there too.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.control import CONTROL_SECONDS, control_turns
from bench.findings import Findings
from bench.harness import PACED_SHARE
from bench.journal import Operation, Outcome, Records, read_journals
from bench.latency import Latency, latencies
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, positive, whole
from bench.phase import run_phase
from bench.report import LATENCY_HEADER, latency_cells
from bench.scenario import Scenario
from bench.steady_actors import controls_of, produce, work
from bench.table import table
from bench.targets import Verdict
from bench.trace import Trace
from bench.verdicts import Judged, verdict_table

CAPACITY_SECONDS = 10.0
"""Length of the closed loop that measures the capacity, at most that of the run."""
P99_9_MS = {"enqueue": 5.0, "claim": 10.0}
MAX_MS = {"enqueue": 25.0, "claim": 25.0, "complete": 25.0}
CONTROL_SHARE = 0.5
"""Of a figure that misses its target: from here on the control call shows that the queue isn't what it waited for."""
NOTES = f"""\
enqueue, claim, complete: the call alone, with every try.
control: a loop of {CONTROL_SECONDS * 1e6:.0f} us of CPU time before each enqueue, in the same process.
A missed target counts as met when the control's own figure is at least {CONTROL_SHARE:.0%} of the one that missed it.
arrival to enqueued: from the intended arrival, so that a stall isn't hidden; with the control call in it."""


@dataclass(frozen=True, slots=True)
class SteadyReport(Judged):
    """`capacity` is tasks per second, None where it was not measured."""

    scenario: Scenario
    capacity: float | None
    latency: dict[str, Latency]
    busy: int
    missed_arrivals: int
    wal_bytes: int

    @property
    def verdicts(self) -> list[Verdict]:
        return judge(self.latency, self.missed_arrivals)


def measure(folder: Path, producers: int, workers: int, seconds: float, rate: float | None) -> SteadyReport:
    """Paced at `rate` or, without one, at half the capacity measured before; CrewError when a process fails."""
    scenario = Scenario(producers, workers, seconds)
    queue = scenario.open(folder / "facts.db")
    facts = machine_facts(folder, queue, scenario.durability)
    queue.close()
    capacity = None
    if rate is None:
        closed = replace(scenario, seconds=min(seconds, CAPACITY_SECONDS))
        capacity = run_phase("closed loop", closed, folder / "closed").capacity
        rate = PACED_SHARE * capacity
    scenario = replace(scenario, rate=rate)
    part = partial(produce, rate, producers, control_turns())
    trace = Trace.of(f"paced {rate:,.0f}/s", scenario, folder / "paced", part, work)
    records = read_journals(trace.journals)
    controls = read_journals([controls_of(journal) for journal in trace.producers])
    busy, missed = (int(np.count_nonzero(records["outcome"] == kind)) for kind in (Outcome.BUSY, Outcome.MISSED))
    return SteadyReport(facts, scenario, capacity, compare(records, controls, trace), busy, missed, trace.wal_bytes)


def compare(records: Records, controls: Records, trace: Trace) -> dict[str, Latency]:
    """Latencies of the calls, of the control calls, and of tasks from their arrival on."""
    enqueues = (records["operation"] == Operation.ENQUEUE) & (records["outcome"] == Outcome.DONE)
    made = records[enqueues & (records["intended"] >= trace.start)]
    arrivals = controls.copy()
    arrivals["task_id"], arrivals["ended"] = made["task_id"], made["ended"]
    tasks = latencies(np.concatenate([arrivals, records[~enqueues]]), trace.start, trace.stop)
    return {
        # A call that began late, after the window, counts too: its task was due inside.
        "enqueue": Latency.of(made["ended"] - made["intended"], trace.stop - trace.start),
        "claim": tasks["claim"],
        "complete": tasks["complete"],
        "control": latencies(controls, trace.start, trace.stop)["enqueue call"],
        "producer woken late": tasks["producer woken late"],
        "arrival to enqueued": tasks["enqueue"],
        "arrival to claim": tasks["arrival to claim"],
    }


def judge(latency: Mapping[str, Latency], missed_arrivals: int) -> list[Verdict]:
    """A figure over its target counts against the queue unless the control call shows most of it too."""
    control = latency["control"]
    verdicts = [
        _verdict(f"{operation} p99.9 < {limit:g} ms", latency[operation].p99_9, limit, control.p99_9)
        for operation, limit in P99_9_MS.items()
    ]
    verdicts += [
        _verdict(f"{operation} max < {limit:g} ms", latency[operation].max, limit, control.max)
        for operation, limit in MAX_MS.items()
    ]
    return [*verdicts, Verdict("every arrival issued", f"{missed_arrivals:,} missed", missed_arrivals == 0)]


def render(report: SteadyReport) -> str:
    """The report as text."""
    scenario = report.scenario
    share = f", half of {report.capacity:,.0f}/s" if report.capacity is not None else ""
    load = (
        f"{scenario.producers} producers, {scenario.workers} workers, {scenario.seconds:g} s"
        f" at {scenario.rate:,.0f} tasks/s{share}; payload {scenario.payload_bytes} bytes"
    )
    facts = f"largest WAL {report.wal_bytes / 1e6:.1f} MB; SQLITE_BUSY seen by callers: {report.busy:,}"
    rows = [[operation, *latency_cells(latency)] for operation, latency in report.latency.items()]
    latencies_table = table(LATENCY_HEADER[1:], rows)
    verdicts = verdict_table(report.verdicts)
    return "\n\n".join((describe(report.machine), load, latencies_table, facts, NOTES, verdicts))


LINE = "the longest calls of a queue that keeps up"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "A paced load, by default at half of the capacity measured first: the longest calls, beside those of a control"
        " call in the same processes that shows what the operating system alone does to them."
    )
    parser.epilog = "example:\n  python -m bench steady --seconds 20 --rate 1000 --json steady.json\n\n" + EXIT_STATUS
    parser.add_argument("--producers", type=whole, default=4, metavar="P", help="producer processes (default 4)")
    parser.add_argument("--workers", type=whole, default=4, metavar="W", help="worker processes (default 4)")
    parser.add_argument("--seconds", type=positive, default=60.0, metavar="N", help="when paced (default 60)")
    parser.add_argument(
        "--rate", type=positive, metavar="TASKS", help="tasks/s (default half the capacity, measured first)"
    )


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.producers, options.workers, options.seconds, options.rate)
    return Findings(render(report), report.as_json(), report.passed)


def _verdict(promise: str, measured: float, limit: float, control: float) -> Verdict:
    """All in milliseconds; nothing measured is nothing kept."""
    if measured < limit:
        return Verdict(promise, f"{measured:.3f} ms", measured > 0)
    share = control / measured
    excused = share >= CONTROL_SHARE
    reason = "at least half of it is scheduling" if excused else "less than half of it is scheduling"
    return Verdict(promise, f"{measured:.3f} ms; control {control:.3f} ms, {share:.0%}: {reason}", excused)
