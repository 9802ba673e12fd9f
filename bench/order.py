"""Whether claims came in the promised order: priority first (smaller is better), then id.

Two checks, both exact:
- while many processes run: a claim is out of order when a better task was passed over, that is one whose enqueue had
  returned before the claim began and which nobody began to claim before the claim had ended. What overlaps in time may
  go either way and is not counted. Only tasks that were never claimed before can be passed over.
- afterwards: one worker drains what is queued, and must get it in exactly the file's order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from bench.accounting import Row
from bench.journal import Operation, Outcome, Records

ARRIVED, TAKEN, CLAIMED = 2, 0, 1
"""Kinds of events; of events at the same moment, the smaller kind goes first."""
Event: TypeAlias = tuple[float, int, int, int, float]
"""Moment, kind, priority, task id, and for CLAIMED the moment the claim began."""
Arrival: TypeAlias = tuple[int, int, float]
"""Priority, task id, moment: heaps hold the best task first."""


def passed_over(records: Records, rows: Iterable[Row]) -> int:
    """Claims for which a better task, free during the whole call, was passed over."""
    done = records[records["outcome"] == Outcome.DONE]
    enqueues = done[done["operation"] == Operation.ENQUEUE]
    claims = done[done["operation"] == Operation.CLAIM]
    first = claims[claims["attempt"] == 1]
    # A worker killed inside its claim leaves no record of it: nobody knows when that task was taken.
    known = set(first["task_id"].tolist()) | {row.id for row in rows if row.attempts == 0}
    events: list[Event] = []
    for priority, task, ended in enqueues[["priority", "task_id", "ended"]].tolist():
        if task in known:
            events.append((ended, ARRIVED, priority, task, ended))
    for task, started in first[["task_id", "started"]].tolist():
        events.append((started, TAKEN, 0, task, started))
    for priority, task, started, ended in claims[["priority", "task_id", "started", "ended"]].tolist():
        events.append((ended, CLAIMED, priority, task, started))
    events.sort()
    return _count(events)


def _count(events: Sequence[Event]) -> int:
    free: list[Arrival] = []
    taken: set[int] = set()
    violations = 0
    for _, kind, priority, task, moment in events:
        if kind == TAKEN:
            taken.add(task)
        elif kind == ARRIVED:
            if task not in taken:
                heapq.heappush(free, (priority, task, moment))
        else:
            violations += _better_was_free(free, taken, (priority, task), moment)
    return violations


def _better_was_free(free: list[Arrival], taken: set[int], claimed: tuple[int, int], began: float) -> bool:
    """Whether the heap of free tasks holds one better than `claimed` that had arrived before the claim began."""
    overlapping = []
    found = False
    while free and free[0][:2] < claimed and not found:
        best = heapq.heappop(free)
        if best[1] in taken:
            continue
        overlapping.append(best)
        found = best[2] < began
    for entry in overlapping:
        heapq.heappush(free, entry)
    return found


def out_of_place(claimed: Sequence[int], expected: Sequence[int]) -> int:
    """How many positions of a drain by one worker differ from the file's order."""
    differing = sum(got != wanted for got, wanted in zip(claimed, expected, strict=False))
    return differing + abs(len(claimed) - len(expected))


def file_order(rows: Iterable[Row]) -> list[int]:
    """Ids of the queued rows, best first."""
    return [row.id for row in sorted(rows, key=lambda row: (row.priority, row.id)) if row.status == "queued"]
