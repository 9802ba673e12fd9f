"""A process that has a queue open may open its file with another copy of SQLite too: the standard library's."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from prismq import QueueBusyError, TaskQueue, native
from prismq.driver import DriverName
from tests import second_sqlite
from tests.colleague import Colleague

HIRE = Callable[..., Colleague]
SECONDS = 1.5 * float(os.environ.get("PRISMQ_TEST_SCALE", "1"))

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="locks belong to the process on macOS, and to the file on Windows"
    ),
    pytest.mark.skipif(native.load() is None, reason="the compiled module is not installed"),
]


@pytest.fixture
def user(hire: HIRE) -> Colleague:
    """A process with the queue open in which the other SQLite is used too."""
    return hire()


@pytest.fixture
def other(hire: HIRE) -> Colleague:
    """Another process with the queue open."""
    return hire()


def beside(path: Path) -> set[str]:
    return {ending for ending in ("-wal", "-shm") if path.with_name(path.name + ending).exists()}


def is_locked(path: Path) -> bool:
    """Whether another process is in a write transaction; this one has not opened the file otherwise."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as onlooker:
        try:
            onlooker.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


# -- nothing is lost --------------------------------------------------------------------------------------------------


def test_nothing_is_lost_while_both_are_at_work(
    user: Colleague, hire: HIRE, open_queue: Callable[..., TaskQueue]
) -> None:
    others = [hire() for _ in range(2)]
    user.begin(second_sqlite.use_both, SECONDS)
    for worker in others:
        worker.begin(second_sqlite.add_and_complete, SECONDS)
    results = [process.result() for process in (user, *others)]
    added = [task for added, _ in results for task in added]
    completed = [task for _, completed in results for task in completed]
    assert all(added for added, _ in results)
    kept = second_sqlite.rows(open_queue())
    assert Counter(added) == Counter(kept.keys())
    assert len(completed) == len(set(completed))
    assert set(completed) == {task for task, status in kept.items() if status == "completed"}


def test_nothing_is_lost_while_every_connection_is_a_short_one(
    hire: HIRE, open_queue: Callable[..., TaskQueue], path: Path, another_program: Callable[..., None]
) -> None:
    users = [hire() for _ in range(2)]
    for user in users:
        user.begin(second_sqlite.use_both_briefly, SECONDS)
    added = [task for user in users for task in user.result()[0]]
    another_program("SELECT count(*) FROM task_queue")
    assert beside(path) == set()  # nobody has kept a lock
    assert Counter(added) == Counter(second_sqlite.rows(open_queue()).keys())


def test_after_one_look_the_others_still_see_everything(user: Colleague, other: Colleague) -> None:
    first = user.run(second_sqlite.add, 3)
    assert user.run(second_sqlite.peek) == 3
    mine, theirs = user.run(second_sqlite.add, 10), other.run(second_sqlite.add, 10)
    for process in (user, other):
        assert sorted(process.run(second_sqlite.rows)) == sorted(first + mine + theirs)
        assert process.run(second_sqlite.peek) == 23


def test_the_first_look_at_a_queue_that_no_other_process_has_open_changes_nothing(
    user: Colleague, path: Path, hire: HIRE
) -> None:
    added = user.run(second_sqlite.add)
    assert user.run(second_sqlite.peek) == 1
    assert beside(path) == {"-wal", "-shm"}
    added += user.run(second_sqlite.add)
    assert sorted(hire().run(second_sqlite.rows)) == added


def test_a_connection_that_is_closed_leaves_the_lock_to_those_that_stay(user: Colleague, other: Colleague) -> None:
    user.run(second_sqlite.add)
    user.run(second_sqlite.close_one_of_two)
    user.run(second_sqlite.peek)
    user.run(second_sqlite.add_to_the_second)
    other.run(second_sqlite.close)
    user.run(second_sqlite.add_to_the_second)
    assert len(other.run(second_sqlite.rows)) == 4


# -- who waits for whom -----------------------------------------------------------------------------------------------


def test_a_write_transaction_of_the_other_is_waited_for(user: Colleague) -> None:
    first, second = user.run(second_sqlite.add_until_the_other_has_written)
    assert sorted(user.run(second_sqlite.rows)) == [first, second]


