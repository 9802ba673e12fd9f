"""What an operator does with a queue's database: checkpoints, statistics, checks, and its cost in bytes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from prismq import database_files, submission
from prismq.database import QueueDatabase
from prismq.errors import QueueFileError, QueueMaintenanceBusyError, QueueMaintenanceError, raised_as
from prismq.housekeeping import REAP_CHUNK, reap


class QueueMaintenance:
    """Maintenance of a queue that is in use. Everything raises QueueMaintenanceError.

    When somebody else keeps the database locked that is a QueueMaintenanceBusyError, which is a QueueBusyError too.
    """

    CHECKPOINT_PASSIVE: Final = "PASSIVE"
    CHECKPOINT_FULL: Final = "FULL"
    CHECKPOINT_RESTART: Final = "RESTART"
    CHECKPOINT_TRUNCATE: Final = "TRUNCATE"

    def __init__(self, db: QueueDatabase) -> None:
        self.db = db

    def checkpoint(self, mode: str = CHECKPOINT_PASSIVE) -> dict[str, int]:
        """Copy the WAL into the database: `log` pages are in it, `checkpointed` of them are in the database too.

        `busy` is 1 when a reader or writer was in the way of the whole of it, which is no error. PASSIVE waits for
        nobody; FULL, RESTART and TRUNCATE make writers wait, and TRUNCATE empties the file.
        """
        modes = (self.CHECKPOINT_PASSIVE, self.CHECKPOINT_FULL, self.CHECKPOINT_RESTART, self.CHECKPOINT_TRUNCATE)
        if mode not in modes:
            raise QueueMaintenanceError(f"Invalid checkpoint mode {mode!r}: use one of {', '.join(modes)}")
        with _translated("the checkpoint failed"):
            row = self.db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return dict(zip(("busy", "log", "checkpointed"), map(int, row), strict=True))

    def vacuum(self) -> None:
        """Write the database anew without its free pages.

        Dear: writers wait all the while, those who wait longer than the busy timeout get QueueBusyError, and the disk
        needs room for the database twice over. Free pages are used again anyway: worth it only to give much space
        back, when there is little to do.
        """
        with _translated("the database was not vacuumed"):
            self.db.execute("VACUUM")

    def analyze(self, table: str | None = None) -> None:
        """Collect the statistics by which SQLite plans your own SQL, of one table or all; the queue's needs none."""
        with _translated("nothing was analysed"):
            if table is None:
                self.db.execute("ANALYZE")
                return
            known = [str(row[0]) for row in self.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            if table not in known:
                raise QueueMaintenanceError(f"there is no table {table!r:.100}; there are {', '.join(sorted(known))}")
            quoted = table.replace('"', '""')
            self.db.execute(f'ANALYZE "{quoted}"')

    def integrity_check(self) -> list[str]:
        """["ok"], or what is wrong with the file. Reads all of it; writers go on."""
        with _translated("the database could not be checked"):
            try:
                return [str(row[0]) for row in self.db.execute("PRAGMA integrity_check")]
            except QueueFileError as error:  # so damaged that the check can't be finished
                return [str(error)]

    def cleanup_stale_leases(self, timeout_seconds: float = 300) -> int:
        """Bring back tasks whose lease ran out so many seconds ago; dead_letter if no attempt is left. How many.

        Housekeeping does that by itself, without waiting, whenever a process has the queue open.
        """
        brought_back = 0
        with _translated("not all stale leases were brought back"):
            submission.duration(timeout_seconds, "timeout_seconds", 0)
            connection = self.db.get_connection()
            while (chunk := reap(connection, timeout_seconds)) == REAP_CHUNK:
                brought_back += chunk
        return brought_back + chunk

    def get_database_stats(self) -> dict[str, Any]:
        """page_count, page_size (bytes), freelist_count, total_size_mb and wal_size_mb (MiB), wal_mode."""
        with _translated("the database's size could not be read"):
            pages, page_bytes, free, mode = (
                self.db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size", "freelist_count", "journal_mode")
            )
            return {
                "page_count": pages,
                "page_size": page_bytes,
                "freelist_count": free,
                "total_size_mb": pages * page_bytes / 2**20,
                "wal_size_mb": database_files.wal_bytes(self.db.db_path) / 2**20,
                "wal_mode": mode == "wal",
            }

    def optimize(self, full: bool = False) -> dict[str, Any]:
        """Analyse, and vacuum if `full`: analyzed, vacuumed, stats_before and stats_after (see get_database_stats)."""
        before = self.get_database_stats()
        self.analyze()
        if full:
            self.vacuum()
        return {
            "analyzed": True,
            "vacuumed": full,
            "stats_before": before,
            "stats_after": self.get_database_stats(),
        }


def _translated(consequence: str) -> AbstractContextManager[None]:
    return raised_as(QueueMaintenanceError, QueueMaintenanceBusyError, consequence)
