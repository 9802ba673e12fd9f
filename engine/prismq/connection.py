"""A connection shaped like the DB-API over APSW, safe to share between threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import apsw

from prismq import fork
from prismq.cursor import Cursor, Parameters
from prismq.errors import QueueDatabaseError, QueueOperationalError, QueueProgrammingError, from_apsw
from prismq.lock import ConnectionLock
from prismq.raw_connection import RawConnection, open_raw
from prismq.row import Row
from prismq.settings import Settings

if TYPE_CHECKING:
    from prismq.driver import Driver
    from prismq.housekeeping import Housekeeper

__all__ = ["Connection", "Cursor", "Row"]

T = TypeVar("T")
_DEFAULTS: Final = Settings()


class Connection:
    """One SQLite connection that threads share, each seeing only its own transaction.

    A statement outside a transaction commits by itself. A thread that begins one, with `transaction()` or by hand,
    keeps the connection until it ends; the others wait up to the busy timeout, then get QueueBusyError. Results are
    read completely before a call returns, so no statement stays open. Raises QueueDatabaseError when it can't open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Settings = _DEFAULTS,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.settings = settings
        self._lock = ConnectionLock(str(self.path), settings.timeout)
        self.drivers: dict[str, Driver] = {}  # of the queues on this connection; see driver.connect
        self.housekeeper: Housekeeper | None = None  # works beside those
        self._closing: list[Callable[[], None]] = []
        self._pinned = False  # a transaction is open, and holds the lock once more on its own account
        self._blocks = 0  # open transaction() blocks
        self._joined = 0  # those of them inside another transaction
        self._lost: QueueDatabaseError | None = None  # why SQLite rolled the block's transaction back by itself
        with fork.opening:
            fork.require_clean(str(self.path))
            self._raw: RawConnection | None = open_raw(self.path, settings.pragmas, settings.timeout)
            fork.watch(self)

    @property
    def apsw(self) -> RawConnection:
        """The raw connection; use it inside `hold()`. QueueProgrammingError when closed."""
        if self._raw is None:
            raise QueueProgrammingError(self._lock.refusal)
        return self._raw

    @property
    def timeout(self) -> float:
        """Seconds that an operation waits for its turn, in this process and among processes."""
        return self._lock.timeout

    @property
    def page_size(self) -> int:
        """Bytes, as the file has it."""
        with self._lock:
            return int(self.apsw.pragma("page_size"))

    @property
    def closed(self) -> bool:
        """Whether the connection was closed, or belongs to the process this one was forked from."""
        return self._raw is None

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        if not self._lock.acquire(False):  # whatever is open is another thread's
            return False
        try:
            return bool(self.apsw.in_transaction)
        finally:
            self._lock.release()

    @property
    def total_changes(self) -> int:
        """Rows changed since the connection was opened."""
        with self._lock:
            return self.apsw.total_changes()

    def hold(self) -> ConnectionLock:
        """`with connection.hold():` makes the connection this thread's own, and open, until the block ends.

        Raises QueueBusyError after the timeout and QueueProgrammingError when the connection is closed.
        """
        return self._lock

    def cursor(self) -> Cursor:
        """A cursor that has run nothing yet."""
        return Cursor(self)

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """Run one statement and return a cursor with its complete result."""
        return Cursor(self).execute(sql, parameters)

    def executemany(self, sql: str, parameter_list: Iterable[Parameters]) -> Cursor:
        """Run one statement for each set of parameters, all or none of them."""
        return Cursor(self).executemany(sql, parameter_list)

    def executescript(self, sql: str) -> Cursor:
        """Run any number of statements. Unlike the standard library's, it commits nothing beforehand."""
        return Cursor(self).executescript(sql)

    def commit(self) -> None:
        """End the transaction; does nothing when none is open, refused inside an inner `transaction()` block."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction; does nothing when none is open, refused inside an inner `transaction()` block."""
        self._end("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run the block in a write transaction: committed at its end, undone when an exception leaves it.

        Inside another transaction the block joins it: nothing is committed before the outer one ends, and an
        exception that leaves the inner block undoes only what that block wrote.
        """
        with self.hold():
            joins = self.in_transaction
            self._control("SAVEPOINT prismq_block" if joins else "BEGIN IMMEDIATE")
            self._blocks += 1
            self._joined += joins
            try:
                yield self
                self._finish(joins)
            except BaseException:
                self._undo(joins)
                raise
            finally:
                self._blocks -= 1
                self._joined -= joins
                if not self.closed:
                    self._pin(self.apsw)
                    if not self._blocks:
                        self._lost = self._lock.refusal = None

    def before_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` before SQLite closes, with the connection held: to finalise statements made on `apsw`.

        It also runs in a forked child, on the child's copy of the connection: it may only free memory there.
        """
        with self.hold():
            self._closing.append(callback)

    def close(self) -> None:
        """Roll back what is open and close; waits for a thread that uses the connection. Closing twice is fine."""
        if self.closed:
            return
        try:
            with self._lock:
                if self.in_transaction:
                    self._control("ROLLBACK")
                self._dispose()
        except QueueProgrammingError:
            if not self.closed:  # else another thread closed it while this one waited
                raise
        finally:
            if self._raw is None and self.housekeeper is not None:
                self.housekeeper.stop()

    def run(self, statement: str, work: Callable[[RawConnection], T]) -> T:
        """Call `work` with the raw connection held, translate its errors and keep track of the transaction.

        `statement` is what messages quote.
        """
        with self._lock:
            raw = self.apsw
            started = time.monotonic()
            try:
                return work(raw)
            except apsw.Error as error:
                waited = time.monotonic() - started
                failure = from_apsw(error, statement=statement, database=self.path, waited=waited)
                self.note_failure(failure)
                raise failure from error
            finally:
                self._pin(raw)

    def note_failure(self, failure: QueueDatabaseError) -> None:
        """Tell that a statement run on `apsw`, inside `hold()`, failed: SQLite may have rolled the transaction back.

        If it has, the `transaction()` block around it can't go on: it would write outside any transaction.
        """
        raw = self.apsw
        if self._blocks and self._pinned and not raw.in_transaction:
            self._lost = failure
            self._lock.refusal = f"SQLite rolled this transaction back, leave its block ({failure})"
        self._pin(raw)

    def after_fork_in_child(self) -> None:
        """Give up the parent's connection: it can't be used here, and must not be."""
        raw, self._raw = self._raw, None
        if raw is not None:
            at_rest = self._lock.acquire(False)  # else another thread of the parent was inside it
            fork.let_go(raw, self._closing, str(self.path), at_rest)
            refusal = f"the connection to {self.path} belongs to the process this one was forked from: get a new one"
            self._lock = ConnectionLock(self._lock.name, self._lock.timeout, refusal)

    def _pin(self, raw: RawConnection) -> None:
        """Keep the lock for as long as a transaction is open, also one begun by hand."""
        if raw.in_transaction is not self._pinned:
            if self._pinned:
                self._lock.release()
            else:
                self._lock.acquire()
            self._pinned = not self._pinned

    def _end(self, statement: str) -> None:
        if not self.in_transaction:
            return
        if self._joined:
            raise QueueProgrammingError(
                f"{statement} inside an inner transaction() block would end the outer one: leave the block instead"
            )
        self._control(statement)

    def _control(self, statement: str) -> None:
        self.run(statement, lambda raw: raw.execute(statement))

    def _finish(self, joined: bool) -> None:
        if self.in_transaction:
            self._control("RELEASE prismq_block" if joined else "COMMIT")
        elif self._lost is not None or self._pinned:  # pinned: nobody ended it, it vanished
            raise QueueOperationalError(
                f"nothing of this transaction was kept, SQLite rolled it back: {self._lost or 'after an error'}"
            ) from self._lost

    def _undo(self, joined: bool) -> None:
        # The exception that brought us here must not be masked, also where SQLite has rolled back already.
        with suppress(QueueDatabaseError):
            if joined:
                self._control("ROLLBACK TO prismq_block")
                self._control("RELEASE prismq_block")
            else:
                self._control("ROLLBACK")

    def _dispose(self) -> None:
        for callback in self._closing:
            callback()
        self._closing.clear()
        raw, self._raw = self.apsw, None
        self._lock.refusal = f"the connection to {self.path} is closed: ask the QueueDatabase for a new one"
        try:
            raw.close()
        except apsw.Error as error:
            raise from_apsw(error, statement="closing", database=self.path) from error

    def __del__(self) -> None:
        housekeeper = getattr(self, "housekeeper", None)
        if housekeeper is not None:
            housekeeper.abandon()  # waiting is not for a collector that may run anywhere
        if getattr(self, "_raw", None) is not None:
            with suppress(Exception):
                self._dispose()
