"""What one run does: how many processes, how long, how loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prismq import TaskQueue

Durability = Literal["normal", "full"]
Driver = Literal["auto", "native", "python"]

TASK_TYPE = "bench"
PRIORITIES = (50, 10, 90, 30, 70)
SMALLEST_PAYLOAD = len(json.dumps({"format": "mp4", "body": ""}))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load on one queue file. `rate` is tasks per second over all producers; None means as fast as it goes."""

    producers: int = 2
    workers: int = 2
    seconds: float = 10.0
    durability: Durability = "normal"
    driver: Driver = "auto"
    payload_bytes: int = 200
    lease_seconds: float = 60.0
    kill_seconds: float | None = None
    rate: float | None = None
    group_commit: bool = True

    def open(self, path: Path) -> TaskQueue:
        """A queue on `path`, as every process of the run opens it."""
        return TaskQueue(path, durability=self.durability, group_commit=self.group_commit, driver=self.driver)

    def payload(self) -> dict[str, str]:
        """A payload whose JSON text has `payload_bytes` bytes."""
        return {"format": "mp4", "body": "x" * (self.payload_bytes - SMALLEST_PAYLOAD)}
