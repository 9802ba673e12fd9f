"""Percentiles over all samples, neither sampled nor bucketed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bench.journal import Operation, Outcome, Records

PERCENTILES = (50.0, 95.0, 99.0, 99.9)
CURVE_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99999)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of `count` calls; `rate` is calls per second of the window. All zero when there were none."""

    count: int
    rate: float
    p50: float
    p95: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, seconds: npt.NDArray[Any], window: float) -> Self:
        if not len(seconds):
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p95, p99, p99_9 = (float(value) for value in np.percentile(seconds, PERCENTILES) * 1000)
        return cls(len(seconds), len(seconds) / window, p50, p95, p99, p99_9, float(seconds.max()) * 1000)


@dataclass(frozen=True, slots=True)
class Curve:
    """Milliseconds that these shares of the calls took no longer than, for plots; the longest is in Latency."""

    shares: list[float]
    ms: list[float]

    @classmethod
    def of(cls, seconds: npt.NDArray[Any]) -> Self:
        """As far as there are calls to tell: the last share leaves out at least one of them."""
        shares = [share for share in CURVE_SHARES if share <= 1 - 1 / max(1, len(seconds))]
        return cls(shares, [float(value) * 1000 for value in np.quantile(seconds, shares)] if shares else [])


def latencies(records: Records, start: float, stop: float) -> dict[str, Latency]:
    """The calls that were due inside the window, by name. Arrivals that never got their turn count at their age."""
    return {name: Latency.of(seconds, stop - start) for name, seconds in durations(records, start, stop).items()}


def durations(records: Records, start: float, stop: float) -> dict[str, npt.NDArray[Any]]:
    """Seconds of each of these calls, by name."""
    within = records[(records["intended"] >= start) & (records["intended"] < stop)]
    done = within[within["outcome"] == Outcome.DONE]
    enqueues = done[done["operation"] == Operation.ENQUEUE]
    claims = done[done["operation"] == Operation.CLAIM]
    completes = done[done["operation"] == Operation.COMPLETE]
    arrivals = np.concatenate([enqueues, within[within["outcome"] == Outcome.MISSED]])
    return {
        "enqueue": arrivals["ended"] - arrivals["intended"],
        "claim": claims["ended"] - claims["intended"],
        "complete": completes["ended"] - completes["intended"],
        "enqueue call": enqueues["ended"] - enqueues["started"],
        "producer woken late": wakings(enqueues),
        "arrival to claim": waits(enqueues, claims),
    }


def wakings(enqueues: Records) -> npt.NDArray[Any]:
    """Seconds after the intended arrival that a producer began its call although its last one was over by then.

    That is the sleep overrunning on a busy machine, not the queue. The enqueues are in the order of their files; the
    first of a file is left out, as the last of the file before it ended later.
    """
    idle = enqueues["intended"][1:] > enqueues["ended"][:-1]
    seconds: npt.NDArray[Any] = (enqueues["started"] - enqueues["intended"])[1:][idle]
    return seconds


def waits(enqueues: Records, claims: Records) -> npt.NDArray[Any]:
    """Seconds from each task's intended arrival to the end of its first claim, for the tasks that were claimed."""
    first = claims[claims["attempt"] == 1]
    _, arrived, claimed = np.intersect1d(enqueues["task_id"], first["task_id"], return_indices=True)
    seconds: npt.NDArray[Any] = first["ended"][claimed] - enqueues["intended"][arrived]
    return seconds
