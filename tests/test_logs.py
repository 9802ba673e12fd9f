"""What is logged is there: at once, or when the buffer was flushed; nothing is lost without being counted."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import (
    InvalidTaskError,
    QueueDatabase,
    QueueIntegrityError,
    QueueLogger,
    QueueProgrammingError,
    TaskLogger,
    TaskQueue,
    clock,
)
from prismq.logs import DELETE_CHUNK
from tests import operation
from tests.colleague import Colleague, add_at_once
from tests.one_table import undone

OPEN = Callable[..., TaskQueue]


@pytest.fixture
def database(path: Path) -> Iterator[QueueDatabase]:
    """A queue with five tasks, ids 1 to 5."""
    with QueueDatabase(path) as database:
        database.initialize_schema()
        for _ in range(5):
            database.execute("INSERT INTO task_queue (type, payload) VALUES ('t', '{}')")
        yield database


@pytest.fixture
def logger(database: QueueDatabase) -> TaskLogger:
    return TaskLogger(database)


@pytest.fixture
def buffered(database: QueueDatabase) -> Iterator[TaskLogger]:
    logger = TaskLogger(database, buffered=True, flush_seconds=0.05)
    yield logger
    logger.close()


def messages(database: QueueDatabase) -> list[str]:
    return [row[0] for row in database.execute("SELECT message FROM task_logs ORDER BY log_id")]


# One entry


def test_an_entry_holds_what_was_logged(logger: TaskLogger) -> None:
    before = datetime.now(UTC)
    logger.log(1, "info", "begun", {"worker": "w1", "n": 3})
    (entry,) = logger.get_task_logs(1)
    assert (entry.log_id, entry.task_id, entry.level, entry.message) == (1, 1, "INFO", "begun")
    assert json.loads(entry.details or "") == {"worker": "w1", "n": 3}
    assert entry.at_utc is not None
    assert before - timedelta(milliseconds=1) <= entry.at_utc <= datetime.now(UTC)
    logger.log(1, "ERROR", "no details")
    assert logger.get_task_logs(1)[0].details is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [("debug", "DEBUG"), ("Warning", "WARNING"), ("CRITICAL", "CRITICAL"), ("loud", "INFO"), ("", "INFO")],
)
def test_levels_are_in_capitals_and_unknown_ones_are_info(logger: TaskLogger, given: str, kept: str) -> None:
    logger.log(1, given, "m")
    assert logger.get_recent_logs()[0].level == kept


def test_details_that_are_no_json_say_so(logger: TaskLogger) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    for details in ({"what": object()}, loop, {"share": float("nan")}):
        logger.log(1, "INFO", "m", details)
        kept = json.loads(logger.get_task_logs(1)[0].details or "")
        assert kept["error"].startswith("Failed to serialize details: ")


def test_what_can_not_be_stored_in_a_message_is_replaced(logger: TaskLogger) -> None:
    logger.log(1, "INFO", "half \ud800 and nul \0")
    assert (logger.get_task_logs(1)[0].message or "").startswith("half ?")


def test_the_newest_come_first_and_equal_times_by_id(logger: TaskLogger, database: QueueDatabase) -> None:
    moment = clock.now()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: moment)
        for number in range(20):
            logger.log(1 + number % 2, "INFO", str(number))
    logger.log(2, "ERROR", "20")
    old = "INSERT INTO task_logs (task_id, at_utc, level, message) VALUES (1, '2020-01-01', 'INFO', 'old')"
    database.execute(old)
    assert [entry.message for entry in logger.get_recent_logs()] == [str(n) for n in range(20, -1, -1)] + ["old"]
    assert [entry.message for entry in logger.get_task_logs(2)] == [str(n) for n in (20, *range(19, 0, -2))]
    assert [entry.message for entry in logger.get_recent_logs(limit=2)] == ["20", "19"]
    assert [entry.message for entry in logger.get_task_logs(1, limit=1)] == ["18"]
    assert [entry.message for entry in logger.get_task_logs(2, level="error")] == ["20"]
    assert [entry.message for entry in logger.get_recent_logs(5, level="ERROR")] == ["20"]
    assert logger.get_task_logs(5) == []


def test_old_entries_are_deleted_in_short_transactions(logger: TaskLogger, database: QueueDatabase) -> None:
    database.execute(
        """WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 2500)
           INSERT INTO task_logs (task_id, at_utc, level, message)
           SELECT 1, datetime('now', '-31 days'), 'INFO', 'old' FROM n"""
    )
    logger.log(1, "INFO", "new")
    assert logger.delete_old_logs(days=32) == 0
    with operation.commits_counted(database) as commits:
        assert logger.delete_old_logs() == 2500
    assert len(commits) >= 2500 / DELETE_CHUNK
    assert messages(database) == ["new"]
    time.sleep(0.01)
    assert logger.delete_old_logs(days=0) == 1
    assert messages(database) == []


def test_wrong_arguments_are_refused_before_anything_is_written(logger: TaskLogger, database: QueueDatabase) -> None:
    wrong: list[Callable[[], object]] = [
        lambda: logger.log("1", "INFO", "m"),  # type: ignore[arg-type]
        lambda: logger.get_task_logs(1, limit=0),
        lambda: logger.get_recent_logs(limit=-1),
        lambda: logger.delete_old_logs(days=-1),
        lambda: TaskLogger(database, buffered=True, capacity=0),
    ]
    for call in wrong:
        with pytest.raises(InvalidTaskError):
            call()
    with pytest.raises(QueueIntegrityError):
        logger.log(99, "INFO", "there is no such task")
    assert messages(database) == []


def test_a_task_that_was_logged_can_be_deleted(logger: TaskLogger, database: QueueDatabase) -> None:
    for task_id in (1, 1, 2):
        logger.log(task_id, "INFO", str(task_id))
    database.execute("DELETE FROM task_queue WHERE id = 1")
    assert messages(database) == ["2"]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []


# Transactions


def test_every_write_is_committed_when_it_returns(
    logger: TaskLogger, database: QueueDatabase, hire: Callable[..., Colleague], path: Path
) -> None:
    other = hire()
    logger.log(1, "INFO", "kept")
    assert not database.get_connection().in_transaction
    assert other.run(add_at_once) > 5
    logger.delete_old_logs(1)
    assert other.run(add_at_once) > 5
    with database.transaction():  # can begin
        pass
    database.close()
    foreign = apsw.Connection(str(path))
    assert foreign.execute("SELECT message FROM task_logs").fetchall() == [("kept",)]
    foreign.close()


def test_an_entry_in_a_transaction_goes_with_it(logger: TaskLogger, database: QueueDatabase) -> None:
    with pytest.raises(RuntimeError):
        undone(database, lambda: logger.log(1, "INFO", "never was"))
    with database.transaction():
        logger.log(1, "INFO", "kept")
        with pytest.raises(QueueIntegrityError):
            logger.log(99, "INFO", "no such task")
    assert messages(database) == ["kept"]


@pytest.mark.parametrize("in_buffer", [False, True])
def test_threads_log_while_others_run_transactions(database: QueueDatabase, in_buffer: bool) -> None:
    """On one shared database nothing is lost, and nothing is rolled back by somebody else."""
    logger = TaskLogger(database, buffered=in_buffer)
    database.execute("CREATE TABLE kept (name TEXT)")

    def log(thread: int) -> list[str]:
        said = [f"{thread}-{number}" for number in range(60)]
        for text in said:
            logger.log(1, "INFO", text)
        return said

    def transact(thread: int) -> list[str]:
        kept = []
        for number in range(60):
            try:
                with database.transaction():
                    database.execute("INSERT INTO kept VALUES (?)", (f"{thread}-{number}",))
                    if number % 3 == 0:
                        raise RuntimeError
                kept.append(f"{thread}-{number}")
            except RuntimeError:
                pass
        return kept

    with ThreadPoolExecutor(6) as pool:
        logs, transactions = pool.map(log, range(3)), pool.map(transact, range(3))
        said, kept = list(chain(*logs)), list(chain(*transactions))
    assert logger.flush(30)
    logger.close()
    assert sorted(messages(database)) == sorted(said)
    assert sorted(row[0] for row in database.execute("SELECT name FROM kept")) == sorted(kept)
    assert logger.dropped == 0


# The buffer


def test_buffered_entries_are_there_soon_and_in_order(buffered: TaskLogger, database: QueueDatabase) -> None:
    for number in range(1200):
        buffered.log(1 + number % 5, "INFO", str(number))
    assert buffered.flush()
    assert messages(database) == [str(number) for number in range(1200)]
    buffered.log(1, "INFO", "nobody flushes this")
    deadline = time.monotonic() + 30
    while len(messages(database)) < 1201:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert buffered.dropped == 0


def test_buffered_entries_have_the_time_when_they_were_logged(database: QueueDatabase) -> None:
    logger = TaskLogger(database, buffered=True, flush_seconds=60)
    logger.log(1, "INFO", "first")
    time.sleep(0.05)
    logger.log(1, "INFO", "second")
    logger.close()
    second, first = logger.get_task_logs(1)
    assert first.at_utc is not None
    assert second.at_utc is not None
    assert second.at_utc - first.at_utc >= timedelta(milliseconds=45)


def test_an_entry_for_no_task_does_not_take_its_batch_along(
    buffered: TaskLogger, database: QueueDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "prismq"):
        for task_id in (1, 99, 2, 98, 3):
            buffered.log(task_id, "INFO", str(task_id))
        assert buffered.flush()
    assert messages(database) == ["1", "2", "3"]
    assert buffered.dropped == 2
    assert "there is no task 99" in caplog.text


def test_a_full_buffer_drops_and_counts(database: QueueDatabase, caplog: pytest.LogCaptureFixture) -> None:
    logger = TaskLogger(database, buffered=True, capacity=10, flush_seconds=0.01)
    foreign = apsw.Connection(str(database.db_path))
    foreign.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING, "prismq"):
        for number in range(50):
            logger.log(1, "INFO", str(number))
            time.sleep(0.001)
    assert not logger.flush(0.05)
    foreign.execute("ROLLBACK")
    foreign.close()
    assert logger.flush(30)
    logger.close()
    kept = messages(database)
    assert 10 <= len(kept) < 50
    assert logger.dropped == 50 - len(kept)
    assert kept == sorted(kept, key=int)
    assert "the buffer is full" in caplog.text


def test_closing_writes_what_is_left_and_then_refuses(database: QueueDatabase) -> None:
    logger = TaskLogger(database, buffered=True, flush_seconds=60)
    for number in range(700):
        logger.log(1, "INFO", str(number))
    logger.close()
    logger.close()
    assert len(messages(database)) == 700
    with pytest.raises(QueueProgrammingError, match="closed"):
        logger.log(1, "INFO", "late")
    assert not any(thread.name == "prismq-task-log" for thread in threading.enumerate())


def test_what_can_not_be_written_before_the_end_is_counted(database: QueueDatabase) -> None:
    logger = TaskLogger(database, buffered=True, flush_seconds=60)
    for number in range(7):
        logger.log(1, "INFO", str(number))
    database.execute("ALTER TABLE task_logs RENAME TO elsewhere")
    logger.close(timeout=0.2)
    assert logger.dropped == 7


def test_flushing_inside_a_transaction_would_wait_for_itself(buffered: TaskLogger, database: QueueDatabase) -> None:
    with database.transaction():
        buffered.log(1, "INFO", "m")
        with pytest.raises(QueueProgrammingError, match="after it"):
            buffered.flush()
    assert buffered.flush()
    assert messages(database) == ["m"]


@pytest.mark.parametrize("ending", ["", "del logger"])
def test_a_program_that_ends_loses_nothing(database: QueueDatabase, path: Path, ending: str) -> None:
    database.close()
    script = f"""
