"""The SQL of every queue operation, shared word for word by the native and the Python driver.

Parameters are numbered; each statement names them. All times are text as `clock` writes it. A statement that must be
flat names its index: a plan must not change because somebody ran ANALYZE.
"""

from __future__ import annotations

from typing import Final

from prismq import rollup

BEGIN: Final = "BEGIN IMMEDIATE"
BEGIN_READ: Final = "BEGIN"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
SAVEPOINT: Final = "SAVEPOINT prismq_operation"
RELEASE: Final = "RELEASE prismq_operation"
ROLLBACK_TO: Final = "ROLLBACK TO prismq_operation"

# -- enqueue ----------------------------------------------------------------------------------------------------------

# ?1 id or NULL for the next, ?2 type, ?3 priority, ?4 payload, ?5 compatibility, ?6 max_attempts, ?7 run_after_utc,
# ?8 idempotency_key, ?9 now.
_INTO: Final = """INSERT INTO task_queue (id, type, priority, payload, compatibility, max_attempts, run_after_utc,
  idempotency_key, created_at_utc, updated_at_utc)"""
INSERT: Final = f"""{_INTO}
VALUES (coalesce(?1, 1 + max(coalesce((SELECT max(id) FROM task_queue), 0),
                             (SELECT value FROM queue_state WHERE name = 'last_deleted_id'))),
  ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)"""

# The same for this many tasks whose ids are known: opening the table and its indexes is the larger part of an insert.
BLOCK_ROWS: Final = 16
_ROW: Final = "(?{}, ?{}, ?{}, ?{}, ?{}, ?{}, ?{}, ?{}, ?{}, ?{})"
_ROWS: Final = ",\n  ".join(
    _ROW.format(*(9 * row + number for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 9))) for row in range(BLOCK_ROWS)
)
INSERT_BLOCK: Final = f"{_INTO}\nVALUES {_ROWS}"

# ?1 idempotency_key
FIND_KEY: Final = "SELECT id FROM task_queue INDEXED BY uq_task_idempotency WHERE idempotency_key = ?1"

# AUTOINCREMENT writes its counter's page whenever an id passes the counter. Moving the counter ahead by a block makes
# that one page per block instead of one per enqueue. ?1 the id just given out, ?2 the block's size.
RESERVE_IDS: Final = "UPDATE sqlite_sequence SET seq = ?1 + ?2 WHERE name = 'task_queue' AND seq <= ?1"
RESERVED_IDS: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'task_queue'"

# -- claim ------------------------------------------------------------------------------------------------------------

# ?1 now
DUE: Final = """SELECT 1 FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = 2 AND needs = 0 AND turn <= ?1 LIMIT 1"""

# ?1 now, ?2 how many
PROMOTE: Final = """UPDATE task_queue SET run_after_utc = turn, updated_at_utc = ?1
WHERE id IN (SELECT id FROM task_queue INDEXED BY ix_task_status_prio_time
             WHERE phase = 2 AND needs = 0 AND turn <= ?1 ORDER BY turn LIMIT ?2)"""

# ?1 now
EXPIRED: Final = """SELECT 1 FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = 0 AND needs = 0 AND turn <= ?1 LIMIT 1"""

# ?1 now, ?2 how many, ?3 the latest end of a lease that is brought back
REAP: Final = """UPDATE task_queue SET
  status = CASE WHEN attempts >= max_attempts THEN 'dead_letter' ELSE 'queued' END,
  finished_at_utc = CASE WHEN attempts >= max_attempts THEN ?1 END,
  error_message = 'Lease expired: worker ' || coalesce(locked_by, '?') || ' did not finish attempt ' || attempts
    || ' by ' || coalesce(lease_until_utc || ' UTC', 'a time that is not known'),
  locked_by = CASE WHEN attempts >= max_attempts THEN locked_by END,
  lease_until_utc = NULL, reserved_at_utc = NULL,
  processing_started_utc = CASE WHEN attempts >= max_attempts THEN processing_started_utc END,
  updated_at_utc = ?1
WHERE id IN (SELECT id FROM task_queue INDEXED BY ix_task_status_prio_time
             WHERE phase = 0 AND needs = 0 AND turn <= ?3 ORDER BY turn LIMIT ?2)
RETURNING id, status, CAST(error_message AS BLOB)"""

