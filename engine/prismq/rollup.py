"""Roll-ups: what finished tasks add up to, so that no metric reads a million rows and none forgets what was deleted.

`task_rollup` holds sums of several kinds:

- `there`: of the rows that are in `task_queue` now, by type and status; `worker` and `block`: their number by worker
  or block of BLOCK ids (the bucket), and status.
- `ever`: of all that ever finished, deleted ones too, by type and status; `requeued`: of those that an operator queued
  again, which are in none of the others any more.
- `hour`, `minute`: as `ever`, by status, of each hour and, as far back as MINUTES_HOURS, each minute that they
  finished in; `gone hour`, `gone minute`: the share of rows that were deleted since.

`task_times` counts completed tasks by class of processing time: `ever`, of each `minute`, and of each `hour`, there
also for each type; `gone ever`, `gone minute`, and `gone hour` of each type: the share of deleted rows.

The housekeeper adds rows, oldest first, in short transactions, and leaves the newest KEEP out: what finished before the
watermark `rolled_up_to` is in the sums, what finished at it or later is read from its rows. So a small queue has no
sums at all, and an operation of a caller never pays for them. Triggers keep them right, on DELETE and for a requeue.
What other plain SQL does to finished rows is found by `check`, which starts over with what was deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prismq import clock

if TYPE_CHECKING:
    from prismq.database import QueueDatabase

KEEP: Final = 1000
"""So many of the newest finished tasks are read from their rows."""
CHUNK: Final = 200
"""Tasks added to the sums in one transaction: a few milliseconds."""
LAG_SECONDS: Final = 5.0
"""Nothing younger is added, so that a clock set back by less loses nothing."""
MINUTES_HOURS: Final = 48
"""How far back minutes are kept apart."""
HOURS_DAYS: Final = 400
"""How far back hours are."""
BLOCK: Final = 256
"""Ids of one block: so few rows are read to find one of a status in it."""
EXACT_MS: Final = 20
"""Processing times below are kept to the millisecond, longer ones in classes that are at most a tenth wide."""

CREATE_TASK_ROLLUP: Final = """CREATE TABLE IF NOT EXISTS task_rollup (
  kind TEXT NOT NULL,
  bucket TEXT NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  tasks INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  retried INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  ms INTEGER NOT NULL,
  timed INTEGER NOT NULL,
  PRIMARY KEY (kind, bucket, type, status)
) WITHOUT ROWID"""
"""`retried` is how many had more than one attempt, `ms` the processing time of the `timed` ones, others are sums."""

CREATE_TASK_TIMES: Final = """CREATE TABLE IF NOT EXISTS task_times (
  kind TEXT NOT NULL,
  type TEXT NOT NULL,
  bucket TEXT NOT NULL,
  took INTEGER NOT NULL,
  tasks INTEGER NOT NULL,
  PRIMARY KEY (kind, type, bucket, took)
) WITHOUT ROWID"""
"""`took` is the lower end of the class in milliseconds."""

WATERMARK: Final = "(SELECT value FROM queue_state WHERE name = 'rolled_up_to')"
CREATE_WATERMARK: Final = "INSERT OR IGNORE INTO queue_state (name, value) VALUES ('rolled_up_to', '')"

_INTO: Final = """INSERT INTO task_rollup
  (kind, bucket, type, status, tasks, attempts, retried, priority, ms, timed)"""
_ADD: Final = """ON CONFLICT (kind, bucket, type, status) DO UPDATE SET tasks = tasks + excluded.tasks,
  attempts = attempts + excluded.attempts, retried = retried + excluded.retried,
  priority = priority + excluded.priority, ms = ms + excluded.ms, timed = timed + excluded.timed"""
_INTO_TIMES: Final = "INSERT INTO task_times (kind, type, bucket, took, tasks)"
_ADD_TIMES: Final = "ON CONFLICT (kind, type, bucket, took) DO UPDATE SET tasks = tasks + excluded.tasks"


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
    return f"CASE WHEN {ms} < {EXACT_MS} THEN {ms} ELSE {ms} - {ms} % ({step}) END"


def class_width(lower: int) -> int:
    """Milliseconds that a class spans, given its lower end."""
    if lower < EXACT_MS:
        return 1
    digits = str(lower)
    return int(10 ** (len(digits) - 2) * (1 if digits[0] == "1" else 2 if digits[0] in "234" else 5))


def middle_of_class(lower: int) -> float:
    """The estimate for a time in the class, in milliseconds: at most 5 % off."""
    return lower + (class_width(lower) - 1) / 2


def block_of(task_id: str) -> str:
    """SQL: the block that an id is in; blocks are ordered as their ids."""
    return f"printf('%016d', {task_id} / {BLOCK})"


_ROLLED: Final = f"OLD.turn < {WATERMARK}"
_RECENT: Final = f"OLD.turn > strftime('%Y-%m-%d %H:%M', 'now', '-{MINUTES_HOURS} hours')"
_OLD_MS: Final = f"SELECT {duration_ms('OLD.')} AS ms"


def _tally(kinds: str) -> str:
    """SQL of a trigger: add the old row to `kinds` (kind, bucket, type, sign)."""
    return f"""{_INTO}
  SELECT kind, bucket, type, OLD.status, sign, sign * OLD.attempts, sign * (OLD.attempts > 1), sign * OLD.priority,
    sign * coalesce(ms, 0), sign * (ms IS NOT NULL)
  FROM ({_OLD_MS}) CROSS JOIN ({kinds}) WHERE true {_ADD};"""


_HOUR: Final = "substr(OLD.turn, 1, 13)"
_MINUTE: Final = "substr(OLD.turn, 1, 16)"
_BLOCK: Final = block_of("OLD.id")
_LEAVE_WORKER: Final = f"""UPDATE task_rollup SET tasks = tasks - 1
  WHERE kind = 'worker' AND bucket = OLD.locked_by AND type = '' AND status = OLD.status AND {_ROLLED};
  DELETE FROM task_rollup WHERE kind = 'worker' AND bucket = OLD.locked_by AND tasks <= 0;"""

_DELETED: Final = "AFTER DELETE ON task_queue WHEN OLD.phase < 0"


def _tally_times(kinds: str) -> str:
    """SQL of a trigger: add the old row's processing time to `kinds` (kind, type, bucket)."""
    return f"""{_INTO_TIMES}
  SELECT kind, type, bucket, {class_of("ms")}, 1 FROM ({_OLD_MS}) CROSS JOIN ({kinds})
  WHERE OLD.phase = -1 AND ms IS NOT NULL {_ADD_TIMES};"""


