"""Workers whose handlers succeed, fail, hang, overstay their lease, are cancelled and die, as a dice decides.

What a task does in an attempt depends on its id and the attempt alone, so that a test knows what it should have come
to. Each process writes what it begins and ends into a file of its own.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import zlib
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from prismq import Discard, RetryConfig, RetryLater, Task, TaskContext, TaskHandlerRegistry, TaskQueue, WorkerEngine

Fate = Literal["succeed", "raise", "later", "discard", "be cancelled", "overstay", "hang", "die"]
SHARES: dict[Fate, float] = {
    "raise": 0.06,
    "later": 0.02,
    "discard": 0.02,
    "be cancelled": 0.02,
    "overstay": 0.01,
    "hang": 0.005,
    "die": 0.01,
}
LEASE_SECONDS = 0.75
TIMEOUT_SECONDS = 0.5
RETRY = RetryConfig(initial_delay_seconds=0.01, max_delay_seconds=0.1)
PAST = "2001-01-01 00:00:00.000"
DEATH = 13


def fate(task_id: int, attempt: int) -> Fate:
    """What the task does in that attempt."""
    dice = zlib.crc32(f"{task_id} {attempt}".encode()) / 2**32
    for what, share in SHARES.items():
        if dice < share:
            return what
        dice -= share
    return "succeed"


@cache
def diary(folder: str, process_id: int) -> int:
    """This process's file; each line of it is one write."""
    return os.open(Path(folder) / f"{process_id}.{time.time_ns()}.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)


@cache
def queue_here(path: str, process_id: int) -> TaskQueue:
    return TaskQueue(path)


def handle(task: Task, context: TaskContext) -> None:
    """Do what fate wants."""
    order = task.get_payload_dict()
    task_id, attempt = task.id or 0, task.attempts
    file = diary(order["folder"], os.getpid())
    os.write(file, f"begin {task_id} {attempt}\n".encode())
    what = fate(task_id, attempt)
    if what == "raise":
        raise ValueError("by chance")
    if what == "later":
        raise RetryLater(0.02, "by chance")
    if what == "discard":
        raise Discard("by chance")
    if what == "be cancelled":
        queue_here(order["path"], os.getpid()).cancel(task_id)
    if what == "overstay":
        overstay(queue_here(order["path"], os.getpid()), task, context)
    if what == "hang":
        while not context.cancelled:  # in a process of its own it is killed
            time.sleep(0.01)
    if what == "die":
        os._exit(DEATH)
    os.write(file, f"end {task_id} {attempt}\n".encode())


def overstay(queue: TaskQueue, task: Task, context: TaskContext) -> None:
    """Let the lease run out, again and again should the worker renew it, until it is lost."""
    while not context.cancelled:
        queue.database.execute(
            "UPDATE task_queue SET lease_until_utc = ? WHERE id = ? AND attempts = ? AND status = 'processing'",
            (PAST, task.id, task.attempts),
        )
        time.sleep(0.02)


registry = TaskHandlerRegistry()
registry.register_handler("chaos", handle, timeout_seconds=TIMEOUT_SECONDS)


def work(path: str, name: str, pool: Any, told: Connection) -> None:
    """A worker process, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with TaskQueue(path) as queue:
        engine = WorkerEngine(
            queue,
            name,
            lease_seconds=LEASE_SECONDS,
            handler_registry=registry,
            concurrency=4 if pool == "thread" else 2,
            pool=pool,
            prefetch=16,
            retry=RETRY,
            heartbeat_seconds=0.5,
        )

        def stop() -> None:
            told.poll(None)
            engine.stop()

        threading.Thread(target=stop, daemon=True).start()
        engine.run_loop()
