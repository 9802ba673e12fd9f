"""The SQL of who looks at a queue: metrics, workers and logs.

None reads finished tasks one by one, but for those that are not rolled up yet (see rollup). Times are text as `clock`
writes it.
"""

from __future__ import annotations

from typing import Final

from prismq.rollup import FINISHED, WATERMARK, class_of, duration_ms

_QUEUE: Final = "task_queue INDEXED BY ix_task_status_prio_time"
_NOT_ROLLED: Final = f"{FINISHED} AND turn >= {WATERMARK}"

# -- what is in the queue now -----------------------------------------------------------------------------------------

DEPTH_BY_STATUS: Final = f"""SELECT status, sum(tasks) AS tasks FROM (
  SELECT status, tasks FROM task_rollup WHERE kind = 'there' AND bucket = ''
  UNION ALL SELECT 'completed', count(*) FROM {_QUEUE} WHERE phase = -1 AND needs = 0 AND turn >= {WATERMARK}
  UNION ALL SELECT status, 1 FROM {_QUEUE} WHERE phase = -2 AND needs = 0 AND turn >= {WATERMARK}
  UNION ALL SELECT 'processing', count(*) FROM {_QUEUE} WHERE phase = 0
  UNION ALL SELECT 'queued', count(*) FROM {_QUEUE} WHERE phase IN (1, 2)
  UNION ALL SELECT status, 1 FROM {_QUEUE} WHERE phase = 3)
GROUP BY status HAVING sum(tasks) > 0 ORDER BY status"""
_QUEUED_OF_TYPE: Final = f"""SELECT type, 'queued' AS status, count(*) AS tasks
    FROM task_queue INDEXED BY ix_task_type_status WHERE phase = 1 GROUP BY type
  UNION ALL SELECT type, 'queued', count(*) FROM {_QUEUE} WHERE phase = 2 GROUP BY type
  UNION ALL SELECT type, status, 1 FROM {_QUEUE} WHERE phase = 3"""
# Type, status, tasks.
DEPTH_BY_TYPE: Final = f"""SELECT type, status, sum(tasks) FROM (
  {_QUEUED_OF_TYPE}
  UNION ALL SELECT type, 'processing', 1 FROM {_QUEUE} WHERE phase = 0
  UNION ALL SELECT type, status, tasks FROM task_rollup WHERE kind = 'there' AND bucket = ''
  UNION ALL SELECT type, status, 1 FROM {_NOT_ROLLED})
GROUP BY type, status HAVING sum(tasks) > 0 ORDER BY type, status"""
# Of queued tasks only: type, tasks.
QUEUED_BY_TYPE: Final = f"""SELECT type, sum(tasks) FROM ({_QUEUED_OF_TYPE})
WHERE status = 'queued' GROUP BY type ORDER BY type"""

# Ids grow with time: the oldest is one of the thousand smallest ids, unless plain SQL dated it back.
OLDEST_QUEUED: Final = f"""SELECT min(created_at_utc) FROM task_queue WHERE status = 'queued' AND id IN (
  SELECT id FROM {_QUEUE} WHERE phase IN (1, 2, 3) ORDER BY id LIMIT 1000)"""

# How many tasks are queued or held by a worker, the sum of their attempts, and how many have more than one.
_COUNT: Final = "SELECT count(*) AS tasks, sum(attempts) AS tries, sum(attempts > 1) AS again FROM"
UNFINISHED: Final = f"""SELECT sum(tasks), coalesce(sum(tries), 0), coalesce(sum(again), 0) FROM (
  {_COUNT} task_queue INDEXED BY ix_task_type_status WHERE phase = 1
  UNION ALL {_COUNT} {_QUEUE} WHERE phase IN (0, 2)
  UNION ALL {_COUNT} {_QUEUE} WHERE phase = 3 AND status = 'queued')"""

# -- what has finished ------------------------------------------------------------------------------------------------

# Since ?1: whole hours from ?3 on, whole minutes before them from ?2 on, and the rows of what is in neither.
_EDGE: Final = f"{FINISHED} AND turn >= ?1 AND turn < min(?2, {WATERMARK})"
_REST: Final = f"{FINISHED} AND turn >= max(?1, {WATERMARK})"
_SUMS: Final = "SELECT type, status, tasks, attempts, retried, ms, timed FROM task_rollup"
_ROWS: Final = f"""SELECT type, status, 1 AS tasks, attempts, attempts > 1 AS retried, ms, ms IS NOT NULL AS timed
  FROM (SELECT type, status, attempts, {duration_ms("")} AS ms FROM"""