CREATE_ROLL_UP_GONE: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_gone {_DELETED}
BEGIN
  {
    _tally(f'''SELECT 'gone hour' AS kind, {_HOUR} AS bucket, '' AS type, 1 AS sign
    UNION ALL SELECT 'gone minute', {_MINUTE}, '', 1 WHERE {_RECENT}''')
}
  {
    _tally_times(f'''SELECT 'gone ever' AS kind, '' AS type, '' AS bucket
    UNION ALL SELECT 'gone hour', OLD.type, {_HOUR}
    UNION ALL SELECT 'gone minute', '', {_MINUTE} WHERE {_RECENT}''')
}
END"""

CREATE_ROLL_UP_LEFT: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_left {_DELETED} AND {_ROLLED}
BEGIN
  {
    _tally(f'''SELECT 'there' AS kind, '' AS bucket, OLD.type AS type, -1 AS sign
    UNION ALL SELECT 'block', {_BLOCK}, '', -1''')
}
  {_LEAVE_WORKER}
END"""

CREATE_ROLL_UP_DELETED: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_deleted {_DELETED} AND NOT {_ROLLED}
BEGIN
  {
    _tally(f'''SELECT 'ever' AS kind, '' AS bucket, OLD.type AS type, 1 AS sign
    UNION ALL SELECT 'hour', {_HOUR}, '', 1
    UNION ALL SELECT 'minute', {_MINUTE}, '', 1''')
}
  {
    _tally_times(f'''SELECT 'ever' AS kind, '' AS type, '' AS bucket
    UNION ALL SELECT 'hour', '', {_HOUR}
    UNION ALL SELECT 'hour', OLD.type, {_HOUR}
    UNION ALL SELECT 'minute', '', {_MINUTE}''')
}
END"""
"""What is deleted before it was rolled up is added now, whoever deletes it."""

# Of the columns that a requeue sets, the one that neither a claim nor a completion does: those don't pay for this.
CREATE_ROLL_UP_REQUEUED: Final = f"""CREATE TRIGGER IF NOT EXISTS roll_up_requeued
AFTER UPDATE OF run_after_utc ON task_queue WHEN OLD.phase < 0 AND NEW.phase >= 0
BEGIN
  {
    _tally(f'''SELECT 'requeued' AS kind, '' AS bucket, OLD.type AS type, 1 AS sign
    UNION ALL SELECT 'there', '', OLD.type, -1 WHERE {_ROLLED}
    UNION ALL SELECT 'block', {_BLOCK}, '', -1 WHERE {_ROLLED}
    UNION ALL SELECT 'ever', '', OLD.type, -1 WHERE {_ROLLED}
    UNION ALL SELECT 'hour', {_HOUR}, '', -1 WHERE {_ROLLED}
    UNION ALL SELECT 'minute', {_MINUTE}, '', -1 WHERE {_ROLLED}''')
}
  {_LEAVE_WORKER}
