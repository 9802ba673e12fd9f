"""Producers and workers of the contest with a queue written by hand: parts for a troupe."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeAlias, TypeVar

from bench.actors import EMPTY_POLL_SECONDS, WARM_TASKS, Seat
from bench.held_journal import HeldJournal
from bench.journal import Journal, Operation, Outcome
from bench.plain_queue import PlainQueue, PlainQueueBusyError, PlainTask
from bench.scenario import PRIORITIES, TASK_TYPE, Scenario
from prismq import QueueBusyError, Task, TaskQueue
from prismq.settings import DURABILITY

WAIT_SECONDS = 0.5
"""How long a worker waits for a task before it looks whether the window has closed."""
BUSY = (QueueBusyError, PlainQueueBusyError)
Times: TypeAlias = tuple[float, float, float]
"""When a call was first tried, when its last try began, and when that ended: `time.perf_counter` seconds."""


class Claimed(Protocol):
    @property
    def id(self) -> int | None: ...
    @property
    def attempts(self) -> int: ...


class Enqueue(Protocol):
    def __call__(self, type: str, payload: Any, *, priority: int) -> int: ...


T = TypeVar("T")
TaskType = TypeVar("TaskType", bound=Claimed)


def produce(scenario: Scenario, seat: Seat) -> None:
    """Part: enqueue without a pause."""
    with scenario.open(seat.database) as queue:
        _produce(queue.enqueue, scenario, seat)


def produce_plainly(database: Path, scenario: Scenario, seat: Seat) -> None:
    """Part: the same on the queue written by hand."""
    with PlainQueue(database, DURABILITY[scenario.durability]) as queue:
        _produce(queue.enqueue, scenario, seat)


def work(scenario: Scenario, seat: Seat) -> None:
    """Part: claim and complete; who finds nothing sleeps until the queue wakes it."""
    with scenario.open(seat.database) as queue:
        claim = partial(_claim, queue, seat.journal.stem, scenario.lease_seconds)
        _work(partial(claim, 0.0), partial(claim, WAIT_SECONDS), queue.complete, seat)


def work_plainly(database: Path, scenario: Scenario, seat: Seat) -> None:
    """Part: the same on the queue written by hand; who finds nothing asks again each millisecond."""
    with PlainQueue(database, DURABILITY[scenario.durability]) as queue:
        claim = partial(queue.claim, seat.journal.stem, lease_seconds=scenario.lease_seconds)
        _work(claim, partial(_poll, claim), queue.complete, seat)


def _claim(queue: TaskQueue, worker: str, lease_seconds: float, wait: float) -> Task | None:
    task = queue.claim(worker, lease_seconds=lease_seconds, wait=wait)
    if task is not None:
        task.get_payload_dict()  # the other queue parses it within its call
    return task


def _poll(claim: Callable[[], PlainTask | None]) -> PlainTask | None:
    gives_up_at = perf_counter() + WAIT_SECONDS
    while True:
        time.sleep(EMPTY_POLL_SECONDS)
        task = claim()
        if task is not None or perf_counter() >= gives_up_at:
            return task


def _produce(enqueue: Enqueue, scenario: Scenario, seat: Seat) -> None:
    payload, priorities = scenario.payload(), cycle(PRIORITIES)
    with HeldJournal(seat.journal) as journal:
        for _ in range(WARM_TASKS):
            _enqueue(enqueue, journal, payload, next(priorities))
        seat.board.ready(seat.number)
        while not seat.board.over():
            _enqueue(enqueue, journal, payload, next(priorities))
            seat.board.count(seat.number)


def _work(
    claim: Callable[[], TaskType | None],
    claim_later: Callable[[], TaskType | None],
    complete: Callable[[TaskType], None],
    seat: Seat,
) -> None:
    with HeldJournal(seat.journal) as journal:
        for _ in range(WARM_TASKS):
            _serve(claim, complete, journal)
        seat.board.ready(seat.number)
        while not seat.board.over():
            if _serve(claim, complete, journal) or _serve(claim_later, complete, journal):
                seat.board.count(seat.number)


def _enqueue(enqueue: Enqueue, journal: Journal, payload: object, priority: int) -> None:
    kind = Operation.ENQUEUE
    task_id, times = _insist(journal, kind, lambda: enqueue(TASK_TYPE, payload, priority=priority))
    journal.write(kind, Outcome.DONE, *times, task_id)


def _serve(claim: Callable[[], TaskType | None], complete: Callable[[TaskType], None], journal: Journal) -> bool:
    """Claim a task and complete it; False when there was none."""
    task, times = _insist(journal, Operation.CLAIM, claim)
    if task is None:
        journal.write(Operation.CLAIM, Outcome.EMPTY, *times)
        return False
    assert task.id is not None
    journal.write(Operation.CLAIM, Outcome.DONE, *times, task.id, task.attempts)
    _, times = _insist(journal, Operation.COMPLETE, lambda: complete(task))
    journal.write(Operation.COMPLETE, Outcome.DONE, *times, task.id, task.attempts)
    return True


def _insist(journal: Journal, operation: Operation, call: Callable[[], T]) -> tuple[T, Times]:
    """Make the call until it isn't busy; its result, and the times of that."""
    intended = started = perf_counter()
    while True:
        try:
            result = call()
        except BUSY:
            ended = perf_counter()
            journal.write(operation, Outcome.BUSY, intended, started, ended)
            started = ended
        else:
            return result, (intended, started, perf_counter())
