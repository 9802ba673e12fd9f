"""What a handler may ask and tell: progress, log, result, its lease, whether to go on; and how long it may take."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from prismq import (
    LeaseLostError,
    Task,
    TaskCancelledError,
    TaskContext,
    TaskHandlerRegistry,
    TaskLog,
    TaskQueue,
    TaskReport,
    WorkerEngine,
)
from tests.test_worker import LONG, lose, status, wait_for

OPEN = Callable[..., TaskQueue]


def report(queue: TaskQueue, task_id: int) -> TaskReport:
    found = queue.report(task_id)
    assert found is not None
    return found


def run(queue: TaskQueue, handler: Callable[..., Any], **options: Any) -> WorkerEngine:
    engine = WorkerEngine(queue, "w", **options)
    assert engine.claim_and_process(handler)
    return engine


def keeping(handler: Callable[..., Any]) -> TaskHandlerRegistry:
    registry = TaskHandlerRegistry()
    registry.register_handler("t", handler, keep_result=True)
    return registry


# Who gets a context


class Handler:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def one(self, task: Task) -> None:
        self.seen.append((task,))

    def two(self, task: Task, context: TaskContext) -> None:
        self.seen.append((task, context))

    def optional(self, task: Task, context: TaskContext | None = None) -> None:
        self.seen.append((task, context))

    def other_option(self, task: Task, verbose: bool = False) -> None:
        assert verbose is False
        self.seen.append((task,))

    def any_number(self, *arguments: Any) -> None:
        self.seen.append(arguments)

    def __call__(self, task: Task, context: TaskContext) -> None:
        self.seen.append((task, context))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("one", 1), ("two", 2), ("optional", 2), ("other_option", 1), ("any_number", 1), ("__call__", 2)],
)
def test_a_handler_gets_a_context_if_it_takes_one(queue: TaskQueue, name: str, arguments: int) -> None:
    task_id = queue.enqueue("t")
    handler = Handler()
    run(queue, handler if name == "__call__" else getattr(handler, name))
    assert status(queue, task_id) == "completed"
    (seen,) = handler.seen
    assert len(seen) == arguments
    if arguments == 2:
        assert isinstance(seen[1], TaskContext)
        assert (seen[1].task, seen[1].attempt, seen[1].deadline, seen[1].cancelled) == (seen[0], 1, None, False)


def test_a_partial_function_is_a_handler_too(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    run(queue, partial(lambda verbose, task, context: context.log("info", str(verbose)), True))
    assert logs(queue, task_id)[0].message == "True"


# Progress


def test_progress_is_visible_to_others_while_the_handler_runs(queue: TaskQueue, open_queue: OPEN) -> None:
    other = open_queue()
    task_id = queue.enqueue("t")

    def work(task: Task, context: TaskContext) -> None:
        for fraction, note in ((0.25, "a quarter"), (0.5, "half")):
            context.progress(fraction, note)
            wait_for(lambda note=note: (seen := other.report(task_id)) is not None and seen.note == note)
            seen = report(other, task_id)
            assert (seen.attempt, seen.progress, seen.result) == (1, fraction, None)

    run(queue, work)
    assert status(queue, task_id) == "completed"
    assert report(queue, task_id).progress == 0.5


def test_any_number_of_reports_costs_few_writes_and_the_last_one_is_written(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    writes = 0

    def work(task: Task, context: TaskContext) -> None:
        nonlocal writes
        before = queue.database.get_connection().total_changes
        for n in range(300):
            for _ in range(100):
                context.progress(n / 300)
            time.sleep(0.002)  # the worker could write each of these
        writes = queue.database.get_connection().total_changes - before
        context.progress(1, "the last one")

    run(queue, work)
    assert writes < 100
    assert (report(queue, task_id).progress, report(queue, task_id).note) == (1, "the last one")


def test_a_failed_attempt_keeps_its_progress_and_the_next_one_begins_anew(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def work(task: Task, context: TaskContext) -> None:
        if context.attempt == 1:
            context.progress(0.9, "nearly")
            raise ValueError("no")

    run(queue, work)
    first = report(queue, task_id)
    assert (first.attempt, first.progress, first.note) == (1, 0.9, "nearly")
    assert "ValueError: no" in (first.traceback or "")
    queue.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc")

    def again(task: Task, context: TaskContext) -> None:
        context.progress(0.1)

    run(queue, again)
    second = report(queue, task_id)
    assert (second.attempt, second.progress, second.note, second.traceback) == (2, 0.1, "", None)


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan"), "half", True, None])
def test_progress_that_is_none_is_refused(queue: TaskQueue, wrong: Any) -> None:
    task_id = queue.enqueue("t", max_attempts=1)
    run(queue, lambda task, context: context.progress(wrong))
    task = queue.get(task_id)
    assert task is not None
    assert "ValueError: progress is" in (task.error_message or "")


def test_a_worker_that_lost_its_lease_reports_nothing_over_its_successors_head(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def work(task: Task, context: TaskContext) -> None:
        lose(queue, task_id)
        context.progress(0.9, "stale")
        time.sleep(0.3)

    run(queue, work)
    assert queue.report(task_id) is None


# Log


def logs(queue: TaskQueue, task_id: int) -> list[TaskLog]:
    rows = queue.database.execute("SELECT * FROM task_logs WHERE task_id = ? ORDER BY log_id", (task_id,))
    return [TaskLog.from_dict(dict(row)) for row in rows]


def test_a_handlers_log_is_kept_in_order(queue: TaskQueue, open_queue: OPEN) -> None:
    other = open_queue()
    task_id = queue.enqueue("t")

    def work(task: Task, context: TaskContext) -> None:
        context.log("info", "first", {"n": 1})
        wait_for(lambda: logs(other, task_id))  # at once
        context.log("Warning", "second \0 \ud800")
        context.log("loud", "third", {1, 2})

    before = datetime.now(UTC) - timedelta(milliseconds=1)
    run(queue, work)
    found = logs(queue, task_id)
    assert [(line.level, line.message) for line in found] == [
        ("INFO", "first"),
        ("WARNING", "second \ufffd ?"),
        ("INFO", "third"),
    ]
    assert found[0].details == '{"n": 1}'
    assert found[1].details is None
    assert "Failed to serialize details" in (found[2].details or "")
    assert all(line.at_utc is not None and before <= line.at_utc <= datetime.now(UTC) for line in found)


def test_a_log_of_a_task_that_was_deleted_holds_nobody_up(queue: TaskQueue) -> None:
    gone, other = queue.enqueue_many([{"type": "t"}] * 2)

    def work(task: Task, context: TaskContext) -> None:
        if task.id == gone:
            queue.database.execute("DELETE FROM task_queue WHERE id = ?", (gone,))
        context.log("info", "hello")

    engine = WorkerEngine(queue, "w", prefetch=2)
    engine.run_loop(work, max_iterations=2)
    assert (engine.counts.refused, engine.counts.completed) == (1, 1)
    assert [line.message for line in logs(queue, other)] == ["hello"]


# Result


@pytest.mark.parametrize("value", [None, 5, "ü \0 \ud800", {"a": [1, 2.5, None, True]}])
def test_what_a_handler_returns_is_kept_when_its_type_asks_for_it(queue: TaskQueue, value: Any) -> None:
    task_id = queue.enqueue("t")
    WorkerEngine(queue, "w", handler_registry=keeping(lambda task: value)).claim_and_process()
    assert status(queue, task_id) == "completed"
    assert report(queue, task_id).get_result() == value


def test_what_a_handler_returns_is_dropped_otherwise(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    run(queue, lambda task: 5)
    assert queue.report(task_id) is None


@pytest.mark.parametrize(("value", "why"), [({1, 2}, "can't be written as JSON"), ("x" * (1 << 20), "the limit is")])
def test_a_result_that_can_not_be_kept_is_said_so_in_the_log_of_the_completed_task(
    queue: TaskQueue, value: Any, why: str
) -> None:
    task_id = queue.enqueue("t")
    WorkerEngine(queue, "w", handler_registry=keeping(lambda task: value)).claim_and_process()
    assert status(queue, task_id) == "completed"
    assert queue.report(task_id) is None
    (line,) = logs(queue, task_id)
    assert line.level == "WARNING"
    assert why in (line.message or "")


# Lease


def test_a_handler_extends_its_lease_and_the_worker_does_not_shorten_it(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def work(task: Task, context: TaskContext) -> None:
        end = context.renew(1000)
        assert timedelta(seconds=990) < end - datetime.now(UTC) < timedelta(seconds=1010)
        time.sleep(0.4)  # the worker's own renewals go on
        now = queue.get(task_id)
        assert now is not None
        assert now.lease_until_utc == end
        assert context.renew() < end

    run(queue, work, lease_seconds=0.3)
    assert status(queue, task_id) == "completed"


def test_renewing_a_lost_lease_says_so_and_cancels(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    seen = []

    def work(task: Task, context: TaskContext) -> None:
        context.check()
        lose(queue, task_id)
        with pytest.raises(LeaseLostError):
            context.renew()
        seen.append(context.cancelled)
        with pytest.raises(TaskCancelledError, match="its lease was lost"):
            context.check()

    engine = run(queue, work)
    assert seen == [True]
    assert engine.counts.refused == 1


# Time


def test_a_function_whose_time_is_up_is_told_and_its_task_failed_meanwhile(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = queue.enqueue("t", max_attempts=1)
    deadlines: list[datetime | None] = []

    def slow(task: Task, context: TaskContext) -> None:
        deadlines.append(context.deadline)
        wait_for(lambda: context.cancelled)
        wait_for(lambda: status(queue, task_id) == "dead_letter")  # nobody waits for it
        with pytest.raises(TaskCancelledError, match="its time is up"):
            context.check()

    before = datetime.now(UTC)
    engine = WorkerEngine(queue, "w", timeout_seconds=0.15)
    with caplog.at_level(logging.WARNING, "prismq.worker"):
        engine.run_loop(slow, max_iterations=1)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == (
        "dead_letter",
        "TimeoutError: it took longer than the 0.15 s it may take",
    )
    assert deadlines[0] is not None
    assert timedelta(seconds=0.15) <= deadlines[0] - before < timedelta(seconds=LONG)
    assert (engine.counts.failed, engine.counts.refused, engine.counts.completed) == (1, 1, 0)
    assert "was refused: its time is up" in caplog.text


def test_each_type_has_its_own_time(queue: TaskQueue) -> None:
    registry = TaskHandlerRegistry()
    release = threading.Event()

    def slow(task: Task, context: TaskContext) -> None:
        assert (context.deadline is not None) == (task.type == "short")
        while not context.cancelled and not release.is_set():
            time.sleep(0.005)

    registry.register_handler("short", slow, timeout_seconds=0.1)
    registry.register_handler("long", slow)
    short, long = queue.enqueue("short", max_attempts=1), queue.enqueue("long")
    engine = WorkerEngine(queue, "w", handler_registry=registry, concurrency=2)
    thread = threading.Thread(target=engine.run_loop, kwargs={"max_iterations": 2})
    thread.start()
    wait_for(lambda: status(queue, short) == "dead_letter")
    assert status(queue, long) == "processing"
    release.set()
    thread.join(LONG)
    assert status(queue, long) == "completed"
