"""How a claimed task ends: completed, failed, renewed, cancelled, taken back, or taken over."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import InvalidTaskError, LeaseLostError, QueueDatabase, RetryConfig, Task, TaskQueue

SPAWN = multiprocessing.get_context("spawn")
OPEN = Callable[..., TaskQueue]
STATUSES = ["queued", "processing", "completed", "failed", "dead_letter"]


def claimed(queue: TaskQueue, worker: str = "w", **wanted: Any) -> Task:
    task = queue.claim(worker, **wanted)
    assert task is not None
    return task


def stored(queue: TaskQueue, task: Task | int) -> Task:
    found = queue.get(task if isinstance(task, int) else task.id or 0)
    assert found is not None
    return found


def snapshot(queue: TaskQueue) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in queue.database.execute("SELECT * FROM task_queue ORDER BY id")]


def expire(queue: TaskQueue, task: Task | int) -> None:
    """Let the lease end in the past."""
    queue.database.execute(
        "UPDATE task_queue SET lease_until_utc = '2001-01-01 00:00:00.000' WHERE id = ?",
        (task if isinstance(task, int) else task.id,),
    )


def in_status(queue: TaskQueue, status: str) -> Task:
    """A task in the given status, as its last worker saw it."""
    queue.enqueue("t", max_attempts=1 if status == "dead_letter" else 5)
    task = claimed(queue)
    if status == "queued":
        queue.fail(task, "x", delay_seconds=0)
    elif status == "completed":
        queue.complete(task)
    elif status != "processing":
        queue.fail(task, "x", retry=status == "dead_letter")
    assert stored(queue, task).status == status
    return task


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def next_task(queue: TaskQueue, worker: str = "w") -> Task:
    """What an idle worker gets in the end."""
    found: list[Task] = []

    def look() -> bool:
        found.extend(queue.claim_many(worker, 1))
        return bool(found)

    wait_for(look)
    return found[0]


# Complete


@pytest.mark.parametrize("batch", [False, True])
def test_a_completed_task_keeps_who_did_it_and_when(queue: TaskQueue, batch: bool) -> None:
    queue.enqueue("t")
    task = claimed(queue, "worker-1")
    if batch:
        queue.complete_many([task])
    else:
        queue.complete(task)
    now = stored(queue, task)
    assert (now.status, now.locked_by, now.attempts, now.error_message) == ("completed", "worker-1", 1, None)
    assert now.lease_until_utc is None
    assert now.finished_at_utc == now.updated_at_utc
    assert now.processing_started_utc is not None
    assert now.finished_at_utc is not None
    assert now.processing_started_utc == task.processing_started_utc
    assert now.processing_started_utc <= now.finished_at_utc <= datetime.now(UTC)
    assert (task.status, task.lease_until_utc) == ("completed", None)
    assert queue.claim("w") is None


# Fail


def test_a_failed_task_is_queued_again_for_anybody_with_its_error(queue: TaskQueue) -> None:
    queue.enqueue("t")
    task = claimed(queue, "worker-1")
    assert queue.fail(task, ValueError("broken ü"), delay_seconds=0) == "queued"
    now = stored(queue, task)
    assert (now.status, now.error_message, now.attempts) == ("queued", "ValueError: broken ü", 1)
    assert (now.locked_by, now.lease_until_utc, now.finished_at_utc) == (None, None, None)
    assert (now.reserved_at_utc, now.processing_started_utc) == (None, None)
    assert now.run_after_utc == now.updated_at_utc
    assert task.status == "queued"
    assert claimed(queue, "worker-2").attempts == 2


def test_a_task_whose_attempts_are_used_up_becomes_a_dead_letter(queue: TaskQueue) -> None:
    queue.enqueue("t", max_attempts=2)
    assert queue.fail(claimed(queue, "w1"), "first", delay_seconds=0) == "queued"
    task = claimed(queue, "w2")
    assert queue.fail(task, "second", delay_seconds=0) == "dead_letter"
    now = stored(queue, task)
    assert (now.status, now.error_message, now.attempts, now.locked_by) == ("dead_letter", "second", 2, "w2")
    assert now.lease_until_utc is None
    assert now.finished_at_utc == now.updated_at_utc
    assert now.processing_started_utc is not None
    assert task.status == "dead_letter"
    assert queue.claim("w") is None


def test_without_retry_a_task_has_failed_at_once(queue: TaskQueue) -> None:
    queue.enqueue("t")
    task = claimed(queue)
    assert queue.fail(task, "hopeless", retry=False) == "failed"
    now = stored(queue, task)
    assert (now.status, now.error_message, now.attempts, now.locked_by) == ("failed", "hopeless", 1, "w")
    assert (now.lease_until_utc, now.finished_at_utc) == (None, now.updated_at_utc)
    assert task.status == "failed"
    assert queue.claim("w") is None


@pytest.mark.parametrize(
    ("error", "stored_as"),
    [
        ("", ""),
        ("nul \0 inside", "nul \ufffd inside"),
        ("half \ud800", "half ?"),
        (None, "None"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_any_error_can_be_recorded(queue: TaskQueue, error: object, stored_as: str) -> None:
    queue.enqueue("t")
    queue.fail(claimed(queue), error, delay_seconds=0)
    assert claimed(queue).error_message == stored_as


def retry_delay(queue: TaskQueue, task: Task) -> float:
    queue.fail(task, "x")
    now = stored(queue, task)
    assert now.run_after_utc is not None
    assert now.updated_at_utc is not None
    queue.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc WHERE id = ?", (task.id,))
    return (now.run_after_utc - now.updated_at_utc).total_seconds()


def test_the_delay_before_a_retry_doubles_up_to_its_limit_to_the_millisecond(open_queue: OPEN) -> None:
    queue = open_queue(retry=RetryConfig(0.7501, 20, 2.5, 0))
    queue.enqueue("t", max_attempts=99)
    delays = [retry_delay(queue, claimed(queue)) for _ in range(7)]
    assert delays == [0.75, 1.875, 4.688, 11.72, 20, 20, 20]


def test_the_standard_delays_have_jitter_below_whole_seconds(queue: TaskQueue) -> None:
    assert queue.retry == RetryConfig(1.0, 300.0, 2.0, 0.1)
    queue.enqueue_many([{"type": "t", "max_attempts": 99}] * 60)
    first = [retry_delay(queue, task) for task in queue.claim_many("w", 60)]
    second = [retry_delay(queue, task) for task in queue.claim_many("w", 60)]
    assert all(0.9 <= delay <= 1.1 for delay in first)
    assert all(1.8 <= delay <= 2.2 for delay in second)
    assert min(first) < 1 < max(first)
    assert len(set(first)) > 20


def test_a_task_waits_out_its_delay_before_the_next_attempt(queue: TaskQueue) -> None:
    queue.enqueue("t")
    queue.fail(claimed(queue), "x", delay_seconds=0.12)
    assert queue.claim("w") is None
    again = next_task(queue, "w")
    due = again.run_after_utc
    started = again.processing_started_utc
    assert due is not None
    assert started is not None
    assert due <= started


@pytest.mark.parametrize("delay", [-1, float("nan"), "1", True])
def test_an_impossible_delay_is_refused_and_the_task_is_still_held(queue: TaskQueue, delay: Any) -> None:
    queue.enqueue("t")
    task = claimed(queue)
    with pytest.raises(InvalidTaskError, match="delay_seconds is"):
        queue.fail(task, "x", delay_seconds=delay)
    queue.complete(task)


@pytest.mark.parametrize(
    "values",
    [
        {"initial_delay_seconds": -1},
        {"max_delay_seconds": float("inf")},
        {"backoff_multiplier": 0.5},
        {"jitter_factor": "1"},
    ],
)
def test_an_impossible_retry_configuration_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        RetryConfig(**values)


# Renew


def test_renewing_sets_the_lease_from_now_whether_longer_or_shorter(queue: TaskQueue) -> None:
    queue.enqueue("t")
    task = claimed(queue, lease_seconds=100)
    for seconds in (500, 5, 0.25):
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        end = queue.renew(task, seconds)
        length = timedelta(seconds=seconds)
        assert before + length <= end <= datetime.now(UTC) + length
        now = stored(queue, task)
        assert now.lease_until_utc == task.lease_until_utc == end
        assert (now.status, now.attempts, now.locked_by) == ("processing", 1, "w")
        assert now.processing_started_utc == task.processing_started_utc


def test_a_renewed_lease_keeps_the_task_beyond_its_first_end(open_queue: OPEN) -> None:
    holder, other = open_queue(), open_queue()
    holder.enqueue("t")
    task = claimed(holder, "holder", lease_seconds=0.15)
    first_end = task.lease_until_utc
    assert first_end is not None
    while datetime.now(UTC) < first_end + timedelta(milliseconds=200):
        holder.renew(task, 30)
        assert other.claim("other") is None
    holder.complete(task)


@pytest.mark.parametrize("seconds", [0, -5, float("inf"), "60", True])
def test_an_impossible_lease_is_refused(queue: TaskQueue, seconds: Any) -> None:
    queue.enqueue("t")
    task = claimed(queue)
    with pytest.raises(InvalidTaskError, match="lease_seconds is"):
        queue.renew(task, seconds)


# Fencing

SETTLE: dict[str, Callable[[TaskQueue, Task], Any]] = {
    "complete": lambda queue, task: queue.complete(task),
    "complete_many": lambda queue, task: queue.complete_many([task]),
    "fail": lambda queue, task: queue.fail(task, "late", delay_seconds=0),
    "fail for good": lambda queue, task: queue.fail(task, "late", retry=False),
    "renew": lambda queue, task: queue.renew(task, 60),
}


@pytest.mark.parametrize("action", SETTLE)
def test_a_worker_whose_task_was_taken_over_changes_nothing_and_learns_who_has_it(
    queue: TaskQueue, action: str
) -> None:
    task_id = queue.enqueue("t")
    old = claimed(queue, "slow worker")
    expire(queue, task_id)
    assert queue.claim("thief", types="other") is None  # idle, and so returns expired leases
    wait_for(lambda: stored(queue, task_id).status == "queued")
    new = claimed(queue, "quick worker")
    assert new.attempts == 2
    before = snapshot(queue)
    with pytest.raises(LeaseLostError) as caught:
        SETTLE[action](queue, old)
    assert snapshot(queue) == before
    error = caught.value
    assert (error.task_id, error.worker_id, error.attempt) == (task_id, "slow worker", 1)
    assert (error.status, error.holder, error.holder_attempts) == ("processing", "quick worker", 2)
    for said in (str(task_id), "'slow worker'", "'quick worker'", "attempt 2"):
        assert said in str(error)
    queue.complete(new)
    with pytest.raises(LeaseLostError, match="already completed by worker 'quick worker'"):
        SETTLE[action](queue, old)


@pytest.mark.parametrize("action", SETTLE)
def test_a_second_claim_by_the_same_worker_makes_its_first_one_stale(queue: TaskQueue, action: str) -> None:
    queue.enqueue("t")
    old = claimed(queue, "w")
    queue.fail(claimed_again := old, "x", delay_seconds=0)
    assert claimed_again.status == "queued"
    new = claimed(queue, "w")
    with pytest.raises(LeaseLostError, match="'w' itself holds it now as attempt 2"):
        SETTLE[action](queue, old)
    queue.complete(new)


@pytest.mark.parametrize("action", SETTLE)
def test_after_a_requeue_the_same_attempt_of_another_worker_is_not_mistaken_for_ones_own(
    queue: TaskQueue, action: str
) -> None:
    task_id = queue.enqueue("t")
    old = claimed(queue, "first worker")
    queue.cancel(task_id)
    queue.requeue(task_id)
    new = claimed(queue, "second worker")
    assert new.attempts == old.attempts == 1
    before = snapshot(queue)
    with pytest.raises(LeaseLostError, match="'second worker' holds it now as attempt 1"):
        SETTLE[action](queue, old)
    assert snapshot(queue) == before


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "processing"])
@pytest.mark.parametrize("action", SETTLE)
def test_what_is_not_processing_can_not_be_settled(queue: TaskQueue, action: str, status: str) -> None:
    task = in_status(queue, status)
    before = snapshot(queue)
    with pytest.raises(LeaseLostError) as caught:
        SETTLE[action](queue, task)
    assert caught.value.status == status
    assert snapshot(queue) == before


@pytest.mark.parametrize("action", SETTLE)
def test_a_task_that_no_longer_exists_can_not_be_settled(queue: TaskQueue, action: str) -> None:
    queue.enqueue("t")
    task = claimed(queue)
    queue.database.execute("DELETE FROM task_queue")
    with pytest.raises(LeaseLostError, match="no longer exists") as caught:
        SETTLE[action](queue, task)
    assert caught.value.status is None


@pytest.mark.parametrize("action", SETTLE)
def test_until_somebody_took_an_expired_task_back_its_worker_may_still_settle_it(queue: TaskQueue, action: str) -> None:
    queue.enqueue("t")
    task = claimed(queue)
    with queue.database.transaction():  # so that nobody comes in between
        expire(queue, task)
        SETTLE[action](queue, task)
    now = stored(queue, task)
    expected = {"fail": "queued", "fail for good": "failed", "renew": "processing"}.get(action, "completed")
    assert now.status == expected
    assert now.lease_until_utc is None or now.lease_until_utc > datetime.now(UTC)


@pytest.mark.parametrize("nothing", [None, 5, "task", Task(id=1), Task(locked_by="w")])
def test_only_a_claimed_task_can_be_settled(queue: TaskQueue, nothing: Any) -> None:
    for settle in SETTLE.values():
        with pytest.raises(InvalidTaskError, match="was not claimed"):
            settle(queue, nothing)


def test_settling_joins_the_callers_transaction(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 4)
    tasks = queue.claim_many("w", 4)
    before = snapshot(queue)
    with pytest.raises(ZeroDivisionError), queue.database.transaction():
        queue.complete(tasks[0])
        queue.complete_many(tasks[1:3])
        queue.fail(tasks[3], "x")
        raise ZeroDivisionError
    assert snapshot(queue) == before


# Batches


def test_a_batch_settles_what_it_holds_and_reports_all_that_was_lost(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 6)
    tasks = queue.claim_many("w", 6)
    queue.cancel(tasks[1].id or 0)
    queue.database.execute("DELETE FROM task_queue WHERE id = ?", (tasks[4].id,))
    with pytest.raises(LeaseLostError) as caught:
        queue.complete_many(tasks)
    assert (caught.value.task_id, caught.value.status) == (tasks[1].id, "failed")
    assert [(other.task_id, other.status) for other in caught.value.others] == [(tasks[4].id, None)]
    assert "1 more" in str(caught.value)
    assert [task.status for task in tasks] == [
        "completed",
        "processing",
        "completed",
        "completed",
        "processing",
        "completed",
    ]
    statuses = queue.database.execute("SELECT status, count(*) FROM task_queue GROUP BY 1").fetchall()
    assert dict(tuple(row) for row in statuses) == {"completed": 4, "failed": 1}


def test_a_batch_of_failures_has_an_outcome_for_each(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t", "max_attempts": 1 + n % 2} for n in range(4)])
    tasks = queue.claim_many("w", 4)
    pairs = [(task, f"error {task.id}") for task in tasks]
    assert queue.fail_many(pairs, delay_seconds=0) == ["dead_letter", "queued", "dead_letter", "queued"]
    assert [stored(queue, task).error_message for task in tasks] == [error for _, error in pairs]
    with pytest.raises(LeaseLostError) as caught:
        queue.fail_many(pairs)
    assert len(caught.value.others) == 3
    assert [stored(queue, task).error_message for task in tasks] == [error for _, error in pairs]


def test_a_batch_of_renewals_moves_what_it_holds(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 3)
    tasks = queue.claim_many("w", 3, lease_seconds=5)
    queue.complete(tasks[1])
    with pytest.raises(LeaseLostError) as caught:
        queue.renew_many(tasks, 500)
    assert caught.value.task_id == tasks[1].id
    for task in (tasks[0], tasks[2]):
        assert task.lease_until_utc == stored(queue, task).lease_until_utc
        assert task.lease_until_utc is not None
        assert task.lease_until_utc > datetime.now(UTC) + timedelta(seconds=400)


def test_a_batch_is_one_transaction_and_an_empty_one_is_fine(queue: TaskQueue, path: Path) -> None:
    queue.enqueue_many([{"type": "t"}] * 9)
    tasks = queue.claim_many("w", 9)
    watcher = apsw.Connection(str(path))
    for settle in (
        lambda: queue.renew_many(tasks, 500),
        lambda: queue.complete_many(tasks[:5]),
        lambda: queue.fail_many([(task, "x") for task in tasks[5:]]),
    ):
        version = watcher.pragma("data_version")
        settle()
        assert watcher.pragma("data_version") == version + 1
    watcher.close()
    queue.complete_many([])
    assert queue.fail_many([]) == queue.renew_many([]) == []


# Cancel and requeue


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_queued_or_running_task_can_be_cancelled(queue: TaskQueue, status: str) -> None:
    task = in_status(queue, status)
    before = snapshot(queue)
    assert queue.cancel(task.id or 0) is (status in ("queued", "processing"))
    now = stored(queue, task)
    if status in ("queued", "processing"):
        assert (now.status, now.error_message) == ("failed", "Cancelled by user")
        assert now.finished_at_utc == now.updated_at_utc
        assert now.lease_until_utc is None
        assert queue.claim("w") is None
    else:
        assert snapshot(queue) == before
    assert queue.cancel(task.id or 0) is False


@pytest.mark.parametrize("action", SETTLE)
def test_a_running_handler_finds_out_that_its_task_was_cancelled(queue: TaskQueue, action: str) -> None:
    task = in_status(queue, "processing")
    assert queue.cancel(task.id or 0)
    with pytest.raises(LeaseLostError, match="cancelled"):
        SETTLE[action](queue, task)
    assert stored(queue, task).error_message == "Cancelled by user"


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_failed_task_can_be_requeued_and_has_all_its_attempts_again(queue: TaskQueue, status: str) -> None:
    task = in_status(queue, status)
    before = snapshot(queue)
    assert queue.requeue(task.id or 0) is (status in ("failed", "dead_letter"))
    if status not in ("failed", "dead_letter"):
        assert snapshot(queue) == before
        return
    now = stored(queue, task)
    assert (now.status, now.attempts, now.locked_by) == ("queued", 0, None)
    assert (now.finished_at_utc, now.lease_until_utc) == (None, None)
    assert (now.reserved_at_utc, now.processing_started_utc) == (None, None)
    again = claimed(queue, "w2")
    assert (again.id, again.attempts) == (task.id, 1)
    queue.complete(again)


def test_a_delayed_task_can_be_cancelled_and_then_requeued_to_run_at_once(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t", run_after=timedelta(days=1))
    assert queue.cancel(task_id)
    assert queue.requeue(task_id)
    assert claimed(queue).id == task_id


@pytest.mark.parametrize("unknown", [0, -1, 99, 2**63 - 1])
def test_an_unknown_task_is_neither_found_nor_cancelled_nor_requeued(queue: TaskQueue, unknown: int) -> None:
    assert queue.get(unknown) is None
    assert queue.cancel(unknown) is False
    assert queue.requeue(unknown) is False


@pytest.mark.parametrize("wrong", [None, "1", 1.0, True])
def test_what_is_no_id_is_refused(queue: TaskQueue, wrong: Any) -> None:
    for ask in (queue.get, queue.cancel, queue.requeue):
        with pytest.raises(InvalidTaskError, match="task_id is"):
            ask(wrong)


# Expired leases


def test_an_idle_claim_returns_expired_leases_and_takes_them(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    claimed(queue, "lost worker")
    assert queue.claim("idle") is None
    expire(queue, task_id)
    with queue.database.transaction():
        pass
    again = next_task(queue, "idle")
    assert (again.id, again.attempts, again.locked_by) == (task_id, 2, "idle")
    assert again.error_message is not None
    for said in ("Lease expired", "lost worker", "attempt 1", "2001-01-01 00:00:00.000"):
        assert said in again.error_message


def test_an_expired_task_that_may_not_run_again_becomes_a_dead_letter(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t", max_attempts=1)
    claimed(queue, "lost worker")
    expire(queue, task_id)
    assert queue.claim("idle") is None
    wait_for(lambda: stored(queue, task_id).status == "dead_letter")
    now = stored(queue, task_id)
    assert (now.attempts, now.locked_by, now.lease_until_utc) == (1, "lost worker", None)
    assert now.finished_at_utc == now.updated_at_utc
    assert "lost worker" in (now.error_message or "")
    assert queue.claim("idle") is None


def test_expired_leases_come_back_while_the_queue_stays_busy(queue: TaskQueue) -> None:
    queue.enqueue("victim", priority=1)
    lost = claimed(queue, "lost worker", lease_seconds=0.2)
    end = time.monotonic() + 10
    while stored(queue, lost).status == "processing":  # never idle: every claim finds something
        assert time.monotonic() < end, "the lease never came back"
        queue.enqueue("busy")
        queue.complete(claimed(queue, types="busy"))
    now = stored(queue, lost)
    assert (now.status, now.locked_by, now.attempts) == ("queued", None, 1)
    assert now.updated_at_utc is not None
    assert lost.lease_until_utc is not None
    assert now.updated_at_utc >= lost.lease_until_utc
    assert claimed(queue).id == lost.id


def test_many_leases_that_expire_at_once_all_come_back(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "t", "max_attempts": 1 + n % 2} for n in range(500)])
    queue.claim_many("lost worker", 500, lease_seconds=0.001)
    got: list[int] = []

    def collect() -> bool:
        got.extend(task.id or 0 for task in queue.claim_many("w", 100))
        return len(got) == 250

    wait_for(collect)
    assert sorted(got) == ids[1::2]
    wait_for(lambda: stored(queue, ids[0]).status == "dead_letter")
    statuses = queue.database.execute("SELECT status, count(*) FROM task_queue GROUP BY 1").fetchall()
    assert dict(tuple(row) for row in statuses) == {"processing": 250, "dead_letter": 250}


def claim_and_hang(path: str, driver: Any, lease_seconds: float, told: Any) -> None:
    with TaskQueue(path, driver=driver) as queue:
        task = queue.claim("victim", lease_seconds=lease_seconds)
        assert task is not None
        told.put((task.id, task.lease_until_utc))
        signal.pause()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_task_of_a_killed_worker_comes_back_after_its_lease_and_not_before(
    queue: TaskQueue, path: Path, driver: str
) -> None:
    task_id = queue.enqueue("t")
    told = SPAWN.Queue()
    victim = SPAWN.Process(target=claim_and_hang, args=(str(path), driver, 1.0, told), daemon=True)
    victim.start()
    held, lease_end = told.get(timeout=30)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(30)
    assert victim.exitcode == -signal.SIGKILL
    assert held == task_id
    again = next_task(queue, "heir")
    assert (again.id, again.attempts) == (task_id, 2)
    assert "victim" in (again.error_message or "")
    assert again.processing_started_utc is not None
    assert lease_end <= again.processing_started_utc < lease_end + timedelta(seconds=5)
    queue.complete(again)


def test_two_queues_settle_each_others_claims(open_queue: OPEN, path: Path) -> None:
    database = QueueDatabase(path)
    one, other, third = open_queue(database), open_queue(database), open_queue()
    one.enqueue_many([{"type": "t"}] * 2)
    first, second = claimed(one), claimed(other)
    other.complete(first)
    third.complete(second)
    with pytest.raises(LeaseLostError):
        one.complete(first)
    database.close()
