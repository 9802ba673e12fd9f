"""Keeps connections correct across os.fork().

SQLite holds its file locks per process: a forked child that opens a file which it also inherited open believes to hold
locks that only its parent has, and loses committed rows once the parent closes. So connections are brought to rest
before the fork, and the child closes what it inherited before it opens anything itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

import apsw

from prismq.errors import QueueProgrammingError

if TYPE_CHECKING:
    from prismq.connection import Connection
    from prismq.lock import ConnectionLock

opening = threading.RLock()
"""Held while a connection is opened and during a fork. A child gets a new one: don't import the name."""

_open: WeakSet[Connection] = WeakSet()
_held: list[ConnectionLock] = []
_abandoned: set[str] = set()
_process = os.getpid()


def watch(connection: Connection) -> None:
    """Look after a connection for as long as it lives; called with `opening` held."""
    _open.add(connection)


def check() -> None:
    """Catch up with a fork that did not come through os.fork(), and so ran no hooks."""
    if os.getpid() != _process:
        _after_in_child()


def require_clean(path: str) -> None:
    """QueueProgrammingError when this process inherited the file in use: SQLite has a wrong picture of its locks."""
    if path in _abandoned:
        raise QueueProgrammingError(
            f"this process was forked while a transaction on {path} was open, so SQLite's locks on it are wrong here: "
            "fork outside transactions, or start processes by 'spawn'"
        )


def let_go(raw: apsw.Connection, callbacks: list[Callable[[], None]], path: str, at_rest: bool) -> None:
    """Close the child's copy of a connection; one in the middle of something is kept untouched for ever instead."""
    # Closing inside a transaction would roll back in memory that is shared with the parent.
    if at_rest and not raw.in_transaction:
        with suppress(Exception):
            # The parent lives on: its WAL is not the child's to checkpoint.
            raw.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            for callback in callbacks:
                callback()
            raw.close()
            return
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object((raw, callbacks)))
    _abandoned.add(path)


def _before() -> None:
    opening.acquire()
    for connection in list(_open):
        lock = connection.hold()
        if lock.acquire(True, lock.timeout):
            _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    opening.release()


def _after_in_child() -> None:
    global opening, _process
    opening = threading.RLock()
    _process = os.getpid()
    _held.clear()
    for connection in list(_open):
        connection.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