# Of a worker that has died, so that its tasks come back at once. ?1 now, ?2 worker
END_LEASES: Final = """UPDATE task_queue SET lease_until_utc = ?1, updated_at_utc = ?1
WHERE id IN (SELECT id FROM task_queue INDEXED BY ix_task_status_prio_time
             WHERE phase = 0 AND needs = 0 AND locked_by = ?2)"""
# ?1 worker
HELD_BY: Final = """SELECT id, attempts FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = 0 AND needs = 0 AND locked_by = ?1"""
# ?1 how many were brought back
COUNT_EXPIRED: Final = "UPDATE queue_state SET value = value + ?1 WHERE name = 'leases_expired'"

# Is any ready task choosy about its worker?
CONSTRAINED: Final = """SELECT 1 FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = 1 AND needs > 0 LIMIT 1"""

_CLAIMED: Final = """id, priority, attempts, max_attempts,
  type, payload, compatibility, run_after_utc, created_at_utc, error_message, idempotency_key"""

# The head by priority when no ready task is choosy and every type will do.
HEAD: Final = f"""SELECT {_CLAIMED} FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = 1 AND needs = 0 ORDER BY turn, id LIMIT 1"""


def _same(one: str, other: str) -> str:
    """True when two json_each rows hold equal values: JSON types must agree, integer and real count as one."""
    number = "('integer', 'real')"
    return f"""({one}.value IS {other}.value
      AND ({one}.type = {other}.type OR ({one}.type IN {number} AND {other}.type IN {number})))"""


# Every key a task needs is met by the worker: an equal value, or one side is a list that holds the other's value.
_FITS: Final = f"""(class.needs = 0 OR NOT EXISTS (SELECT 1 FROM json_each(class.needs) AS need
    WHERE NOT EXISTS (SELECT 1 FROM json_each(?2) AS have WHERE have.key = need.key AND ({_same("have", "need")}
      OR (have.type = 'array' AND EXISTS (SELECT 1 FROM json_each(have.value) AS item WHERE {_same("item", "need")}))
      OR (need.type = 'array' AND EXISTS (SELECT 1 FROM json_each(need.value) AS item WHERE {_same("item", "have")}))
    ))))"""


def _claim_by_class(index: str, turn: str, typed: bool) -> str:
    """The best head among the classes of equal needs (and type): one seek finds each class, one its head."""
    if typed:
        columns, first = "type, needs", "SELECT DISTINCT value, 0 FROM json_each(?1)"
        same_type, carried = "type = class.type AND ", "class.type, "
    else:
        columns, first, same_type, carried = "needs", "SELECT 0", "", ""
    return f"""WITH RECURSIVE class ({columns}) AS (
  {first}
  UNION ALL
  SELECT {carried}(SELECT needs FROM task_queue INDEXED BY {index}
    WHERE phase = 1 AND {same_type}needs > class.needs ORDER BY needs LIMIT 1)
  FROM class WHERE class.needs IS NOT NULL
)
SELECT {_CLAIMED} FROM task_queue WHERE id = (
  SELECT head.id FROM class CROSS JOIN task_queue AS head ON head.id = (
    SELECT id FROM task_queue INDEXED BY {index}
    WHERE phase = 1 AND {same_type}needs = class.needs ORDER BY {turn}, id LIMIT 1)
  WHERE class.needs IS NOT NULL AND {_FITS}
  ORDER BY head.priority, head.id LIMIT 1)"""


