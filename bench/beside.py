"""What callers notice of something that runs beside them: their paced calls, in turns with it and without it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from bench.crew import JOIN_SECONDS, READY_SECONDS, CrewError
from bench.latency import Latency
from bench.scenario import Durability
from prismq import TaskQueue

PAYLOAD: Final = {"body": "x" * 190}
OPERATIONS: Final = ("enqueue", "claim", "complete")
WARM_CALLS: Final = 50


@dataclass(frozen=True, slots=True)
class Turn:
    """From when to when (perf_counter), and whether the work was done beside the callers."""

    beside: bool
    start: float
    stop: float


class Callers:
    """Processes that each enqueue, claim and complete a task `rate` times a second, until the block ends; as fast as
    they can when that is 0."""

    def __init__(self, path: Path, folder: Path, processes: int, rate: float, durability: Durability) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._files = [folder / f"calls-{number}.npy" for number in range(processes)]
        self._ready = [context.Event() for _ in self._files]
        self._processes = [
            context.Process(target=call, args=(str(path), str(file), rate, durability, ready, self._stop), daemon=True)
            for file, ready in zip(self._files, self._ready, strict=True)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        deadline = perf_counter() + READY_SECONDS
        for ready in self._ready:
            if not ready.wait(max(0.0, deadline - perf_counter())):
                self.__exit__(CrewError)
                raise CrewError(f"the callers were not ready within {READY_SECONDS:.0f} s")
        return self

    def __exit__(self, failure: type[BaseException] | None, *rest: object) -> None:
        self._stop.set()
        for process in self._processes:
            process.join(1.0 if failure else JOIN_SECONDS)
            process.kill()
            process.join()
        if failure is None and any(process.exitcode for process in self._processes):
            raise CrewError("a caller failed")

    def calls(self) -> npt.NDArray[Any]:
        """All calls, once they have ended: operation, started, ended."""
        return np.concatenate([np.load(file) for file in self._files])


def call(path: str, file: str, rate: float, durability: Durability, ready: Any, stop: Any) -> None:
    """A caller's process."""
    calls: list[tuple[int, float, float]] = []

    def timed(operation: int, work: Callable[[], Any]) -> Any:
        started = perf_counter()
        result = work()
        calls.append((operation, started, perf_counter()))
        return result

    with TaskQueue(path, durability=durability) as queue:
        due = perf_counter()
        while not stop.is_set():
            timed(0, lambda: queue.enqueue("t", PAYLOAD))
            task = timed(1, lambda: queue.claim(file))
            if task is not None:
                timed(2, lambda task=task: queue.complete(task))  # type: ignore[misc]
            if len(calls) >= WARM_CALLS:
                ready.set()
            if rate:
                due = max(due + 1 / rate, perf_counter() - 1 / rate)  # what was missed is not made up for
                time.sleep(max(0.0, due - perf_counter()))
    np.save(file, np.array(calls))


def by_turn(calls: npt.NDArray[Any], turns: list[Turn]) -> dict[str, dict[str, Latency]]:
    """Of each operation, the calls that began in turns beside the work and in those without it."""
    found: dict[str, dict[str, Latency]] = {}
    for beside, name in ((False, "alone"), (True, "beside")):
        window = sum(turn.stop - turn.start for turn in turns if turn.beside is beside)
        within = np.zeros(len(calls), dtype=bool)
        for turn in turns:
            if turn.beside is beside:
                within |= (calls[:, 1] >= turn.start) & (calls[:, 1] < turn.stop)
        for number, operation in enumerate(OPERATIONS):
            chosen = calls[within & (calls[:, 0] == number)]
            found.setdefault(operation, {})[name] = Latency.of(chosen[:, 2] - chosen[:, 1], window)
    return found


def ratio(latency: dict[str, Latency]) -> float:
    """How many times as long the p99 is beside the work."""
    return latency["beside"].p99 / latency["alone"].p99 if latency["alone"].p99 else 0.0


def pace(rate: float) -> str:
    """In words."""
    return f"{rate:g} tasks/s each" if rate else "as fast as they can"


def rows(latency: dict[str, dict[str, Latency]]) -> list[list[str]]:
    """Lines of a table: operation, turn, calls, p50, p99, longest, and the ratio of the p99."""
    return [
        [
            operation,
            name,
            f"{one.count:,}",
            f"{one.p50:.3f}",
            f"{one.p99:.3f}",
            f"{one.max:.1f}",
            f"{ratio(both):.2f}" if name == "beside" else "",
        ]
        for operation, both in latency.items()
        for name, one in both.items()
    ]


HEADER: Final = ("call", "turn", "count", "p50 ms", "p99 ms", "max ms", "p99 ratio")