def test_one_that_does_not_end_is_busy(user: Colleague) -> None:
    with pytest.raises(QueueBusyError, match="locked"):
        user.run(second_sqlite.add_while_the_other_writes)
    user.run(second_sqlite.add)
    assert len(user.run(second_sqlite.rows)) == 1


def test_closing_the_queue_takes_no_lock_from_the_other(user: Colleague, other: Colleague, path: Path) -> None:
    user.run(second_sqlite.connect_and_stay, "BEGIN IMMEDIATE")
    user.run(second_sqlite.run_there, second_sqlite.ADD, "t")
    for _ in range(3):
        user.run(second_sqlite.close)
        assert is_locked(path)
        assert user.run(second_sqlite.rows) == {}
    user.run(second_sqlite.run_there, "COMMIT")
    assert len(other.run(second_sqlite.rows)) == 1


def test_a_reader_keeps_its_snapshot_and_the_wal_when_the_queue_is_closed(
    user: Colleague, other: Colleague, path: Path
) -> None:
    user.run(second_sqlite.add)
    user.run(second_sqlite.connect_and_stay, "BEGIN", "SELECT count(*) FROM task_queue")
    user.run(second_sqlite.close)
    other.run(second_sqlite.add, 5)
    other.run(second_sqlite.close)
    assert beside(path) == {"-wal", "-shm"}
    assert user.run(second_sqlite.run_there, "SELECT count(*) FROM task_queue") == [(1,)]
    user.run(second_sqlite.run_there, "COMMIT")
    user.run(second_sqlite.run_there, second_sqlite.ADD, "t")
    assert len(other.run(second_sqlite.rows)) == 7


# -- the end ----------------------------------------------------------------------------------------------------------


def test_the_wal_goes_with_the_last_connection_whichever_copy_has_it(user: Colleague, path: Path) -> None:
    user.run(second_sqlite.add)
    user.run(second_sqlite.connect_and_stay)
    user.run(second_sqlite.close)
    assert beside(path) == {"-wal", "-shm"}
    user.run(second_sqlite.disconnect)
    assert beside(path) == set()
    user.run(second_sqlite.add)
    user.run(second_sqlite.connect_and_stay)
    user.run(second_sqlite.disconnect)
    assert beside(path) == {"-wal", "-shm"}
    user.run(second_sqlite.close)
    assert beside(path) == set()
    assert user.run(second_sqlite.count_descriptors) == 0
    assert len(user.run(second_sqlite.rows)) == 2


def test_descriptors_are_kept_for_the_others_sake_only_and_used_again(user: Colleague, other: Colleague) -> None:
    user.run(second_sqlite.close)
    other.run(second_sqlite.add)
    kept = []
    for _ in range(4):
        user.run(second_sqlite.add)
        user.run(second_sqlite.close)
        kept.append(user.run(second_sqlite.count_descriptors))
    assert kept == [5] * 4  # the queue's and its housekeeper's of the database, the index's, and what has their locks
    other.dismiss()
    user.run(second_sqlite.add)
    user.run(second_sqlite.close)
    assert user.run(second_sqlite.count_descriptors) == 0


def test_what_is_kept_may_be_closed_by_somebody_else(user: Colleague, other: Colleague, tmp_path: Path) -> None:
    other.run(second_sqlite.add)
    user.run(second_sqlite.close)
    replaced = user.run(second_sqlite.replace_descriptors, str(tmp_path / "log"))
    assert len(replaced) > 2
    user.run(second_sqlite.add)
    user.run(second_sqlite.peek)
    other.run(second_sqlite.close)
    user.run(second_sqlite.add)
    assert len(other.run(second_sqlite.rows)) == 3
    user.run(second_sqlite.close)
    user.run(second_sqlite.fork_and_wait)
    assert user.run(second_sqlite.are_open, replaced)


def test_of_very_many_files_not_every_descriptor_is_kept(user: Colleague) -> None:
    kept, in_the_end = user.run(second_sqlite.open_many_beside_the_other, 40)
    assert kept == 64
    assert in_the_end == 0


