"""The processes of the steady load: parts for a troupe."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from bench.actors import WARM_TASKS, Seat, enqueue, serve
from bench.control import spin
from bench.held_journal import HeldJournal
from bench.journal import Operation, Outcome
from bench.scenario import Scenario
from bench.schedule import Schedule, wait_until

WAIT_SECONDS = 0.5


def controls_of(journal: Path) -> Path:
    """Where a producer keeps its control calls: as enqueues, due when the task was."""
    return journal.with_suffix(".controls")


def produce(rate: float, producers: int, turns: int, scenario: Scenario, seat: Seat) -> None:
    """Part: one of `producers` that share the rate; at each arrival a control call, then the enqueue."""
    payload = scenario.payload()
    schedule = Schedule(rate, scenario.seconds, seat.index, producers)
    with (
        scenario.open(seat.database) as queue,
        HeldJournal(seat.journal) as journal,
        HeldJournal(controls_of(seat.journal)) as controls,
    ):
        for number in range(WARM_TASKS):
            spin(turns)
            enqueue(queue, journal, payload, number, perf_counter())
        seat.board.ready(seat.number)
        for number, due in enumerate(schedule.arrivals(seat.board.start), seat.index):
            if seat.board.overdue():
                journal.write(Operation.ENQUEUE, Outcome.MISSED, due, perf_counter(), perf_counter())
                continue
            if not seat.board.over():
                wait_until(due)
            started = perf_counter()
            spin(turns)
            controls.write(Operation.ENQUEUE, Outcome.DONE, due, started, perf_counter())
            enqueue(queue, journal, payload, number, perf_counter())
            seat.board.count(seat.number)


def work(scenario: Scenario, seat: Seat) -> None:
    """Part: claim and complete; sleep until woken when a claim found nothing."""
    with scenario.open(seat.database) as queue, HeldJournal(seat.journal) as journal:
        for _ in range(WARM_TASKS):
            serve(queue, journal, seat.journal.stem, scenario.lease_seconds)
        seat.board.ready(seat.number)
        while not seat.board.over():
            if serve(queue, journal, seat.journal.stem, scenario.lease_seconds):
                seat.board.count(seat.number)
            else:
                queue.wait(WAIT_SECONDS)
