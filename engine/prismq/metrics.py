"""What a queue is doing, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from prismq import clock, observe_sql, rollup
from prismq.database import QueueDatabase
from prismq.errors import InvalidTaskError
from prismq.heartbeat import ACTIVE_SECONDS, count_workers

EXACT_TIMES: Final = 5_000
"""Percentiles of so many tasks are read from each task's time; of more, from the roll-ups' classes."""
PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class QueueMetrics:
    """Counts, rates and times of a queue, read in one look: nothing is written and nobody is kept waiting.

    Finished tasks are counted in roll-ups (see rollup), deleted ones too, so a window is read in milliseconds however
    many it holds. `failed` and `dead_letter` both count as failures. `hours` may be a fraction; its window ends now.
    """

    def __init__(self, db: QueueDatabase) -> None:
        self._database = db

    def get_queue_depth(self, task_type: str | None = None, status: str | None = None) -> int:
        """Tasks of any status that are in the queue's table, or of one type, one status."""
        if task_type is None:
            depths = self.get_queue_depth_by_status()
            return sum(depths.values()) if status is None else depths.get(status, 0)
        return sum(
            tasks
            for kind, state, tasks in depth_by_type(self._database)
            if kind == task_type and status in (None, state)
        )

    def get_queue_depth_by_status(self) -> dict[str, int]:
        """How many tasks have each status."""
        return dict(tuple(row) for row in self._database.execute(observe_sql.DEPTH_BY_STATUS))

    def get_queue_depth_by_type(self) -> dict[str, int]:
        """How many tasks there are of each type, of every status."""
        depths: dict[str, int] = {}
        for kind, _, tasks in depth_by_type(self._database):
            depths[kind] = depths.get(kind, 0) + tasks
        return depths

    def get_oldest_queued_task_age(self) -> int | None:
        """Whole seconds since the oldest queued task was enqueued, delayed ones too; None when none is queued."""
        created = self._database.execute(observe_sql.OLDEST_QUEUED).fetchone()[0]
        moment = None if created is None else clock.to_datetime(created)
        return None if moment is None else max(0, int((clock.now() - moment).total_seconds()))

    def get_success_failure_rates(self, hours: float = 24) -> dict[str, Any]:
        """Of the tasks that finished in the last hours: `success_count`, `failure_count`, `total_count`, and
        `success_rate`, `failure_rate` from 0 to 1 (0.0 when there were none)."""
        ended = self._finished(_window(hours))
        return success_and_failure(ended.completed.tasks, ended.failed.tasks)

    def get_worker_activity(self) -> list[dict[str, Any]]:
        """The rows of `v_worker_status`, the busiest worker first."""
        rows = self._database.execute("SELECT * FROM v_worker_status ORDER BY active_tasks DESC, worker_id")
        return [dict(row) for row in rows]

    def get_throughput_metrics(self, hours: float = 1) -> dict[str, Any]:
        """`tasks_completed` in the last hours, `tasks_per_minute`, and `avg_processing_time_seconds` of them (0.0 when
        unknown), which has milliseconds."""
        completed = self._finished(_window(hours)).completed
        return {
            "tasks_completed": completed.tasks,
            "tasks_per_minute": round(completed.tasks / (hours * 60), 2),
            "avg_processing_time_seconds": round(completed.ms / completed.timed / 1000, 3) if completed.timed else 0.0,
        }

    def get_retry_metrics(self, hours: float = 24) -> dict[str, Any]:
        """Of the tasks that finished in the last hours or have not finished: `total_tasks`, `tasks_with_retries` (begun
        more than once), `retry_rate` from 0 to 1, `avg_attempts`, and `max_attempts_reached` (dead letters)."""
        with self._database.snapshot():
            ended = self._finished(_window(hours))
            tasks, attempts, retried = self._database.execute(observe_sql.UNFINISHED).fetchone()
        total = tasks + ended.completed.tasks + ended.failed.tasks
        retried += ended.completed.retried + ended.failed.retried
        attempts += ended.completed.attempts + ended.failed.attempts
        return {
            "total_tasks": total,
            "tasks_with_retries": retried,
            "retry_rate": retried / total if total else 0.0,
            "avg_attempts": round(attempts / total, 2) if total else 0.0,
            "max_attempts_reached": ended.dead_letters,
        }

    def get_processing_time_percentiles(self, hours: float = 24, task_type: str | None = None) -> dict[str, float]:
        """`p50`, `p95` and `p99` in seconds of the tasks completed in the last hours; 0.0 when there are none.

        Exact, by linear interpolation at (n - 1) p, while at most 5,000 tasks of all types completed in the window
        and none of them was deleted. Else from classes of processing time, at most 5 % off, exact below 20 ms; then the
        window of a single type begins with the full hour.
        """
        window = _window(hours)
        since = window[0]
        with self._database.snapshot():
            there = self._database.execute(observe_sql.COUNT_COMPLETED_SINCE, (since, EXACT_TIMES + 1)).fetchone()[0]
            if there <= EXACT_TIMES and there == self._finished(window).completed.tasks:
                rows = self._database.execute(observe_sql.EACH_TIME_SINCE, (since, task_type))
                times = [float(row[0]) for row in rows]
                return {name: _interpolated(times, share) / 1000 for name, share in PERCENTILES.items()}
            if task_type is None:
                found = self._database.execute(observe_sql.TIMES_SINCE, window)
            else:
                found = self._database.execute(observe_sql.TIMES_OF_TYPE_SINCE, (since[:13], task_type))
            classes = [(lower, tasks) for lower, tasks in found]
        return {name: _from_classes(classes, share) / 1000 for name, share in PERCENTILES.items()}

    def get_queue_health_summary(self) -> dict[str, Any]:
        """The most important of all: `queue_depth` (every status), `oldest_queued_task_age_seconds`,
        `success_failure_rates_24h`, `throughput_1h`, `active_workers` (whose heartbeat is at most 60 s old),
        `retry_metrics_24h`, and the `timestamp` in ISO-8601."""
        with self._database.snapshot():
            return {
                "queue_depth": self.get_queue_depth(),
                "oldest_queued_task_age_seconds": self.get_oldest_queued_task_age(),
                "success_failure_rates_24h": self.get_success_failure_rates(24),
                "throughput_1h": self.get_throughput_metrics(1),
                "active_workers": count_workers(self._database, ACTIVE_SECONDS),
                "retry_metrics_24h": self.get_retry_metrics(24),
                "timestamp": clock.now().isoformat(),
            }

    def _finished(self, window: tuple[str, str, str]) -> _Finished:
        rows = self._database.execute(observe_sql.FINISHED_SINCE, window).fetchall()
        return _Finished({row[0]: _Sums(*tuple(row)[1:]) for row in rows})


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of tasks that finished: `ms` is the processing time of the `timed` ones."""

    tasks: int = 0
    attempts: int = 0
    retried: int = 0
    ms: int = 0
    timed: int = 0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.tasks + other.tasks,
            self.attempts + other.attempts,
            self.retried + other.retried,
            self.ms + other.ms,
            self.timed + other.timed,
        )


class _Finished:
    """What finished in a window, by how it ended."""

    def __init__(self, by_status: dict[str, _Sums]) -> None:
        nothing = _Sums()
        self.completed = by_status.get("completed", nothing)
        self.failed = by_status.get("failed", nothing) + by_status.get("dead_letter", nothing)
        self.dead_letters = by_status.get("dead_letter", nothing).tasks


def depth_by_type(database: QueueDatabase) -> list[tuple[str, str, int]]:
    """Type, status, tasks."""
    return [tuple(row) for row in database.execute(observe_sql.DEPTH_BY_TYPE)]


def success_and_failure(completed: int, failed: int) -> dict[str, Any]:
    """Counts and their shares, 0.0 when there are none."""
    total = completed + failed
    return {
        "success_count": completed,
        "failure_count": failed,
        "total_count": total,
        "success_rate": completed / total if total else 0.0,
        "failure_rate": failed / total if total else 0.0,
    }


def _window(hours: float) -> tuple[str, str, str]:
    """When so many hours ago was, and the first whole minute and hour since."""
    if isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours < 24 * 366 * 100:
        raise InvalidTaskError(f"hours is {hours!r}; it must be a number of hours, more than 0")
    now = clock.now()
    since = now - timedelta(hours=hours)
    hour = clock.to_text(_up(since, timedelta(hours=1)))[:13]
    if hours > rollup.MINUTES_HOURS - 1:  # minutes are not kept so long
        return clock.to_text(since), hour, hour
    return clock.to_text(since), clock.to_text(_up(since, timedelta(minutes=1)))[:16], hour


def _up(moment: datetime, unit: timedelta) -> datetime:
    """The next whole unit, or the moment itself if it is one."""
    over = (moment - datetime.min.replace(tzinfo=moment.tzinfo)) % unit
    return moment + (unit - over if over else timedelta())


def _interpolated(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _from_classes(classes: Sequence[tuple[int, int]], share: float) -> float:
    """The middle of the class that holds the value at (n - 1) * share."""
    place = (sum(tasks for _, tasks in classes) - 1) * share
    for lower, tasks in classes:
        if place < tasks:
            return rollup.middle_of_class(lower)
        place -= tasks
    return 0.0
