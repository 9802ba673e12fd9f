"""A reader in the way of every checkpoint: a part for a troupe, and one for whoever has the time to look after it."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Self

from bench.actors import Seat
from bench.scenario import Durability, Scenario
from bench.schedule import wait_until
from prismq import QueueDatabase


class Snapshot:
    """A snapshot of a queue file that can be kept and given up again, any number of times."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._database = QueueDatabase(path, durability=durability)
        self._is_kept = False

    def __enter__(self) -> Self:
        self._database.get_connection()
        return self

    def __exit__(self, *error: object) -> None:
        self.keep(False)
        self._database.close()

    def keep(self, kept: bool) -> None:
        """Have one, or none; does nothing when that is so already."""
        if kept and not self._is_kept:
            self._database.execute("BEGIN")
            self._database.execute("SELECT count(*) FROM task_queue").fetchone()
        elif self._is_kept and not kept:
            self._database.execute("ROLLBACK")
        self._is_kept = kept


def hold(after: float, seconds: float, scenario: Scenario, seat: Seat) -> None:
    """Part: `after` so many seconds of the run begin to read, and keep the snapshot for `seconds`."""
    with Snapshot(seat.database, scenario.durability) as snapshot:
        seat.board.ready(seat.number)
        wait_until(seat.board.start + after)
        snapshot.keep(True)
        seat.board.count(seat.number)
        wait_until(perf_counter() + seconds)
        snapshot.keep(False)
        seat.board.count(seat.number)
