"""A worker claims tasks, runs their handlers, settles what they end with, and stops when told to."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    QueueBusyError,
    QueueDatabase,
    QueueProgrammingError,
    RetryConfig,
    SchedulingStrategy,
    Task,
    TaskHandlerRegistry,
    TaskQueue,
    WorkerEngine,
)
from tests.work import do_nothing

OPEN = Callable[..., TaskQueue]
LONG = 20.0
"""No test waits so long unless something hangs."""


def wait_for(condition: Callable[[], object], seconds: float = LONG) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def status(queue: TaskQueue, task_id: int) -> str:
    task = queue.get(task_id)
    assert task is not None
    return task.status


@contextmanager
def working(engine: WorkerEngine, handler: Callable[..., Any] | None = None) -> Iterator[threading.Thread]:
    """The worker's loop in a thread, while the block runs."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            engine.run_loop(handler)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        engine.stop()
        thread.join(LONG)
    assert not thread.is_alive()
    assert not errors


# One task at a time


def test_a_task_is_claimed_run_and_completed(queue: TaskQueue) -> None:
    engine = WorkerEngine(queue, "w")
    assert engine.claim_and_process(do_nothing) is False
    task_id = queue.enqueue("t", {"n": 1})
    seen: list[Task] = []
    assert engine.claim_and_process(seen.append) is True
    assert [(task.id, task.attempts, task.get_payload_dict()) for task in seen] == [(task_id, 1, {"n": 1})]
    now = queue.get(task_id)
    assert now is not None
    assert (now.status, now.locked_by) == ("completed", "w")
    assert now.processing_started_utc is not None
    assert now.finished_at_utc is not None
    assert engine.claim_and_process(do_nothing) is False
    assert (engine.counts.claimed, engine.counts.completed) == (1, 1)


def test_what_a_worker_may_be_made_of(path: Path, driver: str) -> None:
    for database in (path, str(path), QueueDatabase(path)):
        with WorkerEngine(database, "w") as engine:
            engine.queue.enqueue("t")
            assert engine.claim_and_process(do_nothing)
        engine.db.close()


def test_the_handler_passed_in_goes_before_the_registry(queue: TaskQueue) -> None:
    registry = TaskHandlerRegistry()
    seen: list[str] = []
    registry.register_handler("t", lambda task: seen.append("registry"))
    engine = WorkerEngine(queue, "w", handler_registry=registry)
    queue.enqueue_many([{"type": "t"}] * 2)
    engine.claim_and_process(lambda task: seen.append("argument"))
    engine.claim_and_process()
    assert seen == ["argument", "registry"]


def test_a_handler_that_replaces_another_is_used_from_then_on(queue: TaskQueue) -> None:
    registry = TaskHandlerRegistry()
    engine = WorkerEngine(queue, "w", handler_registry=registry)
    seen: list[int] = []
    for n in range(2):
        registry.register_handler("t", lambda task, n=n: seen.append(n), allow_override=True)
        queue.enqueue("t")
        engine.claim_and_process()
    assert seen == [0, 1]


@pytest.mark.parametrize("with_registry", [True, False])
def test_a_task_without_a_handler_fails_for_good_and_the_worker_goes_on(queue: TaskQueue, with_registry: bool) -> None:
    registry = TaskHandlerRegistry() if with_registry else None
    if registry is not None:
        registry.register_handler("known", do_nothing)
    unknown = queue.enqueue_many([{"type": "unknown"}] * 1500)  # more than Python allows calls in calls
    known = queue.enqueue("known")
    engine = WorkerEngine(queue, "w", handler_registry=registry, prefetch=2000)
    assert engine.claim_and_process() is True
    engine.run_loop(max_iterations=1500)
    task = queue.get(unknown[0])
    assert task is not None
    assert (task.status, task.attempts) == ("failed", 1)
    assert "No handler registered for task type 'unknown'" in (task.error_message or "")
    assert {status(queue, one) for one in unknown} == {"failed"}
    assert status(queue, known) == ("completed" if with_registry else "failed")