_TOTALS: Final = "sum(tasks), sum(attempts), sum(retried), coalesce(sum(ms), 0), sum(timed)"

# By status: tasks, the sum of their attempts, how many had more than one, the milliseconds that those took of which it
# is known, and how many these are. ?1 to ?3 as above
FINISHED_SINCE: Final = f"""SELECT status, {_TOTALS} FROM (
  {_SUMS} WHERE kind = 'hour' AND bucket >= ?3
  UNION ALL {_SUMS} WHERE kind = 'minute' AND bucket >= ?2 AND bucket < ?3
  UNION ALL {_ROWS} {_EDGE}) UNION ALL {_ROWS} {_REST}))
GROUP BY status"""
# The same since the queue was made, by type and status; with deleted tasks, and if ?1 also with those queued again.
FINISHED_EVER: Final = f"""SELECT type, status, {_TOTALS} FROM (
  {_SUMS} WHERE kind = 'ever' AND bucket = ''
  UNION ALL {_SUMS} WHERE kind = 'requeued' AND bucket = '' AND ?1
  UNION ALL {_ROWS} {_NOT_ROLLED}))
GROUP BY type, status HAVING sum(tasks) > 0 ORDER BY type, status"""

# Of completed tasks, by class of processing time: its lower end in milliseconds, tasks.
_CLASSES: Final = "SELECT took, sum(tasks) FROM ("
_IN_CLASSES: Final = ") GROUP BY took ORDER BY took"
_CLASSES_OF_ROWS: Final = f"""SELECT {class_of("ms")} AS took, 1 AS tasks
  FROM (SELECT type, {duration_ms("")} AS ms FROM"""
# ?1 to ?3 as above
TIMES_SINCE: Final = f"""{_CLASSES}
  SELECT took, tasks FROM task_times WHERE kind = 'hour' AND type = '' AND bucket >= ?3
  UNION ALL SELECT took, tasks FROM task_times WHERE kind = 'minute' AND type = '' AND bucket >= ?2 AND bucket < ?3
  UNION ALL {_CLASSES_OF_ROWS} {_EDGE} AND status = 'completed') WHERE ms IS NOT NULL
  UNION ALL {_CLASSES_OF_ROWS} {_REST} AND status = 'completed') WHERE ms IS NOT NULL
{_IN_CLASSES}"""
# Of one type, from a whole hour on. ?1 the hour, ?2 type
TIMES_OF_TYPE_SINCE: Final = f"""{_CLASSES}
  SELECT took, tasks FROM task_times WHERE kind = 'hour' AND type = ?2 AND bucket >= ?1
  UNION ALL {_CLASSES_OF_ROWS} {_REST} AND status = 'completed' AND type = ?2) WHERE ms IS NOT NULL
{_IN_CLASSES}"""
TIMES_EVER: Final = f"""{_CLASSES}
  SELECT took, tasks FROM task_times WHERE kind = 'ever' AND type = '' AND bucket = ''
  UNION ALL {_CLASSES_OF_ROWS} {_NOT_ROLLED} AND status = 'completed') WHERE ms IS NOT NULL
{_IN_CLASSES}"""
# How many completed rows there are, counted up to ?2.
COUNT_COMPLETED_SINCE: Final = f"""SELECT count(*) FROM (
  SELECT 1 FROM {_QUEUE} WHERE phase = -1 AND needs = 0 AND turn >= ?1 LIMIT ?2) AS counted"""
# Their processing times in milliseconds. ?1 since, ?2 type or NULL
EACH_TIME_SINCE: Final = f"""SELECT ms FROM (SELECT {duration_ms("")} AS ms FROM {_QUEUE}
  WHERE phase = -1 AND needs = 0 AND turn >= ?1 AND (?2 IS NULL OR type = ?2))
WHERE ms IS NOT NULL ORDER BY ms"""
LEASES_EXPIRED: Final = "SELECT value FROM queue_state WHERE name = 'leases_expired'"

# -- workers ----------------------------------------------------------------------------------------------------------

