"""What a process of a worker has begun, in memory that outlives it: so its supervisor knows which attempts count."""

from __future__ import annotations

import ctypes
import threading
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prismq.execution import Execution

LATELY: Final = 1024
"""Tasks that have run are remembered while so many others are begun: by then it is written how they ended."""


class _Entry(ctypes.Structure):
    _fields_ = [("task_id", ctypes.c_int64), ("attempt", ctypes.c_int64)]


class Record:
    """The memory, shared with a process by passing it as an argument to that."""

    def __init__(self, concurrency: int) -> None:
        self.entries = RawArray(_Entry, concurrency + LATELY)
        self._at_work = RawValue(ctypes.c_bool, False)

    @property
    def at_work(self) -> bool:
        """Whether the process came so far that it could claim."""
        return self._at_work.value

    def set_at_work(self) -> None:
        self._at_work.value = True

    def begun(self) -> set[tuple[int, int]]:
        """Task and attempt of all that run, and of those that ran lately."""
        return {(entry.task_id, entry.attempt) for entry in self.entries}


class Recorder:
    """Writes the record, in the process. Any thread may call it."""

    def __init__(self, record: Record) -> None:
        self._entries = record.entries
        self._lock = threading.Lock()
        self._next = 0
        self._running: dict[Execution, int] = {}
        self._taken: set[int] = set()

    def begin(self, execution: Execution) -> None:
        """Its handler is about to run."""
        with self._lock:
            self._next = (self._next + 1) % len(self._entries)
            while self._next in self._taken:
                self._next = (self._next + 1) % len(self._entries)
            entry = self._entries[self._next]
            entry.task_id = 0  # the process may end between any two of these
            entry.attempt = execution.task.attempts
            entry.task_id = execution.task_id
            self._running[execution] = self._next
            self._taken.add(self._next)

    def end(self, execution: Execution) -> None:
        """How it ends is about to be written: its entry is good until others have taken all that are free."""
        with self._lock:
            place = self._running.pop(execution, None)
            if place is not None:
                self._taken.discard(place)
