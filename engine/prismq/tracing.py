"""Spans of OpenTelemetry for what happens to tasks; needs `pip install "prismq[otel]"`.

    queue = TracedQueue("queue.db")           # a TaskQueue in every other respect
    queue.enqueue("video", {"n": 1})          # a span; its context travels with the task
    while task := queue.claim("w", wait=60):
        with queue.handling(task):            # the same trace, in whichever process
            ...

Nothing is patched. Where no tracer provider is set up there is no context, and nothing more is written or read.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError('prismq.tracing needs opentelemetry-api: pip install "prismq[otel]"') from error

from prismq import sql
from prismq.models import Task
from prismq.queue import TaskQueue

_PROPAGATOR: Final = TraceContextTextMapPropagator()
SYSTEM: Final = "prismq"


class TracedQueue(TaskQueue):
    """A TaskQueue whose enqueues, claims and handlers are spans, named by OpenTelemetry's messaging conventions.

    The W3C trace context of an enqueue is kept in `task_options.trace`, in the same transaction. A claim that finds
    nothing is no span. `tracer_provider` is the global one when None; the other arguments are TaskQueue's.
    """

    def __init__(self, database: Any = None, *, tracer_provider: TracerProvider | None = None, **options: Any) -> None:
        super().__init__(database, **options)
        self._tracer: Tracer = trace.get_tracer("prismq", tracer_provider=tracer_provider)

    def enqueue(self, type: str, payload: Any = None, **options: Any) -> int:
        """As TaskQueue.enqueue, in a span "enqueue <type>"."""
        with self._span(f"enqueue {type}", SpanKind.PRODUCER, "send", type) as span:
            carrier = _carrier()
            if not carrier:
                return super().enqueue(type, payload, **options)
            with self.database.transaction():
                new = not self._is_known(options.get("idempotency_key"))
                task_id = super().enqueue(type, payload, **options)
                if new:
                    self.database.execute(sql.KEEP_TRACE, (task_id, carrier))
            span.set_attribute("messaging.message.id", str(task_id))
            return task_id

    def enqueue_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[int]:
        """As TaskQueue.enqueue_many, in one span "enqueue" whose context all of them get."""
        tasks = list(tasks)
        with self._span("enqueue", SpanKind.PRODUCER, "send") as span:
            span.set_attribute("messaging.batch.message_count", len(tasks))
            carrier = _carrier()
            if not carrier:
                return super().enqueue_many(tasks)
            with self.database.transaction():
                keys = [task.get("idempotency_key") if isinstance(task, Mapping) else None for task in tasks]
                known = {key for key in keys if self._is_known(key)}
                ids = super().enqueue_many(tasks)
                for task_id, key in zip(ids, keys, strict=True):
                    if key not in known:
                        self.database.execute(sql.KEEP_TRACE, (task_id, carrier))
            return ids

    def claim(self, worker_id: str, **options: Any) -> Task | None:
        """As TaskQueue.claim; a span "claim" if there was a task, linked to where that was enqueued."""
        began = time.time_ns()
        task = super().claim(worker_id, **options)
        self._claimed(worker_id, [task] if task else [], began)
        return task

    def claim_many(self, worker_id: str, limit: int, **options: Any) -> list[Task]:
        """As TaskQueue.claim_many; a span "claim" if there were tasks, linked to where they were enqueued."""
        began = time.time_ns()
        tasks = super().claim_many(worker_id, limit, **options)
        self._claimed(worker_id, tasks, began)
        return tasks

    async def aclaim(self, worker_id: str, **options: Any) -> Task | None:
        """As TaskQueue.aclaim; a span as of `claim`."""
        began = time.time_ns()
        task = await super().aclaim(worker_id, **options)
        self._claimed(worker_id, [task] if task else [], began)
        return task

    @contextmanager
    def handling(self, task: Task) -> Iterator[Span]:
        """A span "process <type>" for the block, in the trace of whoever enqueued the task; an exception marks it."""
        context = self._contexts([task]).get(task.id or 0)
        with self._span(f"process {task.type}", SpanKind.CONSUMER, "process", task.type, context) as span:
            span.set_attribute("messaging.message.id", str(task.id))
            span.set_attribute("prismq.task.attempt", task.attempts)
            yield span

    def traced(self, handler: Callable[[Task], Any]) -> Callable[[Task], Any]:
        """A handler, or coroutine function, that runs inside `handling`."""
        if inspect.iscoroutinefunction(handler):

            @wraps(handler)
            async def traced_coroutine(task: Task) -> Any:
                with self.handling(task):
                    return await handler(task)

            return traced_coroutine

        @wraps(handler)
        def traced_handler(task: Task) -> Any:
            with self.handling(task):
                return handler(task)

        return traced_handler

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, operation: str, type: str | None = None, context: Context | None = None
    ) -> Iterator[Span]:
        attributes = {
            "messaging.system": SYSTEM,
            "messaging.operation.type": operation,
            "messaging.operation.name": name.partition(" ")[0],
        }
        if isinstance(type, str):
            attributes["messaging.destination.name"] = type
        with self._tracer.start_as_current_span(
            name, context, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.record_exception(error)
                span.set_attribute("error.type", error.__class__.__qualname__)
                span.set_status(Status(StatusCode.ERROR, f"{error.__class__.__name__}: {error}"))
                raise

    def _claimed(self, worker_id: str, tasks: list[Task], began: int) -> None:
        if not tasks:
            return
        span = self._tracer.start_span("claim", kind=SpanKind.CLIENT, start_time=began, links=self._links(tasks))
        if span.is_recording():
            span.set_attribute("messaging.system", SYSTEM)
            span.set_attribute("messaging.operation.type", "receive")
            span.set_attribute("messaging.operation.name", "claim")
            span.set_attribute("messaging.client.id", worker_id)
            span.set_attribute("messaging.batch.message_count", len(tasks))
            if len(tasks) == 1:
                span.set_attribute("messaging.destination.name", tasks[0].type)
                span.set_attribute("messaging.message.id", str(tasks[0].id))
        span.end()

    def _links(self, tasks: list[Task]) -> list[Link]:
        contexts = self._contexts(tasks).values()
        return [Link(trace.get_current_span(context).get_span_context()) for context in contexts]

    def _contexts(self, tasks: list[Task]) -> dict[int, Context]:
        """By id, where the tasks were enqueued, as far as that is known."""
        ids = json.dumps([task.id for task in tasks])
        rows = self.database.execute(sql.TRACES, (ids,))
        return {task_id: _PROPAGATOR.extract(_parsed(carrier), Context()) for task_id, carrier in rows}

    def _is_known(self, key: Any) -> bool:
        return isinstance(key, str) and self.database.execute(sql.FIND_KEY, (key,)).fetchone() is not None


def _carrier() -> str | None:
    """The current trace context as JSON, None if there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return json.dumps(carrier) if carrier else None


def _parsed(carrier: str) -> dict[str, str]:
    try:
        value = json.loads(carrier)
    except ValueError:  # a trace is not worth failing a task for
        return {}
    return value if isinstance(value, dict) else {}
