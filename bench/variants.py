"""Index designs to compare, as data: tables and the statements of one enqueue, claim and complete.

Statements use the parameters of bare.c. The order of ids is the order of claims, as every task has the same priority.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """A design: its tables, and the statements that make one operation each."""

    name: str
    ddl: tuple[str, ...]
    enqueue: tuple[str, ...]
    claim: tuple[str, ...]
    complete: tuple[str, ...]


def _table(identity: str = "INTEGER PRIMARY KEY", columns: str = "") -> str:
    """The 18 stored columns of `task_queue`, and what a design adds to them."""
    return f"""CREATE TABLE task (id {identity}, type TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 100,
        payload TEXT NOT NULL, compatibility TEXT NOT NULL DEFAULT '{{}}', status TEXT NOT NULL DEFAULT 'queued',
        attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 5,
        run_after_utc DATETIME NOT NULL DEFAULT (datetime('now')), lease_until_utc DATETIME,
        reserved_at_utc DATETIME, processing_started_utc DATETIME, finished_at_utc DATETIME, locked_by TEXT,
        error_message TEXT, idempotency_key TEXT, created_at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
        updated_at_utc DATETIME NOT NULL DEFAULT (datetime('now')){columns})"""


TAKE = """UPDATE task SET status = 'processing', attempts = attempts + 1, locked_by = :worker,
    lease_until_utc = :lease, reserved_at_utc = :now, processing_started_utc = :now, updated_at_utc = :now"""


def _claim(head: str) -> str:
    return f"{TAKE} WHERE id = ({head}) RETURNING *"


def _design(name: str, ddl: tuple[str, ...], head: str) -> Variant:
    return Variant(name, ddl, (ENQUEUE,), (_claim(head),), (COMPLETE,))


ENQUEUE = """INSERT INTO task (type, priority, payload, run_after_utc, created_at_utc, updated_at_utc)
    VALUES (:type, :priority, :payload, :now, :now, :now)"""
COMPLETE = """UPDATE task SET status = 'completed', finished_at_utc = :now, updated_at_utc = :now,
    lease_until_utc = NULL WHERE id = :id AND status = 'processing' AND locked_by = :worker AND attempts = 1"""

STORED = """id, type, priority, payload, compatibility, status, attempts, max_attempts, run_after_utc, lease_until_utc,
    reserved_at_utc, processing_started_utc, finished_at_utc, locked_by, error_message, idempotency_key, created_at_utc,
    updated_at_utc"""
AUTOINCREMENT = "INTEGER PRIMARY KEY AUTOINCREMENT"
QUEUED = "status = 'queued'"
READY = "status = 'queued' AND run_after_utc <= updated_at_utc"
EXTRACTED = """, region TEXT GENERATED ALWAYS AS (json_extract(compatibility, '$.region')) VIRTUAL,
    format TEXT GENERATED ALWAYS AS (json_extract(payload, '$.format')) VIRTUAL"""
PHASED = """, phase INTEGER GENERATED ALWAYS AS (CASE status
      WHEN 'queued' THEN 1 + (run_after_utc > updated_at_utc) WHEN 'processing' THEN 0 END) VIRTUAL,
    turn GENERATED ALWAYS AS (CASE status
      WHEN 'queued' THEN CASE WHEN run_after_utc > updated_at_utc THEN run_after_utc ELSE priority END
      WHEN 'processing' THEN lease_until_utc END) VIRTUAL"""

KEY = "CREATE UNIQUE INDEX uq_key ON task (idempotency_key) WHERE idempotency_key IS NOT NULL"
ORIGINAL = (
    "CREATE INDEX ix_prio_time ON task (status, priority, run_after_utc, id)",
    "CREATE INDEX ix_type_status ON task (type, status)",
    "CREATE INDEX ix_region ON task (region)",
    "CREATE INDEX ix_format ON task (format)",
    KEY,
)
HEAD_ORIGINAL = """SELECT id FROM task WHERE status = 'queued' AND run_after_utc <= :now
    ORDER BY priority, run_after_utc, id LIMIT 1"""
BY_PRIORITY = f"CREATE INDEX ix_ready ON task (priority, id) WHERE {READY}"
BY_TYPE = f"CREATE INDEX ix_ready_type ON task (type, priority, id) WHERE {READY}"
LEASED = "CREATE INDEX ix_leased ON task (lease_until_utc) WHERE status = 'processing'"
DELAYED = "CREATE INDEX ix_delayed ON task (run_after_utc) WHERE status = 'queued' AND run_after_utc > updated_at_utc"
HEAD_READY = f"SELECT id FROM task WHERE {READY} ORDER BY priority, id LIMIT 1"
BY_PHASE = "CREATE INDEX ix_phase ON task (phase, turn, id) WHERE phase IS NOT NULL"
BY_PHASE_TYPE = "CREATE INDEX ix_phase_type ON task (type, priority, id) WHERE phase = 1"
PARTIAL_EXTRACTED = (
    "CREATE INDEX ix_region ON task (region) WHERE region IS NOT NULL",
    "CREATE INDEX ix_format ON task (format) WHERE format IS NOT NULL",
    KEY,
)
HEAD_PHASE = "SELECT id FROM task WHERE phase = 1 ORDER BY turn, id LIMIT 1"

MINIMAL = Variant(
    "minimal row, one index",
    (
        """CREATE TABLE task (id INTEGER PRIMARY KEY, type TEXT, payload TEXT, priority INTEGER,
            status TEXT DEFAULT 'queued')""",
        f"CREATE INDEX ix_queued ON task (priority, id) WHERE {QUEUED}",
    ),
    ("INSERT INTO task (type, payload, priority) VALUES (:type, :payload, :priority)",),
    (
        f"""UPDATE task SET status = 'processing'
            WHERE id = (SELECT id FROM task WHERE {QUEUED} ORDER BY priority, id LIMIT 1) RETURNING *""",
    ),
    ("UPDATE task SET status = 'completed' WHERE id = :id",),
)
SAME_ROW = _design(
    "same row, one index",
    (_table(), f"CREATE INDEX ix_queued ON task (priority, id) WHERE {QUEUED}"),
    f"SELECT id FROM task WHERE {QUEUED} ORDER BY priority, id LIMIT 1",
)

VARIANTS = (
    MINIMAL,
    SAME_ROW,
    _design("original, five indexes", (_table(AUTOINCREMENT, EXTRACTED), *ORIGINAL), HEAD_ORIGINAL),
    _design("original, no AUTOINCREMENT", (_table(columns=EXTRACTED), *ORIGINAL), HEAD_ORIGINAL),
    _design("ready", (_table(), BY_PRIORITY), HEAD_READY),
    _design("ready, AUTOINCREMENT", (_table(AUTOINCREMENT), BY_PRIORITY), HEAD_READY),
    _design("ready + type", (_table(), BY_PRIORITY, BY_TYPE), HEAD_READY),
    _design("ready + type, leased", (_table(), BY_PRIORITY, BY_TYPE, LEASED), HEAD_READY),
    _design("ready + type, leased, delayed", (_table(), BY_PRIORITY, BY_TYPE, LEASED, DELAYED), HEAD_READY),
    _design(
        "ready + type, leased, delayed, region, format, key",
        (_table(columns=EXTRACTED), BY_PRIORITY, BY_TYPE, LEASED, DELAYED, *PARTIAL_EXTRACTED),
        HEAD_READY,
    ),
    _design("phase", (_table(columns=PHASED), BY_PHASE), HEAD_PHASE),
    _design("phase + type", (_table(columns=PHASED), BY_PHASE, BY_PHASE_TYPE), HEAD_PHASE),
    _design(
        "phase + type, region, format, key",
        (_table(columns=PHASED + EXTRACTED), BY_PHASE, BY_PHASE_TYPE, *PARTIAL_EXTRACTED),
        HEAD_PHASE,
    ),
    Variant(
        "the same, claimed by SELECT, then UPDATE",
        (_table(columns=PHASED + EXTRACTED), BY_PHASE, BY_PHASE_TYPE, *PARTIAL_EXTRACTED),
        (ENQUEUE,),
        (
            "BEGIN IMMEDIATE",
            f"SELECT {STORED} FROM task WHERE phase = 1 ORDER BY turn, id LIMIT 1",
            f"{TAKE} WHERE id = :id",
            "COMMIT",
        ),
        (COMPLETE,),
    ),
)
