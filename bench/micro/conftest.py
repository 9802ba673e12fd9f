"""Queues of several depths, filled once, and how much of everything is timed.

PRISMQ_MICRO=full takes minutes and goes to a depth of 100,000; otherwise it is a smoke test of well under one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.machine import machine_facts
from bench.scenario import Driver, Durability
from prismq import TaskQueue, native

IS_FULL = os.environ.get("PRISMQ_MICRO", "quick") == "full"
DEPTHS = (0, 1_000, 100_000) if IS_FULL else (0, 1_000)
ROUNDS = 300 if IS_FULL else 20
"""Of each benchmark; half as many where a round is a batch."""
DURABILITIES: tuple[Durability, ...] = ("normal", "full")
DRIVERS: tuple[Driver, ...] = ("native", "python")
FILL_BATCH = 10_000
TYPE, WORKER = "bench", "micro"
LEASE_SECONDS = 3_600

Measure = Callable[..., None]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A closed queue file with so many ready tasks, made once."""
    folder = tmp_path_factory.mktemp("filled")

    def file(depth: int) -> Path:
        path = folder / f"{depth}.db"
        if not path.exists():
            with TaskQueue(path) as queue:
                for first in range(0, depth, FILL_BATCH):
                    count = min(FILL_BATCH, depth - first)
                    queue.enqueue_many([{"type": TYPE, "payload": {"n": first + n}} for n in range(count)])
                queue.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path

    return file


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    name: Driver = request.param
    if name == "native" and native.load() is None:
        pytest.skip("the compiled module is not installed")
    return name


@pytest.fixture
def open_queue(
    driver: Driver, filled: Callable[[int], Path], tmp_path: Path, benchmark: BenchmarkFixture
) -> Iterator[Callable[..., TaskQueue]]:
    """Opens a benchmark's queue, a copy of its own of the file with so many tasks; its facts go into the results."""
    opened: list[TaskQueue] = []

    def open_one(depth: int = 0, durability: Durability = "normal") -> TaskQueue:
        path = tmp_path / "queue.db"
        shutil.copy(filled(depth), path)
        queue = TaskQueue(path, driver=driver, durability=durability)
        opened.append(queue)
        benchmark.extra_info.update(machine_facts(tmp_path, queue, durability), depth=depth)
        return queue

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """Times a call a round; `setup` returns what it is called with, and is not timed, so that state can be consumed."""

    def run(call: Callable[..., object], setup: Callable[[], tuple[Any, ...]] | None = None, tasks: int = 1) -> None:
        benchmark.extra_info["tasks"] = tasks
        rounds = max(5, ROUNDS // (2 if tasks > 1 else 1))
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            call, setup=None if setup is None else lambda: (setup(), {}), rounds=rounds, warmup_rounds=1, iterations=1
        )

    return run
