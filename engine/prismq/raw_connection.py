"""Opens APSW connections that are set up as the queue needs them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import apsw

from prismq import native, settings
from prismq.clock import to_text
from prismq.errors import QueueOperationalError, QueueProgrammingError, UnsupportedEnvironmentError, from_apsw

RawConnection = apsw.Connection


def open_raw(path: Path, pragmas: Mapping[str, str | int], timeout: float) -> RawConnection:
    """Open `path`, creating it if need be, and apply `pragmas`; waits up to `timeout` seconds for other openers.

    Raises QueueDatabaseError when that is impossible, UnsupportedEnvironmentError when it would not be safe.
    """
    settings.require_safe_sqlite()
    started = time.monotonic()
    while True:
        try:
            return _configured(path, pragmas)
        except (apsw.BusyError, apsw.ProtocolError) as error:
            # Not left to SQLite's busy handler: it isn't asked when the switch to WAL meets another writer.
            waited = time.monotonic() - started
            if waited >= timeout:
                raise from_apsw(error, statement="opening", database=path, waited=waited) from error
            time.sleep(0.001 + 0.009 * (os.urandom(1)[0] / 255))
        except apsw.Error as error:
            raise from_apsw(error, statement="opening", database=path) from error


def _configured(path: Path, pragmas: Mapping[str, str | int]) -> RawConnection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    raw = RawConnection(os.path.abspath(path), flags=flags, vfs=native.vfs())
    try:
        for name, value in pragmas.items():
            raw.execute(f"PRAGMA {name} = {value}").fetchall()
        if raw.readonly("main"):
            raise QueueOperationalError(f"{path} is read-only for this user: make the file and its folder writable")
        mode = raw.pragma("journal_mode")
        if "journal_mode" in pragmas and mode != str(pragmas["journal_mode"]).lower():
            raise UnsupportedEnvironmentError(
                f"{path} can't be switched to WAL, its journal mode stays {mode!r}: keep the queue on a local disk"
            )
        raw.convert_binding = _bound
    except BaseException:
        raw.close()
        raise
    return raw


def _bound(_cursor: apsw.Cursor, number: int, value: object) -> str:
    """What to store for a Python value that SQLite has no type for."""
    if isinstance(value, datetime):
        return to_text(value)
    raise QueueProgrammingError(f"parameter {number}: SQLite can't store a {type(value).__name__} ({value!r:.100})")
