"""How long finished tasks and logs are kept, and their removal a little at a time.

Tasks are looked at in the order in which they finished, some hundred at a time, and removed in transactions of about
half a millisecond, so that nobody who enqueues or claims waits for it. Between looking and removing a task may have
been requeued: only what is as it was seen goes. Where a task has many log lines, the most of these go before it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeVar

from prismq import clock, filesystem
from prismq.database import QueueDatabase
from prismq.errors import QueueMaintenanceBusyError, QueueMaintenanceError, raised_as

Place = tuple[str, int]
"""When a task finished, and its id."""
T = TypeVar("T")
Row = tuple[Any, ...]
"""One to be removed: its id, and what it was when it was looked at."""

_log = logging.getLogger(__name__)

TRANSACTION_SECONDS: Final = 0.0005
"""Aimed at for each removing transaction, by how many rows it takes."""
REST: Final = 4
"""After each of them a caller of `prune` waits so many times as long."""
FEWEST_ROWS: Final = 4
MOST_ROWS: Final = 400
MOST_LOGS: Final = 100
"""A task with more log lines than this is removed after them, any other together with them."""
LOOKED_AT: Final = 400
"""Rows read at a time."""
LOOK_SECONDS = 60.0
"""How often who keeps house applies the stored policy."""
SLICE_SECONDS: Final = 0.005
"""How long it does so at a time, before it rests four times as long."""
LONGEST_DAYS: Final = 36525

_PHASES: Final = {-1: ("completed",), -2: ("failed", "dead_letter")}
_FIRST: Final[Place] = ("", -(2**63))
_LAST: Final[Place] = ("~", 2**63 - 1)

# Finished tasks of a phase, see schema. ?1 phase, ?2 when the last one looked at finished and ?3 its id, ?4 how many
_OF: Final = (
    "SELECT id, status, turn FROM task_queue INDEXED BY ix_task_status_prio_time WHERE phase = ?1 AND needs = 0"
)
_AFTER: Final = f"{_OF} AND turn >= ?2 AND (turn > ?2 OR id > ?3) ORDER BY turn, id LIMIT ?4"
_BEFORE: Final = f"{_OF} AND turn <= ?2 AND (turn < ?2 OR id < ?3) ORDER BY turn DESC, id DESC LIMIT ?4"
# ?1 the tasks to remove as [[id, status, turn], ...], of which these are still as they were
_DELETE_TASKS: Final = """DELETE FROM task_queue WHERE id IN (
  SELECT task.id FROM json_each(?1) AS given CROSS JOIN task_queue AS task ON task.id = given.value ->> 0
    AND task.status = given.value ->> 1 AND task.turn = given.value ->> 2)
RETURNING status"""
# How many log lines each has, counted up to ?2. ?1 tasks as above
_COUNT_LOGS: Final = """SELECT given.value ->> 0, (SELECT count(*) FROM (SELECT 1 FROM task_logs INDEXED BY ix_logs_task
  WHERE task_id = given.value ->> 0 LIMIT ?2)) FROM json_each(?1) AS given"""
_NEWEST_LOG: Final = "SELECT coalesce(max(log_id), 0) FROM task_logs"
# Of a task that is still as it was. ?1 id, ?2 status, ?3 turn, ?4 the last log line, ?5 how many
_DELETE_LOGS_OF: Final = """DELETE FROM task_logs WHERE log_id IN (
  SELECT log_id FROM task_logs INDEXED BY ix_logs_task WHERE task_id = ?1 AND log_id <= ?4
    AND EXISTS (SELECT 1 FROM task_queue WHERE id = ?1 AND status = ?2 AND turn = ?3) LIMIT ?5)"""
# ?1 the last id looked at, ?2 how many
_LOGS_AFTER: Final = "SELECT log_id, at_utc FROM task_logs WHERE log_id > ?1 ORDER BY log_id LIMIT ?2"
# ?1 how many are newer
_LOG_BEHIND: Final = "SELECT log_id FROM task_logs ORDER BY log_id DESC LIMIT 1 OFFSET ?1"
# ?1 the logs to remove as [[id], ...]
_DELETE_LOGS: Final = "DELETE FROM task_logs WHERE log_id IN (SELECT value ->> 0 FROM json_each(?1))"
# ?1 rows as [[id, ...], ...]. Whole tasks with all that goes with them, and whole log lines.
_EXPORT_LOGS: Final = """SELECT log.* FROM json_each(?1) AS given
CROSS JOIN task_logs AS log ON log.log_id = given.value ->> 0"""
_EXPORT_TASKS: Final = """SELECT task.*,
  (SELECT json_group_array(json_object('log_id', log_id, 'at_utc', at_utc, 'level', CAST(level AS TEXT),
      'message', CAST(message AS TEXT), 'details', CAST(details AS TEXT)) ORDER BY log_id)
    FROM task_logs WHERE task_id = task.id) AS logs,
  (SELECT json_object('retry', CAST(retry AS TEXT), 'trace', CAST(trace AS TEXT))
    FROM task_options WHERE task_id = task.id) AS options,
  (SELECT json_object('attempt', attempt, 'progress', progress, 'note', CAST(note AS TEXT),
      'result', CAST(result AS TEXT), 'traceback', CAST(traceback AS TEXT), 'updated_at_utc', updated_at_utc)
    FROM task_reports WHERE task_id = task.id) AS report