def _claim_by_lot(typed: bool) -> str:
    """The lowest ticket of a class that was picked by weight; see lottery."""
    wanted = "class.type IN (SELECT value FROM json_each(?1)) AND " if typed else ""
    uniform = "((random() & 9223372036854775807) + 0.5) / 9223372036854775808.0"
    return f"""SELECT {_CLAIMED} FROM task_queue WHERE id = (
  SELECT task_id FROM task_lottery INDEXED BY ix_lottery WHERE class = (
    SELECT class.id FROM lottery_class AS class WHERE {wanted}{_FITS}
    ORDER BY -ln({uniform}) / max(class.weight, 1e-300) LIMIT 1)
  ORDER BY ticket LIMIT 1)"""


def _claim_by_age(direction: str, typed: bool) -> str:
    """The oldest or newest of all: its class is one of few (needs, priority), each found by one seek from the last."""
    # Not (needs, turn) > (…, …): SQLite seeks by a row value as if it were >=, and would walk through the whole class.
    index, turn = ("ix_task_type_status", "priority") if typed else ("ix_task_status_prio_time", "turn")
    after = ">" if direction == "ASC" else "<"
    order = f"needs {direction}, {turn} {direction}, id {direction}"
    if typed:
        first = f"""SELECT DISTINCT (SELECT id FROM task_queue INDEXED BY {index}
    WHERE phase = 1 AND type = wanted.value ORDER BY {order} LIMIT 1) FROM json_each(?1) AS wanted"""
        same_type = "type = class.type AND "
    else:
        first = f"""SELECT (SELECT id FROM task_queue INDEXED BY {index}
    WHERE phase = 1 ORDER BY {order} LIMIT 1)"""
        same_type = ""
    return f"""WITH RECURSIVE head (id) AS (
  {first}
  UNION ALL
  SELECT coalesce(
    (SELECT id FROM task_queue INDEXED BY {index}
      WHERE phase = 1 AND {same_type}needs = class.needs AND {turn} {after} class.{turn} ORDER BY {order} LIMIT 1),
    (SELECT id FROM task_queue INDEXED BY {index}
      WHERE phase = 1 AND {same_type}needs {after} class.needs ORDER BY {order} LIMIT 1))
  FROM head CROSS JOIN task_queue AS class ON class.id = head.id
)
SELECT {_CLAIMED} FROM task_queue WHERE id = (
  SELECT class.id FROM head CROSS JOIN task_queue AS class ON class.id = head.id
  WHERE {_FITS} ORDER BY class.id {direction} LIMIT 1)"""


# ?1 wanted types (JSON array; typed forms only), ?2 the worker's capabilities (JSON object)
CLAIM_PRIORITY: Final = _claim_by_class("ix_task_status_prio_time", "turn", False)
CLAIM_PRIORITY_TYPED: Final = _claim_by_class("ix_task_type_status", "priority", True)
CLAIM_FIFO: Final = _claim_by_age("ASC", False)
CLAIM_FIFO_TYPED: Final = _claim_by_age("ASC", True)
CLAIM_LIFO: Final = _claim_by_age("DESC", False)
CLAIM_LIFO_TYPED: Final = _claim_by_age("DESC", True)
CLAIM_LOTTERY: Final = _claim_by_lot(False)
CLAIM_LOTTERY_TYPED: Final = _claim_by_lot(True)

# A class's clock stands at its ticket last drawn. ?1 id
DRAW: Final = """UPDATE lottery_class SET clock = (SELECT ticket FROM task_lottery WHERE task_id = ?1)
WHERE id = (SELECT class FROM task_lottery WHERE task_id = ?1)"""

# ?1 id, ?2 worker, ?3 lease_until_utc, ?4 now
TAKE: Final = """UPDATE task_queue SET status = 'processing', attempts = attempts + 1, locked_by = ?2,
  lease_until_utc = ?3, reserved_at_utc = ?4, processing_started_utc = ?4, updated_at_utc = ?4
WHERE id = ?1"""

