"""How the ends of a worker's tasks, and what those told, are written: many in a transaction, or one by one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from prismq import clock, sql
from prismq.errors import InvalidTaskError, LeaseLostError, QueueDatabaseError, QueueDataError, QueueIntegrityError
from prismq.execution import LEASE_LOST, Execution
from prismq.outcome import COMPLETED, Outcome
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig

_log = logging.getLogger("prismq.worker")

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
class Pile:
    """What is to be written."""

    ended: list[tuple[Execution, Outcome]] = field(default_factory=list)
    released: list[Execution] = field(default_factory=list)
    reports: set[Execution] = field(default_factory=set)
    logs: list[LogLine] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ended or self.released or self.reports or self.logs)


class Ledger:
    """Writes a worker's piles and counts what it wrote; `refuse` is told of those whose lease was lost, and why."""

    def __init__(
        self,
        queue: TaskQueue,
        worker_id: str,
        counts: WorkerCounts,
        retry: RetryConfig | None,
        refuse: Callable[[Execution, str], None],
    ) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._counts = counts
        self._retry = retry
        self._refuse = refuse

    def write(self, pile: Pile) -> None:
        """Write what is in the pile and empty it, part by part: after an error, what is not written is still in it."""
        try:
            self._commit(pile)
        except Exception as error:
            if _may_pass(error):
                raise
            self._write_one_by_one(pile)
        pile.ended, pile.logs, pile.reports = [], [], set()
        if pile.released:
            self._give_back(pile.released)
            pile.released = []

    def _write_one_by_one(self, pile: Pile) -> None:
        """One thing can't be written, whatever else is: it is lost, and nothing with it."""
        while pile.logs:
            self._write_or_lose(Pile(logs=pile.logs[:1]), f"a line of the log of task {pile.logs[0][0]}")
            del pile.logs[0]
        while pile.ended:
            execution, outcome = pile.ended[0]
            what = f"task {execution.task_id}"
            if not self._write_or_lose(Pile(ended=[(execution, outcome)]), f"the report of {what}"):
                execution.untold = None  # how it ended is worth more than what it told
                bare = replace(outcome, traceback=None, result=None, complaint=None)
                self._write_or_lose(
                    Pile(ended=[(execution, bare)]), f"how {what} ended, which comes back when its lease runs out"
                )
            del pile.ended[0]
        for execution in list(pile.reports):
            if not self._write_or_lose(Pile(reports={execution}), f"the progress of task {execution.task_id}"):
                execution.untold = None
            pile.reports.discard(execution)

    def _write_or_lose(self, part: Pile, what: str) -> bool:
        try:
            self._commit(part)
        except Exception as error:
            if _may_pass(error):
                raise
            _log.error("worker %s lost %s: %s", self._worker_id, what, error, exc_info=True)
            return False
        return True

    def _commit(self, pile: Pile) -> None:
        """Write logs, reports and ends in one transaction, and count what has changed."""
        tellers = (*pile.reports, *(execution for execution, _ in pile.ended))
        told = {execution: untold for execution in tellers if (untold := execution.untold) is not None}
        changes, refused = Counter[str](), []
        # Ends alone are one call, which is a transaction of its own and may share that of other processes.
        alone = not (told or pile.logs or any(outcome is not COMPLETED for _, outcome in pile.ended))
        with nullcontext() if alone else self._queue.database.transaction():
            self._tell(pile, told)
            for execution, outcome in pile.ended:
                if outcome.error is not None:
                    try:
                        changes[self._fail(execution, outcome)] += 1
                    except LeaseLostError:
                        refused.append(execution)
            completed = [execution for execution, outcome in pile.ended if outcome.error is None]
            late = self._complete(completed)
        self._counts.completed += len(completed) - len(late)
        self._counts.retried += changes["queued"]
        self._counts.failed += changes["failed"] + changes["dead_letter"]
        for execution in (*refused, *late):
            self._refuse(execution, LEASE_LOST)
        for execution, untold in told.items():
            if execution.untold is untold:
                execution.untold = None

    def _tell(self, pile: Pile, told: Mapping[Execution, tuple[float, str]]) -> None:
        """Inside a transaction: what handlers told, before their tasks end and nothing can be told any more."""
        database, now = self._queue.database, clock.to_text(clock.now())
        for line in pile.logs:
            database.execute(sql.LOG, line)
        for execution, progress in told.items():
            database.execute(sql.REPORT_PROGRESS, (*execution.token, now, *progress))
        for execution, outcome in pile.ended:
            if outcome.result is not None or outcome.traceback is not None:
                database.execute(sql.REPORT_END, (*execution.token, now, outcome.result, outcome.traceback))
            if outcome.complaint is not None:
                database.execute(sql.LOG, (execution.task_id, now, "WARNING", outcome.complaint, None))

    def _complete(self, executions: list[Execution]) -> list[Execution]:
        """Those that were refused."""
        try:
            if executions:
                self._queue.complete_many([execution.task for execution in executions])
        except LeaseLostError as error:
            return those_lost(executions, error)
        return []

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
            lost = those_lost(executions, error)
        self._counts.released += len(executions) - len(lost)


def _may_pass(error: Exception) -> bool:
    """Whether the same may be written later: the error is the database's or the machine's, not that of the data."""
    of_the_data = isinstance(error, (QueueDataError, QueueIntegrityError, InvalidTaskError))
    return isinstance(error, (QueueDatabaseError, OSError, MemoryError)) and not of_the_data


def those_lost(executions: list[Execution], error: LeaseLostError) -> list[Execution]:
    """Which of them the error is about."""
    tokens = {(lost.task_id, lost.worker_id, lost.attempt) for lost in (error, *error.others)}
    return [execution for execution in executions if execution.token in tokens]
