"""The table of transitions, the diagram of it, and what the queue really does are the same."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from prismq import LeaseLostError, Task, TaskQueue, lifecycle

DIAGRAM = Path(__file__).parent.parent / "docs" / "lifecycle.md"


def claimed(queue: TaskQueue, task_id: int) -> Task:
    """The task as the worker that took it has it."""
    task = queue.claim("w")
    assert task is not None
    assert task.id == task_id
    return task


def expire(queue: TaskQueue, task: Task) -> None:
    queue.database.execute(
        "UPDATE task_queue SET lease_until_utc = '2001-01-01 00:00:00.000' WHERE id = ? AND status = 'processing'",
        (task.id,),
    )
    end = time.monotonic() + 10
    while (now := queue.get(task.id or 0)) is not None and now.status == "processing":
        queue.claim("nobody", types="nothing")  # an idle worker brings back what has expired
        assert time.monotonic() < end
        time.sleep(0.005)


ACTIONS: dict[str, Callable[[TaskQueue, Task], object]] = {
    "claim": lambda queue, _: queue.claim("another worker"),
    "complete": lambda queue, task: queue.complete(task),
    "renew": lambda queue, task: queue.renew(task, 120),
    "release": lambda queue, task: queue.release(task),
    "fail": lambda queue, task: queue.fail(task, "x", delay_seconds=0),
    "fail without retry": lambda queue, task: queue.fail(task, "x", retry=False),
    "lease expired": expire,
    "cancel": lambda queue, task: queue.cancel(task.id or 0),
    "requeue": lambda queue, task: queue.requeue(task.id or 0),
}


def in_status(queue: TaskQueue, status: str, attempts_left: bool) -> Task:
    """A task as its last worker knows it, in that status."""
    task_id = queue.enqueue("t", max_attempts=2 if attempts_left else 1)
    task = claimed(queue, task_id)
    match status:
        case "queued":
            queue.release(task)
        case "completed":
            queue.complete(task)
        case "failed":
            queue.fail(task, "x", retry=False)
        case "dead_letter":
            queue.database.execute("UPDATE task_queue SET max_attempts = 1 WHERE id = ?", (task_id,))
            queue.fail(task, "x")
    now = queue.get(task_id)
    assert now is not None
    assert now.status == status
    return task


def by(action: str, attempts_left: bool) -> str:
    """How the table calls it."""
    if action in ("fail", "lease expired"):
        return f"{action}, attempts {'left' if attempts_left else 'used up'}"
    return action


@pytest.mark.parametrize("attempts_left", [True, False])
@pytest.mark.parametrize("status", lifecycle.STATUSES)
def test_every_operation_in_every_status_does_what_the_table_says_and_nothing_else(
    queue: TaskQueue, status: lifecycle.Status, attempts_left: bool
) -> None:
    for action, act in ACTIONS.items():
        queue.database.execute("DELETE FROM task_queue")
        task = in_status(queue, status, attempts_left)
        row = queue.database.execute("SELECT * FROM task_queue").fetchone()
        with suppress(LeaseLostError):
            act(queue, task)
        after = queue.database.execute("SELECT * FROM task_queue").fetchone()
        allowed = {
            transition.after
            for transition in lifecycle.TRANSITIONS
            if transition.before == status and transition.by == by(action, attempts_left)
        }
        if allowed:
            assert {after["status"]} == allowed, action
            assert tuple(after) != tuple(row), action
        else:
            assert tuple(after) == tuple(row), f"{action} changed a task in {status}"


def test_a_new_task_is_queued(queue: TaskQueue) -> None:
    now = queue.get(queue.enqueue("t"))
    assert now is not None
    assert [t.after for t in lifecycle.TRANSITIONS if t.before is None] == [now.status]


def test_the_diagram_shows_the_table() -> None:
    shown = re.search(r"```mermaid\n(.*?)\n```", DIAGRAM.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert shown.group(1) == lifecycle.mermaid()


def test_every_status_is_reached_and_only_ends_are_left_by_requeue_alone() -> None:
    reached = {transition.after for transition in lifecycle.TRANSITIONS}
    assert reached == set(lifecycle.STATUSES)
    for status, transition in itertools.product(lifecycle.ENDED, lifecycle.TRANSITIONS):
        if transition.before == status:
            assert transition.by == "requeue"
