"""A long load during which a reader keeps its snapshot for a while: how far the WAL grows, and what that costs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.actors import produce, work
from bench.balance import Balance
from bench.crew import CrewError
from bench.findings import Findings
from bench.journal import Outcome, Records, read_journals
from bench.latency import Latency, latencies
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, UsageError, add_driver, positive, whole
from bench.progress import live_line
from bench.samples import Sample, Stretch, stretches
from bench.scenario import Driver, Scenario
from bench.schedule import Schedule, wait_until
from bench.snapshot import hold
from bench.table import table
from bench.targets import Verdict
from bench.troupe import Part, Troupe
from bench.verdicts import Judged, verdict_table
from prismq import Settings

WAL_LIMIT_BYTES = Settings().wal_limit_bytes
SLACK_BYTES = 65_536
"""One largest transaction of this load."""
SNAPSHOT_AFTER = 1 / 3
"""Of the run: when the snapshot is taken."""
SAMPLES_PER_SECOND = 10.0
LINES = 30
STUCK_SECONDS = 20.0
"""After the run: a process still in its last call then is stuck."""
PHASES = ("before", "held", "after")
"""By how far the reader is."""
CALLS = ("enqueue", "claim", "complete")
BUSY = "ended by SQLITE_BUSY"
PHASE_HEADER = ("snapshot", "call", "calls/s", "p50 ms", "p99 ms", "max ms", "largest WAL, MB")
TIME_HEADER = ("until s", "snapshot", "largest WAL, MB", "enqueued/s", "completed/s")


@dataclass(frozen=True, slots=True)
class Phase:
    """Before the snapshot, while it is held, or after it, and the calls that began then, the busy ones apart."""

    stretch: Stretch
    latency: dict[str, Latency]


@dataclass(frozen=True, slots=True)
class SoakReport(Judged):
    """Errors are calls that ended with SQLITE_BUSY and completions refused because the lease was lost.

    `stuck` processes were killed in a call that did not come back; their last tasks may count on one side only.
    """

    processes: int
    seconds: float
    snapshot_seconds: float
    wal_limit_bytes: int
    phases: list[Phase]
    busy: int
    refused: int
    stuck: int
    balance: Balance
    database_bytes: int
    samples: list[Sample]

    @property
    def wal_bytes(self) -> int:
        """The largest WAL of all."""
        return max(phase.stretch.wal_bytes for phase in self.phases)

    @property
    def verdicts(self) -> list[Verdict]:
        balance = self.balance
        errors = self.busy + self.refused
        return [
            Verdict(
                f"largest WAL <= {_megabytes(self.wal_limit_bytes)} MB and a transaction",
                f"{_megabytes(self.wal_bytes)} MB",
                self.wal_bytes <= self.wal_limit_bytes + SLACK_BYTES,
            ),
            Verdict("no errors", f"{errors:,}", errors == 0),
            Verdict("every call came back", f"{self.stuck:,} did not", self.stuck == 0),
            Verdict(
                "enqueued = completed + left",
                f"{balance.enqueued:,} = {balance.completed:,} + {balance.left:,}",
                balance.holds,
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, unrounded; the samples as columns."""
        columns = {name: [getattr(sample, name) for sample in self.samples] for name in Sample.__slots__}
        return Judged.as_json(self) | {"wal_bytes": self.wal_bytes, "samples": columns}


def measure(folder: Path, seconds: float, processes: int, snapshot_seconds: float, driver: Driver) -> SoakReport:
    """Half of the processes enqueue, half complete, and a third of the time on one more reads for so long."""
    scenario = Scenario(seconds=seconds, driver=driver)
    producers = processes // 2
    reader = partial(hold, SNAPSHOT_AFTER * seconds, snapshot_seconds)
    parts: list[Part] = [*[produce] * producers, *[work] * (processes - producers), reader]
    with scenario.open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, scenario.durability)
    with Troupe(parts, scenario, folder / "soak") as troupe:
        troupe.begin()
        start = troupe.board.start
        samples = _watch(troupe, producers, seconds)
        stuck = troupe.end(STUCK_SECONDS)
    records = read_journals(troupe.journals)
    return SoakReport(
        machine=facts,
        processes=processes,
        seconds=seconds,
        snapshot_seconds=snapshot_seconds,
        wal_limit_bytes=WAL_LIMIT_BYTES,
        phases=[_phase(stretch, records, start) for stretch in _phases(samples)],
        busy=_count(records, Outcome.BUSY),
        refused=_count(records, Outcome.REFUSED),
        stuck=stuck,
        balance=Balance.of(records, troupe.database),
        database_bytes=troupe.database.stat().st_size,
        samples=samples,
    )


