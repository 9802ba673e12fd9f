"""The queue written by hand is a queue: in order, each task once, and safe to share."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import plain_queue
from bench.accounting import Row
from bench.plain_queue import PlainQueue, PlainQueueBusyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    plain_queue.create(tmp_path / "plain.db")
    return tmp_path / "plain.db"


@pytest.fixture
def queue(path: Path) -> Iterator[PlainQueue]:
    with PlainQueue(path, "FULL") as queue:
        yield queue


def test_the_best_task_first_and_each_once(queue: PlainQueue) -> None:
    ids = [queue.enqueue("t", {"n": priority}, priority=priority) for priority in (50, 10, 50)]
    tasks = [queue.claim("w", lease_seconds=60) for _ in range(4)]
    claimed = [task and (task.id, task.payload, task.attempts) for task in tasks]
    assert claimed == [(ids[1], {"n": 10}, 1), (ids[0], {"n": 50}, 1), (ids[2], {"n": 50}, 1), None]


def test_only_who_has_a_task_completes_it(queue: PlainQueue, path: Path) -> None:
    task_id = queue.enqueue("t", {}, priority=5)
    task = queue.claim("w", lease_seconds=60)
    assert task is not None
    with pytest.raises(LookupError):
        queue.complete(replace(task, worker="another"))
    queue.complete(task)
    with pytest.raises(LookupError):
        queue.complete(task)
    assert plain_queue.rows(path) == [Row(task_id, 5, "completed", 1)]


def test_a_claim_uses_the_index(path: Path) -> None:
    connection = sqlite3.connect(path)
    plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {plain_queue.CLAIM}", ("w", 1.0)))
    connection.close()
    assert "INDEX queued" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
def test_settings(synchronous: str, level: int, path: Path) -> None:
    with PlainQueue(path, synchronous) as queue:
        pragmas = ("synchronous", "journal_mode", "busy_timeout")
        found = [queue.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == [level, "wal", plain_queue.BUSY_TIMEOUT_MS]


def test_a_lock_that_stays_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_queue, "BUSY_TIMEOUT_MS", 1)
    other = sqlite3.connect(path, isolation_level=None)
    with PlainQueue(path, "NORMAL") as queue:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PlainQueueBusyError):
            queue.enqueue("t", {}, priority=1)
        other.execute("ROLLBACK")
        assert queue.enqueue("t", {}, priority=1) == 1
    other.close()


def test_created_and_leased_when_it_says(queue: PlainQueue) -> None:
    queue.enqueue("t", {}, priority=1)
    queue.claim("w", lease_seconds=60)
    row = queue.connection.execute("SELECT created_at, lease_until - created_at, locked_by FROM task").fetchone()
    assert row[0] <= time.time()
    assert row[1] >= 60
    assert row[2] == "w"
