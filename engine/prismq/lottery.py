"""WEIGHTED_RANDOM: a lottery in which a ready task of priority p has weight 1 / (p + 1).

Each ready task holds a ticket `V + Exp(rate = weight)`, V being the ticket last drawn, and the lowest ticket is drawn.
An exponential clock has no memory, so at every draw each task wins with probability weight / sum of weights, exactly,
from an ordered index: no scan, no counters. (The minimum of independent exponentials: Feller, vol. II, I.3.)

Only a database whose tasks are drawn pays for tickets: the first draw creates their table and the triggers that keep
one ticket for each ready task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

BACKFILL_CHUNK: Final = 2000
"""Ready tasks that get their ticket in one transaction when the first draw meets a backlog."""

_DEFINITIONS: Final = (
    """CREATE TABLE IF NOT EXISTS task_lottery (
      task_id INTEGER PRIMARY KEY,
      type TEXT NOT NULL,
      needs,
      ticket REAL NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS ix_lottery ON task_lottery (needs, ticket)",
    "CREATE INDEX IF NOT EXISTS ix_lottery_type ON task_lottery (type, needs, ticket)",
)


def _ticket(row: str) -> str:
    """SQL for a new ticket. The uniform draw lies in (0, 1): random() has 64 bits, 63 without the sign."""
    return f"""(SELECT value FROM queue_state WHERE name = 'lottery_clock')
      - ln(((random() & 9223372036854775807) + 0.5) / 9223372036854775808.0) * (max({row}.priority, 0) + 1)"""


_TRIGGERS: Final = (
    f"""CREATE TRIGGER IF NOT EXISTS lottery_enter AFTER INSERT ON task_queue WHEN NEW.phase = 1
    BEGIN
      INSERT OR REPLACE INTO task_lottery VALUES (NEW.id, NEW.type, NEW.needs, {_ticket("NEW")});
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS lottery_change
    AFTER UPDATE OF status, attempts, max_attempts, run_after_utc, updated_at_utc, type, compatibility, priority
    ON task_queue
    WHEN OLD.phase IS NOT NEW.phase OR OLD.type <> NEW.type OR OLD.needs <> NEW.needs OR OLD.priority <> NEW.priority
    BEGIN
      DELETE FROM task_lottery WHERE task_id = OLD.id;
      INSERT INTO task_lottery SELECT NEW.id, NEW.type, NEW.needs, {_ticket("NEW")} WHERE NEW.phase = 1;
    END""",
    """CREATE TRIGGER IF NOT EXISTS lottery_leave AFTER DELETE ON task_queue
    BEGIN
      DELETE FROM task_lottery WHERE task_id = OLD.id;
    END""",
)

# ?1 the last id looked at, ?2 how many to look at
_BACKFILL: Final = f"""INSERT OR IGNORE INTO task_lottery
  SELECT t.id, t.type, t.needs, {_ticket("t")} FROM task_queue AS t
  WHERE t.phase = 1 AND t.id > ?1 AND t.id <= ?1 + ?2"""


def open_lottery(database: QueueDatabase) -> None:
    """Give every ready task a ticket, once in a database's life, in short transactions; resumes if interrupted."""
    if _progress(database) is None:
        with database.transaction():
            for definition in _DEFINITIONS:
                database.execute(definition)
            database.execute(
                """INSERT OR IGNORE INTO queue_state (name, value) VALUES ('lottery_clock', 0.0),
                   ('lottery_backfill', (SELECT coalesce(min(id), 1) - 1 FROM task_queue))"""
            )
            for trigger in _TRIGGERS:
                database.execute(trigger)
    newest = int(database.execute("SELECT coalesce(max(id), 0) FROM task_queue").fetchone()[0])
    while (done := _progress(database) or 0) < newest:
        with database.transaction():
            database.execute(_BACKFILL, (done, BACKFILL_CHUNK))
            database.execute(
                "UPDATE queue_state SET value = max(value, ?1 + ?2) WHERE name = 'lottery_backfill'",
                (done, BACKFILL_CHUNK),
            )


def _progress(database: QueueDatabase) -> int | None:
    row = database.execute("SELECT value FROM queue_state WHERE name = 'lottery_backfill'").fetchone()
    return None if row is None else int(row[0])
