"""The two kinds of processes that share the queue file, importable so that `spawn` can start them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from bench.board import Board
from bench.journal import Journal, Operation, Outcome
from bench.scenario import PRIORITIES, TASK_TYPE, Kind, Scenario
from bench.schedule import Schedule, wait_until
from prismq import LeaseLostError, QueueBusyError, Task, TaskQueue

EMPTY_POLL_SECONDS = 0.001
WARM_TASKS = 20
RETRY_SECONDS = 0.05

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one process sits: its number among all and among its kind, its files, and the shared board."""

    number: int
    index: int
    database: Path
    journal: Path
    board: Board


def produce(scenario: Scenario, seat: Seat) -> None:
    """Process target: enqueue, paced or as fast as it goes, until the window closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kinds = scenario.kinds()
    queue = scenario.open(seat.database)
    with Journal(seat.journal) as journal:
        for number in range(WARM_TASKS):
            enqueue_kind(queue, journal, kinds[number % len(kinds)], number, perf_counter())
        seat.board.ready(seat.number)
        for number, intended in enumerate(_arrivals(scenario, seat), seat.index):
            if seat.board.overdue():
                journal.write(Operation.ENQUEUE, Outcome.MISSED, intended, perf_counter(), perf_counter())
                continue
            enqueue_kind(queue, journal, kinds[number % len(kinds)], number, intended)
            seat.board.count(seat.number)
    queue.close()


def work(scenario: Scenario, seat: Seat) -> None:
    """Process target: claim and complete until the window closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name = f"worker-{seat.index}-{seat.journal.stem}"
    queue = scenario.open(seat.database)
    with Journal(seat.journal) as journal:
        for _ in range(WARM_TASKS):
            serve(queue, journal, name, scenario.lease_seconds, scenario.fails)
        seat.board.ready(seat.number)
        while not seat.board.over():
            if serve(queue, journal, name, scenario.lease_seconds, scenario.fails):
                seat.board.count(seat.number)
            else:
                wait_for_task()
    queue.close()


def wait_for_task() -> None:
    """Idle until there may be something to claim."""
    time.sleep(EMPTY_POLL_SECONDS)


def enqueue(queue: TaskQueue, journal: Journal, payload: dict[str, str], number: int, intended: float) -> int:
    """Enqueue the `number`-th task, due at `intended`; returns its id."""
    return enqueue_kind(queue, journal, Kind(TASK_TYPE, payload), number, intended)


def enqueue_kind(queue: TaskQueue, journal: Journal, kind: Kind, number: int, intended: float) -> int:
    """The same with a task of that kind."""
    priority = PRIORITIES[number % len(PRIORITIES)]
    task_id, started, ended = _insist(
        journal,
        Operation.ENQUEUE,
        intended,
        lambda: queue.enqueue(kind.type, kind.payload, priority=priority, run_after=kind.run_after),
    )
    journal.write(Operation.ENQUEUE, Outcome.DONE, intended, started, ended, task_id, 0, priority)
    return task_id


def serve(
    queue: TaskQueue,
    journal: Journal,
    worker: str,
    lease_seconds: float,
    fails: Callable[[Task], bool] = lambda task: False,
) -> bool:
    """Claim one task and complete it, or fail it; False when there was none."""
    task = claim(queue, journal, worker, lease_seconds)
    if task is None:
        return False
    if fails(task):
        fail(queue, journal, task)
    else:
        complete(queue, journal, task)
    return True


def claim(queue: TaskQueue, journal: Journal, worker: str, lease_seconds: float) -> Task | None:
    intended = perf_counter()
    task, started, ended = _insist(
        journal, Operation.CLAIM, intended, lambda: queue.claim(worker, lease_seconds=lease_seconds)
    )
    if task is None:
        journal.write(Operation.CLAIM, Outcome.EMPTY, intended, started, ended)
    else:
        assert task.id is not None
        journal.write(Operation.CLAIM, Outcome.DONE, intended, started, ended, task.id, task.attempts, task.priority)
    return task


def complete(queue: TaskQueue, journal: Journal, task: Task) -> None:
    assert task.id is not None
    intended = perf_counter()
    held, started, ended = _insist(journal, Operation.COMPLETE, intended, lambda: _completed(queue, task))
    outcome = Outcome.DONE if held else Outcome.REFUSED
    journal.write(Operation.COMPLETE, outcome, intended, started, ended, task.id, task.attempts, task.priority)


def fail(queue: TaskQueue, journal: Journal, task: Task) -> None:
    """Let it be tried again RETRY_SECONDS later."""
    assert task.id is not None
    intended = perf_counter()
    _, started, ended = _insist(
        journal, Operation.FAIL, intended, lambda: queue.fail(task, "on purpose", delay_seconds=RETRY_SECONDS)
    )
    journal.write(Operation.FAIL, Outcome.DONE, intended, started, ended, task.id, task.attempts, task.priority)


def _completed(queue: TaskQueue, task: Task) -> bool:
    try:
        queue.complete(task)
    except LeaseLostError:
        return False
    return True


def _arrivals(scenario: Scenario, seat: Seat) -> Iterator[float]:
    """When each of this producer's tasks is due; comes back at that time, or at once when it has passed."""
    if scenario.rate is None:
        while not seat.board.over():
            yield perf_counter()
        return
    schedule = Schedule(scenario.rate, scenario.seconds, seat.index, scenario.producers, scenario.burst)
    for intended in schedule.arrivals(seat.board.start):
        if not seat.board.over():
            wait_until(intended)
        yield intended


def _insist(journal: Journal, operation: Operation, intended: float, call: Callable[[], T]) -> tuple[T, float, float]:
    """Make the call until it isn't busy; returns its result and when the last try started and ended."""
    while True:
        started = perf_counter()
        try:
            result = call()
        except QueueBusyError:
            journal.write(operation, Outcome.BUSY, intended, started, perf_counter())
        else:
            return result, started, perf_counter()