def test_what_a_handler_raises_is_the_tasks_failure(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t", max_attempts=2)
    engine = WorkerEngine(queue, "w", retry=RetryConfig(initial_delay_seconds=0))

    def broken(task: Task) -> None:
        raise KeyError("nothing")

    assert engine.claim_and_process(broken) is True
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == ("queued", "KeyError: 'nothing'")
    report = queue.report(task_id)
    assert report is not None
    assert report.attempt == 1
    lines = (report.traceback or "").splitlines()
    assert lines[0].startswith("Traceback")
    assert "in broken" in lines[1]  # the worker's own frames are nobody's business
    assert lines[-1] == "KeyError: 'nothing'"
    engine.claim_and_process(broken)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message, task.attempts) == ("dead_letter", "KeyError: 'nothing'", 2)
    assert (engine.counts.retried, engine.counts.failed) == (1, 1)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (ValueError("x" * 10_000_000), "ValueError: xxx"),
        (ValueError("nul \0 and half \ud800"), "ValueError: nul \ufffd and half ?"),
        (Unspeakable(), "Unspeakable: its text can't be read"),
    ],
)
def test_any_exception_can_be_recorded_in_bounded_space(queue: TaskQueue, error: Exception, beginning: str) -> None:
    def broken(task: Task) -> None:
        raise error

    task_id = queue.enqueue("t")
    WorkerEngine(queue, "w").claim_and_process(broken)
    task = queue.get(task_id)
    assert task is not None
    assert (task.error_message or "").startswith(beginning)
    assert len((task.error_message or "").encode()) <= 4096
    report = queue.report(task_id)
    assert report is not None
    assert 0 < len((report.traceback or "").encode()) <= 16384


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exit_in_a_handler_is_raised_and_leaves_no_task_leased(
    queue: TaskQueue, exception: type[BaseException]
) -> None:
    def leave(task: Task) -> None:
        raise exception("now")

    task_id = queue.enqueue("t")
    with pytest.raises(exception):
        WorkerEngine(queue, "w", retry=RetryConfig(initial_delay_seconds=0)).claim_and_process(leave)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == ("queued", f"{exception.__name__}: now")


def test_an_exit_in_a_handler_of_the_loop_is_that_tasks_failure_alone(queue: TaskQueue) -> None:
    def leave(task: Task) -> None:
        if task.type == "leave":
            sys.exit(3)

    first, second = queue.enqueue("leave", priority=1, max_attempts=1), queue.enqueue("stay")
    WorkerEngine(queue, "w").run_loop(leave, max_iterations=2)
    task = queue.get(first)
    assert task is not None
    assert (task.status, task.error_message) == ("dead_letter", "SystemExit: 3")
    assert status(queue, second) == "completed"


# What is claimed


@pytest.mark.parametrize(("strategy", "key"), [("fifo", "id"), ("lifo", "-id"), ("priority", "priority")])
@pytest.mark.parametrize("prefetch", [0, 7])
def test_one_worker_runs_tasks_in_the_strategys_order(queue: TaskQueue, strategy: str, key: str, prefetch: int) -> None:
    ids = queue.enqueue_many([{"type": "t", "priority": n * 7 % 10} for n in range(40)])
    by = {"id": lambda n: ids[n], "-id": lambda n: -ids[n], "priority": lambda n: (n * 7 % 10, ids[n])}[key]
    seen: list[int | None] = []
    engine = WorkerEngine(queue, "w", None, strategy, prefetch=prefetch)
    assert engine.scheduling_strategy is SchedulingStrategy(strategy)
    engine.run_loop(lambda task: seen.append(task.id), max_iterations=40)
    assert seen == [ids[n] for n in sorted(range(40), key=by)]


def test_every_task_comes_up_in_the_lottery(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "t", "priority": 1 + 999 * (n % 2)} for n in range(40)])
    seen: list[int] = []
    WorkerEngine(queue, "w", None, "weighted_random").run_loop(
        lambda task: seen.append(task.id or 0), max_iterations=40
    )
    assert sorted(seen) == ids
    assert seen != ids


