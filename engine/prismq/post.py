"""Where a housekeeper waits to be needed: in the kernel if the compiled module is there, by looking otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prismq import clock, native
from prismq.errors import from_code

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

ELECTED: Final = 1  # prismq_events of native/interface.h: this one keeps house from now on
LOOK: Final = 2
CHECKPOINT: Final = 4
CHANGED: Final = 8
DUE: Final = 16
STOPPED: Final = 32
ALONE: Final = 64
ORPHAN: Final = 128
CLOSED: Final = 2**31 - 1
"""A delay that lets nobody write."""

TURN_SECONDS: Final = 0.05
"""How long it waits for its turn to write, and then for readers; what was not done is tried again later."""
LONGEST_WAIT_SECONDS: Final = 3600.0
BUSY_POLL_SECONDS: Final = 0.02
IDLE_POLL_SECONDS: Final = 0.25
DUE_POLL_SECONDS: Final = 0.5
"""Without the module: how often to look for commits while there are any and while not, and for what is due."""


class Post:
    """One housekeeper's: told of events by whoever commits, and the one to call idle workers.

    `stop` is for other threads; everything else for the housekeeper's own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopping = threading.Event()
        self._lock = threading.RLock()  # of the keeper, against its end; a collector may call `stop` anywhere
        self._keeper: Any = None
        self._ffi: Any = None
        self._lib: Any = None
        self._database: QueueDatabase | None = None
        self._version = -1  # as polled
        self._pause = BUSY_POLL_SECONDS
        self._due_at = 0.0
        self._delayed = False

    @contextmanager
    def taken(self, database: QueueDatabase) -> Iterator[None]:
        """Take the post with the housekeeper's own connection while the block runs."""
        self._database = database
        module = native.load()
        if module is None:
            yield
            return
        from prismq.native_driver import open_handle

        connection = database.get_connection()
        database.execute("PRAGMA user_version")  # from here on the connection has the WAL's index
        handle = open_handle(connection, module, TURN_SECONDS)
        connection.before_close(lambda: module.lib.prismq_close(handle))
        keeper = module.lib.prismq_keeper_open(handle)
        self._ffi, self._lib = module.ffi, module.lib
        with self._lock:
            self._keeper = keeper if keeper != module.ffi.NULL else None
        try:
            yield
        finally:
            with self._lock:
                self._keeper = None
            module.lib.prismq_keeper_close(keeper)

    def stop(self) -> None:
        """End the wait of the housekeeper's thread, now and for ever."""
        self._stopping.set()
        with self._lock:
            if self._keeper is not None:
                self._lib.prismq_keeper_stop(self._keeper, str(self._path).encode())

    def wait(self, seconds: float) -> int:
        """Sleep until there is something to do, at most that long; the events."""
        if self._stopping.is_set():
            return STOPPED
        if self._keeper is None:
            return self._poll()
        longest = min(seconds, LONGEST_WAIT_SECONDS)
        events = int(self._lib.prismq_keeper_wait(self._keeper, int(longest * 1_000_000)))
        return self._poll() if events & ALONE else events

    def rest(self, seconds: float) -> None:
        """Do nothing for a while."""
        self._stopping.wait(seconds)

    def expect(self, next_turn: Callable[[], datetime | None]) -> None:
        """Be woken when the next task is due or lease ends, as `next_turn` reads it from the database."""
        if self._keeper is None:
            return
        self._lib.prismq_keeper_forget_due(self._keeper)  # what is committed from now on is noted beside
        turn = next_turn()
        if turn is not None:
            self._lib.prismq_keeper_note_due(self._keeper, clock.epoch_ms(turn))

    @property
    def orphan(self) -> tuple[int, str, int, str]:
        """After ORPHAN, of a claim whose worker has not got its task: the id, the worker, the attempt, and the time.

        It may be that there is no such claim, as its transaction never ended.
        """
        found = self._lib.prismq_keeper_orphan(self._keeper)
        if found.numbers_count == 0:
            return 0, "", 0, ""
        task_id, _, attempt, *_, claimed_ms = self._ffi.unpack(found.numbers, found.numbers_count)
        worker = self._ffi.unpack(found.text, found.text_bytes).decode("utf-8", "replace")
        return task_id, worker, attempt, clock.to_text_ms(claimed_ms)

    def is_anybody_waiting(self) -> bool:
        """Whether idle workers may be waiting to be called."""
        return self._keeper is not None and bool(self._lib.prismq_keeper_is_anybody_waiting(self._keeper))

    def call(self, kind: bytes, choosy: bool, count: int) -> None:
        """Wake workers for `count` ready tasks of a type."""
        self._lib.prismq_keeper_call(self._keeper, kind, len(kind), choosy, count)

    def sync(self) -> None:
        """Have what checkpoints have copied into the database reach the disk; QueueDatabaseError when it can't."""
        if self._keeper is not None and (code := self._lib.prismq_keeper_sync(self._keeper)):
            raise from_code(code, "what was copied into the database did not reach the disk", database=self._path)

    def order_delay(self, microseconds: int) -> None:
        """Have each writer rest that long before its turn, for the next moments."""
        if self._keeper is not None and (microseconds or self._delayed):
            self._lib.prismq_keeper_order_rest(self._keeper, microseconds)
        self._delayed = microseconds > 0

    def _poll(self) -> int:
        if self._stopping.wait(self._pause):
            return STOPPED
        assert self._database is not None
        version = int(self._database.execute("PRAGMA data_version").fetchone()[0])
        events = CHANGED | CHECKPOINT if version != self._version else 0
        self._version = version
        self._pause = BUSY_POLL_SECONDS if events else IDLE_POLL_SECONDS
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + DUE_POLL_SECONDS
            events |= DUE
        return events
