"""The driver in Python: the reference of what the native one does, and the fallback where that is not installed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import apsw

from prismq import clock, native, sql
from prismq.driver import (
    FAIL_OUTCOMES,
    Claim,
    DriverName,
    FailOutcome,
    Failure,
    NewTask,
    Token,
)
from prismq.errors import QueueDatabaseError, from_apsw
from prismq.housekeeping import (
    LONGEST_WAIT_SECONDS,
    PROMOTE_LIMIT,
    SHORTEST_WAIT_SECONDS,
    await_reap,
    checkpoint_inline,
)
from prismq.models import SchedulingStrategy, Task, claimed_task

if TYPE_CHECKING:
    from prismq.connection import Connection

_STORED_TIME_LENGTHS = (23, 19)  # with and without milliseconds
_CLAIMS = {
    (SchedulingStrategy.PRIORITY, False): sql.CLAIM_PRIORITY,
    (SchedulingStrategy.PRIORITY, True): sql.CLAIM_PRIORITY_TYPED,
    (SchedulingStrategy.FIFO, False): sql.CLAIM_FIFO,
    (SchedulingStrategy.FIFO, True): sql.CLAIM_FIFO_TYPED,
    (SchedulingStrategy.LIFO, False): sql.CLAIM_LIFO,
    (SchedulingStrategy.LIFO, True): sql.CLAIM_LIFO_TYPED,
    (SchedulingStrategy.WEIGHTED_RANDOM, False): sql.CLAIM_LOTTERY,
    (SchedulingStrategy.WEIGHTED_RANDOM, True): sql.CLAIM_LOTTERY_TYPED,
}


class PythonDriver:
    """Executes operations statement by statement on a connection."""

    name: DriverName = "python"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reserved_id = 0  # AUTOINCREMENT's counter is at least here; a hint, see sql.RESERVE_IDS
        self._last_claim_empty = False  # then look without the write lock first
        self._waiting_since = 0.0  # at the first refusal of the lock
        with connection.hold():
            connection.apsw.set_wal_hook(checkpoint_inline(connection))
            if native.load() is None:  # else waiting is the VFS's, by the busy timeout
                connection.apsw.set_busy_handler(self._wait_for_turn)

    @property
    def group_commit(self) -> str:
        return "off: the python driver commits alone"

    def enqueue(self, task: NewTask) -> int:
        return self.enqueue_many([task])[0]

    def enqueue_many(self, tasks: Iterable[NewTask]) -> list[int]:
        tasks = list(tasks)
        ids: list[int] = []
        next_id = None
        with self._transaction():
            now = clock.to_text(clock.now())
            for kind, payload, compatibility, key_bytes, priority, max_attempts, run_after_ms in tasks:
                key = None if key_bytes is None else key_bytes.decode()
                known = None if key is None else self._one(sql.FIND_KEY, key)
                if known is not None:
                    ids.append(known)
                    continue
                self._run(
                    sql.INSERT,
                    next_id,
                    kind.decode(),
                    priority,
                    payload.decode(),
                    compatibility.decode(),
                    max_attempts,
                    now if run_after_ms is None else clock.to_text_ms(run_after_ms),
                    key,
                    now,
                )
                task_id = self._connection.apsw.last_insert_rowid()
                ids.append(task_id)
                next_id = task_id + 1
                if task_id > self._reserved_id:
                    self._run(sql.RESERVE_IDS, task_id, self._connection.settings.id_block)
                    self._reserved_id = self._one(sql.RESERVED_IDS) or 0
        return ids

    def claim(self, wanted: Claim, expected: bool = False) -> list[Task]:
        with self._connection.hold():
            alone = not self._connection.in_transaction
            if expected or not (self._last_claim_empty and alone):
                tasks = self._claim_in_transaction(wanted)
                if tasks or not alone:
                    return tasks
        tasks = self._claim_in_transaction(wanted) if self.has_task(wanted) else []
        self._last_claim_empty = not tasks
        return tasks

    def served(self, answer: Any, worker: str) -> list[Task]:
        raise NotImplementedError("nobody claims for this driver")

    def rehearse(self, worker: str) -> None:
        raise NotImplementedError("nobody claims for this driver")

    def has_task(self, wanted: Claim) -> bool:
        looks = 0
        while True:
            with self._connection.hold():
                found, expired = self._look(wanted)
            if found or not expired:
                return found
            looks += 1
            await_reap(self._connection, looks)

    def complete(self, token: Token) -> bool:
        return self.complete_many([token])[0]

    def complete_many(self, tokens: Sequence[Token]) -> list[bool]:
        with self._transaction():
            now = clock.to_text(clock.now())
            return [self._changes(sql.COMPLETE, *token, now) == 1 for token in tokens]

    def fail_many(self, failures: Sequence[Failure]) -> list[FailOutcome | None]:
        with self._transaction():
            now = clock.epoch_ms(clock.now())
            return [
                FAIL_OUTCOMES[
                    self._one(
                        sql.FAIL,
                        *token,
                        clock.to_text_ms(now),
                        error,
                        int(retry),
                        clock.to_text_ms(now + delay_ms),
                    )
                    or 0
                ]
                for token, error, retry, delay_ms in failures
            ]

    def renew_many(self, renewals: Sequence[tuple[Token, int]]) -> list[str | None]:
        ends: list[str | None] = []
        with self._transaction():
            now = clock.epoch_ms(clock.now())
            for token, lease_ms in renewals:
                end = clock.to_text_ms(now + lease_ms)
                ends.append(end if self._changes(sql.RENEW, *token, clock.to_text_ms(now), end) else None)
        return ends

    def _claim_in_transaction(self, wanted: Claim) -> list[Task]:
        tasks: list[Task] = []
        with self._transaction():
            now = clock.epoch_ms(clock.now())  # the lease begins when the lock is ours
            at, lease_until = clock.to_text_ms(now), clock.to_text_ms(now + wanted.lease_ms)
            if self._one(sql.DUE, at):
                self._run(sql.PROMOTE, at, PROMOTE_LIMIT)
            statement, parameters = self._head(wanted)
            while len(tasks) < wanted.limit:
                head = self._first(statement, *parameters)
                if head is None:
                    break
                if len(str(head[7])) not in _STORED_TIME_LENGTHS:
                    self._run(sql.NORMALISE, head[0], at)
                    continue  # it is in its place now, which may be elsewhere
                if wanted.strategy is SchedulingStrategy.WEIGHTED_RANDOM:
                    self._run(sql.DRAW, head[0])
                self._run(sql.TAKE, head[0], wanted.worker, lease_until, at)
                began, ends = clock.from_epoch_ms(now), clock.from_epoch_ms(now + wanted.lease_ms)
                tasks.append(_claimed(head, wanted.worker, began, ends))
        return tasks

    def _head(self, wanted: Claim) -> tuple[str, tuple[str | None, ...]]:
        """The statement that finds the next task of a claim, and its parameters."""
        typed = wanted.types is not None
        if wanted.strategy is SchedulingStrategy.PRIORITY and not typed and not self._one(sql.CONSTRAINED):
            return sql.HEAD, ()
        types = None if wanted.types is None else wanted.types.decode()
        return _CLAIMS[wanted.strategy, typed], (types, wanted.capabilities.decode())

    def _look(self, wanted: Claim) -> tuple[bool, bool]:
        """Whether there is anything for this claim, and whether a lease has run out.

        Asked in a read transaction, so that idle workers leave writers alone.
        """
        at = clock.to_text(clock.now())
        alone = not self._connection.in_transaction
        if alone:
            self._run(sql.BEGIN_READ)
        try:
            expired, due = bool(self._one(sql.EXPIRED, at)), bool(self._one(sql.DUE, at))
            statement, parameters = self._head(wanted)
            return due or self._first(statement, *parameters) is not None, expired
        finally:
            if alone:
                self._run(sql.COMMIT)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Alone, an operation is a transaction. Inside the caller's it joins by a savepoint: whole or not at all."""
        with self._connection.hold():
            if self._connection.in_transaction:
                opening, closing, undoing = sql.SAVEPOINT, sql.RELEASE, [sql.ROLLBACK_TO, sql.RELEASE]
            else:
                opening, closing, undoing = sql.BEGIN, sql.COMMIT, [sql.ROLLBACK]
            self._run(opening)
            try:
                yield
                self._run(closing)
            except BaseException as error:
                if self._connection.in_transaction:
                    with suppress(apsw.Error):  # the cause must not be masked
                        for statement in undoing:
                            self._connection.apsw.execute(statement)
                elif isinstance(error, QueueDatabaseError):  # SQLite rolled back by itself: disk full, I/O error
                    self._connection.note_failure(error)
                raise

    def _wait_for_turn(self, times: int) -> bool:
        """Stands in for SQLite's own busy handler, which soon sleeps for long while newcomers go first."""
        now = time.monotonic()
        if times == 0:
            self._waiting_since = now
        waited = now - self._waiting_since
        if waited >= self._connection.timeout:
            return False
        longest = min(max(waited / 8, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        time.sleep(longest * random.uniform(0.5, 1))
        return True

    def _run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        started = time.monotonic()
        raw = self._connection.apsw
        try:
            return raw.execute(statement, parameters).fetchall()
        except apsw.Error as error:
            waited = time.monotonic() - started
            raise from_apsw(error, database=self._connection.path, waited=waited) from error

    def _first(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        rows = self._run(statement, *parameters)
        return rows[0] if rows else None

    def _one(self, statement: str, *parameters: Any) -> Any:
        row = self._first(statement, *parameters)
        return None if row is None else row[0]

    def _changes(self, statement: str, *parameters: Any) -> int:
        self._run(statement, *parameters)
        return self._connection.apsw.changes()


def _claimed(head: tuple[Any, ...], worker: str, at: datetime, lease_until: datetime) -> Task:
    task_id, priority, attempts, max_attempts, kind, payload, compatibility, run_after, created, error, key = head
    return claimed_task(
        task_id,
        priority,
        attempts + 1,
        max_attempts,
        kind,
        payload,
        compatibility,
        run_after,
        created,
        error,
        key,
        worker,
        at,
        lease_until,
    )
