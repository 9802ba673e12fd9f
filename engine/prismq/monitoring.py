"""Workers and the queue at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prismq import heartbeat, observe_sql, submission
from prismq.database import QueueDatabase
from prismq.metrics import QueueMetrics, success_and_failure
from prismq.models import Worker


class QueueMonitoring:
    """Registers workers and sums up the queue. Every write commits by itself or joins the caller's `transaction()`."""

    def __init__(self, db: QueueDatabase) -> None:
        self._database = db
        self._metrics = QueueMetrics(db)

    def register_worker(self, worker_id: str, capabilities: Mapping[str, Any] | None = None) -> None:
        """Add the worker, or note its capabilities ({} for None) and that it is alive."""
        heartbeat.register(self._database, worker_id, {} if capabilities is None else capabilities)

    def update_heartbeat(self, worker_id: str) -> bool:
        """Note that the worker is alive; False, and nothing is written, if it isn't registered."""
        return heartbeat.beat(self._database, worker_id)

    def get_worker(self, worker_id: str) -> Worker | None:
        """The worker, None if it isn't registered."""
        return next((worker for worker in self.get_all_workers() if worker.worker_id == worker_id), None)

    def get_all_workers(self) -> list[Worker]:
        """Every registered worker, by worker_id."""
        found = [worker for worker, _ in heartbeat.all_workers(self._database)]
        return sorted(found, key=lambda worker: worker.worker_id)

    def get_stale_workers(self, stale_threshold_seconds: float = heartbeat.STALE_SECONDS) -> list[Worker]:
        """Those whose last heartbeat is longer ago, the oldest first."""
        submission.duration(stale_threshold_seconds, "stale_threshold_seconds", 0)
        return heartbeat.stale_workers(self._database, stale_threshold_seconds)

    def get_active_workers(self, active_threshold_seconds: float = heartbeat.ACTIVE_SECONDS) -> list[Worker]:
        """Those whose last heartbeat is no longer ago, the newest first."""
        submission.duration(active_threshold_seconds, "active_threshold_seconds", 0)
        return heartbeat.active_workers(self._database, active_threshold_seconds)

    def remove_worker(self, worker_id: str) -> bool:
        """Forget the worker; False if it isn't registered. What it holds comes back when its lease runs out."""
        return heartbeat.remove(self._database, worker_id)

    def get_queue_metrics(self) -> dict[str, Any]:
        """`queue_depth_by_status`; `queue_depth_by_type`, of queued tasks; `oldest_queued_task_age_seconds` or None;
        `task_statistics`, for "completed" and "failed" (dead letters too) `status`, `count` and `avg_attempts` of all
        that ever finished, if any did; `success_rate` and `failure_rate` from 0 to 1 of those, None if there are none;
        `total_workers`, `active_workers` (60 s) and `stale_workers` (300 s)."""
        with self._database.snapshot():
            statistics = self._statistics()
            completed, failed = (statistics.get(status, {}).get("count", 0) for status in ("completed", "failed"))
            rates = success_and_failure(completed, failed) if completed + failed else {}
            ages = [age for _, age in heartbeat.all_workers(self._database)]
            queued = dict(tuple(row) for row in self._database.execute(observe_sql.QUEUED_BY_TYPE))
            return {
                "queue_depth_by_status": self._metrics.get_queue_depth_by_status(),
                "queue_depth_by_type": queued,
                "oldest_queued_task_age_seconds": self._metrics.get_oldest_queued_task_age(),
                "task_statistics": statistics,
                "success_rate": rates.get("success_rate"),
                "failure_rate": rates.get("failure_rate"),
                "total_workers": len(ages),
                "active_workers": sum(age <= heartbeat.ACTIVE_SECONDS for age in ages),
                "stale_workers": sum(age > heartbeat.STALE_SECONDS for age in ages),
            }

    def get_worker_activity(self) -> list[dict[str, Any]]:
        """Each worker's `worker_id`, `capabilities` (JSON text), `heartbeat_utc` (text) and `seconds_since_heartbeat`
        (whole seconds), newest heartbeat first."""
        rows = heartbeat.rows(self._database)
        return [
            {
                "worker_id": row["worker_id"],
                "capabilities": row["capabilities"],
                "heartbeat_utc": row["heartbeat_utc"],
                "seconds_since_heartbeat": int(row["age"]),
            }
            for row in rows
        ]

    def _statistics(self) -> dict[str, dict[str, Any]]:
        sums: dict[str, tuple[int, int]] = {}
        for _, status, tasks, attempts, *_ in self._database.execute(observe_sql.FINISHED_EVER, (False,)):
            name = "completed" if status == "completed" else "failed"
            before = sums.get(name, (0, 0))
            sums[name] = (before[0] + tasks, before[1] + attempts)
        return {
            name: {"status": name, "count": tasks, "avg_attempts": round(attempts / tasks, 2)}
            for name, (tasks, attempts) in sorted(sums.items())
        }
