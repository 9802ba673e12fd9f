"""When a failed task is tried again: by the backoff of the task, its type, its worker or the queue, or its handler."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    Discard,
    InvalidTaskError,
    RetryConfig,
    RetryLater,
    Task,
    TaskHandlerRegistry,
    TaskQueue,
    WorkerEngine,
    clock,
)
from prismq import queue as queue_module

OPEN = Callable[..., TaskQueue]


def backoff(seconds: float) -> RetryConfig:
    return RetryConfig(initial_delay_seconds=seconds, max_delay_seconds=10_000, jitter_factor=0)


def delay(queue: TaskQueue, task_id: int) -> float:
    """How long the failed task waits, in seconds."""
    task = queue.get(task_id)
    assert task is not None
    assert task.status == "queued"
    assert task.run_after_utc is not None
    assert task.updated_at_utc is not None
    return (task.run_after_utc - task.updated_at_utc).total_seconds()


def broken(task: Task) -> None:
    raise ValueError("no")


def options(queue: TaskQueue) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in queue.database.execute("SELECT task_id, retry FROM task_options ORDER BY 1")]


@pytest.mark.parametrize(
    ("task", "type_", "worker", "queue_", "expected"),
    [
        (11, 22, 33, 44, 11),
        (None, 22, 33, 44, 22),
        (None, None, 33, 44, 33),
        (None, None, None, 44, 44),
    ],
)
def test_the_nearest_backoff_counts(
    open_queue: OPEN, task: float | None, type_: float | None, worker: float | None, queue_: float, expected: float
) -> None:
    queue = open_queue(retry=backoff(queue_))
    registry = TaskHandlerRegistry()
    registry.register_handler("t", broken, retry=type_ and backoff(type_))
    task_id = queue.enqueue("t", retry=task and backoff(task))
    WorkerEngine(queue, "w", handler_registry=registry, retry=worker and backoff(worker)).claim_and_process()
    assert delay(queue, task_id) == expected


def test_a_tasks_own_backoff_grows_whoever_fails_it_and_however(queue: TaskQueue, open_queue: OPEN) -> None:
    first, second, plain = queue.enqueue_many(
        [{"type": "t", "retry": backoff(7)}, {"type": "t", "retry": backoff(100)}, {"type": "t", "retry": None}]
    )
    for failing, factor in ((queue, 1), (open_queue(retry=backoff(50)), 2)):
        tasks = failing.claim_many("w", 3)
        failing.fail_many([(task, "x") for task in tasks])
        assert [delay(queue, first), delay(queue, second)] == [7 * factor, 100 * factor]
        queue.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc")
    (task, *_) = queue.claim_many("w", 3)
    queue.fail(task, "x", delay_seconds=3)  # what the caller says at the moment counts more
    assert delay(queue, first) == 3
    assert [row[0] for row in options(queue)] == [first, second]
    assert plain not in dict(options(queue))


def test_a_backoff_is_stored_with_its_task_or_not_at_all(queue: TaskQueue) -> None:
    with pytest.raises(ZeroDivisionError), queue.database.transaction():
        queue.enqueue("t", retry=backoff(1))
        raise ZeroDivisionError
    assert options(queue) == []
    task_id = queue.enqueue("t", idempotency_key="k", retry=backoff(5))
    before = options(queue)
    assert queue.enqueue("t", idempotency_key="k", retry=backoff(6)) == task_id
    plain = queue.enqueue("t", idempotency_key="plain")
    again = queue.enqueue_many([{"type": "t", "idempotency_key": key, "retry": backoff(6)} for key in ("k", "plain")])
    assert again == [task_id, plain]
    assert options(queue) == before  # nothing is written for a task that was there
    queue.database.execute("DELETE FROM task_queue")
    assert options(queue) == []


@pytest.mark.parametrize("wrong", [3, "1s", {"initial_delay_seconds": 1}])
def test_a_backoff_that_is_none_is_refused_and_nothing_written(queue: TaskQueue, wrong: Any) -> None:
    with pytest.raises(InvalidTaskError, match=r"retry is .*; it must be a RetryConfig"):
        queue.enqueue("t", retry=wrong)
    with pytest.raises(InvalidTaskError, match="task 1 of the batch: retry is"):
        queue.enqueue_many([{"type": "t"}, {"type": "t", "retry": wrong}])
    assert queue.claim("w") is None


def test_an_unreadable_backoff_from_plain_sql_costs_no_task(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    task_id = queue.enqueue("t", retry=backoff(5))
    too_long = '{"initial_delay_seconds": 4e9, "max_delay_seconds": 4e9}'
    too_deep = '{"speed": ' + "[" * 100_000
    for text in ("nonsense", "[1]", '{"speed": 3}', '{"initial_delay_seconds": -1}', too_long, too_deep):
        queue.database.execute("UPDATE task_options SET retry = ?", (text,))
        queue.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc, attempts = 0")
        task = queue.claim("w")
        assert task is not None
        with caplog.at_level(logging.WARNING):
            queue.fail(task, "x")
        assert 0.9 <= delay(queue, task_id) <= 1.1
        assert f"task {task_id} has a backoff that can't be read" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("name", ["initial_delay_seconds", "max_delay_seconds"])
@pytest.mark.parametrize("wrong", [-1, 4e9, float("inf"), float("nan"), "5", True])
def test_a_delay_that_no_task_can_wait_is_no_backoff(name: str, wrong: Any) -> None:
    with pytest.raises(
        ValueError, match=f"RetryConfig.{name} is .*; it must be a number of seconds, at least 0 and at"
    ):
        RetryConfig(**{name: wrong})


def test_jitter_leads_to_no_time_that_can_not_be(queue: TaskQueue) -> None:
    for jitter in (1, 1e300, 1.7e308):
        for _ in range(20):
            queue.enqueue("t", retry=RetryConfig(clock.MAX_SECONDS, clock.MAX_SECONDS, jitter_factor=jitter))
    tasks = queue.claim_many("w", 60)
    assert queue.fail_many([(task, "x") for task in tasks]) == ["queued"] * 60


def test_a_handler_says_when_to_try_again(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t", max_attempts=2, retry=backoff(5))

    def later(task: Task) -> None:
        raise RetryLater(1234.5, "the shop is closed")

    WorkerEngine(queue, "w").claim_and_process(later)
    assert delay(queue, task_id) == 1234.5
    task = queue.get(task_id)
    assert task is not None
    assert task.error_message == "RetryLater: the shop is closed"
    assert queue.report(task_id) is None  # it was no accident: no traceback
    queue.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc")
    WorkerEngine(queue, "w").claim_and_process(later)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts) == ("dead_letter", 2)


def test_a_handler_puts_off_as_far_as_a_time_goes(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def later(task: Task) -> None:
        raise RetryLater(1e30)

    WorkerEngine(queue, "w").claim_and_process(later)
    assert delay(queue, task_id) > 99 * 365 * 86400


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "5", True])
def test_no_time_to_try_again_is_a_mistake(wrong: Any) -> None:
    with pytest.raises(ValueError, match="RetryLater: seconds is"):
        RetryLater(wrong)


def test_a_handler_discards_a_task_for_good(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def never(task: Task) -> None:
        raise Discard("the customer is gone")

    WorkerEngine(queue, "w").claim_and_process(never)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts, task.error_message) == ("failed", 1, "Discard: the customer is gone")


# Giving many their attempts again


def ended(queue: TaskQueue, kind: str, status: str, count: int) -> list[int]:
    ids = queue.enqueue_many([{"type": kind, "max_attempts": 1}] * count)
    tasks = queue.claim_many("w", count, types=kind)
    if status == "completed":
        queue.complete_many(tasks)
    else:
        queue.fail_many([(task, "x") for task in tasks], retry=status == "dead_letter")
    return ids


def statuses(queue: TaskQueue, ids: list[int]) -> set[tuple[str, int]]:
    return {(task.status, task.attempts) for one in ids if (task := queue.get(one)) is not None}


def test_all_dead_letters_are_given_their_attempts_again(queue: TaskQueue) -> None:
    dead = ended(queue, "a", "dead_letter", 250)
    others = {status: ended(queue, "a", status, 3) for status in ("completed", "failed")}
    assert queue.requeue_all() == 250
    assert statuses(queue, dead) == {("queued", 0)}
    for status, ids in others.items():
        assert statuses(queue, ids) == {(status, 1)}
    assert queue.requeue_all() == 0
    assert len(queue.claim_many("w", 300)) == 250


def test_what_is_requeued_can_be_limited_by_type_status_and_number(queue: TaskQueue) -> None:
    a, b, c = (ended(queue, kind, "dead_letter", 5) for kind in "abc")
    failed = ended(queue, "a", "failed", 5)
    assert queue.requeue_all("a", limit=2) == 2
    assert statuses(queue, a[:2]) == {("queued", 0)}  # the oldest first
    assert statuses(queue, a[2:]) == {("dead_letter", 1)}
    assert queue.requeue_all(["b", "c", "none"]) == 10
    assert statuses(queue, b + c) == {("queued", 0)}
    assert queue.requeue_all(status="failed") == 5
    assert statuses(queue, failed) == {("queued", 0)}
    assert queue.requeue_all() == 3


def test_what_fails_again_meanwhile_is_not_requeued_again(queue: TaskQueue) -> None:
    dead = ended(queue, "a", "dead_letter", 2 * queue_module.REQUEUE_CHUNK)
    queue.database.execute(
        """CREATE TRIGGER fail_again AFTER UPDATE ON task_queue WHEN NEW.status = 'queued' BEGIN
             UPDATE task_queue SET status = 'dead_letter', attempts = 7,
               finished_at_utc = strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 second') WHERE id = NEW.id;
           END"""
    )
    queue.database.execute("UPDATE task_queue SET finished_at_utc = NULL WHERE id = ?", (dead[0],))
    assert queue.requeue_all() == len(dead)
    assert statuses(queue, dead) == {("dead_letter", 7)}


def test_requeuing_many_is_no_long_transaction(queue: TaskQueue, path: Path) -> None:
    ids = ended(queue, "a", "dead_letter", 3 * queue_module.REQUEUE_CHUNK)
    queue.database.execute(
        f"""CREATE TRIGGER refuse BEFORE UPDATE ON task_queue WHEN OLD.id = {ids[-1]} AND NEW.status = 'queued'
            BEGIN SELECT RAISE(ABORT, 'not this one'); END"""
    )
    with pytest.raises(Exception, match="not this one"):
        queue.requeue_all()
    done = 2 * queue_module.REQUEUE_CHUNK  # what was done before stands
    assert statuses(queue, ids[:done]) == {("queued", 0)}
    assert statuses(queue, ids[done:]) == {("dead_letter", 1)}


@pytest.mark.parametrize(
    "wrong", [{"status": "completed"}, {"status": "queued"}, {"types": []}, {"limit": 0}, {"limit": "1"}]
)
def test_what_can_not_be_requeued_is_refused(queue: TaskQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTaskError, match=next(iter(wrong))):
        queue.requeue_all(**wrong)