END"""

DEFINITIONS: Final = (
    CREATE_TASK_ROLLUP,
    CREATE_TASK_TIMES,
    CREATE_WATERMARK,
    CREATE_ROLL_UP_GONE,
    CREATE_ROLL_UP_LEFT,
    CREATE_ROLL_UP_DELETED,
    CREATE_ROLL_UP_REQUEUED,
)

FINISHED: Final = "task_queue INDEXED BY ix_task_status_prio_time WHERE phase IN (-1, -2) AND needs = 0"
_FROM_WATERMARK: Final = f"turn >= {WATERMARK}"

# When the task finished that is ?1 places after the oldest not yet rolled up; NULL when there are not so many.
NEXT_TURN: Final = f"""SELECT turn FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = ?2 AND needs = 0 AND {_FROM_WATERMARK} ORDER BY turn LIMIT 1 OFFSET ?1"""

# What each of these adds is from the watermark on, up to ?1, the new one.
_NEW: Final = f"{FINISHED} AND {_FROM_WATERMARK} AND turn < ?1"
_NEW_SUMS: Final = f"""SELECT substr(turn, 1, 16) AS minute, type, status, count(*) AS tasks, sum(attempts) AS attempts,
    sum(attempts > 1) AS retried, sum(priority) AS priority, coalesce(sum(ms), 0) AS ms, count(ms) AS timed
  FROM (SELECT turn, type, status, attempts, priority, {duration_ms("")} AS ms FROM {_NEW}) GROUP BY 1, 2, 3"""
_SUM_KINDS: Final = """SELECT 'there' AS kind, 0 AS length, true AS typed UNION ALL SELECT 'ever', 0, true
  UNION ALL SELECT 'hour', 13, false UNION ALL SELECT 'minute', 16, false"""
ADD_SUMS: Final = f"""{_INTO}
SELECT kind, substr(minute, 1, length) AS bucket, iif(typed, type, '') AS kept, status,
  sum(tasks), sum(attempts), sum(retried), sum(priority), sum(ms), sum(timed)
