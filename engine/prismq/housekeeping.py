"""What must happen while everybody is busy: leases that ran out come back to the queue."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from prismq import clock, sql
from prismq.errors import QueueDatabaseError

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

_log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.5
"""How often a process that claims looks for expired leases: one seek, without the write lock."""
REAP_CHUNK: Final = 100
"""Leases returned in one transaction, so that no caller waits for many."""


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
            while not stopping.wait(INTERVAL_SECONDS):
                try:
                    while reap(own) == REAP_CHUNK and not stopping.is_set():
                        time.sleep(0)  # let the writers that waited go first
                except QueueDatabaseError:
                    _log.exception("expired leases could not be returned; trying again in %s s", INTERVAL_SECONDS)


def reap(database: QueueDatabase) -> int:
    """Return up to REAP_CHUNK expired leases: queued again, or dead_letter when no attempt is left. How many."""
    now = clock.to_text(clock.now())
    if database.execute(sql.EXPIRED, (now,)).fetchone() is None:
        return 0
    returned = database.execute(sql.REAP, (now, REAP_CHUNK)).fetchall()
    for task_id, status, error in returned:
        _log.warning("task %s is %s: %s", task_id, status, error, extra={"task_id": task_id, "status": status})
    return len(returned)
