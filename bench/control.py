"""A call that has nothing of the queue in it: what the operating system does to any call of that length."""

from __future__ import annotations

import time
from statistics import median
from time import perf_counter

CONTROL_SECONDS = 60e-6
"""What a control call takes when nothing disturbs it: about as long as an enqueue, rather less."""
SAMPLE_TURNS = 2_000
SAMPLES = 200


def spin(turns: int) -> None:
    """The control call."""
    for _ in range(turns):
        pass


def control_turns() -> int:
    """Turns of `spin` that take CONTROL_SECONDS on this machine, with nothing else to do."""
    return max(1, round(SAMPLE_TURNS * CONTROL_SECONDS / median(_sample() for _ in range(SAMPLES))))


def _sample() -> float:
    time.sleep(0.001)  # as a producer does before its control call: a processor just woken is slower
    started = perf_counter()
    spin(SAMPLE_TURNS)
    return perf_counter() - started
