"""What no caller's operation should do: checkpoints, and bringing back tasks whose lease ran out."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw

from prismq import clock, settings, sql
from prismq.errors import QueueDatabaseError

if TYPE_CHECKING:
    from prismq.connection import Connection
    from prismq.database import QueueDatabase

_log = logging.getLogger(__name__)

BUSY_PAUSE_SECONDS: Final = 0.02
"""How long a housekeeper rests while others commit."""
IDLE_PAUSE_SECONDS: Final = 0.25
"""How long it rests when nothing was committed meanwhile."""
FAILED_PAUSE_SECONDS: Final = 30.0
"""How long it rests at most after failures in a row."""
REAP_SECONDS: Final = 0.5
"""How often it looks for expired leases: one seek, without the write lock."""
REAP_CHUNK: Final = 100
"""Leases returned in one transaction, so that no caller waits for many."""
SHORTEST_WAIT_SECONDS: Final = 0.0001
LONGEST_WAIT_SECONDS: Final = 0.001
"""Between these a waiter looks again whether a lock is free: an eighth of its wait so far."""
CHECKPOINT_PAGES: Final = 1000
"""Pages in the WAL, not yet in the database, that are worth a checkpoint while writers are busy."""
RESTART_PAGES: Final = 2000
"""A WAL this long is begun anew. Only then are writers held, while the last few pages are copied."""
LONG_PAGES: Final = 12288
"""A WAL this long (48 MiB) is begun anew even if much is left to copy meanwhile: writers outrun the copying."""
SNAPSHOT_SECONDS: Final = 2.0
"""A reader that holds a checkpoint back for longer is waited out."""
RESTART_WAIT_SECONDS: Final = 0.05
"""How long that waits for its turn to write and then, with writers held, for readers; then it is tried again later."""
RESTART_PAUSE_SECONDS: Final = 0.2
"""How long at most until then: twice as long after each try in vain."""
INLINE_CHECKPOINT_PAGES: Final = 32768
"""A WAL this long means that no housekeeper keeps up: the committer helps (128 MiB; also in native/prismq.c)."""


class Housekeeper:
    """A daemon thread with a connection of its own, so that no caller's operation does its work.

    It belongs to the connection that its queues work on, and lives as long.
    """

    def __init__(self, path: Path) -> None:
        self._pid = os.getpid()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=_keep_house, args=(path, self._stopping), name="prismq-housekeeper", daemon=True
        )
        self._thread.start()

    def abandon(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self._stopping.set()

    def stop(self) -> None:
        """End the thread and wait for it; a forked child has no such thread."""
        self.abandon()
        if self._pid == os.getpid():
            self._thread.join()


def _keep_house(path: Path, stopping: threading.Event) -> None:
    from prismq.database import QueueDatabase

    with QueueDatabase(path) as database:
        checkpointer = Checkpointer(database)
        version, pause, reap_at = -1, BUSY_PAUSE_SECONDS, 0.0
        while not stopping.wait(pause):
            try:
                last, version = version, _data_version(database)
                checkpointer.checkpoint(CHECKPOINT_PAGES if version != last else 1)
                if time.monotonic() >= reap_at:
                    while reap(database.get_connection()) == REAP_CHUNK and not stopping.is_set():
                        time.sleep(0)  # let the writers that waited go first
                    reap_at = time.monotonic() + REAP_SECONDS
                pause = IDLE_PAUSE_SECONDS if version == last else BUSY_PAUSE_SECONDS
            except QueueDatabaseError as error:
                pause = min(max(2 * pause, 1.0), FAILED_PAUSE_SECONDS)
                _log.error("housekeeping of %s failed, trying again in %.0f s: %s", path, pause, error)


class Checkpointer:
    """Copies committed pages into the database, and begins the WAL anew where no reader stands in the way."""

    def __init__(self, database: QueueDatabase) -> None:
        self._database = database
        self._copied, self._copied_at = -1, 0.0  # how much was copied, and since when
        self._restart_at = 0.0  # monotonic; later after somebody was in the way
        self._restart_pause = BUSY_PAUSE_SECONDS

    def checkpoint(self, worth: int = 1) -> None:
        """Copy what was committed if that is `worth` pages; restart a long WAL."""
        pages, copied = self._run("NOOP")[1:]  # in SQLite before 3.51: PASSIVE
        now = time.monotonic()
        if copied != self._copied:
            self._copied, self._copied_at = copied, now
        # What stays behind for long belongs to a reader that holds a snapshot: until it ends, nothing is begun anew.
        read_on = copied < pages and now - self._copied_at > SNAPSHOT_SECONDS
        restart = pages > RESTART_PAGES and now >= self._restart_at
        if (restart or pages - copied >= worth) and (read_on or pages < LONG_PAGES):
            pages, copied = self._run("PASSIVE")[1:]
        # What is not copied yet will be while the restart holds the writers, so it should be little; unless the writers
        # outrun the copying, when holding them is the point.
        little = pages if pages >= LONG_PAGES else max(CHECKPOINT_PAGES, pages // 4)
        if restart and not read_on and pages - copied <= little:
            self._restart()

    def _restart(self) -> None:
        # It holds the writers while it waits for readers: it looks often, so as not to hold them for long, and gives up
        # soon, because a reader may stay.
        raw = self._database.get_connection().apsw
        gives_up_at = time.monotonic() + RESTART_WAIT_SECONDS

        def wait(_times: int) -> bool:
            time.sleep(SHORTEST_WAIT_SECONDS)
            return time.monotonic() < gives_up_at

        raw.set_busy_handler(wait)
        try:
            blocked = self._run("RESTART")[0]
        finally:
            raw.set_busy_timeout(round(settings.BUSY_TIMEOUT_SECONDS * 1000))
        self._restart_pause = min(2 * self._restart_pause, RESTART_PAUSE_SECONDS) if blocked else BUSY_PAUSE_SECONDS
        self._restart_at = time.monotonic() + self._restart_pause

    def _run(self, mode: str) -> tuple[int, int, int]:
        """Whether somebody was in the way, the pages in the WAL, and how many of them are in the database."""
        blocked, pages, copied = self._database.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return blocked, pages, copied


def checkpoint_inline(connection: apsw.Connection, name: str, pages: int) -> int:
    """APSW's WAL hook in place of SQLite's own, which checkpoints inside a caller's commit every 1,000 pages."""
    if pages >= INLINE_CHECKPOINT_PAGES:
        with suppress(apsw.Error):  # the commit stands; the next one tries again
            connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
    return apsw.SQLITE_OK


def _data_version(database: QueueDatabase) -> int:
    """Changes when somebody else has committed."""
    return int(database.execute("PRAGMA data_version").fetchone()[0])


def reap(connection: Connection) -> int:
    """Return up to REAP_CHUNK expired leases: queued again, or dead_letter when no attempt is left. How many."""
    now = clock.to_text(clock.now())
    if connection.execute(sql.EXPIRED, (now,)).fetchone() is None:
        return 0
    returned = connection.execute(sql.REAP, (now, REAP_CHUNK)).fetchall()
    for task_id, status, error in returned:
        _log.warning("task %s is %s: %s", task_id, status, error, extra={"task_id": task_id, "status": status})
    return len(returned)
