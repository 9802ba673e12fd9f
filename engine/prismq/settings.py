"""How every connection is set up, where the queue lives by default, and which SQLite is good enough."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import apsw

from prismq.errors import UnsupportedEnvironmentError

PRAGMAS: dict[str, str | int] = {
    "journal_mode": "WAL",
    "synchronous": "NORMAL",
    "busy_timeout": 5000,  # milliseconds
    "wal_autocheckpoint": 1000,  # pages
    "foreign_keys": "ON",
    "temp_store": "MEMORY",
    "mmap_size": 134217728,  # bytes
    "page_size": 4096,  # bytes
    "cache_size": -20000,  # KiB when negative
}
PRODUCTION_PRAGMAS = PRAGMAS

# What a TaskQueue changes on its connection. With memory mapping SQLite asks the WAL index for each page it reads, also
# for those in its cache: a claim took 1.3 times as long (bench/RESULTS.md). The limit is what a WAL shrinks to when it
# has grown beyond it, under a reader that kept it from being reset.
QUEUE_PRAGMAS: dict[str, str | int] = {
    "mmap_size": 0,
    "journal_size_limit": 67108864,  # bytes
}

PAGE_BYTES = int(PRAGMAS["page_size"])
WAL_LIMIT_BYTES = 1 << 30
"""The WAL grows no longer than this, and one transaction more: it only grows beyond 64 MiB while a reader holds a
snapshot, and writers then are slowed down from a quarter of it on."""

BUSY_TIMEOUT_SECONDS = int(PRAGMAS["busy_timeout"]) / 1000

# NORMAL survives a crash of the process and may lose the last commits in a power cut; FULL loses nothing acknowledged.
Durability = Literal["normal", "full"]
DURABILITY: dict[Durability, str] = {"normal": "NORMAL", "full": "FULL"}

# Before these, a WAL reset that races with a writer can corrupt the database (sqlite.org/wal.html, WAL-reset bug).
MINIMUM_SQLITE = (3, 51, 3)
MINIMUM_SQLITE_OF_LINE: dict[tuple[int, int], tuple[int, int, int]] = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}

DEFAULT_DB_PATH_VARIABLE = "PRISMQ_QUEUE_DB_PATH"
GROUP_COMMIT_VARIABLE = "PRISMQ_GROUP_COMMIT"


def get_default_db_path() -> Path:
    """The path of the queue when none is given: the environment variable, else one fixed place per system."""
    configured = os.environ.get(DEFAULT_DB_PATH_VARIABLE)
    if configured:
        return Path(configured)
    return Path(r"C:\Data\PrismQ\queue\queue.db") if os.name == "nt" else Path("/tmp/prismq/queue/queue.db")


def group_commit_by_default() -> bool:
    """Whether callers commit together when the code doesn't say: yes, unless the environment variable is 0.

    Raises UnsupportedEnvironmentError for a value that is neither 0 nor 1.
    """
    value = os.environ.get(GROUP_COMMIT_VARIABLE, "1")
    if value not in ("0", "1"):
        raise UnsupportedEnvironmentError(f"{GROUP_COMMIT_VARIABLE} is {value!r}: use 1 (on) or 0 (off)")
    return value == "1"


def carries_wal_reset_fix(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite version may be trusted with a WAL shared by several processes."""
    return version >= MINIMUM_SQLITE_OF_LINE.get(version[:2], MINIMUM_SQLITE)


def require_safe_sqlite(version: str | None = None) -> None:
    """Raise UnsupportedEnvironmentError unless APSW's SQLite (or `version`) carries the fix of the WAL-reset bug."""
    found = version or apsw.sqlite_lib_version()
    major, minor, patch = (int(part) for part in [*found.split("."), "0", "0"][:3])
    if not carries_wal_reset_fix((major, minor, patch)):
        raise UnsupportedEnvironmentError(
            f"APSW carries SQLite {found}, in which a WAL reset can corrupt a database shared by several processes; "
            f"needed is {'.'.join(map(str, MINIMUM_SQLITE))} or newer (or 3.50.7, 3.44.6 in their lines): "
            "pip install --upgrade apsw"
        )
