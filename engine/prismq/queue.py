"""The queue as people use it: enqueue, claim, and settle what was claimed."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from prismq import asynchronous, clock, idle, lottery, sql, submission
from prismq.asynchronous import Stop
from prismq.connection import Connection
from prismq.database import QueueDatabase
from prismq.driver import (
    Claim,
    Driver,
    DriverChoice,
    DriverName,
    FailOutcome,
    Failure,
    NewTask,
    Token,
    check_choice,
    connect,
)
from prismq.errors import InvalidTaskError, LeaseLostError, QueueProgrammingError
from prismq.models import SchedulingStrategy, Task, TaskReport
from prismq.retry import RetryConfig
from prismq.settings import Durability, SettingsLike
from prismq.submission import RunAfter

T = TypeVar("T")

_log = logging.getLogger(__name__)

REQUEUE_CHUNK: Final = 100
"""Tasks requeued in one transaction."""

_id = submission.task_id


class TaskQueue:
    """A durable task queue in one SQLite file, shared by any number of processes and threads of one machine.

    `database` is a path, a QueueDatabase (whose `transaction()` enqueues then join), or None for the default path.
    `durability` is "normal" or "full", `group_commit` on by default, and `settings` has these and more, see
    QueueDatabase. Raises QueueDatabaseError when the file can't hold a queue; every method raises QueueBusyError when
    the database stays locked beyond the busy timeout.
    """

    def __init__(
        self,
        database: QueueDatabase | str | os.PathLike[str] | None = None,
        *,
        durability: Durability | None = None,
        group_commit: bool | None = None,
        settings: SettingsLike | None = None,
        retry: RetryConfig | None = None,
        driver: DriverChoice = "auto",
    ) -> None:
        self._owns_database = not isinstance(database, QueueDatabase)
        if isinstance(database, QueueDatabase):
            if durability not in (None, database.durability):
                raise ValueError(
                    f"durability is {durability!r} here but {database.durability!r} in the QueueDatabase: say it there"
                )
            if group_commit not in (None, database.group_commit):
                raise ValueError(
                    f"group_commit is {group_commit!r} here but {database.group_commit!r} in the QueueDatabase: "
                    "say it there"
                )
            if settings is not None:
                raise ValueError("settings are those of the QueueDatabase: say them there")
            self.database = database
        else:
            self.database = QueueDatabase(database, durability=durability, group_commit=group_commit, settings=settings)
        self.retry = retry or RetryConfig()
        self._driver_choice = driver
        self._connection: Connection | None = None
        self._driver: Driver | None = None
        self._lottery_is_open = False
        self._rooms = idle.Rooms()
        check_choice(driver)
        self.database.initialize_schema()

    @property
    def driver_name(self) -> DriverName:
        """Which driver runs the operations: "native" or "python"."""
        return self._ready().name

    @property
    def group_commit(self) -> str:
        """Whether operations that would wait for the write lock are done by its holder: "on", or "off: " and why."""
        return self._ready().group_commit

    def enqueue(
        self,
        type: str,
        payload: Any = None,
        *,
        priority: int = 100,
        run_after: RunAfter = None,
        max_attempts: int = 5,
        compatibility: Mapping[str, Any] | str | None = None,
        idempotency_key: str | None = None,
        retry: RetryConfig | None = None,
    ) -> int:
        """Store a task and return its id; inside `database.transaction()` it commits with that.

        `payload` is anything JSON can hold, or JSON text. Smaller `priority` runs first. `run_after` is a datetime,
        ISO-8601 text or a timedelta from now. `compatibility` is what a worker must offer to get the task. With an
        `idempotency_key` that is known already nothing is written and the first task's id returned. `retry` is this
        task's own backoff, whoever fails it. InvalidTaskError.
        """
        task = submission.new_task(type, payload, priority, run_after, max_attempts, compatibility, idempotency_key)
        if retry is None:
            return self._ready().enqueue(task)
        return self._enqueue_with_retries([task], {0: submission.retry(retry)})[0]

    def enqueue_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[int]:
        """Store tasks, each a dict of `enqueue`'s arguments, in one transaction: all or none. Their ids, in order."""
        retries: dict[int, str] = {}
        new = list(submission.new_tasks(tasks, retries))
        return self._enqueue_with_retries(new, retries) if retries else self._ready().enqueue_many(new)

    def claim(
        self,
        worker_id: str,
        *,
        types: Iterable[str] | str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        strategy: SchedulingStrategy | str = SchedulingStrategy.PRIORITY,
        lease_seconds: float = 60,
        wait: float | None = 0,
        stop: Stop | None = None,
    ) -> Task | None:
        """Take the next task for `lease_seconds`, or None when there is none for this worker.

        Its status, lease and attempt change in one transaction. `types` limits by task type. A task with needs
        (`compatibility`) goes only to workers whose `capabilities` meet them. With `wait`, sleep until there is one, up
        to that many seconds (None: for ever), or until another thread sets `stop`. Settle it with `complete` or `fail`.
        """
        wanted = submission.claim(worker_id, 1, types, capabilities, strategy, lease_seconds)
        tasks = self._claim(wanted, wait, stop)
        return tasks[0] if tasks else None

    def claim_many(
        self,
        worker_id: str,
        limit: int,
        *,
        types: Iterable[str] | str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        strategy: SchedulingStrategy | str = SchedulingStrategy.PRIORITY,
        lease_seconds: float = 60,
        wait: float | None = 0,
        stop: Stop | None = None,
    ) -> list[Task]:
        """As `claim`, for up to `limit` tasks in one transaction, best first; with `wait`, at least one."""
        wanted = submission.claim(worker_id, limit, types, capabilities, strategy, lease_seconds)
        return self._claim(wanted, wait, stop)

    async def aclaim(
        self,
        worker_id: str,
        *,
        types: Iterable[str] | str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        strategy: SchedulingStrategy | str = SchedulingStrategy.PRIORITY,
        lease_seconds: float = 60,
        wait: float | None = None,
    ) -> Task | None:
        """As `claim`, without holding up the event loop; waits for ever by default.

        A task that was claimed when the caller is cancelled is given back as if it had never been claimed.
        """
        wanted = submission.claim(worker_id, 1, types, capabilities, strategy, lease_seconds)
        _check_wait(wait)
        self._check_may_wait()
        tasks = await asynchronous.wait_in_thread(lambda stop: self._claim(wanted, wait, stop), self._give_back)
        return tasks[0] if tasks else None

    def wait(
        self,
        timeout: float | None,
        types: Iterable[str] | str | None = None,
        capabilities: Mapping[str, Any] | None = None,
    ) -> bool:
        """Sleep until there is a task that such a claim would get, at most `timeout` seconds (None: for ever).

        False after the timeout. Another worker may take the task before this one does.
        """
        wanted = submission.claim("wait", 1, types, capabilities, SchedulingStrategy.PRIORITY, 60)
        driver = self._ready()
        return bool(self._until(lambda _: driver.has_task(wanted), wanted, timeout))

    def release(self, task: Task) -> None:
        """Give a claimed task back as if it had never been claimed; drop it then. LeaseLostError for a stale claim."""
        token = _token(task)
        if self.database.execute(sql.UNCLAIM, (*token, clock.to_text(clock.now()))).rowcount != 1:
            raise self._lost(task)
        _settled(task, "queued")
        task.attempts -= 1

    def release_many(self, tasks: Iterable[Task]) -> None:
        """As `release`, in one transaction; LeaseLostError as in `complete_many`."""
        tasks = list(tasks)
        now = clock.to_text(clock.now())
        with self.database.transaction():
            kept = [self.database.execute(sql.UNCLAIM, (*_token(task), now)).rowcount == 1 for task in tasks]
        for task, released in zip(tasks, kept, strict=True):
            if released:
                _settled(task, "queued")
                task.attempts -= 1
        self._refuse([task for task, released in zip(tasks, kept, strict=True) if not released])

    def complete(self, task: Task) -> None:
        """Record that the claimed task is done. LeaseLostError when the claim is stale."""
        if not self._ready().complete(_token(task)):
            raise self._lost(task)
        _settled(task, "completed")

    def complete_many(self, tasks: Iterable[Task]) -> None:
        """As `complete`, in one transaction. Every task whose claim still holds is completed.

        Then LeaseLostError for the first of the others, if any, with all of them in its `others`.
        """
        tasks = list(tasks)
        kept = self._ready().complete_many([_token(task) for task in tasks])
        for task, completed in zip(tasks, kept, strict=True):
            if completed:
                _settled(task, "completed")
        self._refuse([task for task, completed in zip(tasks, kept, strict=True) if not completed])

    def fail(
        self, task: Task, error: object, *, retry: bool | RetryConfig = True, delay_seconds: float | None = None
    ) -> FailOutcome:
        """Record a failure and return the task's new status. LeaseLostError when the claim is stale.

        With `retry` it is "queued" again while attempts remain, then "dead_letter"; without, "failed". It waits for
        `delay_seconds`, else the backoff that it was enqueued with, else that of `retry`, else the queue's.
        """
        (outcome,) = self.fail_many([(task, error)], retry=retry, delay_seconds=delay_seconds)
        return outcome

    def fail_many(
        self,
        failures: Iterable[tuple[Task, object]],
        *,
        retry: bool | RetryConfig = True,
        delay_seconds: float | None = None,
    ) -> list[FailOutcome]:
        """As `fail` for pairs of task and error, in one transaction; LeaseLostError as in `complete_many`."""
        failures = list(failures)
        tokens = [_token(task) for task, _ in failures]
        usual = retry if isinstance(retry, RetryConfig) else self.retry
        own = self._retries([token.task_id for token in tokens]) if retry and delay_seconds is None else {}
        requests = []
        for token, (_, error) in zip(tokens, failures, strict=True):
            backoff = own.get(token.task_id, usual)
            seconds = backoff.delay_seconds(token.attempt) if delay_seconds is None else delay_seconds
            delay_ms = submission.milliseconds(seconds, "delay_seconds")
            requests.append(Failure(token, submission.message(error), bool(retry), delay_ms))
        outcomes = self._ready().fail_many(requests)
        settled = []
        for (task, _), outcome in zip(failures, outcomes, strict=True):
            if outcome is not None:
                _settled(task, outcome)
                settled.append(outcome)
        self._refuse([task for (task, _), outcome in zip(failures, outcomes, strict=True) if outcome is None])
        return settled

    def renew(self, task: Task, lease_seconds: float = 60) -> datetime:
        """Extend the lease to `lease_seconds` from now and return its end. LeaseLostError when the claim is stale."""
        (end,) = self.renew_many([task], lease_seconds)
        return end

    def renew_many(self, tasks: Iterable[Task], lease_seconds: float = 60) -> list[datetime]:
        """As `renew`, in one transaction; LeaseLostError as in `complete_many`."""
        tasks = list(tasks)
        lease_ms = submission.milliseconds(lease_seconds, "lease_seconds", 0.001)
        ends = self._ready().renew_many([(_token(task), lease_ms) for task in tasks])
        renewed = []
        for task, text in zip(tasks, ends, strict=True):
            end = clock.to_datetime(text)
            if end is not None:
                task.lease_until_utc = end
                renewed.append(end)
        self._refuse([task for task, text in zip(tasks, ends, strict=True) if text is None])
        return renewed

    def cancel(self, task_id: int) -> bool:
        """End a queued or running task as failed, "Cancelled by user"; False when it has ended already or is unknown.

        A running handler is told by its worker within a second or two; what it still does is refused.
        """
        return self.database.execute(sql.CANCEL, (_id(task_id), clock.to_text(clock.now()))).rowcount == 1

    def requeue(self, task_id: int) -> bool:
        """Give a failed or dead-lettered task all its attempts again; False for any other."""
        return self.database.execute(sql.REQUEUE, (_id(task_id), clock.to_text(clock.now()))).rowcount == 1

    def requeue_all(
        self,
        types: Iterable[str] | str | None = None,
        status: Literal["dead_letter", "failed"] = "dead_letter",
        limit: int | None = None,
    ) -> int:
        """`requeue` for all tasks of that status, of these types, up to `limit`, what failed first first. How many.

        Each hundred is a transaction of its own, so nobody waits for many; when one fails, those before it stand.
        """
        if status not in ("dead_letter", "failed"):
            raise InvalidTaskError(f"status is {status!r}; only 'dead_letter' and 'failed' tasks can be requeued")
        names = submission.type_names(types)
        wanted = None if names is None else names.decode()
        left = math.inf if limit is None else submission.count(limit, "limit")
        latest = self.database.execute(sql.LAST_FAILED).fetchone()
        last: tuple[Any, int] = (-math.inf, 0)  # which is before any text
        requeued = 0
        while left > 0 and latest is not None:
            looked_at = (status, wanted, *last, *latest, int(min(REQUEUE_CHUNK, left)))
            chunk = self.database.execute(sql.FAILED, looked_at).fetchall()
            if not chunk:
                break
            last = tuple(chunk[-1])
            found = (json.dumps([row[1] for row in chunk]), clock.to_text(clock.now()), status)
            changed = self.database.execute(sql.REQUEUE_MANY, found).rowcount
            left, requeued = left - changed, requeued + changed
        return requeued

    def report(self, task_id: int) -> TaskReport | None:
        """The progress, result or traceback of the task's last attempt that told any, else None."""
        row = self.database.execute(sql.GET_REPORT, (_id(task_id),)).fetchone()
        return None if row is None else TaskReport.from_dict(dict(row))

    def get(self, task_id: int) -> Task | None:
        """The task as it is now, None when there is none with this id."""
        row = self.database.execute(sql.GET, (_id(task_id),)).fetchone()
        return None if row is None else Task.from_row(tuple(row))

    def close(self) -> None:
        """Close the database if the queue opened it; the next use opens it again."""
        self._connection = self._driver = None
        self._rooms = idle.Rooms()
        self._lottery_is_open = False
        if self._owns_database:
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TaskQueue({str(self.database.db_path)!r}, durability={self.database.durability!r})"

    def _ready(self) -> Driver:
        """The driver of the database's current connection."""
        connection = self.database.get_connection()
        driver = self._driver
        if connection is not self._connection or driver is None:
            driver = self._driver = connect(connection, self._driver_choice)
            self._connection = connection
        return driver

    def _enqueue_with_retries(self, tasks: list[NewTask], retries: Mapping[int, str]) -> list[int]:
        """`retries` has the place of each task with a backoff of its own. What was there already stays as it is."""
        with self.database.transaction():
            known = {place for place in retries if (key := tasks[place][3]) is not None and self._has_key(key)}
            ids = self._ready().enqueue_many(tasks)
            for place, retry in retries.items():
                if place not in known:
                    self.database.execute(sql.KEEP_RETRY, (ids[place], retry))
        return ids

    def _has_key(self, key: bytes) -> bool:
        return self.database.execute(sql.FIND_KEY, (key.decode(),)).fetchone() is not None

    def _retries(self, ids: list[int]) -> dict[int, RetryConfig]:
        """The backoffs that these tasks were enqueued with."""
        found = {}
        for task_id, text in self.database.execute(sql.RETRIES, (json.dumps(ids),)).fetchall():
            try:
                found[task_id] = RetryConfig.from_dict(json.loads(text))
            except (ValueError, RecursionError) as error:
                _log.warning("task %s has a backoff that can't be read, the usual one is used: %s", task_id, error)
        return found

    def _claim(self, wanted: Claim, wait: float | None, stop: Stop | None = None) -> list[Task]:
        driver = self._ready()
        if wanted.strategy is SchedulingStrategy.WEIGHTED_RANDOM and not self._lottery_is_open:
            lottery.open_lottery(self.database)
            self._lottery_is_open = not self.database.get_connection().in_transaction  # which may yet be undone
        if wait == 0:
            return driver.claim(wanted)
        service = driver if driver.name == "native" and wanted.limit == 1 else None
        return self._until(lambda called: driver.claim(wanted, called), wanted, wait, stop, service) or []

    def _until(
        self,
        attempt: Callable[[bool], T],
        wanted: Claim,
        timeout: float | None,
        stop: Stop | None = None,
        service: Driver | None = None,
    ) -> T | list[Task] | None:
        """What `attempt` returns once that is true, tried again whenever there may be a new task; None if too late.

        It is told whether this one was called for a task. With `service`, others may claim meanwhile.
        """
        _check_wait(timeout)
        if timeout != 0:
            self._check_may_wait()
        connection = self.database.get_connection()
        if result := attempt(False):
            return result
        ends = math.inf if timeout is None else time.monotonic() + timeout
        rehearse = None if service is None else partial(service.rehearse, wanted.worker)
        place = idle.take_place(self._rooms, connection.path, wanted, rehearse)
        with stop.interrupting(place) if stop is not None else nullcontext():
            got = False
            try:
                while True:
                    place.arm()
                    if result := attempt(False):
                        return result
                    called = False
                    while not called:
                        left = ends - time.monotonic()
                        if left <= 0 or (stop is not None and stop.is_set()):
                            return None
                        if connection.closed:
                            raise QueueProgrammingError("the queue was closed while this thread waited for a task")
                        called = place.sleep(left)
                    if service is not None and place.answer is not None:
                        tasks, place.answer = service.served(place.answer, wanted.worker), None
                        if tasks:
                            return tasks
                        continue  # its lease has run out already
                    if result := attempt(True):
                        got = True
                        return result
            finally:
                late = place.leave(got)
                if late is not None and service is not None:
                    self._give_back(service.served(late, wanted.worker))

    def _check_may_wait(self) -> None:
        if self.database.get_connection().in_transaction:
            raise QueueProgrammingError("waiting for a task inside a transaction would keep everybody from adding one")

    def _give_back(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.release(task)

    def _refuse(self, lost: list[Task]) -> None:
        if lost:
            first = self._lost(lost[0])
            first.others = [self._lost(task) for task in lost[1:]]
            raise first

    def _lost(self, task: Task) -> LeaseLostError:
        token = _token(task)
        now = self.get(token.task_id)
        if now is None:
            return LeaseLostError(*token)
        return LeaseLostError(*token, status=now.status, holder=now.locked_by, holder_attempts=now.attempts)


def _token(task: Task) -> Token:
    if not isinstance(task, Task) or task.id is None or task.locked_by is None:
        raise InvalidTaskError(f"{task!r:.200} was not claimed: pass the Task that claim() returned")
    return Token(task.id, task.locked_by, task.attempts)


def _settled(task: Task, status: str) -> None:
    task.status = status
    task.lease_until_utc = None


def _check_wait(seconds: float | None) -> None:
    if seconds is not None:
        submission.duration(seconds, "wait", 0)
