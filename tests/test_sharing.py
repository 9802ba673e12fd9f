"""One database shared by threads, and one file shared by processes."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from prismq import QueueBusyError, QueueDatabase
from tests.one_table import add, names

SPAWN = multiprocessing.get_context("spawn")


def in_process(target: Callable[..., None], *arguments: Any) -> None:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_each_thread_keeps_exactly_what_its_own_transactions_kept(database):
    """Rollbacks, lone statements and commits of four threads on one object never touch each other's transactions."""

    def work(thread: int) -> list[str]:
        kept = []
        for number in range(60):
            name = f"{thread}-{number}"
            try:
                with database.transaction():
                    add(database, name)
                    if number % 3 == 0:
                        raise RuntimeError
                    add(database, name + "+")
                kept += [name, name + "+"]
            except RuntimeError:
                pass
            if number % 5 == 0:
                add(database, name + " alone")
                database.get_connection().commit()
                kept.append(name + " alone")
            if number % 7 == 0:
                database.get_connection().rollback()
        return kept

    with ThreadPoolExecutor(4) as pool:
        kept = [name for names_ in pool.map(work, range(4)) for name in names_]
    assert sorted(names(database)) == sorted(kept)


def test_results_are_read_before_another_thread_can_change_them(database):
    fill = """WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 500)
              INSERT INTO t (name) SELECT ?1 || '-' || v FROM n"""
    database.execute(fill, (0,))
    stop = threading.Event()

    def rewrite() -> None:
        generation = 0
        while not stop.is_set():
            generation += 1
            with database.transaction():
                database.execute("DELETE FROM t")
                database.execute(fill, (generation,))

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(50):
            cursor = database.execute("SELECT name FROM t")
            time.sleep(0)
            generations = [row["name"].partition("-")[0] for row in cursor]
            assert len(generations) == 500
            assert len(set(generations)) == 1
    finally:
        stop.set()
        thread.join(30)


def test_close_waits_for_another_threads_transaction(database):
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with database.transaction():
            add(database, "a")
            inside.set()
            leave.wait(30)
            add(database, "b")

    with ThreadPoolExecutor(2) as pool:
        working = pool.submit(work)
        inside.wait(30)
        closing = pool.submit(database.close)
        time.sleep(0.05)
        assert not closing.done()
        leave.set()
        working.result(30)
        closing.result(30)
    assert names(database) == ["a", "b"]


def write_rows(path: str, writer: int, start: Any) -> None:
    start.wait(60)
    with QueueDatabase(path) as database:
        database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        for number in range(50):
            with database.transaction():
                add(database, f"{writer}-{number}")


def test_processes_that_open_a_new_file_at_once_all_get_it(tmp_path):
    path, start = tmp_path / "new" / "q.db", SPAWN.Barrier(4)
    processes = [SPAWN.Process(target=write_rows, args=(str(path), writer, start)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0] * 4
    with QueueDatabase(path) as database:
        assert sorted(names(database)) == sorted(f"{writer}-{number}" for writer in range(4) for number in range(50))


def lock_until(path: str, locked: Any, release: Any) -> None:
    with QueueDatabase(path) as database, database.transaction():
        locked.set()
        release.wait(60)


def test_another_processs_write_lock_is_busy_everywhere(database):
    locked, release = SPAWN.Event(), SPAWN.Event()
    holder = SPAWN.Process(target=lock_until, args=(str(database.db_path), locked, release))
    holder.start()
    try:
        assert locked.wait(60)
        database.execute("PRAGMA busy_timeout = 50")
        for use in (
            lambda: add(database, "a"),
            lambda: database.execute_many("INSERT INTO t (name) VALUES (?)", [("a",)]),
            lambda: database.transaction().__enter__(),
        ):
            with pytest.raises(QueueBusyError, match=r"database is locked.*after waiting") as caught:
                use()
            assert isinstance(caught.value, sqlite3.OperationalError)
            assert not database.get_connection().in_transaction
    finally:
        release.set()
        holder.join(60)
    add(database, "b")
    assert names(database) == ["b"]


def die_inside_a_transaction(path: str) -> None:
    database = QueueDatabase(path)
    with database.transaction():
        add(database, "lost")
        os._exit(0)


def test_a_process_that_dies_inside_a_transaction_leaves_nothing_behind(database):
    in_process(die_inside_a_transaction, str(database.db_path))
    add(database, "a")
    assert names(database) == ["a"]
