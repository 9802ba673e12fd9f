"""The exceptions: what they are to code written against sqlite3, and what they say."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path

import apsw
import pytest

from prismq import errors
from prismq.errors import (
    InvalidTaskError,
    LeaseLostError,
    QueueBusyError,
    QueueDatabaseError,
    QueueSchemaError,
    UnsupportedEnvironmentError,
    from_apsw,
)


def raised_by(connection: apsw.Connection, sql: str) -> apsw.Error:
    with pytest.raises(apsw.Error) as caught:
        connection.execute(sql).fetchall()
    return caught.value


@pytest.fixture
def connection():
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE CHECK (b <> ''))")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("sql", "standard"),
    [
        ("INSERT INTO t (b) VALUES ('')", sqlite3.IntegrityError),
        ("INSERT INTO t (a) VALUES ('not a number')", sqlite3.IntegrityError),
        ("SELECT * FROM missing", sqlite3.OperationalError),
        ("SELEC 1", sqlite3.OperationalError),
        ("SELECT zeroblob(2000000000)", sqlite3.DataError),
    ],
)
def test_an_sql_error_is_both_ours_and_the_standard_librarys(connection, sql, standard):
    error = from_apsw(raised_by(connection, sql))
    assert isinstance(error, QueueDatabaseError)
    assert isinstance(error, standard)


def test_the_extended_code_is_kept(connection):
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    error = from_apsw(raised_by(connection, "INSERT INTO t VALUES (2, 'x')"))
    assert error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"


def test_busy_is_its_own_error_and_says_how_long_it_waited(tmp_path: Path):
    path = str(tmp_path / "q.db")
    holder, waiter = apsw.Connection(path), apsw.Connection(path)
    holder.execute("BEGIN IMMEDIATE")
    error = from_apsw(raised_by(waiter, "BEGIN IMMEDIATE"), database=path, waited=1.25)
    holder.close()
    waiter.close()
    assert isinstance(error, QueueBusyError)
    assert isinstance(error, sqlite3.OperationalError)
    assert "database is locked" in str(error)
    assert "waiting 1.2 s" in str(error)
    assert path in str(error)


def test_a_read_that_became_a_write_too_late_is_told_to_lock_first(tmp_path: Path):
    path = str(tmp_path / "q.db")
    one, other = apsw.Connection(path), apsw.Connection(path)
    one.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").fetchall()
    one.execute("BEGIN; SELECT * FROM t").fetchall()
    other.execute("INSERT INTO t VALUES (1)")
    error = from_apsw(raised_by(one, "INSERT INTO t VALUES (2)"))
    one.close()
    other.close()
    assert isinstance(error, QueueBusyError)
    assert "transaction()" in str(error)


def test_misuse_of_the_driver_is_a_programming_error(connection):
    with pytest.raises(apsw.BindingsError) as caught:
        connection.execute("SELECT ?, ?", (1,))
    assert isinstance(from_apsw(caught.value), sqlite3.ProgrammingError)


def test_a_long_statement_is_quoted_on_one_short_line(connection):
    sql = "SELECT missing,\n  '" + "x" * 5000 + "'"
    assert len(str(from_apsw(raised_by(connection, sql), statement=sql))) < 400
    assert "\n" not in str(from_apsw(raised_by(connection, sql), statement=sql))


@pytest.mark.parametrize("kind", [QueueBusyError, QueueSchemaError, InvalidTaskError, UnsupportedEnvironmentError])
def test_every_error_is_a_queue_database_error(kind):
    assert issubclass(kind, QueueDatabaseError)


def test_refused_input_is_a_value_error():
    assert issubclass(InvalidTaskError, ValueError)


@pytest.mark.parametrize(
    ("status", "holder", "attempts", "said"),
    [
        ("processing", "w2", 3, "worker 'w2' holds it now as attempt 3"),
        ("processing", "w1", 3, "worker 'w1' itself holds it now as attempt 3"),
        ("completed", "w2", 3, "already completed by worker 'w2'"),
        ("failed", None, None, "cancelled"),
        ("dead_letter", None, 5, "exhausted"),
        ("queued", None, 2, "queued again"),
        (None, None, None, "no longer exists"),
    ],
)
def test_a_lost_lease_says_who_holds_the_task_now(status, holder, attempts, said):
    error = LeaseLostError(7, "w1", 2, status, holder, attempts)
    assert said in str(error)
    assert "worker 'w1' lost its lease on task 7 (attempt 2)" in str(error)


def test_errors_survive_the_way_between_processes(connection):
    lost = pickle.loads(pickle.dumps(LeaseLostError(7, "w1", 2, "processing", "w2", 3)))
    assert (lost.task_id, lost.worker_id, lost.attempt, lost.status) == (7, "w1", 2, "processing")
    assert (lost.holder, lost.holder_attempts) == ("w2", 3)

    error = from_apsw(raised_by(connection, "INSERT INTO t (b) VALUES ('')"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.sqlite_errorcode == error.sqlite_errorcode


def test_every_error_class_says_in_one_sentence_what_it_means():
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, QueueDatabaseError):
            assert value.__doc__, name
