"""`prismq demo`: the life of some workers and their tasks, on a queue of its own."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from prismq import signals
from prismq.cli import exits, options, output
from prismq.cli.stats import collect, sections
from prismq.heartbeat import WorkerHeartbeat
from prismq.logs import QueueLogger
from prismq.monitoring import QueueMonitoring
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig

TASKS: Final = 120
LEASE_SECONDS: Final = 1.5
STALE_SECONDS: Final = 2.0
BEAT_SECONDS: Final = 0.5
SOON: Final = RetryConfig(initial_delay_seconds=0.1)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    options.add_command(
        commands,
        "demo",
        run,
        help="see workers come and go and tasks flow, on a temporary queue",
        description="Takes a few seconds, on a temporary database: workers register and beat, one is killed at"
        " work, its task comes back, it goes stale and is cleaned up; then the numbers.",
        examples="prismq demo",
    )


def run(arguments: argparse.Namespace) -> int:
    """Tell the story."""
    _hush()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="prismq-demo-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        path = Path(folder) / "queue.db"
        queue = stack.enter_context(TaskQueue(path, retry=SOON))
        workers: list[BaseProcess] = []
        stack.callback(_end, workers)
        with signals.kept_back():  # for good: this process ends them
            for name in ("ada", "bob", "eve"):
                workers.append(context.Process(target=work, args=(str(path), name), name=name, daemon=True))
                workers[-1].start()
        with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
            found = _story(queue, workers)
    if arguments.json:
        output.print_json(found)
    return exits.OK


def _story(queue: TaskQueue, workers: list[BaseProcess]) -> dict[str, object]:
    monitoring = QueueMonitoring(queue.database)
    heartbeat = WorkerHeartbeat(queue.database, STALE_SECONDS)
    _tell(f"three workers start, in processes of their own, on {queue.database.db_path}")
    _until(lambda: len(monitoring.get_all_workers()) == 3)
    for row in heartbeat.get_all_workers_summary():
        _say(f"{row['worker_id']} registered {row['seconds_since_heartbeat']:.1f} s ago, with {row['capabilities']}")

    _tell(f"{TASKS} tasks are enqueued, one in ten of a kind that fails at first, and one that takes long")
    queue.enqueue_many(
        {"type": "flaky" if number % 10 == 0 else "mail", "payload": {"number": number}, "max_attempts": 3}
        for number in range(TASKS)
    )
    long = queue.enqueue("long", {"seconds": 3600}, priority=1)
    _until(lambda: (task := queue.get(long)) is not None and task.status == "processing")
    holder = str(getattr(queue.get(long), "locked_by", ""))
    _say(f"{holder} has the long one, the others share the rest")

    _tell(f"{holder} is killed in the midst of it")
    next(worker for worker in workers if worker.name == holder).kill()
    killed = time.monotonic()
    queue.database.execute("UPDATE task_queue SET payload = '{\"seconds\": 0}' WHERE id = ?", (long,))
    _until(lambda: (task := queue.get(long)) is not None and task.status == "completed")
    task = queue.get(long)
    assert task is not None
    _say(f"its lease ran out and the task came back: {task.error_message}")
    _say(f"{task.locked_by} did it as attempt {task.attempts}, {time.monotonic() - killed:.1f} s after the kill")

    _tell(f"{holder} is heard of no more: after {STALE_SECONDS:g} s it is stale")
    _until(lambda: [worker.worker_id for worker in heartbeat.get_stale_workers()] == [holder])
    _say(f"stale: {holder}; active: {', '.join(sorted(one.worker_id for one in heartbeat.get_active_workers()))}")
    _say(f"cleaned up: {heartbeat.cleanup_stale_workers()}")

    _tell("the others go on until all is done")
    _until(lambda: not {"queued", "processing"} & collect(queue.database, 1)["depth_by_status"].keys())
    for worker in heartbeat.get_active_workers():
        stats = heartbeat.get_worker_stats(worker.worker_id)
        _say(f"{worker.worker_id}: {stats['completed_tasks']} completed, {stats['failed_tasks']} failed")

    found = collect(queue.database, 1)
    _tell("what prismq stats says of it")
    for title, text in sections(found):
        print(f"\n{title}\n{text}")
    return found


def work(path: str, name: str) -> None:
    """A worker as short as can be: claim, do, complete or fail, and say that it lives."""
    _hush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for Windows, where it is not kept back
    demo = multiprocessing.parent_process()
    assert demo is not None
    with TaskQueue(path, retry=SOON) as queue:
        monitoring, log = QueueMonitoring(queue.database), QueueLogger(queue.database)
        monitoring.register_worker(name, {"region": "eu", "languages": ["python"]})
        while demo.is_alive():
            monitoring.update_heartbeat(name)
            task = queue.claim(name, lease_seconds=LEASE_SECONDS, wait=BEAT_SECONDS)
            if task is None or task.id is None:
                continue
            seconds = task.get_payload_dict().get("seconds", random.uniform(0.01, 0.05))
            if task.type == "flaky" and task.attempts == 1:
                error = ConnectionError("the mail server is away")
                log.log_task_error(task.id, error, json.loads(task.payload))
                queue.fail(task, error)
                continue
            demo.join(seconds)  # a sleep that ends with it
            queue.complete(task)


def _hush() -> None:
    """What the library logs is told by the story."""
    logging.getLogger("prismq").addHandler(logging.NullHandler())


def _until(condition: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise exits.Exit(f"the demo did not get on within {seconds:g} s: is this machine very busy?")
        time.sleep(0.05)


def _end(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()
        worker.join()


def _tell(text: str) -> None:
    print(f"\n* {text}", flush=True)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
