"""Runs what blocks in a thread, so that no event loop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

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


class _Handing(Generic[T]):
    """A result on its way from a thread to a coroutine: one of the two has it, or it is given back."""

    def __init__(self, give_back: Callable[[T], object]) -> None:
        self._give_back = give_back
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._unwanted = False

    def put(self, result: T) -> None:
        """The thread's end."""
        with self._lock:
            if not self._unwanted:
                self._results.append(result)
                return
        self._return(result)

    def take(self) -> T:
        """The coroutine's end, when the result is there."""
        with self._lock:
            return self._results.pop()

    def refuse(self) -> None:
        """The coroutine's other end; does not block."""
        for result in self._drop():
            threading.Thread(target=self._return, args=(result,), name="prismq-give-back").start()

    def take_back(self) -> None:
        """The thread's other end, when nobody is there any more."""
        for result in self._drop():
            self._return(result)

    def _drop(self) -> list[T]:
        with self._lock:
            self._unwanted = True
            results, self._results = self._results, []
        return results

    def _return(self, result: T) -> None:
        with suppress(QueueDatabaseError):  # the lease has run out, or will
            self._give_back(result)


async def wait_in_thread(work: Callable[[Stop], T], give_back: Callable[[T], object]) -> T:
    """The result of `work`, which runs in a thread of its own and ends soon once told to stop.

    When the caller is cancelled, or its loop ends, what `work` still returns is given back.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = Stop()
    handing = _Handing(give_back)

    def tell(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        error = None
        try:
            handing.put(work(stop))
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(tell, error)
        except RuntimeError:  # the loop is closed
            handing.take_back()

    threading.Thread(target=run, name="prismq-wait", daemon=True).start()
    try:
        await ended
        return handing.take()
    except BaseException:
        stop.set()
        handing.refuse()
        raise
