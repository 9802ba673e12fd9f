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
from bench.scenario import PRIORITIES, TASK_TYPE, Scenario
from bench.schedule import Schedule, wait_until
from prismq import LeaseLostError, QueueBusyError, Task, TaskQueue

EMPTY_POLL_SECONDS = 0.001
WARM_TASKS = 20

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
    payload = scenario.payload()
    queue = scenario.open(seat.database)
    with Journal(seat.journal) as journal:
        for number in range(WARM_TASKS):
            enqueue(queue, journal, payload, number, perf_counter())
        seat.board.ready(seat.number)
        for number, intended in enumerate(_arrivals(scenario, seat), seat.index):
            if seat.board.overdue():
                journal.write(Operation.ENQUEUE, Outcome.MISSED, intended, perf_counter(), perf_counter())
                continue
            enqueue(queue, journal, payload, number, intended)
            seat.board.count(seat.number)
    queue.close()


def work(scenario: Scenario, seat: Seat) -> None:
    """Process target: claim and complete until the window closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name = f"worker-{seat.index}-{seat.journal.stem}"
    queue = scenario.open(seat.database)
    with Journal(seat.journal) as journal:
        for _ in range(WARM_TASKS):
            serve(queue, journal, name, scenario.lease_seconds)
        seat.board.ready(seat.number)
        while not seat.board.over():
            if serve(queue, journal, name, scenario.lease_seconds):
                seat.board.count(seat.number)
            else:
                wait_for_task()
    queue.close()


def wait_for_task() -> None:
    """Idle until there may be something to claim."""
    time.sleep(EMPTY_POLL_SECONDS)


def enqueue(queue: TaskQueue, journal: Journal, payload: dict[str, str], number: int, intended: float) -> int:
    """Enqueue the `number`-th task, due at `intended`; returns its id."""
    priority = PRIORITIES[number % len(PRIORITIES)]
    task_id, started, ended = _insist(
        journal, Operation.ENQUEUE, intended, lambda: queue.enqueue(TASK_TYPE, payload, priority=priority)
    )
    journal.write(Operation.ENQUEUE, Outcome.DONE, intended, started, ended, task_id, 0, priority)
    return task_id


def serve(queue: TaskQueue, journal: Journal, worker: str, lease_seconds: float) -> bool:
    """Claim one task and complete it; False when there was none."""
    task = claim(queue, journal, worker, lease_seconds)
    if task is None:
        return False
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
    schedule = Schedule(scenario.rate, scenario.seconds, seat.index, scenario.producers)
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
