"""localqueue: a Rust module with its own SQLite; leases with receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from localqueue import DeliveryPolicy, DurabilityMode, Empty, SimpleQueue

from bench.peers.adapter import Adapter, Claimed, Task


class Queue(Adapter):
    batches = True

    def __init__(self, folder: Path, durability: str) -> None:
        mode = DurabilityMode.DURABLE if durability == "full" else DurabilityMode.RELAXED
        self._queue: Any = SimpleQueue(str(folder), delivery=DeliveryPolicy(lease_seconds=60), durability=mode)

    def settings(self) -> Mapping[str, object]:
        found = self._queue.diagnostics()
        facts: dict[str, object] = asdict(found) if is_dataclass(found) and not isinstance(found, type) else dict(found)
        return {name: facts[name] for name in ("journal_mode", "synchronous", "busy_timeout_ms") if name in facts}

    def enqueue(self, task: Task) -> None:
        self._queue.put(task)

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        self._queue.put_many(tasks)

    def claim(self) -> Claimed | None:
        return self.wait(0.0)  # block=False would take a locked file for an empty one

    def wait(self, seconds: float) -> Claimed | None:
        try:
            job = self._queue.get(timeout=seconds)
        except Empty:
            return None
        return job.data, job

    def complete(self, handle: Any) -> None:
        self._queue.ack(handle)

    def left(self) -> int:
        stats = self._queue.stats()
        return int(stats["ready"] + stats["processing"])

    def close(self) -> None:
        self._queue.close()
