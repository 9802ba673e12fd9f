"""The queue written by hand on the standard library's sqlite3."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import plain_queue
from bench.peers.adapter import Adapter, Claimed, Task

TYPE, PRIORITY = "bench", 50
LEASE_SECONDS = 60.0


class Queue(Adapter):
    batches = True

    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        plain_queue.create(folder / "queue.db")
        yield

    def __init__(self, folder: Path, durability: str) -> None:
        self._queue = plain_queue.PlainQueue(folder / "queue.db", durability.upper())
        self._worker = f"worker-{os.getpid()}"

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return {name: self._queue.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    def enqueue(self, task: Task) -> None:
        self._queue.enqueue(TYPE, task, priority=PRIORITY)

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        self._queue.connection.execute("BEGIN IMMEDIATE")
        now = time.time()
        rows = ((TYPE, PRIORITY, json.dumps(task), now) for task in tasks)
        self._queue.connection.executemany(plain_queue.ENQUEUE, rows)
        self._queue.connection.execute("COMMIT")

    def claim(self) -> Claimed | None:
        task = self._queue.claim(self._worker, lease_seconds=LEASE_SECONDS)
        return None if task is None else (task.payload, task)

    def complete(self, handle: plain_queue.PlainTask) -> None:
        self._queue.complete(handle)

    def left(self) -> int:
        query = "SELECT count(*) FROM task WHERE status IN ('queued', 'processing')"
        return int(self._queue.connection.execute(query).fetchone()[0])

    def close(self) -> None:
        self._queue.close()
