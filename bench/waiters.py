"""Workers with nothing to do, and what wakes them: parts for a troupe."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from time import perf_counter
from typing import TypeAlias

from bench.actors import Seat, complete, enqueue, serve
from bench.board import Board
from bench.journal import Journal, Operation, Outcome
from bench.scenario import TASK_TYPE, Scenario
from prismq import Task, TaskQueue

PATIENCE_SECONDS = 5.0
"""How long a worker waits for a task before it looks whether the run is over."""
POLL_SECONDS = 0.001
MISSED_SECONDS = 2.0
"""A task not claimed by then was missed."""
TRICKLE_SECONDS = (0.02, 0.06)
BURST_SECONDS = (0.15, 0.25)
"""Between two enqueues: long enough for every worker to be asleep again."""

Take: TypeAlias = Callable[[TaskQueue, str], Task | None]
"""Claims a task for the named worker as soon as there is one; None when there was none for PATIENCE_SECONDS."""


def wait(queue: TaskQueue, worker: str) -> Task | None:
    """Take: sleep in the kernel until woken."""
    return queue.claim(worker, wait=PATIENCE_SECONDS)


def poll(queue: TaskQueue, worker: str) -> Task | None:
    """Take: ask SQLite each millisecond whether anybody has committed, as cheaply as it can be asked."""
    connection = queue.database.get_connection().apsw
    gives_up_at = perf_counter() + PATIENCE_SECONDS
    version = connection.pragma("data_version")
    while (task := queue.claim(worker)) is None:
        while (now := connection.pragma("data_version")) == version:
            if perf_counter() > gives_up_at:
                return None
            time.sleep(POLL_SECONDS)
        version = now
    return task


def attend(take: Take, scenario: Scenario, seat: Seat) -> None:
    """Part: complete task after task, and note when each was in hand."""
    worker = seat.journal.stem
    with scenario.open(seat.database) as queue, Journal(seat.journal) as journal:
        queue.claim(worker)
        seat.board.ready(seat.number)
        while not seat.board.over():
            started = perf_counter()
            task = take(queue, worker)
            ended = perf_counter()
            if task is not None:
                assert task.id is not None
                journal.write(Operation.CLAIM, Outcome.DONE, started, started, ended, task.id, task.attempts)
                complete(queue, journal, task)
                seat.board.count(seat.number)


def answer(scenario: Scenario, seat: Seat) -> None:
    """Part: claim once whenever woken, and note what came of it."""
    worker = seat.journal.stem
    with scenario.open(seat.database) as queue, Journal(seat.journal) as journal:
        queue.claim(worker)
        seat.board.ready(seat.number)
        while not seat.board.over():
            if queue.wait(PATIENCE_SECONDS) and serve(queue, journal, worker, scenario.lease_seconds):
                seat.board.count(seat.number)


def trickle(tasks: int, scenario: Scenario, seat: Seat) -> None:
    """Part: enqueue a task every now and then, each when the one before was claimed or missed."""
    payload = scenario.payload()
    with scenario.open(seat.database) as queue, Journal(seat.journal) as journal:
        seat.board.ready(seat.number)
        for number in range(tasks):
            enqueue(queue, journal, payload, number, perf_counter())
            _let_them_sleep(seat.board, number + 1, TRICKLE_SECONDS)


def burst(bursts: int, tasks: int, scenario: Scenario, seat: Seat) -> None:
    """Part: enqueue so many tasks at once, again and again; all records of a burst have its times."""
    payload = scenario.payload()
    with scenario.open(seat.database) as queue, Journal(seat.journal) as journal:
        seat.board.ready(seat.number)
        _let_them_sleep(seat.board, 0, BURST_SECONDS)
        for number in range(bursts):
            started = perf_counter()
            ids = queue.enqueue_many([{"type": TASK_TYPE, "payload": payload}] * tasks)
            ended = perf_counter()
            for task_id in ids:
                journal.write(Operation.ENQUEUE, Outcome.DONE, started, started, ended, task_id)
            _let_them_sleep(seat.board, (number + 1) * tasks, BURST_SECONDS)


def _let_them_sleep(board: Board, tasks: int, pause: tuple[float, float]) -> None:
    """Pause, at random within bounds; more only while fewer than so many `tasks` were done, until they are missed."""
    missed_at = perf_counter() + MISSED_SECONDS
    time.sleep(random.uniform(*pause))
    while sum(board.counts()) < tasks and perf_counter() < missed_at and not board.over():
        time.sleep(pause[0])
