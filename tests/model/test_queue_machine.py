"""Random operations on a queue, side by side with a model of it in memory: they agree after every step.

PRISMQ_MACHINE_EXAMPLES sets how many runs there are for each driver, of up to 50 steps each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from prismq import LeaseLostError, Task, TaskQueue, native
from prismq.driver import DriverName

EXAMPLES = int(os.environ.get("PRISMQ_MACHINE_EXAMPLES", "50"))
STEPS = 50
PAST = "2001-01-01 00:00:00.000"

WORKERS = st.sampled_from(["w1", "w2"])
TYPES = st.sampled_from(["a", "b"])
WANTED = st.sampled_from([None, "a", "b", ["a", "b"], "none"])
PRIORITIES = st.integers(0, 3)
ORDERS: dict[str, Callable[[Any], Any]] = {
    "fifo": lambda row: row.id,
    "lifo": lambda row: -row.id,
    "priority": lambda row: (row.priority, row.id),
}


@dataclass
class Row:
    """A task as it should be."""

    id: int
    type: str
    priority: int
    max_attempts: int
    choosy: bool
    delayed: bool
    status: str = "queued"
    attempts: int = 0
    holder: str | None = None

    @property
    def ready(self) -> bool:
        return self.status == "queued" and not self.delayed

    def again(self, delayed: bool = False) -> None:
        self.status, self.holder, self.delayed = "queued", None, delayed


@dataclass(eq=False)
class Claim:
    """What a worker believes that it holds."""

    task: Task
    worker: str
    attempt: int


class QueueMachine(RuleBasedStateMachine):
    driver: DriverName

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="prismq-machine-"))
        self.queue = TaskQueue(self.folder / "queue.db", driver=self.driver)
        self.rows: dict[int, Row] = {}
        self.keys: dict[str, int] = {}

    def teardown(self) -> None:
        self.queue.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what the model knows -----------------------------------------------------------------------------------------

    def row(self, number: int) -> Row | None:
        """One of the tasks there are, if there are any."""
        return self.rows[sorted(self.rows)[number % len(self.rows)]] if self.rows else None

    def held(self, claim: Claim) -> Row | None:
        """The task, when the claim's token is good."""
        row = self.rows[claim.task.id or 0]
        good = (row.status, row.holder, row.attempts) == ("processing", claim.worker, claim.attempt)
        return row if good else None

    def fitting(self, types: Any, able: bool) -> list[Row]:
        wanted = None if types is None else [types] if isinstance(types, str) else types
        return [
            row
            for row in self.rows.values()
            if row.ready and (wanted is None or row.type in wanted) and (able or not row.choosy)
        ]

    # -- operations ---------------------------------------------------------------------------------------------------

    @initialize()
    def open_lottery(self) -> None:
        assert self.queue.claim("w1", strategy="weighted_random") is None

    @rule(
        kind=TYPES,
        priority=PRIORITIES,
        max_attempts=st.integers(1, 3),
        choosy=st.booleans(),
        delayed=st.booleans(),
        key=st.none() | st.sampled_from(["k1", "k2"]),
    )
    def enqueue(
        self, kind: str, priority: int, max_attempts: int, choosy: bool, delayed: bool, key: str | None
    ) -> None:
        task_id = self.queue.enqueue(
            kind,
            priority=priority,
            max_attempts=max_attempts,
            compatibility={"gpu": True} if choosy else None,
            run_after=timedelta(hours=1) if delayed else None,
            idempotency_key=key,
        )
        if key in self.keys:
            assert task_id == self.keys[key]
            return
        assert task_id not in self.rows
        self.rows[task_id] = Row(task_id, kind, priority, max_attempts, choosy, delayed)
        if key is not None:
            self.keys[key] = task_id

    @rule(kind=TYPES, priorities=st.lists(PRIORITIES, min_size=1, max_size=4))
    def enqueue_many(self, kind: str, priorities: list[int]) -> None:
        ids = self.queue.enqueue_many([{"type": kind, "priority": priority} for priority in priorities])
        assert ids == sorted(set(ids))
        self.rows |= {
            one: Row(one, kind, priority, 5, False, False) for one, priority in zip(ids, priorities, strict=True)
        }

    @rule(
        target=claims,
        worker=WORKERS,
        strategy=st.sampled_from(["fifo", "lifo", "priority", "weighted_random"]),
        types=WANTED,
        able=st.booleans(),
        limit=st.integers(1, 4),
    )
    def claim(self, worker: str, strategy: str, types: Any, able: bool, limit: int) -> Any:
        return multiple(*self.claimed(worker, strategy, types, able, limit))

    @rule(target=claims, claim=claims, worker=WORKERS)
    def take_over(self, claim: Claim, worker: str) -> Any:
        """The claim's lease runs out and the task is claimed again, perhaps by the same worker."""
        if (row := self.held(claim)) is not None:
            self.expire(row)
        return multiple(*self.claimed(worker, "fifo", None, True, 10))

    def claimed(self, worker: str, strategy: str, types: Any, able: bool, limit: int) -> list[Claim]:
        fitting = self.fitting(types, able)
        capabilities = {"gpu": True} if able else None
        tasks = self.queue.claim_many(worker, limit, types=types, capabilities=capabilities, strategy=strategy)
        ids = [task.id or 0 for task in tasks]
        if strategy == "weighted_random":  # chance decides which
            assert len(set(ids)) == len(ids) == min(limit, len(fitting))
            assert set(ids) <= {row.id for row in fitting}
        else:
            assert ids == [row.id for row in sorted(fitting, key=ORDERS[strategy])[:limit]]
        for task in tasks:
            row = self.rows[task.id or 0]
            row.status, row.holder = "processing", worker
            row.attempts += 1
            assert (task.type, task.priority, task.attempts) == (row.type, row.priority, row.attempts)
        return [Claim(task, worker, task.attempts) for task in tasks]

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        row = self.held(claim)
        if self.accepted(row, lambda: self.queue.complete(claim.task)):
            assert row is not None
            row.status = "completed"

    @rule(chosen=st.lists(claims, min_size=1, max_size=4))
    def complete_many(self, chosen: list[Claim]) -> None:
        once = list({claim.task.id: claim for claim in chosen}.values())
        stale = {claim.task.id for claim in once if self.held(claim) is None}
        refused = set()
        try:
            self.queue.complete_many([claim.task for claim in once])
        except LeaseLostError as error:
            refused = {lost.task_id for lost in (error, *error.others)}
        assert refused == stale
        for claim in once:
            if (row := self.held(claim)) is not None:
                row.status = "completed"

    @rule(claim=claims, retry=st.booleans(), delayed=st.booleans())
    def fail(self, claim: Claim, retry: bool, delayed: bool) -> None:
        row = self.held(claim)
        delay = 3600 if delayed else 0
        if self.accepted(row, lambda: self.queue.fail(claim.task, "x", retry=retry, delay_seconds=delay)):
            assert row is not None
            if retry and row.attempts < row.max_attempts:
                row.again(delayed)
            else:
                row.status = "dead_letter" if retry else "failed"

    @rule(claim=claims, seconds=st.integers(10, 1000))
    def renew(self, claim: Claim, seconds: int) -> None:
        before = claim.task.lease_until_utc
        row = self.held(claim)
        if self.accepted(row, lambda: self.queue.renew(claim.task, seconds)):
            now = self.queue.get(claim.task.id or 0)
            assert now is not None
            assert now.lease_until_utc == claim.task.lease_until_utc
        else:
            assert claim.task.lease_until_utc == before

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        row = self.held(claim)
        if self.accepted(row, lambda: self.queue.release(claim.task)):
            assert row is not None
            row.again()
            row.attempts -= 1

    @rule(number=st.integers(0))
    def cancel(self, number: int) -> None:
        if (row := self.row(number)) is not None:
            can = row.status in ("queued", "processing")
            assert self.queue.cancel(row.id) is can
            row.status = "failed" if can else row.status

    @rule(number=st.integers(0))
    def requeue(self, number: int) -> None:
        if (row := self.row(number)) is not None:
            can = row.status in ("failed", "dead_letter")
            assert self.queue.requeue(row.id) is can
            if can:
                self.renewed([row])

    @rule(types=WANTED, status=st.sampled_from(["failed", "dead_letter"]), limit=st.none() | st.integers(1, 3))
    def requeue_all(self, types: Any, status: Any, limit: int | None) -> None:
        wanted = None if types is None else [types] if isinstance(types, str) else types
        ended = [row for row in self.rows.values() if row.status == status and (wanted is None or row.type in wanted)][
            :limit
        ]
        assert self.queue.requeue_all(types, status, limit) == len(ended)
        self.renewed(ended)

    @rule(number=st.integers(0))
    def let_a_lease_run_out(self, number: int) -> None:
        row = self.row(number)
        if row is not None and row.status == "processing":
            self.expire(row)

    def expire(self, row: Row) -> None:
        """The lease's end is moved into the past; who is idle brings the task back."""
        self.queue.database.execute("UPDATE task_queue SET lease_until_utc = ? WHERE id = ?", (PAST, row.id))
        end = time.monotonic() + 20
        while (now := self.queue.get(row.id)) is not None and now.status == "processing":
            assert self.queue.claim("idle", types="none") is None
            assert time.monotonic() < end, "the lease never ran out"
        assert now is not None
        assert "Lease expired" in (now.error_message or "")
        if row.attempts < row.max_attempts:
            row.again()
        else:
            row.status = "dead_letter"

    @rule(number=st.integers(0))
    def bring_forward(self, number: int) -> None:
        row = self.row(number)
        if row is not None and row.status == "queued":
            self.queue.database.execute("UPDATE task_queue SET run_after_utc = ? WHERE id = ?", (PAST, row.id))
            row.delayed = False

    @rule(number=st.integers(0), priority=PRIORITIES)
    def change_priority(self, number: int, priority: int) -> None:
        if (row := self.row(number)) is not None:
            self.queue.database.execute("UPDATE task_queue SET priority = ? WHERE id = ?", (priority, row.id))
            row.priority = priority

    @rule()
    def begin_anew(self) -> None:
        """Another connection: nothing was only in memory."""
        self.queue.close()

    # -- what is always so --------------------------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        found = self.queue.database.execute(
            "SELECT id, status, attempts, locked_by, lease_until_utc IS NOT NULL, finished_at_utc IS NOT NULL"
            " FROM task_queue ORDER BY id"
        ).fetchall()
        ended = ("completed", "failed", "dead_letter")
        assert [tuple(row) for row in found] == [
            (row.id, row.status, row.attempts, row.holder, row.status == "processing", row.status in ended)
            for row in sorted(self.rows.values(), key=lambda row: row.id)
        ]

    # -- of use to the rules ------------------------------------------------------------------------------------------

    @staticmethod
    def accepted(row: Row | None, act: Callable[[], object]) -> bool:
        """Whether the operation was; it has to be just when the token is good."""
        if row is not None:
            act()
            return True
        with pytest.raises(LeaseLostError):
            act()
        return False

    @staticmethod
    def renewed(rows: Iterable[Row]) -> None:
        for row in rows:
            row.again()
            row.attempts = 0


def machine(name: DriverName, examples: int) -> Any:
    case = type(f"{name.title()}Machine", (QueueMachine,), {"driver": name}).TestCase  # type: ignore[attr-defined]
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    return case


if native.load() is not None:
    TestNative = machine("native", EXAMPLES)
TestPython = machine("python", max(1, EXAMPLES // 2))
