"""The few words that the processes of a run share.

Plain shared memory without locks: a process that is killed while it holds a lock would stop all the others.
"""

from __future__ import annotations

import ctypes
import time
from multiprocessing.context import SpawnContext

NOT_READY = -1
GRACE_SECONDS = 1.0


class Board:
    """The run's window (`time.perf_counter` seconds, one clock for all processes) and a progress count per seat."""

    def __init__(self, context: SpawnContext, seats: int) -> None:
        self._window: ctypes.Array[ctypes.c_double] = context.RawArray("d", [0.0, 0.0])
        self._counts: ctypes.Array[ctypes.c_longlong] = context.RawArray("q", [NOT_READY] * seats)

    @property
    def start(self) -> float:
        return self._window[0]

    @property
    def stop(self) -> float:
        return self._window[1]

    def open(self, start: float, seconds: float) -> None:
        """Let everybody start at `start`."""
        # The start goes last: nobody looks at the stop before it is there.
        self._window[1] = start + seconds
        self._window[0] = start

    def close(self) -> None:
        """End the run now, wherever it is."""
        self._window[1] = 0.0
        if not self._window[0]:
            self._window[0] = time.perf_counter()

    def ready(self, seat: int) -> None:
        """Say that this seat's process is opened and warmed, and wait for the start."""
        self._counts[seat] = max(0, self._counts[seat])
        while not self.start:
            time.sleep(0.001)
        while (left := self.start - time.perf_counter()) > 0 and not self.over():
            time.sleep(min(left, 0.01))

    def all_ready(self) -> bool:
        return NOT_READY not in self._counts[:]

    def count(self, seat: int) -> None:
        self._counts[seat] += 1

    def counts(self) -> list[int]:
        return [max(0, count) for count in self._counts[:]]

    def over(self) -> bool:
        """True when no new work is to be begun."""
        return time.perf_counter() >= self.stop

    def overdue(self) -> bool:
        """True when also the arrivals intended before the stop have had their chance."""
        return time.perf_counter() >= self.stop + GRACE_SECONDS
