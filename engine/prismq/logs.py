"""What happened to tasks: entries in `task_logs`, at once or through a buffer, and in an application's own log."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from prismq import clock, observe_sql, sql, submission
from prismq.database import QueueDatabase
from prismq.errors import InvalidTaskError, QueueDatabaseError, QueueIntegrityError
from prismq.log_buffer import LogBuffer
from prismq.models import TaskLog

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DELETE_CHUNK: Final = 400
"""Entries deleted in one transaction, which takes some two milliseconds."""
DEFAULT_LOGGER: Final = "prismq.queue"


class TaskLogger:
    """Writes and reads the log of each task, times with milliseconds.

    An entry is written when `log` returns: it commits by itself or with the caller's `transaction()`. With `buffered`
    it is written within `flush_seconds` by a thread of its own, in batches and never in the caller's transaction; `log`
    then costs microseconds and doesn't wait. At most `capacity` entries wait; what comes beyond, and what is for no
    known task, is dropped, counted in `dropped` and reported to the logger "prismq". Call `close()` at the end.
    """

    def __init__(
        self,
        db: QueueDatabase,
        *,
        buffered: bool = False,
        capacity: int = 10_000,
        flush_seconds: float = 0.2,
    ) -> None:
        self._database = db
        self._buffer: LogBuffer | None = None
        if buffered:
            submission.count(capacity, "capacity")
            submission.duration(flush_seconds, "flush_seconds", 0)
            self._buffer = LogBuffer(db, capacity, flush_seconds)
            weakref.finalize(self, self._buffer.abandon).atexit = False

    def log(self, task_id: int, level: str, message: str, details: object = None) -> None:
        """Add an entry. An unknown `level` is INFO; `details`, anything that JSON can hold, become JSON text.

        Raises QueueIntegrityError when there is no such task (not when buffered).
        """
        entry = (
            submission.task_id(task_id),
            clock.to_text(clock.now()),
            _level(level),
            submission.message(message),
            None if details is None else _as_json(details),
        )
        if self._buffer is not None:
            self._buffer.add(entry)
        elif self._database.execute(sql.LOG, entry).rowcount != 1:
            raise QueueIntegrityError(f"there is no task {task_id}: a log entry belongs to one that was enqueued")

    def get_task_logs(self, task_id: int, level: str | None = None, limit: int = 100) -> list[TaskLog]:
        """The newest entries of a task, newest first; with `level`, of that one."""
        wanted = None if level is None else _level(level)
        return self._read(observe_sql.TASK_LOGS, submission.task_id(task_id), wanted, submission.count(limit, "limit"))

    def get_recent_logs(self, limit: int = 100, level: str | None = None) -> list[TaskLog]:
        """The newest entries of all tasks, newest first; with `level`, of that one."""
        wanted = None if level is None else _level(level)
        return self._read(observe_sql.RECENT_LOGS, wanted, submission.count(limit, "limit"))

    def delete_old_logs(self, days: float = 30) -> int:
        """Delete what is older; how many entries. Some hundred are a transaction, so that nobody waits for many."""
        if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 <= days < 366 * 1000:
            raise InvalidTaskError(f"days is {days!r}; it must be a number of days, at least 0")
        before = clock.to_text(clock.now() - timedelta(days=days))
        total = 0
        while True:
            deleted = self._database.execute(observe_sql.DELETE_LOGS, (before, DELETE_CHUNK)).rowcount
            total += deleted
            if deleted < DELETE_CHUNK:
                return total

    @property
    def dropped(self) -> int:
        """Entries that were not written, since the logger was made: always 0 without a buffer."""
        return 0 if self._buffer is None else self._buffer.dropped

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was logged so far is written; False if it took longer than `timeout` seconds.

        Raises QueueProgrammingError inside the caller's own transaction, which the writing waits for.
        """
        return self._buffer is None or self._buffer.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left, up to `timeout` seconds (the rest is counted as dropped), and end the thread.

        Nothing can be logged through the buffer afterwards. Without a buffer there is nothing to do.
        """
        if self._buffer is not None:
            self._buffer.close(timeout)

    def _read(self, statement: str, *parameters: Any) -> list[TaskLog]:
        return [TaskLog.from_dict(dict(row)) for row in self._database.execute(statement, parameters)]


class QueueLogger:
    """Logs what happens to tasks twice: in the database, and through `app_logger` (default "prismq.queue").

    The database comes first; a failure there is logged, not raised. `task_logger` may be a buffered one.
    """

    def __init__(
        self,
        db: QueueDatabase,
        app_logger: logging.Logger | None = None,
        *,
        task_logger: TaskLogger | None = None,
    ) -> None:
        self.task_logger = TaskLogger(db) if task_logger is None else task_logger
        self.app_logger = logging.getLogger(DEFAULT_LOGGER) if app_logger is None else app_logger

    def log_task_event(self, task_id: int, level: str, message: str, details: object = None) -> None:
        """Log "Task <id>: <message>", with `task_id` and `details` as extra attributes of the record."""
        try:
            self.task_logger.log(task_id, level, message, details)
        except QueueDatabaseError as error:
            self.app_logger.error(
                "Task %s: its log entry %r was not written: %s", task_id, message, error, extra={"task_id": task_id}
            )
        extra = {"task_id": task_id} if details is None else {"task_id": task_id, "details": details}
        number = logging.getLevelNamesMapping()[_level(level)]
        self.app_logger.log(number, "Task %s: %s", task_id, message, extra=extra)

    def log_task_transition(self, task_id: int, from_status: str, to_status: str, details: object = None) -> None:
        """Log "Status transition: A → B": ERROR for failed and dead_letter, INFO for completed, else DEBUG."""
        level = {"failed": "ERROR", "dead_letter": "ERROR", "completed": "INFO"}.get(to_status, "DEBUG")
        message = f"Status transition: {from_status} → {to_status}"
        self.log_task_event(
            task_id, level, message, _joined({"from_status": from_status, "to_status": to_status}, details)
        )

    def log_task_error(self, task_id: int, error: BaseException, details: object = None) -> None:
        """Log "Task error: <Class>: <text>" as an ERROR."""
        kind, text = type(error).__name__, str(error)
        self.log_task_event(
            task_id,
            "ERROR",
            f"Task error: {kind}: {text}",
            _joined({"error_type": kind, "error_message": text}, details),
        )

    def log_task_retry(
        self,
        task_id: int,
        attempt: int,
        max_attempts: int,
        next_run_after: datetime | None,
        details: object = None,
    ) -> None:
        """Log "Retry scheduled: attempt A/M" as a WARNING."""
        when = None if next_run_after is None else next_run_after.isoformat()
        facts = {"attempt": attempt, "max_attempts": max_attempts, "next_run_after": when}
        self.log_task_event(
            task_id, "WARNING", f"Retry scheduled: attempt {attempt}/{max_attempts}", _joined(facts, details)
        )


def _level(level: str) -> str:
    name = str(level).upper()
    return name if name in LEVELS else "INFO"


def _joined(facts: dict[str, Any], details: object) -> dict[str, Any]:
    """With the caller's details, which are under that name when they have none of their own."""
    if isinstance(details, Mapping):
        return facts | dict(details)
    return facts if details is None else facts | {"details": details}


def _as_json(details: object) -> str:
    try:
        return json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"error": f"Failed to serialize details: {error}"})
