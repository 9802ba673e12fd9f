"""The lock that gives one thread at a time the use of a connection."""

from __future__ import annotations

import threading

from prismq.errors import QueueBusyError, QueueProgrammingError


class ConnectionLock:
    """A re-entrant lock whose `with` waits at most `timeout` seconds and refuses a connection that is gone.

    Raises QueueBusyError after the wait, QueueProgrammingError with the text of `refusal` when that is set.
    """

    __slots__ = ("acquire", "name", "refusal", "release", "timeout")

    def __init__(self, name: str, timeout: float, refusal: str | None = None) -> None:
        lock = threading.RLock()
        self.acquire = lock.acquire
        self.release = lock.release
        self.name = name
        self.timeout = timeout
        self.refusal = refusal

    def __enter__(self) -> None:
        # Every operation of the queue passes here: a try without a timeout costs half of one with it.
        if not self.acquire(False) and not self.acquire(True, self.timeout):
            raise QueueBusyError(
                f"the connection to {self.name} is locked by another thread's transaction: waited "
                f"{self.timeout:.1f} s; keep transactions short, or give each thread a QueueDatabase of its own"
            )
        if self.refusal is not None:
            self.release()
            raise QueueProgrammingError(self.refusal)

    def __exit__(self, *exception: object) -> None:
        self.release()
