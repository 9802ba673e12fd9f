"""A worker: claims tasks, runs their handlers, and settles what they end with."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Literal, Self, get_args

from prismq import submission
from prismq.child import Child
from prismq.clerk import Clerk
from prismq.database import QueueDatabase
from prismq.errors import QueueProgrammingError, TaskHandlerNotRegisteredError
from prismq.execution import Plan
from prismq.handlers import Handler, TaskHandlerInfo, TaskHandlerRegistry
from prismq.ledger import WorkerCounts
from prismq.models import SchedulingStrategy, Task
from prismq.outcome import Outcome, raised
from prismq.queue import TaskQueue
from prismq.record import Recorder
from prismq.retry import RetryConfig
from prismq.shift import Shift
from prismq.slots import Run, run_coroutine, run_here

Pool = Literal["thread", "process"]


class WorkerEngine:
    """Runs tasks of a queue, up to `concurrency` at a time; durations in seconds. ValueError for what can't be.

    `db` is a TaskQueue, a QueueDatabase or a path. Functions run in threads, or with `pool="process"` each in a process
    of its slot (for work that keeps the CPU busy, crashes, or must be killed when its time is up; it may not use
    `multiprocessing` itself); coroutines on one event loop. Up to `prefetch` tasks are claimed ahead, which others
    can't have meanwhile; short tasks then cost far less. Leases are renewed while the worker lives, and cancellations
    noticed within a second or two. `types` limits what is claimed.

    `retry` and `timeout_seconds` are for handlers that have none of their own. When told to stop, running tasks have
    `grace_seconds` before they are given back.
    """

    def __init__(
        self,
        db: TaskQueue | QueueDatabase | str | os.PathLike[str],
        worker_id: str,
        capabilities: Mapping[str, Any] | None = None,
        scheduling_strategy: SchedulingStrategy | str = SchedulingStrategy.PRIORITY,
        lease_seconds: float = 60,
        poll_interval_seconds: float = 1.0,
        handler_registry: TaskHandlerRegistry | None = None,
        *,
        types: Iterable[str] | str | None = None,
        concurrency: int = 1,
        pool: Pool = "thread",
        prefetch: int = 0,
        retry: RetryConfig | None = None,
        timeout_seconds: float | None = None,
        heartbeat_seconds: float = 15.0,
        grace_seconds: float = 30.0,
    ) -> None:
        self.types = types if types is None or isinstance(types, str) else tuple(types)
        wanted = submission.claim(worker_id, 1, self.types, capabilities, scheduling_strategy, lease_seconds)
        self.worker_id = worker_id
        self.capabilities = dict(capabilities or {})
        self.scheduling_strategy = wanted.strategy
        self.lease_seconds = lease_seconds
        self.poll_interval_seconds = submission.duration(poll_interval_seconds, "poll_interval_seconds")
        self.handler_registry = handler_registry
        self.concurrency = submission.count(concurrency, "concurrency")
        self.prefetch = submission.count(prefetch, "prefetch", 0)
        if pool not in get_args(Pool):
            raise ValueError(f"pool is {pool!r}; it must be 'thread' or 'process'")
        self.pool: Pool = pool
        if retry is not None and not isinstance(retry, RetryConfig):
            raise ValueError(f"retry is {retry!r:.100}; it must be a RetryConfig")
        self.retry = retry
        self.timeout_seconds = (
            None if timeout_seconds is None else submission.duration(timeout_seconds, "timeout_seconds")
        )
        self.heartbeat_seconds = submission.duration(heartbeat_seconds, "heartbeat_seconds")
        self.grace_seconds = submission.duration(grace_seconds, "grace_seconds", 0)
        self.counts = WorkerCounts()
        self.recorder: Recorder | None = None
        self.wary = False
        """One task at a time, begun when the end of the last one is written: what crashes the process, is alone."""
        self._owns_queue = not isinstance(db, TaskQueue)
        self.queue = db if isinstance(db, TaskQueue) else TaskQueue(db)
        self.db = self.queue.database
        self._plans: dict[Any, tuple[object, Plan]] = {}
        self._working = threading.Lock()
        self._shift: Shift | None = None
        self._told_to_stop = False

    def claim_and_process(self, task_handler: Handler | None = None) -> bool:
        """Claim one task and run it to its end in this thread; False when there is none to claim.

        `task_handler` goes before the registry; a task that has no handler fails for good. What the handler raises is
        the task's failure, but KeyboardInterrupt and the like are raised again after it is recorded. QueueDatabaseError
        when nothing could be claimed, or inside a transaction.
        """
        self._refuse_transaction()
        task = self.queue.claim(
            self.worker_id,
            types=self.types,
            capabilities=self.capabilities,
            strategy=self.scheduling_strategy,
            lease_seconds=self.lease_seconds,
        )
        if task is None:
            return False
        with self.clerk() as clerk:
            (execution,) = clerk.hold([task])
            try:
                plan = self.plan(task, task_handler)
                if isinstance(plan, Outcome):
                    outcome: Outcome | None = plan
                else:
                    execution.plan = plan
                    with nullcontext(run_coroutine) if plan.is_async else self.open_slot() as run:
                        outcome = run(execution)
            except BaseException as error:
                clerk.settle(execution, raised(error))
                raise
            if outcome is not None:
                clerk.settle(execution, outcome)
        return True

    def run_loop(self, task_handler: Handler | None = None, max_iterations: int | None = None) -> None:
        """Claim and run tasks until `stop()`, asleep while there are none; returns when what runs has ended.

        Errors of the database are logged and tried again. With `max_iterations`, each task counts, and each
        `poll_interval_seconds` without one. KeyboardInterrupt stops it in the same order, and is raised again.
        """
        if self.pool == "process" and multiprocessing.current_process().daemon:
            raise QueueProgrammingError("pool='process' can't be used in a daemonic process: it may not have children")
        self._refuse_transaction()
        if not self._working.acquire(blocking=False):
            raise QueueProgrammingError(f"worker {self.worker_id!r} is running its loop already")
        try:
            self._shift = shift = Shift(self, task_handler, max_iterations)
            if self._told_to_stop:
                shift.stop()
            shift.run()
        finally:
            self._shift = None
            self._told_to_stop = False
            self._working.release()

    def stop(self) -> None:
        """End `run_loop` soon, or at once when it is called next. Any thread may call it, a signal handler too."""
        self._told_to_stop = True
        if (shift := self._shift) is not None:
            shift.stop()

    def relax(self) -> None:
        """Be wary no more. Any thread may call it."""
        self.wary = False
        if (shift := self._shift) is not None:
            shift.look_for_room()

    def close(self) -> None:
        """Close the queue, unless it was passed in."""
        if self._owns_queue:
            self.queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WorkerEngine({str(self.db.db_path)!r}, {self.worker_id!r})"

    def _refuse_transaction(self) -> None:
        if self.db.get_connection().in_transaction:
            raise QueueProgrammingError(
                "a task can't be worked on inside a transaction: others write its lease and its end, and would wait "
                "for that"
            )

    # -- what a shift needs -------------------------------------------------------------------------------------------

    def clerk(self) -> Clerk:
        return Clerk(self.queue, self.worker_id, self.lease_seconds, self.counts, self.retry, self.recorder)

    def open_slot(self) -> AbstractContextManager[Run]:
        """What runs functions."""
        return nullcontext(run_here) if self.pool == "thread" else Child()

    def plan(self, task: Task, task_handler: Handler | None) -> Plan | Outcome:
        """How to run the task, or how it ends because nobody can."""
        source: Handler | TaskHandlerInfo | None = task_handler
        if source is None and self.handler_registry is not None:
            source = self.handler_registry.get_handler_info(task.type)
        if source is None:
            known = sorted(self.handler_registry.get_registered_types()) if self.handler_registry is not None else []
            return Outcome(
                f"TaskHandlerNotRegisteredError: {TaskHandlerNotRegisteredError(task.type, known)}", retry=False
            )
        found = self._plans.get(task.type)
        if found is not None and found[0] is source:
            return found[1]
        if isinstance(source, TaskHandlerInfo):
            timeout = self.timeout_seconds if source.timeout_seconds is None else source.timeout_seconds
            plan = Plan.of(source.handler, timeout, source.retry, source.keep_result)
        else:
            plan = Plan.of(source, self.timeout_seconds)
        self._plans[task.type] = (source, plan)
        return plan
