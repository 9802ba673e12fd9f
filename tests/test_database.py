"""The database object: where its file may be, and its connection."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prismq import (
    PRAGMAS,
    QueueDatabase,
    QueueDatabaseError,
    QueueOperationalError,
    QueueSchemaError,
    UnsupportedEnvironmentError,
)
from prismq.connection import Connection
from tests.one_table import add, in_thread, names

SPAWN = multiprocessing.get_context("spawn")


def test_nothing_is_opened_before_the_first_use_but_the_folder_is_made(tmp_path):
    database = QueueDatabase(tmp_path / "a" / "b" / "q.db")
    assert database.db_path == tmp_path / "a" / "b" / "q.db"
    assert database.db_path.parent.is_dir()
    assert not database.db_path.exists()


def test_a_path_may_be_text_and_the_default_is_the_variables(tmp_path, monkeypatch):
    assert QueueDatabase(str(tmp_path / "text.db")).db_path == tmp_path / "text.db"
    monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", str(tmp_path / "variable.db"))
    assert QueueDatabase().db_path == tmp_path / "variable.db"


def test_a_relative_path_stays_where_it_was_when_the_folder_changes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with QueueDatabase("q.db") as database:
        monkeypatch.chdir(tmp_path / "elsewhere")
        database.execute("CREATE TABLE t (a)")
    assert (tmp_path / "q.db").exists()


@pytest.mark.parametrize("path", [":memory:", "", "file:q.db?mode=memory", "a\0b", "half \ud800", "."])
def test_what_is_not_the_path_of_a_file_is_refused(path):
    with pytest.raises(QueueDatabaseError, match="path"):
        QueueDatabase(path)


def test_a_folder_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueDatabaseError, match="can't be created"):
        QueueDatabase(tmp_path / "file" / "q.db")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("below", ["", "new/folder/"])
def test_a_folder_that_this_user_may_not_enter_is_told_as_such(tmp_path, below):
    """In a process that gives root's rights up where it has them: root may always."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    script = """
import os, sys
from prismq import QueueDatabase, QueueDatabaseError, native
native.load()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for use in (QueueDatabase, lambda path: QueueDatabase(path).get_connection()):
    try:
        use(sys.argv[1])
    except QueueDatabaseError as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(closed / f"{below}queue.db")], capture_output=True, text=True, timeout=60
    )
    closed.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert "QueueOperationalError" in done.stdout
    assert "queue.db" in done.stdout


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(QueueOperationalError):
        QueueDatabase(tmp_path / ("x" * 300) / "queue.db")
    with pytest.raises(QueueOperationalError):
        QueueDatabase(tmp_path / ("x" * 300 + ".db")).get_connection()


def test_an_unknown_durability_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'normal', 'full'"):
        QueueDatabase(tmp_path / "q.db", durability="extra")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "q.db"
    path.write_text("notes, not a database\n" * 100)
    database = QueueDatabase(path)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        database.get_connection()
    with pytest.raises(QueueDatabaseError):
        database.initialize_schema()
    assert path.read_text() == "notes, not a database\n" * 100


def test_a_read_only_file_is_refused_when_it_is_opened(tmp_path):
    path = tmp_path / "q.db"
    with QueueDatabase(path) as database:
        database.execute("CREATE TABLE t (a)")
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(sqlite3.OperationalError, match=r"read-?only"):
        QueueDatabase(path).get_connection()


def test_a_network_file_system_is_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("prismq.filesystem.network_filesystem", lambda path: "nfs4")
    with pytest.raises(UnsupportedEnvironmentError, match="nfs4"):
        QueueDatabase(tmp_path / "shared" / "q.db")
    assert not (tmp_path / "shared").exists()


def test_the_connection_is_the_same_until_it_is_closed(database):
    first = database.get_connection()
    assert isinstance(first, Connection)
    assert database.get_connection() is first
    assert in_thread(database.get_connection) is first
    database.close()
    second = database.get_connection()
    assert second is not first
    assert database.get_connection() is second


def test_threads_that_open_at_once_get_one_connection(tmp_path):
    start = threading.Barrier(4)
    with QueueDatabase(tmp_path / "q.db") as database, ThreadPoolExecutor(4) as pool:

        def get(_: int) -> Connection:
            start.wait()
            return database.get_connection()

        assert len(set(pool.map(get, range(4)))) == 1


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_every_pragma_reads_back_as_it_was_set(tmp_path, durability, synchronous):
    spelled = {"WAL": "wal", "ON": 1, "MEMORY": 2}
    with QueueDatabase(tmp_path / "q.db", durability=durability) as database:
        for name, value in PRAGMAS.items():
            expected = synchronous if name == "synchronous" else spelled.get(value, value)
            assert database.execute(f"PRAGMA {name}").fetchone()[0] == expected, name


def test_execute_commits_by_itself_and_commit_stays_legal(database):
    add(database, "a")
    database.get_connection().commit()
    with QueueDatabase(database.db_path) as other:
        assert names(other) == ["a"]
        add(other, "b")  # nobody holds the write lock
    assert names(database) == ["a", "b"]


def test_execute_many_is_one_transaction(database):
    database.execute_many("INSERT INTO t (name) VALUES (?)", [("a",), ("b",)])
    with pytest.raises(sqlite3.IntegrityError):
        database.execute_many("INSERT INTO t (name) VALUES (?)", [("c",), ("a",)])
    assert names(database) == ["a", "b"]


def test_connection_is_this_threads_alone_and_no_transaction(database):
    with database.connection() as connection:
        assert connection is database.get_connection()
        assert not connection.in_transaction
        connection.execute("INSERT INTO t (name) VALUES ('a')")
        with QueueDatabase(database.db_path) as other:
            assert names(other) == ["a"]
        waiting = threading.Thread(target=add, args=(database, "b"))
        waiting.start()
        time.sleep(0.05)
        assert names(database) == ["a"]
    waiting.join(30)
    assert names(database) == ["a", "b"]


def test_initialize_schema_can_be_called_again_and_again(tmp_path):
    with QueueDatabase(tmp_path / "q.db") as database:
        database.initialize_schema()
        database.initialize_schema()
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert {"task_queue", "workers", "task_logs"} <= tables


def test_a_schema_that_can_not_be_made_is_a_schema_error(tmp_path):
    with QueueDatabase(tmp_path / "q.db") as database:
        database.execute("CREATE VIEW task_logs AS SELECT 1 AS unrelated")
        with pytest.raises(QueueSchemaError):
            database.initialize_schema()
        assert not database.get_connection().in_transaction