# Only times in the stored form compare as text: a ready task with any other, such as one with an offset, is read again
# by its true time before it is taken. What is no time is due now, what lies before year 1 is cut. ?1 id, ?2 now
NORMALISE: Final = """UPDATE task_queue SET updated_at_utc = ?2,
  run_after_utc = max('0001-01-01 00:00:00.000', coalesce(strftime('%Y-%m-%d %H:%M:%f', run_after_utc), ?2))
WHERE id = ?1"""

# -- a task's trace context -------------------------------------------------------------------------------------------

# ?1 id, ?2 W3C trace context (JSON)
KEEP_TRACE: Final = """INSERT INTO task_options (task_id, trace) VALUES (?1, ?2)
ON CONFLICT (task_id) DO UPDATE SET trace = excluded.trace"""
# ?1 ids (JSON array)
TRACES: Final = """SELECT task_id, trace FROM task_options
WHERE task_id IN (SELECT value FROM json_each(?1)) AND trace IS NOT NULL"""

# -- settle: what a worker does with the task it holds. (?1 id, ?2 worker, ?3 attempt) is the fencing token. ----------

_HELD: Final = "WHERE id = ?1 AND status = 'processing' AND locked_by = ?2 AND attempts = ?3"

# ?4 now
COMPLETE: Final = f"""UPDATE task_queue SET status = 'completed', finished_at_utc = ?4, updated_at_utc = ?4,
  lease_until_utc = NULL {_HELD}"""

# ?4 now, ?5 error, ?6 whether to retry (0 or 1), ?7 when to retry. Returns 1 queued again, 2 dead letter, 3 failed.
FAIL: Final = f"""UPDATE task_queue SET
  status = CASE WHEN NOT ?6 THEN 'failed' WHEN attempts >= max_attempts THEN 'dead_letter' ELSE 'queued' END,
  error_message = ?5, lease_until_utc = NULL, updated_at_utc = ?4,
  finished_at_utc = CASE WHEN ?6 AND attempts < max_attempts THEN NULL ELSE ?4 END,
  run_after_utc = CASE WHEN ?6 AND attempts < max_attempts THEN ?7 ELSE run_after_utc END,
  locked_by = CASE WHEN ?6 AND attempts < max_attempts THEN NULL ELSE locked_by END,
  reserved_at_utc = CASE WHEN ?6 AND attempts < max_attempts THEN NULL ELSE reserved_at_utc END,
  processing_started_utc = CASE WHEN ?6 AND attempts < max_attempts THEN NULL ELSE processing_started_utc END
{_HELD}
RETURNING CASE status WHEN 'queued' THEN 1 WHEN 'dead_letter' THEN 2 ELSE 3 END"""

# ?4 now, ?5 lease_until_utc
RENEW: Final = f"UPDATE task_queue SET lease_until_utc = ?5, updated_at_utc = ?4 {_HELD}"

# Which of these claims hold no more, by their place. ?1 JSON array of [id, worker, attempt]
NOT_HELD: Final = """SELECT claim.key FROM json_each(?1) AS claim WHERE NOT EXISTS (SELECT 1 FROM task_queue
  WHERE id = claim.value ->> 0 AND status = 'processing' AND locked_by = claim.value ->> 1
    AND attempts = claim.value ->> 2)"""

# As if the claim had never been.
_UNCLAIM: Final = """UPDATE task_queue SET status = 'queued', attempts = attempts - 1, locked_by = NULL,
  lease_until_utc = NULL, reserved_at_utc = NULL, processing_started_utc = NULL, updated_at_utc = """
# ?4 now
UNCLAIM: Final = f"{_UNCLAIM}?4 {_HELD}"
# ?4 when it was claimed, ?5 now
UNCLAIM_ORPHAN: Final = f"{_UNCLAIM}?5 {_HELD} AND reserved_at_utc = ?4"

# -- a group's; see native/group.h ------------------------------------------------------------------------------------

