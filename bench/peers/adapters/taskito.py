"""taskito: Rust; a scheduler in each worker process hands tasks to threads, and nobody can ask it for one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import taskito

from bench.peers.adapter import Adapter, Task


class Queue(Adapter):
    pulls = False
    batches = True

    def __init__(self, folder: Path, durability: str) -> None:
        logging.getLogger("taskito").setLevel(logging.ERROR)
        self._handle: Callable[[Task], None] | None = None
        # Polling ten times as often as it does by itself, and in batches: the figures are much the better for it.
        self._queue: Any = taskito.Queue(
            db_path=str(folder / "queue.db"),
            workers=1,
            scheduler_poll_interval_ms=5,
            scheduler_batch_size=64,
            push_dispatch=True,
        )
        self._run: Any = self._queue.task(name="run")(self._called)

    def _called(self, task: Task) -> None:
        assert self._handle is not None
        self._handle(task)

    def settings(self) -> Mapping[str, object]:
        return {"journal_mode": "not reachable", "synchronous": "not reachable"}

    def enqueue(self, task: Task) -> None:
        self._run.delay(task)

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        self._queue.enqueue_many("run", [(task,) for task in tasks])

    def attend(self, handle: Callable[[Task], None], over: Callable[[], bool]) -> None:
        self._handle = handle

        def stop_when_over() -> None:
            while not over():
                time.sleep(0.02)
            self._queue._inner.request_shutdown()

        threading.Thread(target=stop_when_over, daemon=True).start()
        self._queue.run_worker()

    def left(self) -> int:
        stats = self._queue.stats()
        return int(stats["pending"] + stats["running"])

    def close(self) -> None:
        pass
