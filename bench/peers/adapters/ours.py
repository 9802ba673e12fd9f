"""prismq itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bench.peers.adapter import Adapter, Claimed, Task
from prismq import Task as OurTask
from prismq import TaskQueue
from prismq.settings import Durability

TYPE = "bench"


class Queue(Adapter):
    batches = True

    def __init__(self, folder: Path, durability: str) -> None:
        self._queue = TaskQueue(folder / "queue.db", durability=cast(Durability, durability))
        self._worker = f"worker-{os.getpid()}"

    def settings(self) -> Mapping[str, object]:
        read = self._queue.database.execute
        names = ("journal_mode", "synchronous")
        return {name: read(f"PRAGMA {name}").fetchone()[0] for name in names} | {"driver": self._queue.driver_name}

    def enqueue(self, task: Task) -> None:
        self._queue.enqueue(TYPE, task)

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        self._queue.enqueue_many([{"type": TYPE, "payload": task} for task in tasks])

    def claim(self) -> Claimed | None:
        return self.wait(0.0)

    def wait(self, seconds: float) -> Claimed | None:
        task = self._queue.claim(self._worker, wait=seconds)
        return None if task is None else (task.get_payload_dict(), task)

    def complete(self, handle: OurTask) -> None:
        self._queue.complete(handle)

    def left(self) -> int:
        query = "SELECT count(*) FROM task_queue WHERE status IN ('queued', 'processing')"
        row: Any = self._queue.database.execute(query).fetchone()
        return int(row[0])

    def close(self) -> None:
        self._queue.close()