# ?1 "group " and the number of the sidecar file, ?2 tickets and outcomes of what the last transaction did for others
RECORD_GROUP: Final = """INSERT INTO queue_state (name, value) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
# ?1 name
GROUP_DONE: Final = "SELECT value FROM queue_state WHERE name = ?1"
# Of every sidecar file that may be in use: few.
GROUPS_DONE: Final = "SELECT value FROM queue_state WHERE name >= 'group ' AND name < 'group!'"
# Names begin with the time when the file was made. The newest that is old enough has replaced those before it.
# ?1 the name of a file that is just old enough
_GROUPS_TO_FORGET: Final = """FROM queue_state WHERE name >= 'group ' AND name <
  (SELECT max(name) FROM queue_state WHERE name >= 'group ' AND name < ?1 AND length(name) = 22)"""
GROUPS_TO_FORGET: Final = f"SELECT 1 {_GROUPS_TO_FORGET} LIMIT 1"
FORGET_GROUPS: Final = f"DELETE {_GROUPS_TO_FORGET}"

# -- a housekeeper's: text as BLOB, as plain SQL may have put in what is not UTF-8 -------------------------------------

# When the next delayed task is due or lease ends, as two rows; '' for a lease that has no end.
NEXT_TURNS: Final = """SELECT CAST((SELECT turn FROM task_queue INDEXED BY ix_task_status_prio_time
  WHERE phase = 0 AND needs = 0 ORDER BY turn LIMIT 1) AS BLOB)
UNION ALL SELECT CAST((SELECT turn FROM task_queue INDEXED BY ix_task_status_prio_time
  WHERE phase = 2 AND needs = 0 ORDER BY turn LIMIT 1) AS BLOB)"""

# What kinds of tasks are ready, and how many of each, counted up to ?1: type, whether they are choosy, count.
READY_KINDS: Final = """WITH RECURSIVE head (id) AS (
  SELECT (SELECT id FROM task_queue INDEXED BY ix_task_type_status
    WHERE phase = 1 AND type >= '' ORDER BY type, needs LIMIT 1)
  UNION ALL
  SELECT coalesce(
    (SELECT id FROM task_queue INDEXED BY ix_task_type_status
      WHERE phase = 1 AND type = kind.type AND needs > kind.needs ORDER BY type, needs LIMIT 1),
    (SELECT id FROM task_queue INDEXED BY ix_task_type_status
      WHERE phase = 1 AND type > kind.type ORDER BY type, needs LIMIT 1))
  FROM head CROSS JOIN task_queue AS kind ON kind.id = head.id
)
SELECT CAST(kind.type AS BLOB), kind.needs IS NOT 0,
  (SELECT count(*) FROM (SELECT 1 FROM task_queue INDEXED BY ix_task_type_status
    WHERE phase = 1 AND type = kind.type AND needs = kind.needs LIMIT ?1) AS counted)
FROM head CROSS JOIN task_queue AS kind ON kind.id = head.id"""

# -- an operator's ----------------------------------------------------------------------------------------------------

# The columns of a Task, in the order of its fields.
_TASK: Final = """SELECT id, type, priority, payload, compatibility, status, attempts, max_attempts, run_after_utc,
  lease_until_utc, reserved_at_utc, processing_started_utc, finished_at_utc, locked_by, error_message, idempotency_key,
  created_at_utc, updated_at_utc FROM task_queue"""
# ?1 id
GET: Final = f"{_TASK} WHERE id = ?1"
# ?1 id, ?2 worker
GET_HELD: Final = f"{_TASK} WHERE id = ?1 AND status = 'processing' AND locked_by = ?2"
# The newest first. ?1 below this id, ?2 type or NULL, ?3 how many
LIST: Final = f"{_TASK} WHERE id < ?1 AND (?2 IS NULL OR type = ?2) ORDER BY id DESC LIMIT ?3"
# Of one status, without a walk through all others: finished ones by the roll-ups' blocks of ids and by the index from
# the watermark on, queued and held ones by the index. ?1 below this id, ?2 status, ?3 type or NULL, ?4 how many
_WANTED: Final = "id < ?1 AND (?3 IS NULL OR type = ?3)"
LIST_OF_STATUS: Final = f"""{_TASK} WHERE id IN (
  SELECT id FROM (SELECT task.id FROM task_rollup AS block CROSS JOIN task_queue AS task
      ON task.id >= {rollup.BLOCK} * CAST(block.bucket AS INTEGER)
        AND task.id < min(?1, {rollup.BLOCK} * (1 + CAST(block.bucket AS INTEGER)))
    WHERE block.kind = 'block' AND block.bucket <= {rollup.block_of("?1")} AND block.status = ?2 AND block.tasks > 0
      AND task.status = ?2 AND (?3 IS NULL OR task.type = ?3) ORDER BY block.bucket DESC, task.id DESC LIMIT ?4)
  UNION ALL SELECT id FROM {rollup.FINISHED} AND turn >= {rollup.WATERMARK} AND status = ?2 AND {_WANTED}
  UNION ALL SELECT id FROM (SELECT id FROM task_queue INDEXED BY ix_task_status_prio_time
    WHERE phase IN (iif(?2 = 'processing', 0, NULL), iif(?2 = 'queued', 1, NULL), iif(?2 = 'queued', 2, NULL))
      AND {_WANTED} ORDER BY id DESC LIMIT ?4)
  UNION ALL SELECT id FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = 3 AND status = ?2 AND {_WANTED})
