"""What the tests of the database object do with its table `t`, and with transactions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prismq import QueueDatabase

T = TypeVar("T")


def add(database: QueueDatabase, name: str) -> None:
    database.execute("INSERT INTO t (name) VALUES (?)", (name,))


def names(database: QueueDatabase) -> list[str]:
    return [row["name"] for row in database.execute("SELECT name FROM t ORDER BY id")]


def in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=30)


def undone(database: QueueDatabase, work: Callable[[], object]) -> None:
    """Run `work` in a transaction that is rolled back."""
    with database.transaction():
        work()
        raise RuntimeError