def test_a_worker_gets_what_it_is_able_to_do_and_of_its_types(queue: TaskQueue) -> None:
    ids = queue.enqueue_many(
        [
            {"type": "a", "compatibility": {"gpu": True}},
            {"type": "a", "compatibility": {"gpu": False}},
            {"type": "b"},
            {"type": "c"},
        ]
    )
    WorkerEngine(queue, "w", {"gpu": True}, types=["a", "b"]).run_loop(do_nothing, max_iterations=2)
    assert [status(queue, one) for one in ids] == ["completed", "queued", "completed", "queued"]
    with working(WorkerEngine(queue, "x", {"gpu": False}, types="a"), do_nothing):
        wait_for(lambda: status(queue, ids[1]) == "completed")
    assert status(queue, ids[3]) == "queued"


# The loop


def test_each_task_and_each_idle_round_is_an_iteration(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 5)
    engine = WorkerEngine(queue, "w", poll_interval_seconds=0.01)
    engine.run_loop(do_nothing, max_iterations=3)
    assert engine.counts.claimed == 3
    engine.run_loop(do_nothing, max_iterations=4)
    assert engine.counts.claimed == 5
    engine.run_loop(do_nothing, max_iterations=0)


def test_a_loop_asleep_has_a_new_task_at_once_whatever_its_poll_interval(queue: TaskQueue) -> None:
    done = threading.Event()
    with working(WorkerEngine(queue, "w", poll_interval_seconds=3600), lambda task: done.set()):
        time.sleep(0.1)
        queue.enqueue("t")
        assert done.wait(LONG)


def test_stopping_before_the_loop_is_not_lost_and_the_next_loop_runs(queue: TaskQueue) -> None:
    queue.enqueue("t")
    engine = WorkerEngine(queue, "w")
    engine.stop()
    engine.run_loop(do_nothing)
    assert engine.counts.claimed == 0
    engine.run_loop(do_nothing, max_iterations=1)
    assert engine.counts.completed == 1


def test_stopping_wakes_a_worker_that_sleeps(queue: TaskQueue) -> None:
    engine = WorkerEngine(queue, "w", poll_interval_seconds=3600)
    with working(engine, do_nothing) as thread:
        wait_for(lambda: queue.database.execute("SELECT 1 FROM workers").fetchone())
        time.sleep(0.1)
        engine.stop()
        thread.join(LONG)
        assert not thread.is_alive()


def test_what_was_claimed_ahead_and_not_begun_is_given_back(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "t"}] * 20)
    begun, go_on = threading.Event(), threading.Event()

    def hold(task: Task) -> None:
        begun.set()
        assert go_on.wait(LONG)

    engine = WorkerEngine(queue, "w", prefetch=10)
    with working(engine, hold):
        assert begun.wait(LONG)
        wait_for(lambda: engine.counts.claimed == 11)
        engine.stop()
        wait_for(lambda: [status(queue, one) for one in ids].count("processing") == 1)
        go_on.set()
    tasks = [queue.get(one) for one in ids]
    assert [(task.status, task.attempts) for task in tasks if task] == [("completed", 1)] + [("queued", 0)] * 19
    assert engine.counts.released == 10


@pytest.mark.parametrize("ahead", [0, 10])
def test_no_more_handlers_run_at_a_time_than_there_are_slots(queue: TaskQueue, ahead: int) -> None:
    queue.enqueue_many([{"type": "t"}] * 30)
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def overlap(task: Task) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(LONG)  # only three at once get through
        with lock:
            running -= 1

    WorkerEngine(queue, "w", concurrency=3, prefetch=ahead).run_loop(overlap, max_iterations=30)
    assert most == 3


def test_one_loop_at_a_time(queue: TaskQueue) -> None:
    engine = WorkerEngine(queue, "w")
    with working(engine, do_nothing):
        wait_for(lambda: queue.database.execute("SELECT 1 FROM workers").fetchone())
        with pytest.raises(QueueProgrammingError, match="running its loop already"):
            engine.run_loop(do_nothing)


