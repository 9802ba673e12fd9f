"""One thread that writes down, in batches, what becomes of a worker's tasks, and keeps their leases."""

from __future__ import annotations

import heapq
import json
import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from prismq import clock, heartbeat, sql
from prismq.database import QueueDatabase
from prismq.errors import LeaseLostError, QueueDatabaseError
from prismq.execution import LEASE_LOST, TIME_UP, Execution
from prismq.ledger import Ledger, LogLine, Pile, WorkerCounts, those_lost
from prismq.models import Task
from prismq.outcome import NOT_BEGUN, Outcome
from prismq.queue import TaskQueue
from prismq.record import Recorder
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
LOOK_SECONDS: Final = 1.0
"""Between two looks at whether the tasks that are held are still the worker's."""
LONGEST_REST_SECONDS: Final = 3600.0
"""A thread can't wait for any time: on Windows for 49 days at most."""
ENDS_TO_SPARE: Final = 100
"""Executions that have ended are forgotten when there are so many more of them than of the others."""


class Clerk:
    """Settles, renews, reports and beats for one worker while its `with` block runs; at the end all is written.

    Every method may be called from any thread and returns at once, except `renew`. When its thread dies, the end of the
    block raises what it died of.
    """

    def __init__(
        self,
        queue: TaskQueue,
        worker_id: str,
        lease_seconds: float,
        counts: WorkerCounts,
        retry: RetryConfig | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._counts = counts
        self._recorder = recorder
        self._ledger = Ledger(queue, worker_id, counts, retry, self._refuse)
        self._capabilities: Mapping[str, Any] | None = None
        self._heartbeat_seconds = math.inf
        self._ready = threading.Condition()  # guards everything below
        self._pile = Pile()
        self._writing = False
        self._held: dict[int, Execution] = {}
        self._ends: list[tuple[float, int, Execution]] = []  # a heap: whose time is up first
        self._renew_at = self._look_at = self._report_at = self._beat_at = math.inf
        self._reported_at = self._first_end_at = self._wrote_at = -math.inf
        self._closing_at = math.inf
        self._error: BaseException | None = None
        self._view: QueueDatabase | None = None
        """To look, whatever transactions handlers have open on the queue's connection."""
        self._thread = threading.Thread(target=self._work, name="prismq-clerk", daemon=True)

    def register(self, capabilities: Mapping[str, Any], heartbeat_seconds: float) -> None:
        """Before the block: keep the worker's row in `workers` as well, beaten so often, and remove it at the end."""
        self._capabilities = dict(capabilities)
        self._heartbeat_seconds = heartbeat_seconds
        self._beat_at = 0.0

    @property
    def died(self) -> bool:
        """Whether nothing is written any more, because of an error that should not be."""
        return self._error is not None

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
        if self._error is not None:
            raise self._error

    def hold(self, tasks: Iterable[Task]) -> list[Execution]:
        """Keep the leases of these tasks, just claimed, until they are settled or released."""
        executions = [Execution(task, self) for task in tasks]
        again = []
        with self._ready:
            for execution in executions:
                if (old := self._held.get(execution.task_id)) is not None:  # its lease ran out unnoticed
                    again.append(old)
                self._held[execution.task_id] = execution
            if self._look_at == math.inf:
                self._look_at = time.monotonic() + LOOK_SECONDS
                self._ready.notify()
            if self._renew_at == math.inf:
                self._renew_at = time.monotonic() + self._lease_seconds / 3
                self._ready.notify()
            self._counts.claimed += len(executions)
        for old in again:
            old.cancel(LEASE_LOST)
        return executions

    def begin(self, execution: Execution) -> None:
        """Its attempt is one that counts; settle it as failed when its time is up, counted from now."""
        if self._recorder is not None:
            self._recorder.begin(execution)
        seconds = execution.plan.timeout_seconds if execution.plan is not None else None
        if seconds is not None:
            execution.ends = time.monotonic() + seconds
            with self._ready:
                if len(self._ends) > 2 * len(self._held) + ENDS_TO_SPARE:
                    self._ends = [end for end in self._ends if self._held.get(end[2].task_id) is end[2]]
                    heapq.heapify(self._ends)
                heapq.heappush(self._ends, (execution.ends, id(execution), execution))
                if self._ends[0][2] is execution:
                    self._ready.notify()

    def settle(self, execution: Execution, outcome: Outcome) -> None:
        """This is how it ends, unless that was said before or the lease was lost: then it is refused."""
        if outcome is NOT_BEGUN:
            self.release([execution])
            return
        with self._ready:
            if not execution.settled and execution.cancelled != LEASE_LOST:
                self._settle(execution, outcome)
                return
            execution.settled = True
            self._forget(execution)
        self._refuse(execution, execution.cancelled or "it has ended already")

    def release(self, executions: Iterable[Execution]) -> None:
        """Give back what was not begun, or is not to be given up, as if it had never been claimed."""
        with self._ready:
            for execution in executions:
                if not execution.settled and execution.cancelled is None:
                    self._pile.released.append(execution)
                execution.settled = True
                self._forget(execution)
            self._ready.notify()

    def await_written(self) -> None:
        """Until it is written how all ended that were settled, or nobody writes any more."""
        while self._thread.is_alive():
            with self._ready:
                if not self._pile.ended and not self._writing:
                    return
            time.sleep(LINGER_SECONDS)

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
        if self._recorder is not None:
            self._recorder.end(execution)

    # -- its thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._write_until_closed()
        except BaseException as error:
            _log.critical("worker %s can't write what becomes of its tasks: it ends", self._worker_id, exc_info=True)
            self._error = error
        finally:
            self._leave()

    def _write_until_closed(self) -> None:
        pause = 0.0
        while True:
            with self._ready:
                if pause:  # the database could not be written: nothing is worth a try before
                    self._ready.wait_for(lambda: self._closing_at < math.inf, pause)
                while (rest := self._rest()) > 0:
                    self._ready.wait(min(rest, LONGEST_REST_SECONDS))
                now = time.monotonic()
                late = self._time_out(now)
                pile = self._take(now)
                self._writing = bool(pile.ended)
                if not pile and now >= self._closing_at:
                    return
            for execution in late:
                self._tell_time_is_up(execution)
            errors = self._do_what_is_due(pile, now)
            pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS) if errors else 0.0
            with self._ready:
                if pile:
                    self._put_back(pile)
                self._writing = False
            if pile and time.monotonic() > self._closing_at + LAST_TRIES_SECONDS:
                _log.error(
                    "worker %s could not write how %d tasks ended, they come back when their leases run out: %s",
                    *(self._worker_id, len(pile.ended) + len(pile.released), errors[0]),
                )
                return

    def _do_what_is_due(self, pile: Pile, now: float) -> list[Exception]:
        """Each duty has a try of its own, so that trouble with one is none of the others'; what went wrong."""
        duties = [partial(self._write, pile), *(partial(duty, now) for duty in (self._renew, self._look, self._beat))]
        errors: list[Exception] = []
        for duty in duties:
            try:
                duty()
            except Exception as error:
                errors.append(error)
                unexpected = not isinstance(error, QueueDatabaseError)
                _log.warning("worker %s: %s; trying again", self._worker_id, error, exc_info=unexpected)
        return errors

    def _rest(self) -> float:
        """How long there is nothing to do, in seconds."""
        now = time.monotonic()
        if self._pile.released or self._pile.logs or now >= self._closing_at:
            return 0
        due = min(self._renew_at, self._look_at, self._report_at, self._beat_at)
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

    @staticmethod
    def _tell_time_is_up(execution: Execution) -> None:
        execution.cancel(TIME_UP)
        if execution.interrupt is None:  # a function in a thread, which may take no notice
            _log.warning(
                "the time of task %s (%s) is up, but its handler can't be ended: it keeps its thread, and the place of "
                "another task, until it returns; with pool='process' it would be killed",
                *(execution.task_id, execution.task.type),
                extra={"task_id": execution.task_id},
            )

    def _take(self, now: float) -> Pile:
        """What is to be written now."""
        pile, self._pile = self._pile, Pile()
        if now >= self._report_at or now >= self._closing_at:
            self._reported_at, self._report_at = now, math.inf
        else:
            self._pile.reports, pile.reports = pile.reports, set()
        return pile

    def _put_back(self, pile: Pile) -> None:
        with self._ready:
            self._pile.ended[:0] = pile.ended
            self._pile.released[:0] = pile.released
            self._pile.logs[:0] = pile.logs
            self._pile.reports |= pile.reports
            if self._pile.reports:
                self._report_at = 0.0

    def _write(self, pile: Pile) -> None:
        ended = bool(pile.ended)
        self._ledger.write(pile)
        if ended:
            self._wrote_at = time.monotonic()

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
            self._lose(those_lost(due, error))
        with self._ready:
            self._renew_at = now + self._lease_seconds / 3 if self._held else math.inf

    def _look(self, now: float) -> None:
        """Find out which tasks were cancelled or taken away, long before their renewal is refused."""
        if now < self._look_at:
            return
        with self._ready:
            held = list(self._held.values())
            self._look_at = now + LOOK_SECONDS if held else math.inf
        if held:
            if self._view is None:
                self._view = QueueDatabase(self._queue.database.db_path, settings=self._queue.database.settings)
            tokens = json.dumps([execution.token for execution in held])
            self._lose([held[row[0]] for row in self._view.execute(sql.NOT_HELD, (tokens,)).fetchall()])

    def _lose(self, executions: list[Execution]) -> None:
        """Have these end, or not begin: their tasks are not the worker's any more."""
        for execution in executions:
            with self._ready:
                tell = not execution.settled  # else its end is being written, which will be refused
                self._forget(execution)
            if tell:
                execution.cancel(LEASE_LOST)

    def _beat(self, now: float) -> None:
        if now < self._beat_at or self._capabilities is None:
            return
        database = self._queue.database
        if self._beat_at == 0.0 or not heartbeat.beat(database, self._worker_id):
            heartbeat.register(database, self._worker_id, self._capabilities)
        self._beat_at = now + self._heartbeat_seconds

    def _leave(self) -> None:
        try:
            if self._view is not None:
                self._view.close()
            if self._capabilities is not None:
                heartbeat.remove(self._queue.database, self._worker_id)
        except QueueDatabaseError as error:
            _log.warning("worker %s could not sign off: %s", self._worker_id, error)