# Seconds, and for ever where the heartbeat is no time. ?1 now
_AGE: Final = "coalesce(round((julianday(?1) - julianday(heartbeat_utc)) * 86400, 3), 1e12)"
# Worker, capabilities, heartbeat, its age in seconds; newest first. ?1 now
WORKERS: Final = f"""SELECT worker_id, capabilities, heartbeat_utc, {_AGE} AS age FROM workers
ORDER BY age, worker_id"""
# ?1 now, ?2 older than so many seconds, ?3 whether also those who hold tasks
REMOVE_STALE_WORKERS: Final = f"""DELETE FROM workers WHERE {_AGE} > ?2
AND (?3 OR worker_id NOT IN (SELECT locked_by FROM {_QUEUE} WHERE phase = 0 AND locked_by IS NOT NULL))"""
# By worker and status, of one worker or (NULL) all: tasks. ?1 worker_id
WORKER_TASKS: Final = f"""SELECT worker_id, status, sum(tasks) FROM (
  SELECT bucket AS worker_id, status, tasks FROM task_rollup WHERE kind = 'worker' AND (?1 IS NULL OR bucket = ?1)
  UNION ALL SELECT locked_by, status, 1 FROM {_NOT_ROLLED} AND (?1 IS NULL OR locked_by = ?1)
  UNION ALL SELECT locked_by, status, 1 FROM {_QUEUE} WHERE phase = 0 AND (?1 IS NULL OR locked_by = ?1))
WHERE worker_id IS NOT NULL GROUP BY worker_id, status"""
# As a lease that ran out: the claim counted the attempt. ?1 now, ?2 older than so many seconds, ?3 how many
RECLAIM: Final = f"""UPDATE task_queue SET
  status = CASE WHEN attempts >= max_attempts THEN 'dead_letter' ELSE 'queued' END,
  finished_at_utc = CASE WHEN attempts >= max_attempts THEN ?1 END,
  error_message = 'Worker lost: ' || locked_by || ' was last heard of at ' || coalesce((SELECT heartbeat_utc || ' UTC'
    FROM workers WHERE worker_id = locked_by), '?') || ', during attempt ' || attempts,
  locked_by = CASE WHEN attempts >= max_attempts THEN locked_by END,
  lease_until_utc = NULL, reserved_at_utc = NULL,
  processing_started_utc = CASE WHEN attempts >= max_attempts THEN processing_started_utc END,
  updated_at_utc = ?1
WHERE id IN (SELECT id FROM {_QUEUE} WHERE phase = 0
    AND locked_by IN (SELECT worker_id FROM workers WHERE {_AGE} > ?2) LIMIT ?3)
RETURNING id, status, error_message"""

# -- logs -------------------------------------------------------------------------------------------------------------

_LOG_COLUMNS: Final = "log_id, task_id, at_utc, level, message, details"
# ?1 task_id, ?2 level or NULL, ?3 how many
TASK_LOGS: Final = f"""SELECT {_LOG_COLUMNS} FROM task_logs INDEXED BY ix_logs_task
WHERE task_id = ?1 AND (?2 IS NULL OR level = ?2) ORDER BY at_utc DESC, log_id DESC LIMIT ?3"""
# ?1 level or NULL, ?2 how many
RECENT_LOGS: Final = f"""SELECT {_LOG_COLUMNS} FROM task_logs WHERE log_id IN (
  SELECT log_id FROM task_logs INDEXED BY ix_logs_time WHERE ?1 IS NULL OR level = ?1
  ORDER BY at_utc DESC, log_id DESC LIMIT ?2) ORDER BY at_utc DESC, log_id DESC"""
# As they were written, which is not always by their times: a buffered entry is older than what was written before it.
# ?1 after which, ?2 how many
LOGS_AFTER: Final = f"SELECT {_LOG_COLUMNS} FROM task_logs WHERE log_id > ?1 ORDER BY log_id LIMIT ?2"
NEWEST_LOG: Final = "SELECT coalesce(max(log_id), 0) FROM task_logs"
# ?1 before, ?2 how many
DELETE_LOGS: Final = """DELETE FROM task_logs WHERE log_id IN (
  SELECT log_id FROM task_logs INDEXED BY ix_logs_time WHERE at_utc < ?1 LIMIT ?2)"""
