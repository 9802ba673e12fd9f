"""One claimed task on its way through a worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prismq import clock
from prismq.context import is_async, wants_context
from prismq.handlers import Handler
from prismq.models import Task
from prismq.retry import RetryConfig

if TYPE_CHECKING:
    from prismq.clerk import Clerk

LEASE_LOST: Final = "its lease was lost"
TIME_UP: Final = "its time is up"
WORKER_STOPS: Final = "the worker stops"


@dataclass(frozen=True, slots=True)
class Plan:
    """How tasks of one type are run."""

    handler: Handler
    is_async: bool
    wants_context: bool
    timeout_seconds: float | None
    retry: RetryConfig | None
    keep_result: bool

    @classmethod
    def of(
        cls,
        handler: Handler,
        timeout_seconds: float | None = None,
        retry: RetryConfig | None = None,
        keep_result: bool = False,
    ) -> Plan:
        return cls(handler, is_async(handler), wants_context(handler), timeout_seconds, retry, keep_result)


class Execution:
    """A claimed task, from the claim to its end; the handler's line to the worker in this process."""

    __slots__ = ("_clerk", "begun", "cancelled", "ends", "interrupt", "plan", "settled", "task", "untold")

    def __init__(self, task: Task, clerk: Clerk) -> None:
        self.task = task
        self.plan: Plan | None = None
        """Before the handler is about to run, None."""
        self.begun = False
        """This attempt counts."""
        self.ends = math.inf
        """When its time is up, monotonic."""
        self.cancelled: str | None = None
        self.settled = False
        """It was told how this ends; whatever the handler says now is refused."""
        self.interrupt: Callable[[], None] | None = None
        """Has the handler end, where that is possible."""
        self.untold: tuple[float, str] | None = None
        """Progress that is not written yet."""
        self._clerk = clerk

    @property
    def task_id(self) -> int:
        return self.task.id or 0

    @property
    def token(self) -> tuple[int, str | None, int]:
        return self.task_id, self.task.locked_by, self.task.attempts

    def begin(self) -> None:
        """The handler starts now: its time runs."""
        self.begun = True
        self._clerk.begin(self)

    def cancel(self, reason: str) -> None:
        """Tell the handler to end; the first reason counts."""
        if self.cancelled is None:
            self.cancelled = reason
            if self.interrupt is not None:
                self.interrupt()

    def progress(self, fraction: float, note: str) -> None:
        self.untold = (fraction, note)
        self._clerk.report(self)

    def log(self, at: datetime, level: str, message: str, details: str | None) -> None:
        self._clerk.log((self.task_id, clock.to_text(at), level, message, details))

    def renew(self, seconds: float | None) -> datetime:
        return self._clerk.renew(self, seconds)
