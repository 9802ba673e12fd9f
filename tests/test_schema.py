"""The tables, indexes and views, and how a database gets them: new, upgraded, or refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    SCHEMA_STATEMENTS,
    LeaseLostError,
    QueueDatabase,
    QueueMetrics,
    QueueSchemaError,
    Task,
    TaskLog,
    TaskQueue,
    rollup,
)
from prismq.schema import VERSION

SPAWN = multiprocessing.get_context("spawn")
OPEN = Callable[..., TaskQueue]

TASK_COLUMNS = {
    # name: (type, NOT NULL, primary key, generated)
    "id": ("INTEGER", 0, 1, False),
    "type": ("TEXT", 1, 0, False),
    "priority": ("INTEGER", 1, 0, False),
    "payload": ("TEXT", 1, 0, False),
    "compatibility": ("TEXT", 1, 0, False),
    "status": ("TEXT", 1, 0, False),
    "attempts": ("INTEGER", 1, 0, False),
    "max_attempts": ("INTEGER", 1, 0, False),
    "run_after_utc": ("DATETIME", 1, 0, False),
    "lease_until_utc": ("DATETIME", 0, 0, False),
    "reserved_at_utc": ("DATETIME", 0, 0, False),
    "processing_started_utc": ("DATETIME", 0, 0, False),
    "finished_at_utc": ("DATETIME", 0, 0, False),
    "locked_by": ("TEXT", 0, 0, False),
    "error_message": ("TEXT", 0, 0, False),
    "idempotency_key": ("TEXT", 0, 0, False),
    "created_at_utc": ("DATETIME", 1, 0, False),
    "updated_at_utc": ("DATETIME", 1, 0, False),
    "region": ("TEXT", 0, 0, True),
    "format": ("TEXT", 0, 0, True),
}
INDEXES = {
    "ix_task_status_prio_time": "task_queue",
    "ix_task_type_status": "task_queue",
    "ix_task_region": "task_queue",
    "ix_task_format": "task_queue",
    "uq_task_idempotency": "task_queue",
    "ix_logs_task": "task_logs",
    "ix_logs_time": "task_logs",
}
VIEWS = {
    "v_queue_status_summary": ["status", "task_count", "avg_attempts", "oldest_task", "newest_task"],
    "v_queue_type_summary": ["type", "status", "task_count", "avg_priority"],
    "v_worker_status": ["worker_id", "capabilities", "heartbeat_utc", "active_tasks", "seconds_since_heartbeat"],
    "v_task_performance": ["type", "status", "task_count", "avg_processing_seconds", "avg_attempts"],
    "v_recent_failures": ["id", "type", "status", "attempts", "error_message", "finished_at_utc"],
}

# The tables, indexes and views of the earlier implementation.
ORIGINAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS task_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  type TEXT NOT NULL,
  priority INTEGER NOT NULL DEFAULT 100,
  payload TEXT NOT NULL,
  compatibility TEXT NOT NULL DEFAULT '{}',
  status TEXT NOT NULL DEFAULT 'queued',
  attempts INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL DEFAULT 5,
  run_after_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  lease_until_utc DATETIME,
  reserved_at_utc DATETIME,
  processing_started_utc DATETIME,
  finished_at_utc DATETIME,
  locked_by TEXT,
  error_message TEXT,
  idempotency_key TEXT,
  created_at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  updated_at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  region TEXT GENERATED ALWAYS AS (json_extract(compatibility, '$.region')) VIRTUAL,
  format TEXT GENERATED ALWAYS AS (json_extract(payload, '$.format')) VIRTUAL
);
CREATE TABLE IF NOT EXISTS workers (
  worker_id TEXT PRIMARY KEY,
  capabilities TEXT NOT NULL,
  heartbeat_utc DATETIME NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE IF NOT EXISTS task_logs (
  log_id INTEGER PRIMARY KEY AUTOINCREMENT,
  task_id INTEGER NOT NULL,
  at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  level TEXT NOT NULL,
  message TEXT,
  details TEXT,
  FOREIGN KEY (task_id) REFERENCES task_queue(id)
);
CREATE INDEX IF NOT EXISTS ix_task_status_prio_time ON task_queue (status, priority, run_after_utc, id);
CREATE INDEX IF NOT EXISTS ix_task_type_status ON task_queue (type, status);
CREATE INDEX IF NOT EXISTS ix_task_region ON task_queue (region);
CREATE INDEX IF NOT EXISTS ix_task_format ON task_queue (format);
CREATE UNIQUE INDEX IF NOT EXISTS uq_task_idempotency ON task_queue (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS ix_logs_task ON task_logs (task_id, at_utc);
CREATE VIEW IF NOT EXISTS v_queue_status_summary AS
  SELECT status, COUNT(*) AS task_count, ROUND(AVG(attempts), 2) AS avg_attempts,
    MIN(created_at_utc) AS oldest_task, MAX(created_at_utc) AS newest_task FROM task_queue GROUP BY status;
CREATE VIEW IF NOT EXISTS v_queue_type_summary AS
  SELECT type, status, COUNT(*) AS task_count, ROUND(AVG(priority), 2) AS avg_priority
  FROM task_queue GROUP BY type, status ORDER BY type, status;
CREATE VIEW IF NOT EXISTS v_worker_status AS
  SELECT w.worker_id, w.capabilities, w.heartbeat_utc,
    (SELECT COUNT(*) FROM task_queue t WHERE t.locked_by = w.worker_id AND t.status = 'processing') AS active_tasks,
    ROUND((julianday('now') - julianday(w.heartbeat_utc)) * 86400) AS seconds_since_heartbeat FROM workers w;
CREATE VIEW IF NOT EXISTS v_task_performance AS
  SELECT type, status, COUNT(*) AS task_count,
    ROUND(AVG((julianday(finished_at_utc) - julianday(processing_started_utc)) * 86400), 2) AS avg_processing_seconds,
    ROUND(AVG(attempts), 2) AS avg_attempts
  FROM task_queue WHERE finished_at_utc IS NOT NULL GROUP BY type, status ORDER BY type, status;
CREATE VIEW IF NOT EXISTS v_recent_failures AS
  SELECT id, type, status, attempts, error_message, finished_at_utc FROM task_queue
  WHERE status IN ('failed', 'dead_letter') ORDER BY finished_at_utc DESC LIMIT 100;
"""