import sys
from prismq import QueueDatabase, TaskLogger
logger = TaskLogger(QueueDatabase(sys.argv[1]), buffered=True, flush_seconds=60)
for number in range(300):
    logger.log(1, "INFO", str(number))
{ending}
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    assert len(messages(database)) == 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_logs_for_itself(buffered: TaskLogger, database: QueueDatabase) -> None:
    buffered.log(1, "INFO", "parent")
    child = os.fork()
    if child == 0:
        try:
            buffered.log(2, "INFO", "child")
            os._exit(0 if buffered.flush(20) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert buffered.flush()
    assert sorted(messages(database)) == ["child", "parent"]


# The application's log


@pytest.fixture
def both(database: QueueDatabase) -> QueueLogger:
    return QueueLogger(database)


def test_an_event_is_in_both_logs(both: QueueLogger, caplog: pytest.LogCaptureFixture) -> None:
    assert both.app_logger.name == "prismq.queue"
    with caplog.at_level(logging.DEBUG, "prismq.queue"):
        both.log_task_event(1, "warning", "slow", {"ms": 5})
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "Task 1: slow")
    assert (record.__dict__["task_id"], record.__dict__["details"]) == (1, {"ms": 5})
    (entry,) = both.task_logger.get_task_logs(1)
    assert (entry.level, entry.message, json.loads(entry.details or "")) == ("WARNING", "slow", {"ms": 5})


