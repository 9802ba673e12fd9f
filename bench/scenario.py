"""What one run does: how many processes, how long, how loaded."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from prismq import Task, TaskQueue

Durability = Literal["normal", "full"]
Driver = Literal["auto", "native", "python"]

TASK_TYPE = "bench"
PRIORITIES = (50, 10, 90, 30, 70)
SMALLEST_PAYLOAD = len(json.dumps({"format": "mp4", "body": ""}))


DELAYED_EVERY = 4
"""Of the tasks of a load with delays, every so manieth is delayed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a task is enqueued with, besides its priority."""

    type: str
    payload: dict[str, str]
    run_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load on one queue file.

    - `rate`: tasks per second over all producers; None means as fast as it goes. They arrive `burst` at a time.
    - `payload_sizes`, `types`: what tasks have in turn, instead of `payload_bytes` and the one type.
    - `delay_seconds`: one in DELAYED_EVERY tasks is to run only so much later.
    - `failing_every`: the first attempt at one in so many tasks fails; 0 for none.
    - `backlog`: tasks that are there before the window opens.
    - `held`: a reader keeps a snapshot through the middle third of the window, so that no checkpoint ends the WAL.
    """

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
    burst: int = 1
    payload_sizes: tuple[int, ...] = ()
    types: tuple[str, ...] = (TASK_TYPE,)
    delay_seconds: float = 0.0
    failing_every: int = 0
    backlog: int = 0
    held: bool = False

    def open(self, path: Path) -> TaskQueue:
        """A queue on `path`, as every process of the run opens it."""
        return TaskQueue(path, durability=self.durability, group_commit=self.group_commit, driver=self.driver)

    @property
    def has_order(self) -> bool:
        """Whether (priority, id) says which task comes next: what is due later is let in as it becomes due."""
        return not (self.delay_seconds or self.failing_every)

    def payload(self) -> dict[str, str]:
        """A payload whose JSON text has `payload_bytes` bytes."""
        return _payload(self.payload_bytes)

    def kinds(self) -> list[Kind]:
        """What the tasks are, in turn."""
        payloads = [_payload(size) for size in self.payload_sizes or (self.payload_bytes,)]
        delays = (
            [timedelta(seconds=self.delay_seconds), *[None] * (DELAYED_EVERY - 1)] if self.delay_seconds else [None]
        )
        turns = math.lcm(len(self.types), len(payloads), len(delays))
        return [
            Kind(self.types[number % len(self.types)], payloads[number % len(payloads)], delays[number % len(delays)])
            for number in range(turns)
        ]

    def fails(self, task: Task) -> bool:
        """Whether the handler of this attempt fails."""
        assert task.id is not None
        return self.failing_every > 0 and task.attempts == 1 and task.id % self.failing_every == 0


def _payload(size: int) -> dict[str, str]:
    return {"format": "mp4", "body": "x" * (size - SMALLEST_PAYLOAD)}
