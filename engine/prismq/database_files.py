"""The files of a database: its own and those beside it; and a look into it that changes none of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import apsw

WAL: Final = "-wal"
SIDECAR: Final = "-prismq"
"""What callers on one machine share, see docs/group-commit.md."""


def beside(database: Path, suffix: str) -> Path:
    """The file of that database with this suffix. A symbolic link to the database has none of its own."""
    return Path(os.path.realpath(database) + suffix)


def wal_bytes(database: Path) -> int:
    """The size of the write-ahead log, 0 when there is none."""
    try:
        return beside(database, WAL).stat().st_size
    except FileNotFoundError:
        return 0


def open_read_only(database: Path) -> apsw.Connection:
    """A connection that makes no files where nobody has the database open; raises apsw.Error."""
    if beside(database, WAL).exists():
        return apsw.Connection(os.path.realpath(database), flags=apsw.SQLITE_OPEN_READONLY)
    name = f"{Path(os.path.realpath(database)).as_uri()}?immutable=1"
    return apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
