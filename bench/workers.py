"""What claiming ahead and settling together is worth: workers with empty handlers against a transaction for each step.

Three sides drain the same backlog in interleaved rounds: WorkerEngine with tasks claimed ahead, WorkerEngine without,
and a loop of one claim and one complete a task.
"""

from __future__ import annotations

import multiprocessing
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

from bench.crew import CrewError
from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_durability, whole
from bench.progress import live_line
from bench.scenario import TASK_TYPE, Durability, Scenario
from bench.table import table
from bench.targets import Verdict
from bench.turn import ratio
from bench.verdicts import Judged, verdict_table
from prismq import Task, TaskQueue, WorkerEngine

SPAWN = multiprocessing.get_context("spawn")
TIMES = 3.0
"""At least so many times the rate of one claim and one complete a task."""
BATCH = 1000
READY_SECONDS = 60.0
END_SECONDS = 600.0
AHEAD, SINGLE, LOOP = "engine, claimed ahead", "engine", "one claim, one complete"


def do_nothing(task: Task) -> None:
    """The handler."""


def drain_ahead(queue: TaskQueue, name: str, prefetch: int) -> None:
    _engine(queue, name, prefetch)


def drain_singly(queue: TaskQueue, name: str, prefetch: int) -> None:
    _engine(queue, name, 0)


def drain_by_hand(queue: TaskQueue, name: str, prefetch: int) -> None:
    while (task := queue.claim(name)) is not None:
        do_nothing(task)
        queue.complete(task)


def _engine(queue: TaskQueue, name: str, prefetch: int) -> None:
    """Until nothing is left: the last task tells, being the one of lowest priority."""
    engine = WorkerEngine(queue, name, prefetch=prefetch)

    def handle(task: Task) -> None:
        if task.type != TASK_TYPE:
            engine.stop()

    engine.run_loop(handle)


Drain = Callable[[TaskQueue, str, int], None]
SIDES: dict[str, Drain] = {AHEAD: drain_ahead, SINGLE: drain_singly, LOOP: drain_by_hand}


def work(path: str, durability: Durability, side: str, name: str, prefetch: int, start: Barrier) -> None:
    """One worker process."""
    with Scenario(durability=durability).open(Path(path)) as queue:
        queue.get(1)
        start.wait(READY_SECONDS)
        SIDES[side](queue, name, prefetch)


@dataclass(frozen=True, slots=True)
class WorkersReport(Judged):
    """`rates` has each side's tasks/s, round by round; `astray` are tasks that were not completed exactly once."""

    tasks: int
    processes: int
    prefetch: int
    rates: dict[str, list[float]]
    astray: int

    @property
    def times(self) -> dict[str, float]:
        """Each side's median rate : that of the loop."""
        middle = {side: median(rates) for side, rates in self.rates.items()}
        return {side: ratio(rate, middle[LOOP]) for side, rate in middle.items()}

    @property
    def verdicts(self) -> list[Verdict]:
        times = self.times[AHEAD]
        return [
            Verdict(f"claimed ahead >= {TIMES:g} times one claim, one complete", f"{times:.2f} times", times >= TIMES),
            Verdict("every task completed, once", f"{self.astray:,} not", self.astray == 0),
        ]

    def as_json(self) -> dict[str, Any]:
        return Judged.as_json(self) | {"times": self.times}


def measure(
    folder: Path, tasks: int, processes: int, rounds: int, prefetch: int, durability: Durability
) -> WorkersReport:
    """Each side once a round, in turned order each second round, on fresh files; CrewError when a process fails."""
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    astray = 0
    with live_line("workers", rounds * len(SIDES)) as update:
        for number in range(rounds):
            order = list(SIDES) if number % 2 == 0 else list(reversed(SIDES))
            for place, side in enumerate(order):
                update(number * len(SIDES) + place, side)
                path = folder / f"{number}-{place}.db"
                seconds, wrong = _drain(path, tasks, processes, prefetch, side, durability)
                rates[side].append(tasks / seconds)
                astray += wrong
    with Scenario(durability=durability).open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, durability)
    return WorkersReport(facts, tasks, processes, prefetch, rates, astray)


def _drain(
    path: Path, tasks: int, processes: int, prefetch: int, side: str, durability: Durability
) -> tuple[float, int]:
    """How long the processes took for the backlog, in s, and how many tasks were not completed once."""
    scenario = Scenario(durability=durability)
    with scenario.open(path) as queue:
        for begun in range(0, tasks, BATCH):
            task = {"type": TASK_TYPE, "payload": scenario.payload()}
            queue.enqueue_many([task] * min(BATCH, tasks - begun))
        if side != LOOP:  # the ends, one for each worker
            queue.enqueue_many([{"type": "end", "priority": 1_000_000}] * processes)
        start = SPAWN.Barrier(processes + 1)
        crew: list[SpawnProcess] = [
            SPAWN.Process(target=work, args=(str(path), durability, side, f"w{number}", prefetch, start), daemon=True)
            for number in range(processes)
        ]
        for process in crew:
            process.start()
        try:
            start.wait(READY_SECONDS)
            began = time.perf_counter()
            end = began + END_SECONDS
            for process in crew:
                process.join(max(0.0, end - time.perf_counter()))
                if process.exitcode != 0:
                    raise CrewError(f"a worker ended with {process.exitcode}")
        finally:
            for process in crew:
                process.kill()
        seconds = _seconds(queue)
        once = queue.database.execute(
            "SELECT count(*) FROM task_queue WHERE type = ? AND status = 'completed' AND attempts = 1", (TASK_TYPE,)
        ).fetchone()[0]
    return seconds, tasks - once


def _seconds(queue: TaskQueue) -> float:
    """From the first claim to the last completion, as the tasks themselves tell."""
    return float(
        queue.database.execute(
            """SELECT (julianday(max(finished_at_utc)) - julianday(min(processing_started_utc))) * 86400
               FROM task_queue WHERE type = ?""",
            (TASK_TYPE,),
        ).fetchone()[0]
    )


def render(report: WorkersReport) -> str:
    """The report as text."""
    note = (
        f"{report.processes} worker processes, a backlog of {report.tasks:,} tasks, empty handlers; up to"
        f" {report.prefetch} tasks claimed ahead;\n{len(report.rates[LOOP])} interleaved rounds on fresh files, medians"
    )
    rows = [
        [side, f"{median(rates):,.0f}", f"{min(rates):,.0f}", f"{max(rates):,.0f}", f"{report.times[side]:.2f}"]
        for side, rates in report.rates.items()
    ]
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            table(("", "tasks/s", "slowest", "fastest", "ratio"), rows),
            verdict_table(report.verdicts),
        )
    )


LINE = "what claiming ahead is worth to workers"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Worker processes drain a backlog with empty handlers: WorkerEngine with and without tasks claimed ahead,"
        " against one claim and one complete a task, in interleaved rounds on fresh files."
    )
    parser.epilog = "example:\n  python -m bench workers --tasks 100000 --json workers.json\n\n" + EXIT_STATUS
    parser.add_argument("--tasks", type=whole, default=20_000, metavar="N", help="of the backlog (default 20000)")
    parser.add_argument("--processes", type=whole, default=4, metavar="W", help="workers (default 4)")
    parser.add_argument("--rounds", type=whole, default=3, metavar="N", help="of each side (default 3)")
    parser.add_argument("--prefetch", type=whole, default=128, metavar="N", help="claimed ahead (default 128)")
    add_durability(parser)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.tasks, options.processes, options.rounds, options.prefetch, options.durability)
    return Findings(render(report), report.as_json(), report.passed)
