"""Task log entries on their way to the database, written in batches by a thread of their own."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from typing import Final, TypeAlias

from prismq import settings, sql
from prismq.database import QueueDatabase
from prismq.errors import QueueBusyError, QueueDatabaseError, QueueDataError, QueueProgrammingError

_log = logging.getLogger(__name__)

Entry: TypeAlias = tuple[int, str, str, str, str | None]
"""task_id, time, level, message, details: the parameters of sql.LOG."""

BATCH: Final = 500
"""Entries written in one transaction."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Until writing is tried again after a failure: twice as long after each."""


class LogBuffer:
    """Holds up to `capacity` entries and writes them within `flush_seconds`; `dropped` counts what was not written."""

    def __init__(self, database: QueueDatabase, capacity: int, flush_seconds: float) -> None:
        self._added = self._done = self._flush_until = 0  # entries since the thread began
        self._database = database
        self._capacity = capacity
        self._flush_seconds = flush_seconds
        self.dropped = 0
        self._closed = False
        self._begin()

    def add(self, entry: Entry) -> None:
        """Take the entry, or drop it if the buffer is full; QueueProgrammingError after `close`."""
        if self._pid != os.getpid():  # a forked child has neither the thread nor a use for the parent's entries
            self._begin()
        with self._changed:
            if self._closed:
                raise QueueProgrammingError("the task logger is closed: log before close(), or make another")
            if len(self._waiting) >= self._capacity:
                self._drop(1, f"the buffer is full, {self._capacity} entries wait: writing can't keep up")
                return
            self._waiting.append(entry)
            self._added += 1
            if len(self._waiting) == 1 or len(self._waiting) == BATCH:
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Have what was added written now; False when it is not after `timeout` seconds."""
        if self._pid != os.getpid():
            return True
        self._refuse_own_transaction()
        with self._changed:
            until = self._added
            self._flush_until = max(self._flush_until, until)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= until, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left, drop what can't be written in that time, and end the thread."""
        if self._pid == os.getpid() and not self._closed:
            if self._done < self._added:
                self._refuse_own_transaction()
            self.abandon(timeout)
            self._thread.join(timeout + settings.BUSY_TIMEOUT_SECONDS)

    def abandon(self, timeout: float = 5.0) -> None:
        """As `close`, without waiting for it."""
        with self._changed:
            self._closed = True
            self._give_up_at = time.monotonic() + timeout
            self._changed.notify_all()

    def _at_exit(self) -> None:
        """The interpreter ends, and with it the thread: write what is left."""
        if self._pid == os.getpid():
            self.abandon()
            self._thread.join(5.0 + settings.BUSY_TIMEOUT_SECONDS)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._added = self._done = self._flush_until = 0
        self._give_up_at = 0.0
        self._warned_at = -60.0
        self._thread = threading.Thread(target=self._write_all, name="prismq-task-log", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def _write_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while (batch := self._next_batch()) is not None:
            try:
                refused = self._write(batch)
            except QueueDatabaseError as error:
                self._put_back(batch, pause, error)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            with self._changed:
                if refused:
                    self._drop(len(refused), refused[0])
                self._done += len(batch)
                self._changed.notify_all()
        atexit.unregister(self._at_exit)

    def _next_batch(self) -> list[Entry] | None:
        """Entries to write now; None when the buffer is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._changed.wait_for(
                lambda: len(self._waiting) >= BATCH or self._flush_until > self._done or self._closed,
                self._flush_seconds,
            )
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _write(self, batch: list[Entry]) -> list[str]:
        """Write the entries in one transaction; why some were refused."""
        refused = []
        with self._database.transaction():
            for entry in batch:
                try:
                    if self._database.execute(sql.LOG, entry).rowcount != 1:
                        refused.append(f"there is no task {entry[0]}")
                except QueueDataError as error:
                    refused.append(str(error))
        return refused

    def _put_back(self, batch: list[Entry], pause: float, error: QueueDatabaseError) -> None:
        with self._changed:
            late = self._closed and time.monotonic() + pause >= self._give_up_at
            if late:
                self._drop(len(batch) + len(self._waiting), f"the logger was closed: {error}")
                self._done += len(batch) + len(self._waiting)
                self._waiting.clear()
                self._changed.notify_all()
                return
            if not isinstance(error, QueueBusyError):
                _log.warning("task log entries could not be written, trying again in %.2f s: %s", pause, error)
            self._waiting.extendleft(reversed(batch))
            closed = self._closed
            self._changed.wait_for(lambda: self._closed is not closed, pause)

    def _drop(self, count: int, why: str) -> None:
        """Count them; said at most once a minute, as there may be thousands."""
        self.dropped += count
        if time.monotonic() - self._warned_at >= 60:
            self._warned_at = time.monotonic()
            _log.warning("task log entries are dropped, %d so far: %s", self.dropped, why)

    def _refuse_own_transaction(self) -> None:
        if self._database.get_connection().in_transaction:
            raise QueueProgrammingError(
                "task log entries are written by another thread, which would wait for this thread's transaction: "
                "flush or close after it"
            )
