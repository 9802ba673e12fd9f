"""The processes of a run: started, watched, killed and replaced."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Self

from bench.actors import Seat, produce, work
from bench.board import Board
from bench.scenario import Scenario

READY_SECONDS = 60.0
JOIN_SECONDS = 60.0
START_DELAY_SECONDS = 0.05


class CrewError(Exception):
    """A process of the run failed or got stuck; what it said is on its own standard error."""


class Crew:
    """P producers and W workers on one queue file, each with its journal in `folder`."""

    def __init__(self, scenario: Scenario, database: Path, folder: Path) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._scenario = scenario
        self._database = database
        self._folder = folder
        self._processes: list[SpawnProcess] = []
        self.journals: list[Path] = []
        self.board = Board(self._context, scenario.producers + scenario.workers)
        self.kills = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *rest: object) -> None:
        self.board.close()
        for process in self._processes:
            if failure is not None:
                process.join(1.0)
                process.kill()
            process.join()

    def begin(self) -> None:
        """Start everybody, and open the window once every process has opened the queue and warmed up."""
        for number in range(self._scenario.producers + self._scenario.workers):
            self._processes.append(self._start(number))
        deadline = time.perf_counter() + READY_SECONDS
        while not self.board.all_ready():
            self.check()
            if time.perf_counter() > deadline:
                raise CrewError(f"the processes were not ready within {READY_SECONDS:.0f} s")
            time.sleep(0.005)
        self.board.open(time.perf_counter() + START_DELAY_SECONDS, self._scenario.seconds)

    def check(self) -> None:
        """Raise when a process ended by itself with an error."""
        for process in self._processes:
            if process.exitcode:
                raise CrewError(f"{process.name} ended with exit status {process.exitcode}")

    def kill_worker(self) -> None:
        """End one random worker the hard way, in the middle of whatever it does, and start another in its seat."""
        number = random.randrange(self._scenario.producers, len(self._processes))
        victim = self._processes[number]
        victim.kill()
        victim.join()
        self.kills += 1
        self._processes[number] = self._start(number)

    def finish(self) -> None:
        """Wait until every process has done its last call."""
        deadline = time.perf_counter() + JOIN_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.perf_counter()))
            if process.exitcode is None:
                raise CrewError(f"{process.name} did not end within {JOIN_SECONDS:.0f} s of the window")
        self.check()

    def _start(self, number: int) -> SpawnProcess:
        producing = number < self._scenario.producers
        kind, index = ("producer", number) if producing else ("worker", number - self._scenario.producers)
        journal = self._folder / f"{kind}-{index}.{len(self.journals)}.journal"
        # The parent reads every journal at the end, also that of a process killed before it had opened it.
        journal.touch()
        self.journals.append(journal)
        seat = Seat(number, index, self._database, journal, self.board)
        process = self._context.Process(
            target=produce if producing else work, args=(self._scenario, seat), name=journal.stem, daemon=True
        )
        process.start()
        return process
