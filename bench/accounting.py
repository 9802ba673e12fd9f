"""Where every task went: what the processes were told, held against what the file says.

- lost: an id acknowledged to a producer that the file doesn't have; a claim or a completion acknowledged to a worker
  that the file doesn't show.
- duplicated: an id acknowledged twice; one attempt handed out twice; a completion accepted twice; a task handed out
  again after it was completed, or while the lease of its last claim still ran.
- reclaimed: claims that followed a lost lease. Such a task was begun twice; that is what a lease is for.
- retried: claims that followed a failure that was acknowledged.
- unasked: rows that no producer was given the id of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.journal import Operation, Outcome, Records

LEASE_TOLERANCE_SECONDS = 0.005
"""Leases are kept in whole milliseconds of the wall clock, calls are timed on the monotonic one."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the file says about one task."""

    id: int
    priority: int
    status: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of tasks; the lists hold ids."""

    produced: int
    completed: int
    queued: int
    processing: int
    failed: int
    reclaimed: int
    retried: int
    refused: int
    lost: list[int]
    duplicated: list[int]
    unasked: list[int]

    @property
    def present(self) -> int:
        """Tasks that the file has, in any state."""
        return self.completed + self.queued + self.processing + self.failed

    @property
    def balanced(self) -> bool:
        """True when every task is where it belongs, once."""
        return self.produced == self.present and not (self.lost or self.duplicated or self.unasked)


def account(records: Records, rows: Iterable[Row], lease_seconds: float) -> Account:
    """Hold the journals against the rows of the file."""
    table = {row.id: row for row in rows}
    done = records[records["outcome"] == Outcome.DONE]
    produced = done["task_id"][done["operation"] == Operation.ENQUEUE]
    claims = done[done["operation"] == Operation.CLAIM]
    claims = claims[np.lexsort((claims["started"], claims["attempt"], claims["task_id"]))]
    completions = done[done["operation"] == Operation.COMPLETE]
    statuses = [row.status for row in table.values()]
    failures = done[done["operation"] == Operation.FAIL]
    again, retried, overlapping = _claimed_again(claims, failures, lease_seconds)
    lost = {
        *(set(produced.tolist()) - table.keys()),
        *(task for task, attempt in claims[["task_id", "attempt"]].tolist() if not _shows(table, task, attempt)),
        *(task for task in completions["task_id"].tolist() if not _shows(table, task, 1, "completed")),
    }
    duplicated = _repeated(produced) | _repeated(completions["task_id"]) | overlapping | _revived(claims, completions)
    return Account(
        produced=len(produced),
        completed=statuses.count("completed"),
        queued=statuses.count("queued"),
        processing=statuses.count("processing"),
        failed=statuses.count("failed") + statuses.count("dead_letter"),
        reclaimed=again,
        retried=retried,
        refused=int(np.count_nonzero(records["outcome"] == Outcome.REFUSED)),
        lost=sorted(lost),
        duplicated=sorted(duplicated),
        unasked=sorted(table.keys() - set(produced.tolist())),
    )


def _shows(table: Mapping[int, Row], task: int, attempts: int, status: str | None = None) -> bool:
    """Whether the file has the task with at least so many attempts, and in that status."""
    row = table.get(task)
    return row is not None and row.attempts >= attempts and status in (None, row.status)


def _repeated(ids: Records) -> set[int]:
    values, counts = np.unique(ids, return_counts=True)
    return set(values[counts > 1].tolist())


def _claimed_again(claims: Records, failures: Records, lease_seconds: float) -> tuple[int, int, set[int]]:
    """Of the claims, by task and attempt: how many followed a lost lease, and how many a failure; the tasks whose
    lease still ran."""
    failed = set(failures[["task_id", "attempt"]].tolist())
    before, after = claims[:-1], claims[1:]
    again = before["task_id"] == after["task_id"]
    running = after["ended"] < before["started"] + lease_seconds - LEASE_TOLERANCE_SECONDS
    given_up = np.array([pair in failed for pair in before[["task_id", "attempt"]].tolist()], bool)
    wrong = again & ((running & ~given_up) | (before["attempt"] == after["attempt"]))
    retried = again & ~wrong & given_up
    reclaimed = again & ~wrong & ~given_up
    return int(np.count_nonzero(reclaimed)), int(np.count_nonzero(retried)), set(after["task_id"][wrong].tolist())


def _revived(claims: Records, completions: Records) -> set[int]:
    """Tasks of which a claim began after their completion had been acknowledged."""
    order = np.argsort(completions["task_id"], kind="stable")
    finished = completions[order]
    if not len(finished):
        return set()
    place = np.searchsorted(finished["task_id"], claims["task_id"]).clip(max=len(finished) - 1)
    known = finished["task_id"][place] == claims["task_id"]
    late = known & (claims["started"] > finished["ended"][place])
    return set(claims["task_id"][late].tolist())
