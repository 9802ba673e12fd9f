"""Transactions of a database object: kept, undone, joined, and lost."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import multiprocessing
import sqlite3

import pytest

from prismq import QueueBusyError, QueueDatabase, QueueDatabaseError, QueueProgrammingError
from tests.one_table import add, in_thread, names

SPAWN = multiprocessing.get_context("spawn")


def test_a_transaction_commits_at_its_end(database):
    with database.transaction() as connection:
        assert connection is database.get_connection()
        connection.execute("INSERT INTO t (name) VALUES ('a')")
        with QueueDatabase(database.db_path) as other:
            assert names(other) == []
    with QueueDatabase(database.db_path) as other:
        assert names(other) == ["a"]


def test_a_transaction_locks_for_writing_at_once(database):
    with database.transaction(), QueueDatabase(database.db_path) as other:
        other.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(QueueBusyError, match="database is locked"), other.transaction():
            pass


def test_any_exception_undoes_the_transaction_and_passes_unchanged(database):
    class Interruption(BaseException):
        pass

    for kind in (RuntimeError, KeyboardInterrupt, Interruption):
        error = kind("mine")
        with pytest.raises(kind) as caught, database.transaction():
            add(database, "a")
            raise error
        assert caught.value is error
        assert not database.get_connection().in_transaction
    assert names(database) == []


def test_a_constraint_violation_reaches_the_caller_as_integrity_error(database):
    add(database, "a")
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        add(database, "b")
        add(database, "a")
    assert names(database) == ["a"]


def test_a_failure_to_commit_undoes_everything_and_is_reported(database):
    database.execute("CREATE TABLE child (t_id REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        database.execute("INSERT INTO child VALUES (99)")
    assert not database.get_connection().in_transaction
    assert database.execute("SELECT count(*) FROM child").fetchone()[0] == 0


def test_an_inner_transaction_joins_the_outer_one(database):
    with database.transaction():
        add(database, "outer")
        with database.transaction():
            add(database, "inner")
        with QueueDatabase(database.db_path) as other:
            assert names(other) == []
    assert names(database) == ["outer", "inner"]


def test_an_exception_through_both_undoes_both(database):
    with pytest.raises(RuntimeError), database.transaction():
        add(database, "outer")
        with database.transaction():
            add(database, "inner")
            raise RuntimeError
    assert names(database) == []


def test_an_inner_failure_that_the_outer_one_catches_undoes_only_the_inner(database):
    with database.transaction():
        add(database, "before")
        with pytest.raises(RuntimeError), database.transaction():
            add(database, "inner")
            with database.transaction():
                add(database, "innermost")
            raise RuntimeError
        add(database, "after")
    assert names(database) == ["before", "after"]


def test_an_inner_transaction_is_undone_with_the_outer_one(database):
    with pytest.raises(RuntimeError), database.transaction():
        with database.transaction():
            add(database, "inner")
        raise RuntimeError
    assert names(database) == []


def test_a_transaction_joins_one_begun_by_hand(database):
    database.execute("BEGIN IMMEDIATE")
    with database.transaction():
        add(database, "a")
    assert database.get_connection().in_transaction
    database.get_connection().rollback()
    assert names(database) == []


def test_the_block_may_end_its_transaction_itself(database):
    with database.transaction() as connection:
        add(database, "kept")
        connection.commit()
    with database.transaction() as connection:
        add(database, "undone")
        connection.rollback()
    assert names(database) == ["kept"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_inner_block_can_not_end_the_outer_transaction(database, end):
    with database.transaction() as connection:
        add(database, "outer")
        with pytest.raises(QueueProgrammingError, match="outer"), database.transaction():
            getattr(connection, end)()
        assert connection.in_transaction
    assert names(database) == ["outer"]


def test_an_automatic_rollback_does_not_mask_its_cause(database):
    add(database, "a")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), database.transaction():
        add(database, "b")
        database.execute("INSERT OR ROLLBACK INTO t (name) VALUES ('a')")
    assert names(database) == ["a"]
    assert in_thread(lambda: names(database)) == ["a"]


def test_a_full_disk_is_reported_as_itself_and_undoes_everything(database):
    database.execute("CREATE TABLE filler (bytes)")
    database.execute("PRAGMA max_page_count = 20")
    with pytest.raises(sqlite3.OperationalError, match="full") as caught, database.transaction():
        add(database, "a")
        for _ in range(10):
            database.execute("INSERT INTO filler VALUES (zeroblob(20000))")
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    assert names(database) == []
    database.execute("PRAGMA max_page_count = 100000")
    with database.transaction():
        add(database, "b")
    assert names(database) == ["b"]


def test_a_block_that_swallows_an_automatic_rollback_can_not_write_on_outside_a_transaction(database):
    add(database, "a")
    with pytest.raises(QueueDatabaseError, match=r"rolled it back.*UNIQUE"), database.transaction():
        with pytest.raises(sqlite3.IntegrityError), database.transaction():
            database.execute("INSERT OR ROLLBACK INTO t (name) VALUES ('a')")
        with pytest.raises(QueueProgrammingError, match=r"leave its block.*UNIQUE"):
            add(database, "b")
    add(database, "c")
    assert names(database) == ["a", "c"]


def test_a_transaction_that_vanished_in_native_code_is_not_reported_as_committed(database):
    with pytest.raises(QueueDatabaseError, match="nothing of this transaction was kept"), database.transaction():
        add(database, "a")
        database.get_connection().apsw.execute("ROLLBACK")
    assert in_thread(lambda: names(database)) == []


def test_closing_inside_a_transaction_undoes_it_and_the_block_says_so(database):
    with pytest.raises(QueueProgrammingError, match="is closed"), database.transaction():
        add(database, "a")
        database.close()
    assert names(database) == []