ORDER BY id DESC LIMIT ?4"""

# ?1 id, ?2 now
CANCEL: Final = """UPDATE task_queue SET status = 'failed', error_message = 'Cancelled by user', finished_at_utc = ?2,
  updated_at_utc = ?2, lease_until_utc = NULL WHERE id = ?1 AND status IN ('queued', 'processing')"""
_AS_NEW: Final = """UPDATE task_queue SET status = 'queued', attempts = 0, run_after_utc = ?2, updated_at_utc = ?2,
  finished_at_utc = NULL, lease_until_utc = NULL, reserved_at_utc = NULL, processing_started_utc = NULL,
  locked_by = NULL"""
REQUEUE: Final = f"{_AS_NEW} WHERE id = ?1 AND status IN ('failed', 'dead_letter')"

# Failures in the order in which they ended: when, and id.
_FAILURES: Final = """SELECT turn, id FROM task_queue INDEXED BY ix_task_status_prio_time
WHERE phase = -2 AND needs = 0"""
# The next ones to requeue. ?1 status, ?2 wanted types (JSON array) or NULL for all, ?3 and ?4 the last one looked at,
# ?5 and ?6 the last one to look at, ?7 how many
FAILED: Final = f"""{_FAILURES} AND turn >= ?3 AND turn <= ?5 AND (turn > ?3 OR id > ?4) AND (turn < ?5 OR id <= ?6)
  AND status = ?1 AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2))) ORDER BY turn, id LIMIT ?7"""
LAST_FAILED: Final = f"{_FAILURES} ORDER BY turn DESC, id DESC LIMIT 1"
# ?1 ids (JSON array), ?2 now, ?3 status
REQUEUE_MANY: Final = f"{_AS_NEW} WHERE id IN (SELECT value FROM json_each(?1)) AND status = ?3"

# -- what tasks are enqueued with and tell of themselves --------------------------------------------------------------

# ?1 id, ?2 retry configuration (JSON)
KEEP_RETRY: Final = "INSERT INTO task_options (task_id, retry) VALUES (?1, ?2) ON CONFLICT (task_id) DO NOTHING"
# ?1 ids (JSON array)
RETRIES: Final = """SELECT task_id, retry FROM task_options
WHERE task_id IN (SELECT value FROM json_each(?1)) AND retry IS NOT NULL"""

# A stale worker's report changes nothing. ?4 now, ?5 progress, ?6 note
REPORT_PROGRESS: Final = f"""INSERT INTO task_reports (task_id, attempt, progress, note, updated_at_utc)
SELECT id, attempts, ?5, ?6, ?4 FROM task_queue {_HELD}
ON CONFLICT (task_id) DO UPDATE SET attempt = excluded.attempt, progress = excluded.progress, note = excluded.note,
  result = NULL, traceback = NULL, updated_at_utc = excluded.updated_at_utc"""
# ?4 now, ?5 result (JSON), ?6 traceback
REPORT_END: Final = f"""INSERT INTO task_reports (task_id, attempt, result, traceback, updated_at_utc)
SELECT id, attempts, ?5, ?6, ?4 FROM task_queue {_HELD}
ON CONFLICT (task_id) DO UPDATE SET attempt = excluded.attempt,
  progress = CASE WHEN attempt = excluded.attempt THEN progress END,
  note = CASE WHEN attempt = excluded.attempt THEN note END,
  result = excluded.result, traceback = excluded.traceback, updated_at_utc = excluded.updated_at_utc"""
# The columns of a TaskReport, in the order of its fields. ?1 id
GET_REPORT: Final = """SELECT task_id, attempt, progress, note, result, traceback, updated_at_utc
FROM task_reports WHERE task_id = ?1"""

# ?1 task id, ?2 time, ?3 level, ?4 message, ?5 details (JSON or NULL)
LOG: Final = """INSERT INTO task_logs (task_id, at_utc, level, message, details)
SELECT id, ?2, ?3, ?4, ?5 FROM task_queue WHERE id = ?1"""

# -- a worker's own row -----------------------------------------------------------------------------------------------

# ?1 worker_id, ?2 capabilities (JSON), ?3 now
REGISTER_WORKER: Final = """INSERT INTO workers (worker_id, capabilities, heartbeat_utc) VALUES (?1, ?2, ?3)
ON CONFLICT (worker_id) DO UPDATE SET capabilities = excluded.capabilities, heartbeat_utc = excluded.heartbeat_utc"""
# ?1 worker_id, ?2 now
BEAT: Final = "UPDATE workers SET heartbeat_utc = ?2 WHERE worker_id = ?1"
# ?1 worker_id
REMOVE_WORKER: Final = "DELETE FROM workers WHERE worker_id = ?1"

# -- a backup's: whose it is ------------------------------------------------------------------------------------------

# ?1 the path of the database that it was made of
NOTE_ORIGIN: Final = """INSERT INTO queue_state (name, value) VALUES ('backup_of', ?1)
ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
FORGET_ORIGIN: Final = "DELETE FROM queue_state WHERE name = 'backup_of'"
# One row: the queue's id, and in a backup the path.
ORIGIN: Final = """SELECT (SELECT value FROM queue_state WHERE name = 'queue_id'),
  (SELECT value FROM queue_state WHERE name = 'backup_of')"""

