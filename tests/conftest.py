"""What the tests of the queue share: every one of them runs on both drivers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prismq import QueueDatabase, TaskQueue, native
from prismq.driver import DriverChoice, DriverName
from tests.colleague import Colleague


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """More than cores: a third of the tests' time is waiting."""
    return 3 * (os.cpu_count() or 1) // 2


@pytest.fixture(params=["native", "python"])
def driver(request: pytest.FixtureRequest) -> DriverName:
    """The driver under test."""
    name: DriverName = request.param
    if name == "native" and native.load() is None:
        pytest.skip("the compiled module is not installed")
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue of a test is."""
    return tmp_path / "queue.db"


@pytest.fixture
def open_queue(path: Path, driver: DriverName) -> Iterator[Callable[..., TaskQueue]]:
    """Opens queues on the test's file with the driver under test, and closes them all afterwards."""
    opened: list[TaskQueue] = []

    def open_one(database: Any = None, **options: Any) -> TaskQueue:
        queue = TaskQueue(path if database is None else database, **{"driver": driver, **options})
        opened.append(queue)
        return queue

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: Callable[..., TaskQueue]) -> TaskQueue:
    """An empty queue."""
    return open_queue()


@pytest.fixture
def hire(path: Path, driver: DriverName) -> Iterator[Callable[..., Colleague]]:
    """Starts processes that have the test's queue open, by default with the driver under test, and ends them all."""
    hired: list[Colleague] = []

    def hire_one(driver: DriverChoice = driver, **options: Any) -> Colleague:
        hired.append(Colleague(path, driver, **options))
        return hired[-1]

    yield hire_one
    for colleague in hired:
        colleague.kill()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[QueueDatabase]:
    """A database with one table of its own and no queue in it."""
    with QueueDatabase(tmp_path / "q.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        yield database


@pytest.fixture
def another_program(path: Path) -> Callable[..., None]:
    """Runs a statement on the test's file with the standard library's sqlite3, as a script of somebody else's would.

    In a process of its own: two copies of SQLite in one process don't see each other's locks.
    """
    script = (
        "import sqlite3, sys; "
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "connection.execute(sys.argv[2], sys.argv[3:]); connection.close()"
    )

    def run(statement: str, *parameters: object) -> None:
        arguments = [str(path), statement, *map(str, parameters)]
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=60)

    return run
