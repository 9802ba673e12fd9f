"""The operations whose flatness is measured. Each puts back, unmeasured, what it took: a queue's depth stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, TypeAlias, TypeVar

from bench.bare_sqlite import PAYLOAD, WORKER
from prismq import Task, TaskQueue

Result = TypeVar("Result")
Operation: TypeAlias = Callable[[TaskQueue, int], int]
"""Does something for the nth time on a queue and returns the nanoseconds it took."""
Operations: TypeAlias = Mapping[str, Operation]

TYPES = tuple(f"kind {number}" for number in range(50))
PRIORITIES = (10, 30, 50, 70, 90)
CAPABILITIES = {"gpu": True}
WANTED: dict[str, dict[str, Any]] = {
    "any type": {},
    "one type": {"types": TYPES[7]},
    "three types": {"types": TYPES[7:10]},
}
CAPABLE: dict[str, dict[str, Any]] = {
    "any type, capabilities": {"capabilities": CAPABILITIES},
    "three types, capabilities": {"types": TYPES[7:10], "capabilities": CAPABILITIES},
}


def _timed(call: Callable[[], Result]) -> tuple[int, Result]:
    started = perf_counter_ns()
    result = call()
    return perf_counter_ns() - started, result


def _claimed(queue: TaskQueue, **wanted: Any) -> tuple[int, Task]:
    nanoseconds, task = _timed(partial(queue.claim, WORKER, lease_seconds=3600, **wanted))
    if task is None:
        raise RuntimeError(f"nothing to claim for {wanted}")
    return nanoseconds, task


def _put_back(queue: TaskQueue, task: Task) -> None:
    queue.enqueue(task.type, PAYLOAD, priority=task.priority, compatibility=task.compatibility)


def _enqueue(queue: TaskQueue, number: int) -> int:
    kind, priority = TYPES[number % len(TYPES)], PRIORITIES[number % len(PRIORITIES)]
    nanoseconds, _ = _timed(partial(queue.enqueue, kind, PAYLOAD, priority=priority))
    queue.complete(_claimed(queue, types=kind, strategy="lifo")[1])
    return nanoseconds


def _claim(queue: TaskQueue, number: int, **wanted: Any) -> int:
    nanoseconds, task = _claimed(queue, **wanted)
    queue.complete(task)
    _put_back(queue, task)
    return nanoseconds


def _complete(queue: TaskQueue, number: int) -> int:
    _, task = _claimed(queue)
    nanoseconds, _ = _timed(partial(queue.complete, task))
    _put_back(queue, task)
    return nanoseconds


def _retry(queue: TaskQueue, number: int) -> int:
    _, task = _claimed(queue)
    nanoseconds, _ = _timed(partial(queue.fail, task, "no luck", delay_seconds=3600))
    _put_back(queue, task)
    return nanoseconds


def _poll(queue: TaskQueue, number: int, **wanted: Any) -> int:
    queue.claim(WORKER, **wanted)  # the first poll after a claim that found something takes the write lock
    nanoseconds, task = _timed(partial(queue.claim, WORKER, **wanted))
    if task is not None:
        raise RuntimeError(f"a poll for {wanted} found {task}")
    return nanoseconds


def _claims(strategies: Sequence[str], forms: Mapping[str, dict[str, Any]]) -> dict[str, Operation]:
    return {
        f"claim {strategy}, {form}": partial(_claim, strategy=strategy, **wanted)
        for strategy in strategies
        for form, wanted in forms.items()
    }


DETERMINED = ("priority", "fifo", "lifo")
PLAIN: Operations = {
    "enqueue": _enqueue,
    **_claims(DETERMINED, WANTED),
    "complete": _complete,
    "fail, to be retried": _retry,
    "empty poll, unknown type": partial(_poll, types="unknown"),
}
CHOOSY: Operations = _claims(DETERMINED, CAPABLE)
"""For a queue in which some tasks need a capability."""
LOTTERY: Operations = {
    **_claims(("weighted_random",), WANTED | CAPABLE),
    "enqueue, lottery open": _enqueue,
    "complete, lottery open": _complete,
    "fail, to be retried, lottery open": _retry,
}
"""For a choosy queue whose lottery is open: every write keeps it up to date from then on."""
IDLE: Operations = {"empty poll, only delayed tasks": _poll}
"""For a queue of nothing but delayed tasks."""
