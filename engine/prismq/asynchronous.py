"""Runs what blocks in a thread, so that no event loop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from prismq.errors import QueueDatabaseError
from prismq.idle import Place

T = TypeVar("T")


class Stop:
    """Tells a waiting thread to end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._place: Place | None = None

    def set(self) -> None:
        with self._lock:
            self._stopped = True
            if self._place is not None:
                self._place.interrupt()

    def is_set(self) -> bool:
        return self._stopped

    @contextmanager
    def interrupting(self, place: Place) -> Iterator[None]:
        """Interrupt the place when told to stop, while the block runs or before."""
        with self._lock:
            self._place = place
            if self._stopped:
                place.interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._place = None


async def wait_in_thread(work: Callable[[Stop], T], give_back: Callable[[T], object]) -> T:
    """The result of `work`, which runs in a thread of its own and ends soon once told to stop.

    When the caller is cancelled, what `work` still returns is given back.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    stop = Stop()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            if error is None and result is not None:
                threading.Thread(target=_give_back, args=(give_back, result), name="prismq-give-back").start()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result, error = work(stop), None
        except BaseException as raised:
            result, error = None, raised
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            if result is not None:
                _give_back(give_back, result)

    threading.Thread(target=run, name="prismq-wait", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        stop.set()
        if not future.cancelled() and future.exception() is None:  # cancelled just as the result was there
            threading.Thread(target=_give_back, args=(give_back, future.result()), name="prismq-give-back").start()
        raise


def _give_back(give_back: Callable[[T], object], result: T) -> None:
    with suppress(QueueDatabaseError):  # the lease has run out, or will
        give_back(result)