def test_handlers_that_take_longer_than_the_grace_period_are_told_and_their_tasks_given_back(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    begun, told = threading.Event(), threading.Event()

    def hang(task: Task, context: Any) -> None:
        begun.set()
        wait_for(lambda: context.cancelled)
        told.set()

    engine = WorkerEngine(queue, "w", grace_seconds=0.05)
    with working(engine, hang):
        assert begun.wait(LONG)
    assert told.wait(LONG)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts, task.error_message) == (
        "queued",
        1,
        "the worker was stopped before it was done",
    )
    wait_for(lambda: engine.counts.refused == 1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_may_stop_the_loop_of_its_own_thread_any_number_of_times(queue: TaskQueue) -> None:
    engine = WorkerEngine(queue, "w", prefetch=20)
    queue.enqueue_many([{"type": "t"}] * 3000)
    previous = signal.signal(signal.SIGALRM, lambda number, frame: engine.stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.0005)
        engine.run_loop(lambda task: time.sleep(0.001))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    left = queue.database.execute("SELECT count(*) FROM task_queue WHERE status = 'processing'").fetchone()[0]
    assert left == 0
    assert engine.counts.completed < 3000


@pytest.mark.skipif(os.name == "nt", reason="a process can't send itself Ctrl-C alone")
def test_ctrl_c_ends_the_loop_in_good_order(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 10)
    pressed = []

    def interrupt(task: Task) -> None:
        if not pressed:
            pressed.append(task)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

    engine = WorkerEngine(queue, "w", prefetch=5)
    with pytest.raises(KeyboardInterrupt):
        engine.run_loop(interrupt)
    statuses = [row[0] for row in queue.database.execute("SELECT status FROM task_queue")]
    assert set(statuses) <= {"completed", "queued"}
    assert statuses.count("completed") == engine.counts.completed >= 1
    assert queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 0


# Leases and heartbeats


def test_a_task_that_takes_many_leases_is_kept_by_its_worker(queue: TaskQueue, open_queue: OPEN) -> None:
    other = open_queue()
    ids = queue.enqueue_many([{"type": "t"}] * 3)
    attempts = []

    def slow(task: Task) -> None:
        attempts.append((task.id, task.attempts))
        for _ in range(10):
            assert other.claim("thief") is None
            time.sleep(0.08)

    engine = WorkerEngine(queue, "w", lease_seconds=0.4, prefetch=5)
    engine.run_loop(slow, max_iterations=3)  # what waits is kept as well
    assert attempts == [(one, 1) for one in ids]
    assert engine.counts.completed == 3


def test_one_task_alone_is_kept_beyond_its_lease_too(queue: TaskQueue, open_queue: OPEN) -> None:
    other = open_queue()
    task_id = queue.enqueue("t")

    def slow(task: Task) -> None:
        time.sleep(0.9)
        assert other.claim("thief") is None

    WorkerEngine(queue, "w", lease_seconds=0.3).claim_and_process(slow)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts) == ("completed", 1)


def lose(queue: TaskQueue, task_id: int) -> None:
    """Let the lease run out, and another worker take over."""
    queue.database.execute(
        "UPDATE task_queue SET status = 'queued', locked_by = NULL, lease_until_utc = NULL WHERE id = ?", (task_id,)
    )
    assert queue.claim("other") is not None


def test_a_worker_that_lost_its_lease_is_refused_told_and_counted(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = queue.enqueue("t")
    told = []

    def slow(task: Task, context: Any) -> None:
        lose(queue, task_id)
        wait_for(lambda: context.cancelled)
        told.append(True)

    engine = WorkerEngine(queue, "slow", lease_seconds=0.3)
    with caplog.at_level(logging.WARNING, "prismq.worker"):
        engine.claim_and_process(slow)
    assert told == [True]
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.locked_by, task.attempts) == ("processing", "other", 2)
    assert (engine.counts.refused, engine.counts.completed) == (1, 0)
    assert f"task {task_id}: the end of attempt 1 was refused" in caplog.text


