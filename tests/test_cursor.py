"""Cursors: complete results, counts, parameters, and what they refuse."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prismq.connection import Connection, Cursor
from prismq.errors import QueueDatabaseError


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    connection = Connection(tmp_path / "q.db")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    yield connection
    connection.close()


def count(connection: Connection) -> int:
    return connection.execute("SELECT count(*) FROM t").fetchone()[0]


def test_a_cursor_fetches_one_some_and_all(connection):
    connection.executemany("INSERT INTO t (name) VALUES (?)", [(letter,) for letter in "abcdef"])
    cursor = connection.execute("SELECT name FROM t ORDER BY id")
    assert cursor.fetchone()["name"] == "a"
    assert [row[0] for row in cursor.fetchmany(2)] == ["b", "c"]
    assert [row[0] for row in cursor.fetchmany()] == ["d"]
    assert [row[0] for row in cursor.fetchall()] == ["e", "f"]
    assert cursor.fetchone() is None
    assert cursor.fetchmany(3) == []


def test_a_cursor_is_iterated_once(connection):
    cursor = connection.execute("SELECT value FROM json_each('[1, 2, 3]')")
    assert [row[0] for row in cursor] == [1, 2, 3]
    assert list(cursor) == []


def test_a_cursor_can_be_used_again(connection):
    cursor = connection.cursor()
    assert isinstance(cursor, Cursor)
    assert cursor.execute("SELECT 1").fetchone()[0] == 1
    assert cursor.execute("SELECT 2").fetchall() == connection.execute("SELECT 2").fetchall()
    cursor.execute("SELECT 3")
    cursor.close()
    assert cursor.fetchone() is None


def test_the_description_names_the_columns_also_without_rows(connection):
    cursor = connection.execute("SELECT id, name AS Title FROM t WHERE 0")
    assert [column[0] for column in cursor.description] == ["id", "Title"]
    assert all(len(column) == 7 for column in cursor.description)
    assert connection.execute("INSERT INTO t (name) VALUES ('a')").description is None


@pytest.mark.parametrize(
    ("sql", "rowcount"),
    [
        ("SELECT * FROM t", -1),
        ("CREATE TABLE other (a)", -1),
        ("INSERT INTO t (name) VALUES ('x'), ('y')", 2),
        ("INSERT OR IGNORE INTO t (id) VALUES (1)", 0),
        ("UPDATE t SET name = name || '!'", 3),
        ("UPDATE t SET name = 'x' WHERE id > 99", 0),
        ("-- why\n delete from t where id < 3", 2),
        ("WITH few AS (SELECT 1 AS id) DELETE FROM t WHERE id IN (SELECT id FROM few)", 1),
        ("REPLACE INTO t (id, name) VALUES (1, 'z')", 1),
        ("UPDATE t SET name = id RETURNING id", 3),
    ],
)
def test_rowcount_counts_changed_rows_and_nothing_else(connection, sql, rowcount):
    connection.executemany("INSERT INTO t (name) VALUES (?)", [("a",), ("b",), ("c",)])
    assert connection.execute(sql).rowcount == rowcount


def test_lastrowid_is_the_inserted_rows(connection):
    cursor = connection.cursor()
    assert cursor.lastrowid is None
    cursor.execute("INSERT INTO t (id) VALUES (41)")
    connection.execute("INSERT INTO t (id) VALUES (42)")
    cursor.execute("UPDATE t SET name = id")
    cursor.execute("SELECT 1")
    assert cursor.lastrowid == 41
    assert connection.execute("SELECT 1").lastrowid is None


def test_lastrowid_and_rowcount_are_each_threads_own(connection):
    start = threading.Barrier(4)

    def insert(thread: int) -> list[tuple[int, int]]:
        start.wait()
        seen = []
        for number in range(150):
            cursor = connection.execute(
                "INSERT INTO t (id, name) VALUES (?1, ?2), (?1 + 1, ?3)",
                (thread * 10_000 + number * 2, f"{thread}-{number}", f"{thread}-{number}+"),
            )
            seen.append((cursor.lastrowid, cursor.rowcount))
        return seen

    with ThreadPoolExecutor(4) as pool:
        for thread, seen in enumerate(pool.map(insert, range(4))):
            assert seen == [(thread * 10_000 + number * 2 + 1, 2) for number in range(150)]


def test_executemany_is_all_or_nothing(connection):
    assert connection.executemany("INSERT INTO t (name) VALUES (?)", iter([("a",), ("b",)])).rowcount == 2
    with pytest.raises(sqlite3.IntegrityError):
        connection.executemany("INSERT INTO t (name) VALUES (?)", [("c",), ("a",)])
    assert count(connection) == 2


def test_executescript_runs_every_statement(connection):
    connection.executescript("INSERT INTO t (name) VALUES ('a'); SELECT 1; INSERT INTO t (name) VALUES ('b');")
    assert count(connection) == 2


def test_execute_refuses_a_second_statement_before_it_runs_the_first(connection):
    with pytest.raises(sqlite3.ProgrammingError, match="executescript"):
        connection.execute("INSERT INTO t (name) VALUES ('a'); DROP TABLE t")
    assert count(connection) == 0


@pytest.mark.parametrize("sql", ["SELECT 7;", "SELECT 7; -- that is all", "/* first */ SELECT 7 /* last */;\n;"])
def test_comments_around_a_statement_are_no_second_statement(connection, sql):
    assert connection.execute(sql).fetchone()[0] == 7


def test_parameters_are_by_position_or_by_name(connection):
    assert tuple(connection.execute("SELECT ?, ?", [1, "b"]).fetchone()) == (1, "b")
    assert tuple(connection.execute("SELECT :a, $b", {"a": 1, "b": b"x"}).fetchone()) == (1, b"x")


def test_a_datetime_is_stored_as_utc_text_that_sorts(connection):
    moment = datetime(2024, 5, 6, 9, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    assert connection.execute("SELECT ?", (moment,)).fetchone()[0] == "2024-05-06 07:08:09.000"


@pytest.mark.parametrize(
    ("sql", "parameters", "standard"),
    [
        ("SELECT ?, ?", (1,), sqlite3.ProgrammingError),
        ("SELECT :a", {"b": 1}, sqlite3.ProgrammingError),
        ("SELECT ?", (object(),), sqlite3.ProgrammingError),
        ("SELECT ?", 5, sqlite3.ProgrammingError),
        ("SELECT 1\0", (), sqlite3.ProgrammingError),
        ("SELECT ?", ("half \ud800",), ValueError),
        ("SELECT 'half \ud800'", (), ValueError),
        ("SELECT CAST(x'ff' AS TEXT)", (), ValueError),
        ("SELECT * FROM missing", (), sqlite3.OperationalError),
    ],
)
def test_a_wrong_call_is_our_error_and_the_standard_librarys(connection, sql, parameters, standard):
    with pytest.raises(QueueDatabaseError) as caught:
        connection.execute(sql, parameters)
    assert isinstance(caught.value, standard)
    assert not isinstance(caught.value, UnicodeError)
    assert connection.execute("SELECT 1").fetchone()[0] == 1


def test_text_with_nul_is_stored_whole(connection):
    assert connection.execute("SELECT ?", ("a\0b",)).fetchone()[0] == "a\0b"