FROM json_each(?1) AS given CROSS JOIN task_queue AS task ON task.id = given.value ->> 0"""
_PARTS: Final = ("logs", "options", "report")
_POLICY: Final = "SELECT value FROM queue_state WHERE name = 'retention'"
_STORE_POLICY: Final = """INSERT INTO queue_state (name, value) VALUES ('retention', ?1)
ON CONFLICT (name) DO UPDATE SET value = excluded.value"""


@dataclass(frozen=True)
class Keep:
    """Of one kind of rows, what is kept: the newest `count` of those not older than `days`; None is no limit."""

    days: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.days is not None and not (_is_number(self.days) and 0 <= self.days <= LONGEST_DAYS):
            raise QueueMaintenanceError(f"days is {self.days!r}; it must be a number from 0 to {LONGEST_DAYS}")
        if self.count is not None and not (_is_number(self.count) and self.count >= 0 and self.count % 1 == 0):
            raise QueueMaintenanceError(f"count is {self.count!r}; it must be a whole number from 0 on")

    @property
    def limits(self) -> bool:
        """Whether anything is ever removed."""
        return self.days is not None or self.count is not None


@dataclass(frozen=True)
class RetentionPolicy:
    """What is kept of finished tasks, by their status, and of log lines. By default all of it.

    With a task go its logs, options and report. Its idempotency key is free again then.
    """

    completed: Keep = Keep()
    failed: Keep = Keep()
    dead_letter: Keep = Keep()
    logs: Keep = Keep()

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The limits that there are, as JSON has them."""
        limits = {
            kind.name: {name: value for name, value in vars(getattr(self, kind.name)).items() if value is not None}
            for kind in fields(self)
        }
        return {name: limit for name, limit in limits.items() if limit}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Of such a dict; QueueMaintenanceError for unknown keys and bad values."""
        kinds = [kind.name for kind in fields(cls)]
        if not isinstance(values, dict) or not set(values) <= set(kinds):
            raise QueueMaintenanceError(
                f"a retention policy is an object with the keys {', '.join(kinds)}: {values!r:.200}"
            )
        try:
            return cls(**{name: Keep(**limits) for name, limits in values.items()})
        except TypeError as error:
            raise QueueMaintenanceError(f"a limit has the keys days and count: {values!r:.200}") from error


@dataclass
class Pruned:
    """How many rows were removed: tasks by status, and log lines that were too old (not those of removed tasks)."""

    completed: int = 0
    failed: int = 0
    dead_letter: int = 0
    logs: int = 0


def prune(
    database: QueueDatabase, policy: RetentionPolicy | None = None, *, export: str | os.PathLike[str] | None = None
) -> Pruned:
    """Remove what the policy, by default the stored one, doesn't keep; in small transactions, with pauses.

    With `export` every task is first appended to that file, as a line of JSON with its logs, options and report, and
    every log line; it is on the disk before the removal commits. After a crash the last ones may be in it twice, and
    its last line cut short. Raises QueueMaintenanceError; what was removed by then stays removed.
    """
    with _translated("not everything was removed"):
        if database.get_connection().in_transaction:
            raise QueueMaintenanceError("inside a transaction everything would be removed in one: end it first")
        with nullcontext() if export is None else _appending(Path(export)) as file:
            pruning = Pruning(database, stored_policy(database) if policy is None else policy, file)
            for pause in pruning.steps():
                time.sleep(pause)
        return pruning.removed


def stored_policy(database: QueueDatabase) -> RetentionPolicy:
    """What housekeeping applies, in whichever process; QueueMaintenanceError when it can't be read."""
    row = database.execute(_POLICY).fetchone()
    try:
        return RetentionPolicy() if row is None else RetentionPolicy.from_dict(json.loads(row[0]))
    except (ValueError, TypeError) as error:
        raise QueueMaintenanceError(f"the stored retention policy can't be read ({error}): store another") from error


