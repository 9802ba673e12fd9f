"""How many idle workers a burst of tasks wakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from bench.journal import Operation, Outcome, Records


@dataclass(frozen=True, slots=True)
class Herd:
    """`wakes` and `empty` have a figure for each burst: waits that ended, and those of them that found nothing.

    A burst's wakes are those up to the next burst. `sleeps` is how often the workers' threads waited in the kernel.
    """

    workers: int
    tasks: int
    wakes: list[int]
    empty: list[int]
    unclaimed: int
    sleeps: int

    @classmethod
    def of(cls, records: Records, workers: int, tasks: int, ended: float, sleeps: int) -> Self:
        """From the journals, for bursts of `tasks` tasks, the last of which lasted until `ended`."""
        enqueues = records[records["operation"] == Operation.ENQUEUE]
        claims = records[records["operation"] == Operation.CLAIM]
        claims = claims[claims["started"] < ended]
        nothing = claims[claims["outcome"] == Outcome.EMPTY]
        begun = np.unique(enqueues["started"])
        unclaimed = np.setdiff1d(enqueues["task_id"], claims["task_id"])
        return cls(workers, tasks, _by_burst(begun, claims), _by_burst(begun, nothing), len(unclaimed), sleeps)

    @property
    def wakes_per_burst(self) -> float:
        return self._per_burst(sum(self.wakes))

    @property
    def empty_per_burst(self) -> float:
        return self._per_burst(sum(self.empty))

    @property
    def sleeps_per_burst(self) -> float:
        return self._per_burst(self.sleeps)

    def _per_burst(self, total: int) -> float:
        return total / len(self.wakes) if self.wakes else 0.0


def _by_burst(begun: Records, claims: Records) -> list[int]:
    bursts = np.searchsorted(begun, claims["started"], side="right") - 1
    counts: list[int] = np.bincount(bursts[bursts >= 0], minlength=len(begun)).tolist()
    return counts
