"""What the parent of a soak sees from outside, ten times a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Sample:
    """`seconds` since the start; tasks enqueued and completed so far."""

    seconds: float
    phase: str
    wal_bytes: int
    enqueued: int
    completed: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `begin` to `end` (seconds): the largest WAL, tasks per second, and the phase at the end."""

    begin: float
    end: float
    phase: str
    wal_bytes: int
    enqueued: float
    completed: float


def stretches(samples: Sequence[Sample], key: Callable[[Sample], object]) -> list[Stretch]:
    """Samples that follow each other with the same `key`, each stretch from the last sample of the one before it."""
    found = []
    before = Sample(0.0, "", 0, 0, 0)
    for _, group in groupby(samples, key):
        stretch = list(group)
        last = stretch[-1]
        seconds = last.seconds - before.seconds
        found.append(
            Stretch(
                before.seconds,
                last.seconds,
                last.phase,
                max(sample.wal_bytes for sample in stretch),
                (last.enqueued - before.enqueued) / seconds if seconds else 0.0,
                (last.completed - before.completed) / seconds if seconds else 0.0,
            )
        )
        before = last
    return found
