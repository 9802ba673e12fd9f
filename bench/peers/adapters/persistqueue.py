"""persist-queue's SQLiteAckQueue: a claim is a SELECT, then an UPDATE in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persistqueue import Empty, SQLiteAckQueue

from bench.peers.adapter import Adapter, Claimed, Task


class Queue(Adapter):
    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        Queue(folder, durability).close()  # two that create it at once fail
        yield

    def __init__(self, folder: Path, durability: str) -> None:
        self._queue: Any = SQLiteAckQueue(str(folder), multithreading=True, auto_resume=False)

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return {name: self._queue._putter.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    def enqueue(self, task: Task) -> None:
        self._queue.put(task)

    def claim(self) -> Claimed | None:
        try:
            item = self._queue.get(block=False, raw=True)
        except Empty:
            return None
        return item["data"], item["pqid"]

    def complete(self, handle: int) -> None:
        self._queue.ack(id=handle)

    def fill(self, tasks: Iterator[Task]) -> None:
        self._queue._putter.execute("PRAGMA synchronous = OFF")
        super().fill(tasks)
        self._queue._putter.execute("PRAGMA synchronous = FULL")

    def left(self) -> int:
        query = "SELECT count(*) FROM ack_queue_default WHERE status < 5"
        return int(self._queue._getter.execute(query).fetchone()[0])

    def close(self) -> None:
        self._queue.close()
