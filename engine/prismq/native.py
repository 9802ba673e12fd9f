"""Loads the compiled module into APSW's SQLite, once a process."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import apsw

_log = logging.getLogger(__name__)

VFS = "prismq"
"""The VFS that the module registers: SQLite's own, with a transaction's WAL frames in one write.

On Linux its locks belong to the opened file, so that another copy of SQLite in this process respects them.
"""


@cache
def load() -> ModuleType | None:
    """The module `prismq._native`, its C side bound to APSW's SQLite; None, logged once, where it is missing."""
    try:
        from prismq import _native
    except ImportError as reason:
        _log.warning("prismq runs on its pure-Python driver: the compiled module is missing (%s)", reason)
        return None
    with apsw.Connection(":memory:") as connection:
        if not hasattr(connection, "load_extension"):
            _log.warning("prismq runs on its pure-Python driver: this APSW can't load extensions")
            return None
        connection.enable_load_extension(True)
        try:
            connection.load_extension(_native.__file__, "sqlite3_prismq_init")
        finally:
            connection.enable_load_extension(False)
    connection.close()
    return _native


def vfs() -> str | None:
    """The VFS for new connections, None for SQLite's default."""
    return VFS if load() is not None else None
