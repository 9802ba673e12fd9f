"""What a worker writes down about its tasks: nobody's trouble is another one's, and nothing goes unnoticed for long."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from prismq import (
    Discard,
    QueueProgrammingError,
    Task,
    TaskContext,
    TaskHandlerRegistry,
    TaskQueue,
    WorkerEngine,
)
from prismq.clerk import Clerk
from prismq.execution import Execution
from tests.test_worker import LONG, status, wait_for, working
from tests.work import do_nothing

OPEN = Callable[..., TaskQueue]


# What one task can't have written


@pytest.mark.parametrize("ahead", [0, 10])
def test_a_task_whose_end_can_not_be_written_holds_up_no_other(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture, ahead: int
) -> None:
    ids = queue.enqueue_many([{"type": "t"}] * 6)
    queue.database.execute(
        f"CREATE TRIGGER refuse BEFORE UPDATE OF status ON task_queue WHEN old.id = {ids[2]} AND new.status <> "
        "'processing' BEGIN SELECT raise(ABORT, 'not this one'); END"
    )
    seen = []

    def work(task: Task, context: TaskContext) -> None:
        seen.append(task.id)
        context.log("info", "here")
        context.progress(0.5)
        if task.id == ids[1]:
            raise Discard("for good")

    engine = WorkerEngine(queue, "w", prefetch=ahead)
    with caplog.at_level(logging.ERROR, "prismq.worker"), working(engine, work):
        wait_for(lambda: engine.counts.completed == 4)
        wait_for(lambda: "not this one" in caplog.text)
    assert seen == ids
    assert [status(queue, one) for one in ids] == [
        *("completed", "failed", "processing"),
        *["completed"] * 3,
    ]  # the third comes back when its lease runs out
    assert f"task {ids[2]}" in caplog.text
    lines = queue.database.execute("SELECT task_id FROM task_logs ORDER BY 1").fetchall()
    assert {line[0] for line in lines} == set(ids)


def test_what_a_task_told_may_be_lost_but_not_how_it_ended(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    first, second = queue.enqueue_many([{"type": "t"}] * 2)
    queue.database.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON task_reports WHEN new.task_id = {first} "
        "BEGIN SELECT raise(ABORT, 'no report'); END"
    )
    registry = TaskHandlerRegistry()
    registry.register_handler("t", lambda task: task.id, keep_result=True)
    WorkerEngine(queue, "w", handler_registry=registry, prefetch=5).run_loop(max_iterations=2)
    assert [status(queue, one) for one in (first, second)] == ["completed"] * 2
    assert queue.report(first) is None
    report = queue.report(second)
    assert report is not None
    assert report.get_result() == second
    assert "no report" in caplog.text


def test_a_result_that_is_no_json_may_say_so_in_any_characters(queue: TaskQueue) -> None:
    class Odd(dict[Any, Any]):
        def items(self) -> Any:
            raise ValueError("half a pair \ud800 and \0")

    registry = TaskHandlerRegistry()
    registry.register_handler("t", lambda task: Odd(a=1), keep_result=True)
    task_id = queue.enqueue("t")
    WorkerEngine(queue, "w", handler_registry=registry).claim_and_process()
    assert status(queue, task_id) == "completed"
    (line,) = queue.database.execute("SELECT message FROM task_logs").fetchall()
    assert "half a pair" in line[0]


def test_leases_are_kept_while_an_end_can_not_be_written(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each duty is tried by itself: a disk that is full for one is no reason to give up the leases."""
    held, ended = queue.enqueue("held", priority=1), queue.enqueue("ended")
    complete = queue.complete_many
    trouble = threading.Event()
    trouble.set()

    def fail_for_now(tasks: Any) -> None:
        if trouble.is_set():
            raise QueueProgrammingError("not now")
        complete(tasks)

    monkeypatch.setattr(queue, "complete_many", fail_for_now)
    renewed = threading.Event()

    def work(task: Task) -> None:
        if task.id == held:
            lease = task.lease_until_utc
            assert lease is not None
            wait_for(lambda: "ended" in seen)
            before = task.lease_until_utc
            wait_for(lambda: task.lease_until_utc != before)
            renewed.set()
        else:
            seen.append("ended")

    seen: list[str] = []
    engine = WorkerEngine(queue, "w", concurrency=2, lease_seconds=3)
    with working(engine, work):
        assert renewed.wait(LONG)
        trouble.clear()
        wait_for(lambda: engine.counts.completed == 2)
    assert [status(queue, one) for one in (held, ended)] == ["completed"] * 2


# Cancelled while a worker has it


