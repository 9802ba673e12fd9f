"""Processes that live as long as the tuner, and play a load with whatever settings they are given."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from bench.crew import CrewError
from bench.scenario import Scenario
from bench.troupe import _interrupts_held, _leave_with_parent
from prismq import QueueBusyError, Settings, TaskQueue

PRODUCERS, WORKERS = 2, 2
WARM_CALLS, WARM_SECONDS = 20, 5.0
BATCH_TASKS = 500
BATCH_SHARE = 0.35
"""Of a trial's seconds, afterwards, for one process with batches."""
START_DELAY_SECONDS = 0.02
PATIENCE_SECONDS = 120.0
IDLE_SECONDS = 0.001
GRACE_SECONDS = 30.0
"""After the end of a trial, for a call that is refused again and again."""
TYPE = "tune"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a trial comes to: single calls of all processes per second, those of them that completed a task, the p99 of
    all, tasks per second in batches."""

    operations: float
    completed: float
    p99_ms: float
    batch: float

    @classmethod
    def of(cls, loads: Sequence[tuple[bytes, int, int]], seconds: float, batch: float) -> Self:
        """Of the processes' durations, calls back in time and completions; CrewError when no call was back in time."""
        taken = np.concatenate([np.frombuffer(durations) for durations, *_ in loads])
        within, completed = sum(load[1] for load in loads), sum(load[2] for load in loads)
        if not within:
            raise CrewError("no call came back within a trial")
        # Where workers got nothing done there would be no ratio: one task at least counts as completed.
        return cls(within / seconds, max(1, completed) / seconds, float(np.percentile(taken, 99)) * 1000, batch)


class Players:
    """Two that produce and two that work; CrewError when one fails."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes = []
        try:
            for _ in range(PRODUCERS + WORKERS):
                ours, theirs = context.Pipe()
                process = context.Process(target=play, args=(theirs,), daemon=True)
                with _interrupts_held():
                    process.start()
                    self._processes.append(process)
                theirs.close()
                self._pipes.append(ours)
            for pipe in self._pipes:
                self._hear(pipe)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def trial(self, settings: Settings, seconds: float, folder: Path) -> Figures:
        """One load with these settings on a new file in `folder`, which must not exist."""
        folder.mkdir()
        path = folder / "queue.db"
        with TaskQueue(path, settings=settings) as queue:
            queue.enqueue_many([{"type": TYPE}] * (2 * WARM_CALLS * WORKERS))
            for number, pipe in enumerate(self._pipes):
                pipe.send(("open", str(path), settings.as_dict(), number < PRODUCERS))
            for pipe in self._pipes:
                self._hear(pipe)
            start = perf_counter() + START_DELAY_SECONDS
            for pipe in self._pipes:
                pipe.send(("load", start, start + seconds))
            heard = [self._hear(pipe) for pipe in self._pipes]
            self._pipes[0].send(("batch", BATCH_TASKS, seconds * BATCH_SHARE))
            batch = self._hear(self._pipes[0])
            for pipe in self._pipes:
                pipe.send(("close",))
            for pipe in self._pipes:
                self._hear(pipe)
        return Figures.of(heard, seconds, batch)

    def batches(self, settings: Settings, size: int, seconds: float, folder: Path) -> float:
        """Tasks per second that one process enqueues in batches of so many, and claims and completes likewise."""
        folder.mkdir()
        path = folder / "queue.db"
        TaskQueue(path, settings=settings).close()
        pipe = self._pipes[0]
        for order in (("open", str(path), settings.as_dict(), True), ("batch", size, seconds), ("close",)):
            pipe.send(order)
        self._hear(pipe)
        rate: float = self._hear(pipe)
        self._hear(pipe)
        return rate

    def _hear(self, pipe: Pipe) -> Any:
        try:
            if pipe.poll(PATIENCE_SECONDS):
                return pipe.recv()
        except (EOFError, OSError):
            pass
        raise CrewError("a process of the tuner ended or got stuck; what it said is on its own standard error")

    def _end(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0.5)
            process.kill()
            process.join()


def play(pipe: Pipe) -> None:
    """Process target: do what is told until the pipe ends; its parent is the one to interrupt, and ends it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # nobody is there to tell anything any more
        _follow(pipe)


def _follow(pipe: Pipe) -> None:
    payload = Scenario().payload()
    queue: TaskQueue | None = None
    produces = True
    pipe.send("here")
    while True:
        what, *told = pipe.recv()
        if what == "open":
            path, settings, produces = told
            queue = _opened(path, settings)
            _load(queue, payload, produces, WARM_CALLS, perf_counter() + WARM_SECONDS)
            pipe.send("ready")
        elif queue is not None and what == "load":
            start, stop = told
            time.sleep(max(0.0, start - perf_counter()))
            load = _load(queue, payload, produces, None, stop)
            pipe.send((load.taken.tobytes(), load.within, load.completed))
        elif queue is not None and what == "batch":
            size, seconds = told
            pipe.send(_batches(queue, payload, size, seconds))
        elif queue is not None:
            queue.close()
            pipe.send("closed")


def _opened(path: str, settings: Mapping[str, Any]) -> TaskQueue:
    return TaskQueue(path, settings=Settings(**settings))


@dataclass(slots=True)
class Load:
    """The calls of one process: how many seconds each took that was begun in time, how many of them were back in time,
    and how many of those completed a task."""

    taken: array[float] = field(default_factory=lambda: array("d"))
    within: int = 0
    completed: int = 0


def _load(queue: TaskQueue, payload: object, produces: bool, calls: int | None, stop: float) -> Load:
    """Call until `stop`, but no more than so many times.

    A call that ends in QueueBusyError is made again, and what it took until then is part of it: whoever waits, waits.
    One that is under way at the end is waited for; it counts among the durations, not among what was done in time.
    """
    load = Load()

    def insist(call: Callable[[], T], counts: Callable[[T], bool] = lambda result: True) -> T:
        started = perf_counter()
        while True:
            with suppress(QueueBusyError):
                result = call()
                break
            if perf_counter() > stop + GRACE_SECONDS:
                raise CrewError(f"a call was refused for {perf_counter() - started:.0f} s")
        ended = perf_counter()
        if counts(result):
            load.taken.append(ended - started)
            load.within += ended <= stop
        return result

    while perf_counter() < stop and (calls is None or len(load.taken) < calls):
        if produces:
            insist(lambda: queue.enqueue(TYPE, payload))
            continue
        task = insist(lambda: queue.claim("tuner"), lambda found: found is not None)
        if task is None:
            time.sleep(IDLE_SECONDS)
            continue
        before = load.within
        insist(partial(queue.complete, task))
        load.completed += load.within - before
    return load


def _batches(queue: TaskQueue, payload: object, size: int, seconds: float) -> float:
    """Tasks per second that went all the way through, in batches of `size`."""
    batch = [{"type": TYPE, "payload": payload}] * size
    began, done = perf_counter(), 0
    while (elapsed := perf_counter() - began) < seconds or not done:
        try:
            queue.enqueue_many(batch)
            tasks = queue.claim_many("tuner", size)
            queue.complete_many(tasks)
        except QueueBusyError:
            continue
        done += len(tasks)
    return done / elapsed
