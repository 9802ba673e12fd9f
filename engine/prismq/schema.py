"""The database's tables, indexes, views and trigger, and the one transaction that brings a file up to date.

Every statement is a constant of its own; `SCHEMA_STATEMENTS` lists the public ones in order of creation.

Three virtual columns say where a task stands in the queue. They cost no storage: an index on them holds the result.

- `phase`: 0 leased, 1 ready, 2 delayed, 3 when no worker can ever take the row as it is (attempts spent, a status of
  somebody else's), -1 completed, -2 failed or dead letter.
- `turn`: what orders a phase: the lease's end, the priority, the due time, when it finished.
- `needs`: a ready task's compatibility, 0 for the common `{}`.

A queued row is ready when its `run_after_utc` is not later than its `updated_at_utc`, the last moment somebody looked.
So a row from plain SQL is ready at birth, one with a later `run_after_utc` is delayed, and a claim that finds it due
moves it over by touching `updated_at_utc`. A `run_after_utc` that is no time at all is due at once, not never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prismq import lottery, rollup
from prismq.errors import QueueBusyError, QueueDatabaseError, QueueSchemaError

if TYPE_CHECKING:
    from prismq.connection import Connection

VERSION: Final = 3
"""`PRAGMA user_version` of a database this code has written."""

NOW: Final = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

PHASE: Final = """INTEGER GENERATED ALWAYS AS (CASE status
    WHEN 'queued' THEN CASE WHEN attempts < max_attempts THEN 1 + (run_after_utc > updated_at_utc) ELSE 3 END
    WHEN 'processing' THEN 0 WHEN 'completed' THEN -1 WHEN 'failed' THEN -2 WHEN 'dead_letter' THEN -2
    ELSE 3 END) VIRTUAL"""
TURN: Final = """GENERATED ALWAYS AS (CASE status
    WHEN 'queued' THEN CASE WHEN run_after_utc > updated_at_utc
      THEN coalesce(strftime('%Y-%m-%d %H:%M:%f', run_after_utc), updated_at_utc) ELSE priority END
    WHEN 'processing' THEN coalesce(lease_until_utc, '') ELSE coalesce(finished_at_utc, '') END) VIRTUAL"""
NEEDS: Final = """GENERATED ALWAYS AS (CASE
    WHEN compatibility = '{}' OR status <> 'queued' OR run_after_utc > updated_at_utc THEN 0
    ELSE compatibility END) VIRTUAL"""
QUEUE_COLUMNS: Final = {"phase": PHASE, "turn": TURN, "needs": NEEDS}

CREATE_TASK_QUEUE: Final = f"""CREATE TABLE IF NOT EXISTS task_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  type TEXT NOT NULL,
  priority INTEGER NOT NULL DEFAULT 100,
  payload TEXT NOT NULL,
  compatibility TEXT NOT NULL DEFAULT '{{}}',
  status TEXT NOT NULL DEFAULT 'queued',
  attempts INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL DEFAULT 5,
  run_after_utc DATETIME NOT NULL DEFAULT ({NOW}),
  lease_until_utc DATETIME,
  reserved_at_utc DATETIME,
  processing_started_utc DATETIME,
  finished_at_utc DATETIME,
  locked_by TEXT,
  error_message TEXT,
  idempotency_key TEXT,
  created_at_utc DATETIME NOT NULL DEFAULT ({NOW}),
  updated_at_utc DATETIME NOT NULL DEFAULT ({NOW}),
  region TEXT GENERATED ALWAYS AS (json_extract(compatibility, '$.region')) VIRTUAL,
  format TEXT GENERATED ALWAYS AS (json_extract(payload, '$.format')) VIRTUAL,
  phase {PHASE},
  turn {TURN},
  needs {NEEDS}
)"""

CREATE_WORKERS: Final = f"""CREATE TABLE IF NOT EXISTS workers (
  worker_id TEXT PRIMARY KEY,
  capabilities TEXT NOT NULL,
  heartbeat_utc DATETIME NOT NULL DEFAULT ({NOW})
)"""

CREATE_TASK_LOGS: Final = f"""CREATE TABLE IF NOT EXISTS task_logs (
  log_id INTEGER PRIMARY KEY AUTOINCREMENT,
  task_id INTEGER NOT NULL,
  at_utc DATETIME NOT NULL DEFAULT ({NOW}),
  level TEXT NOT NULL,
  message TEXT,
  details TEXT,
  FOREIGN KEY (task_id) REFERENCES task_queue (id)
)"""

# One index serves finished, leased, ready and delayed tasks: 'processing' entries stand right before the head of the
# ready ones and right after the newest completed one, so that a claim and a completion usually change one leaf page
# where two indexes would change two. Claims need the first three columns and the order by id; the others are there for
# the metrics, which then read the index alone (plans don't say so: they defer a look at the row that nobody asks for).
CREATE_IX_TASK_STATUS_PRIO_TIME: Final = """CREATE INDEX IF NOT EXISTS ix_task_status_prio_time
  ON task_queue (phase, needs, turn, id, type, attempts, priority)"""
# By type; the last columns as above.
CREATE_IX_TASK_TYPE_STATUS: Final = """CREATE INDEX IF NOT EXISTS ix_task_type_status
  ON task_queue (type, needs, priority, id, attempts) WHERE phase = 1"""
CREATE_IX_TASK_REGION: Final = """CREATE INDEX IF NOT EXISTS ix_task_region
  ON task_queue (region) WHERE region IS NOT NULL"""
CREATE_IX_TASK_FORMAT: Final = """CREATE INDEX IF NOT EXISTS ix_task_format
  ON task_queue (format) WHERE format IS NOT NULL"""
CREATE_UQ_TASK_IDEMPOTENCY: Final = """CREATE UNIQUE INDEX IF NOT EXISTS uq_task_idempotency
  ON task_queue (idempotency_key) WHERE idempotency_key IS NOT NULL"""
CREATE_IX_LOGS_TASK: Final = """CREATE INDEX IF NOT EXISTS ix_logs_task
  ON task_logs (task_id, at_utc)"""

CREATE_V_QUEUE_STATUS_SUMMARY: Final = """CREATE VIEW IF NOT EXISTS v_queue_status_summary AS
  SELECT status, count(*) AS task_count, round(avg(attempts), 2) AS avg_attempts,
    min(created_at_utc) AS oldest_task, max(created_at_utc) AS newest_task
  FROM task_queue GROUP BY status ORDER BY status"""
CREATE_V_QUEUE_TYPE_SUMMARY: Final = """CREATE VIEW IF NOT EXISTS v_queue_type_summary AS
  SELECT type, status, count(*) AS task_count, round(avg(priority), 2) AS avg_priority
  FROM task_queue GROUP BY type, status ORDER BY type, status"""
CREATE_V_TASK_PERFORMANCE: Final = f"""CREATE VIEW IF NOT EXISTS v_task_performance AS
  SELECT type, status, count(*) AS task_count,
    round(avg({rollup.duration_ms("")}) / 1000.0, 2) AS avg_processing_seconds, round(avg(attempts), 2) AS avg_attempts
  FROM task_queue WHERE finished_at_utc IS NOT NULL GROUP BY type, status ORDER BY type, status"""

# The same three as the queue has them, from the roll-ups as far as those go: a million finished tasks are not read one
# by one.
_ROLLED: Final = "FROM task_rollup WHERE kind = 'there' AND bucket = ''"
_NOT_ROLLED: Final = f"FROM {rollup.FINISHED} AND turn >= {rollup.WATERMARK}"
# Ids grow with time: the oldest and newest task of a status are in its first and last block of ids.
_IN_BLOCK: Final = f"""FROM task_queue AS task
      WHERE task.id >= {rollup.BLOCK} * %s AND task.id < {rollup.BLOCK} * (%s + 1) AND task.status = block.status"""
CREATE_ROLLED_STATUS_SUMMARY: Final = f"""CREATE VIEW IF NOT EXISTS v_queue_status_summary AS
  SELECT status, sum(tasks) AS task_count, round(1.0 * sum(tries) / sum(tasks), 2) AS avg_attempts,
    min(oldest) AS oldest_task, max(newest) AS newest_task
  FROM (SELECT status, tasks, attempts AS tries, NULL AS oldest, NULL AS newest {_ROLLED}
    UNION ALL SELECT status, 0, 0, (SELECT min(created_at_utc) {_IN_BLOCK.replace("%s", "first")}),
        (SELECT max(created_at_utc) {_IN_BLOCK.replace("%s", "last")})
      FROM (SELECT status, CAST(min(bucket) AS INTEGER) AS first, CAST(max(bucket) AS INTEGER) AS last
        FROM task_rollup WHERE kind = 'block' AND tasks > 0 GROUP BY status) AS block
    UNION ALL SELECT status, 1, attempts, created_at_utc, created_at_utc {_NOT_ROLLED}
    UNION ALL SELECT 'queued', tasks, tries, (SELECT created_at_utc FROM task_queue WHERE id = first),
        (SELECT created_at_utc FROM task_queue WHERE id = last)
      FROM (SELECT count(*) AS tasks, sum(attempts) AS tries, min(id) AS first, max(id) AS last
          FROM task_queue INDEXED BY ix_task_type_status WHERE phase = 1
        UNION ALL SELECT count(*), sum(attempts), min(id), max(id)
          FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = 2)
    UNION ALL SELECT status, 1, attempts, created_at_utc, created_at_utc
      FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase IN (0, 3))
  GROUP BY status HAVING sum(tasks) > 0 ORDER BY status"""
CREATE_ROLLED_TYPE_SUMMARY: Final = f"""CREATE VIEW IF NOT EXISTS v_queue_type_summary AS
  SELECT type, status, sum(tasks) AS task_count, round(1.0 * sum(priorities) / sum(tasks), 2) AS avg_priority
  FROM (SELECT type, status, tasks, priority AS priorities {_ROLLED}
    UNION ALL SELECT type, status, 1, priority {_NOT_ROLLED}
    UNION ALL SELECT type, 'queued', count(*), sum(priority)
      FROM task_queue INDEXED BY ix_task_type_status WHERE phase = 1 GROUP BY type
    UNION ALL SELECT type, CASE phase WHEN 0 THEN 'processing' ELSE 'queued' END, 1, priority
      FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase IN (0, 2)
    UNION ALL SELECT type, status, 1, priority
      FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = 3)
  GROUP BY type, status HAVING sum(tasks) > 0 ORDER BY type, status"""
CREATE_V_WORKER_STATUS: Final = """CREATE VIEW IF NOT EXISTS v_worker_status AS
  SELECT w.worker_id, w.capabilities, w.heartbeat_utc,
    coalesce(held.tasks, 0) AS active_tasks,
    round((julianday('now') - julianday(w.heartbeat_utc)) * 86400) AS seconds_since_heartbeat
  FROM workers w LEFT JOIN (SELECT locked_by, count(*) AS tasks
    FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = 0 GROUP BY locked_by) AS held
    ON held.locked_by = w.worker_id"""
CREATE_ROLLED_PERFORMANCE: Final = f"""CREATE VIEW IF NOT EXISTS v_task_performance AS
  SELECT type, status, sum(tasks) AS task_count, round(sum(ms) / 1000.0 / sum(timed), 2) AS avg_processing_seconds,
    round(1.0 * sum(tries) / sum(tasks), 2) AS avg_attempts
  FROM (SELECT type, status, tasks, attempts AS tries, ms, timed {_ROLLED}
    UNION ALL SELECT type, status, 1, tries, ms, ms IS NOT NULL FROM (
      SELECT type, status, attempts AS tries, {rollup.duration_ms("")} AS ms
      {_NOT_ROLLED} AND finished_at_utc IS NOT NULL))
  GROUP BY type, status HAVING sum(tasks) > 0 ORDER BY type, status"""
CREATE_V_RECENT_FAILURES: Final = """CREATE VIEW IF NOT EXISTS v_recent_failures AS
  SELECT id, type, status, attempts, error_message, finished_at_utc
  FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = -2 AND needs = 0
  ORDER BY turn DESC, id DESC LIMIT 100"""

CREATE_QUEUE_STATE: Final = """CREATE TABLE IF NOT EXISTS queue_state (
  name TEXT PRIMARY KEY,
  value
) WITHOUT ROWID"""
"""The queue's own memory: `queue_id`, `last_deleted_id`, what the lottery last drew, how far roll-ups go, leases that
expired."""

CREATE_TASK_OPTIONS: Final = """CREATE TABLE IF NOT EXISTS task_options (
  task_id INTEGER PRIMARY KEY REFERENCES task_queue (id) ON DELETE CASCADE,
  retry TEXT,
  trace TEXT
)"""
"""What few tasks are enqueued with: a retry configuration and a trace context, each as JSON."""

CREATE_TASK_REPORTS: Final = f"""CREATE TABLE IF NOT EXISTS task_reports (
  task_id INTEGER PRIMARY KEY REFERENCES task_queue (id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  progress REAL,
  note TEXT,
  result TEXT,
  traceback TEXT,
  updated_at_utc DATETIME NOT NULL DEFAULT ({NOW})
)"""
"""What a task's last attempt told of itself: progress from 0 to 1 with a note, then its result or traceback."""

CREATE_KEEP_IDS_UNIQUE: Final = """CREATE TRIGGER IF NOT EXISTS keep_ids_unique AFTER DELETE ON task_queue
WHEN OLD.id > coalesce((SELECT max(id) FROM task_queue), 0)
BEGIN
  UPDATE queue_state SET value = max(value, OLD.id) WHERE name = 'last_deleted_id';
END"""
"""An enqueue takes the id after the newest row's. This keeps a deleted newest row's id from being given out again."""

CREATE_FORGET_LOGS: Final = """CREATE TRIGGER IF NOT EXISTS forget_logs AFTER DELETE ON task_queue
BEGIN
  DELETE FROM task_logs WHERE task_id = OLD.id;
END"""
"""A task's log goes with it, although its foreign key has no action."""

CREATE_IX_LOGS_TIME: Final = """CREATE INDEX IF NOT EXISTS ix_logs_time
  ON task_logs (at_utc, log_id, level)"""
"""The newest log entries first, and old ones by themselves; by level without a look at each."""

SCHEMA_STATEMENTS: Final[list[str]] = [
    CREATE_TASK_QUEUE,
    CREATE_WORKERS,
    CREATE_TASK_LOGS,
    CREATE_IX_TASK_STATUS_PRIO_TIME,
    CREATE_IX_TASK_TYPE_STATUS,
    CREATE_IX_TASK_REGION,
    CREATE_IX_TASK_FORMAT,
    CREATE_UQ_TASK_IDEMPOTENCY,
    CREATE_IX_LOGS_TASK,
    CREATE_V_QUEUE_STATUS_SUMMARY,
    CREATE_V_QUEUE_TYPE_SUMMARY,
    CREATE_V_WORKER_STATUS,
    CREATE_V_TASK_PERFORMANCE,
    CREATE_V_RECENT_FAILURES,
]

_ROLLED_VIEWS: Final = [CREATE_ROLLED_STATUS_SUMMARY, CREATE_ROLLED_TYPE_SUMMARY, CREATE_ROLLED_PERFORMANCE]
"""Created first, so that they take the place of the public ones, which need no roll-ups."""
_OWN_STATEMENTS: Final = [
    CREATE_QUEUE_STATE,
    # A database that had no memory of it may have given out ids as far as AUTOINCREMENT's counter.
    """INSERT OR IGNORE INTO queue_state (name, value) VALUES ('last_deleted_id',
       coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'task_queue'), 0))""",
    "INSERT OR IGNORE INTO queue_state (name, value) VALUES ('queue_id', lower(hex(randomblob(16))))",
    CREATE_KEEP_IDS_UNIQUE,
    CREATE_TASK_OPTIONS,
    CREATE_TASK_REPORTS,
    *rollup.DEFINITIONS,
    CREATE_FORGET_LOGS,
    CREATE_IX_LOGS_TIME,
    "INSERT OR IGNORE INTO queue_state (name, value) VALUES ('leases_expired', 0)",
    # AUTOINCREMENT's counter must exist before the first enqueue reserves a block of ids in it.
    """INSERT INTO sqlite_sequence (name, seq) SELECT 'task_queue', 0
       WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'task_queue')""",
]

_TIME_COLUMNS: Final = (
    "run_after_utc",
    "lease_until_utc",
    "reserved_at_utc",
    "processing_started_utc",
    "finished_at_utc",
    "created_at_utc",
    "updated_at_utc",
)


def apply(connection: Connection) -> None:
    """Create or upgrade the schema in one transaction; does nothing when it is current.

    Raises QueueSchemaError for a database written by newer code or one that can't be upgraded, QueueBusyError when
    another process keeps it locked.
    """
    try:
        if _version(connection) == VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            _upgrade(connection, _version(connection))
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    except (QueueBusyError, QueueSchemaError):
        raise
    except QueueDatabaseError as error:
        raise QueueSchemaError(f"the schema could not be created or upgraded: {error}") from error


def _version(connection: Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    ours = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'queue_state'").fetchone()
    if version and ours is None:
        raise QueueSchemaError(
            f"the database has user_version {version} but no queue: another application numbers its own schema there; "
            "give the queue a file of its own"
        )
    if version > VERSION:
        raise QueueSchemaError(
            f"the database has schema version {version}, this prismq knows up to {VERSION}: upgrade prismq"
        )
    return version


def _upgrade(connection: Connection, version: int) -> None:
    if version == VERSION:  # another process was first
        return
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if version == 0 and "task_queue" in tables:
        _adopt_original(connection)
    if version in (1, 2):
        _drop_views_and_roll_ups_triggers(connection)
    if version == 1:
        _renew_queue_columns(connection)
    for statement in [*_ROLLED_VIEWS, *SCHEMA_STATEMENTS, *_OWN_STATEMENTS]:
        connection.execute(statement)
    if version == 2:
        connection.execute(rollup.COUNT_BLOCKS)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _drop_views_and_roll_ups_triggers(connection: Connection) -> None:
    """Which later versions define otherwise."""
    for kind, name in connection.execute(
        """SELECT type, name FROM sqlite_schema
           WHERE (type = 'trigger' AND substr(name, 1, 8) = 'roll_up_')
              OR (type = 'view' AND name IN ('v_queue_status_summary', 'v_queue_type_summary', 'v_worker_status',
                                             'v_task_performance', 'v_recent_failures'))"""
    ).fetchall():
        connection.execute(f'DROP {kind} "{name}"')


def _renew_queue_columns(connection: Connection) -> None:
    """Define the virtual columns anew, with what uses them. Only indexes store them: no row is written."""
    drawn = connection.execute("SELECT 1 FROM queue_state WHERE name = 'lottery_backfill'").fetchone() is not None
    for kind, name in connection.execute(
        """SELECT type, name FROM sqlite_schema
           WHERE (type = 'trigger' AND (name = 'keep_ids_unique' OR substr(name, 1, 8) = 'lottery_'))
              OR (type = 'index' AND name IN ('ix_task_status_prio_time', 'ix_task_type_status'))"""
    ).fetchall():
        connection.execute(f'DROP {kind} "{name}"')
    for column, definition in QUEUE_COLUMNS.items():
        connection.execute(f"ALTER TABLE task_queue DROP COLUMN {column}")
        connection.execute(f"ALTER TABLE task_queue ADD COLUMN {column} {definition}")
    if drawn:
        for trigger in lottery.TRIGGERS:
            connection.execute(trigger)


def _adopt_original(connection: Connection) -> None:
    """Turn the tables of the earlier implementation (schema version 0) into ours, in place."""
    columns = {row[1] for row in connection.execute("PRAGMA table_xinfo(task_queue)")}
    for statement in (CREATE_WORKERS, CREATE_TASK_LOGS):  # it made its tables one by one, and may have been stopped
        connection.execute(statement)
    for kind, name in connection.execute(
        """SELECT type, name FROM sqlite_schema
           WHERE (type = 'index' AND sql IS NOT NULL AND tbl_name IN ('task_queue', 'task_logs')
                  AND name IN ('ix_task_status_prio_time', 'ix_task_type_status', 'ix_task_region', 'ix_task_format',
                               'uq_task_idempotency', 'ix_logs_task'))
              OR (type = 'view' AND name IN ('v_queue_status_summary', 'v_queue_type_summary', 'v_worker_status',
                                             'v_task_performance', 'v_recent_failures'))"""
    ).fetchall():
        connection.execute(f'DROP {kind} "{name}"')
    for column in _TIME_COLUMNS:
        # What strftime can't read stays as it is: a strange value is kept, not lost.
        connection.execute(
            f"""UPDATE task_queue SET {column} = strftime('%Y-%m-%d %H:%M:%f', {column})
                WHERE {column} IS NOT NULL AND strftime('%Y-%m-%d %H:%M:%f', {column}) IS NOT NULL"""
        )
    for table, column in (("workers", "heartbeat_utc"), ("task_logs", "at_utc")):
        connection.execute(
            f"""UPDATE {table} SET {column} = strftime('%Y-%m-%d %H:%M:%f', {column})
                WHERE strftime('%Y-%m-%d %H:%M:%f', {column}) IS NOT NULL"""
        )
    connection.execute("UPDATE task_queue SET status = 'processing' WHERE status = 'leased'")
    # Nobody could tell when such a lease ends; without one it has ended.
    connection.execute(
        """UPDATE task_queue SET lease_until_utc = NULL
           WHERE status = 'processing' AND strftime('%Y-%m-%d %H:%M:%f', lease_until_utc) IS NULL"""
    )
    connection.execute(
        f"""UPDATE task_queue SET status = 'dead_letter', finished_at_utc = coalesce(finished_at_utc, {NOW}),
             error_message = coalesce(error_message, 'Attempts exhausted before the upgrade')
           WHERE status = 'queued' AND attempts >= max_attempts"""
    )
    for column, definition in QUEUE_COLUMNS.items():
        if column not in columns:
            connection.execute(f"ALTER TABLE task_queue ADD COLUMN {column} {definition}")
