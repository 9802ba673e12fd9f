"""Each operation of a queue by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.micro.conftest import DEPTHS, DURABILITIES, LEASE_SECONDS, TYPE, WORKER, Measure
from bench.scenario import Durability
from prismq import SchedulingStrategy, Task, TaskQueue

BATCHES = (1, 10, 100, 1_000)
PAYLOAD_BYTES = {"100 B": 100, "4 KiB": 4_096, "256 KiB": 262_144}
OpenQueue = Callable[..., TaskQueue]


def claimed(queue: TaskQueue) -> Task:
    """A task in hand; one is enqueued for it, so that a queue keeps its depth."""
    queue.enqueue(TYPE, {"n": 0}, priority=0)
    task = queue.claim(WORKER, lease_seconds=LEASE_SECONDS)
    assert task is not None
    return task


def claimed_many(queue: TaskQueue, count: int) -> list[Task]:
    queue.enqueue_many([{"type": TYPE, "payload": {"n": 0}, "priority": 0}] * count)
    tasks = queue.claim_many(WORKER, count, lease_seconds=LEASE_SECONDS)
    assert len(tasks) == count
    return tasks


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="enqueue")
def test_enqueue(open_queue: OpenQueue, measure: Measure, depth: int, durability: Durability) -> None:
    queue = open_queue(depth, durability)
    measure(lambda: queue.enqueue(TYPE, {"n": 1}))


@pytest.mark.parametrize("size", PAYLOAD_BYTES)
@pytest.mark.benchmark(group="enqueue, by payload")
def test_enqueue_payload(open_queue: OpenQueue, measure: Measure, size: str) -> None:
    queue, payload = open_queue(), {"body": "x" * PAYLOAD_BYTES[size]}
    measure(lambda: queue.enqueue(TYPE, payload))


@pytest.mark.parametrize("size", PAYLOAD_BYTES)
@pytest.mark.benchmark(group="claim, by payload")
def test_claim_payload(open_queue: OpenQueue, measure: Measure, size: str) -> None:
    queue, payload = open_queue(), {"body": "x" * PAYLOAD_BYTES[size]}

    def enqueue() -> tuple[object, ...]:
        queue.enqueue(TYPE, payload)
        return ()

    measure(lambda: queue.claim(WORKER, lease_seconds=LEASE_SECONDS).get_payload_dict(), enqueue)  # type: ignore[union-attr]


@pytest.mark.parametrize("strategy", list(SchedulingStrategy), ids=lambda strategy: strategy.value)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="claim")
def test_claim(open_queue: OpenQueue, measure: Measure, depth: int, strategy: SchedulingStrategy) -> None:
    queue = open_queue(depth)

    def enqueue() -> tuple[object, ...]:
        queue.enqueue(TYPE, {"n": 1})
        return ()

    def claim() -> None:
        assert queue.claim(WORKER, lease_seconds=LEASE_SECONDS, strategy=strategy) is not None

    measure(claim, enqueue)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="complete")
def test_complete(open_queue: OpenQueue, measure: Measure, depth: int, durability: Durability) -> None:
    queue = open_queue(depth, durability)
    measure(queue.complete, lambda: (claimed(queue),))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="fail, to be retried")
def test_fail(open_queue: OpenQueue, measure: Measure, depth: int) -> None:
    queue = open_queue(depth)
    measure(lambda task: queue.fail(task, "no luck", delay_seconds=3_600), lambda: (claimed(queue),))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="renew")
def test_renew(open_queue: OpenQueue, measure: Measure, depth: int) -> None:
    queue = open_queue(depth)
    measure(lambda task: queue.renew(task, 2 * LEASE_SECONDS), lambda: (claimed(queue),))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.benchmark(group="empty poll")
def test_empty_poll(open_queue: OpenQueue, measure: Measure, depth: int) -> None:
    queue = open_queue(depth)

    def poll() -> None:
        assert queue.claim(WORKER, types="unknown") is None

    measure(poll)


@pytest.mark.parametrize("tasks", BATCHES)
@pytest.mark.benchmark(group="enqueue_many")
def test_enqueue_many(open_queue: OpenQueue, measure: Measure, tasks: int) -> None:
    queue, batch = open_queue(), [{"type": TYPE, "payload": {"n": number}} for number in range(tasks)]
    measure(lambda: queue.enqueue_many(batch), tasks=tasks)


@pytest.mark.parametrize("tasks", BATCHES)
@pytest.mark.benchmark(group="claim_many")
def test_claim_many(open_queue: OpenQueue, measure: Measure, tasks: int) -> None:
    queue = open_queue()

    def enqueue() -> tuple[object, ...]:
        queue.enqueue_many([{"type": TYPE, "payload": {"n": 0}}] * tasks)
        return ()

    def claim() -> None:
        assert len(queue.claim_many(WORKER, tasks, lease_seconds=LEASE_SECONDS)) == tasks

    measure(claim, enqueue, tasks=tasks)


@pytest.mark.parametrize("tasks", BATCHES)
@pytest.mark.benchmark(group="complete_many")
def test_complete_many(open_queue: OpenQueue, measure: Measure, tasks: int) -> None:
    queue = open_queue()
    measure(queue.complete_many, lambda: (claimed_many(queue, tasks),), tasks=tasks)
