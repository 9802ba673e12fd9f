"""The shared connection: transactions by hand, what threads see of each other, closing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq.connection import Connection
from prismq.errors import QueueBusyError, QueueDatabaseError, QueueProgrammingError
from prismq.settings import Settings


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    connection = Connection(tmp_path / "q.db")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    yield connection
    connection.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Connection]:
    connection = Connection(tmp_path / "impatient.db", Settings(busy_timeout=100))
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    yield connection
    connection.close()


def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=30)


def count(connection: Connection) -> int:
    return connection.execute("SELECT count(*) FROM t").fetchone()[0]


def test_a_statement_outside_a_transaction_commits_by_itself(connection):
    connection.execute("INSERT INTO t (name) VALUES ('a')")
    assert not connection.in_transaction
    other = Connection(connection.path)
    assert count(other) == 1
    with other.transaction():
        other.execute("INSERT INTO t (name) VALUES ('b')")
    other.close()


def test_commit_and_rollback_do_nothing_outside_a_transaction(connection):
    connection.commit()
    connection.rollback()
    connection.execute("INSERT INTO t (name) VALUES ('a')")
    connection.rollback()
    assert count(connection) == 1


def test_a_transaction_by_hand_ends_with_commit_or_rollback(connection):
    for end, rows in ((connection.rollback, 0), (connection.commit, 1)):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t (name) VALUES ('a')")
        assert connection.in_transaction
        end()
        assert not connection.in_transaction
        assert count(connection) == rows


def test_a_read_leaves_no_reader_behind(connection):
    connection.executemany("INSERT INTO t (name) VALUES (?)", [(str(number),) for number in range(100)])
    connection.execute("SELECT * FROM t").fetchone()
    other = Connection(connection.path)
    busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    assert busy == 0


def test_total_changes_counts(connection):
    before = connection.total_changes
    connection.execute("INSERT INTO t (name) VALUES ('a'), ('b')")
    assert connection.total_changes - before == 2


def test_other_threads_wait_for_a_transaction_by_hand_and_never_join_it(connection):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t (name) VALUES ('mine')")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(connection.execute, "INSERT INTO t (name) VALUES ('theirs')")
        time.sleep(0.05)
        assert not other.done()
        connection.rollback()
        other.result(timeout=30)
    assert [row[0] for row in connection.execute("SELECT name FROM t")] == ["theirs"]


def test_another_threads_commit_or_rollback_does_not_touch_this_threads_transaction(connection):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t (name) VALUES ('mine')")
    in_thread(connection.rollback)
    in_thread(connection.commit)
    assert in_thread(lambda: connection.in_transaction) is False
    assert connection.in_transaction
    connection.commit()
    assert count(connection) == 1


def test_waiting_for_another_threads_transaction_ends_in_busy_that_says_how_long(impatient):
    impatient.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueBusyError, match=r"waited 0\.1 s"):
        in_thread(lambda: impatient.execute("SELECT 1"))
    with pytest.raises(sqlite3.OperationalError):
        in_thread(lambda: impatient.hold().__enter__())
    impatient.commit()
    assert in_thread(lambda: impatient.execute("SELECT 1").fetchone()[0]) == 1


def test_a_failed_statement_by_hand_lets_go_when_sqlite_rolled_back(impatient):
    impatient.execute("INSERT INTO t (id) VALUES (1)")
    impatient.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.IntegrityError):
        impatient.execute("INSERT OR ROLLBACK INTO t (id) VALUES (1)")
    assert not impatient.in_transaction
    assert in_thread(lambda: count(impatient)) == 1


def test_a_failure_in_native_code_by_hand_lets_go_too(impatient):
    impatient.execute("BEGIN IMMEDIATE")
    with impatient.hold():
        impatient.apsw.execute("ROLLBACK")
        impatient.note_failure(QueueDatabaseError("the disk is full"))
    assert in_thread(lambda: count(impatient)) == 0


def test_hold_makes_the_connection_one_threads_own_and_is_reentrant(impatient):
    with impatient.hold(), impatient.hold():
        assert impatient.execute("SELECT 1").fetchone()[0] == 1
        with pytest.raises(QueueBusyError):
            in_thread(lambda: impatient.execute("SELECT 1"))
    assert in_thread(lambda: impatient.execute("SELECT 1").fetchone()[0]) == 1


def test_a_closed_connection_says_so(connection):
    connection.close()
    connection.close()
    assert connection.closed
    for use in (
        lambda: connection.execute("SELECT 1"),
        lambda: connection.executemany("SELECT ?", [(1,)]),
        lambda: connection.executescript("SELECT 1"),
        lambda: connection.apsw,
        lambda: connection.hold().__enter__(),
        connection.commit,
    ):
        with pytest.raises(QueueProgrammingError, match="is closed"):
            use()


def test_callbacks_run_before_sqlite_closes(connection):
    seen = []
    connection.before_close(lambda: seen.append(connection.apsw.execute("SELECT 5").fetchone()))
    connection.close()
    assert seen == [(5,)]


def test_closing_rolls_back_what_is_open(connection):
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t (name) VALUES ('a')")
    connection.close()
    again = Connection(connection.path)
    assert count(again) == 0
    again.close()


def test_a_forgotten_connection_closes_itself_with_its_callbacks(tmp_path):
    seen = []
    connection = Connection(tmp_path / "forgotten.db")
    connection.before_close(lambda: seen.append("closed"))
    del connection
    assert seen == ["closed"]


def test_the_raw_connection_is_usable(connection):
    assert isinstance(connection.apsw, apsw.Connection)
    assert connection.apsw.execute("SELECT 5").fetchall() == [(5,)]