def test_a_file_that_took_the_place_of_a_deleted_one_is_another(user: Colleague, path: Path, hire: HIRE) -> None:
    user.run(second_sqlite.add, 2)
    user.run(second_sqlite.connect_and_stay)
    user.run(second_sqlite.close)  # and its descriptors are kept
    for gone in path.parent.glob(path.name + "*"):
        gone.unlink()
    added = hire().run(second_sqlite.add)
    assert sorted(user.run(second_sqlite.rows)) == added
    user.run(second_sqlite.disconnect)
    assert user.run(second_sqlite.peek) == 1


# -- fork -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """Processes to be killed at the end."""
    started: list[int] = []
    yield started
    for process in started:
        os.kill(process, signal.SIGKILL)


def test_a_forked_child_keeps_no_lock_of_a_killed_parent(
    user: Colleague, other: Colleague, path: Path, tmp_path: Path, orphans: list[int]
) -> None:
    flag = tmp_path / "forked"
    user.begin(second_sqlite.fork_in_a_transaction, str(flag))
    deadline = time.monotonic() + 60
    while not (flag.exists() and flag.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    orphans.append(int(flag.read_text()))
    assert is_locked(path)
    user.kill()
    added = other.run(second_sqlite.add)  # raises QueueBusyError if it has to wait for the child
    os.kill(orphans[0], 0)
    assert sorted(other.run(second_sqlite.rows)) == added


def test_a_forked_child_gives_up_no_lock_of_its_parent(user: Colleague, other: Colleague, path: Path) -> None:
    user.run(second_sqlite.add)
    user.run(second_sqlite.fork_and_wait)
    other.run(second_sqlite.add)
    other.run(second_sqlite.close)
    assert beside(path) == {"-wal", "-shm"}
    user.run(second_sqlite.peek)
    user.run(second_sqlite.add)
    assert len(other.run(second_sqlite.rows)) == 3


# -- connections of APSW that are not the queue's ---------------------------------------------------------------------


@pytest.mark.parametrize("order", ["queue, then the other", "the other, then queue"])
@pytest.mark.parametrize("first_to_go", ["queue", "the other"])
def test_a_plain_connection_of_the_same_sqlite_leaves_no_lock_behind(
    path: Path, driver: DriverName, order: str, first_to_go: str, another_program: Callable[..., None]
) -> None:
    """SQLite takes one lock for both, and gives it up by the descriptor of whichever goes last."""
    TaskQueue(path, driver=driver).close()
    opened: dict[str, TaskQueue | apsw.Connection] = {}
    for name in order.split(", then "):
        opened[name] = TaskQueue(path, driver=driver) if name == "queue" else apsw.Connection(str(path))
        for connection in opened.values():
            if isinstance(connection, TaskQueue):
                connection.enqueue("t")
            else:
                connection.execute("SELECT count(*) FROM task_queue").fetchall()
    opened.pop(first_to_go).close()
    assert beside(path) == {"-wal", "-shm"}
    another_program(second_sqlite.ADD, "t")
    assert beside(path) == {"-wal", "-shm"}
    opened.popitem()[1].close()
    assert beside(path) == set()
    another_program("PRAGMA journal_mode = DELETE")  # needs every lock
    assert second_sqlite.descriptors(path) == []


def test_a_lock_that_a_reader_began_can_be_raised_by_a_writer(path: Path, another_program: Callable[..., None]) -> None:
    """In a rollback journal's modes the database itself is locked; a read-only descriptor can't lock it for writing."""
    another_program("CREATE TABLE t (a)")
    native.load()
    with (
        closing(apsw.Connection(str(path), vfs=native.VFS)) as writer,
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as reader,
    ):
        reader.execute("BEGIN").fetchall()
        reader.execute("SELECT * FROM t").fetchall()
        writer.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
        with pytest.raises(apsw.BusyError):
            writer.execute("COMMIT")
        reader.execute("COMMIT")
        writer.execute("COMMIT")
        another_program("INSERT INTO t VALUES (2)")
        assert writer.execute("SELECT count(*) FROM t").get == 2