def store_policy(database: QueueDatabase, policy: RetentionPolicy) -> None:
    """Have housekeeping apply the policy from now on, in whichever process; RetentionPolicy() ends that."""
    with _translated("the policy was not stored"):
        database.execute(_STORE_POLICY, (json.dumps(policy.to_dict()),))


class Pruning:
    """One pass over a queue's rows."""

    def __init__(self, database: QueueDatabase, policy: RetentionPolicy, export: BinaryIO | None = None) -> None:
        self.removed = Pruned()
        self._database = database
        self._policy = policy
        self._export = export
        self._rows = FEWEST_ROWS * 4  # of the next transaction

    def steps(self) -> Iterator[float]:
        """Does the work in small steps; yields after each how long to rest, in seconds."""
        for phase, statuses in _PHASES.items():
            limits = {status: getattr(self._policy, status) for status in statuses}
            if any(keep.limits for keep in limits.values()):
                yield from self._prune_tasks(phase, limits)
        if self._policy.logs.limits:
            yield from self._prune_logs(self._policy.logs)

    def _prune_tasks(self, phase: int, limits: dict[str, Keep]) -> Iterator[float]:
        before = {status: _cutoff(keep) for status, keep in limits.items()}
        through: dict[str, Place] = {}
        yield from self._find_newest(phase, limits, through)
        latest, furthest = max(before.values()), max(through.values(), default=_FIRST)
        last = _FIRST
        while rows := self._database.execute(_AFTER, (phase, *last, LOOKED_AT)).fetchall():
            last = (rows[-1][2], rows[-1][0])
            doomed = [
                (task_id, status, ended)
                for task_id, status, ended in rows
                if ended < before[status] or (ended, task_id) <= through.get(status, _FIRST)
            ]
            yield from self._remove_tasks(doomed)
            if last[0] >= latest and last >= furthest:
                return
            yield 0

    def _find_newest(self, phase: int, limits: dict[str, Keep], through: dict[str, Place]) -> Iterator[float]:
        """Sets the last task of each status that has as many newer ones as are kept."""
        left = {status: keep.count for status, keep in limits.items() if keep.count is not None}
        first = _LAST
        while left and (rows := self._database.execute(_BEFORE, (phase, *first, LOOKED_AT)).fetchall()):
            for task_id, status, ended in rows:
                if left.get(status) == 0:
                    through[status] = (ended, task_id)
                    del left[status]
                elif status in left:
                    left[status] -= 1
            first = (rows[-1][2], rows[-1][0])
            yield 0

    def _prune_logs(self, keep: Keep) -> Iterator[float]:
        before, through = _cutoff(keep), -math.inf
        if keep.count is not None:
            row = self._database.execute(_LOG_BEHIND, (keep.count,)).fetchone()
            through = row[0] if row is not None else through
        last = -(2**63)
        while rows := self._database.execute(_LOGS_AFTER, (last, LOOKED_AT)).fetchall():
            last = rows[-1][0]
            doomed = [(log_id,) for log_id, at in rows if at < before or log_id <= through]
            if not doomed:
                return  # the others are newer
            yield from self._remove_logs(doomed)

    def _remove_tasks(self, doomed: Sequence[Row]) -> Iterator[float]:
        newest_log = self._database.execute(_NEWEST_LOG).fetchone()[0]
        exported = self._exported(doomed, "task", _EXPORT_TASKS)
        logs = dict(map(tuple, self._database.execute(_COUNT_LOGS, (json.dumps(doomed), MOST_LOGS + 1))))
        for row in doomed:
            if logs[row[0]] > MOST_LOGS:
                yield from self._remove_logs_of(row, newest_log)
                logs[row[0]] = 0
                if row[0] in exported:
                    exported[row[0]] = _without_logs(exported[row[0]])

        def remove(batch: list[Row]) -> int:
            as_exported = self._unchanged(batch, exported, "task", _EXPORT_TASKS)
            removed = self._database.execute(_DELETE_TASKS, (json.dumps(as_exported),)).fetchall()
            for (status,) in removed:
                setattr(self.removed, status, getattr(self.removed, status) + 1)
            return len(removed)

        left = deque(doomed)
        while left:
            batch, rows = [], 0
            while left and rows < self._rows:
                rows += 1 + logs[left[0][0]]
                batch.append(left.popleft())
            yield self._in_transaction(remove, batch)[1]

    def _remove_logs_of(self, task: Row, newest: int) -> Iterator[float]:
        def remove(limit: int) -> int:
            return self._database.execute(_DELETE_LOGS_OF, (*task, newest, limit)).rowcount

        removed = limit = 0
        while removed == limit:
            limit = self._rows
            removed, pause = self._in_transaction(remove, limit)
            yield pause

    def _remove_logs(self, doomed: Sequence[Row]) -> Iterator[float]:
        exported = self._exported(doomed, "log", _EXPORT_LOGS)

        def remove(batch: list[Row]) -> int:
            as_exported = self._unchanged(batch, exported, "log", _EXPORT_LOGS)
            return self._database.execute(_DELETE_LOGS, (json.dumps(as_exported),)).rowcount

        left = deque(doomed)
        while left:
            removed, pause = self._in_transaction(remove, [left.popleft() for _ in range(min(self._rows, len(left)))])
            self.removed.logs += removed
            yield pause

    def _in_transaction(self, remove: Callable[[T], int], what: T) -> tuple[int, float]:
        """How many rows it removed, and how long to rest; the next one will take as many as fit the time aimed at."""
        with self._database.transaction():
            started = time.perf_counter()  # others wait from here on
            removed = remove(what)
        took = time.perf_counter() - started
        fitting = self._rows * min(2.0, max(0.5, TRANSACTION_SECONDS / max(took, 1e-6)))
        self._rows = min(MOST_ROWS, max(FEWEST_ROWS, round(fitting)))
        return removed, REST * took

    def _records(self, rows: Sequence[Row], kind: str, export: str) -> dict[int, bytes]:
        """The lines of those rows that there are, by their ids."""
        records = {}
        for row in self._database.execute(export, (json.dumps(rows),)):
            whole = dict(row)
            record = whole | {part: json.loads(whole[part] or "null") for part in _PARTS if part in whole}
            records[int(row[0])] = _line({kind: record})
        return records

    def _exported(self, rows: Sequence[Row], kind: str, export: str) -> dict[int, bytes]:
        """Their lines, which are on the disk now; none without an export."""
        if self._export is None:
            return {}
        records = self._records(rows, kind, export)
        self._export.writelines(records.values())
        self._export.flush()
        os.fsync(self._export.fileno())
        return records

    def _unchanged(self, rows: list[Row], exported: dict[int, bytes], kind: str, export: str) -> list[Row]:
        """Those that are still as they were exported; all of them without an export."""
        if self._export is None:
            return rows
        now = self._records(rows, kind, export)
        return [row for row in rows if now.get(row[0], b"") == exported.get(row[0])]


