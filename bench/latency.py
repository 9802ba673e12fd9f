"""Percentiles over all samples, neither sampled nor bucketed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bench.journal import Operation, Outcome, Records

PERCENTILES = (50.0, 95.0, 99.0, 99.9)


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


def latencies(records: Records, start: float, stop: float) -> dict[str, Latency]:
    """The calls that were due inside the window, by name. Arrivals that never got their turn count at their age."""
    window = stop - start
    within = records[(records["intended"] >= start) & (records["intended"] < stop)]
    done = within[within["outcome"] == Outcome.DONE]
    enqueues = done[done["operation"] == Operation.ENQUEUE]
    claims = done[done["operation"] == Operation.CLAIM]
    completes = done[done["operation"] == Operation.COMPLETE]
    arrivals = np.concatenate([enqueues, within[within["outcome"] == Outcome.MISSED]])
    return {
        "enqueue": Latency.of(arrivals["ended"] - arrivals["intended"], window),
        "claim": Latency.of(claims["ended"] - claims["intended"], window),
        "complete": Latency.of(completes["ended"] - completes["intended"], window),
        "enqueue call": Latency.of(enqueues["ended"] - enqueues["started"], window),
        "producer woken late": Latency.of(wakings(enqueues), window),
        "arrival to claim": Latency.of(waits(enqueues, claims), window),
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
