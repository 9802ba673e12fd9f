"""How soon the others go on when a process is killed in the worst moment, or the sidecar file is deleted."""

from __future__ import annotations

import multiprocessing
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, whole
from bench.progress import live_line
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import Judged, verdict_table
from prismq import QueueDatabase, TaskQueue

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_SECONDS = 10.0
SETTLED_SECONDS = 0.15
"""By then whoever waits is asleep."""
DUE_SECONDS = 0.06
LIMIT_MS = 50.0
NEVER_MS = PATIENCE_SECONDS * 1000

Victim: TypeAlias = Callable[[str, Pipe], None]


def hold(path: str, pipe: Pipe) -> None:
    """Victim: begin to write and never end it."""
    with QueueDatabase(path).transaction() as connection:
        connection.execute("UPDATE queue_state SET value = value")
        pipe.send("ready")
        time.sleep(PATIENCE_SECONDS)


def keep(path: str, pipe: Pipe) -> None:
    """Victim: be the first to have the queue open, and so the one that keeps house."""
    with TaskQueue(path) as queue:
        queue.claim("keeper")
        pipe.send("ready")
        time.sleep(PATIENCE_SECONDS)


def sleep(path: str, pipe: Pipe) -> None:
    """Victim: be the first in line for a task."""
    with TaskQueue(path) as queue:
        queue.claim("victim")
        pipe.send("ready")
        queue.claim("victim", wait=PATIENCE_SECONDS)


@contextmanager
def at_work(victim: Victim, path: Path) -> Any:
    """A process that plays the victim; killed at the end if not before."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=victim, args=(str(path), theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(PATIENCE_SECONDS):
            raise TimeoutError("a victim did not get ready")
        ours.recv()
        time.sleep(SETTLED_SECONDS)
        yield process
    finally:
        process.kill()
        process.join()


def after_the_holder(path: Path) -> float:
    """From the death of a process that holds the write lock to the return of an enqueue that waited for it, in s."""
    with TaskQueue(path) as queue, at_work(hold, path) as victim, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (queue.enqueue("t"), perf_counter()))
        time.sleep(SETTLED_SECONDS)
        killed = perf_counter()
        victim.kill()
        return waiting.result(PATIENCE_SECONDS)[1] - killed


def after_the_keeper(path: Path) -> float:
    """From when a task is due to its claim, the one that keeps house having died shortly before, in s."""
    with (
        at_work(keep, path) as victim,
        TaskQueue(path) as maker,
        TaskQueue(path) as queue,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(_claim, queue)
        time.sleep(SETTLED_SECONDS)
        maker.enqueue("t", run_after=timedelta(seconds=DUE_SECONDS))
        due = perf_counter() + DUE_SECONDS
        time.sleep(DUE_SECONDS / 2)
        victim.kill()
        return waiting.result(PATIENCE_SECONDS) - due


def after_a_worker(path: Path) -> float:
    """From an enqueue to its claim by the second in line, the first having been killed right before, in s."""
    with (
        TaskQueue(path) as maker,
        at_work(sleep, path) as victim,
        TaskQueue(path) as queue,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(_claim, queue)
        time.sleep(SETTLED_SECONDS)
        victim.kill()
        made = perf_counter()
        maker.enqueue("t")
        return waiting.result(PATIENCE_SECONDS) - made


def after_the_sidecar(path: Path) -> float:
    """From an enqueue to its claim by a worker that slept when the sidecar file was deleted, in s."""
    with TaskQueue(path) as maker, TaskQueue(path) as queue, ThreadPoolExecutor(1) as pool:
        maker.claim("maker")
        waiting = pool.submit(_claim, queue)
        time.sleep(SETTLED_SECONDS)
        path.with_name(path.name + "-prismq").unlink()
        made = perf_counter()
        maker.enqueue("t")
        return waiting.result(PATIENCE_SECONDS) - made


def _claim(queue: TaskQueue) -> float:
    task = queue.claim("heir", wait=PATIENCE_SECONDS / 2)
    return perf_counter() if task is not None else perf_counter() + PATIENCE_SECONDS


EVENTS: dict[str, Callable[[Path], float]] = {
    "holder of the write lock killed": after_the_holder,
    "process that keeps house killed": after_the_keeper,
    "first waiting worker killed": after_a_worker,
    "sidecar file deleted": after_the_sidecar,
}


@dataclass(frozen=True, slots=True)
class TakeoverReport(Judged):
    """`milliseconds` until the others went on, of each event, round by round."""

    milliseconds: dict[str, list[float]]

    @property
    def verdicts(self) -> list[Verdict]:
        return [
            Verdict(
                f"{event}: p90 <= {LIMIT_MS:g} ms", f"{percentile(each, 0.9):.1f} ms", percentile(each, 0.9) <= LIMIT_MS
            )
            for event, each in self.milliseconds.items()
        ] + [
            Verdict("no task lost", f"{lost:,}", lost == 0)
            for lost in [sum(taken >= NEVER_MS / 2 for each in self.milliseconds.values() for taken in each)]
        ]


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them doesn't exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(folder: Path, rounds: int) -> TakeoverReport:
    """Each event `rounds` times, in turn, on fresh files."""
    taken: dict[str, list[float]] = {event: [] for event in EVENTS}
    with live_line("takeover", rounds * len(EVENTS)) as update:
        for number in range(rounds):
            for order, (event, happen) in enumerate(EVENTS.items()):
                update(number * len(EVENTS) + order, event)
                path = folder / f"{number}-{order}.db"
                TaskQueue(path).close()
                taken[event].append(happen(path) * 1000)
    with TaskQueue(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, "normal")
    return TakeoverReport(facts, taken)


def render(report: TakeoverReport) -> str:
    """The report as text."""
    rows = [
        [event, f"{len(each):,}", *(f"{percentile(each, share):.1f}" for share in (0.5, 0.9)), f"{max(each):.1f}"]
        for event, each in report.milliseconds.items()
    ]
    heading = ("until the others go on, ms", "times", "p50", "p90", "max")
    return "\n\n".join((describe(report.machine), table(heading, rows), verdict_table(report.verdicts)))


LINE = "how soon others go on after a kill"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Kills the process that holds the write lock, the one that keeps house, and the first of two that wait for a"
        " task, and deletes the sidecar file: how soon the others go on."
    )
    parser.epilog = "example:\n  python -m bench takeover --rounds 20 --json takeover.json\n\n" + EXIT_STATUS
    parser.add_argument("--rounds", type=whole, default=10, metavar="N", help="of each (default 10)")


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.rounds)
    return Findings(render(report), report.as_json(), report.passed)
