"""How processes that want the same file wait for their turn: as the queue has it, or as SQLite has it by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bench.scenario import Scenario
from prismq import TaskQueue, native, settings

ALSO = (
    "SQLite's own waiting is without the queue's VFS, so a transaction is not written to the WAL by one call either:\n"
    "that alone makes it up to a fifth dearer"
)
"""For reports, beside figures of it."""


@dataclass(frozen=True, slots=True)
class PlainWaiting(Scenario):
    """A load whose processes wait as any program on SQLite does: SQLite's own VFS and its own busy handler.

    With the queue's VFS goes more than its waiting: also that a transaction's WAL frames are written by one call, where
    SQLite makes two a frame, which is up to a fifth of a call. All else is the queue's: API, statements, housekeepers.
    """

    def open(self, path: Path) -> TaskQueue:
        """For processes of the run only: it changes them for good, as a housekeeper opens a connection of its own."""
        patch.object(native, "vfs", lambda: None).start()
        queue = Scenario.open(self, path)
        assert queue.driver_name  # the driver brings a busy handler, which is replaced here
        queue.database.get_connection().apsw.set_busy_timeout(int(settings.PRAGMAS["busy_timeout"]))
        return queue
