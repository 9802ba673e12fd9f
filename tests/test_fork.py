"""Databases across os.fork(): the child works on its own connection and harms nobody."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prismq.connection import Connection
from prismq.database import QueueDatabase
from prismq.errors import QueueProgrammingError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[QueueDatabase]:
    with QueueDatabase(tmp_path / "q.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        yield database


def add(database: QueueDatabase, name: str) -> None:
    database.execute("INSERT INTO t (name) VALUES (?)", (name,))


def names(database: QueueDatabase) -> list[str]:
    return [row["name"] for row in database.execute("SELECT name FROM t ORDER BY id")]


class Child:
    """A forked process that runs `work` and reports its result or exception."""

    def __init__(self, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # some tests fork beside threads on purpose
            self.pid = os.fork()
        if self.pid == 0:
            try:
                result: tuple[bool, Any] = (True, work())
            except BaseException as error:
                result = (False, error)
            os.write(writer, pickle.dumps(result))
            os._exit(0)
        os.close(writer)
        self._reader = reader

    def result(self) -> Any:
        with open(self._reader, "rb") as pipe:
            succeeded, value = pickle.loads(pipe.read())
        os.waitpid(self.pid, 0)
        if not succeeded:
            raise value
        return value


def in_child(work: Callable[[], Any]) -> Any:
    return Child(work).result()


def test_a_child_gets_a_connection_of_its_own(database):
    mine = database.get_connection()
    add(database, "parent")

    def work() -> bool:
        add(database, "child")
        return database.get_connection() is mine

    assert in_child(work) is False
    assert database.get_connection() is mine
    add(database, "parent again")
    assert names(database) == ["parent", "child", "parent again"]


def test_the_childs_rows_survive_when_the_parent_closes_first(database):
    """What a child commits after the parent has closed must not go to a write-ahead log that the parent deleted."""
    add(database, "parent")
    closed_reader, closed_writer = os.pipe()
    ready_reader, ready_writer = os.pipe()

    def work() -> None:
        add(database, "child 1")
        os.write(ready_writer, b".")
        os.read(closed_reader, 1)
        add(database, "child 2")

    child = Child(work)
    os.read(ready_reader, 1)
    database.close()
    os.write(closed_writer, b".")
    child.result()
    for end in (closed_reader, closed_writer, ready_reader, ready_writer):
        os.close(end)
    assert names(database) == ["parent", "child 1", "child 2"]


def test_an_inherited_connection_is_refused_in_the_child(database):
    connection = database.get_connection()
    hold = connection.hold  # as a driver would keep it

    def use() -> list[str]:
        refused = []
        for attempt in (lambda: connection.execute("SELECT 1"), lambda: hold().__enter__(), lambda: connection.apsw):
            with pytest.raises(QueueProgrammingError, match="forked") as caught:
                attempt()
            refused.append(str(caught.value))
        assert connection.closed
        return refused

    assert len(in_child(use)) == 3
    assert connection.execute("SELECT 1").fetchone()[0] == 1


def test_a_child_that_exits_or_collects_garbage_does_not_close_the_parents_connection(database):
    with database.transaction():
        add(database, "a")

        def work() -> None:
            import gc

            database.__dict__.clear()
            gc.collect()

        in_child(work)
        add(database, "b")
    assert names(database) == ["a", "b"]


def test_a_fork_inside_a_transaction_is_refused_at_the_childs_exit_and_leaves_the_parents_intact(database):
    def leave_the_block() -> None:
        with database.transaction():
            add(database, "a")
            if os.fork() == 0:
                child.append(True)
        if child:
            os._exit(3)

    child: list[bool] = []
    try:
        leave_the_block()
    except QueueProgrammingError as error:
        if child:
            os._exit(7 if "forked" in str(error) else 8)
        raise
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 7
    assert names(database) == ["a"]


def test_a_child_of_an_open_transaction_is_told_to_fork_outside_it(database):
    with database.transaction():
        add(database, "a")

        def work() -> None:
            for again in (database, QueueDatabase(database.db_path)):
                with pytest.raises(QueueProgrammingError, match="fork outside transactions"):
                    again.get_connection()

        in_child(work)
    assert names(database) == ["a"]


def test_an_exception_through_the_block_is_not_masked_in_the_child(database):
    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), database.transaction():
        add(database, "a")
        in_child(work)
    assert names(database) == []


def test_a_fork_waits_for_the_transactions_of_other_threads(database):
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with database.transaction():
            add(database, "thread")
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(30)
    threading.Timer(0.1, leave.set).start()
    assert in_child(lambda: names(database)) == ["thread"]
    thread.join(30)


def test_children_of_a_busy_program_all_work(database):
    """Forks in the middle of other threads' statements leave neither a locked lock nor a half-done SQLite behind."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with database.transaction():
                add(database, "thread")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            in_child(lambda: add(database, "child"))
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert names(database).count("child") == 10
    assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_callbacks_before_close_run_in_the_child_too(database):
    seen: list[int] = []
    database.get_connection().before_close(lambda: seen.append(os.getpid()))
    parent = os.getpid()
    assert in_child(lambda: [pid != parent for pid in seen]) == [True]
    assert seen == []


def test_a_grandchild_works_too(database):
    def work() -> None:
        add(database, "child")
        in_child(lambda: add(database, "grandchild"))

    in_child(work)
    assert names(database) == ["child", "grandchild"]


def test_a_connection_without_a_database_object_is_looked_after_too(tmp_path):
    connection = Connection(tmp_path / "q.db")

    def work() -> None:
        with pytest.raises(QueueProgrammingError, match="forked"):
            connection.execute("SELECT 1")
        Connection(tmp_path / "q.db").execute("SELECT 1")

    in_child(work)
    connection.close()
