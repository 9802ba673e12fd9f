"""Every call that a process made, kept so that a kill can't take it back.

One file per process, one unbuffered append per call: what was written is in the kernel and survives SIGKILL and
TerminateProcess. At worst the last record is missing or cut short.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt


class Operation(IntEnum):
    ENQUEUE = 0
    CLAIM = 1
    COMPLETE = 2
    FAIL = 3


class Outcome(IntEnum):
    DONE = 0
    EMPTY = 1
    """A claim that found nothing."""
    BUSY = 2
    """SQLITE_BUSY reached the caller; the call is made again."""
    REFUSED = 3
    """A completion by a worker that no longer holds the lease."""
    MISSED = 4
    """An arrival that was due inside the window and never got its turn."""


Records: TypeAlias = npt.NDArray[Any]
_LAYOUT = struct.Struct("<BBHiqddd")
RECORD = np.dtype(
    [
        ("operation", "u1"),
        ("outcome", "u1"),
        ("attempt", "<u2"),
        ("priority", "<i4"),
        ("task_id", "<i8"),
        ("intended", "<f8"),
        ("started", "<f8"),
        ("ended", "<f8"),
    ]
)
"""Times are `time.perf_counter` seconds; `intended` is when the call was due, or first tried."""


class Journal:
    """Append-only file of one process's calls."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(
        self,
        operation: Operation,
        outcome: Outcome,
        intended: float,
        started: float,
        ended: float,
        task_id: int = 0,
        attempt: int = 0,
        priority: int = 0,
    ) -> None:
        self._file.write(_LAYOUT.pack(operation, outcome, attempt, priority, task_id, intended, started, ended))


def read_journals(paths: Iterable[Path]) -> Records:
    """All records of the files, in the order of the files; a record cut short by a kill is left out."""
    parts = [_records(path.read_bytes()) for path in paths]
    return np.concatenate(parts) if parts else np.empty(0, RECORD)


def _records(data: bytes) -> Records:
    return np.frombuffer(data, RECORD, len(data) // RECORD.itemsize)
