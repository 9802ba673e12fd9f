"""What runs beside the callers: checkpoints off their path, short waits for the lock, an end when the queue closes."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from prismq import QueueBusyError, QueueDatabase, Settings, TaskQueue
from prismq.driver import DriverName
from prismq.housekeeping import Checkpointer

OPEN = Callable[..., TaskQueue]
FRAME_BYTES = 4096 + 24
RESTART_PAGES = Settings().restart_bytes // 4096
RECORDS = "SELECT name FROM queue_state WHERE name LIKE 'group %' ORDER BY name"
INLINE_CHECKPOINT_PAGES = Settings().inline_checkpoint_bytes // 4096


def wal_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def stop_housekeeper(queue: TaskQueue) -> None:
    housekeeper = queue.database.get_connection().housekeeper
    assert housekeeper is not None
    housekeeper.stop()


def enqueue_until(path: str, driver: DriverName, started: float, seconds: float) -> None:
    with TaskQueue(path, driver=driver) as queue:
        while time.time() < started + seconds:
            queue.enqueue("t", {"n": 1})


def test_commits_leave_checkpoints_to_others(queue: TaskQueue, path: Path) -> None:
    queue.enqueue("t")
    stop_housekeeper(queue)
    Checkpointer(queue.database).checkpoint()
    before = path.stat().st_size
    for _ in range(4):
        queue.enqueue_many({"type": "t", "payload": {"body": "x" * 3000}} for _ in range(500))
    assert wal_bytes(path) > 1000 * FRAME_BYTES  # SQLite's own hook would have copied them by now
    assert path.stat().st_size == before


def test_a_commit_helps_when_the_log_is_beyond_all_measure(queue: TaskQueue, path: Path) -> None:
    queue.enqueue("t")
    stop_housekeeper(queue)
    before = path.stat().st_size
    payload = {"body": "x" * 2_000_000}
    while wal_bytes(path) < INLINE_CHECKPOINT_PAGES * FRAME_BYTES:
        queue.enqueue_many([{"type": "t", "payload": payload}] * 5)
    queue.enqueue("t")
    assert path.stat().st_size > before + 100_000_000


def test_a_checkpoint_begins_a_long_log_anew(queue: TaskQueue, path: Path) -> None:
    queue.enqueue("t")
    stop_housekeeper(queue)
    queue.enqueue_many({"type": "t", "payload": {"body": "x" * 8000}} for _ in range(RESTART_PAGES // 2))
    longest = wal_bytes(path)
    assert longest > RESTART_PAGES * FRAME_BYTES
    Checkpointer(queue.database).checkpoint()
    queue.enqueue("t")
    log_pages = queue.database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    assert log_pages < 50
    assert wal_bytes(path) == longest  # kept, because writing over it is cheaper than growing it again


def test_the_log_stays_short_while_processes_write_without_pause(path: Path, driver: DriverName) -> None:
    TaskQueue(path).close()
    context = multiprocessing.get_context("spawn")
    started = time.time() + 2  # when all of them should be up
    writers = [
        context.Process(target=enqueue_until, args=(str(path), driver, started, 3), daemon=True) for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    longest = 0
    with TaskQueue(path) as queue:
        while any(writer.is_alive() for writer in writers):
            longest = max(longest, wal_bytes(path))
            time.sleep(0.02)
        written = queue.database.execute("SELECT count(*) FROM task_queue").fetchone()[0] * 3 * FRAME_BYTES
    assert all(writer.exitcode == 0 for writer in writers)
    assert longest < (INLINE_CHECKPOINT_PAGES + RESTART_PAGES) * FRAME_BYTES
    assert written < 30_000_000 or longest < written * 0.7


def housekeepers() -> int:
    return sum(thread.name == "prismq-keeper" for thread in threading.enumerate())


def test_a_reader_that_stays_holds_nobody_up(queue: TaskQueue, path: Path) -> None:
    queue.enqueue("t")
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task_queue").fetchall()
    batch = [{"type": "t", "payload": {"body": "x" * 20_000}}] * 100
    waits = []
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        started = time.monotonic()
        queue.enqueue_many(batch)
        waits.append(time.monotonic() - started)
        time.sleep(0.01)
    assert wal_bytes(path) > 2 * RESTART_PAGES * FRAME_BYTES  # restarts were wanted
    assert max(waits) < 1
    reader.execute("COMMIT")
    reader.close()
    deadline = time.monotonic() + 30
    pages = 10 * RESTART_PAGES
    while pages > RESTART_PAGES:  # and come about once nobody is in the way
        assert time.monotonic() < deadline
        queue.enqueue("t")
        time.sleep(0.1)
        pages = queue.database.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()[1]


def test_its_thread_ends_with_a_queue_that_nobody_closed(path: Path, driver: DriverName) -> None:
    before = housekeepers()
    queue = TaskQueue(path, driver=driver)
    queue.enqueue("t")
    assert housekeepers() == before + 1
    del queue
    gc.collect()
    deadline = time.monotonic() + 30
    while housekeepers() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_queues_on_one_database_share_one(open_queue: OPEN, path: Path) -> None:
    before = housekeepers()
    with QueueDatabase(path) as database:
        queues = [open_queue(database) for _ in range(5)]
        for queue in queues:
            queue.enqueue("t")
        assert housekeepers() == before + 1
        queues[0].close()  # the others go on
        assert housekeepers() == before + 1
    assert housekeepers() == before


def test_leases_brought_back_are_in_the_log(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    ids = queue.enqueue_many([{"type": "t"}, {"type": "t", "max_attempts": 1}])
    assert len(queue.claim_many("lost", 2, lease_seconds=0.05)) == 2
    stop_housekeeper(queue)  # only the idle claim is left to see it
    time.sleep(0.1)
    with caplog.at_level(logging.WARNING, "prismq"):
        task = queue.claim("w")
    assert task is not None
    assert task.id == ids[0]
    messages = sorted(record.getMessage() for record in caplog.records)
    assert messages[0].startswith(f"task {ids[0]} is queued: Lease expired: worker lost did not finish attempt 1 by 2")
    assert messages[1].startswith(f"task {ids[1]} is dead_letter: Lease expired")


def test_a_claim_leaves_expired_leases_to_the_housekeeper(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "prismq"):
        for _ in range(20):
            queue.enqueue("t", max_attempts=2)
            assert queue.claim("lost", lease_seconds=0.02) is not None
            while (task := queue.claim("w")) is None:  # it looks all the time, also in the moment the lease ends
                pass
            assert task.attempts == 2
            queue.complete(task)
    returned = [record.threadName for record in caplog.records if "Lease expired" in record.getMessage()]
    assert len(returned) == 20
    # On a busy machine the housekeeper may come too late for the patience of a claim, but not as a rule.
    assert returned.count("prismq-keeper") > 10


@pytest.mark.parametrize("column", ["locked_by", "lease_until_utc", "type"])
def test_text_that_is_not_utf8_keeps_no_other_lease_from_ending(
    queue: TaskQueue, open_queue: OPEN, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    """Plain SQL may put it in, and this library does not read it as text."""
    ids = queue.enqueue_many([{"type": "t"}, {"type": "other"}, {"type": "t"}])
    with queue.database.transaction():
        queue.database.execute(
            """UPDATE task_queue SET status = 'processing', locked_by = 'lost', attempts = 1,
            lease_until_utc = '2020-01-01 00:00:00.000'"""
        )
        spoil = f"UPDATE task_queue SET {column} = CAST(X'32303230FFFE' AS TEXT) WHERE id = ?"
        queue.database.execute(spoil, (ids[1],))
    worker = open_queue()
    taken = [worker.claim("w", types="t", wait=15.0) for _ in range(2)]
    assert sorted(task.id or 0 for task in taken if task is not None) == [ids[0], ids[2]]
    deadline = time.monotonic() + 15.0
    statement = "SELECT status FROM task_queue WHERE id = ?"
    while queue.database.execute(statement, (ids[1],)).fetchone()[0] != "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    due = queue.enqueue("t", run_after=timedelta(seconds=0.2))
    task = worker.claim("w", types="t", wait=15.0)
    assert task is not None
    assert task.id == due
    assert not [record for record in caplog.records if "failed" in record.getMessage()]


def test_a_lease_without_an_end_has_ended(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    queue.database.execute("UPDATE task_queue SET status = 'processing', locked_by = 'x', attempts = 1")
    task = queue.claim("w")
    assert task is not None
    assert (task.id, task.attempts) == (task_id, 2)
    assert "a time that is not known" in str(task.error_message)


def test_records_of_sidecar_files_out_of_use_are_dropped(open_queue: OPEN, path: Path) -> None:
    now = time.time_ns() // 1_000_000
    an_hour, half_an_hour, replaced_both, new = (f"group {now - ago * 60_000 << 16:016x}" for ago in (60, 30, 20, 1))
    wiped = f"{half_an_hour} {5:016x}"
    with QueueDatabase(path) as database:
        database.initialize_schema()
        names = [(name,) for name in (an_hour, half_an_hour, wiped, replaced_both, new)]
        database.execute_many("INSERT INTO queue_state VALUES (?, x'')", names)
    with open_queue() as queue:
        queue.enqueue("t")
        deadline = time.monotonic() + 30
        while len(left := queue.database.execute(RECORDS).fetchall()) == len(names) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [row[0] for row in left] == [replaced_both, new]


def test_its_thread_ends_with_the_queue(open_queue: OPEN) -> None:
    before = housekeepers()
    queue = open_queue()
    queue.enqueue("t")
    assert housekeepers() == before + 1
    queue.close()
    assert housekeepers() == before
    queue.enqueue("t")  # opens again
    assert housekeepers() == before + 1
    queue.close()
    assert housekeepers() == before


def test_operations_wait_for_a_foreign_writer_and_go_on_soon_after_it(queue: TaskQueue, path: Path) -> None:
    queue.enqueue("t")
    foreign = apsw.Connection(str(path))
    foreign.execute("BEGIN IMMEDIATE")
    released = []

    def release() -> None:
        time.sleep(0.4)
        foreign.execute("COMMIT")
        released.append(time.monotonic())

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(release)
        task = queue.claim("w")
        waited_on = time.monotonic() - released[0]
        waiting.result()
    assert task is not None
    assert waited_on < 0.25  # SQLite's own handler sleeps 100 ms at a time by then
    foreign.close()


def test_a_lock_held_too_long_is_busy_for_every_operation(path: Path, open_queue: OPEN) -> None:
    queue = open_queue()
    ids = queue.enqueue_many([{"type": "t"}] * 3)
    done, failed = queue.claim_many("w", 2)
    foreign = apsw.Connection(str(path))
    foreign.execute("BEGIN IMMEDIATE")
    operations: list[Callable[[TaskQueue], object]] = [
        lambda one: one.enqueue("t"),
        lambda one: one.enqueue_many([{"type": "t"}] * 2),
        lambda one: one.claim("w"),
        lambda one: one.complete(done),
        lambda one: one.fail(failed, "why"),
        lambda one: one.renew(failed, 60),
        lambda one: one.cancel(ids[2]),
    ]

    def attempt(operation: Callable[[TaskQueue], object]) -> float:
        with open_queue() as one:
            started = time.monotonic()
            with pytest.raises(QueueBusyError, match=r"after waiting \d\.\d s"):
                operation(one)
            return time.monotonic() - started

    with ThreadPoolExecutor(len(operations)) as pool:
        waits = list(pool.map(attempt, operations))
    foreign.execute("ROLLBACK")
    foreign.close()
    assert all(4.9 < wait < 8 for wait in waits), waits
    assert [queue.get(task_id).status for task_id in ids] == ["processing", "processing", "queued"]  # type: ignore[union-attr]
    queue.complete_many([done, failed])
    assert queue.claim("w") is not None
