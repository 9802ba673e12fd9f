"""Work that keeps the CPU busy, in one process per core.

    python examples/cpu_pool.py

Threads would take turns at Python's lock; with pool="process" each slot of the worker has a process of its own, and a
handler that crashes takes only that one down.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

from prismq import Task, TaskHandlerRegistry, TaskQueue, WorkerEngine

registry = TaskHandlerRegistry()
LIMIT, STEP = 60_000, 5_000
PRIMES_BELOW_LIMIT = 6057


@registry.handler("count primes", keep_result=True)
def count_primes(task: Task) -> dict[str, int]:
    """A function at the top level of a module: that is how processes find it."""
    span = task.get_payload_dict()
    count = sum(1 for number in range(span["from"], span["to"]) if is_prime(number))
    return {"count": count, "process": os.getpid()}


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, TaskQueue(Path(folder) / "queue.db") as queue:
        ids = queue.enqueue_many(
            {"type": "count primes", "payload": {"from": start, "to": start + STEP}} for start in range(0, LIMIT, STEP)
        )
        slots = min(4, os.cpu_count() or 1)
        print(f"{len(ids)} tasks, {slots} processes")
        engine = WorkerEngine(queue, "counter", handler_registry=registry, pool="process", concurrency=slots)
        worker = threading.Thread(target=engine.run_loop)
        started = time.perf_counter()
        worker.start()
        while any(task.finished_at_utc is None for task in map(queue.get, ids) if task is not None):
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        engine.stop()
        worker.join()

        results = [report.get_result() for report in map(queue.report, ids) if report is not None]
        total = sum(result["count"] for result in results)
        processes = {result["process"] for result in results}
        print(f"{total:,} primes below {LIMIT:,}, found in {seconds:.1f} s by {len(processes)} processes")
        assert total == PRIMES_BELOW_LIMIT
        assert os.getpid() not in processes


# Processes that are spawned import this file, and must not start the program again.
if __name__ == "__main__":
    main()
