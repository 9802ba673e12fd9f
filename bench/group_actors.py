"""The processes of the group commit benchmark: parts for a troupe."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.actors import WARM_TASKS, Seat
from bench.closed_loop import records_of
from bench.held_journal import HeldJournal
from bench.journal import Journal, Operation, Outcome, Records
from bench.scenario import PRIORITIES, TASK_TYPE, Scenario
from prismq import QueueBusyError, TaskQueue

BLOCK = 200
"""Calls of a kind that a lone caller makes on one file before it goes to the other."""
TOGETHER, DIRECTLY = "group commit", "direct"
LONE: Mapping[str, bool] = {TOGETHER: True, DIRECTLY: False}
"""The files of a lone caller, and whether they are opened with group commit."""


def lone_journal(journal: Path, side: str) -> Path:
    """Where the lone caller keeps the calls on one of its files."""
    return journal.with_name(f"{side}.journal")


def press(scenario: Scenario, seat: Seat) -> None:
    """Part: enqueue without a pause until the window closes; the loop around a call takes about 0.5 us."""
    warm_up, load = islice(cycle(PRIORITIES), WARM_TASKS), cycle(PRIORITIES)
    payload = scenario.payload()
    with scenario.open(seat.database) as queue:
        warm = _press(queue, payload, warm_up, math.inf, lambda: None)
        seat.board.ready(seat.number)
        records = _press(queue, payload, load, seat.board.stop, partial(seat.board.count, seat.number))
    seat.journal.write_bytes(np.concatenate([warm, records]).tobytes())


def alone(scenario: Scenario, seat: Seat) -> None:
    """Part: enqueue, claim and complete on two files in turn, a block on each, until the window closes."""
    payload = scenario.payload()
    with ExitStack() as opened:
        sides = []
        for side, together in LONE.items():
            own = replace(scenario, group_commit=together).open(seat.database.with_name(f"{side}.db"))
            journal = opened.enter_context(HeldJournal(lone_journal(seat.journal, side)))
            sides.append((opened.enter_context(own), journal))
        for queue, journal in sides:
            _block(queue, journal, payload, lambda: None)
        seat.board.ready(seat.number)
        while True:
            for queue, journal in sides:
                _block(queue, journal, payload, partial(seat.board.count, seat.number))
            if seat.board.over():
                break
            sides.reverse()


def _press(
    queue: TaskQueue, payload: object, priorities: Iterable[int], stop: float, count: Callable[[], None]
) -> Records:
    """A call begins as the one before it ended, so that one look at the clock does for both."""
    enqueue = queue.enqueue
    ended, task_ids, busy = array("d"), array("q"), array("d")
    begin = moment = perf_counter()
    for priority in priorities:
        if moment >= stop:
            break
        while True:
            try:
                task_ids.append(enqueue(TASK_TYPE, payload, priority=priority))
                break
            except QueueBusyError:
                busy.append(perf_counter())
        moment = perf_counter()
        ended.append(moment)
        count()
    return records_of(begin, ended, task_ids, busy)


def _block(queue: TaskQueue, journal: Journal, payload: object, count: Callable[[], None]) -> None:
    for _ in range(BLOCK):
        started = perf_counter()
        task_id = queue.enqueue(TASK_TYPE, payload)
        journal.write(Operation.ENQUEUE, Outcome.DONE, started, started, perf_counter(), task_id)
        count()
    for _ in range(BLOCK):
        started = perf_counter()
        task = queue.claim("alone")
        claimed = perf_counter()
        assert task is not None
        assert task.id is not None
        journal.write(Operation.CLAIM, Outcome.DONE, started, started, claimed, task.id, task.attempts)
        started = perf_counter()
        queue.complete(task)
        journal.write(Operation.COMPLETE, Outcome.DONE, started, started, perf_counter(), task.id, task.attempts)
