"""When tasks are meant to arrive.

A latency counted from the arrival that was intended includes the wait for a stalled predecessor; counted from the
moment the call could finally be made it would not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """One producer's share of a fixed rate: producer `index` of `producers`, arrivals interleaved evenly.

    With a `burst` so many arrivals, over all producers, are due at the same moment, at the same rate on the whole.
    """

    rate: float
    seconds: float
    index: int
    producers: int
    burst: int = 1

    def __len__(self) -> int:
        return max(0, math.ceil((self.rate * self.seconds - self.index) / self.producers))

    def arrivals(self, start: float) -> Iterator[float]:
        """Intended arrival times in seconds on the clock that `start` was read from."""
        for number in range(len(self)):
            place = number * self.producers + self.index
            yield start + (place - place % self.burst) / self.rate


def wait_until(moment: float) -> None:
    """Sleep until `moment` (`time.perf_counter` seconds); returns at once when it has passed."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
