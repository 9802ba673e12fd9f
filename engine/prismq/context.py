"""What a handler may ask and tell while it runs a task."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from prismq import clock, submission
from prismq.errors import QueueProgrammingError, TaskCancelledError
from prismq.models import Task
from prismq.outcome import shortened

NOTE_LIMIT_BYTES: Final = 4096
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Line(Protocol):
    """A handler's connection to the worker that runs it: in this process, or from a child process."""

    @property
    def cancelled(self) -> str | None:
        """Why the handler should end, None while it should not."""

    def progress(self, fraction: float, note: str) -> None:
        """Have it written soon, or a later one in its place."""

    def log(self, at: datetime, level: str, message: str, details: str | None) -> None:
        """Have it written soon."""

    def renew(self, seconds: float | None) -> datetime:
        """The lease's new end; LeaseLostError."""


class TaskContext:
    """The second argument of a handler: the task's attempt and deadline, whether to go on, and a way to tell of it."""

    def __init__(self, task: Task, timeout_seconds: float | None, line: Line) -> None:
        self.task = task
        self.attempt = task.attempts
        """1 for the first execution."""
        self.deadline = None if timeout_seconds is None else clock.now() + timedelta(seconds=timeout_seconds)
        """When the handler's time is up, None without a limit."""
        self._line = line

    @property
    def cancelled(self) -> bool:
        """Whether to end: the task was cancelled, its lease lost, its time is up, or the worker can't wait any longer.

        A cancellation is noticed within a second or two.
        """
        return self._line.cancelled is not None

    def check(self) -> None:
        """Raise TaskCancelledError, which says why, when `cancelled`."""
        reason = self._line.cancelled
        if reason is not None:
            raise TaskCancelledError(reason)

    def renew(self, seconds: float | None = None) -> datetime:
        """Extend the lease to `seconds` from now, by default the worker's; returns its end. LeaseLostError.

        The worker renews by itself. Blocks, so a coroutine awaits `arenew` instead.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._line.renew(seconds)
        raise QueueProgrammingError("renew() would block the event loop: await context.arenew()")

    async def arenew(self, seconds: float | None = None) -> datetime:
        """As `renew`, for coroutines."""
        return await asyncio.to_thread(self._line.renew, seconds)

    def progress(self, fraction: float, note: str = "") -> None:
        """Let everybody see how far it is, from 0 to 1, see `TaskQueue.report`. ValueError outside that.

        Returns at once. Written a few times a second at most; the last one always.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
            raise ValueError(f"progress is {fraction!r:.100}; it must be a number from 0 to 1")
        self._line.progress(float(fraction), shortened(submission.message(note), NOTE_LIMIT_BYTES))

    def log(self, level: str, message: str, details: Any = None) -> None:
        """Add a line to the task's log (table `task_logs`); `details` are anything JSON can hold. Returns at once.

        An unknown level counts as INFO.
        """
        level = str(level).upper()
        if details is not None:
            details = _json(details)
        self._line.log(clock.now(), level if level in LEVELS else "INFO", submission.message(message), details)


def wants_context(handler: Callable[..., Any]) -> bool:
    """Whether a handler takes a second argument: one without a default, or one called `context`."""
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (positional[1].default is inspect.Parameter.empty or positional[1].name == "context")


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling the handler gives a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _json(details: Any) -> str:
    try:
        return json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"error": f"Failed to serialize details: {error}"})
