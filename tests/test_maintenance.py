"""Maintenance of a queue that is in use."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from prismq import (
    QueueBusyError,
    QueueDatabaseError,
    QueueMaintenance,
    QueueMaintenanceBusyError,
    QueueMaintenanceError,
    TaskQueue,
)
from tests import operation


@pytest.fixture
def maintenance(queue: TaskQueue) -> QueueMaintenance:
    return QueueMaintenance(queue.database)


def stop_housekeeper(queue: TaskQueue) -> None:
    """It would bring back leases by itself, at once."""
    housekeeper = queue.database.get_connection().housekeeper
    assert housekeeper is not None
    housekeeper.stop()


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_checkpoints(queue: TaskQueue, maintenance: QueueMaintenance, mode: str) -> None:
    assert getattr(maintenance, f"CHECKPOINT_{mode}") == mode
    queue.enqueue("t")
    result = maintenance.checkpoint(mode)
    for _ in range(100):  # the housekeeper may read just then, which PASSIVE does not wait for
        if mode != "PASSIVE" or result["log"] == result["checkpointed"]:
            break
        time.sleep(0.05)
        result = maintenance.checkpoint(mode)
    assert set(result) == {"busy", "log", "checkpointed"}
    assert result["busy"] == 0
    assert result["log"] == result["checkpointed"]
    if mode == "TRUNCATE":
        assert maintenance.get_database_stats()["wal_size_mb"] == 0.0


@pytest.mark.parametrize("mode", ["", "passive", "FULL); DROP TABLE task_queue", 3])
def test_a_mode_that_is_none_is_refused(maintenance: QueueMaintenance, mode: str) -> None:
    with pytest.raises(QueueMaintenanceError, match="Invalid checkpoint mode"):
        maintenance.checkpoint(mode)


def test_sizes(queue: TaskQueue, maintenance: QueueMaintenance, path: Path) -> None:
    queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 5000}}] * 200)
    maintenance.checkpoint("TRUNCATE")
    stats = maintenance.get_database_stats()
    assert stats["total_size_mb"] * 2**20 == stats["page_count"] * stats["page_size"] == path.stat().st_size
    assert stats["wal_mode"] is True
    queue.enqueue("t")
    assert maintenance.get_database_stats()["wal_size_mb"] > 0
    queue.database.execute("DELETE FROM task_queue")
    assert maintenance.get_database_stats()["freelist_count"] > 100
    result = maintenance.optimize(full=True)
    assert (result["analyzed"], result["vacuumed"]) == (True, True)
    assert result["stats_after"]["page_count"] < result["stats_before"]["page_count"] / 2
    assert maintenance.optimize()["vacuumed"] is False


def test_only_tables_that_there_are_are_analysed(queue: TaskQueue, maintenance: QueueMaintenance) -> None:
    queue.database.execute('CREATE TABLE "odd""name; --" (x)')
    queue.database.execute('INSERT INTO "odd""name; --" VALUES (1)')
    queue.enqueue("t")
    maintenance.analyze("task_queue")
    maintenance.analyze('odd"name; --')
    analysed = {row[0] for row in queue.database.execute("SELECT tbl FROM sqlite_stat1")}
    assert analysed == {"task_queue", 'odd"name; --'}
    for name in ("nothing", "task_queue; DROP TABLE task_queue", 'task_queue"; DROP TABLE task_queue; --', ""):
        with pytest.raises(QueueMaintenanceError, match="there is no table"):
            maintenance.analyze(name)
    assert operation.count(queue) == 1
    maintenance.analyze()


def test_a_sound_file_and_a_damaged_one(queue: TaskQueue, maintenance: QueueMaintenance, path: Path) -> None:
    queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 5000}}] * 50)
    assert maintenance.integrity_check() == ["ok"]
    maintenance.checkpoint("TRUNCATE")
    queue.close()
    damaged = bytearray(path.read_bytes())
    damaged[-10 * 4096 :] = b"\xff" * (10 * 4096)
    path.write_bytes(damaged)
    assert maintenance.integrity_check() != ["ok"]


def test_stale_leases_come_back_and_spent_tasks_are_dead_letters(
    queue: TaskQueue, maintenance: QueueMaintenance
) -> None:
    ids = queue.enqueue_many([{"type": "t"}, {"type": "t", "max_attempts": 1}, {"type": "t"}, {"type": "t"}])
    assert len(queue.claim_many("lost", 4, lease_seconds=600)) == 4
    stop_housekeeper(queue)
    ended = "UPDATE task_queue SET lease_until_utc = strftime('%Y-%m-%d %H:%M:%f', 'now', ?) WHERE id = ?"
    for task_id, age in zip(ids, ("-400 seconds", "-400 seconds", "-200 seconds", "+1 hour"), strict=True):
        queue.database.execute(ended, (age, task_id))
    assert maintenance.cleanup_stale_leases(300) == 2
    assert [queue.get(task_id).status for task_id in ids] == ["queued", "dead_letter", "processing", "processing"]  # type: ignore[union-attr]
    assert maintenance.cleanup_stale_leases(timeout_seconds=100) == 1
    task = queue.get(ids[0])
    assert task is not None
    assert (task.attempts, task.locked_by, task.reserved_at_utc, task.lease_until_utc) == (1, None, None, None)
    assert maintenance.cleanup_stale_leases(0) == 0
    for seconds in (-1, float("nan"), float("inf"), "1", None, True):
        with pytest.raises(QueueMaintenanceError, match="timeout_seconds"):
            maintenance.cleanup_stale_leases(seconds)  # type: ignore[arg-type]


def test_many_stale_leases(queue: TaskQueue, maintenance: QueueMaintenance) -> None:
    queue.enqueue_many([{"type": "t"}] * 250)
    queue.claim_many("lost", 250, lease_seconds=600)
    stop_housekeeper(queue)
    queue.database.execute("UPDATE task_queue SET lease_until_utc = '2000-01-01 00:00:00.000'")
    with operation.commits_counted(queue.database) as commits:
        assert maintenance.cleanup_stale_leases() == 250
    assert len(commits) == 3
    assert operation.statuses(queue) == {"queued": 250}


@pytest.mark.parametrize("action", ["vacuum", "analyze", "checkpoint", "integrity_check", "optimize"])
def test_another_threads_transaction_is_neither_ended_nor_entered(
    queue: TaskQueue, maintenance: QueueMaintenance, action: str
) -> None:
    """Though both use one connection: who maintains waits for it."""
    begun, ended = threading.Event(), threading.Event()

    def begin_and_undo() -> None:
        with queue.database.transaction():
            queue.enqueue("never")
            begun.set()
            time.sleep(0.3)
            assert queue.database.get_connection().in_transaction
            ended.set()
            raise RuntimeError

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(begin_and_undo)
        assert begun.wait(30)
        getattr(maintenance, action)()
        assert ended.is_set()
        with pytest.raises(RuntimeError):
            other.result(30)
    assert operation.count(queue) == 0
    assert not queue.database.get_connection().in_transaction
    queue.enqueue("t")
    assert operation.count(queue) == 1


def test_busy_is_told_as_such(queue: TaskQueue, maintenance: QueueMaintenance, path: Path) -> None:
    queue.enqueue("t")
    queue.claim("w", lease_seconds=600)
    stop_housekeeper(queue)
    queue.database.execute("UPDATE task_queue SET lease_until_utc = '2000-01-01 00:00:00.000'")
    foreign = apsw.Connection(str(path))
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueMaintenanceBusyError) as raised:
        maintenance.cleanup_stale_leases()
    assert isinstance(raised.value, QueueMaintenanceError)
    assert isinstance(raised.value, QueueBusyError)
    foreign.execute("ROLLBACK")
    foreign.close()
    assert maintenance.cleanup_stale_leases() == 1


def test_a_vacuum_inside_a_transaction_is_refused_and_leaves_it_alone(
    queue: TaskQueue, maintenance: QueueMaintenance
) -> None:
    with queue.database.transaction():
        queue.enqueue("t")
        with pytest.raises(QueueMaintenanceError, match="not vacuumed"):
            maintenance.vacuum()
    assert operation.count(queue) == 1
    assert issubclass(QueueMaintenanceError, QueueDatabaseError)


def test_a_vacuum_keeps_ids_and_claims(queue: TaskQueue, maintenance: QueueMaintenance) -> None:
    ids = queue.enqueue_many([{"type": "t"}] * 10)
    task = queue.claim("w")
    assert task is not None
    queue.database.execute("DELETE FROM task_queue WHERE id = ?", (ids[-1],))
    maintenance.vacuum()
    queue.complete(task)
    assert queue.enqueue("t") == ids[-1] + 1
