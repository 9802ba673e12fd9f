"""What colleagues do while a queue is backed up, restored or pruned."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from prismq import Keep, QueueBackup, RetentionPolicy, TaskQueue, prune


def enqueue_until(queue: TaskQueue, flag: str) -> list[int]:
    """Enqueue one after the other until the file `flag` is there; the ids."""
    ids = []
    while not Path(flag).exists():
        ids.append(queue.enqueue("t", {"number": len(ids)}))
    return ids


def backup(queue: TaskQueue, die_half_way: bool = False) -> str:
    backups = QueueBackup(queue.database)
    return str(backups.create_backup(progress=_die if die_half_way else None))


def restore(queue: TaskQueue, path: str, die_half_way: bool = False) -> None:
    QueueBackup(queue.database).restore_backup(path, progress=_die if die_half_way else None)


def prune_all(queue: TaskQueue, export: str) -> None:
    prune(queue.database, RetentionPolicy(completed=Keep(count=0)), export=export)


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
