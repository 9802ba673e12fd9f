"""Who works on a queue: registration, heartbeats, and what becomes of workers that are heard of no more."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from prismq import clock, observe_sql, sql, submission
from prismq.database import QueueDatabase
from prismq.errors import QueueDatabaseError, QueueDataError
from prismq.housekeeping import REAP_CHUNK
from prismq.models import Worker
from prismq.row import Row

_log = logging.getLogger(__name__)

ACTIVE_SECONDS: Final = 60.0
"""A worker whose last heartbeat is no older is active."""
STALE_SECONDS: Final = 300.0
"""A worker whose last heartbeat is older is lost."""


class WorkerHeartbeat:
    """Tells that workers are alive, and takes tasks back from those that are not.

    A worker is active up to `stale_threshold_seconds` after its last heartbeat, then stale. Every write commits by
    itself or joins the caller's `transaction()`.
    """

    def __init__(self, db: QueueDatabase, stale_threshold_seconds: float = STALE_SECONDS) -> None:
        self._database = db
        self.stale_threshold_seconds = submission.duration(stale_threshold_seconds, "stale_threshold_seconds", 0)

    def update_heartbeat(self, worker_id: str, capabilities: Mapping[str, Any]) -> None:
        """Register the worker, or tell that it is alive and what it can do now.

        Raises QueueDatabaseError for capabilities that JSON can't hold.
        """
        register(self._database, worker_id, capabilities)

    def get_active_workers(self) -> list[Worker]:
        """Those that are not stale, newest heartbeat first."""
        return active_workers(self._database, self.stale_threshold_seconds)

    def get_stale_workers(self) -> list[Worker]:
        """Those whose last heartbeat is too long ago, the oldest first."""
        return stale_workers(self._database, self.stale_threshold_seconds)

    def cleanup_stale_workers(self, force: bool = False) -> int:
        """Remove stale workers; without `force` only those that hold no task. How many.

        A task of a removed worker comes back when its lease runs out.
        """
        now = clock.to_text(clock.now())
        parameters = (now, self.stale_threshold_seconds, bool(force))
        return self._database.execute(observe_sql.REMOVE_STALE_WORKERS, parameters).rowcount

    def get_worker_stats(self, worker_id: str) -> dict[str, Any]:
        """One worker: `worker_id`, `capabilities` (JSON text), `heartbeat_utc` (text), `seconds_since_heartbeat`,
        `is_active`, `active_tasks_count`, `total_tasks_processed` (those it holds and those it finished),
        `completed_tasks`, `failed_tasks`, and `success_rate`, completed / finished, three decimals.

        Raises QueueDatabaseError for an unknown worker.
        """
        with self._database.snapshot():
            found = [row for row in rows(self._database) if row["worker_id"] == worker_id]
            if not found:
                raise QueueDatabaseError(f"there is no worker {worker_id!r}: it never registered, or was removed")
            tasks = _tasks(self._database, worker_id).get(worker_id, {})
        completed = tasks.get("completed", 0)
        failed = tasks.get("failed", 0) + tasks.get("dead_letter", 0)
        ended = completed + failed
        return {
            **self._described(found[0]),
            "active_tasks_count": tasks.get("processing", 0),
            "total_tasks_processed": sum(tasks.values()),
            "completed_tasks": completed,
            "failed_tasks": failed,
            "success_rate": round(completed / ended, 3) if ended else 0.0,
        }

    def get_all_workers_summary(self) -> list[dict[str, Any]]:
        """Each worker's `worker_id`, `capabilities`, `heartbeat_utc`, `seconds_since_heartbeat`, `is_active`,
        `active_tasks` and `total_tasks`, newest heartbeat first."""
        with self._database.snapshot():
            tasks = _tasks(self._database, None)
            return [
                {
                    **self._described(row),
                    "active_tasks": tasks.get(row["worker_id"], {}).get("processing", 0),
                    "total_tasks": sum(tasks.get(row["worker_id"], {}).values()),
                }
                for row in rows(self._database)
            ]

    def reclaim_stale_worker_tasks(self) -> int:
        """Take back what stale workers hold, whatever their leases say: queued again, or dead_letter when no attempt is
        left. How many.

        The claim has counted the attempt. A worker that comes back late is refused (LeaseLostError). In transactions
        of 100 tasks, so that nobody waits for many.
        """
        total = 0
        while True:
            now = clock.to_text(clock.now())
            parameters = (now, self.stale_threshold_seconds, REAP_CHUNK)
            returned = self._database.execute(observe_sql.RECLAIM, parameters).fetchall()
            for task_id, status, error in returned:
                extra = {"task_id": task_id, "status": status}
                _log.warning("task %s is %s: %s", task_id, status, error, extra=extra)
            total += len(returned)
            if len(returned) < REAP_CHUNK:
                return total

    def _described(self, row: Row) -> dict[str, Any]:
        return {
            "worker_id": row["worker_id"],
            "capabilities": row["capabilities"],
            "heartbeat_utc": row["heartbeat_utc"],
            "seconds_since_heartbeat": row["age"],
            "is_active": row["age"] <= self.stale_threshold_seconds,
        }


def register(database: QueueDatabase, worker_id: str, capabilities: Mapping[str, Any]) -> None:
    """Add the worker, or note its capabilities and that it is alive."""
    submission.text(worker_id, "worker_id")
    if not isinstance(capabilities, Mapping):
        raise QueueDataError(f"capabilities of {worker_id!r} are {capabilities!r:.100}; they must be a dict")
    try:
        text = json.dumps(dict(capabilities), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise QueueDataError(f"capabilities of {worker_id!r} can't be written as JSON: {error}") from error
    database.execute(sql.REGISTER_WORKER, (worker_id, text, clock.to_text(clock.now())))


def beat(database: QueueDatabase, worker_id: str) -> bool:
    """Note that the worker is alive; False if nobody registered it."""
    return database.execute(sql.BEAT, (worker_id, clock.to_text(clock.now()))).rowcount == 1


def remove(database: QueueDatabase, worker_id: str) -> bool:
    """Forget the worker; False if there is none."""
    return database.execute(sql.REMOVE_WORKER, (worker_id,)).rowcount == 1


def all_workers(database: QueueDatabase) -> list[tuple[Worker, float]]:
    """Every worker and the age of its heartbeat in seconds, newest first."""
    return [(_worker(row), row["age"]) for row in rows(database)]


def active_workers(database: QueueDatabase, seconds: float) -> list[Worker]:
    """Those heard of in the last seconds, newest first."""
    return [worker for worker, age in all_workers(database) if age <= seconds]


def stale_workers(database: QueueDatabase, seconds: float) -> list[Worker]:
    """Those not heard of for longer, oldest first."""
    return [worker for worker, age in reversed(all_workers(database)) if age > seconds]


def count_workers(database: QueueDatabase, seconds: float) -> int:
    """How many were heard of in the last seconds."""
    return sum(row["age"] <= seconds for row in rows(database))


def rows(database: QueueDatabase) -> list[Row]:
    """worker_id, capabilities, heartbeat_utc and its age in seconds, newest first."""
    return database.execute(observe_sql.WORKERS, (clock.to_text(clock.now()),)).fetchall()


def _tasks(database: QueueDatabase, worker_id: str | None) -> dict[str, dict[str, int]]:
    """By worker and status, the tasks that it holds or was the last to hold."""
    found: dict[str, dict[str, int]] = {}
    for worker, status, tasks in database.execute(observe_sql.WORKER_TASKS, (worker_id,)):
        found.setdefault(worker, {})[status] = tasks
    return found


def _worker(row: Row) -> Worker:
    try:
        return Worker.from_dict(dict(row))
    except ValueError:  # a heartbeat that is no time, from plain SQL
        return Worker(row["worker_id"], row["capabilities"], None)
