"""Roll-ups: what finished tasks add up to, so that no metric reads a million rows and none forgets what was deleted.

`task_rollup` holds sums for each type, status and class of processing time, of several kinds:

- `there`: of the rows that are in `task_queue` now; `worker`: the same for each worker (its id is the bucket).
- `ever`: of all that ever finished, deleted ones too; `requeued`: of those that an operator queued again, which are in
  none of the others any more.
- `hour`, `minute`: as `ever`, for each hour and, as far back as MINUTES_HOURS, each minute that they finished in.

The housekeeper adds rows, oldest first, in short transactions, and leaves the newest KEEP out: what finished before the
watermark `rolled_up_to` is in the sums, what finished at it or later is read from its rows. So a small queue has no
sums at all, and an operation of a caller never pays for them. Two triggers keep them right: one on DELETE, one for a
requeue. What other plain SQL does to finished rows is found by `check`, which starts over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prismq import clock

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

KEEP: Final = 4096
"""The newest finished tasks are read from their rows: about 10 ms."""
CHUNK: Final = 500
"""Tasks added to the sums in one transaction: about 2 ms."""
LAG_SECONDS: Final = 5.0
"""Nothing younger is added, so that a clock set back by less loses nothing."""
MINUTES_HOURS: Final = 48
"""How far back minutes are kept apart."""
HOURS_DAYS: Final = 400
"""How far back hours are."""
EXACT_MS: Final = 20
"""Processing times below are kept to the millisecond, longer ones in classes that are at most a tenth wide."""

CREATE_TASK_ROLLUP: Final = """CREATE TABLE IF NOT EXISTS task_rollup (
  kind TEXT NOT NULL,
  bucket TEXT NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  took INTEGER NOT NULL,
  tasks INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  retried INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  ms INTEGER NOT NULL,
  PRIMARY KEY (kind, bucket, type, status, took)
) WITHOUT ROWID"""
"""`took` is the lower end of the class in milliseconds, -1 where no time is known; the five after it are sums."""

WATERMARK: Final = "(SELECT value FROM queue_state WHERE name = 'rolled_up_to')"
CREATE_WATERMARK: Final = "INSERT OR IGNORE INTO queue_state (name, value) VALUES ('rolled_up_to', '')"

_COLUMNS: Final = "kind, bucket, type, status, took, tasks, attempts, retried, priority, ms"
_INTO: Final = f"INSERT INTO task_rollup ({_COLUMNS})"
_ADD: Final = """ON CONFLICT (kind, bucket, type, status, took) DO UPDATE SET tasks = tasks + excluded.tasks,
  attempts = attempts + excluded.attempts, retried = retried + excluded.retried,
  priority = priority + excluded.priority, ms = ms + excluded.ms"""


def duration_ms(row: str) -> str:
    """SQL: how many milliseconds a row was processed, NULL where that is not known."""
    took = f"(julianday({row}finished_at_utc) - julianday({row}processing_started_utc)) * 86400000"
    return f"max(0, CAST(round({took}) AS INTEGER))"


def class_of(ms: str) -> str:
    """SQL: the lower end of the class of so many milliseconds. 20, 21 ... 50, 55 ... 100, 110 ... 200, 220 ..."""
    tenth = f"CAST(substr('1000000000000000', 1, length({ms}) - 1) AS INTEGER)"
    step = (
        f"{tenth} * CASE substr({ms}, 1, 1) WHEN '1' THEN 1 WHEN '2' THEN 2 WHEN '3' THEN 2 WHEN '4' THEN 2 ELSE 5 END"
    )
    return f"CASE WHEN {ms} IS NULL THEN -1 WHEN {ms} < {EXACT_MS} THEN {ms} ELSE {ms} - {ms} % ({step}) END"


def class_width(lower: int) -> int:
    """Milliseconds that a class spans, given its lower end."""
    if lower < EXACT_MS:
        return 1
    digits = str(lower)
    return int(10 ** (len(digits) - 2) * (1 if digits[0] == "1" else 2 if digits[0] in "234" else 5))


_OLD: Final = f"SELECT {duration_ms('OLD.')} AS ms"
_OLD_CLASS: Final = f"SELECT ms, {class_of('ms')} AS took FROM ({_OLD})"
_ROLLED: Final = f"OLD.turn < {WATERMARK}"


def _tally(kinds: str) -> str:
    """SQL of a trigger: add the old row, with the sign of each kind, to `kinds` (kind, bucket, sign)."""
    return f"""{_INTO}
  SELECT kind, bucket, OLD.type, OLD.status, took, sign, sign * OLD.attempts, sign * (OLD.attempts > 1),
    sign * OLD.priority, sign * coalesce(ms, 0)
  FROM ({_OLD_CLASS}) CROSS JOIN ({kinds}) WHERE true {_ADD};"""


_HOUR: Final = "substr(OLD.turn, 1, 13)"
_MINUTE: Final = "substr(OLD.turn, 1, 16)"
_LEAVE_WORKER: Final = f"""UPDATE task_rollup SET tasks = tasks - 1
  WHERE kind = 'worker' AND bucket = OLD.locked_by AND type = '' AND status = OLD.status AND took = -1 AND {_ROLLED};
  DELETE FROM task_rollup WHERE kind = 'worker' AND bucket = OLD.locked_by AND tasks <= 0;"""

CREATE_ROLL_UP_DELETED: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_deleted AFTER DELETE ON task_queue
WHEN OLD.phase < 0
BEGIN
  {
    _tally(f'''SELECT 'there' AS kind, '' AS bucket, -1 AS sign WHERE {_ROLLED}
    UNION ALL SELECT 'ever', '', 1 WHERE NOT {_ROLLED}
    UNION ALL SELECT 'hour', {_HOUR}, 1 WHERE NOT {_ROLLED}
    UNION ALL SELECT 'minute', {_MINUTE}, 1 WHERE NOT {_ROLLED}''')
}
  {_LEAVE_WORKER}
END"""
"""What is deleted before it was rolled up is added now, whoever deletes it."""

