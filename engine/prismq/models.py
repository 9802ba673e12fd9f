"""The rows of the queue as dataclasses; every time in them is an aware UTC datetime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from prismq.clock import to_datetime


class SchedulingStrategy(StrEnum):
    """Which ready task a claim takes first."""

    FIFO = "fifo"
    LIFO = "lifo"
    PRIORITY = "priority"
    WEIGHTED_RANDOM = "weighted_random"


class Record:
    """What the models share: their way from and to plain dictionaries."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a row or a parsed JSON object; unknown keys are ignored, ValueError for a bad time."""
        known: dict[str, Any] = {}
        for field in fields(cls):  # type: ignore[arg-type]
            if field.name in values:
                value = values[field.name]
                known[field.name] = _moment(value) if field.name.endswith("_utc") else value
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """All fields, with times as ISO-8601 text."""
        return {name: _plain(value) for name, value in self.__dict__.items()}


@dataclass
class Task(Record):
    """One row of `task_queue`."""

    id: int | None = None
    type: str = ""
    priority: int = 100
    payload: str = "{}"
    compatibility: str = "{}"
    status: str = "queued"
    attempts: int = 0
    max_attempts: int = 5
    run_after_utc: datetime | None = None
    lease_until_utc: datetime | None = None
    reserved_at_utc: datetime | None = None
    processing_started_utc: datetime | None = None
    finished_at_utc: datetime | None = None
    locked_by: str | None = None
    error_message: str | None = None
    idempotency_key: str | None = None
    created_at_utc: datetime | None = None
    updated_at_utc: datetime | None = None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Build from the 18 values of a stored row in field order, times as text; ValueError for a bad time."""
        (
            id, type, priority, payload, compatibility, status, attempts, max_attempts,
            run_after, lease_until, reserved_at, processing_started, finished_at,
            locked_by, error_message, idempotency_key, created_at, updated_at,
        ) = row  # fmt: skip
        # Claims build thousands of these a second, and one moment fills several columns: each text is parsed once.
        created = to_datetime(created_at)
        updated = created if updated_at == created_at else to_datetime(updated_at)
        task = object.__new__(cls)
        task.__dict__ = {
            "id": id,
            "type": type,
            "priority": priority,
            "payload": payload,
            "compatibility": compatibility,
            "status": status,
            "attempts": attempts,
            "max_attempts": max_attempts,
            "run_after_utc": created if run_after == created_at else to_datetime(run_after),
            "lease_until_utc": lease_until and to_datetime(lease_until),
            "reserved_at_utc": updated if reserved_at == updated_at else to_datetime(reserved_at),
            "processing_started_utc": updated if processing_started == updated_at else to_datetime(processing_started),
            "finished_at_utc": finished_at and to_datetime(finished_at),
            "locked_by": locked_by,
            "error_message": error_message,
            "idempotency_key": idempotency_key,
            "created_at_utc": created,
            "updated_at_utc": updated,
        }
        return task

    def get_payload_dict(self) -> dict[str, Any]:
        """The payload as parsed JSON; {} when it is not a JSON object."""
        return _parsed(self.payload)

    def get_compatibility_dict(self) -> dict[str, Any]:
        """The compatibility as parsed JSON; {} when it is not a JSON object."""
        return _parsed(self.compatibility)


def claimed_task(
    id: int,
    priority: int,
    attempts: int,
    max_attempts: int,
    type: str,
    payload: str,
    compatibility: str,
    run_after: str,
    created_at: str,
    error_message: str | None,
    idempotency_key: str | None,
    worker: str,
    at: datetime,
    lease_until: datetime,
) -> Task:
    """The task that `worker` claimed `at` a moment, from what its row was before.

    It is claimed already, so a time that plain SQL put in and nobody can read is None here, not an error.
    """
    created = _readable(created_at)
    task = object.__new__(Task)
    task.__dict__ = {
        "id": id,
        "type": type,
        "priority": priority,
        "payload": payload,
        "compatibility": compatibility,
        "status": "processing",
        "attempts": attempts,
        "max_attempts": max_attempts,
        "run_after_utc": created if run_after == created_at else _readable(run_after),
        "lease_until_utc": lease_until,
        "reserved_at_utc": at,
        "processing_started_utc": at,
        "finished_at_utc": None,
        "locked_by": worker,
        "error_message": error_message,
        "idempotency_key": idempotency_key,
        "created_at_utc": created,
        "updated_at_utc": at,
    }
    return task


@dataclass
class Worker(Record):
    """One row of `workers`."""

    worker_id: str = ""
    capabilities: str = "{}"
    heartbeat_utc: datetime | None = None

    def get_capabilities_dict(self) -> dict[str, Any]:
        """The capabilities as parsed JSON; {} when they are not a JSON object."""
        return _parsed(self.capabilities)


@dataclass
class TaskLog(Record):
    """One row of `task_logs`."""

    log_id: int | None = None
    task_id: int = 0
    at_utc: datetime | None = None
    level: str = "INFO"
    message: str | None = None
    details: str | None = None


@dataclass
class TaskReport(Record):
    """One row of `task_reports`: what the last attempt told of itself; `progress` goes from 0 to 1."""

    task_id: int = 0
    attempt: int = 0
    progress: float | None = None
    note: str | None = None
    result: str | None = None
    traceback: str | None = None
    updated_at_utc: datetime | None = None

    def get_result(self) -> Any:
        """The result as parsed JSON, None when there is none."""
        return None if self.result is None else json.loads(self.result)


TASK_FIELDS: Final = tuple(field.name for field in fields(Task))
"""The column order that `Task.from_row` takes."""


def _moment(value: datetime | str | None) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return to_datetime(value or None)


def _readable(text: str) -> datetime | None:
    try:
        return to_datetime(text)
    except (ValueError, TypeError):
        return None


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
