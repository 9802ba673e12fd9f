"""What processes do that have a queue open and, by the standard library's copy of SQLite, its file once more."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from prismq import QueueDatabase, TaskQueue
from prismq.driver import DriverName

ADD = "INSERT INTO task_queue (type, payload, priority) VALUES (?, '{}', 50) RETURNING id"


def connect(queue: TaskQueue, timeout: float = 60) -> sqlite3.Connection:
    return sqlite3.connect(queue.database.db_path, timeout=timeout, isolation_level=None, check_same_thread=False)


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM task_queue").fetchone()[0])


def peek(queue: TaskQueue) -> int:
    with closing(connect(queue)) as connection:
        return count(connection)


def rows(queue: TaskQueue) -> dict[int, str]:
    """Every task's status; raises for a file that is not sound."""
    assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return dict(tuple(row) for row in queue.database.execute("SELECT id, status FROM task_queue"))


def descriptors(path: Path) -> list[int]:
    """Those this process has of the database, its WAL and its index; not of the file of hints."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")
            if name in (f"{path}", f"{path}-wal", f"{path}-shm"):
                found.append(int(descriptor))
    return found


# -- at the same time -------------------------------------------------------------------------------------------------


def add_and_complete(queue: TaskQueue, seconds: float) -> tuple[list[int], list[int]]:
    """The ids of tasks whose enqueue, and of those whose completion, was acknowledged."""
    added, completed, ends = [], [], time.monotonic() + seconds
    while time.monotonic() < ends:
        added.append(queue.enqueue("t"))
        task = queue.claim("w")
        if task is not None:
            queue.complete(task)
            completed.append(task.id or 0)
    return added, completed


def _open_add_close(queue: TaskQueue, seconds: float, driver: DriverName) -> tuple[list[int], list[int]]:
    added, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        with TaskQueue(queue.database.db_path, driver=driver) as another:
            added.append(another.enqueue("t"))
    return added, []


def _peek_and_add(queue: TaskQueue, seconds: float) -> tuple[list[int], list[int]]:
    added, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        peek(queue)
        with closing(connect(queue)) as connection:
            added.append(connection.execute(ADD, ("t",)).fetchall()[0][0])
    return added, []


def use_both(queue: TaskQueue, seconds: float) -> tuple[list[int], list[int]]:
    """As `add_and_complete`, by threads, one of which opens the file with the other SQLite again and again."""
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(work, queue, seconds) for work in (add_and_complete, _peek_and_add)]
        jobs.append(pool.submit(_open_add_close, queue, seconds, queue.driver_name))
    results = [job.result() for job in jobs]
    return [task for added, _ in results for task in added], [task for _, done in results for task in done]


def use_both_briefly(queue: TaskQueue, seconds: float) -> tuple[list[int], list[int]]:
    """By threads that open the file for a moment only, with either SQLite: now and then each connection is the last."""
    driver = queue.driver_name  # asking for it opens a connection
    queue.close()
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_peek_and_add, queue, seconds), pool.submit(_open_add_close, queue, seconds, driver)]
    return [task for job in jobs for task in job.result()[0]], []


# -- one after the other ----------------------------------------------------------------------------------------------


def add(queue: TaskQueue, number: int = 1) -> list[int]:
    return [queue.enqueue("t") for _ in range(number)]


def close(queue: TaskQueue) -> None:
    queue.close()


def count_descriptors(queue: TaskQueue) -> int:
    return len(descriptors(Path(queue.database.db_path)))


def replace_descriptors(queue: TaskQueue, by: str) -> list[int]:
    """As a program does that becomes a daemon: closes whatever is open, and opens other files."""
    found = descriptors(Path(queue.database.db_path))
    with open(by, "wb") as file:
        for descriptor in found:
            os.dup2(file.fileno(), descriptor)
    with QueueDatabase(f"{by}.db") as another:
        another.execute("CREATE TABLE t (a)")
    return found


def are_open(queue: TaskQueue, descriptors: list[int]) -> bool:
    return all(os.write(descriptor, b".") == 1 for descriptor in descriptors)


_connections: list[sqlite3.Connection] = []


def connect_and_stay(queue: TaskQueue, *statements: str) -> None:
    _connections.append(connect(queue))
    for statement in ("SELECT count(*) FROM task_queue", *statements):
        _connections[0].execute(statement).fetchall()


def run_there(queue: TaskQueue, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """On the connection that stayed."""
    return _connections[0].execute(statement, parameters).fetchall()


def disconnect(queue: TaskQueue) -> None:
    _connections.pop().close()


def add_while_the_other_writes(queue: TaskQueue) -> None:
    """Raises what the queue does, in haste, while the other SQLite of this thread has a write transaction open."""
    with (
        TaskQueue(queue.database.db_path, driver=queue.driver_name, settings={"busy_timeout": 200}) as hasty,
        closing(connect(queue)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        hasty.enqueue("t")


def add_until_the_other_has_written(queue: TaskQueue) -> list[int]:
    with closing(connect(queue)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        first = connection.execute(ADD, ("t",)).fetchall()[0][0]
        ender = threading.Timer(0.3, connection.execute, ("COMMIT",))
        ender.start()
        second = queue.enqueue("t")
        ender.join()
    return [first, second]


def close_one_of_two(queue: TaskQueue) -> None:
    """The connection that locked the file goes, another of the process stays."""
    other = TaskQueue(queue.database.db_path, driver=queue.driver_name)
    other.enqueue("t")
    queue.close()
    _queues.append(other)


_queues: list[TaskQueue] = []


def add_to_the_second(queue: TaskQueue) -> list[int]:
    return add(_queues[0])


# -- fork -------------------------------------------------------------------------------------------------------------


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def fork_in_a_transaction(queue: TaskQueue, flag: str) -> None:
    """Leave the child's id in the file `flag` when there is a child and the write lock is held; never end."""
    with queue.database.transaction():
        queue.enqueue("never committed")
        child = fork(lambda: time.sleep(600))
        Path(flag).write_text(f"{child}\n", encoding="utf-8")
        time.sleep(600)


def fork_and_wait(queue: TaskQueue) -> None:
    os.waitpid(fork(lambda: None), 0)


# -- many files -------------------------------------------------------------------------------------------------------


def open_many_beside_the_other(queue: TaskQueue, number: int) -> tuple[int, int]:
    """How many descriptors are left of closed databases: while the other SQLite has them open, and afterwards."""
    paths = [Path(queue.database.db_path).with_name(f"{n}.db") for n in range(number)]
    others = []
    for path in paths:
        with QueueDatabase(path) as database:
            database.execute("CREATE TABLE t (a)")
            others.append(sqlite3.connect(path))
            others[-1].execute("SELECT count(*) FROM t").fetchall()
    kept = sum(len(descriptors(path)) for path in paths) - 3 * number  # each of the others has three of its own
    for other in others:
        other.close()
    with QueueDatabase(paths[0]) as database:
        database.execute("SELECT count(*) FROM t")
    return kept, sum(len(descriptors(path)) for path in paths)