# Of the columns that a requeue sets, the one that neither a claim nor a completion does: those don't pay for this.
CREATE_ROLL_UP_REQUEUED: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_requeued
AFTER UPDATE OF run_after_utc ON task_queue WHEN OLD.phase < 0 AND NEW.phase >= 0
BEGIN
  {
    _tally(f'''SELECT 'requeued' AS kind, '' AS bucket, 1 AS sign
    UNION ALL SELECT 'there', '', -1 WHERE {_ROLLED}
    UNION ALL SELECT 'ever', '', -1 WHERE {_ROLLED}
    UNION ALL SELECT 'hour', {_HOUR}, -1 WHERE {_ROLLED}
    UNION ALL SELECT 'minute', {_MINUTE}, -1 WHERE {_ROLLED}''')
}
  {_LEAVE_WORKER}
END"""

DEFINITIONS: Final = (CREATE_TASK_ROLLUP, CREATE_WATERMARK, CREATE_ROLL_UP_DELETED, CREATE_ROLL_UP_REQUEUED)

FINISHED: Final = "task_queue INDEXED BY ix_task_status_prio_time WHERE phase IN (-1, -2) AND needs = 0"
_FROM_WATERMARK: Final = f"turn >= {WATERMARK}"

# When the task finished that is ?1 places after the oldest not yet rolled up; NULL when there are not so many.
NEXT_TURN: Final = f"""SELECT turn FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = ?2 AND needs = 0 AND {_FROM_WATERMARK} ORDER BY turn LIMIT 1 OFFSET ?1"""

# ?1 the new watermark
ROLL_UP: Final = f"""{_INTO}
SELECT kind, substr(minute, 1, length), type, status, took, tasks, attempts, retried, priority, ms
FROM (SELECT substr(turn, 1, 16) AS minute, type, status, {class_of("ms")} AS took, count(*) AS tasks,
    sum(attempts) AS attempts, sum(attempts > 1) AS retried, sum(priority) AS priority, coalesce(sum(ms), 0) AS ms
  FROM (SELECT turn, type, status, attempts, priority, {duration_ms("")} AS ms
    FROM {FINISHED} AND {_FROM_WATERMARK} AND turn < ?1)
  GROUP BY 1, 2, 3, 4) AS finished
