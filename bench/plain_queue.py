"""A queue as one writes it by hand in an afternoon, on the standard library's sqlite3."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.accounting import Row

BUSY_TIMEOUT_MS = 5000
SCHEMA = """\
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued',
    attempts INTEGER NOT NULL DEFAULT 0,
    locked_by TEXT,
    lease_until REAL,
    created_at REAL NOT NULL
);
CREATE INDEX queued ON task (priority, id) WHERE status = 'queued';
"""
ENQUEUE = "INSERT INTO task (type, priority, payload, created_at) VALUES (?, ?, ?, ?)"
CLAIM = """\
UPDATE task SET status = 'processing', attempts = attempts + 1, locked_by = ?, lease_until = ?
WHERE id = (SELECT id FROM task WHERE status = 'queued' ORDER BY priority, id LIMIT 1)
RETURNING id, type, priority, payload, attempts"""
COMPLETE = """\
UPDATE task SET status = 'completed', locked_by = NULL, lease_until = NULL
WHERE id = ? AND status = 'processing' AND locked_by = ? AND attempts = ?"""


class PlainQueueBusyError(Exception):
    """The file stayed locked for BUSY_TIMEOUT_MS."""


@dataclass(slots=True)
class PlainTask:
    """A claimed task, its payload parsed."""

    id: int
    type: str
    priority: int
    payload: Any
    attempts: int
    worker: str


class PlainQueue:
    """Every method is a transaction, and raises PlainQueueBusyError when the file stays locked.

    Not for a file that this process opens with prismq too: two copies of SQLite undo each other's locks.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")

    def enqueue(self, type: str, payload: Any, *, priority: int) -> int:
        """Store a task; returns its id."""
        cursor, _ = self._transact(ENQUEUE, (type, priority, json.dumps(payload), time.time()))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def claim(self, worker: str, *, lease_seconds: float) -> PlainTask | None:
        """Take the next task; None when there is none."""
        _, rows = self._transact(CLAIM, (worker, time.time() + lease_seconds))
        if not rows:
            return None
        task_id, type, priority, payload, attempts = rows[0]
        return PlainTask(task_id, type, priority, json.loads(payload), attempts, worker)

    def complete(self, task: PlainTask) -> None:
        """Record that the task is done; LookupError when it is no longer the worker's."""
        cursor, _ = self._transact(COMPLETE, (task.id, task.worker, task.attempts))
        if cursor.rowcount != 1:
            raise LookupError(f"task {task.id} is no longer {task.worker}'s")

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _transact(self, statement: str, parameters: tuple[Any, ...]) -> tuple[sqlite3.Cursor, list[tuple[Any, ...]]]:
        """The cursor and all rows of one statement in a transaction."""
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            cursor = connection.execute(statement, parameters)
            rows = cursor.fetchall()
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise PlainQueueBusyError(str(error)) from error
            raise
        return cursor, rows


def create(path: Path) -> None:
    """A new file with the schema, in WAL mode: one process does that, before others open it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA)
    connection.close()


def rows(path: Path) -> list[Row]:
    """Every task of the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    found = [Row(*row) for row in connection.execute("SELECT id, priority, status, attempts FROM task")]
    connection.close()
    return found
