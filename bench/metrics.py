"""What it takes to look at a queue in which a million tasks have finished, and what that costs a completion."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, TypeAlias

import numpy as np

from bench.bare_sqlite import PAYLOAD, PAYLOAD_TEXT, WORKER
from bench.findings import Findings
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_driver, whole
from bench.progress import live_line
from bench.scenario import Driver
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import Judged, verdict_table
from prismq import (
    QueueDatabase,
    QueueMetrics,
    QueueMonitoring,
    Task,
    TaskLogger,
    TaskQueue,
    WorkerHeartbeat,
    rollup,
    schema,
)

LIMIT_MS = 50.0
COST_LIMIT = 1.1
"""The highest ratio of a completion's time to that of one whose task no metric could find."""
QUEUED_TASKS = 100_000
HELD_TASKS = 100
WORKERS = 20
LOG_ENTRIES = 100_000
CHUNK = 20_000
BLOCK = 10

Metric: TypeAlias = Callable[[], object]

# What rows are filled with: SQL expressions over the row's number n, of ?4 in all, and the payload ?3.
_COMMON = {"type": "'kind ' || (n % 50)", "priority": "10 + 20 * (n / 50 % 5)", "payload": "?3"}
_STARTED = "strftime('%Y-%m-%d %H:%M:%f', julianday('now') - 1.2 * (?4 - n) / ?4)"
FINISHED_ROW = _COMMON | {
    "status": "CASE n % 40 WHEN 7 THEN 'failed' WHEN 11 THEN 'dead_letter' ELSE 'completed' END",
    "attempts": "1 + (n % 10 = 0)",
    "locked_by": f"'worker ' || (n % {WORKERS})",
    "processing_started_utc": _STARTED,
    "finished_at_utc": f"strftime('%Y-%m-%d %H:%M:%f', julianday({_STARTED})"
    " + exp(3.0 * ((n * 7919 % 10007) / 10007.0)) * 0.1 / 86400)",
}
QUEUED_ROW = _COMMON | {
    "run_after_utc": "CASE WHEN n % 10 THEN strftime('%Y-%m-%d %H:%M:%f', 'now') ELSE '2999-01-01 00:00:00.000' END"
}
LOG_ROW = {"task_id": "1 + n % 1000", "level": "CASE WHEN n % 100 THEN 'INFO' ELSE 'ERROR' END", "message": "'done'"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric, in milliseconds; `cpu` is the p50 of the thread's processor time."""

    metric: str
    p50: float
    max: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one completion: its p50 in microseconds, and WAL pages."""

    p50: float
    pages: float


@dataclass(frozen=True, slots=True)
class MetricsReport(Judged):
    """`counted` completions are of tasks that the metrics find, `uncounted` ones not; `chunk_ms` is the longest time
    that rolling up had the write lock for."""

    finished: int
    queued: int
    rolled_up_seconds: float
    chunk_ms: float
    readings: list[Reading]
    counted: Cost
    uncounted: Cost

    @property
    def ratio(self) -> float:
        return self.counted.p50 / self.uncounted.p50

    @property
    def verdicts(self) -> list[Verdict]:
        slowest = max(self.readings, key=lambda reading: reading.p50)
        return [
            Verdict(
                f"every metric < {LIMIT_MS:g} ms (p50)",
                f"{slowest.p50:.1f} ms, {slowest.metric}",
                slowest.p50 < LIMIT_MS,
            ),
            Verdict(
                f"a completion at most {COST_LIMIT:g} times as long", f"{self.ratio:.2f}", self.ratio <= COST_LIMIT
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        return Judged.as_json(self) | {"ratio": self.ratio, "limit_ms": LIMIT_MS}


def measure(folder: Path, finished: int, rounds: int, operations: int, driver: Driver) -> MetricsReport:
    """Fill a queue, roll it up, read every metric `rounds` times; then complete `operations` tasks on two others."""
    path = folder / "metrics.db"
    with TaskQueue(path, driver=driver) as queue:
        facts = machine_facts(folder, queue, "normal")
    with QueueDatabase(path) as database:  # without a housekeeper
        _fill(database, "task_queue", FINISHED_ROW, finished)
        rolled_up_seconds, chunk_ms = _roll_up(database, finished)
        _fill(database, "task_queue", QUEUED_ROW, QUEUED_TASKS)
        _fill(database, "task_logs", LOG_ROW, LOG_ENTRIES)
    with TaskQueue(path, driver=driver) as queue:
        for number in range(WORKERS):
            QueueMonitoring(queue.database).register_worker(f"worker {number}", {"gpu": number % 2 == 0})
        queue.claim_many("worker 1", HELD_TASKS, lease_seconds=3600)
        readings = _read(_metrics(queue.database), rounds)
    counted, uncounted = _costs(folder, operations, driver)
    return MetricsReport(facts, finished, QUEUED_TASKS, rolled_up_seconds, chunk_ms, readings, counted, uncounted)


def render(report: MetricsReport) -> str:
    """The report as text."""
    rows = [
        [
            reading.metric,
            f"{reading.p50:.2f}",
            f"{reading.max:.2f}",
            f"{reading.cpu:.2f}",
            "PASS" if reading.p50 < LIMIT_MS else "FAIL",
        ]
        for reading in report.readings
    ]
    note = (
        f"{report.finished:,} finished tasks of 50 types in the last 29 hours, {report.queued:,} queued ones (a tenth"
        f" delayed), {HELD_TASKS} held by {WORKERS} workers, {LOG_ENTRIES:,} log entries\n"
        f"rolled up in {report.rolled_up_seconds:.1f} s, {rollup.CHUNK} tasks a transaction, the longest of which took"
        f" {report.chunk_ms:.1f} ms"
    )
    costs = [
        [name, f"{cost.p50:.2f}", f"{cost.pages:.3f}"]
        for name, cost in (("counted", report.counted), ("found by no metric", report.uncounted))
    ]
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            table(("metric", "p50 ms", "max ms", "cpu ms", ""), rows),
            table(("complete", "p50 us", "WAL pages"), costs),
            verdict_table(report.verdicts),
        )
    )


LINE = "what it takes to look at a queue with a million finished tasks"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Fills a queue with finished tasks, rolls them up, and reads each metric; then completes tasks on two small"
        " queues, of which one is without what the metrics stand on. The default takes about 1 GB of disk."
    )
    parser.epilog = "example:\n  python -m bench metrics --finished 100000 --json metrics.json\n\n" + EXIT_STATUS
    parser.add_argument("--finished", type=whole, default=1_000_000, metavar="TASKS", help="(default 1000000)")
    parser.add_argument("--rounds", type=whole, default=21, metavar="N", help="of each metric (default 21)")
    parser.add_argument("--operations", type=whole, default=4_000, metavar="N", help="completions (default 4000)")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.finished, options.rounds, options.operations, options.driver)
    return Findings(render(report), report.as_json(), report.passed)


def _metrics(database: QueueDatabase) -> Mapping[str, Metric]:
    metrics, heartbeat, monitoring = QueueMetrics(database), WorkerHeartbeat(database), QueueMonitoring(database)
    logger = TaskLogger(database)

    def view(name: str) -> Metric:
        return lambda: database.execute(f"SELECT * FROM {name}").fetchall()

    return {
        "get_queue_depth()": metrics.get_queue_depth,
        "get_queue_depth(type, status)": partial(metrics.get_queue_depth, "kind 7", "queued"),
        "get_queue_depth_by_status()": metrics.get_queue_depth_by_status,
        "get_queue_depth_by_type()": metrics.get_queue_depth_by_type,
        "get_oldest_queued_task_age()": metrics.get_oldest_queued_task_age,
        "get_success_failure_rates(24)": metrics.get_success_failure_rates,
        "get_success_failure_rates(0.01)": partial(metrics.get_success_failure_rates, 0.01),
        "get_throughput_metrics(1)": metrics.get_throughput_metrics,
        "get_retry_metrics(24)": metrics.get_retry_metrics,
        "get_processing_time_percentiles(24)": metrics.get_processing_time_percentiles,
        "get_processing_time_percentiles(24, type)": partial(metrics.get_processing_time_percentiles, 24, "kind 7"),
        "get_processing_time_percentiles(0.1), exact": partial(metrics.get_processing_time_percentiles, 0.1),
        "get_worker_activity()": metrics.get_worker_activity,
        "get_queue_health_summary()": metrics.get_queue_health_summary,
        "get_queue_metrics()": monitoring.get_queue_metrics,
        "get_worker_stats(worker)": partial(heartbeat.get_worker_stats, "worker 7"),
        "get_all_workers_summary()": heartbeat.get_all_workers_summary,
        "reclaim_stale_worker_tasks(), none": heartbeat.reclaim_stale_worker_tasks,
        "get_task_logs(task)": partial(logger.get_task_logs, 7),
        "get_recent_logs()": logger.get_recent_logs,
        "get_recent_logs(level)": partial(logger.get_recent_logs, 100, "ERROR"),
        "v_queue_status_summary": view("v_queue_status_summary"),
        "v_queue_type_summary": view("v_queue_type_summary"),
        "v_task_performance": view("v_task_performance"),
        "v_worker_status": view("v_worker_status"),
        "v_recent_failures": view("v_recent_failures"),
    }


def _read(metrics: Mapping[str, Metric], rounds: int) -> list[Reading]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in metrics}
    with live_line("metrics", rounds) as update:
        for number in range(rounds):
            update(number, "")
            for name, read in metrics.items():
                began, busy = perf_counter(), thread_time()
                read()
                taken[name].append(((perf_counter() - began) * 1000, (thread_time() - busy) * 1000))
    return [
        Reading(name, float(np.median(walls)), max(walls), float(np.median(cpus)))
        for name, (walls, cpus) in ((name, tuple(zip(*times, strict=True))) for name, times in taken.items())
    ]


def _fill(database: QueueDatabase, name: str, columns: Mapping[str, str], count: int) -> None:
    statement = f"""WITH RECURSIVE series (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < ?2)
        INSERT INTO {name} ({", ".join(columns)}) SELECT {", ".join(columns.values())} FROM series
        WHERE ?3 IS NOT NULL AND ?4"""
    with live_line("filling", count) as update:
        for first in range(0, count, CHUNK):
            database.execute(statement, (first, min(first + CHUNK, count), PAYLOAD_TEXT, count))
            update(first, f"{first:,} rows of {name}")
    database.execute("PRAGMA wal_checkpoint").fetchall()


def _roll_up(database: QueueDatabase, finished: int) -> tuple[float, float]:
    """Seconds in all, and the longest transaction in milliseconds."""
    database.execute("PRAGMA wal_autocheckpoint = 0")  # the housekeeper's commits leave them to itself as well
    longest, chunks, began = 0.0, 0, perf_counter()
    with live_line("rolling up", finished) as update:
        more = True
        while more:
            started = perf_counter()
            more = rollup.roll_up(database)
            longest = max(longest, perf_counter() - started)
            chunks += 1
            if chunks % 100 == 0:
                update(chunks * rollup.CHUNK, "")
                database.execute("PRAGMA wal_checkpoint").fetchall()
    return perf_counter() - began, longest * 1000


def _costs(folder: Path, operations: int, driver: Driver) -> tuple[Cost, Cost]:
    queues = [_left_alone(folder / f"cost-{number}.db", driver) for number in (0, 1)]
    _hide_finished(queues[1].database)
    tasks = [_claimed(queue, operations) for queue in queues]
    taken: list[list[float]] = [[], []]
    before = [_pages(queue, "TRUNCATE") for queue in queues]
    with live_line("completing", operations) as update:
        for first in range(0, operations, BLOCK):
            update(first, "")
            order = (0, 1) if first // BLOCK % 2 else (1, 0)
            for side in order:
                for task in tasks[side][first : first + BLOCK]:
                    began = time.perf_counter_ns()
                    queues[side].complete(task)
                    taken[side].append((time.perf_counter_ns() - began) / 1000)
    costs = [
        Cost(float(np.median(times)), (_pages(queue, "NOOP") - pages) / operations)
        for queue, times, pages in zip(queues, taken, before, strict=True)
    ]
    for queue in queues:
        queue.close()
    return costs[0], costs[1]


def _left_alone(path: Path, driver: Driver) -> TaskQueue:
    """A queue without a housekeeper, whose checkpoints would begin the WAL anew while its pages are counted."""
    queue = TaskQueue(path, driver=driver)
    queue.enqueue("t")
    housekeeper = queue.database.get_connection().housekeeper
    assert housekeeper is not None
    housekeeper.stop()
    return queue


def _claimed(queue: TaskQueue, count: int) -> list[Task]:
    queue.enqueue_many({"type": "t", "payload": PAYLOAD} for _ in range(2 * count))
    for task in queue.claim_many(WORKER, count, lease_seconds=3600):
        queue.complete(task)
    return queue.claim_many(WORKER, count, lease_seconds=3600)


def _pages(queue: TaskQueue, mode: str) -> int:
    return int(queue.database.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[1])


def _hide_finished(database: QueueDatabase) -> None:
    """Take finished tasks out of the index, and with them all that the metrics stand on."""
    parts = database.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger')").fetchall()
    for kind, name in parts:
        database.execute(f"DROP {kind} {name}")
    for name in ("ix_task_status_prio_time", "ix_task_type_status"):
        database.execute(f"DROP INDEX {name}")
    phase = schema.PHASE.replace("THEN -1", "THEN NULL").replace("THEN -2", "THEN NULL")
    for column, definition in (schema.QUEUE_COLUMNS | {"phase": phase}).items():
        database.execute(f"ALTER TABLE task_queue DROP COLUMN {column}")
        database.execute(f"ALTER TABLE task_queue ADD COLUMN {column} {definition}")
    database.execute(f"{schema.CREATE_IX_TASK_STATUS_PRIO_TIME} WHERE phase IS NOT NULL")
    database.execute(schema.CREATE_IX_TASK_TYPE_STATUS)
