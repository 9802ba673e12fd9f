"""Backup files: how they are called, and whose they are.

Several queues may keep their backups in one folder. So each says whose it is: by the queue's id, which a database keeps
when it is moved or restored into, and by the path that it was made of, which tells copies of one queue apart.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import apsw

from prismq import database_files, sql
from prismq.errors import QueueBackupError

LONGEST_NAME: Final = 100
"""Bytes in UTF-8."""
PATTERN: Final = re.compile(r"queue_backup_(?:(?P<name>.+)_)?(?P<second>\d{8}_\d{6})(?:_(?P<ms>\d{3}))?\.db", re.ASCII)
_NOT_IN_NAMES: Final = re.compile(r"[^\w.-]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackupInfo:
    """A backup file; `created_at` is by its name, or by its modification time when the name has none."""

    path: Path
    size_bytes: int
    created_at: datetime

    @property
    def size_mb(self) -> float:
        """Its size in MiB."""
        return self.size_bytes / 2**20

    @property
    def name(self) -> str:
        """The name it was given, "" for none."""
        named = PATTERN.fullmatch(self.path.name)
        return (named["name"] or "") if named is not None else ""

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Self:
        """Look at the file; QueueBackupError when there is none."""
        path = Path(path)
        try:
            found = path.stat()
        except OSError as error:
            raise QueueBackupError(f"backup {path} not found ({error.strerror})") from error
        return cls(path, found.st_size, _time_of(path.name) or datetime.fromtimestamp(found.st_mtime, UTC))


def in_a_file_name(name: str) -> str:
    """The name with "_" for what not every file system takes; QueueBackupError for one that is empty or too long."""
    if not isinstance(name, str) or not name.strip():
        raise QueueBackupError(f"{name!r} can't be part of a file's name: use text, or None for no name")
    kept = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", name))
    if len(kept.encode()) > LONGEST_NAME:
        raise QueueBackupError(f"{name!r:.120} can't be part of a file's name: use up to {LONGEST_NAME} bytes of UTF-8")
    return kept


def _time_of(file_name: str) -> datetime | None:
    """When the backup was made by its name; None when that has no such time, in milliseconds."""
    named = PATTERN.fullmatch(file_name)
    if named is None or named["ms"] is None:
        return None
    try:
        return datetime.strptime(f"{named['second']}{named['ms']}000", "%Y%m%d_%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def queue_id_of(database: Path) -> str | None:
    """The id of the queue; None where there is no queue, or one without an id or so damaged that it can't be read."""
    if not database.is_file():
        return None
    try:
        with closing(database_files.open_read_only(database)) as connection:
            return _origin(connection)[0]
    except (apsw.CorruptError, apsw.NotADBError):
        return None


def belongs_to(backup: Path, database: Path, queue_id: str | None) -> bool:
    """Whether it was made of that queue: where it is now, or at a place where no database is any more.

    Without an id, because there is no queue or none that can be read, the place alone tells.
    """
    try:
        with closing(database_files.open_read_only(backup)) as connection:
            its_queue, made_of = _origin(connection)
    except apsw.Error as error:
        _log.warning("%s is left out, whose backup it is can't be read: %s", backup, error)
        return False
    if made_of is None or (queue_id is not None and its_queue is not None and queue_id != its_queue):
        return False
    was_here = os.path.normcase(made_of) == os.path.normcase(os.path.realpath(database))
    return was_here or (queue_id is not None and queue_id == its_queue and not os.path.exists(made_of))


def _origin(connection: apsw.Connection) -> tuple[str | None, str | None]:
    """The queue's id, and of a backup the path that it was made of."""
    if not connection.table_exists("main", "queue_state"):  # of an earlier version
        return None, None
    queue_id, path = (None if value is None else str(value) for value in connection.execute(sql.ORIGIN).fetchall()[0])
    return queue_id, path
