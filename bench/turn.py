"""What one side did in one round, and what that comes to over the rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np

from bench.journal import Operation, Outcome, Records, read_journals
from bench.latency import Latency, latencies
from bench.trace import Trace


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's turn: latencies of the calls made inside the window, and how they fell to the processes.

    `enqueued` and `completed` are calls of each producer and each worker, `busy` calls that SQLITE_BUSY ended.
    """

    latency: dict[str, Latency]
    enqueued: list[int]
    completed: list[int]
    busy: int
    wal_bytes: int

    @classmethod
    def of(cls, trace: Trace) -> Self:
        records = read_journals(trace.journals)

        def served(journals: Sequence[Path], operation: Operation) -> list[int]:
            return [_done(read_journals([journal]), operation, trace.start, trace.stop) for journal in journals]

        return cls(
            latencies(records, trace.start, trace.stop),
            served(trace.producers, Operation.ENQUEUE),
            served(trace.workers, Operation.COMPLETE),
            int(np.count_nonzero(records["outcome"] == Outcome.BUSY)),
            trace.wal_bytes,
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the turns of a side; `longest_of_all` and `busy` are of all turns together.

    Rates are calls per second, times are milliseconds of an enqueue. A split is calls of the most served process to
    those of the least served one.
    """

    enqueued: float
    completed: float
    completed_share: float
    p50: float
    p99: float
    p99_9: float
    longest: float
    longest_of_all: float
    producer_split: float
    worker_split: float
    busy: int

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Self:
        def middle(figure: Callable[[Turn], float]) -> float:
            return median(figure(turn) for turn in turns)

        return cls(
            enqueued=middle(lambda turn: turn.latency["enqueue"].rate),
            completed=middle(lambda turn: turn.latency["complete"].rate),
            completed_share=middle(lambda turn: ratio(turn.latency["complete"].rate, turn.latency["enqueue"].rate)),
            p50=middle(lambda turn: turn.latency["enqueue"].p50),
            p99=middle(lambda turn: turn.latency["enqueue"].p99),
            p99_9=middle(lambda turn: turn.latency["enqueue"].p99_9),
            longest=middle(lambda turn: turn.latency["enqueue"].max),
            longest_of_all=max(turn.latency["enqueue"].max for turn in turns),
            producer_split=middle(lambda turn: split(turn.enqueued)),
            worker_split=middle(lambda turn: split(turn.completed)),
            busy=sum(turn.busy for turn in turns),
        )


@dataclass(frozen=True, slots=True)
class Ratios:
    """One side's figures : the other's, round by round, so that a slow minute is in both or in neither."""

    values: list[float]

    @classmethod
    def between(cls, rounds: Sequence[Mapping[str, Any]], one: str, other: str, field: str) -> Self:
        """0 for a round in which there is nothing to compare with. Each round has the figures of its sides by name."""
        return cls([ratio(getattr(sides[one], field), getattr(sides[other], field)) for sides in rounds])

    @property
    def middle(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        """The median, and of several the least and the largest."""
        spread = f" ({min(self.values):.2f} to {max(self.values):.2f})" if len(self.values) > 1 else ""
        return f"{self.middle:.2f}{spread}"

    @property
    def cell(self) -> str:
        """Of a table, where nothing to compare with is no 0."""
        return str(self) if any(self.values) else "-"


def middle(rounds: Sequence[Mapping[str, Any]], side: str, field: str) -> float:
    """The median of a side's figures."""
    found: float = median(getattr(sides[side], field) for sides in rounds)
    return found


def split(served: Sequence[int]) -> float:
    """Most : least served; 0 when there was nobody or nobody got anything, and one who got nothing counts as 1."""
    return max(served, default=0) / max(1, min(served, default=0))


def ratio(one: float, other: float) -> float:
    """0 when there is nothing to compare with."""
    return one / other if other else 0.0


def _done(records: Records, operation: Operation, start: float, stop: float) -> int:
    of_kind = records[(records["operation"] == operation) & (records["outcome"] == Outcome.DONE)]
    moments: Any = of_kind["intended"]
    return int(np.count_nonzero((moments >= start) & (moments < stop)))
