"""taskito: Rust; a scheduler in each worker process hands tasks to threads, and nobody can ask it for one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import taskito

from bench.peers.adapter import Adapter, Task

SYNCHRONOUS = re.compile(rb"PRAGMA synchronous ?= ?(OFF|NORMAL|FULL|EXTRA)")
JOURNAL_MODE = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode').fetchone()[0])"


class Queue(Adapter):
    pulls = False
    batches = True

    def __init__(self, folder: Path, durability: str) -> None:
        os.environ["TASKITO_LOG_LEVEL"] = "ERROR"  # otherwise a worker writes two lines a task
        self._file = folder / "queue.db"
        self._handle: Callable[[Task], None] | None = None
        # Polling ten times as often as it does by itself, and in batches: the figures are much the better for it.
        self._queue: Any = taskito.Queue(
            db_path=str(self._file),
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
        """Its connection can't be asked: the journal mode is the file's, synchronous what its module sets it to."""
        # From a process of its own: to close the file in this one would drop the locks that taskito holds on it.
        journal = subprocess.run(
            [sys.executable, "-c", JOURNAL_MODE, str(self._file)], capture_output=True, text=True, check=True
        ).stdout.strip()
        said = set(SYNCHRONOUS.findall(Path(str(taskito._taskito.__file__)).read_bytes()))
        synchronous = said.pop().decode() if len(said) == 1 else "not known"
        return {"journal_mode": f"{journal} (the file's)", "synchronous": f"{synchronous} (in its module's code)"}

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

    def completed(self) -> int:
        return int(self._queue.stats()["completed"])

    def close(self) -> None:
        pass