@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_a_late_end_is_refused_even_when_the_worker_did_not_know(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    lost, kept = queue.enqueue("lost", priority=1), queue.enqueue("kept")

    def quick(task: Task) -> None:
        if task.id == lost:
            lose(queue, lost)
            if error is not None:
                raise error

    engine = WorkerEngine(queue, "w", prefetch=5)
    engine.run_loop(quick, max_iterations=2)
    task = queue.get(lost)
    assert task is not None
    assert (task.status, task.locked_by, task.error_message) == ("processing", "other", None)
    assert queue.report(lost) is None
    assert status(queue, kept) == "completed"  # one that was lost takes no other end with it
    assert (engine.counts.refused, engine.counts.completed) == (1, 1)
    assert "was refused" in caplog.text


def test_a_cancelled_task_stays_cancelled_and_its_handler_is_told(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    def slow(task: Task, context: Any) -> None:
        assert queue.cancel(task_id)
        wait_for(lambda: context.cancelled)
        context.check()

    engine = WorkerEngine(queue, "w", lease_seconds=0.3)
    engine.claim_and_process(slow)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == ("failed", "Cancelled by user")


def test_a_worker_shows_that_it_lives_while_its_loop_runs(queue: TaskQueue) -> None:
    def row() -> Any:
        return queue.database.execute("SELECT * FROM workers").fetchone()

    with working(WorkerEngine(queue, "w", {"gpu": True}, heartbeat_seconds=0.05), do_nothing):
        wait_for(row)
        assert (row()["worker_id"], row()["capabilities"]) == ("w", '{"gpu": true}')
        first = row()["heartbeat_utc"]
        wait_for(lambda: row()["heartbeat_utc"] > first)
        queue.database.execute("DELETE FROM workers")  # somebody took it for dead
        wait_for(row)
    assert row() is None


# When the database can't be had


def test_a_locked_database_is_busy_for_one_claim_and_no_end_for_the_loop(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    engine = WorkerEngine(queue, "w")
    queue.enqueue("t")
    connection = queue.database.get_connection()
    connection.hold().timeout = 0.05
    holds, let_go = threading.Event(), threading.Event()

    def keep() -> None:
        with queue.database.transaction():
            holds.set()
            let_go.wait(LONG)

    keeper = threading.Thread(target=keep)
    keeper.start()
    assert holds.wait(LONG)
    with pytest.raises(QueueBusyError):
        engine.claim_and_process(do_nothing)
    with working(engine, do_nothing):
        wait_for(lambda: "can't claim" in caplog.text)
        let_go.set()
        keeper.join()
        wait_for(lambda: engine.counts.completed == 1)


def test_an_end_that_can_not_be_written_is_written_later(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    ids = queue.enqueue_many([{"type": "t"}] * 3)
    queue.database.get_connection().hold().timeout = 0.05
    began, let_go = threading.Event(), threading.Event()

    def keep() -> None:
        with queue.database.transaction():
            began.set()
            let_go.wait(LONG)

    keeper = threading.Thread(target=keep)

    def block(task: Task) -> None:
        if not began.is_set():
            keeper.start()
            assert began.wait(LONG)

    engine = WorkerEngine(queue, "w", prefetch=5)
    with working(engine, block):
        wait_for(lambda: "trying again" in caplog.text)
        assert engine.counts.completed == 0
        let_go.set()
        wait_for(lambda: engine.counts.completed == 3)
    keeper.join()
    assert {status(queue, one) for one in ids} == {"completed"}


# What is refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_id": ""},
        {"worker_id": 5},
        {"capabilities": "gpu"},
        {"scheduling_strategy": "best"},
        {"lease_seconds": 0},
        {"lease_seconds": "60"},
        {"poll_interval_seconds": -1},
        {"types": []},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"pool": "fibre"},
        {"prefetch": -1},
        {"prefetch": False},
        {"prefetch": []},
        {"retry": 3},
        {"timeout_seconds": 0},
        {"heartbeat_seconds": float("inf")},
        {"heartbeat_seconds": 1e10},  # no thread can sleep so long
        {"grace_seconds": -1},
        {"grace_seconds": False},
    ],
)
def test_a_worker_that_can_not_be_is_refused_at_once(queue: TaskQueue, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name.removeprefix("scheduling_")):
        WorkerEngine(queue, **{"worker_id": "w", **wrong})
