"""What an idle worker costs: waiting to be woken by the queue, against asking SQLite each millisecond."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter

import psutil

from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_driver, positive, whole
from bench.progress import live_line
from bench.scenario import Driver, Scenario
from bench.table import table
from bench.targets import Verdict
from bench.troupe import Troupe
from bench.usage import Moment, Usage
from bench.verdicts import Judged, verdict_table
from bench.waiters import attend, poll, wait

SETTLE_SECONDS = 2.0
LOOK_SECONDS = 0.2
CPU_PERCENT = 0.1
HEADER = ("worker", "CPU, % of a core", "context switches/s")


@dataclass(frozen=True, slots=True)
class IdleReport(Judged):
    seconds: float
    waiting: list[Usage]
    polling: Usage

    @property
    def cpu_percent(self) -> float:
        """Of a worker that waits, the mean."""
        return fmean(usage.cpu_percent for usage in self.waiting)

    @property
    def verdicts(self) -> list[Verdict]:
        percent = self.cpu_percent
        promise = f"CPU of an idle worker < {CPU_PERCENT:g} % of a core, mean"
        return [Verdict(promise, f"{percent:.3f} %", percent < CPU_PERCENT)]


def measure(folder: Path, seconds: float, workers: int, driver: Driver) -> IdleReport:
    """Let `workers` workers wait and one more, on a file of its own, poll for so many seconds."""
    scenario = Scenario(seconds=SETTLE_SECONDS + seconds + 60, driver=driver)  # a limit: they are dismissed before
    with (
        Troupe([partial(attend, wait)] * workers, scenario, folder / "waiting") as waiting,
        Troupe([partial(attend, poll)], scenario, folder / "polling") as polling,
    ):
        waiting.begin()
        polling.begin()
        processes = [psutil.Process(pid) for pid in (*waiting.pids, *polling.pids)]
        _pause(SETTLE_SECONDS, "settling", waiting, polling)
        begin = [Moment.of(process) for process in processes]
        _pause(seconds, f"{workers} idle workers", waiting, polling)
        end = [Moment.of(process) for process in processes]
        waiting.dismiss()
        polling.dismiss()
    with scenario.open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, scenario.durability)
    *used, polled = map(Usage.between, begin, end)
    return IdleReport(facts, seconds, used, polled)


def render(report: IdleReport) -> str:
    """The report as text."""
    note = (
        f"{len(report.waiting)} worker processes in claim(wait=...) and one that asks for data_version every 1 ms,"
        f" {report.seconds:g} s with nothing to do;\n"
        "CPU: user + system of the whole process; context switches: voluntary ones, on Linux of the main thread"
    )
    rows = [_row(f"claim(wait=...), {number}", usage) for number, usage in enumerate(report.waiting, 1)]
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            table(HEADER, [*rows, _row("data_version every 1 ms", report.polling)]),
            verdict_table(report.verdicts),
        )
    )


LINE = "what an idle worker costs"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "CPU time and context switches of worker processes that wait for tasks and get none, beside those of one that"
        " polls SQLite each millisecond."
    )
    parser.epilog = "example:\n  python -m bench idle --seconds 60 --workers 8 --json idle.json\n\n" + EXIT_STATUS
    parser.add_argument("--seconds", type=positive, default=20.0, metavar="N", help="measured (default 20)")
    parser.add_argument("--workers", type=whole, default=4, metavar="W", help="that wait (default 4)")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.seconds, options.workers, options.driver)
    return Findings(render(report), report.as_json(), report.passed)


def _row(worker: str, usage: Usage) -> list[str]:
    return [worker, f"{usage.cpu_percent:.3f}", f"{usage.switches_per_second:,.1f}"]


def _pause(seconds: float, label: str, *troupes: Troupe) -> None:
    """Stay with the processes for so long."""
    begin = perf_counter()
    with live_line(label, seconds) as update:
        while (elapsed := perf_counter() - begin) < seconds:
            for troupe in troupes:
                troupe.check()
            update(elapsed, f"{elapsed:.0f} of {seconds:.0f} s")
            time.sleep(min(LOOK_SECONDS, seconds - elapsed))