CROSS JOIN (SELECT 'there' AS kind, 0 AS length UNION ALL SELECT 'ever', 0
  UNION ALL SELECT 'hour', 13 UNION ALL SELECT 'minute', 16) AS kinds
WHERE true {_ADD}"""
ROLL_UP_WORKERS: Final = f"""{_INTO}
SELECT 'worker', locked_by, '', status, -1, count(*), 0, 0, 0, 0
FROM {FINISHED} AND {_FROM_WATERMARK} AND turn < ?1 AND locked_by IS NOT NULL GROUP BY locked_by, status
ON CONFLICT (kind, bucket, type, status, took) DO UPDATE SET tasks = tasks + excluded.tasks"""
MOVE_WATERMARK: Final = "UPDATE queue_state SET value = ?1 WHERE name = 'rolled_up_to'"
# ?1 the first minute or hour to keep, ?2 'minute' or 'hour'
FORGET: Final = "DELETE FROM task_rollup WHERE kind = ?2 AND bucket < ?1"

# One row: how many rows there are before the watermark, and how many the sums say, completed and not.
COMPARE: Final = f"""SELECT
  (SELECT count(*) FROM task_queue INDEXED BY ix_task_status_prio_time
    WHERE phase = -1 AND needs = 0 AND turn < {WATERMARK}),
  (SELECT count(*) FROM task_queue INDEXED BY ix_task_status_prio_time
    WHERE phase = -2 AND needs = 0 AND turn < {WATERMARK}),
  (SELECT coalesce(sum(tasks), 0) FROM task_rollup WHERE kind = 'there' AND bucket = '' AND status = 'completed'),
  (SELECT coalesce(sum(tasks), 0) FROM task_rollup WHERE kind = 'there' AND bucket = '' AND status <> 'completed')"""
# What is gone stays counted; what is there will be counted anew.
TAKE_THERE_FROM_EVER: Final = f"""{_INTO}
SELECT 'ever', bucket, type, status, took, -tasks, -attempts, -retried, -priority, -ms FROM task_rollup
WHERE kind = 'there' {_ADD}"""
FORGET_SUMS: Final = "DELETE FROM task_rollup WHERE kind IN ('there', 'worker', 'hour', 'minute')"


def roll_up(database: QueueDatabase) -> bool:
    """Add the oldest CHUNK of finished tasks to the sums if there are more than KEEP; whether there may be more."""
    with database.connection():
        if not any(_turn(database, phase, KEEP + CHUNK) for phase in (-1, -2)):
            return False
        with database.transaction():
            now = clock.now()
            newest = clock.to_text(now - timedelta(seconds=LAG_SECONDS))
            turns = [turn for phase in (-1, -2) if (turn := _turn(database, phase, CHUNK))]
            if not turns or min(turns) >= newest:
                return False
            until = min(turns) + " "  # all that finished in the same millisecond go together
            database.execute(ROLL_UP, (until,))
            database.execute(ROLL_UP_WORKERS, (until,))
            database.execute(MOVE_WATERMARK, (until,))
            database.execute(FORGET, (clock.to_text(now - timedelta(hours=MINUTES_HOURS))[:16], "minute"))
            database.execute(FORGET, (clock.to_text(now - timedelta(days=HOURS_DAYS))[:13], "hour"))
    return True


def check(database: QueueDatabase) -> bool:
    """Whether the sums agree with the rows; if not, they begin anew (metrics read the rows until they are rebuilt)."""
    completed, failed, *sums = database.execute(COMPARE).fetchone()
    if [completed, failed] == sums:
        return True
    with database.transaction():
        database.execute(TAKE_THERE_FROM_EVER)
        database.execute(FORGET_SUMS)
        database.execute(MOVE_WATERMARK, ("",))
    return False


def _turn(database: QueueDatabase, phase: int, place: int) -> str | None:
    row = database.execute(NEXT_TURN, (place, phase)).fetchone()
    return None if row is None else str(row[0])
