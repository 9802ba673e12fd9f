"""Where handlers run: threads for functions, and one event loop in a thread of its own for coroutines."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from queue import SimpleQueue
from typing import Any, Final

from prismq.context import Line, TaskContext
from prismq.execution import Execution, Plan
from prismq.models import Task
from prismq.outcome import COMPLETED, Outcome, raised, returned

Ended = Callable[[Execution, Outcome | None], None]
"""Told how an execution ended; None when it was interrupted and has nothing to say."""
Run = Callable[[Execution], Outcome | None]
"""Runs one to its end."""

LAST_SECONDS: Final = 5.0
"""How long coroutines that were cancelled have to end."""


def call(plan: Plan, task: Task, line: Line) -> Outcome:
    """Run a function to its end in this thread; only KeyboardInterrupt, SystemExit and the like leave it."""
    try:
        context = (TaskContext(task, plan.timeout_seconds, line),) if plan.wants_context else ()
        value = plan.handler(task, *context)
        if inspect.isawaitable(value):  # a function that returns a coroutine is as good as a coroutine function
            value = asyncio.run(_awaited(value))
    except Exception as error:
        return raised(error)
    return returned(value) if plan.keep_result else COMPLETED


async def _awaited(value: Any) -> Any:
    return await value


def run_here(execution: Execution) -> Outcome:
    """Run a function in this thread."""
    assert execution.plan is not None
    execution.begin()
    return call(execution.plan, execution.task, execution)


class Threads:
    """Runs each function in one of as many threads as there are functions at a time, with what `open_slot` gives each.

    A thread can't be killed: a handler whose time is up keeps its thread until it returns.
    """

    def __init__(self, ended: Ended, open_slot: Callable[[], AbstractContextManager[Run]]) -> None:
        self._ended = ended
        self._open_slot = open_slot
        self._orders: SimpleQueue[Execution | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._busy = 0
        self._threads: list[threading.Thread] = []

    def start(self, execution: Execution) -> None:
        with self._lock:
            self._busy += 1
            if self._busy > len(self._threads):
                thread = threading.Thread(target=self._work, name="prismq-handler", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._orders.put(execution)

    def end(self, seconds: float) -> None:
        """End the threads, and wait up to so many seconds for those that still run something."""
        end = time.monotonic() + seconds
        for _ in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        with self._open_slot() as run:
            while (execution := self._orders.get()) is not None:
                outcome: Outcome | None
                try:
                    outcome = run(execution)
                except BaseException as error:  # sys.exit() in a handler ends the attempt, not the worker
                    outcome = raised(error)
                with self._lock:
                    self._busy -= 1
                self._ended(execution, outcome)


class EventLoop:
    """Runs coroutines on a loop in a thread of its own; an interrupted one is cancelled."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="prismq-loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread.start()

    def start(self, execution: Execution) -> None:
        self._loop.call_soon_threadsafe(self._begin, execution)

    def end(self) -> None:
        """Cancel what still runs, and close the loop."""
        self._loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:  # nobody waits for what the default executor still runs: coroutines that did have been cancelled
            self._loop.close()

    def _begin(self, execution: Execution) -> None:
        task = self._loop.create_task(self._perform(execution))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        execution.interrupt = lambda: self._interrupt(task)
        if execution.cancelled is not None:
            task.cancel()

    def _interrupt(self, task: asyncio.Task[None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(task.cancel)

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.create_task(self._stop_when_done())

    async def _stop_when_done(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS / 2)
        self._loop.stop()

    async def _perform(self, execution: Execution) -> None:
        plan = execution.plan
        assert plan is not None
        execution.begin()
        outcome: Outcome | None
        try:
            task = execution.task
            context = (TaskContext(task, plan.timeout_seconds, execution),) if plan.wants_context else ()
            value = await plan.handler(task, *context)
            outcome = returned(value) if plan.keep_result else COMPLETED
        except asyncio.CancelledError as error:
            outcome = None if execution.cancelled is not None else raised(error)
        except BaseException as error:
            outcome = raised(error)
        self._ended(execution, outcome)


def run_coroutine(execution: Execution) -> Outcome | None:
    """Run a coroutine on a loop of its own while this thread waits."""
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    loop = EventLoop(lambda _, outcome: outcomes.put(outcome))
    try:
        loop.start(execution)
        return outcomes.get()
    finally:
        loop.end()
