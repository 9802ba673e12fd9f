"""What no caller's operation should do: checkpoints, and bringing back tasks whose lease ran out."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import apsw

from prismq import clock, sql
from prismq.errors import QueueDatabaseError

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

_log = logging.getLogger(__name__)

BUSY_PAUSE_SECONDS: Final = 0.02
"""How long a housekeeper rests while others commit."""
IDLE_PAUSE_SECONDS: Final = 0.25
"""How long it rests when nothing was committed meanwhile."""
REAP_SECONDS: Final = 0.5
"""How often it looks for expired leases: one seek, without the write lock."""
REAP_CHUNK: Final = 100
"""Leases returned in one transaction, so that no caller waits for many."""
CHECKPOINT_PAGES: Final = 1000
"""Pages in the WAL, not yet in the database, that are worth a checkpoint while writers are busy."""
RESTART_PAGES: Final = 2000
"""A WAL this long is begun anew. Only then are writers held, while the last few pages are copied."""
INLINE_CHECKPOINT_PAGES: Final = 32768
"""A WAL this long means that no housekeeper keeps up: the committer helps (128 MiB; also in native/prismq.c)."""


class Housekeeper:
    """A daemon thread with a connection of its own, so that no caller's operation does its work."""

    def __init__(self, database: QueueDatabase) -> None:
        self._database = database
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._stopping = threading.Event()
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start the thread unless it runs already, in this process."""
        if self._thread is not None and self._pid == os.getpid():
            return
        with self._starting:
            if self._thread is not None and self._pid == os.getpid():
                return
            self._stopping = threading.Event()
            self._pid = os.getpid()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopping,), name="prismq-housekeeper", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it; the next `start` begins anew."""
        thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            self._stopping.set()
            thread.join()

    def _run(self, stopping: threading.Event) -> None:
        from prismq.database import QueueDatabase

        with QueueDatabase(self._database.db_path, durability=self._database.durability) as own:
            version, pause, reap_at = -1, BUSY_PAUSE_SECONDS, 0.0
            while not stopping.wait(pause):
                try:
                    last, version = version, _data_version(own)
                    checkpoint(own, CHECKPOINT_PAGES if version != last else 1)
                    pause = IDLE_PAUSE_SECONDS if version == last else BUSY_PAUSE_SECONDS
                    if time.monotonic() >= reap_at:
                        while reap(own) == REAP_CHUNK and not stopping.is_set():
                            time.sleep(0)  # let the writers that waited go first
                        reap_at = time.monotonic() + REAP_SECONDS
                except QueueDatabaseError:
                    _log.exception("housekeeping failed; trying again in %s s", IDLE_PAUSE_SECONDS)
                    pause = IDLE_PAUSE_SECONDS


def checkpoint(database: QueueDatabase, worth: int = 1) -> None:
    """Copy what was committed from the WAL into the database if that is `worth` pages; begin a long WAL anew."""
    _, pages, copied = database.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()  # in SQLite before 3.51: PASSIVE
    if pages - copied < worth:
        return
    _, pages, copied = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > RESTART_PAGES and pages - copied < RESTART_PAGES:
        database.execute("PRAGMA wal_checkpoint(RESTART)")


def checkpoint_inline(connection: apsw.Connection, name: str, pages: int) -> int:
    """APSW's WAL hook in place of SQLite's own, which checkpoints inside a caller's commit every 1,000 pages."""
    if pages >= INLINE_CHECKPOINT_PAGES:
        with suppress(apsw.Error):  # the commit stands; the next one tries again
            connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
    return apsw.SQLITE_OK


def _data_version(database: QueueDatabase) -> int:
    """Changes when somebody else has committed."""
    return int(database.execute("PRAGMA data_version").fetchone()[0])


def reap(database: QueueDatabase) -> int:
    """Return up to REAP_CHUNK expired leases: queued again, or dead_letter when no attempt is left. How many."""
    now = clock.to_text(clock.now())
    if database.execute(sql.EXPIRED, (now,)).fetchone() is None:
        return 0
    returned = database.execute(sql.REAP, (now, REAP_CHUNK)).fetchall()
    for task_id, status, error in returned:
        _log.warning("task %s is %s: %s", task_id, status, error, extra={"task_id": task_id, "status": status})
    return len(returned)
