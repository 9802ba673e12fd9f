"""How soon after an enqueue another process had the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bench.journal import Operation, Outcome, Records

PERCENTILES = (50.0, 90.0, 99.0, 100.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds. Negative where a worker had its task before the producer's own call was back."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, microseconds: Sequence[float]) -> Self:
        if not len(microseconds):
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        return cls(len(microseconds), *(float(value) for value in np.percentile(microseconds, PERCENTILES)))


@dataclass(frozen=True, slots=True)
class Reactions:
    """Of the tasks claimed in time, in the order of their enqueues; the lists hold microseconds."""

    since_commit: list[float]
    since_call: list[float]
    missed: int

    @classmethod
    def of(cls, records: Records, warm: int, missed_seconds: float) -> Self:
        """Without the first `warm` tasks; a task not claimed within `missed_seconds` of its commit was missed."""
        done = records[records["outcome"] == Outcome.DONE]
        enqueues = done[done["operation"] == Operation.ENQUEUE][warm:]
        claims = done[done["operation"] == Operation.CLAIM]
        _, enqueued, claimed = np.intersect1d(enqueues["task_id"], claims["task_id"], return_indices=True)
        ended = claims["ended"][claimed]
        since_commit: npt.NDArray[Any] = ended - enqueues["ended"][enqueued]
        since_call: npt.NDArray[Any] = ended - enqueues["started"][enqueued]
        in_time = since_commit <= missed_seconds
        return cls(
            (since_commit[in_time] * 1e6).tolist(),
            (since_call[in_time] * 1e6).tolist(),
            len(enqueues) - int(np.count_nonzero(in_time)),
        )

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        return cls(
            [value for part in parts for value in part.since_commit],
            [value for part in parts for value in part.since_call],
            sum(part.missed for part in parts),
        )

    @property
    def commit_to_claimed(self) -> Spread:
        return Spread.of(self.since_commit)

    @property
    def call_to_claimed(self) -> Spread:
        return Spread.of(self.since_call)
