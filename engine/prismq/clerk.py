"""One thread that writes down, in batches, what becomes of a worker's tasks, and keeps their leases."""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from prismq import clock, heartbeat, sql, submission
from prismq.context import NOTE_LIMIT_BYTES
from prismq.errors import LeaseLostError, QueueDatabaseError, QueueDataError, QueueIntegrityError
from prismq.execution import LEASE_LOST, TIME_UP, Execution
from prismq.models import Task
from prismq.outcome import COMPLETED, Outcome, shortened
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig

_log = logging.getLogger("prismq.worker")

LINGER_SECONDS: Final = 0.002
"""How long the end of a task waits for that of others to be written with it."""
LULL_SECONDS: Final = 0.02
"""After so long without one, nobody else's is expected but of the tasks that are held."""
MOST_TOGETHER: Final = 256
"""Tasks whose end is written in one transaction."""
REPORT_SECONDS: Final = 0.25
"""Between two writes of progress."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between tries when the database can't be written."""
LAST_TRIES_SECONDS: Final = 10.0
"""How long the end of the work goes on trying to write what is left."""

LogLine = tuple[int, str, str, str, str | None]


@dataclass
class WorkerCounts:
    """What a worker did since it was made; `refused` are ends that came after the lease was lost or time was up."""

    claimed: int = 0
    completed: int = 0
    retried: int = 0
    failed: int = 0
    released: int = 0
    refused: int = 0


@dataclass
class _Pile:
    """What is to be written."""

    ended: list[tuple[Execution, Outcome]] = field(default_factory=list)
    released: list[Execution] = field(default_factory=list)
    reports: set[Execution] = field(default_factory=set)
    logs: list[LogLine] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ended or self.released or self.reports or self.logs)


