"""How processes that want the same file wait for their turn: as the queue has it, or as SQLite has it by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bench.scenario import Scenario
from prismq import TaskQueue, native, settings


@dataclass(frozen=True, slots=True)
class PlainWaiting(Scenario):
    """A load whose processes wait as any program on SQLite does: SQLite's own VFS and its own busy handler.

    All else is the queue's: the same API, statements and housekeepers.
    """

    def open(self, path: Path) -> TaskQueue:
        """For processes of the run only: it changes them for good, as a housekeeper opens a connection of its own."""
        patch.object(native, "vfs", lambda: None).start()
        queue = Scenario.open(self, path)
        assert queue.driver_name  # the driver brings a busy handler, which is replaced here
        queue.database.get_connection().apsw.set_busy_timeout(int(settings.PRAGMAS["busy_timeout"]))
        return queue