@pytest.mark.parametrize(
    ("status", "level"), [("failed", "ERROR"), ("dead_letter", "ERROR"), ("completed", "INFO"), ("processing", "DEBUG")]
)
def test_transitions(both: QueueLogger, caplog: pytest.LogCaptureFixture, status: str, level: str) -> None:
    with caplog.at_level(logging.DEBUG, "prismq.queue"):
        both.log_task_transition(1, "queued", status, {"worker": "w"})
    (entry,) = both.task_logger.get_task_logs(1)
    assert (entry.level, entry.message) == (level, f"Status transition: queued → {status}")
    assert json.loads(entry.details or "") == {"from_status": "queued", "to_status": status, "worker": "w"}
    assert caplog.records[0].levelname == level


def test_errors_and_retries(both: QueueLogger) -> None:
    both.log_task_error(1, ValueError("bad input"), {"line": 3})
    moment = datetime(2030, 1, 31, 13, 45, tzinfo=UTC)
    both.log_task_retry(1, 2, 5, moment, {"why": "timeout"})
    both.log_task_retry(1, 3, 5, None)
    last, retry, error = both.task_logger.get_task_logs(1)
    assert (error.level, error.message) == ("ERROR", "Task error: ValueError: bad input")
    assert json.loads(error.details or "") == {"error_type": "ValueError", "error_message": "bad input", "line": 3}
    assert (retry.level, retry.message) == ("WARNING", "Retry scheduled: attempt 2/5")
    assert json.loads(retry.details or "") == {
        "attempt": 2,
        "max_attempts": 5,
        "next_run_after": "2030-01-31T13:45:00+00:00",
        "why": "timeout",
    }
    assert json.loads(last.details or "")["next_run_after"] is None