FROM ({_NEW_SUMS}) AS added CROSS JOIN ({_SUM_KINDS}) AS kinds GROUP BY kind, bucket, kept, status HAVING true {_ADD}"""
_NEW_TIMES: Final = f"""SELECT substr(turn, 1, 16) AS minute, type, {class_of("ms")} AS took, count(*) AS tasks
  FROM (SELECT turn, type, {duration_ms("")} AS ms FROM {_NEW} AND status = 'completed') WHERE ms IS NOT NULL
  GROUP BY 1, 2, 3"""
_TIME_KINDS: Final = """SELECT 'ever' AS kind, 0 AS length, false AS typed UNION ALL SELECT 'minute', 16, false
  UNION ALL SELECT 'hour', 13, false UNION ALL SELECT 'hour', 13, true"""
ADD_TIMES: Final = f"""{_INTO_TIMES}
SELECT kind, iif(typed, type, '') AS kept, substr(minute, 1, length) AS bucket, took, sum(tasks)
FROM ({_NEW_TIMES}) AS added CROSS JOIN ({_TIME_KINDS}) AS kinds GROUP BY kind, kept, bucket, took
HAVING true {_ADD_TIMES}"""
ADD_WORKERS: Final = f"""{_INTO}
SELECT 'worker', locked_by, '', status, count(*), 0, 0, 0, 0, 0
FROM {_NEW} AND locked_by IS NOT NULL GROUP BY locked_by, status HAVING true {_ADD}"""
_COUNT_BLOCKS: Final = f"{_INTO} SELECT 'block', {block_of('id')} AS bucket, '', status, count(*), 0, 0, 0, 0, 0"
ADD_BLOCKS: Final = f"{_COUNT_BLOCKS} FROM {_NEW} GROUP BY bucket, status HAVING true {_ADD}"
# As an earlier version left them out.
COUNT_BLOCKS: Final = f"{_COUNT_BLOCKS} FROM {FINISHED} AND turn < {WATERMARK} GROUP BY bucket, status"
MOVE_WATERMARK: Final = "UPDATE queue_state SET value = ?1 WHERE name = 'rolled_up_to'"
# ?1 the first minute to keep
FORGET_MINUTES: Final = (
    "DELETE FROM task_rollup WHERE kind IN ('minute', 'gone minute') AND bucket < ?1",
    "DELETE FROM task_times WHERE kind IN ('minute', 'gone minute') AND type = '' AND bucket < ?1",
)
# ?1 the first hour to keep
FORGET_HOURS: Final = (
    "DELETE FROM task_rollup WHERE kind IN ('hour', 'gone hour') AND bucket < ?1",
    "DELETE FROM task_times WHERE kind IN ('hour', 'gone hour') AND bucket < ?1",
)
FORGET_EMPTY_BLOCKS: Final = "DELETE FROM task_rollup WHERE kind = 'block' AND tasks <= 0"

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
SELECT 'ever', bucket, type, status, -tasks, -attempts, -retried, -priority, -ms, -timed FROM task_rollup
WHERE kind = 'there' {_ADD}"""
START_OVER: Final = (
    TAKE_THERE_FROM_EVER,
    "DELETE FROM task_rollup WHERE kind IN ('there', 'worker', 'block', 'hour', 'minute')",
    f"""{_INTO}
SELECT substr(kind, 6), bucket, type, status, tasks, attempts, retried, priority, ms, timed FROM task_rollup
WHERE kind IN ('gone hour', 'gone minute')""",
    "DELETE FROM task_times WHERE kind IN ('ever', 'hour', 'minute')",
    f"""{_INTO_TIMES}
SELECT substr(kind, 6), type, bucket, took, tasks FROM task_times
WHERE kind IN ('gone ever', 'gone hour', 'gone minute')
UNION ALL SELECT 'hour', '', bucket, took, sum(tasks) FROM task_times WHERE kind = 'gone hour' GROUP BY bucket, took""",
)


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
            for addition in (ADD_SUMS, ADD_TIMES, ADD_WORKERS, ADD_BLOCKS, MOVE_WATERMARK):
                database.execute(addition, (until,))
            first_minute = clock.to_text(now - timedelta(hours=MINUTES_HOURS))[:16]
            for forget in FORGET_MINUTES:
                database.execute(forget, (first_minute,))
    return True


def check(database: QueueDatabase) -> bool:
    """Whether the sums agree with the rows; if not, they begin anew with what was deleted (metrics read the rows until
    they are rebuilt).

    Also drops what is older than HOURS_DAYS. To be called seldom: it counts all finished tasks, without a lock.
    """
    first_hour = clock.to_text(clock.now() - timedelta(days=HOURS_DAYS))[:13]
    for forget in FORGET_HOURS:
        database.execute(forget, (first_hour,))
    database.execute(FORGET_EMPTY_BLOCKS)
    completed, failed, *sums = database.execute(COMPARE).fetchone()
    if [completed, failed] == sums:
        return True
    with database.transaction():
        for statement in START_OVER:
            database.execute(statement)
        database.execute(MOVE_WATERMARK, ("",))
    return False


def _turn(database: QueueDatabase, phase: int, place: int) -> str | None:
    row = database.execute(NEXT_TURN, (place, phase)).fetchone()
    return None if row is None else str(row[0])
