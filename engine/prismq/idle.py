"""How an idle worker waits for a task: asleep in the kernel, at a place of its own, until it is called."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakSet

from prismq import native
from prismq.driver import Claim

LONGEST_SLEEP_SECONDS: Final = 0.5
"""So soon a signal that came right before falling asleep is handled."""
SHORTEST_POLL_SECONDS: Final = 0.001
LONGEST_POLL_SECONDS: Final = 0.02
"""Where nobody can call, a waiter looks for a task in steps that grow from the one to the other."""
_NO_CAPABILITIES: Final = b"{}"


class Place(Protocol):
    """Where one thread waits for tasks that a claim of its would get."""

    def arm(self) -> None:
        """Be called from now on; then look once more for a task before sleeping."""

    def sleep(self, seconds: float) -> bool:
        """Sleep until called, at most that long; whether it is time to look for a task."""

    def interrupt(self) -> None:
        """End the sleep of another thread, now and for ever."""

    def leave(self, served: bool) -> None:
        """Be called no more. Unless `served`, a call since the last `arm` goes on to another worker."""


def take_place(database: Path, wanted: Claim) -> Place:
    """A place to wait for such a claim."""
    module = native.load()
    return PollingPlace() if module is None else CalledPlace(database, wanted, module)


class CalledPlace:
    """Sleeps until a commit, in whichever process, makes a fitting task claimable."""

    def __init__(self, database: Path, wanted: Claim, module: Any) -> None:
        ffi, self._lib = module.ffi, module.lib
        names = [] if wanted.types is None else json.loads(wanted.types)
        encoded = [name.encode() for name in names]
        self._types = ffi.new("uint64_t[]", [self._lib.prismq_type_hash(name, len(name)) for name in encoded])
        self._count = len(encoded)
        self._offers = wanted.capabilities != _NO_CAPABILITIES
        opened = self._lib.prismq_room_open(str(database).encode())
        if opened == ffi.NULL:
            raise MemoryError("no memory to wait in")
        self._room = ffi.gc(opened, self._lib.prismq_room_close)
        self._release = ffi.release
        _places.add(self)
        self._lock = threading.Lock()  # a sleeping thread does not hold it
        self._interrupted = False
        self._polling: PollingPlace | None = None

    def arm(self) -> None:
        with self._lock:
            armed = self._lib.prismq_room_arm(self._room, self._types, self._count, self._offers)
        if armed:
            self._polling = None
        elif self._polling is None:
            self._polling = PollingPlace()

    def sleep(self, seconds: float) -> bool:
        if self._interrupted:
            return False
        if self._polling is not None:
            return self._polling.sleep(seconds)
        longest = min(seconds, LONGEST_SLEEP_SECONDS)
        end = self._lib.prismq_room_sleep(self._room, int(longest * 1_000_000))
        return bool(end == self._lib.ROOM_WOKEN)

    def interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            self._lib.prismq_room_interrupt(self._room)

    def leave(self, served: bool) -> None:
        with self._lock:
            self._lib.prismq_room_leave(self._room, served)

    def forget(self) -> None:
        """In a forked child: close what its parent waits with, or the parent would seem to live on in it."""
        self._release(self._room)


class PollingPlace:
    """Looks again and again, where the compiled module or a place to be called at is missing."""

    def __init__(self) -> None:
        self._pause = SHORTEST_POLL_SECONDS
        self._interrupted = threading.Event()

    def arm(self) -> None:
        pass

    def sleep(self, seconds: float) -> bool:
        interrupted = self._interrupted.wait(min(seconds, self._pause))
        self._pause = min(2 * self._pause, LONGEST_POLL_SECONDS)
        return not interrupted

    def interrupt(self) -> None:
        self._interrupted.set()

    def leave(self, served: bool) -> None:
        pass


_places: WeakSet[CalledPlace] = WeakSet()


def _after_fork_in_child() -> None:
    for place in list(_places):
        place.forget()
    _places.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
