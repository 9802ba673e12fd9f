"""Opening: waiting for others, and what is said when it fails."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import apsw
import pytest

from prismq import Settings
from prismq.connection import Connection
from prismq.errors import QueueBusyError

OTHERS_LOCKS = ["BEGIN; SELECT * FROM t", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]


@pytest.mark.parametrize("lock", OTHERS_LOCKS)
def test_opening_waits_for_others_that_lock_a_file_which_is_not_in_wal_mode_yet(tmp_path, lock):
    other = apsw.Connection(str(tmp_path / "q.db"))
    other.execute("CREATE TABLE t (a)")
    other.execute(lock).fetchall()
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(Connection, tmp_path / "q.db")
        time.sleep(0.1)
        assert not opening.done()
        other.execute("ROLLBACK")
        other.close()
        connection = opening.result(timeout=30)
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    connection.close()


@pytest.mark.parametrize("lock", OTHERS_LOCKS)
def test_opening_gives_up_after_the_timeout(tmp_path, lock):
    other = apsw.Connection(str(tmp_path / "q.db"))
    other.execute("CREATE TABLE t (a)")
    other.execute(lock).fetchall()
    with pytest.raises(QueueBusyError, match=r"database is locked.*after waiting"):
        Connection(tmp_path / "q.db", Settings(busy_timeout=200))
    other.close()


def test_a_file_that_can_not_be_opened_is_named(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match=r"missing.*folder exists"):
        Connection(tmp_path / "missing" / "q.db")
