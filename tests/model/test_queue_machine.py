"""Random operations on a queue, side by side with a model of it in memory: they agree after every step.

Three workers do them, each on a connection of its own. PRISMQ_MACHINE_EXAMPLES sets how many runs there are for each
driver, of up to 100 steps each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from prismq import LeaseLostError, Task, TaskQueue, native
from prismq.driver import DriverName

EXAMPLES = int(os.environ.get("PRISMQ_MACHINE_EXAMPLES", "30"))
STEPS = 100
PAST = "2001-01-01 00:00:00.000"

NAMES = ["w1", "w2", "w3"]
WORKERS = st.sampled_from(NAMES)
TYPES = st.sampled_from(["a", "b"])
WANTED = st.sampled_from([None, "a", "b", ["a", "b"], "none"])
PRIORITIES = st.integers(0, 3)
ATTEMPTS = st.integers(1, 3)
CLAIMS = st.tuples(st.integers(0), st.integers(0, 3))
"""A number that stands for a claim, and whether it may be a stale one too: that is 0."""
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


@cache
def empty_queue() -> bytes:
    """A database with an empty queue in it: to make one anew for each run would take most of the time."""
    with tempfile.TemporaryDirectory(prefix="prismq-machine-") as folder:
        path = Path(folder) / "queue.db"
        with TaskQueue(path) as queue:
            assert queue.claim("w1", strategy="weighted_random") is None
        assert not path.with_name("queue.db-wal").exists()
        return path.read_bytes()


there_are_tasks = precondition(lambda self: bool(self.rows))
# While none holds, stale ones are tried now and then only: it is soon known that they are refused.
there_are_claims = precondition(lambda self: any(map(self.held, self.claims)) or (self.claims and self.looks % 8 == 0))


class QueueMachine(RuleBasedStateMachine):
    driver: DriverName

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="prismq-machine-"))
        self.path = self.folder / "queue.db"
        self.path.write_bytes(empty_queue())
        self.queues = {name: TaskQueue(self.path, driver=self.driver) for name in NAMES}
        self.looks = 0
        self.rows: dict[int, Row] = {}
        self.keys: dict[str, int] = {}
        self.claims: list[Claim] = []

    def teardown(self) -> None:
        for queue in self.queues.values():
            queue.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what the model knows -----------------------------------------------------------------------------------------

    def row(self, number: int) -> Row:
        """One of the tasks there are."""
        return self.rows[sorted(self.rows)[number % len(self.rows)]]

    def claim_of(self, which: tuple[int, int]) -> Claim:
        """One of the claims there were: mostly one that holds, as long as there are any."""
        number, good = which
        claims = [claim for claim in self.claims if self.held(claim) is not None] if good else []
        claims = claims or self.claims
        return claims[number % len(claims)]

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

    @initialize(kinds=st.lists(TYPES, min_size=1, max_size=5), limit=st.integers(1, 3), worker=WORKERS)
    def begin(self, kinds: list[str], limit: int, worker: str) -> None:
        """With something that is held, else much of a run would have nothing to do."""
        for kind in kinds:
            self.enqueue_many(worker, kind, [1], 2)
        self.claim(worker, "priority", None, False, limit)

    @rule(
        by=WORKERS,
        kind=TYPES,
        priority=PRIORITIES,
        max_attempts=ATTEMPTS,
        choosy=st.booleans(),
        delayed=st.booleans(),
        key=st.none() | st.sampled_from(["k1", "k2"]),
    )
    def enqueue(
        self, by: str, kind: str, priority: int, max_attempts: int, choosy: bool, delayed: bool, key: str | None
    ) -> None:
        task_id = self.queues[by].enqueue(
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

    @rule(by=WORKERS, kind=TYPES, priorities=st.lists(PRIORITIES, min_size=1, max_size=4), max_attempts=ATTEMPTS)
    def enqueue_many(self, by: str, kind: str, priorities: list[int], max_attempts: int) -> None:
        tasks = [{"type": kind, "priority": priority, "max_attempts": max_attempts} for priority in priorities]
        ids = self.queues[by].enqueue_many(tasks)
        assert ids == sorted(set(ids))
        self.rows |= {
            one: Row(one, kind, priority, max_attempts, False, False)
            for one, priority in zip(ids, priorities, strict=True)
        }

    @there_are_claims
    @rule(which=CLAIMS, worker=WORKERS)
    def take_over(self, which: tuple[int, int], worker: str) -> None:
        """The claim's lease runs out and the task is claimed again, perhaps by the same worker."""
        if (row := self.held(self.claim_of(which))) is not None:
            self.expire(row)
        self.claim(worker, "fifo", None, True, 10)

    @rule(
        worker=WORKERS,
        strategy=st.sampled_from(["fifo", "lifo", "priority", "weighted_random"]),
        types=WANTED,
        able=st.booleans(),
        limit=st.integers(1, 4),
    )
    def claim(self, worker: str, strategy: str, types: Any, able: bool, limit: int) -> None:
        fitting = self.fitting(types, able)
        capabilities = {"gpu": True} if able else None
        queue = self.queues[worker]
        tasks = queue.claim_many(worker, limit, types=types, capabilities=capabilities, strategy=strategy)
        ids = [task.id or 0 for task in tasks]
        if strategy == "weighted_random":  # chance decides which and in what order
            assert len(set(ids)) == len(ids) == min(limit, len(fitting))
            assert set(ids) <= {row.id for row in fitting}
            if len(ids) < len(fitting):  # what follows must not depend on chance, or no run could be repeated
                queue.release_many(tasks)
                return
            tasks.sort(key=lambda task: task.id or 0)
        else:
            assert ids == [row.id for row in sorted(fitting, key=ORDERS[strategy])[:limit]]
        for task in tasks:
            row = self.rows[task.id or 0]
            row.status, row.holder = "processing", worker
            row.attempts += 1
            assert (task.type, task.priority, task.attempts) == (row.type, row.priority, row.attempts)
        self.claims += [Claim(task, worker, task.attempts) for task in tasks]

    @there_are_claims
    @rule(which=CLAIMS)
    def complete(self, which: tuple[int, int]) -> None:
        claim = self.claim_of(which)
        row = self.held(claim)
        if self.accepted(row, lambda: self.queues[claim.worker].complete(claim.task)):
            assert row is not None
            row.status = "completed"

    @there_are_claims
    @rule(by=WORKERS, chosen=st.lists(CLAIMS, min_size=1, max_size=4))
    def complete_many(self, by: str, chosen: list[tuple[int, int]]) -> None:
        once = list({claim.task.id: claim for claim in map(self.claim_of, chosen)}.values())
        stale = {claim.task.id for claim in once if self.held(claim) is None}
        refused = set()
        try:
            self.queues[by].complete_many([claim.task for claim in once])
        except LeaseLostError as error:
            refused = {lost.task_id for lost in (error, *error.others)}
        assert refused == stale
        for claim in once:
            if (row := self.held(claim)) is not None:
                row.status = "completed"

    @there_are_claims
    @rule(which=CLAIMS, retry=st.booleans(), delayed=st.booleans())
    def fail(self, which: tuple[int, int], retry: bool, delayed: bool) -> None:
        claim = self.claim_of(which)
        row = self.held(claim)
        delay = 3600 if delayed else 0
        queue = self.queues[claim.worker]
        if self.accepted(row, lambda: queue.fail(claim.task, "x", retry=retry, delay_seconds=delay)):
            assert row is not None
            if retry and row.attempts < row.max_attempts:
                row.again(delayed)
            else:
                row.status = "dead_letter" if retry else "failed"

    @there_are_claims
    @rule(which=CLAIMS, seconds=st.integers(10, 1000))
    def renew(self, which: tuple[int, int], seconds: int) -> None:
        claim = self.claim_of(which)
        before = claim.task.lease_until_utc
        row, queue = self.held(claim), self.queues[claim.worker]
        if self.accepted(row, lambda: queue.renew(claim.task, seconds)):
            now = queue.get(claim.task.id or 0)
            assert now is not None
            assert now.lease_until_utc == claim.task.lease_until_utc
        else:
            assert claim.task.lease_until_utc == before

    @there_are_claims
    @rule(which=CLAIMS)
    def release(self, which: tuple[int, int]) -> None:
        claim = self.claim_of(which)
        self.claims.remove(claim)  # its number will be another one's
        row = self.held(claim)
        if self.accepted(row, lambda: self.queues[claim.worker].release(claim.task)):
            assert row is not None
            row.again()
            row.attempts -= 1

    @there_are_tasks
    @rule(by=WORKERS, number=st.integers(0))
    def cancel(self, by: str, number: int) -> None:
        row = self.row(number)
        can = row.status in ("queued", "processing")
        assert self.queues[by].cancel(row.id) is can
        row.status = "failed" if can else row.status

    @there_are_tasks
    @rule(by=WORKERS, number=st.integers(0))
    def requeue(self, by: str, number: int) -> None:
        row = self.row(number)
        can = row.status in ("failed", "dead_letter")
        assert self.queues[by].requeue(row.id) is can
        if can:
            self.renewed([row])

    @precondition(lambda self: any(row.status in ("failed", "dead_letter") for row in self.rows.values()))
    @rule(
        by=WORKERS, types=WANTED, status=st.sampled_from(["failed", "dead_letter"]), limit=st.none() | st.integers(1, 3)
    )
    def requeue_all(self, by: str, types: Any, status: Any, limit: int | None) -> None:
        wanted = None if types is None else [types] if isinstance(types, str) else types
        ended = [row for row in self.rows.values() if row.status == status and (wanted is None or row.type in wanted)]
        moments = dict(self.queues[by].database.execute("SELECT id, finished_at_utc FROM task_queue").fetchall())
        ended = sorted(ended, key=lambda row: (moments[row.id], row.id))[:limit]
        assert self.queues[by].requeue_all(types, status, limit) == len(ended)
        self.renewed(ended)

    @there_are_claims
    @rule(which=CLAIMS)
    def let_a_lease_run_out(self, which: tuple[int, int]) -> None:
        if (row := self.held(self.claim_of(which))) is not None:
            self.expire(row)

    def expire(self, row: Row) -> None:
        """The lease's end is moved into the past; who is idle brings the task back."""
        queue = self.queues[NAMES[0]]
        queue.database.execute("UPDATE task_queue SET lease_until_utc = ? WHERE id = ?", (PAST, row.id))
        end = time.monotonic() + 20
        while (now := queue.get(row.id)) is not None and now.status == "processing":
            assert queue.claim("idle", types="none") is None
            assert time.monotonic() < end, "the lease never ran out"
        assert now is not None
        assert "Lease expired" in (now.error_message or "")
        if row.attempts < row.max_attempts:
            row.again()
        else:
            row.status = "dead_letter"

    @there_are_tasks
    @rule(by=WORKERS, number=st.integers(0))
    def bring_forward(self, by: str, number: int) -> None:
        row = self.row(number)
        if row.status == "queued":
            self.queues[by].database.execute("UPDATE task_queue SET run_after_utc = ? WHERE id = ?", (PAST, row.id))
            row.delayed = False

    @there_are_tasks
    @rule(by=WORKERS, number=st.integers(0), priority=PRIORITIES)
    def change_priority(self, by: str, number: int, priority: int) -> None:
        row = self.row(number)
        self.queues[by].database.execute("UPDATE task_queue SET priority = ? WHERE id = ?", (priority, row.id))
        row.priority = priority

    @precondition(lambda self: self.looks % 4 == 0)  # opening takes longer than all else
    @rule(who=st.none() | WORKERS)
    def begin_anew(self, who: str | None) -> None:
        """Another connection for one of them, or all: nothing was only in memory."""
        for name in NAMES if who is None else [who]:
            self.queues[name].close()

    # -- what is always so --------------------------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        """All see the same; one after another is asked."""
        self.looks += 1
        found = (
            self.queues[NAMES[self.looks % len(NAMES)]]
            .database.execute(
                "SELECT id, status, attempts, locked_by, lease_until_utc IS NOT NULL, finished_at_utc IS NOT NULL"
                " FROM task_queue ORDER BY id"
            )
            .fetchall()
        )
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
    case.pytestmark = [pytest.mark.timeout(600)]  # to find the shortest way to a failure takes minutes
    return case


if native.load() is not None:
    TestNative = machine("native", EXAMPLES)
TestPython = machine("python", EXAMPLES)
