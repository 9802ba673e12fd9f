"""Who is alive, who is not, and that what the lost held comes back."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    InvalidTaskError,
    LeaseLostError,
    QueueDatabase,
    QueueDatabaseError,
    QueueMonitoring,
    TaskQueue,
    WorkerHeartbeat,
    clock,
)
from tests import operation
from tests.colleague import Colleague, add_at_once
from tests.one_table import undone

OPEN = Callable[..., TaskQueue]


@pytest.fixture
def heartbeat(queue: TaskQueue) -> WorkerHeartbeat:
    return WorkerHeartbeat(queue.database)


def silence(database: QueueDatabase, worker: str, seconds: float) -> None:
    """Make its last heartbeat that old."""
    moment = clock.to_text(clock.now() - timedelta(seconds=seconds))
    database.execute("UPDATE workers SET heartbeat_utc = ? WHERE worker_id = ?", (moment, worker))


def test_a_heartbeat_registers_and_then_updates(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    heartbeat.update_heartbeat("w", {"gpu": True})
    silence(queue.database, "w", 100)
    heartbeat.update_heartbeat("w", {"gpu": False})
    (worker,) = heartbeat.get_active_workers()
    assert worker.worker_id == "w"
    assert worker.get_capabilities_dict() == {"gpu": False}
    assert worker.heartbeat_utc is not None
    assert worker.heartbeat_utc.tzinfo is UTC
    assert abs(datetime.now(UTC) - worker.heartbeat_utc) < timedelta(seconds=30)


@pytest.mark.parametrize(
    "capabilities", [{"x": object()}, {"x": [float("nan")]}, {("a", "b"): 1}, ["gpu"], "gpu", None]
)
def test_capabilities_that_are_no_json_object_are_refused(heartbeat: WorkerHeartbeat, capabilities: Any) -> None:
    with pytest.raises(QueueDatabaseError, match="capabilities of 'w'"):
        heartbeat.update_heartbeat("w", capabilities)
    assert heartbeat.get_active_workers() == []


@pytest.mark.parametrize("worker", ["", " ", None, 7])
def test_a_worker_has_a_name(heartbeat: WorkerHeartbeat, worker: Any) -> None:
    with pytest.raises(InvalidTaskError, match="worker_id"):
        heartbeat.update_heartbeat(worker, {})


def test_the_threshold_divides_active_from_stale(queue: TaskQueue) -> None:
    heartbeat = WorkerHeartbeat(queue.database, stale_threshold_seconds=60)
    for worker, seconds in (("a", 10), ("b", 50), ("c", 70), ("d", 600)):
        heartbeat.update_heartbeat(worker, {})
        silence(queue.database, worker, seconds)
    assert [worker.worker_id for worker in heartbeat.get_active_workers()] == ["a", "b"]
    assert [worker.worker_id for worker in heartbeat.get_stale_workers()] == ["d", "c"]
    assert len(WorkerHeartbeat(queue.database).get_active_workers()) == 3
    with pytest.raises(InvalidTaskError, match="stale_threshold_seconds"):
        WorkerHeartbeat(queue.database, -1)


@pytest.mark.parametrize(
    ("written", "stale"),
    [
        ("strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now')", False),
        ("datetime('now')", False),
        ("strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-10 minutes')", True),
        ("'no time'", True),
    ],
)
def test_heartbeats_of_plain_sql_are_understood(
    queue: TaskQueue, heartbeat: WorkerHeartbeat, written: str, stale: bool
) -> None:
    queue.database.execute(f"INSERT INTO workers VALUES ('w', '{{}}', {written})")
    assert [worker.worker_id for worker in heartbeat.get_stale_workers()] == ["w"] * stale
    assert len(heartbeat.get_active_workers()) == 1 - stale


def test_cleaning_up_keeps_those_who_hold_a_task_unless_forced(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    queue.enqueue_many([{"type": "t"}] * 2)
    for worker in ("idle", "busy", "here"):
        heartbeat.update_heartbeat(worker, {})
    assert queue.claim("busy") is not None
    for worker in ("idle", "busy"):
        silence(queue.database, worker, 301)
    assert heartbeat.cleanup_stale_workers() == 1
    assert [worker.worker_id for worker in heartbeat.get_stale_workers()] == ["busy"]
    assert heartbeat.cleanup_stale_workers(force=True) == 1
    assert [worker.worker_id for worker in heartbeat.get_active_workers()] == ["here"]
    assert heartbeat.cleanup_stale_workers(force=True) == 0


def test_what_a_lost_worker_held_is_queued_again(
    queue: TaskQueue, heartbeat: WorkerHeartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    queue.enqueue_many([{"type": "t"}] * 3)
    heartbeat.update_heartbeat("lost", {})
    heartbeat.update_heartbeat("here", {})
    first, second = queue.claim_many("lost", 2, lease_seconds=3600)
    third = queue.claim("here")
    silence(queue.database, "lost", 301)
    with caplog.at_level(logging.WARNING, "prismq"):
        assert heartbeat.reclaim_stale_worker_tasks() == 2
    assert heartbeat.reclaim_stale_worker_tasks() == 0
    for task in (first, second):
        now = queue.get(task.id or 0)
        assert now is not None
        assert (now.status, now.attempts, now.locked_by, now.lease_until_utc) == ("queued", 1, None, None)
        assert now.reserved_at_utc is now.processing_started_utc is None
        assert (now.error_message or "").startswith("Worker lost: lost was last heard of at 2")
        assert (now.error_message or "").endswith("during attempt 1")
        assert f"task {task.id} is queued: Worker lost" in caplog.text
        for late in (queue.complete, queue.renew):
            with pytest.raises(LeaseLostError):
                late(task)
    assert third is not None
    queue.complete(third)
    again = queue.claim("here")
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)
    with pytest.raises(LeaseLostError):
        queue.fail(first, "too late")
    queue.complete(again)


def test_a_task_whose_attempts_are_used_up_is_a_dead_letter(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    task_id = queue.enqueue("poison", max_attempts=2)
    heartbeat.update_heartbeat("w", {})
    for attempt, status in ((1, "queued"), (2, "dead_letter")):
        assert queue.claim("w", lease_seconds=3600) is not None
        silence(queue.database, "w", 400)
        assert heartbeat.reclaim_stale_worker_tasks() == 1
        task = queue.get(task_id)
        assert task is not None
        assert (task.status, task.attempts) == (status, attempt)
    assert task.finished_at_utc is not None
    assert task.locked_by == "w"
    assert queue.claim("w") is None
    assert heartbeat.get_worker_stats("w")["failed_tasks"] == 1


def test_many_tasks_are_taken_back_in_short_transactions(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    queue.enqueue_many([{"type": "t"}] * 250)
    heartbeat.update_heartbeat("w", {})
    queue.claim_many("w", 250, lease_seconds=3600)
    silence(queue.database, "w", 400)
    with operation.commits_counted(queue.database) as commits:
        assert heartbeat.reclaim_stale_worker_tasks() == 250
    assert len(commits) == 3
    assert len(queue.claim_many("other", 300)) == 250


def test_a_lease_that_ran_out_is_counted(queue: TaskQueue) -> None:
    queue.enqueue("t")
    assert queue.claim("w", lease_seconds=0.05) is not None
    time.sleep(0.1)
    assert queue.claim("other") is not None
    counted = queue.database.execute("SELECT value FROM queue_state WHERE name = 'leases_expired'").fetchone()
    assert counted[0] == 1


def test_the_statistics_of_a_worker(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    queue.enqueue_many([{"type": "t"}] * 4 + [{"type": "once", "max_attempts": 1}])
    heartbeat.update_heartbeat("w", {"gpu": True})
    (dead,) = queue.claim_many("w", 1, types="once")
    queue.fail(dead, "no")
    first, second, third, _ = queue.claim_many("w", 4)
    queue.complete_many([first, second])
    queue.fail(third, "no", retry=False)
    silence(queue.database, "w", 5)
    stats = heartbeat.get_worker_stats("w")
    assert 5 <= stats.pop("seconds_since_heartbeat") < 30
    assert json.loads(stats.pop("capabilities")) == {"gpu": True}
    assert len(stats.pop("heartbeat_utc")) == 23
    assert stats == {
        "worker_id": "w",
        "is_active": True,
        "active_tasks_count": 1,
        "total_tasks_processed": 5,
        "completed_tasks": 2,
        "failed_tasks": 2,
        "success_rate": 0.5,  # of those that have ended
    }
    with pytest.raises(QueueDatabaseError, match="'unknown'"):
        heartbeat.get_worker_stats("unknown")


def test_the_summary_of_all_workers(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    queue.enqueue_many([{"type": "t"}] * 3)
    for worker, seconds in (("old", 900), ("new", 1)):
        heartbeat.update_heartbeat(worker, {})
        silence(queue.database, worker, seconds)
    tasks = queue.claim_many("old", 2, lease_seconds=3600)
    queue.complete(tasks[0])
    new, old = heartbeat.get_all_workers_summary()
    assert (new["worker_id"], new["active_tasks"], new["total_tasks"], new["is_active"]) == ("new", 0, 0, True)
    assert (old["worker_id"], old["active_tasks"], old["total_tasks"], old["is_active"]) == ("old", 1, 2, False)
    assert new.keys() == {
        "worker_id",
        "capabilities",
        "heartbeat_utc",
        "seconds_since_heartbeat",
        "active_tasks",
        "total_tasks",
        "is_active",
    }


def test_every_write_is_committed_when_it_returns(
    queue: TaskQueue, heartbeat: WorkerHeartbeat, hire: Callable[..., Colleague], open_queue: OPEN, path: Path
) -> None:
    other = hire()
    queue.enqueue("t")
    heartbeat.update_heartbeat("w", {})
    assert other.run(add_at_once)
    assert queue.claim("w", lease_seconds=3600) is not None
    silence(queue.database, "w", 400)
    assert heartbeat.reclaim_stale_worker_tasks() == 1
    assert other.run(add_at_once)
    assert heartbeat.cleanup_stale_workers() == 1
    assert other.run(add_at_once)
    assert not queue.database.get_connection().in_transaction
    with QueueDatabase(path) as seen:
        assert seen.execute("SELECT count(*) FROM workers").fetchone()[0] == 0


def test_a_transaction_takes_a_heartbeat_along(queue: TaskQueue, heartbeat: WorkerHeartbeat) -> None:
    with pytest.raises(RuntimeError):
        undone(queue.database, lambda: heartbeat.update_heartbeat("w", {}))
    assert heartbeat.get_active_workers() == []


def test_threads_share_a_database_with_transactions_that_fail(queue: TaskQueue) -> None:
    """Neither do they undo each other's writes, nor end each other's transactions."""
    database = queue.database
    heartbeat, monitoring = WorkerHeartbeat(database), QueueMonitoring(database)
    failures: list[BaseException] = []
    stop = threading.Event()

    def fail() -> None:
        while not stop.is_set():
            try:
                with database.transaction():
                    queue.enqueue("never")
                    raise RuntimeError
            except RuntimeError:
                pass
            except BaseException as error:
                failures.append(error)

    def register(thread: int) -> None:
        for number in range(40):
            name = f"{thread}-{number}"
            if number % 2:
                heartbeat.update_heartbeat(name, {})
            else:
                monitoring.register_worker(name)
                assert monitoring.update_heartbeat(name)
            queue.enqueue(name)

    noise = [threading.Thread(target=fail) for _ in range(2)]
    for thread in noise:
        thread.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(register, range(3)))
    finally:
        stop.set()
        for thread in noise:
            thread.join(30)
    assert failures == []
    assert len(monitoring.get_all_workers()) == 120
    kinds = [row[0] for row in database.execute("SELECT type FROM task_queue")]
    assert sorted(kinds) == sorted(f"{thread}-{number}" for thread in range(3) for number in range(40))


@pytest.fixture(autouse=True)
def nothing_left_open(queue: TaskQueue) -> Iterator[None]:
    yield
    assert not queue.database.get_connection().in_transaction
