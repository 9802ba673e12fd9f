"""honker: claims are UPDATE ... RETURNING in Rust, and a thread asks for data_version each millisecond."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import honker

from bench.peers.adapter import Adapter, Claimed, Task


class Queue(Adapter):
    batches = True

    def __init__(self, folder: Path, durability: str) -> None:
        self._database: Any = honker.open(str(folder / "queue.db"))
        self._queue: Any = self._database.queue("bench")
        self._worker = f"worker-{os.getpid()}"
        self._loop = asyncio.new_event_loop()
        self._waiting: asyncio.Task[Any] | None = None

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return {name: next(iter(self._database.query(f"PRAGMA {name}")[0].values())) for name in names}

    def enqueue(self, task: Task) -> None:
        self._queue.enqueue(task)

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        with self._database.transaction() as transaction:
            for task in tasks:
                self._queue.enqueue(task, tx=transaction)

    def claim(self) -> Claimed | None:
        job = self._queue.claim_one(self._worker)
        return None if job is None else (job.payload, job)

    def complete(self, handle: Any) -> None:
        if not handle.ack():
            raise LookupError("the claim had expired")

    def wait(self, seconds: float) -> Claimed | None:
        return self._loop.run_until_complete(self._next(seconds))

    async def _next(self, seconds: float) -> Claimed | None:
        # Kept when nothing came in time: to cancel it could lose a job that it has just claimed.
        if self._waiting is None:
            self._waiting = self._loop.create_task(self._first())
        with suppress(asyncio.TimeoutError):
            job = await asyncio.wait_for(asyncio.shield(self._waiting), seconds)
            self._waiting = None
            return job.payload, job
        return None

    async def _first(self) -> Any:
        if not hasattr(self, "_jobs"):
            self._jobs = aiter(self._queue.claim(self._worker))
        return await anext(self._jobs)

    def left(self) -> int:
        return int(self._database.query("SELECT count(*) AS n FROM _honker_live WHERE queue = 'bench'")[0]["n"])

    def close(self) -> None:
        pass
