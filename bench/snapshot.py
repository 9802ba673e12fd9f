"""A reader in the way of every checkpoint: a part for a troupe."""

from __future__ import annotations

from time import perf_counter

from bench.actors import Seat
from bench.scenario import Scenario
from bench.schedule import wait_until
from prismq import QueueDatabase


def hold(after: float, seconds: float, scenario: Scenario, seat: Seat) -> None:
    """Part: `after` so many seconds of the run begin to read, and keep the snapshot for `seconds`."""
    with QueueDatabase(seat.database, durability=scenario.durability) as database:
        database.get_connection()
        seat.board.ready(seat.number)
        wait_until(seat.board.start + after)
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM task_queue").fetchone()
        seat.board.count(seat.number)
        wait_until(perf_counter() + seconds)
        database.execute("ROLLBACK")
        seat.board.count(seat.number)