@pytest.mark.parametrize("details", [["a", 1], ("a", 1), "text", 7, [("key", "value")]])
def test_details_may_be_anything(both: QueueLogger, caplog: pytest.LogCaptureFixture, details: Any) -> None:
    with caplog.at_level(logging.DEBUG, "prismq.queue"):
        both.log_task_event(1, "INFO", "m", details)
        both.log_task_transition(1, "queued", "processing", details)
        both.log_task_error(1, ValueError("bad"), details)
        both.log_task_retry(1, 2, 5, None, details)
    assert caplog.records[0].__dict__["details"] == details
    *others, event = both.task_logger.get_task_logs(1)
    kept = json.loads(json.dumps(details))
    assert json.loads(event.details or "") == kept
    assert [json.loads(entry.details or "")["details"] for entry in others] == [kept] * 3


def test_a_failure_of_the_database_is_logged_and_not_raised(
    database: QueueDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    logger = QueueLogger(database, logging.getLogger("app"))
    with caplog.at_level(logging.INFO, "app"):
        logger.log_task_event(99, "INFO", "hello")
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "was not written" in caplog.text
    assert "Task 99: hello" in caplog.text
    assert not database.get_connection().in_transaction


def test_the_buffered_logger_serves_it_too(buffered: TaskLogger, database: QueueDatabase) -> None:
    logger = QueueLogger(database, task_logger=buffered)
    logger.log_task_event(1, "INFO", "m")
    assert logger.task_logger.flush()
    assert messages(database) == ["m"]
