"""Spans for what happens to tasks, and one trace from who enqueues to who handles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from prismq import InvalidTaskError, Task, TaskQueue
from prismq.tracing import TracedQueue
from tests.colleague import SPAWN


class Recorder:
    """A tracer provider, and what was traced with it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def names(self) -> list[str]:
        return [span.name for span in self.spans()]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.provider.shutdown()


@pytest.fixture
def traced(path: Path, recorder: Recorder, driver: Any) -> Iterator[TracedQueue]:
    with TracedQueue(path, tracer_provider=recorder.provider, driver=driver) as queue:
        yield queue


def traces(queue: TaskQueue) -> dict[int, str]:
    return dict(tuple(row) for row in queue.database.execute("SELECT task_id, trace FROM task_options"))


def test_enqueue_claim_and_handler_are_spans_of_one_trace(traced: TracedQueue, recorder: Recorder) -> None:
    task_id = traced.enqueue("video", {"n": 1})
    task = traced.claim("w", wait=1)
    assert task is not None
    with traced.handling(task):
        traced.complete(task)
    enqueue, claim, process = recorder.spans()
    assert [span.name for span in (enqueue, claim, process)] == ["enqueue video", "claim", "process video"]
    assert [span.kind for span in (enqueue, claim, process)] == [SpanKind.PRODUCER, SpanKind.CLIENT, SpanKind.CONSUMER]
    assert process.parent is not None
    assert process.parent.span_id == enqueue.context.span_id
    assert process.context.trace_id == enqueue.context.trace_id
    assert [link.context.span_id for link in claim.links] == [enqueue.context.span_id]
    assert claim.start_time is not None
    assert claim.end_time is not None
    assert claim.start_time <= claim.end_time
    for span, operation in ((enqueue, "send"), (claim, "receive"), (process, "process")):
        assert span.attributes is not None
        assert span.attributes["messaging.system"] == "prismq"
        assert span.attributes["messaging.operation.type"] == operation
        assert span.attributes["messaging.destination.name"] == "video"
        assert span.attributes["messaging.message.id"] == str(task_id)
    now = traced.get(task_id)
    assert now is not None
    assert now.status == "completed"


def handle_elsewhere(path: str, results: Any) -> None:
    recorder = Recorder()
    with TracedQueue(path, tracer_provider=recorder.provider) as queue:
        task = queue.claim("other", wait=30)
        assert task is not None
        with queue.handling(task):
            queue.enqueue("follow-up")
        results.put([(span.name, span.context.trace_id) for span in recorder.spans()])


def test_the_trace_goes_on_in_another_process(traced: TracedQueue, recorder: Recorder, path: Path) -> None:
    with recorder.provider.get_tracer("app").start_as_current_span("request") as request:
        traced.enqueue("mail")
    results = SPAWN.Queue()
    process = SPAWN.Process(target=handle_elsewhere, args=(str(path), results), daemon=True)
    process.start()
    spans = dict(results.get(timeout=60))
    process.join(30)
    trace_id = request.get_span_context().trace_id
    assert spans["process mail"] == spans["enqueue follow-up"] == trace_id
    follow_up = traced.claim("w")
    assert follow_up is not None
    assert format(trace_id, "032x") in traces(traced)[follow_up.id or 0]


def test_a_batch_shares_one_span(traced: TracedQueue, recorder: Recorder) -> None:
    ids = traced.enqueue_many([{"type": "a"}, {"type": "b"}])
    assert recorder.names() == ["enqueue"]
    assert len(set(traces(traced).values())) == 1
    assert [task.id for task in traced.claim_many("w", 5)] == ids
    claim = recorder.spans()[-1]
    assert claim.attributes is not None
    assert claim.attributes["messaging.batch.message_count"] == len(claim.links) == 2


def test_a_claim_that_finds_nothing_is_no_span(traced: TracedQueue, recorder: Recorder) -> None:
    assert traced.claim("w") is None
    assert traced.claim_many("w", 3, wait=0.01) == []
    assert recorder.names() == []


def test_what_goes_wrong_marks_its_span(traced: TracedQueue, recorder: Recorder) -> None:
    with pytest.raises(InvalidTaskError):
        traced.enqueue("t", priority="high")
    traced.enqueue("t")
    task = traced.claim("w")
    assert task is not None

    def handle(task: Task) -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError):
        traced.traced(handle)(task)
    refused, *_, failed = recorder.spans()
    for span, kind in ((refused, "InvalidTaskError"), (failed, "KeyError")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == kind
        assert [event.name for event in span.events] == ["exception"]
    assert list(traces(traced)) == [task.id]


def test_coroutines_are_traced_too(traced: TracedQueue, recorder: Recorder) -> None:
    traced.enqueue("t")

    async def handle(task: Task) -> str:
        await asyncio.sleep(0)
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    async def work() -> str:
        task = await traced.aclaim("w", wait=5)
        assert task is not None
        found: str = await traced.traced(handle)(task)
        return found

    assert asyncio.run(work()) in next(iter(traces(traced).values()))
    assert recorder.names() == ["enqueue t", "claim", "process t"]


def test_a_task_that_was_there_keeps_its_trace(traced: TracedQueue) -> None:
    first = traced.enqueue("t", idempotency_key="k")
    before = traces(traced)
    assert traced.enqueue("t", idempotency_key="k") == first
    assert traced.enqueue_many([{"type": "t", "idempotency_key": "k"}, {"type": "t"}])[0] == first
    after = traces(traced)
    assert after[first] == before[first]
    assert len(after) == 2


def test_a_trace_vanishes_with_its_task(traced: TracedQueue) -> None:
    def enqueue_and_fail() -> None:
        with traced.database.transaction():
            traced.enqueue("t")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        enqueue_and_fail()
    assert traces(traced) == {}
    task_id = traced.enqueue("t")
    traced.database.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
    assert traces(traced) == {}


@pytest.mark.parametrize("carrier", ["not json", "[]", '{"traceparent": "nonsense"}', "{}"])
def test_a_trace_that_can_not_be_read_harms_nobody(traced: TracedQueue, recorder: Recorder, carrier: str) -> None:
    traced.enqueue("t")
    traced.database.execute("UPDATE task_options SET trace = ?", (carrier,))
    task = traced.claim("w")
    assert task is not None
    with traced.handling(task):
        traced.complete(task)
    process = recorder.spans()[-1]
    assert process.parent is None


def test_without_a_provider_nothing_is_written(path: Path, hire: Callable[..., Any]) -> None:
    with TracedQueue(path) as queue:
        queue.enqueue("t")
        queue.enqueue_many([{"type": "t"}])
        task = queue.claim("w")
        assert task is not None
        with queue.handling(task):
            queue.complete(task)
        assert traces(queue) == {}