def render(report: SoakReport) -> str:
    """The report as text."""
    note = (
        f"{report.processes // 2} producers, {report.processes - report.processes // 2} workers in a closed loop for"
        f" {report.seconds:g} s; a reader holds a snapshot for {report.snapshot_seconds:g} s of it"
    )
    balance = report.balance
    facts = [
        ["SQLITE_BUSY seen by callers", f"{report.busy:,}"],
        ["late completions refused", f"{report.refused:,}"],
        [f"processes stuck {STUCK_SECONDS:g} s after the end", f"{report.stuck:,}"],
        ["enqueued", f"{balance.enqueued:,}"],
        ["completed", f"{balance.completed:,}"],
        *([f"{status} in the file", f"{count:,}"] for status, count in balance.rows.items()),
        ["acknowledged twice", f"{balance.repeated:,}"],
        ["WAL at the end, MB", _megabytes(report.samples[-1].wal_bytes)],
        ["database, MB", _megabytes(report.database_bytes)],
    ]
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            table(TIME_HEADER, _time_rows(report)),
            table(PHASE_HEADER, [row for phase in report.phases for row in _phase_rows(phase)], left=2),
            table(("", "tasks and sizes"), facts),
            verdict_table(report.verdicts),
        )
    )


LINE = "how far the WAL grows under a reader that stays"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Producers and workers as fast as they can. After a third of the time a reader takes a snapshot and keeps it,"
        " so that no checkpoint can begin the WAL anew: how large that gets, and what the calls take meanwhile. The"
        " default takes a few GB of disk."
    )
    parser.epilog = (
        "example:\n  python -m bench soak --seconds 60 --snapshot-seconds 20 --json soak.json\n\n" + EXIT_STATUS
    )
    parser.add_argument("--seconds", type=positive, default=300.0, metavar="N", help="of the load (default 300)")
    parser.add_argument("--processes", type=whole, default=8, metavar="P", help="half of them workers (default 8)")
    parser.add_argument(
        "--snapshot-seconds", type=positive, default=60.0, metavar="N", help="the reader stays (default 60)"
    )
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    if options.processes < 2:
        raise UsageError("--processes: at least 2, a producer and a worker")
    if options.snapshot_seconds > options.seconds / 2:
        raise UsageError(
            "--snapshot-seconds: at most half of --seconds: a third comes before it, and some must come after"
        )
    report = measure(folder, options.seconds, options.processes, options.snapshot_seconds, options.driver)
    return Findings(render(report), report.as_json(), report.passed)


def _watch(troupe: Troupe, producers: int, seconds: float) -> list[Sample]:
    """Look at the run until its window closes. The WAL is looked at by name only, see phase."""
    start = troupe.board.start
    wal = troupe.database.with_name(troupe.database.name + "-wal")
    samples = []
    with live_line("soak", seconds) as update:
        for moment in Schedule(SAMPLES_PER_SECOND, seconds, 0, 1).arrivals(start):
            wait_until(moment)
            troupe.check()
            *counts, reader = troupe.board.counts()
            enqueued, completed = sum(counts[:producers]), sum(counts[producers:])
            sample = Sample(perf_counter() - start, PHASES[reader], wal.stat().st_size, enqueued, completed)
            samples.append(sample)
            text = f"snapshot: {sample.phase}, WAL {_megabytes(sample.wal_bytes)} MB"
            update(sample.seconds, f"{text}, {enqueued:,} enqueued, {completed:,} completed")
    return samples


def _phases(samples: Sequence[Sample]) -> list[Stretch]:
    found = stretches(samples, lambda sample: sample.phase)
    if [stretch.phase for stretch in found] != list(PHASES):
        raise CrewError("the snapshot was not held within the run: what was measured says nothing about it")
    return found


def _phase(stretch: Stretch, records: Records, start: float) -> Phase:
    begin, end = start + stretch.begin, start + stretch.end
    latency = latencies(records, begin, end)
    busy = records[records["outcome"] == Outcome.BUSY]
    busy = busy[(busy["started"] >= begin) & (busy["started"] < end)]
    latency[BUSY] = Latency.of(busy["ended"] - busy["started"], end - begin)
    return Phase(stretch, {call: latency[call] for call in (*CALLS, BUSY)})


def _count(records: Records, outcome: Outcome) -> int:
    return int(np.count_nonzero(records["outcome"] == outcome))


def _time_rows(report: SoakReport) -> list[list[str]]:
    length = report.seconds / LINES
    return [
        [
            f"{stretch.end:.1f}",
            stretch.phase,
            _megabytes(stretch.wal_bytes),
            f"{stretch.enqueued:,.0f}",
            f"{stretch.completed:,.0f}",
        ]
        for stretch in stretches(report.samples, lambda sample: int(sample.seconds / length))
    ]


def _phase_rows(phase: Phase) -> list[list[str]]:
    return [
        [
            phase.stretch.phase,
            call,
            f"{latency.rate:,.0f}",
            *(f"{figure:.3f}" for figure in (latency.p50, latency.p99, latency.max)),
            _megabytes(phase.stretch.wal_bytes),
        ]
        for call, latency in phase.latency.items()
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
