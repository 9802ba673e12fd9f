"""What colleagues do while a queue is backed up, restored or pruned."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prismq import Keep, QueueBackup, QueueDatabase, RetentionPolicy, TaskQueue, prune


def enqueue_until(queue: TaskQueue, flag: str) -> list[int]:
    """Enqueue one after the other until the file `flag` is there; the ids."""
    ids = []
    while not Path(flag).exists():
        ids.append(queue.enqueue("t", {"number": len(ids)}))
    return ids


def work_until(queue: TaskQueue, flag: str, worker: str) -> list[tuple[str, int]]:
    """Enqueue, claim and complete as fast as it can until the file `flag` is there; what was done, in its order."""
    done = []
    while not Path(flag).exists():
        done.append(("enqueue", queue.enqueue("t")))
        task = queue.claim(worker)
        if task is not None:
            done.append(("claim", task.id or 0))
            queue.complete(task)
            done.append(("complete", task.id or 0))
    return done


def holds_a_prefix(queue: TaskQueue, worker: str, done: list[tuple[str, int]]) -> int:
    """How much of what that worker did is in the queue, which must be all of it up to some moment."""
    rows = queue.database.execute("SELECT id, status, locked_by FROM task_queue").fetchall()
    there = {task_id: (status, holder) for task_id, status, holder in rows}
    enough = {"enqueue": (), "claim": ("processing", "completed"), "complete": ("completed",)}
    happened = [
        task_id in there and (what == "enqueue" or (there[task_id][0] in enough[what] and there[task_id][1] == worker))
        for what, task_id in done
    ]
    length = happened.index(False) if False in happened else len(happened)
    assert not any(happened[length:]), (worker, done[length], length, len(done))
    return length


def backup(queue: TaskQueue, die_half_way: bool = False) -> str:
    backups = QueueBackup(queue.database)
    return str(backups.create_backup(progress=_die if die_half_way else None))


def restore(queue: TaskQueue, path: str, die_half_way: bool = False) -> None:
    QueueBackup(queue.database).restore_backup(path, progress=_die if die_half_way else None)


def prune_all(queue: TaskQueue, export: str) -> None:
    prune(queue.database, RetentionPolicy(completed=Keep(count=0)), export=export)


@contextmanager
def commits_counted(database: QueueDatabase) -> Iterator[list[bool]]:
    """One entry for each transaction that writes and commits on the database's connection in the block."""
    commits: list[bool] = []
    raw = database.get_connection().apsw

    def committing() -> bool:
        commits.append(True)
        return False  # go on

    raw.set_commit_hook(committing)
    try:
        yield commits
    finally:
        raw.set_commit_hook(None)


def claim_weighted(queue: TaskQueue) -> str | None:
    task = queue.claim("w", strategy="weighted_random")
    return None if task is None else task.type


def count(queue: TaskQueue) -> int:
    return int(queue.database.execute("SELECT count(*) FROM task_queue").fetchone()[0])


def statuses(queue: TaskQueue) -> dict[str, int]:
    rows = queue.database.execute("SELECT status, count(*) FROM task_queue GROUP BY status")
    return dict(map(tuple, rows))


def _die(done: int, pages: int) -> None:
    if 0 < done < pages:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
