"""Backups of a queue that is in use, and their way back into it.

Both go through SQLite's backup API. A backup reads one snapshot, so that it needs nobody to pause and never begins
anew. A restore writes the backup's pages over the database in one transaction of the database itself: who has it open
goes on and sees the restored tasks from its next transaction on, and a restore that is killed has not happened.

What must not go back in time is carried over in that transaction: ids and log ids that were given out are not given out
again, claims that are held now stay distinguishable from later ones, and what the writers note for each other
(docs/group-commit.md) stays known.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw

from prismq import clock, database_files, filesystem, lottery, schema, sql
from prismq.backup_files import PATTERN, BackupInfo, belongs_to, in_a_file_name, queue_id_of
from prismq.connection import Connection
from prismq.database import QueueDatabase
from prismq.errors import (
    QueueBackupBusyError,
    QueueBackupError,
    QueueFileError,
    from_apsw,
    raised_as,
)

Progress = Callable[[int, int], None]
"""Called with the pages copied so far and the pages of the database; what it raises ends the copying."""

STEP_PAGES: Final = 64
"""Copied between two calls of `progress`."""
WORK_SECONDS: Final = 0.001
LONGEST_REST_SECONDS: Final = 0.05
"""A backup rests after so much work, twice as long as it worked but not longer than that."""
CHECK_STEPS: Final = 100
"""SQLite's own, of checking a copy, after which it may rest."""
LEFT_OVER_SECONDS: Final = 86400
"""An unfinished file so old is one that a killed process left behind."""

_UNFINISHED: Final = ".prismq-unfinished-"