class Clerk:
    """Settles, renews, reports and beats for one worker while its `with` block runs; at the end all is written.

    Every method may be called from any thread and returns at once, except `renew`.
    """

    def __init__(
        self,
        queue: TaskQueue,
        worker_id: str,
        lease_seconds: float,
        counts: WorkerCounts,
        retry: RetryConfig | None = None,
    ) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._counts = counts
        self._retry = retry
        self._capabilities: Mapping[str, Any] | None = None
        self._heartbeat_seconds = math.inf
        self._ready = threading.Condition()  # guards everything below
        self._pile = _Pile()
        self._held: dict[int, Execution] = {}
        self._ends: list[tuple[float, int, Execution]] = []  # a heap: whose time is up first
        self._renew_at = self._report_at = self._beat_at = math.inf
        self._reported_at = self._first_end_at = self._wrote_at = -math.inf
        self._closing_at = math.inf
        self._thread = threading.Thread(target=self._work, name="prismq-clerk", daemon=True)

    def register(self, capabilities: Mapping[str, Any], heartbeat_seconds: float) -> None:
        """Before the block: keep the worker's row in `workers` as well, beaten so often, and remove it at the end."""
        self._capabilities = dict(capabilities)
        self._heartbeat_seconds = heartbeat_seconds
        self._beat_at = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._ready:
            self._closing_at = time.monotonic()
            self._ready.notify()
        self._thread.join()

    def hold(self, tasks: Iterable[Task]) -> list[Execution]:
        """Keep the leases of these tasks, just claimed, until they are settled or released."""
        executions = [Execution(task, self) for task in tasks]
        again = []
        with self._ready:
            for execution in executions:
                if (old := self._held.get(execution.task_id)) is not None:  # its lease ran out unnoticed
                    again.append(old)
                self._held[execution.task_id] = execution
            if self._renew_at == math.inf:
                self._renew_at = time.monotonic() + self._lease_seconds / 3
                self._ready.notify()
            self._counts.claimed += len(executions)
        for old in again:
            old.cancel(LEASE_LOST)
        return executions

    def begin(self, execution: Execution) -> None:
        """Settle it as failed when its time is up, counted from now."""
        seconds = execution.plan.timeout_seconds if execution.plan is not None else None
        if seconds is not None:
            execution.ends = time.monotonic() + seconds
            with self._ready:
                heapq.heappush(self._ends, (execution.ends, id(execution), execution))
                if self._ends[0][2] is execution:
                    self._ready.notify()

    def settle(self, execution: Execution, outcome: Outcome) -> None:
        """This is how it ends, unless that was said before or the lease was lost: then it is refused."""
        with self._ready:
            if not execution.settled and execution.cancelled != LEASE_LOST:
                self._settle(execution, outcome)
                return
            execution.settled = True
            self._forget(execution)
        self._refuse(execution, execution.cancelled or "it has ended already")

    def release(self, executions: Iterable[Execution]) -> None:
        """Give back what was not begun, as if it had never been claimed."""
        with self._ready:
            for execution in executions:
                execution.settled = True
                self._forget(execution)
                if execution.cancelled is None:
                    self._pile.released.append(execution)
            self._ready.notify()

    def report(self, execution: Execution) -> None:
        """Write its progress soon, with that of others."""
        if execution not in self._pile.reports:
            with self._ready:
                self._pile.reports.add(execution)
                if self._report_at == math.inf:
                    self._report_at = self._reported_at + REPORT_SECONDS
                    self._ready.notify()

    def log(self, line: LogLine) -> None:
        """Write a line of a task's log: task id, time, level, message, details."""
        with self._ready:
            self._pile.logs.append(line)
            self._ready.notify()

    def renew(self, execution: Execution, seconds: float | None) -> datetime:
        """Extend its lease now; LeaseLostError, after which it is cancelled."""
        try:
            return self._queue.renew(execution.task, self._lease_seconds if seconds is None else seconds)
        except LeaseLostError:
            execution.cancel(LEASE_LOST)
            raise

    def _settle(self, execution: Execution, outcome: Outcome) -> None:
        execution.settled = True
        self._forget(execution)
        ended = self._pile.ended
        ended.append((execution, outcome))
        if len(ended) == 1:
            self._first_end_at = time.monotonic()
        if len(ended) in (1, MOST_TOGETHER) or not self._held:
            self._ready.notify()

    def _forget(self, execution: Execution) -> None:
        if self._held.get(execution.task_id) is execution:
            del self._held[execution.task_id]

    # -- its thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._ready:
                if pause:  # the database could not be written: nothing is worth a try before
                    self._ready.wait_for(lambda: self._closing_at < math.inf, pause)
                while (rest := self._rest()) > 0:
                    self._ready.wait(None if rest == math.inf else rest)
                now = time.monotonic()
                late = self._time_out(now)
                pile = self._take(now)
                if not pile and now >= self._closing_at:
                    break
            for execution in late:
                execution.cancel(TIME_UP)
            try:
                self._write(pile)
                self._renew(now)
                self._beat(now)
                pause = 0.0
            except Exception as error:
                pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._put_back(pile)
                unexpected = not isinstance(error, QueueDatabaseError)
                if time.monotonic() > self._closing_at + LAST_TRIES_SECONDS:
                    _log.error(
                        "worker %s could not write how %d tasks ended, they come back when their leases run out: %s",
                        *(self._worker_id, len(pile.ended) + len(pile.released), error),
                        exc_info=unexpected,
                    )
                    break
                _log.warning("worker %s: %s; trying again", self._worker_id, error, exc_info=unexpected)
        self._leave()

    def _rest(self) -> float:
        """How long there is nothing to do, in seconds."""
        now = time.monotonic()
        if self._pile.released or self._pile.logs or now >= self._closing_at:
            return 0
        due = min(self._renew_at, self._report_at, self._beat_at)
        if self._ends:
            due = min(due, self._ends[0][0])
        if self._pile.ended:
            lull = not self._held and now - self._wrote_at > LULL_SECONDS
            if lull or len(self._pile.ended) >= MOST_TOGETHER:
                return 0
            due = min(due, self._first_end_at + LINGER_SECONDS)
        return max(0.0, due - now)

    def _time_out(self, now: float) -> list[Execution]:
        """Settle those whose time is up."""
        late = []
        while self._ends and (self._ends[0][0] <= now or self._ends[0][2].settled):
            execution = heapq.heappop(self._ends)[2]
            if not execution.settled and execution.cancelled != LEASE_LOST and execution.plan is not None:
                seconds = execution.plan.timeout_seconds or 0
                self._settle(execution, Outcome(f"TimeoutError: it took longer than the {seconds:g} s it may take"))
                late.append(execution)
        return late

    def _take(self, now: float) -> _Pile:
        """What is to be written now."""
        pile, self._pile = self._pile, _Pile()
        if now >= self._report_at or now >= self._closing_at:
            self._reported_at, self._report_at = now, math.inf
        else:
            self._pile.reports, pile.reports = pile.reports, set()
        return pile

    def _put_back(self, pile: _Pile) -> None:
        with self._ready:
            self._pile.ended[:0] = pile.ended
            self._pile.released[:0] = pile.released
            self._pile.logs[:0] = pile.logs
            self._pile.reports |= pile.reports
            if self._pile.reports:
                self._report_at = 0.0

    def _write(self, pile: _Pile) -> None:
        """Write what is in the pile and empty it, part by part: after an error, what is not written is still in it."""
        told = {one: one.untold for one in pile.reports if one.untold is not None}
        told |= {one: one.untold for one, _ in pile.ended if one.untold is not None}
        if told or pile.logs or any(outcome is not COMPLETED for _, outcome in pile.ended):
            try:
                refused, changes = self._write_all(pile, told)
            except (QueueDataError, QueueIntegrityError) as error:  # how tasks ended is worth more than what they told
                _log.error("worker %s: what its tasks told was lost: %s", self._worker_id, error)
                refused, changes = self._write_all(_Pile([(one, _bare(outcome)) for one, outcome in pile.ended]), {})
        else:
            refused = self._complete([execution for execution, _ in pile.ended])
            changes = Counter(completed=len(pile.ended) - len(refused))
        if pile.ended:
            self._wrote_at = time.monotonic()
        pile.ended, pile.logs, pile.reports = [], [], set()
        self._counts.completed += changes["completed"]
        self._counts.retried += changes["queued"]
        self._counts.failed += changes["failed"] + changes["dead_letter"]
        for execution in refused:
            self._refuse(execution, LEASE_LOST)
        for execution, untold in told.items():
            if execution.untold is untold:
                execution.untold = None
            elif not execution.settled:
                self.report(execution)
        if pile.released:
            self._give_back(pile.released)
            pile.released = []

    def _complete(self, executions: list[Execution]) -> list[Execution]:
        """Those that were refused."""
        try:
            if executions:
                self._queue.complete_many([execution.task for execution in executions])
        except LeaseLostError as error:
            return _lost(executions, error)
        return []

    def _write_all(
        self, pile: _Pile, told: Mapping[Execution, tuple[float, str] | None]
    ) -> tuple[list[Execution], Counter[str]]:
        """In one transaction; who was refused, and how many got which status."""
        database, now = self._queue.database, clock.to_text(clock.now())
        refused, changes = [], Counter[str]()
        with database.transaction():
            for line in pile.logs:
                database.execute(sql.LOG, line)
            for execution, progress in told.items():
                if progress is not None:
                    fraction, note = progress[0], shortened(submission.message(progress[1]), NOTE_LIMIT_BYTES)
                    database.execute(sql.REPORT_PROGRESS, (*execution.token, now, fraction, note))
            for execution, outcome in pile.ended:
                if outcome.result is not None or outcome.traceback is not None:
                    database.execute(sql.REPORT_END, (*execution.token, now, outcome.result, outcome.traceback))
                if outcome.complaint is not None:
                    database.execute(sql.LOG, (execution.task_id, now, "WARNING", outcome.complaint, None))
                if outcome.error is not None:
                    try:
                        changes[self._fail(execution, outcome)] += 1
                    except LeaseLostError:
                        refused.append(execution)
            completed = [execution for execution, outcome in pile.ended if outcome.error is None]
            late = self._complete(completed)
            changes["completed"] += len(completed) - len(late)
        return [*refused, *late], changes

    def _fail(self, execution: Execution, outcome: Outcome) -> str:
        plan = execution.plan
        backoff = (plan.retry if plan is not None else None) or self._retry or True
        return self._queue.fail(
            execution.task, outcome.error, retry=outcome.retry and backoff, delay_seconds=outcome.delay_seconds
        )

    def _give_back(self, executions: list[Execution]) -> None:
        lost: list[Execution] = []
        try:
            self._queue.release_many([execution.task for execution in executions])
        except LeaseLostError as error:
            lost = _lost(executions, error)
        self._counts.released += len(executions) - len(lost)

    def _refuse(self, execution: Execution, reason: str) -> None:
        with self._ready:
            self._counts.refused += 1
        _log.warning(
            "task %s: the end of attempt %s was refused: %s",
            *(execution.task_id, execution.task.attempts, reason),
            extra={"task_id": execution.task_id},
        )
        execution.cancel(reason)

    def _renew(self, now: float) -> None:
        if now < self._renew_at:
            return
        # Who has extended its lease beyond that itself keeps it.
        soon = clock.now() + timedelta(seconds=0.9 * self._lease_seconds)
        with self._ready:
            held = list(self._held.values())
        due = [one for one in held if one.task.lease_until_utc is not None and one.task.lease_until_utc < soon]
        try:
            if due:
                self._queue.renew_many([execution.task for execution in due], self._lease_seconds)
        except LeaseLostError as error:
            for execution in _lost(due, error):
                with self._ready:
                    told = not execution.settled  # else its end is being written, which will be refused
                    self._forget(execution)
                if told:
                    execution.cancel(LEASE_LOST)
        with self._ready:
            self._renew_at = now + self._lease_seconds / 3 if self._held else math.inf

    def _beat(self, now: float) -> None:
        if now < self._beat_at or self._capabilities is None:
            return
        database = self._queue.database
        if self._beat_at == 0.0 or not heartbeat.beat(database, self._worker_id):
            heartbeat.register(database, self._worker_id, self._capabilities)
        self._beat_at = now + self._heartbeat_seconds

    def _leave(self) -> None:
        if self._capabilities is not None:
            try:
                heartbeat.remove(self._queue.database, self._worker_id)
            except QueueDatabaseError as error:
                _log.warning("worker %s could not sign off: %s", self._worker_id, error)


def _bare(outcome: Outcome) -> Outcome:
    return replace(outcome, traceback=None, result=None, complaint=None)


def _lost(executions: list[Execution], error: LeaseLostError) -> list[Execution]:
    tokens = {(lost.task_id, lost.worker_id, lost.attempt) for lost in (error, *error.others)}
    return [execution for execution in executions if execution.token in tokens]
