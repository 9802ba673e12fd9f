"""How an idle worker waits for a task: asleep in the kernel, at a place of its own, until it is called or served."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakSet

from prismq import native
from prismq.driver import STRATEGY_NUMBERS, Claim

LONGEST_SLEEP_SECONDS: Final = 0.5
"""So soon a signal that came right before falling asleep is handled."""
SHORTEST_POLL_SECONDS: Final = 0.001
LONGEST_POLL_SECONDS: Final = 0.02
"""Where nobody can call, a waiter looks for a task in steps that grow from the one to the other."""
_NO_CAPABILITIES: Final = b"{}"


class Place(Protocol):
    """Where one thread waits for tasks that a claim of its would get."""

    answer: Any
    """What the claim was answered with while this thread slept, for the driver to read; None without an answer."""

    def arm(self) -> None:
        """Be called from now on; then look once more for a task before sleeping."""

    def sleep(self, seconds: float) -> bool:
        """Sleep until called or served, at most that long; whether there is an answer or it is time to look."""

    def interrupt(self) -> None:
        """End the sleep of another thread, now and for ever."""

    def leave(self, served: bool) -> Any:
        """Be called no more. Unless `served`, a call since the last `arm` goes on to another worker.

        Returns an answer that came in this very moment, or None.
        """


class Room:
    """A thread's own view of the sidecar file."""

    def __init__(self, database: Path, module: Any) -> None:
        self.ffi, self.lib = module.ffi, module.lib
        opened = self.lib.prismq_room_open(os.fsencode(database))
        if opened == self.ffi.NULL:
            raise MemoryError("no memory to wait in")
        self.pointer = self.ffi.gc(opened, self.lib.prismq_room_close)
        _rooms.add(self)

    def forget(self) -> None:
        """In a forked child: close what its parent waits with, or the parent would seem to live on in it."""
        self.ffi.release(self.pointer)


class Rooms(threading.local):
    """The room of each thread that waits for tasks of one queue: opening one takes longer than waking up in it."""

    def __init__(self) -> None:
        self.free: Room | None = None


def take_place(rooms: Rooms, database: Path, wanted: Claim, rehearse: Callable[[], object] | None = None) -> Place:
    """A place to wait for such a claim, used by this thread alone.

    With `rehearse` others may claim for it. That is run when they begin to: after a sleep the caches have gone to
    others, and code that has run once meanwhile takes a quarter of the time.
    """
    module = native.load()
    if module is None:
        return PollingPlace()
    room, rooms.free = rooms.free or Room(database, module), None
    return CalledPlace(room, rooms, wanted, rehearse)


class CalledPlace:
    """Sleeps until a commit, in whichever process, makes a fitting task claimable."""

    def __init__(self, room: Room, rooms: Rooms, wanted: Claim, rehearse: Callable[[], object] | None) -> None:
        self.answer: Any = None
        self._room, self._rooms, self._lib = room, rooms, room.lib
        names = [] if wanted.types is None else [name.encode() for name in json.loads(wanted.types)]
        self._types = room.ffi.new("uint64_t[]", [self._lib.prismq_type_hash(name, len(name)) for name in names])
        self._count = len(names)
        self._offers = wanted.capabilities != _NO_CAPABILITIES
        self._lock = threading.Lock()  # a sleeping thread does not hold it
        self._interrupted = False
        self._polling: PollingPlace | None = None
        self._rehearse = rehearse
        if rehearse is not None:
            self._ask(wanted)
        else:
            self._lib.prismq_room_request(room.pointer, room.ffi.NULL)

    def arm(self) -> None:
        with self._lock:
            armed = self._lib.prismq_room_arm(self._room.pointer, self._types, self._count, self._offers)
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
        end = self._lib.prismq_room_sleep(self._room.pointer, int(longest * 1_000_000))
        if end == self._lib.ROOM_EXPECTING:
            if self._rehearse is not None:
                self._rehearse()
            end = self._lib.prismq_room_sleep(self._room.pointer, 0)
        if end == self._lib.ROOM_SERVED:
            self.answer = self._lib.prismq_room_result(self._room.pointer)
            return True
        return bool(end == self._lib.ROOM_WOKEN)

    def interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            self._lib.prismq_room_interrupt(self._room.pointer)

    def leave(self, served: bool) -> Any:
        with self._lock:
            late = self._lib.prismq_room_leave(self._room.pointer, served)
        self._rooms.free = self._room
        return self._lib.prismq_room_result(self._room.pointer) if late else None

    def _ask(self, wanted: Claim) -> None:
        ffi = self._room.ffi
        texts = [wanted.worker.encode(), wanted.types, wanted.capabilities]
        lengths = [-1 if text is None else len(text) for text in texts]
        numbers = ffi.new("int64_t[]", [*lengths, STRATEGY_NUMBERS[wanted.strategy], wanted.limit, wanted.lease_ms])
        text = ffi.from_buffer("char[]", b"".join(text for text in texts if text is not None))
        request = ffi.new("prismq_request *")
        request.count, request.numbers, request.numbers_count = 1, numbers, len(numbers)
        request.text, request.text_bytes = text, len(text)
        self._lib.prismq_room_request(self._room.pointer, request)


class PollingPlace:
    """Looks again and again, where the compiled module or a place to be called at is missing."""

    def __init__(self) -> None:
        self.answer: Any = None
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

    def leave(self, served: bool) -> Any:
        return None


_rooms: WeakSet[Room] = WeakSet()


def _after_fork_in_child() -> None:
    for room in list(_rooms):
        room.forget()
    _rooms.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
