"""WEIGHTED_RANDOM: a lottery in which a ready task of priority p has weight 1 / (p + 1).

Ready tasks of one type and equal needs are a class: a worker may take all of a class or none. A draw first picks a
class with probability its weight / the weight of all classes that the worker may take. Within the class each task holds
a ticket `V + Exp(rate = weight)`, V being the class's ticket last drawn, and the lowest ticket wins: an exponential
clock has no memory, so each task wins with probability its weight / the class's weight, whenever it came. (The minimum
of independent exponentials: Feller, vol. II, I.3.) Both steps are exact; neither looks at more than one row a class.

Only a database whose tasks are drawn pays for this: the first draw creates the tables and the triggers that keep one
ticket for each ready task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

BACKFILL_CHUNK: Final = 2000
"""Ready tasks that get their ticket in one transaction when the first draw meets a backlog."""

_DEFINITIONS: Final = (
    """CREATE TABLE IF NOT EXISTS lottery_class (
      id INTEGER PRIMARY KEY,
      type TEXT NOT NULL,
      needs,
      size INTEGER NOT NULL DEFAULT 0,
      weight REAL NOT NULL DEFAULT 0.0,
      clock REAL NOT NULL DEFAULT 0.0,
      UNIQUE (type, needs)
    )""",
    """CREATE TABLE IF NOT EXISTS task_lottery (
      task_id INTEGER PRIMARY KEY,
      class INTEGER NOT NULL,
      weight REAL NOT NULL,
      ticket REAL NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS ix_lottery ON task_lottery (class, ticket)",
)


# Not INSERT OR IGNORE: in a trigger the OR of the statement that fired it would win, and a REPLACE lose the class.
_UNLESS_THERE: Final = "ON CONFLICT DO NOTHING"


def _new_class(row: str) -> str:
    return f"INSERT INTO lottery_class (type, needs) SELECT {row}.type, {row}.needs"


def _new_ticket(row: str) -> str:
    """The uniform draw lies in (0, 1): random() has 64 bits, 63 without the sign."""
    weight = f"1.0 / (max({row}.priority, 0) + 1)"
    uniform = "((random() & 9223372036854775807) + 0.5) / 9223372036854775808.0"
    return f"""INSERT INTO task_lottery (task_id, class, weight, ticket)
      SELECT {row}.id, class.id, {weight}, class.clock - ln({uniform}) / ({weight})"""


_CLASS_OF_NEW: Final = "FROM lottery_class AS class WHERE class.type = NEW.type AND class.needs = NEW.needs"
TRIGGERS: Final = (
    f"""CREATE TRIGGER IF NOT EXISTS lottery_enter AFTER INSERT ON task_queue WHEN NEW.phase = 1
    BEGIN
      DELETE FROM task_lottery WHERE task_id = NEW.id; -- of a row that was replaced
      {_new_class("NEW")} WHERE true {_UNLESS_THERE};
      {_new_ticket("NEW")} {_CLASS_OF_NEW} {_UNLESS_THERE};
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS lottery_change
    AFTER UPDATE OF status, attempts, max_attempts, run_after_utc, updated_at_utc, type, compatibility, priority
    ON task_queue
    WHEN OLD.phase IS NOT NEW.phase OR OLD.type <> NEW.type OR OLD.needs <> NEW.needs OR OLD.priority <> NEW.priority
    BEGIN
      DELETE FROM task_lottery WHERE task_id = OLD.id;
      {_new_class("NEW")} WHERE NEW.phase = 1 {_UNLESS_THERE};
      {_new_ticket("NEW")} {_CLASS_OF_NEW} AND NEW.phase = 1 {_UNLESS_THERE};
    END""",
    """CREATE TRIGGER IF NOT EXISTS lottery_leave AFTER DELETE ON task_queue
    BEGIN
      DELETE FROM task_lottery WHERE task_id = OLD.id;
    END""",
    """CREATE TRIGGER IF NOT EXISTS lottery_class_grow AFTER INSERT ON task_lottery
    BEGIN
      UPDATE lottery_class SET size = size + 1, weight = weight + NEW.weight WHERE id = NEW.class;
    END""",
    # An empty class goes, and with it what rounding left in its weight.
    """CREATE TRIGGER IF NOT EXISTS lottery_class_shrink AFTER DELETE ON task_lottery
    BEGIN
      UPDATE lottery_class SET size = size - 1, weight = weight - OLD.weight WHERE id = OLD.class;
      DELETE FROM lottery_class WHERE id = OLD.class AND size = 0;
    END""",
)

# ?1 the last id looked at, ?2 how many to look at
_CHUNK_END: Final = "SELECT max(id) FROM (SELECT id FROM task_queue WHERE id > ?1 ORDER BY id LIMIT ?2)"

# ?1 the last id looked at, ?2 the last one to look at
_BACKLOG: Final = "t.phase = 1 AND t.id > ?1 AND t.id <= ?2"
_BACKFILL_CLASSES: Final = f"{_new_class('t')} FROM task_queue AS t NOT INDEXED WHERE {_BACKLOG} {_UNLESS_THERE}"
_BACKFILL: Final = f"""{_new_ticket("t")} FROM task_queue AS t NOT INDEXED
  CROSS JOIN lottery_class AS class ON class.type = t.type AND class.needs = t.needs WHERE {_BACKLOG} {_UNLESS_THERE}"""


def open_lottery(database: QueueDatabase) -> None:
    """Give every ready task a ticket, once in a database's life, in short transactions; resumes if interrupted."""
    if _progress(database) is None:
        with database.transaction():
            for definition in _DEFINITIONS:
                database.execute(definition)
            database.execute(
                """INSERT OR IGNORE INTO queue_state (name, value)
                   VALUES ('lottery_backfill', (SELECT coalesce(min(id), 1) - 1 FROM task_queue))"""
            )
            for trigger in TRIGGERS:
                database.execute(trigger)
    newest = int(database.execute("SELECT coalesce(max(id), 0) FROM task_queue").fetchone()[0])
    while (done := _progress(database) or 0) < newest:
        with database.transaction():
            end = database.execute(_CHUNK_END, (done, BACKFILL_CHUNK)).fetchone()[0] or newest
            database.execute(_BACKFILL_CLASSES, (done, end))
            database.execute(_BACKFILL, (done, end))
            database.execute("UPDATE queue_state SET value = max(value, ?) WHERE name = 'lottery_backfill'", (end,))


def _progress(database: QueueDatabase) -> int | None:
    row = database.execute("SELECT value FROM queue_state WHERE name = 'lottery_backfill'").fetchone()
    return None if row is None else int(row[0])
