"""A crew in which each process plays the part that it is given."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeAlias

from bench.actors import Seat
from bench.crew import Crew, CrewError
from bench.scenario import TASK_TYPE, Scenario
from prismq import TaskQueue

FOLLOW_SECONDS = 0.05

Part: TypeAlias = Callable[[Scenario, Seat], None]
"""What a process does between opening the queue and its end; importable, so that `spawn` can start it."""


class Troupe(Crew):
    """A process for each part, on a new queue file in `folder`, which must not exist."""

    def __init__(self, parts: Sequence[Part], scenario: Scenario, folder: Path) -> None:
        folder.mkdir()
        self.database = folder / "queue.db"
        TaskQueue(self.database).close()
        # Who produces and who works is in the parts: to the crew they are all workers.
        super().__init__(replace(scenario, producers=0, workers=len(parts)), self.database, folder)
        self._parts = parts

    def __exit__(self, failure: type[BaseException] | None, *rest: object) -> None:
        if failure is not None:
            for process in self._processes:  # all of them first: each may sleep for seconds
                process.kill()
        super().__exit__(failure, *rest)

    @property
    def pids(self) -> list[int]:
        """The processes, in the order of their parts."""
        return [process.pid for process in self._processes if process.pid is not None]

    def follow(self) -> Iterator[int]:
        """The tasks done so far, again and again, until the first part has been played to its end."""
        while self._processes[0].is_alive():
            self.check()
            if self.board.over():
                raise CrewError(f"{self._processes[0].name} did not end within {self._scenario.seconds:.0f} s")
            yield sum(self.board.counts())
            time.sleep(FOLLOW_SECONDS)
        self.check()

    def dismiss(self) -> None:
        """Close the window, wake those that wait for a task by giving them one, and see everybody out."""
        self.board.close()
        with TaskQueue(self.database) as queue:
            queue.enqueue_many([{"type": TASK_TYPE}] * len(self._parts))
        self.finish()

    def end(self, seconds: float) -> int:
        """Wait so long for everybody's last call; how many were still in it, and were killed."""
        deadline = time.perf_counter() + seconds
        for process in self._processes:
            process.join(max(0.0, deadline - time.perf_counter()))
        self.check()
        stuck = [process for process in self._processes if process.is_alive()]
        for process in stuck:
            process.kill()
        return len(stuck)

    def _start(self, number: int) -> SpawnProcess:
        journal = self._folder / f"part-{number}.journal"
        journal.touch()
        self.journals.append(journal)
        process = self._context.Process(
            target=play,
            args=(self._parts[number], self._scenario, Seat(number, number, self.database, journal, self.board)),
            name=journal.stem,
            daemon=True,
        )
        try:
            with _interrupts_held():
                process.start()
        except BaseException:
            if process.pid is not None:
                process.kill()
                process.join()
            raise
        return process


def play(part: Part, scenario: Scenario, seat: Seat) -> None:
    """Process target: play the part; the process that started this one is the one to interrupt, and ends it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    part(scenario, seat)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes afterwards, and never to a process started meanwhile, which could not yet ignore it."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        # Blocked for the sake of the process: it inherits that. Here another thread may still get it.
        with _interrupts_blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # starting it with the first process would unblock them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