def test_a_cancellation_is_noticed_long_before_the_lease_is_renewed(queue: TaskQueue, open_queue: OPEN) -> None:
    other = open_queue()
    first, second, third = queue.enqueue_many([{"type": "t"}] * 3)
    told = []

    def work(task: Task, context: TaskContext) -> None:
        if task.id == first:
            assert other.cancel(second)
            assert other.cancel(first)
            wait_for(lambda: context.cancelled)
        told.append((task.id, context.cancelled))

    engine = WorkerEngine(queue, "w", lease_seconds=3600, prefetch=5)
    engine.run_loop(work, max_iterations=3)
    assert told == [(first, True), (third, False)]
    assert [status(queue, one) for one in (first, second, third)] == ["failed", "failed", "completed"]
    assert (engine.counts.refused, engine.counts.completed) == (1, 1)


def test_a_cancellation_is_noticed_inside_a_transaction_of_the_handler(queue: TaskQueue, open_queue: OPEN) -> None:
    task_id = queue.enqueue("t")
    cancelled = threading.Event()

    def work(task: Task, context: TaskContext) -> None:
        assert open_queue().cancel(task_id)
        with queue.database.transaction():
            wait_for(lambda: context.cancelled)
            cancelled.set()

    WorkerEngine(queue, "w", lease_seconds=3600).run_loop(work, max_iterations=1)
    assert cancelled.is_set()


def test_a_coroutine_is_cancelled_with_its_task(queue: TaskQueue, open_queue: OPEN) -> None:
    task_id = queue.enqueue("t")
    ended = threading.Event()

    async def work(task: Task) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    engine = WorkerEngine(queue, "w", lease_seconds=3600)
    with working(engine, work):
        wait_for(lambda: status(queue, task_id) == "processing")
        assert open_queue().cancel(task_id)
        assert ended.wait(LONG)


# Time limits


def test_a_function_that_ignores_its_time_limit_is_said_to_keep_its_slot(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    slow, after = queue.enqueue("slow", priority=1, max_attempts=1), queue.enqueue("after")
    let_go = threading.Event()

    def work(task: Task) -> None:
        if task.type == "slow":
            assert let_go.wait(LONG)

    def warned() -> bool:
        return f"task {slow}" in caplog.text and "pool='process'" in caplog.text

    with working(WorkerEngine(queue, "w", timeout_seconds=0.2), work):
        wait_for(warned)
        wait_for(lambda: status(queue, slow) == "dead_letter")
        assert status(queue, after) == "queued"
        let_go.set()
        wait_for(lambda: status(queue, after) == "completed")


def test_tasks_with_a_time_limit_leave_nothing_behind_when_they_end(queue: TaskQueue) -> None:
    """Not even while one is held whose time is up before theirs."""
    queue.enqueue("held", priority=1)
    queue.enqueue_many([{"type": "quick"}] * 2000)
    registry = TaskHandlerRegistry()
    left = []

    def hold(task: Task) -> None:
        wait_for(lambda: engine.counts.completed == 2000, 60)
        left.append(sum(isinstance(one, Execution) for one in gc.get_objects()))

    registry.register_handler("held", hold, timeout_seconds=1000)
    registry.register_handler("quick", do_nothing, timeout_seconds=2000)
    engine = WorkerEngine(queue, "w", handler_registry=registry, concurrency=2, prefetch=50)
    engine.run_loop(max_iterations=2001)
    assert left[0] < 500


# When the thread that writes can't go on


@pytest.mark.parametrize("seconds", [3e9, 1e6])
def test_durations_longer_than_a_thread_can_sleep(queue: TaskQueue, seconds: float) -> None:
    """On Windows that is 49 days."""
    task_id = queue.enqueue("t")
    engine = WorkerEngine(
        queue, "w", lease_seconds=seconds, heartbeat_seconds=seconds, timeout_seconds=seconds, grace_seconds=seconds
    )
    engine.run_loop(do_nothing, max_iterations=1)
    assert status(queue, task_id) == "completed"


def test_a_worker_whose_writing_thread_dies_ends_with_its_error(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue_many([{"type": "t"}] * 50)

    def die(clerk: Clerk, now: float) -> Any:
        raise MemoryError("no more")

    began = threading.Event()
    engine = WorkerEngine(queue, "w")

    def work(task: Task) -> None:
        monkeypatch.setattr(Clerk, "_take", die)
        began.set()

    errors = []

    def run() -> None:
        try:
            engine.run_loop(work)
        except MemoryError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert began.wait(LONG)
    thread.join(LONG)
    assert not thread.is_alive()
    assert [str(error) for error in errors] == ["no more"]


# In a transaction


def test_a_task_can_not_be_worked_on_inside_a_transaction(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    engine = WorkerEngine(queue, "w")
    for work in (engine.claim_and_process, lambda handler: engine.run_loop(handler, max_iterations=1)):
        with pytest.raises(QueueProgrammingError, match="inside a transaction"), queue.database.transaction():
            work(do_nothing)
        assert status(queue, task_id) == "queued"
    assert engine.claim_and_process(do_nothing)
