"""A journal that touches no file while calls are timed."""

from __future__ import annotations

from io import BufferedWriter, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from bench.journal import Journal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

HELD_BYTES = 64 * 2**20
"""Set aside at once, 1.6 million records; more than that is written out in between."""


class HeldJournal(Journal):
    """Kept in memory until it is closed, for processes that nobody kills: a kill would take it back."""

    def __init__(self, path: Path) -> None:
        self._file = _HeldFile(path, "ab")


class _HeldFile(FileIO):
    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._held = BufferedWriter(FileIO(path, mode), HELD_BYTES)

    def write(self, record: ReadableBuffer, /) -> int:
        return self._held.write(record)

    def close(self) -> None:
        self._held.close()
        super().close()