class QueueBackup:
    """Makes, verifies, lists and restores backups of a queue, while any process goes on using it.

    `backup_dir`, by default the folder `backups` beside the database, is created by the first backup; several queues
    may share one, each lists and deletes its own backups only. Everything raises QueueBackupError, QueueBackupBusyError
    when the database stays locked.
    """

    def __init__(self, db: QueueDatabase, backup_dir: str | os.PathLike[str] | None = None) -> None:
        self.db = db
        self.backup_dir = db.db_path.parent / "backups" if backup_dir is None else Path(backup_dir)

    def create_backup(self, name: str | None = None, *, progress: Progress | None = None) -> Path:
        """Copy the queue as it is committed now to `queue_backup_[<name>_]<UTC time>.db`, verified and synced.

        What a file's name can't hold everywhere is "_" in it. The file appears whole or not at all and replaces none.
        A transaction that is open, also the caller's, isn't in it. Writers go on meanwhile; the WAL grows by what they
        write, as while anybody reads.
        """
        prefix = "queue_backup_" if name is None else f"queue_backup_{in_a_file_name(name)}_"
        if not self.db.db_path.is_file():
            raise QueueBackupError(f"database {self.db.db_path} not found")
        with _translated(f"the folder {self.backup_dir} can't be used"):
            self.backup_dir.mkdir(parents=True, exist_ok=True)
        with _translated(f"no backup of {self.db.db_path} was made"), _unfinished_in(self.backup_dir) as folder:
            copy = folder / "copy.db"
            with QueueDatabase(self.db.db_path, group_commit=False) as source, closing(_open(copy)) as target:
                live = source.get_connection()
                with live.hold():
                    live.apsw.execute("BEGIN").fetchall()
                    live.apsw.execute("SELECT 1 FROM sqlite_schema").fetchall()  # from here on it is one snapshot
                    try:
                        with target.backup("main", live.apsw, "main") as copying:
                            _copy(copying, live.timeout, progress, _Leisure())
                    finally:
                        live.apsw.execute("ROLLBACK")
                if target.table_exists("main", "queue_state"):
                    target.execute(sql.NOTE_ORIGIN, (os.path.realpath(self.db.db_path),))
                target.pragma("journal_mode", "DELETE")  # one file that can be read where it may not be written
                target.set_progress_handler(_Leisure(), CHECK_STEPS)
                _verify(target, copy)
            filesystem.sync_file(copy)
            final = self._moved_to_its_name(copy, prefix)
            filesystem.sync_folder(self.backup_dir)
        return final

    def verify_backup(self, path: str | os.PathLike[str]) -> bool:
        """True for a sound queue; QueueBackupError says what is wrong with any other file."""
        path = Path(path)
        if not path.is_file():
            raise QueueBackupError(f"backup {path} not found")
        with _translated(f"{path} can't be verified"), closing(_open(path, apsw.SQLITE_OPEN_READONLY)) as backup:
            _verify(backup, path)
        return True

    def restore_backup(
        self,
        path: str | os.PathLike[str],
        target_path: str | os.PathLike[str] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Make the queue, or the one at `target_path`, what the backup is; verified first, in one transaction.

        Processes that have it open may go on: they see the restored tasks from their next transaction on, and claims
        on tasks that are no longer theirs are refused (LeaseLostError). Writers wait meanwhile. A database that is no
        queue or is damaged is not written to: move it away, with its -wal and -shm, and restore again.
        """
        path = Path(path)
        target = self.db.db_path if target_path is None else Path(target_path)
        self.verify_backup(path)
        if target.exists() and os.path.samefile(path, target):
            raise QueueBackupError(f"{path} is the database itself; name a backup of it")
        with (
            _translated(f"{target} was left as it was"),
            _damage_explained(target),
            QueueDatabase(target, durability="full", group_commit=False) as database,
        ):
            if _holds_queue(target):
                database.initialize_schema()
            page_bytes = int(database.execute("PRAGMA page_size").fetchone()[0])
            with _unfinished_in(target.parent) as folder:
                staged = folder / "staged.db"
                _stage(path, staged, page_bytes, _plays_lottery(database))
                _write_over(database, staged, progress)

    def list_backups(self) -> list[BackupInfo]:
        """This queue's backups in the folder, newest first: those of its id that were made where it is now, or of a
        database that is there no more."""
        with _translated(f"the folder {self.backup_dir} can't be read"):
            paths = [path for path in self.backup_dir.glob("queue_backup_*.db") if PATTERN.fullmatch(path.name)]
            queue_id = queue_id_of(self.db.db_path)
        found = []
        for path in paths:
            with suppress(QueueBackupError):  # somebody else's clean-up was faster
                info = BackupInfo.from_path(path)
                if belongs_to(path, self.db.db_path, queue_id):
                    found.append(info)
        return sorted(found, key=lambda info: (info.created_at, info.path), reverse=True)

    def get_latest_backup(self) -> BackupInfo | None:
        """This queue's newest backup in the folder, if any."""
        return next(iter(self.list_backups()), None)

    def cleanup_old_backups(self, keep_count: int = 10, *, name: str | None = None) -> int:
        """Delete all but the newest `keep_count` of this queue's backups in the folder; how many.

        With `name` only those that were given it; "" for those that were given none.
        """
        if isinstance(keep_count, bool) or not isinstance(keep_count, int) or keep_count < 0:
            raise QueueBackupError(f"keep_count is {keep_count!r}; it must be a whole number from 0 on")
        wanted = in_a_file_name(name) if name else name
        old = [info for info in self.list_backups() if wanted in (None, info.name)][keep_count:]
        with _translated("an old backup can't be deleted"):
            for backup in old:
                backup.path.unlink(missing_ok=True)
        return len(old)

    def _moved_to_its_name(self, copy: Path, prefix: str) -> Path:
        while True:
            stamp = clock.now().strftime("%Y%m%d_%H%M%S_%f")[:-3]
            final = self.backup_dir / f"{prefix}{stamp}.db"
            try:
                if os.name == "nt":
                    os.rename(copy, final)  # which replaces nothing there
                else:
                    os.link(copy, final)
                return final
            except FileExistsError:
                time.sleep(0.001)
            except OSError:  # a file system without links
                if not final.exists():
                    os.replace(copy, final)
                    return final


def _open(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags)
    if flags & apsw.SQLITE_OPEN_CREATE:  # a file that nobody sees before it is complete and synced
        connection.pragma("synchronous", "OFF")
        connection.pragma("journal_mode", "OFF")
    return connection


class _Leisure:
    """Called now and then, rests for longer than was worked since: others that need the processor get it soon."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> bool:
        worked = time.monotonic() - self._since
        if worked > WORK_SECONDS:
            time.sleep(min(2 * worked, LONGEST_REST_SECONDS))
            self._since = time.monotonic()
        return False  # go on


def _copy(
    copying: apsw.Backup, timeout: float, progress: Progress | None, leisure: Callable[[], bool] | None = None
) -> None:
    """Copy what is left, waiting at most `timeout` seconds for each lock."""
    waits_until = time.monotonic() + timeout
    while not copying.done:
        try:
            copying.step(STEP_PAGES)
        except (apsw.BusyError, apsw.LockedError):
            if time.monotonic() >= waits_until:
                raise
            time.sleep(0.01)
            continue
        if leisure is not None:
            leisure()
        waits_until = time.monotonic() + timeout
        if progress is not None:
            progress(copying.page_count - copying.remaining, copying.page_count)


def _verify(backup: apsw.Connection, path: Path) -> None:
    version = int(backup.pragma("user_version"))
    tables = {name for (name,) in backup.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "task_queue" not in tables:
        raise QueueBackupError(f"{path} is a database, but there is no queue in it")
    if version > schema.VERSION:
        raise QueueBackupError(
            f"{path} has schema version {version}, this prismq knows up to {schema.VERSION}: upgrade prismq"
        )
    found = [str(line) for (line,) in backup.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        raise QueueBackupError(f"{path} is damaged: {'; '.join(found[:5])}")


def _holds_queue(target: Path) -> bool:
    """Whether there is a queue to be replaced, or nothing. Refuses all else before it is opened: that writes to it."""
    if not target.exists():
        return False
    try:
        with closing(database_files.open_read_only(target)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except apsw.Error as error:
        raise from_apsw(error, statement="looking at it", database=target) from error
    if tables and "task_queue" not in tables:
        raise QueueBackupError(f"{target} is the database of something else, there is no queue in it")
    return bool(tables)


def _plays_lottery(database: QueueDatabase) -> bool:
    """Whether connected processes count on the tables of the lottery."""
    return database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'task_lottery'").fetchone() is not None


def _stage(backup: Path, staged: Path, page_bytes: int, lottery_is_open: bool) -> None:
    """A copy of the backup that can be written over the database: its schema is up to date, its page size the same."""
    with closing(_open(backup, apsw.SQLITE_OPEN_READONLY)) as source, closing(_open(staged)) as copy:
        with copy.backup("main", source, "main") as copying:
            copying.step()
        copy.pragma("journal_mode", "DELETE")
        if copy.pragma("page_size") != page_bytes:
            copy.pragma("page_size", page_bytes)
            copy.execute("VACUUM")
    with QueueDatabase(staged, group_commit=False) as copied:
        copied.initialize_schema()
        copied.execute(sql.FORGET_ORIGIN)
        if lottery_is_open:
            lottery.open_lottery(copied)
        copied.execute("PRAGMA journal_mode = DELETE")


def _write_over(database: QueueDatabase, staged: Path, progress: Progress | None) -> None:
    with QueueDatabase(database.db_path, group_commit=False) as reading, closing(_open(staged)) as source:
        live = database.get_connection()
        with live.hold(), live.apsw.backup("main", source, "main") as copying:
            _lock(copying, live.timeout)
            # Nobody else writes from here on. What is changed in the source now goes along, also if it was copied.
            _carry_over(reading.get_connection(), source)
            _copy(copying, live.timeout, progress)


def _lock(copying: apsw.Backup, timeout: float) -> None:
    """Take the write lock of the database that is copied to, with the first page."""
    waits_until = time.monotonic() + timeout
    while True:
        try:
            copying.step(1)
            return
        except (apsw.BusyError, apsw.LockedError):
            if time.monotonic() >= waits_until:
                raise
            time.sleep(0.01)


def _carry_over(live: Connection, staged: apsw.Connection) -> None:
    """Bring into the copy what must not go back in time; nobody writes to the database meanwhile."""
    tables = {row[0] for row in live.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "task_queue" not in tables:
        return
    if "task_lottery" in tables and not staged.table_exists("main", "task_lottery"):
        raise QueueBackupError("the first weighted random claim came in between: restore again")
    staged.execute("BEGIN")
    staged.execute(sql.KEEP_IDS, tuple(live.execute(sql.NEWEST_ID).fetchone()))
    counters = [tuple(row) for row in live.execute(sql.COUNTERS)]
    for statement, rows in (
        (sql.BEGIN_COUNTER, [counter[:1] for counter in counters]),
        (sql.KEEP_COUNTER, counters),
        (sql.RECORD_GROUP, live.execute(sql.KEPT_STATE)),
        (sql.COUNT_ON, live.execute(sql.HELD)),
    ):
        staged.executemany(statement, (tuple(row) for row in rows))
    staged.execute("COMMIT")


@contextmanager
def _unfinished_in(folder: Path) -> Iterator[Path]:
    """A folder for what is not finished; it is gone at the end, and so are those of processes that were killed."""
    for left_over in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):  # its owner has finished just now
            if time.time() - left_over.stat().st_mtime > LEFT_OVER_SECONDS:
                shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _damage_explained(target: Path) -> Iterator[None]:
    try:
        yield
    except QueueFileError as error:
        raise QueueBackupError(
            f"{target} is damaged or no database ({error.sqlite_errorname}): stop what uses it, move it away together "
            "with its -wal and -shm, and restore again"
        ) from error


def _translated(consequence: str) -> AbstractContextManager[None]:
    return raised_as(QueueBackupError, QueueBackupBusyError, consequence)