DAY = "2024-03-01"
ORIGINAL_TASKS: list[dict[str, Any]] = [
    {"type": "plain", "payload": '{"format": "mp4"}', "compatibility": '{"region": "eu"}', "priority": 10},
    {"type": "iso", "run_after_utc": f"{DAY}T12:00:00+00:00"},
    {"type": "offset", "run_after_utc": f"{DAY}T12:00:00.250+02:00"},
    {"type": "later", "run_after_utc": "2999-01-01T00:00:00+00:00"},
    {"type": "later today", "run_after_utc": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
    {"type": "keyed", "idempotency_key": "order-1"},
    {"type": "retried", "attempts": 2, "error_message": "ValueError: x"},
    {"type": "exhausted", "attempts": 5},
    {
        "type": "leased",
        "status": "leased",
        "attempts": 1,
        "locked_by": "old-1",
        "lease_until_utc": f"{DAY} 10:01:00",
        "reserved_at_utc": f"{DAY} 10:00:00",
    },
    {
        "type": "leased for long",
        "status": "leased",
        "attempts": 1,
        "locked_by": "old-2",
        "lease_until_utc": "2999-01-01 00:00:00",
        "reserved_at_utc": f"{DAY} 10:00:00",
        "processing_started_utc": f"{DAY} 10:00:01",
    },
    {
        "type": "processing",
        "status": "processing",
        "attempts": 5,
        "locked_by": "old-3",
        "lease_until_utc": f"{DAY}T10:01:00+00:00",
        "reserved_at_utc": f"{DAY}T10:00:00+00:00",
    },
    {
        "type": "done",
        "status": "completed",
        "attempts": 1,
        "locked_by": "old-1",
        "processing_started_utc": f"{DAY} 10:00:00",
        "finished_at_utc": f"{DAY} 10:00:05",
        "idempotency_key": "order-2",
    },
    {"type": "broken", "status": "failed", "attempts": 3, "finished_at_utc": f"{DAY} 11:00:00", "error_message": "no"},
    {
        "type": "dead",
        "status": "dead_letter",
        "attempts": 5,
        "finished_at_utc": f"{DAY} 11:00:01",
        "error_message": "x",
    },
    {"type": "strange", "status": "paused", "finished_at_utc": "whenever"},
]


def make_original(path: Path, more: int = 0) -> None:
    """A database as the earlier implementation left it: its newest tasks deleted, everything else kept."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(ORIGINAL_SCHEMA)
        for task in ORIGINAL_TASKS:
            row = {"payload": "{}", "created_at_utc": f"{DAY} 09:00:00", "updated_at_utc": f"{DAY} 09:00:00", **task}
            row.setdefault("run_after_utc", f"{DAY} 09:00:00")
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO task_queue ({names}) VALUES ({marks})", tuple(row.values()))
        connection.executemany(
            "INSERT INTO task_queue (type, payload, priority) VALUES ('bulk', '{}', ?)", [(n,) for n in range(more)]
        )
        connection.execute("INSERT INTO workers VALUES ('old-1', '{\"gpu\": true}', ?)", (f"{DAY} 10:00:00",))
        connection.executemany(
            "INSERT INTO task_logs (task_id, at_utc, level, message) VALUES (?, ?, 'INFO', ?)",
            [(1, f"{DAY} 09:00:00", "one"), (12, f"{DAY}T10:00:05+00:00", "two")],
        )
        connection.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY, note TEXT)")
        connection.execute("INSERT INTO mine VALUES (1, 'not the queue''s')")
        connection.execute("CREATE INDEX ix_mine ON task_queue (created_at_utc)")
        connection.executemany("INSERT INTO task_queue (type, payload) VALUES ('deleted', '{}')", [()] * 7)
        connection.execute("DELETE FROM task_queue WHERE type = 'deleted'")


@pytest.fixture
def original(path: Path) -> Path:
    make_original(path)
    return path


# In a process of its own, as the file may be open in this one: two copies of SQLite don't see each other's locks, and
# the second would take away the WAL from under the first.
DUMP = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
json.dump([
    *connection.iterdump(),
    *map(str, connection.execute("PRAGMA user_version")),
    *map(str, connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 2")),
], sys.stdout)
connection.close()
"""


def dump(path: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", DUMP, str(path)], check=True, capture_output=True, timeout=60)
    lines: list[str] = json.loads(done.stdout)
    return lines


def by_type(queue: TaskQueue) -> dict[str, Task]:
    rows = queue.database.execute("SELECT * FROM task_queue").fetchall()
    return {row["type"]: Task.from_dict(dict(row)) for row in rows if row["type"] != "strange"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# What a database has


def test_the_task_table_has_the_documented_columns(queue: TaskQueue) -> None:
    rows = queue.database.execute("PRAGMA table_xinfo(task_queue)").fetchall()
    columns = {row["name"]: (row["type"], row["notnull"], row["pk"], row["hidden"] == 2) for row in rows}
    assert {name: columns[name] for name in TASK_COLUMNS} == TASK_COLUMNS
    assert [row["name"] for row in rows][: len(TASK_COLUMNS)] == list(TASK_COLUMNS)
    assert all(generated for name, (*_, generated) in columns.items() if name not in TASK_COLUMNS)


def test_workers_and_logs_have_exactly_the_documented_columns(queue: TaskQueue) -> None:
    def columns(table: str) -> list[tuple[Any, ...]]:
        rows = queue.database.execute(f"PRAGMA table_xinfo({table})").fetchall()
        return [(row["name"], row["type"], row["notnull"], row["pk"]) for row in rows]

    assert columns("workers") == [
        ("worker_id", "TEXT", 0, 1),
        ("capabilities", "TEXT", 1, 0),
        ("heartbeat_utc", "DATETIME", 1, 0),
    ]
    assert columns("task_logs") == [
        ("log_id", "INTEGER", 0, 1),
        ("task_id", "INTEGER", 1, 0),
        ("at_utc", "DATETIME", 1, 0),
        ("level", "TEXT", 1, 0),
        ("message", "TEXT", 0, 0),
        ("details", "TEXT", 0, 0),
    ]
    (key,) = queue.database.execute("PRAGMA foreign_key_list(task_logs)").fetchall()
    assert (key["table"], key["from"], key["to"], key["on_delete"]) == ("task_queue", "task_id", "id", "NO ACTION")


def test_the_indexes_and_views_have_the_documented_names_and_columns(queue: TaskQueue) -> None:
    rows = queue.database.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
    assert {row["name"]: row["tbl_name"] for row in rows} == INDEXES
    rows = queue.database.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")
    assert {row["name"] for row in rows} == set(VIEWS)
    queue.enqueue("t")
    queue.database.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('w', '{}')")
    for view, columns in VIEWS.items():
        info = queue.database.execute(f"PRAGMA table_info({view})").fetchall()
        assert [row["name"] for row in info] == columns


def test_the_statements_create_three_tables_six_indexes_and_five_views_in_this_order() -> None:
    assert [statement.split()[1] for statement in SCHEMA_STATEMENTS] == ["TABLE"] * 3 + ["INDEX"] * 2 + [
        "INDEX"
    ] * 2 + [
        "UNIQUE",
        "INDEX",
    ] + ["VIEW"] * 5
    named = " ".join(SCHEMA_STATEMENTS)
    public = INDEXES.keys() - {"ix_logs_time"}
    assert all(f"IF NOT EXISTS {name}" in named for name in ["task_queue", "workers", "task_logs", *public, *VIEWS])


def test_plain_sql_gets_the_documented_defaults(queue: TaskQueue) -> None:
    queue.database.execute("INSERT INTO task_queue (type, payload) VALUES ('t', '{}')")
    queue.database.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('w', '{}')")
    queue.database.execute("INSERT INTO task_logs (task_id, level) VALUES (1, 'INFO')")
    task = queue.get(1)
    assert task is not None
    assert (task.priority, task.compatibility, task.status, task.attempts, task.max_attempts) == (
        100,
        "{}",
        "queued",
        0,
        5,
    )
    for text in (
        *queue.database.execute("SELECT run_after_utc, created_at_utc, updated_at_utc FROM task_queue").fetchone(),
        queue.database.execute("SELECT heartbeat_utc FROM workers").fetchone()[0],
        queue.database.execute("SELECT at_utc FROM task_logs").fetchone()[0],
    ):
        assert len(text) == 23
        assert timedelta(seconds=-1) < datetime.now(UTC) - at(text) < timedelta(seconds=30)


def test_the_views_count_what_is_there(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "a", "priority": 1}, {"type": "a", "priority": 2}, {"type": "b"}, {"type": "b"}])
    first, second, third = queue.claim_many("w1", 3)
    queue.complete(first)
    queue.fail(second, "broken", retry=False)
    queue.database.execute("UPDATE task_queue SET processing_started_utc = '2024-01-01 00:00:00' WHERE id = 1")
    queue.database.execute("UPDATE task_queue SET finished_at_utc = '2024-01-01 00:00:02.257' WHERE id = 1")
    queue.database.execute(
        "INSERT INTO workers VALUES ('w1', '{}', datetime('now', '-90 seconds')), ('w2', '{}', '2024')"
    )

    def view(name: str) -> list[dict[str, Any]]:
        return [dict(row) for row in queue.database.execute(f"SELECT * FROM {name}").fetchall()]

    counts = {row["status"]: (row["task_count"], row["avg_attempts"]) for row in view("v_queue_status_summary")}
    assert counts == {"queued": (1, 0), "processing": (1, 1), "completed": (1, 1), "failed": (1, 1)}
    assert [tuple(row.values()) for row in view("v_queue_type_summary")] == [
        ("a", "completed", 1, 1.0),
        ("a", "failed", 1, 2.0),
        ("b", "processing", 1, 100.0),
        ("b", "queued", 1, 100.0),
    ]
    workers = {row["worker_id"]: row for row in view("v_worker_status")}
    assert (workers["w1"]["active_tasks"], workers["w2"]["active_tasks"]) == (1, 0)
    assert isinstance(workers["w1"]["seconds_since_heartbeat"], float)
    assert 89 <= workers["w1"]["seconds_since_heartbeat"] <= 120
    done = {row["status"]: row for row in view("v_task_performance")}
    assert (done["completed"]["avg_processing_seconds"], done["completed"]["task_count"]) == (2.26, 1)
    (failure,) = view("v_recent_failures")
    assert (failure["id"], failure["status"], failure["error_message"]) == (second.id, "failed", "broken")
    assert third.status == "processing"


def test_a_log_entry_needs_its_task(queue: TaskQueue) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        queue.database.execute("INSERT INTO task_logs (task_id, level) VALUES (99, 'INFO')")


# Initialising


def test_initialising_again_changes_nothing(open_queue: OPEN, path: Path) -> None:
    open_queue().enqueue("t")
    before = dump(path)
    for _ in range(2):
        open_queue().database.initialize_schema()
    assert dump(path) == before
    assert f"({VERSION},)" in before


def test_a_new_database_is_ready_quickly(tmp_path: Path, driver: str) -> None:
    started = time.monotonic()
    queue = TaskQueue(tmp_path / "new.db", driver=driver)  # type: ignore[arg-type]
    assert time.monotonic() - started < 2
    started = time.monotonic()
    again = TaskQueue(tmp_path / "new.db", driver=driver)  # type: ignore[arg-type]
    assert time.monotonic() - started < 1
    again.close()
    queue.close()


def initialise(path: str, start: Barrier, results: Any) -> None:
    start.wait(60)
    with TaskQueue(path) as queue:
        results.put(queue.enqueue("t"))


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_initialise_at_once_all_succeed(path: Path, old: bool) -> None:
    if old:
        make_original(path, more=2000)
    start, results = SPAWN.Barrier(5), SPAWN.Queue()
    processes = [SPAWN.Process(target=initialise, args=(str(path), start, results), daemon=True) for _ in range(5)]
    for process in processes:
        process.start()
    ids = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(ids) == 5
    with TaskQueue(path) as queue:
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


VERSION_1 = {
    "phase": """INTEGER GENERATED ALWAYS AS (CASE status
      WHEN 'queued' THEN CASE WHEN attempts < max_attempts THEN 1 + (run_after_utc > updated_at_utc) END
      WHEN 'processing' THEN 0 END) VIRTUAL""",
    "turn": """GENERATED ALWAYS AS (CASE status
      WHEN 'queued' THEN CASE WHEN run_after_utc > updated_at_utc
        THEN coalesce(strftime('%Y-%m-%d %H:%M:%f', run_after_utc), updated_at_utc) ELSE priority END
      WHEN 'processing' THEN coalesce(lease_until_utc, '') END) VIRTUAL""",
    "needs": """GENERATED ALWAYS AS (CASE
      WHEN compatibility = '{}' OR status <> 'queued' OR run_after_utc > updated_at_utc THEN 0
      ELSE compatibility END) VIRTUAL""",
}


def make_version_1(queue: TaskQueue) -> None:
    """Turn a database back into one of version 1."""
    execute = queue.database.execute
    parts = execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    for kind, name, _ in parts:
        if kind in ("trigger", "view") or name in ("ix_task_status_prio_time", "ix_task_type_status", "ix_logs_time"):
            execute(f"DROP {kind} {name}")
    for table in ("task_options", "task_reports", "task_rollup", "task_times"):
        execute(f"DROP TABLE {table}")
    for column, definition in VERSION_1.items():
        execute(f"ALTER TABLE task_queue DROP COLUMN {column}")
        execute(f"ALTER TABLE task_queue ADD COLUMN {column} {definition}")
    execute("""CREATE INDEX ix_task_status_prio_time ON task_queue (phase, needs, turn) WHERE phase IS NOT NULL""")
    execute("CREATE INDEX ix_task_type_status ON task_queue (type, needs, priority) WHERE phase = 1")
    for kind, name, statement in parts:  # what was the same in version 1
        if name.startswith("lottery_") and kind == "trigger":
            execute(statement)
    execute("DELETE FROM queue_state WHERE name IN ('rolled_up_to', 'leases_expired')")
    execute("PRAGMA user_version = 1")


@pytest.mark.parametrize("drawn", [False, True])
def test_a_database_of_version_1_is_upgraded_in_place(open_queue: OPEN, tmp_path: Path, drawn: bool) -> None:
    queue, new = open_queue(), open_queue(tmp_path / "new.db")
    if drawn:
        assert queue.claim("w", strategy="weighted_random") is new.claim("w", strategy="weighted_random") is None
    done, task_id, delayed = queue.enqueue_many(
        [{"type": "t", "payload": {"n": 1}}, {"type": "t"}, {"type": "t", "run_after": timedelta(hours=1)}]
    )
    first = queue.claim("w")
    assert first is not None
    queue.complete(first)
    make_version_1(queue)
    before = [queue.get(number) for number in (done, task_id, delayed)]
    queue.close()
    queue = open_queue()
    assert [queue.get(number) for number in (done, task_id, delayed)] == before
    assert queue.database.execute("PRAGMA user_version").fetchone()[0] == VERSION
    assert queue.database.execute("SELECT count(*) FROM task_options, task_reports").fetchone()[0] == 0
    parts = "SELECT type, name, sql FROM sqlite_schema WHERE type <> 'table' ORDER BY name"
    assert queue.database.execute(parts).fetchall() == new.database.execute(parts).fetchall()
    columns = "SELECT name, hidden FROM pragma_table_xinfo('task_queue')"
    assert queue.database.execute(columns).fetchall() == new.database.execute(columns).fetchall()
    assert QueueMetrics(queue.database).get_queue_depth_by_status() == {"completed": 1, "queued": 2}
    task = queue.claim("w", strategy="weighted_random" if drawn else "priority")
    assert task is not None
    assert task.id == task_id
    assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_database_of_version_2_is_upgraded_in_place(
    open_queue: OPEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("KEEP", 0), ("CHUNK", 10), ("LAG_SECONDS", -60.0)):
        monkeypatch.setattr(rollup, name, value)
    queue, new = open_queue(), open_queue(tmp_path / "new.db")
    queue.enqueue_many([{"type": "t"}] * 50)
    queue.complete_many(queue.claim_many("w", 40))
    while rollup.roll_up(queue.database):
        pass
    execute = queue.database.execute
    summary = execute("SELECT * FROM v_queue_status_summary").fetchall()
    parts = execute("SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger')").fetchall()
    for kind, name in parts:
        if kind == "view" or name.startswith("roll_up_"):
            execute(f"DROP {kind} {name}")
            statement = "AS SELECT 1" if kind == "view" else "AFTER DELETE ON task_queue BEGIN SELECT 1; END"
            if name not in ("roll_up_gone", "roll_up_left"):
                execute(f"CREATE {kind} {name} {statement}")
    assert execute("DELETE FROM task_rollup WHERE kind = 'block'").rowcount > 0
    execute("DELETE FROM queue_state WHERE name = 'queue_id'")
    execute("PRAGMA user_version = 2")
    queue.close()
    database = open_queue().database
    parts = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    assert database.execute(parts).fetchall() == new.database.execute(parts).fetchall()
    assert database.execute("SELECT * FROM v_queue_status_summary").fetchall() == summary
    ids = {
        str(database.execute("SELECT value FROM queue_state WHERE name = 'queue_id'").fetchone()[0])
        for database in (database, new.database)
    }
    assert len(ids) == 2
    database.execute("DELETE FROM task_queue WHERE id <= 20")
    assert rollup.check(database)
    assert QueueMetrics(database).get_success_failure_rates()["success_count"] == 40


@pytest.mark.parametrize("version", [VERSION + 1, 999])
def test_a_database_of_newer_code_is_refused_and_left_alone(open_queue: OPEN, path: Path, version: int) -> None:
    open_queue().close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = dump(path)
    with pytest.raises(QueueSchemaError, match=f"version {version}.*upgrade prismq"):
        open_queue()
    assert dump(path) == before


# A database of the earlier implementation


def test_every_task_of_an_old_database_is_still_there(original: Path, open_queue: OPEN) -> None:
    queue = open_queue()
    rows = queue.database.execute("SELECT * FROM task_queue ORDER BY id").fetchall()
    assert [row["type"] for row in rows] == [task["type"] for task in ORIGINAL_TASKS]
    assert [row["id"] for row in rows] == list(range(1, len(ORIGINAL_TASKS) + 1))
    changed = {"leased": "processing"}
    for row, task in zip(rows, ORIGINAL_TASKS, strict=True):
        if task["type"] == "exhausted":
            continue
        old = task.get("status", "queued")
        assert row["status"] == changed.get(old, old)
        for name in (
            "payload",
            "compatibility",
            "priority",
            "attempts",
            "locked_by",
            "error_message",
            "idempotency_key",
        ):
            if name in task:
                assert row[name] == task[name]
    assert (rows[0]["region"], rows[0]["format"]) == ("eu", "mp4")
    tasks = by_type(queue)
    assert tasks["plain"].created_at_utc == at(f"{DAY} 09:00:00")
    assert tasks["done"].finished_at_utc == at(f"{DAY} 10:00:05")
    assert tasks["offset"].run_after_utc == at(f"{DAY} 10:00:00.250")
    assert tasks["leased for long"].lease_until_utc == at("2999-01-01 00:00:00")
    times = queue.database.execute("SELECT run_after_utc, created_at_utc FROM task_queue").fetchall()
    assert {len(text) for row in times for text in row} == {23}
    assert rows[-1]["finished_at_utc"] == "whenever"


def test_logs_workers_and_whatever_else_an_old_database_had_are_still_there(original: Path, open_queue: OPEN) -> None:
    database = open_queue().database
    logs = [TaskLog.from_dict(dict(row)) for row in database.execute("SELECT * FROM task_logs ORDER BY log_id")]
    assert [(log.task_id, log.message, log.at_utc) for log in logs] == [
        (1, "one", at(f"{DAY} 09:00:00")),
        (12, "two", at(f"{DAY} 10:00:05")),
    ]
    worker = dict(database.execute("SELECT * FROM workers").fetchone())
    assert (worker["worker_id"], worker["capabilities"]) == ("old-1", '{"gpu": true}')
    assert at(worker["heartbeat_utc"]) == at(f"{DAY} 10:00:00")
    assert database.execute("SELECT note FROM mine").fetchone()[0] == "not the queue's"
    assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'ix_mine'").fetchone()[0] == 1
    assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_an_upgraded_database_has_what_a_new_one_has(original: Path, open_queue: OPEN, tmp_path: Path) -> None:
    def parts(queue: TaskQueue) -> list[tuple[str, str, str]]:
        rows = queue.database.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
        hidden = {"task_queue", "workers", "task_logs", "mine", "ix_mine"}  # defaults of old tables stay as they were
        return sorted(tuple(row) for row in rows if row["name"] not in hidden)

    def columns(queue: TaskQueue) -> list[tuple[Any, ...]]:
        rows = queue.database.execute("PRAGMA table_xinfo(task_queue)").fetchall()
        return [(row["name"], row["type"], row["notnull"], row["pk"], row["hidden"]) for row in rows]

    upgraded, new = open_queue(), open_queue(tmp_path / "new.db")
    assert parts(upgraded) == parts(new)
    assert columns(upgraded) == columns(new)
    assert upgraded.database.execute("PRAGMA user_version").fetchone()[0] == VERSION


def test_old_tasks_are_claimed_when_their_true_time_has_come(original: Path, open_queue: OPEN) -> None:
    queue = open_queue()
    got = [task.type for task in queue.claim_many("w", 99, capabilities={"region": "eu"})]
    assert got[0] == "plain"  # the best priority
    assert {"plain", "iso", "offset", "keyed", "retried"} <= set(got)
    assert not {"later", "later today", "exhausted", "strange", "leased for long"} & set(got)


def test_what_was_leased_comes_back_once_its_lease_has_run_out(original: Path, open_queue: OPEN) -> None:
    queue = open_queue()
    tasks: dict[str, Task] = {}
    end = time.monotonic() + 10
    while "leased" not in tasks:
        assert time.monotonic() < end
        tasks |= {task.type: task for task in queue.claim_many("w", 99)}
        time.sleep(0.01)
    assert (tasks["leased"].attempts, tasks["leased"].locked_by) == (2, "w")
    assert "old-1" in (tasks["leased"].error_message or "")
    now = by_type(queue)
    assert now["processing"].status == "dead_letter"  # it had no attempt left
    still = now["leased for long"]
    assert (still.status, still.locked_by) == ("processing", "old-2")
    queue.complete(still)  # its holder is alive and finishes


def test_a_task_whose_attempts_were_used_up_is_a_dead_letter_and_can_be_requeued(
    original: Path, open_queue: OPEN
) -> None:
    queue = open_queue()
    task = by_type(queue)["exhausted"]
    assert (task.status, task.attempts) == ("dead_letter", 5)
    assert task.error_message
    assert task.finished_at_utc is not None
    assert queue.requeue(task.id or 0)
    assert queue.claim("w", types="exhausted") is not None


def test_keys_and_ids_of_an_old_database_stay_taken(original: Path, open_queue: OPEN) -> None:
    queue = open_queue()
    assert queue.enqueue("t", idempotency_key="order-1") == by_type(queue)["keyed"].id
    assert queue.enqueue("t", idempotency_key="order-2") == by_type(queue)["done"].id
    assert queue.enqueue("t") == len(ORIGINAL_TASKS) + 7 + 1  # the ids of the deleted tasks are not given out again


def test_an_upgraded_database_works_like_any_other(original: Path, open_queue: OPEN) -> None:
    queue, again = open_queue(), open_queue()
    queue.database.execute("INSERT INTO task_queue (type, payload, priority) VALUES ('raw', '{}', 1)")
    queue.enqueue("new", priority=0, compatibility={"gpu": True})
    for strategy in ("fifo", "lifo", "priority", "weighted_random"):
        task = again.claim("w", strategy=strategy, types=["raw", "new"], capabilities={"gpu": True})
        assert task is not None
        assert task.created_at_utc is not None
        assert again.fail(task, "x", delay_seconds=0) == "queued"
        with pytest.raises(LeaseLostError):
            again.complete(task)


def test_upgrading_is_done_once(original: Path, open_queue: OPEN) -> None:
    open_queue().close()
    before = dump(original)
    open_queue().close()
    assert dump(original) == before


@pytest.fixture
def blocked(original: Path) -> Path:
    """An old database whose upgrade fails at its very end, on a table that happens to have the same name."""
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute("CREATE TABLE queue_state (something TEXT)")
    return original


def test_an_upgrade_that_fails_leaves_the_old_database_as_it_was(
    blocked: Path, open_queue: OPEN, another_program: Callable[..., None]
) -> None:
    before = dump(blocked)
    with pytest.raises(QueueSchemaError, match="could not be created or upgraded"):
        open_queue()
    assert dump(blocked) == before
    another_program("DROP TABLE queue_state")
    assert len(by_type(open_queue())) == len(ORIGINAL_TASKS) - 1


def count_steps(path: Path) -> int:
    """How often SQLite asks a progress handler during an upgrade."""
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    with QueueDatabase(path) as database:
        database.get_connection().apsw.set_progress_handler(count, 100)
        database.initialize_schema()
    return asked


def upgrade_and_die(path: str, steps: int) -> None:
    left = steps

    def die() -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    database = QueueDatabase(path)
    database.get_connection().apsw.set_progress_handler(die, 100)
    database.initialize_schema()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", [0.01, 0.5, 0.99])
def test_an_upgrade_that_is_killed_leaves_the_old_database_as_it_was(tmp_path: Path, moment: float) -> None:
    path, twin = tmp_path / "queue.db", tmp_path / "twin.db"
    make_original(path, more=3000)
    make_original(twin, more=3000)
    before = dump(path)
    process = SPAWN.Process(target=upgrade_and_die, args=(str(path), int(count_steps(twin) * moment)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert dump(path) == before
    with TaskQueue(path) as queue:
        assert len(by_type(queue)) == len(ORIGINAL_TASKS)  # and "bulk", without "strange"
        assert queue.database.execute("SELECT count(*) FROM task_queue WHERE type = 'bulk'").fetchone()[0] == 3000


def test_an_old_database_whose_making_was_interrupted_is_completed(path: Path, open_queue: OPEN) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(ORIGINAL_SCHEMA[: ORIGINAL_SCHEMA.index("CREATE TABLE IF NOT EXISTS workers")])
        connection.execute("INSERT INTO task_queue (type, payload) VALUES ('t', '{}')")
    queue = open_queue()
    assert queue.claim("w") is not None
    assert queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 0


def test_a_table_of_somebody_elses_is_refused_and_left_alone(path: Path, open_queue: OPEN) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE task_queue (id INTEGER PRIMARY KEY, title TEXT)")
        connection.execute("INSERT INTO task_queue VALUES (1, 'mine')")
    before = dump(path)
    with pytest.raises(QueueSchemaError, match="could not be created or upgraded"):
        open_queue()
    assert dump(path) == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, open_queue: OPEN) -> None:
    path.write_text("this is a letter, not a database\n" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        open_queue()
    assert path.read_text().startswith("this is a letter")


@pytest.mark.parametrize("version", [1, 7])
def test_a_file_whose_user_version_is_somebody_elses_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "application.db"
    with QueueDatabase(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        database.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(QueueSchemaError, match="another application"):
            database.initialize_schema()
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 1


def test_an_applications_file_that_numbers_nothing_may_hold_the_queue_too(tmp_path: Path) -> None:
    with QueueDatabase(tmp_path / "application.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        database.initialize_schema()
        assert database.execute("PRAGMA user_version").fetchone()[0] == VERSION
