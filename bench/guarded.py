"""The operations that the guard counts, one after the other in one process.

`python -m bench.guarded DATABASE TASKS` prints a JSON object for each: its name, how many tasks it was counted for, and
the WAL pages that they wrote. Each begins with an empty WAL, and the C function MARK is entered right before and after.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bench.bare_sqlite import PAYLOAD, WORKER
from bench.isolation import isolated_queue
from prismq import native

if TYPE_CHECKING:
    from prismq import Task, TaskQueue

Operation: TypeAlias = tuple[str, int, Callable[[int], object]]
"""A name, how many tasks a call is about, and the call, given its number."""

MARK = "prismq_results"
"""Of the native module's entry points the one that operations don't call."""
BATCH = 100
WARM_UP = 3
"""Calls before those that count: statements are prepared, and the WAL's first page of everything is written."""
TYPES = ("video", "mail", "report")
PRIORITIES = (10, 50, 90)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guarded")
    parser.add_argument("database", type=Path)
    parser.add_argument("tasks", type=int, help=f"counted for each operation, a multiple of {BATCH}")
    options = parser.parse_args(arguments)
    gc.disable()  # a collection would fall on whichever operation is running
    queue = isolated_queue(options.database, "native")
    mark = _marker()
    for name, size, call in _operations(queue, options.tasks):
        end = WARM_UP + options.tasks // size
        for number in range(WARM_UP):
            call(number)
        _checkpoint(queue, "TRUNCATE")
        mark()
        for number in range(WARM_UP, end):
            call(number)
        mark()
        pages, copied = _checkpoint(queue, "NOOP")
        if copied:
            raise RuntimeError(f"{name}: somebody made a checkpoint, so pages may be missing")
        print(json.dumps({"operation": name, "tasks": options.tasks, "pages": pages}))


def _operations(queue: TaskQueue, tasks: int) -> Iterator[Operation]:
    """Each leaves what the next ones need. What happens between them is not counted."""
    held: list[Task] = []
    batches: list[list[Task]] = []
    claim_many = partial(queue.claim_many, WORKER, lease_seconds=3600)

    def claim(**wanted: Any) -> None:
        task = queue.claim(WORKER, lease_seconds=3600, **wanted)
        assert task is not None
        held.append(task)

    queue.enqueue_many(map(_task, range(12 * tasks)))

    yield "enqueue", 1, lambda number: queue.enqueue(**_task(number))
    yield f"enqueue_many of {BATCH}, a task", BATCH, lambda number: queue.enqueue_many(map(_task, range(BATCH)))
    yield "claim", 1, lambda number: claim()
    yield "renew", 1, lambda number: queue.renew(held[number], 7200)
    yield "complete", 1, lambda number: queue.complete(held[number])
    held[:] = claim_many(WARM_UP + tasks)
    yield "fail, to be retried", 1, lambda number: queue.fail(held[number], "no luck", delay_seconds=3600)
    yield "claim, one type", 1, lambda number: claim(types=TYPES[1])
    yield f"claim_many of {BATCH}, a task", BATCH, lambda number: batches.append(claim_many(BATCH))
    yield f"complete_many of {BATCH}, a task", BATCH, lambda number: queue.complete_many(batches[number])
    yield "empty poll", 1, lambda number: queue.claim(WORKER, types="unknown")
    yield "claim, weighted_random", 1, lambda number: claim(strategy="weighted_random")


def _task(number: int) -> dict[str, Any]:
    kind, priority = TYPES[number % len(TYPES)], PRIORITIES[number // len(TYPES) % len(PRIORITIES)]
    return {"type": kind, "payload": PAYLOAD, "priority": priority}


def _checkpoint(queue: TaskQueue, mode: str) -> tuple[int, int]:
    """The pages in the WAL afterwards, and how many of them are in the database."""
    _, pages, copied = queue.database.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return pages, copied


def _marker() -> Callable[[], object]:
    """What enters MARK, without a handle: it only adds to the address that it is given."""
    module = native.load()
    assert module is not None
    return partial(getattr(module.lib, MARK), module.ffi.NULL)


if __name__ == "__main__":
    main()
