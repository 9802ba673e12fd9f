"""Registration of workers, and the queue at a glance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from prismq import (
    InvalidTaskError,
    QueueDatabaseError,
    QueueMonitoring,
    TaskQueue,
    Worker,
    WorkerHeartbeat,
    clock,
    heartbeat,
)
from tests.one_table import undone


@pytest.fixture
def monitoring(queue: TaskQueue) -> QueueMonitoring:
    return QueueMonitoring(queue.database)


def silence(queue: TaskQueue, worker: str, seconds: float) -> None:
    moment = clock.to_text(clock.now() - timedelta(seconds=seconds))
    queue.database.execute("UPDATE workers SET heartbeat_utc = ? WHERE worker_id = ?", (moment, worker))


def names(workers: list[Worker]) -> list[str]:
    return [worker.worker_id for worker in workers]


def test_the_whole_life_of_a_worker(queue: TaskQueue, monitoring: QueueMonitoring) -> None:
    assert monitoring.update_heartbeat("w") is False
    assert monitoring.get_worker("w") is None
    monitoring.register_worker("w", {"regions": ["eu", "us"]})
    worker = monitoring.get_worker("w")
    assert worker is not None
    assert worker.get_capabilities_dict() == {"regions": ["eu", "us"]}
    silence(queue, "w", 400)
    assert names(monitoring.get_stale_workers()) == ["w"]
    assert monitoring.update_heartbeat("w") is True
    assert monitoring.get_stale_workers() == []
    assert names(monitoring.get_active_workers()) == ["w"]
    monitoring.register_worker("w")
    assert monitoring.get_worker("w") == Worker("w", "{}", monitoring.get_all_workers()[0].heartbeat_utc)
    assert monitoring.remove_worker("w") is True
    assert monitoring.remove_worker("w") is False


def test_orders_and_thresholds(queue: TaskQueue, monitoring: QueueMonitoring) -> None:
    for worker, seconds in (("c", 10), ("a", 100), ("b", 1000), ("d", 2000)):
        monitoring.register_worker(worker)
        silence(queue, worker, seconds)
    assert names(monitoring.get_all_workers()) == ["a", "b", "c", "d"]
    assert names(monitoring.get_active_workers()) == ["c"]
    assert names(monitoring.get_active_workers(active_threshold_seconds=200)) == ["c", "a"]
    assert names(monitoring.get_stale_workers()) == ["d", "b"]
    assert names(monitoring.get_stale_workers(stale_threshold_seconds=5)) == ["d", "b", "a", "c"]
    with pytest.raises(InvalidTaskError):
        monitoring.get_active_workers(-1)


def test_unwritable_capabilities_are_refused(monitoring: QueueMonitoring) -> None:
    with pytest.raises(QueueDatabaseError):
        monitoring.register_worker("w", {"x": {1, 2}})
    assert monitoring.get_all_workers() == []


def test_the_metrics_of_an_empty_queue(monitoring: QueueMonitoring) -> None:
    assert monitoring.get_queue_metrics() == {
        "queue_depth_by_status": {},
        "queue_depth_by_type": {},
        "oldest_queued_task_age_seconds": None,
        "task_statistics": {},
        "success_rate": None,
        "failure_rate": None,
        "total_workers": 0,
        "active_workers": 0,
        "stale_workers": 0,
    }


def test_the_metrics_of_a_queue(queue: TaskQueue, monitoring: QueueMonitoring) -> None:
    queue.enqueue_many([{"type": "a"}] * 4 + [{"type": "b", "run_after": timedelta(hours=1)}, {"type": "c"}])
    (dead,) = queue.claim_many("w", 1, types="c")
    queue.database.execute("UPDATE task_queue SET max_attempts = 1 WHERE id = ?", (dead.id,))
    assert queue.fail(dead, "no") == "dead_letter"
    first, second, _ = queue.claim_many("w", 3)
    queue.complete(first)
    queue.fail(second, "no", retry=False)
    for worker, seconds in (("w", 1), ("between", 100), ("gone", 1000)):
        monitoring.register_worker(worker)
        silence(queue, worker, seconds)
    silence_task = clock.to_text(clock.now() - timedelta(seconds=90))
    queue.database.execute("UPDATE task_queue SET created_at_utc = ? WHERE type = 'b'", (silence_task,))
    metrics = monitoring.get_queue_metrics()
    age = metrics.pop("oldest_queued_task_age_seconds")
    assert isinstance(age, int)
    assert 90 <= age < 120
    assert metrics == {
        "queue_depth_by_status": {"queued": 2, "processing": 1, "completed": 1, "failed": 1, "dead_letter": 1},
        "queue_depth_by_type": {"a": 1, "b": 1},
        "task_statistics": {
            "completed": {"status": "completed", "count": 1, "avg_attempts": 1.0},
            "failed": {"status": "failed", "count": 2, "avg_attempts": 1.0},
        },
        "success_rate": pytest.approx(1 / 3),
        "failure_rate": pytest.approx(2 / 3),
        "total_workers": 3,
        "active_workers": 1,
        "stale_workers": 1,
    }
    queue.database.execute("DELETE FROM task_queue WHERE status IN ('completed', 'dead_letter')")
    assert monitoring.get_queue_metrics()["task_statistics"]["completed"]["count"] == 1  # it has happened


def test_all_is_of_one_moment(queue: TaskQueue, monitoring: QueueMonitoring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever others commit while it is read."""
    heartbeat_of_worker = WorkerHeartbeat(queue.database)
    with TaskQueue(queue.database.db_path) as other:
        held = QueueMonitoring(other.database)
        held.register_worker("w")

        def while_others_go_on(read: Callable[..., Any]) -> Callable[..., Any]:
            def reading(*arguments: Any) -> Any:
                held.register_worker(f"new {len(other.database.execute('SELECT 1 FROM workers').fetchall())}")
                other.enqueue("t")
                task = other.claim("w")
                assert task is not None
                return read(*arguments)

            return reading

        for name in ("rows", "_tasks", "all_workers"):
            monkeypatch.setattr(heartbeat, name, while_others_go_on(getattr(heartbeat, name)))
        monkeypatch.setattr(
            monitoring._metrics,
            "get_queue_depth_by_status",
            while_others_go_on(monitoring._metrics.get_queue_depth_by_status),
        )
        metrics = monitoring.get_queue_metrics()
        assert (metrics["queue_depth_by_status"], metrics["queue_depth_by_type"]) == ({}, {})
        assert metrics["total_workers"] == 1
        before = other.database.execute("SELECT count(*) FROM task_queue").fetchone()[0]
        assert (
            heartbeat_of_worker.get_worker_stats("w")["active_tasks_count"] == before + 1
        )  # its moment is its first read
        workers, before = (
            other.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("workers", "task_queue")
        )
        summary = heartbeat_of_worker.get_all_workers_summary()
        assert len(summary) == workers + 1
        assert sum(worker["total_tasks"] for worker in summary) == before + 1


def test_worker_activity(queue: TaskQueue, monitoring: QueueMonitoring) -> None:
    monitoring.register_worker("old", {"a": 1, "b": [1, 2]})
    monitoring.register_worker("new")
    silence(queue, "old", 100.9)
    new, old = monitoring.get_worker_activity()
    assert new.keys() == old.keys() == {"worker_id", "capabilities", "heartbeat_utc", "seconds_since_heartbeat"}
    assert (old["worker_id"], old["capabilities"]) == ("old", '{"a": 1, "b": [1, 2]}')
    assert type(old["seconds_since_heartbeat"]) is int
    assert 100 <= old["seconds_since_heartbeat"] < 130
    assert len(old["heartbeat_utc"]) == 23


def test_registering_joins_a_transaction(queue: TaskQueue, monitoring: QueueMonitoring) -> None:
    with pytest.raises(RuntimeError):
        undone(queue.database, lambda: monitoring.register_worker("w"))
    assert monitoring.get_all_workers() == []
    with queue.database.transaction():
        monitoring.register_worker("w")
    assert names(monitoring.get_all_workers()) == ["w"]