@dataclass
class StoredRetention:
    """Applies the stored policy now and then, a little at a time, for who keeps house."""

    database: QueueDatabase
    _steps: Iterator[float] | None = field(default=None, init=False)
    _next_at: float = field(default=0.0, init=False)  # monotonic
    _complained: bool = field(default=False, init=False)

    def attend(self) -> float:
        """Do what is due; returns in how many seconds there is more to do."""
        now = time.monotonic()
        if self._steps is None:
            if now < self._next_at:
                return self._next_at - now
            self._steps = Pruning(self.database, self._policy()).steps()
        steps, self._steps = self._steps, None  # which a failure ends
        self._next_at = now + LOOK_SECONDS
        for _ in steps:
            worked = time.monotonic() - now
            if worked > SLICE_SECONDS:
                self._steps = steps
                return 4 * worked
        return LOOK_SECONDS

    def _policy(self) -> RetentionPolicy:
        try:
            policy = stored_policy(self.database)
        except QueueMaintenanceError as error:
            if not self._complained:
                _log.error("nothing is removed from %s: %s", self.database.db_path, error)
            self._complained = True
            return RetentionPolicy()
        self._complained = False
        return policy


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=bytes.hex).encode("utf-8", "surrogatepass") + b"\n"


def _without_logs(line: bytes) -> bytes:
    """The line of the same task after its log was removed."""
    (record,) = json.loads(line).values()
    return _line({"task": record | {"logs": []}})


def _cutoff(keep: Keep) -> str:
    """What ended before then is too old; nothing has, when any age is kept."""
    return "" if keep.days is None else clock.to_text(clock.now() - timedelta(days=keep.days))


def _appending(path: Path) -> BinaryIO:
    """The file, opened to append whole lines."""
    is_new = not path.exists()
    file = path.open("ab+")
    if is_new:
        filesystem.sync_folder(path.parent)
    elif file.tell() > 0:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":  # cut short as its writer was killed: that row is still there
            file.write(b"\n")
    return file


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _translated(consequence: str) -> AbstractContextManager[None]:
    return raised_as(QueueMaintenanceError, QueueMaintenanceBusyError, consequence)
