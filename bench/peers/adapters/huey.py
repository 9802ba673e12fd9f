"""huey on SQLite: a claim deletes the row, so a worker that dies takes its task with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huey import SqliteHuey

from bench.peers.adapter import Adapter, Claimed, Task

FIRST_DELAY, BACKOFF, LONGEST_DELAY = 0.1, 1.15, 10.0
"""Seconds and factor: the defaults of huey's consumer."""


class Queue(Adapter):
    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        Queue(folder, durability).close()
        yield

    def __init__(self, folder: Path, durability: str) -> None:
        logging.getLogger("huey").setLevel(logging.WARNING)
        self._huey: Any = SqliteHuey("bench", filename=str(folder / "queue.db"), results=False)
        self._run: Any = self._huey.task(name="run")(_nothing)
        self._delay = FIRST_DELAY

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return {name: self._huey.storage.sql(f"PRAGMA {name}", results=True)[0][0] for name in names}

    def enqueue(self, task: Task) -> None:
        self._run(task)

    def claim(self) -> Claimed | None:
        found = self._huey.dequeue()
        return None if found is None else (found.args[0], found)

    def complete(self, handle: Any) -> None:
        self._huey.execute(handle)

    def wait(self, seconds: float) -> Claimed | None:
        gives_up_at = time.perf_counter() + seconds
        while (claimed := self.claim()) is None and time.perf_counter() < gives_up_at:
            time.sleep(self._delay)
            self._delay = min(LONGEST_DELAY, self._delay * BACKOFF)
        if claimed is not None:
            self._delay = FIRST_DELAY
        return claimed

    def fill(self, tasks: Iterator[Task]) -> None:
        storage = self._huey.storage
        rows = ((storage.name, storage.to_blob(self._huey.serialize_task(self._run.s(task))), 0) for task in tasks)
        with storage.db(commit=True) as cursor:
            cursor.executemany("insert into task (queue, data, priority) values (?, ?, ?)", rows)

    def left(self) -> int:
        return int(self._huey.storage.queue_size())

    def close(self) -> None:
        self._huey.storage.close()


def _nothing(task: Task) -> None:
    """The handler: what it does is not the queue's."""
