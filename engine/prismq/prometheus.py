"""A queue for Prometheus, read from the database at each scrape; needs `pip install "prismq[metrics]"`.

    REGISTRY.register(QueueCollector(QueueDatabase("queue.db")))
    start_http_server(9000)

Any process may serve it, also one that does nothing else, and one is enough. Counters live in the database: they go on
after a restart, and what was deleted stays counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError('prismq.prometheus needs prometheus-client: pip install "prismq[metrics]"') from error

from prismq import database_files, heartbeat, observe_sql, rollup
from prismq.database import QueueDatabase
from prismq.metrics import QueueMetrics, depth_by_type

BUCKETS_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, math.inf)
"""Upper ends of the histogram's buckets; each is also the end of a class of the roll-ups, so none is divided."""


class QueueCollector(Collector):
    """Collects `prismq_*` metrics of one queue. A scrape reads for some 50 ms with a million tasks, and writes nothing.

    Raises QueueDatabaseError when the database can't be read, so that a scrape fails visibly.
    """

    def __init__(self, db: QueueDatabase) -> None:
        self._database = db
        self._metrics = QueueMetrics(db)
        db.initialize_schema()

    def describe(self) -> list[Metric]:
        """Nothing: registering needs no scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, as of one moment."""
        with self._database.snapshot():
            families = list(self._families())
        yield from families

    def _families(self) -> Iterator[Metric]:
        yield self._tasks()
        age = self._metrics.get_oldest_queued_task_age()
        yield GaugeMetricFamily(
            "prismq_oldest_queued_task_age_seconds",
            "Since the oldest queued task was enqueued; 0 if none is.",
            age or 0,
        )
        yield from self._finished()
        yield self._times()
        yield self._workers()
        expired = self._database.execute(observe_sql.LEASES_EXPIRED).fetchone()[0]
        yield CounterMetricFamily("prismq_leases_expired", "Leases that ran out and were taken back.", expired)
        path = self._database.db_path
        yield GaugeMetricFamily("prismq_database_bytes", "Size of the database file.", path.stat().st_size)
        wal_bytes = database_files.wal_bytes(path)
        yield GaugeMetricFamily("prismq_wal_bytes", "Size of the write-ahead log.", wal_bytes)

    def _tasks(self) -> Metric:
        family = GaugeMetricFamily("prismq_tasks", "Tasks in the queue's table.", labels=("type", "status"))
        for kind, status, tasks in depth_by_type(self._database):
            family.add_metric((kind, status), tasks)
        return family

    def _finished(self) -> Iterator[Metric]:
        finished = CounterMetricFamily(
            "prismq_tasks_finished", "Tasks that finished, deleted ones too.", labels=("type", "status")
        )
        retries = CounterMetricFamily(
            "prismq_task_retries", "Attempts after the first of tasks that finished.", labels=("type",)
        )
        again: dict[str, int] = {}
        for kind, status, tasks, attempts, *_ in self._database.execute(observe_sql.FINISHED_EVER, (True,)):
            finished.add_metric((kind, status), tasks)
            again[kind] = again.get(kind, 0) + max(0, attempts - tasks)
        for kind, attempts in again.items():
            retries.add_metric((kind,), attempts)
        yield finished
        yield retries

    def _times(self) -> Metric:
        counts = [0] * len(BUCKETS_SECONDS)
        total_ms = 0.0
        for lower, tasks in self._database.execute(observe_sql.TIMES_EVER):
            middle = rollup.middle_of_class(lower)
            total_ms += middle * tasks
            counts[next(place for place, end in enumerate(BUCKETS_SECONDS) if lower < end * 1000)] += tasks
        buckets = [
            ("+Inf" if end == math.inf else str(float(end)), float(sum(counts[: place + 1])))
            for place, end in enumerate(BUCKETS_SECONDS)
        ]
        return HistogramMetricFamily(
            "prismq_task_processing_seconds",
            "From claim to completion, of completed tasks; the sum is at most 5 % off.",
            buckets=buckets,
            sum_value=total_ms / 1000,
        )

    def _workers(self) -> Metric:
        family = GaugeMetricFamily(
            "prismq_workers", "Registered workers: heartbeat within 60 s, within 300 s, older.", labels=("state",)
        )
        ages = [age for _, age in heartbeat.all_workers(self._database)]
        active = sum(age <= heartbeat.ACTIVE_SECONDS for age in ages)
        stale = sum(age > heartbeat.STALE_SECONDS for age in ages)
        for state, number in (("active", active), ("late", len(ages) - active - stale), ("stale", stale)):
            family.add_metric((state,), number)
        return family
