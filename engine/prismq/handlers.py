"""Which function runs tasks of which type."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from prismq import submission
from prismq.errors import TaskHandlerAlreadyRegisteredError, TaskHandlerNotRegisteredError
from prismq.models import Task
from prismq.retry import RetryConfig

Handler = Callable[..., Any]
"""A function or coroutine function that a worker calls with the claimed task."""

H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class TaskHandlerInfo:
    """A handler and how it is to be run; ValueError for what can't be right.

    `timeout_seconds` bounds one run and `retry` spaces the attempts; None leaves it to the worker. With `keep_result`,
    what the handler returns is stored.
    """

    task_type: str
    handler: Handler
    description: str = ""
    version: str = "1.0.0"
    timeout_seconds: float | None = None
    retry: RetryConfig | None = None
    keep_result: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.task_type, str):
            raise ValueError(f"task_type is {self.task_type!r:.100}; it must be text")
        if not self.task_type.strip():
            raise ValueError("task_type cannot be empty")
        of_type = f"of the handler for {self.task_type!r}"
        if not callable(self.handler):
            raise ValueError(f"the handler for {self.task_type!r} must be callable, and is {self.handler!r:.100}")
        if inspect.isgeneratorfunction(self.handler) or inspect.isasyncgenfunction(self.handler):
            raise ValueError(
                f"the handler for {self.task_type!r} is a generator function, whose body a call doesn't run: "
                "use return, not yield"
            )
        for name in ("description", "version"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"{name} {of_type} is {value!r:.100}; it must be text")
        if self.timeout_seconds is not None:
            submission.duration(self.timeout_seconds, f"timeout_seconds {of_type}")
        if not (self.retry is None or isinstance(self.retry, RetryConfig)):
            raise ValueError(f"retry {of_type} is {self.retry!r:.100}; it must be a RetryConfig, or None")
        if not isinstance(self.keep_result, bool):
            raise ValueError(f"keep_result {of_type} is {self.keep_result!r:.100}; it must be True or False")


class TaskHandlerRegistry:
    """The handlers by task type; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[str, TaskHandlerInfo] = {}

    def register_handler(
        self,
        task_type: str,
        handler: Handler,
        description: str = "",
        version: str = "1.0.0",
        allow_override: bool = False,
        *,
        timeout_seconds: float | None = None,
        retry: RetryConfig | None = None,
        keep_result: bool = False,
    ) -> None:
        """Have tasks of that type run by `handler`; the further arguments are those of TaskHandlerInfo.

        TaskHandlerAlreadyRegisteredError when the type has one, unless `allow_override`. ValueError.
        """
        info = TaskHandlerInfo(task_type, handler, description, version, timeout_seconds, retry, keep_result)
        self.register_all([info], allow_override)

    def register_all(self, handlers: Iterable[TaskHandlerInfo], allow_override: bool = False) -> None:
        """As `register_handler` for several at once: all or none. Two for one type are never right."""
        new: dict[str, TaskHandlerInfo] = {}
        for info in handlers:
            if info.task_type in new:
                raise _already(new[info.task_type], info, "keep one of the two")
            new[info.task_type] = info
        with self._lock:
            for task_type, info in new.items():
                if task_type in self._handlers and not allow_override:
                    raise _already(self._handlers[task_type], info, "pass allow_override=True to replace it")
            self._handlers.update(new)

    def handler(
        self,
        task_type: str,
        *,
        description: str = "",
        version: str = "1.0.0",
        allow_override: bool = False,
        timeout_seconds: float | None = None,
        retry: RetryConfig | None = None,
        keep_result: bool = False,
    ) -> Callable[[H], H]:
        """`register_handler` as a decorator; the function stays what it is."""

        def register(function: H) -> H:
            info = TaskHandlerInfo(task_type, function, description, version, timeout_seconds, retry, keep_result)
            self.register_all([info], allow_override)
            return function

        return register

    def unregister_handler(self, task_type: str) -> bool:
        """Forget the handler of that type; False when there is none."""
        with self._lock:
            return self._handlers.pop(task_type, None) is not None

    def get_handler(self, task_type: str) -> Handler:
        """The function for that type; TaskHandlerNotRegisteredError names the types there are."""
        with self._lock:
            info = self._handlers.get(task_type)
            known = sorted(self._handlers)
        if info is None:
            raise TaskHandlerNotRegisteredError(task_type, known)
        return info.handler

    def get_handler_info(self, task_type: str) -> TaskHandlerInfo | None:
        """All that is known of the handler of that type, None when there is none."""
        with self._lock:
            return self._handlers.get(task_type)

    def is_registered(self, task_type: str) -> bool:
        """Whether that type has a handler."""
        with self._lock:
            return task_type in self._handlers

    def get_registered_types(self) -> set[str]:
        """The types that have a handler; a copy."""
        with self._lock:
            return set(self._handlers)

    def clear(self) -> None:
        """Forget all handlers."""
        with self._lock:
            self._handlers.clear()

    def validate_task(self, task: Task) -> None:
        """TaskHandlerNotRegisteredError, naming the task, when its type has no handler."""
        with self._lock:
            known = sorted(self._handlers)
        if task.type not in known:
            raise TaskHandlerNotRegisteredError(task.type, known, task.id)

    def __repr__(self) -> str:
        return f"TaskHandlerRegistry({', '.join(map(repr, sorted(self.get_registered_types())))})"


_global_lock = threading.Lock()
_global_registry = TaskHandlerRegistry()


def get_global_registry() -> TaskHandlerRegistry:
    """The registry that `prismq.handler` fills, one for the whole process."""
    return _global_registry


def reset_global_registry() -> None:
    """Replace the global registry by an empty one; who holds the old one keeps it."""
    global _global_registry
    with _global_lock:
        _global_registry = TaskHandlerRegistry()


def handler(
    task_type: str,
    *,
    description: str = "",
    version: str = "1.0.0",
    allow_override: bool = False,
    timeout_seconds: float | None = None,
    retry: RetryConfig | None = None,
    keep_result: bool = False,
) -> Callable[[H], H]:
    """Register the decorated function in the global registry; the arguments are those of TaskHandlerInfo."""
    return get_global_registry().handler(
        task_type,
        description=description,
        version=version,
        allow_override=allow_override,
        timeout_seconds=timeout_seconds,
        retry=retry,
        keep_result=keep_result,
    )


def _already(first: TaskHandlerInfo, second: TaskHandlerInfo, advice: str) -> TaskHandlerAlreadyRegisteredError:
    return TaskHandlerAlreadyRegisteredError(
        f"a handler for task type {first.task_type!r} is already registered ({_name(first.handler)}), so "
        f"{_name(second.handler)} was refused; {advice}",
        first.task_type,
    )


def _name(function: Handler) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