# -- a restore's: what must not go back in time -----------------------------------------------------------------------

# The highest id that was ever given out.
NEWEST_ID: Final = """SELECT max(coalesce((SELECT max(id) FROM task_queue), 0),
  (SELECT value FROM queue_state WHERE name = 'last_deleted_id'))"""
# ?1 id
KEEP_IDS: Final = "UPDATE queue_state SET value = max(value, ?1) WHERE name = 'last_deleted_id'"
COUNTERS: Final = "SELECT name, seq FROM sqlite_sequence"
# A table has one from its first row on. ?1 table
BEGIN_COUNTER: Final = """INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema
WHERE type = 'table' AND name = ?1 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)"""
# ?1 table, ?2 counter
KEEP_COUNTER: Final = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1"
KEPT_STATE: Final = """SELECT name, value FROM queue_state WHERE name = 'queue_id'
UNION ALL SELECT name, value FROM queue_state WHERE name >= 'group ' AND name < 'group!'"""
HELD: Final = "SELECT id, attempts FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = 0"
# A claim that somebody holds now must not be taken for a later one: as many attempts are left as in the backup, but
# they are numbered on. ?1 id, ?2 attempts
COUNT_ON: Final = """UPDATE task_queue SET max_attempts = max_attempts + ?2 - attempts, attempts = ?2
WHERE id = ?1 AND attempts < ?2"""
