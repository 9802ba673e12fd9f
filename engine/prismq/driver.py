"""What the queue asks of a driver: each call is one transaction, or joins the caller's.

Two drivers keep this contract and run the SQL of `sql`: `native_driver` in C, one call an operation, and
`python_driver`, the readable reference. `connect` picks one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from prismq import native
from prismq.errors import UnsupportedEnvironmentError
from prismq.housekeeping import Housekeeper
from prismq.models import SchedulingStrategy, Task

if TYPE_CHECKING:
    from prismq.connection import Connection

DriverName = Literal["native", "python"]
DriverChoice = Literal["auto", "native", "python"]
DRIVER_VARIABLE: Final = "PRISMQ_DRIVER"

STRATEGY_NUMBERS: Final = {
    SchedulingStrategy.PRIORITY: 0,  # prismq_strategy of native/interface.h
    SchedulingStrategy.FIFO: 1,
    SchedulingStrategy.LIFO: 2,
    SchedulingStrategy.WEIGHTED_RANDOM: 3,
}

NewTask = tuple[bytes, bytes, bytes, bytes | None, int, int, int | None]
"""A checked task to be: type, payload, compatibility, idempotency key or None, priority, max_attempts, run_after.

Texts are UTF-8; run_after is ms since the epoch, None for now. A plain tuple, because making a named one takes a tenth
of a batch's time.
"""


class Claim(NamedTuple):
    """What a worker wants: `types` a JSON array or None for all, `capabilities` a JSON object, both UTF-8."""

    worker: str
    types: bytes | None
    capabilities: bytes
    strategy: SchedulingStrategy
    limit: int
    lease_ms: int


class Token(NamedTuple):
    """The fencing token of a claim: only its holder can settle the task."""

    task_id: int
    worker: str
    attempt: int


class Failure(NamedTuple):
    """How a task ended badly: retried after `delay_ms` while attempts remain, when `retry`."""

    token: Token
    error: str
    retry: bool
    delay_ms: int


FailOutcome = Literal["queued", "dead_letter", "failed"]
FAIL_OUTCOMES: Final[tuple[FailOutcome | None, ...]] = (None, "queued", "dead_letter", "failed")


class Driver(Protocol):
    """Executes queue operations on one connection. What a stale token is refused is None or False in the answer."""

    name: DriverName

    @property
    def group_commit(self) -> str:
        """As TaskQueue.group_commit."""

    def enqueue(self, task: NewTask) -> int:
        """The new task's id, or that of the task that has its idempotency key already."""

    def enqueue_many(self, tasks: Iterable[NewTask]) -> list[int]:
        """As `enqueue` for each: all or none. Nothing is written before the last one was taken from `tasks`."""

    def claim(self, wanted: Claim, expected: bool = False) -> list[Task]:
        """Up to `limit` tasks, now leased, best first. `expected`: there should be one, no need to look first."""

    def served(self, answer: Any, worker: str) -> list[Task]:
        """What a claim was answered with while the worker slept; see idle.Place. Only the native driver is served."""

    def rehearse(self, worker: str) -> None:
        """Do what `served` does, without an answer."""

    def has_task(self, wanted: Claim) -> bool:
        """Whether there is a task for such a claim now; outside transactions only."""

    def complete(self, token: Token) -> bool:
        """Whether the token was good and the task is now completed."""

    def complete_many(self, tokens: Sequence[Token]) -> list[bool]:
        """As `complete` for each."""

    def fail_many(self, failures: Sequence[Failure]) -> list[FailOutcome | None]:
        """Each task's new status."""

    def renew_many(self, renewals: Sequence[tuple[Token, int]]) -> list[str | None]:
        """Each task's new lease end, the given ms from now."""


def check_choice(choice: str) -> str:
    """The driver asked for here or in the environment; UnsupportedEnvironmentError when there is none of that name."""
    wanted = os.environ.get(DRIVER_VARIABLE, "auto") if choice == "auto" else choice
    if wanted not in ("auto", "native", "python"):
        raise UnsupportedEnvironmentError(f"driver {wanted!r} is unknown: use 'auto', 'native' or 'python'")
    return wanted


def connect(connection: Connection, choice: DriverChoice = "auto") -> Driver:
    """The driver of a connection, made at the first call.

    `auto` follows the environment's PRISMQ_DRIVER, then takes the native one if built.

    Raises UnsupportedEnvironmentError when the native driver is demanded and missing.
    """
    wanted = check_choice(choice)
    with connection.hold():
        driver = connection.drivers.get(wanted)
        if driver is None:
            for name, value in connection.settings.queue_pragmas.items():
                connection.execute(f"PRAGMA {name} = {value}")
            driver = connection.drivers[wanted] = _open(connection, wanted)
            if connection.housekeeper is None:
                connection.housekeeper = Housekeeper(connection.path, connection.settings)
        return driver


def _open(connection: Connection, wanted: str) -> Driver:
    module = native.load() if wanted != "python" else None
    if module is not None:
        from prismq.native_driver import NativeDriver

        return NativeDriver(connection, module)
    if wanted == "native":
        raise UnsupportedEnvironmentError(
            "the native driver is not installed: reinstall prismq where a C compiler is found, or use driver='auto'"
        )
    from prismq.python_driver import PythonDriver

    return PythonDriver(connection)
