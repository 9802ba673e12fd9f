"""litequeue: a table, a statement for each call; no lease, no waiting, no batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from litequeue import LiteQueue

from bench.peers.adapter import Adapter, Claimed, Task


class Queue(Adapter):
    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        Queue(folder, durability).close()  # who opens it first creates it
        yield

    def __init__(self, folder: Path, durability: str) -> None:
        self._queue: Any = LiteQueue(folder / "queue.db")

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return {name: self._queue.conn.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    def enqueue(self, task: Task) -> None:
        self._queue.put(json.dumps(task))

    def claim(self) -> Claimed | None:
        message = self._queue.pop()
        return None if message is None else (json.loads(message.data), message.message_id)

    def complete(self, handle: str) -> None:
        self._queue.done(handle)

    def fill(self, tasks: Iterator[Task]) -> None:
        with self._queue.transaction():
            super().fill(tasks)

    def left(self) -> int:
        return int(self._queue.conn.execute("SELECT count(*) FROM Queue WHERE status IN (0, 1)").fetchone()[0])

    def close(self) -> None:
        self._queue.conn.close()
