"""Coroutines as handlers: awaited on one loop, limited, cancelled, and nothing blocks it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from prismq import QueueProgrammingError, Task, TaskContext, TaskHandlerRegistry, TaskQueue, WorkerEngine
from prismq.settings import BUSY_TIMEOUT_SECONDS
from tests.test_worker import LONG, lose, status, wait_for, working


class AsyncHandler:
    def __init__(self) -> None:
        self.ended = 0

    async def __call__(self, task: Task) -> None:
        await asyncio.sleep(0.02)
        self.ended += 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_coroutine_has_ended_when_its_task_is_completed(queue: TaskQueue, alone: bool) -> None:
    ended = []

    async def work(task: Task) -> None:
        await asyncio.sleep(0.05)
        ended.append(task.id)

    def returns_one(task: Task) -> Any:  # not a coroutine function itself
        return work(task)

    for handler in (work, returns_one):
        task_id = queue.enqueue("t")
        engine = WorkerEngine(queue, "w")
        if alone:
            assert engine.claim_and_process(handler)
        else:
            engine.run_loop(handler, max_iterations=1)
        assert status(queue, task_id) == "completed"
        assert ended.pop() == task_id
    queue.enqueue("t")
    instance = AsyncHandler()
    WorkerEngine(queue, "w").run_loop(instance, max_iterations=1)
    assert instance.ended == 1


def test_what_a_coroutine_raises_is_the_tasks_failure(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    async def broken(task: Task) -> None:
        raise ValueError("no")

    engine = WorkerEngine(queue, "w")
    engine.run_loop(broken, max_iterations=1)
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == ("queued", "ValueError: no")
    assert engine.counts.retried == 1


def test_coroutines_run_together_up_to_the_limit(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 60)
    running = most = 0
    loops = set()

    async def work(task: Task) -> None:
        nonlocal running, most
        loops.add(asyncio.get_running_loop())
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    engine = WorkerEngine(queue, "w", concurrency=20, prefetch=20)
    engine.run_loop(work, max_iterations=60)
    assert most == 20
    assert len(loops) == 1
    assert engine.counts.completed == 60


def test_functions_and_coroutines_share_the_slots(queue: TaskQueue) -> None:
    registry = TaskHandlerRegistry()
    lock, running, most = threading.Lock(), 0, 0

    def change(by: int) -> None:
        nonlocal running, most
        with lock:
            running += by
            most = max(most, running)

    @registry.handler("coroutine")
    async def _(task: Task) -> None:
        change(1)
        await asyncio.sleep(0.005)
        change(-1)

    @registry.handler("function")
    def _(task: Task) -> None:
        change(1)
        time.sleep(0.005)
        change(-1)

    queue.enqueue_many([{"type": "coroutine"}, {"type": "function"}] * 20)
    engine = WorkerEngine(queue, "w", handler_registry=registry, concurrency=4, prefetch=8)
    engine.run_loop(max_iterations=40)
    assert engine.counts.completed == 40
    assert most == 4


def test_a_coroutine_whose_time_is_up_is_cancelled(queue: TaskQueue) -> None:
    task_id, after = queue.enqueue("t", priority=1, max_attempts=1), queue.enqueue("t")
    cancelled = []

    async def work(task: Task) -> None:
        if task.id == task_id:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(task.id)
                raise

    engine = WorkerEngine(queue, "w", timeout_seconds=0.1)
    engine.run_loop(work, max_iterations=2)  # its slot is free again
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.error_message) == (
        "dead_letter",
        "TimeoutError: it took longer than the 0.1 s it may take",
    )
    assert cancelled == [task_id]
    assert status(queue, after) == "completed"
    assert (engine.counts.failed, engine.counts.completed, engine.counts.refused) == (1, 1, 0)


@pytest.mark.parametrize("way", ["lost", "cancelled"])
def test_a_coroutine_that_lost_its_task_is_cancelled(queue: TaskQueue, way: str) -> None:
    task_id = queue.enqueue("t")
    cancelled = threading.Event()

    async def work(task: Task) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with working(WorkerEngine(queue, "w", lease_seconds=0.3), work):
        wait_for(lambda: status(queue, task_id) == "processing")
        if way == "lost":
            lose(queue, task_id)
        else:
            queue.cancel(task_id)
        assert cancelled.wait(LONG)
    assert status(queue, task_id) == ("processing" if way == "lost" else "failed")


def test_stopping_cancels_coroutines_after_the_grace_period(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")

    async def work(task: Task) -> None:
        await asyncio.sleep(3600)

    with working(WorkerEngine(queue, "w", grace_seconds=0.05), work):
        wait_for(lambda: status(queue, task_id) == "processing")
    assert status(queue, task_id) == "queued"


def test_the_context_of_a_coroutine_never_blocks_its_loop(queue: TaskQueue) -> None:
    """While another connection holds the write lock, the loop goes on."""
    task_id = queue.enqueue("t")
    slowest = 0.0
    ended = asyncio.Event()

    async def watch() -> None:
        nonlocal slowest
        while not ended.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            slowest = max(slowest, time.monotonic() - before)

    locked, let_go = threading.Event(), threading.Event()

    def keep() -> None:
        with queue.database.transaction():
            locked.set()
            let_go.wait(LONG)

    keeper = threading.Thread(target=keep)

    async def work(task: Task, context: TaskContext) -> None:
        watching = asyncio.create_task(watch())
        with pytest.raises(QueueProgrammingError, match=r"await context\.arenew"):
            context.renew()
        keeper.start()
        await asyncio.to_thread(locked.wait, LONG)
        renewing = asyncio.create_task(context.arenew(50))
        for n in range(100):
            context.progress(n / 100)
            context.log("info", "still here")
            await asyncio.sleep(0.005)
        assert not renewing.done()
        let_go.set()
        await renewing
        ended.set()
        await watching

    engine = WorkerEngine(queue, "w")
    engine.run_loop(work, max_iterations=1)
    keeper.join()
    assert status(queue, task_id) == "completed"
    assert slowest < BUSY_TIMEOUT_SECONDS / 2  # whoever waits for that lock waits for all of it
    assert queue.database.execute("SELECT count(*) FROM task_logs").fetchone()[0] == 100
