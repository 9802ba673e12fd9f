"""What a process uses of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Moment:
    """What a process has used until `at` (`time.perf_counter` seconds)."""

    at: float
    cpu_seconds: float
    switches: int

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        return cls(perf_counter(), cpu_seconds(process), int(process.num_ctx_switches().voluntary))


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time of the whole process, and how often it waited in the kernel: on Linux its main thread, which waits."""

    cpu_percent: float
    switches_per_second: float

    @classmethod
    def between(cls, begin: Moment, end: Moment) -> Self:
        seconds = end.at - begin.at
        return cls((end.cpu_seconds - begin.cpu_seconds) * 100 / seconds, (end.switches - begin.switches) / seconds)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of all threads: in nanoseconds from Linux, elsewhere as psutil has it."""
    # psutil has whole ticks of 10 ms, user and system each cut off: in 20 s, 0.1 % of a core either way.
    try:
        threads = [path.read_text().split() for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    except OSError:
        threads = []
    if threads:
        return sum(int(on_cpu) for on_cpu, *_ in threads) / 1e9
    times = process.cpu_times()
    return times.user + times.system
