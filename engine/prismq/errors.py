"""Every exception of the queue. Each one tied to SQLite is also the `sqlite3` exception of the same meaning."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class QueueDatabaseError(Exception):
    """Any failure of the queue; `sqlite_errorcode` is SQLite's extended code, 0 when SQLite had no part in it."""

    sqlite_errorcode: int = 0
    sqlite_errorname: str = ""


class QueueBusyError(QueueDatabaseError, sqlite3.OperationalError):
    """Somebody else held the database, or this connection, for longer than the busy timeout."""


class QueueSchemaError(QueueDatabaseError):
    """The schema could not be created, migrated or recognised."""


class QueueIntegrityError(QueueDatabaseError, sqlite3.IntegrityError):
    """A constraint refused the statement."""


class QueueOperationalError(QueueDatabaseError, sqlite3.OperationalError):
    """SQLite could not run the statement: bad SQL, missing table, full or failing disk, interrupted."""


class QueueProgrammingError(QueueDatabaseError, sqlite3.ProgrammingError):
    """The connection was used wrongly: closed, inherited by fork, wrong bindings, several statements at once."""


class QueueDataError(QueueDatabaseError, sqlite3.DataError, ValueError):
    """A value can't be stored: too big, or text that is not valid Unicode."""


class QueueFileError(QueueDatabaseError, sqlite3.DatabaseError):
    """The file is damaged, or is not an SQLite database."""


class QueueInterfaceError(QueueDatabaseError, sqlite3.InterfaceError):
    """SQLite was called out of order or with an index out of range."""


class QueueInternalError(QueueDatabaseError, sqlite3.InternalError):
    """SQLite met an inconsistency of its own."""


class UnsupportedEnvironmentError(QueueDatabaseError):
    """This place can't hold a queue safely: a network file system, or an SQLite without a needed fix."""


class InvalidSettingsError(QueueDatabaseError, ValueError):
    """A settings file, or what was passed for one, has an unknown name or a value that is not allowed."""


class QueueBackupError(QueueDatabaseError):
    """A backup could not be made, is none, or could not be restored; nothing half done is left behind."""


class QueueBackupBusyError(QueueBackupError, QueueBusyError):
    """A backup or restore did not get the database within the busy timeout."""


class QueueMaintenanceError(QueueDatabaseError):
    """A maintenance operation was refused or failed."""


class QueueMaintenanceBusyError(QueueMaintenanceError, QueueBusyError):
    """A maintenance operation did not get the database within the busy timeout."""


class InvalidTaskError(QueueDatabaseError, ValueError):
    """A task was refused before anything was written, because of what was passed in."""


class LeaseLostError(QueueDatabaseError):
    """A worker acted with a stale claim; nothing was changed.

    `status` is None when the task no longer exists, `holder` is the worker that has it now, or None, and `others` are
    the further tasks of the same call that were lost.
    """

    def __init__(
        self,
        task_id: int,
        worker_id: str,
        attempt: int,
        status: str | None = None,
        holder: str | None = None,
        holder_attempts: int | None = None,
    ) -> None:
        super().__init__(task_id, worker_id, attempt, status, holder, holder_attempts)
        self.task_id = task_id
        self.worker_id = worker_id
        self.attempt = attempt
        self.status = status
        self.holder = holder
        self.holder_attempts = holder_attempts
        self.others: list[LeaseLostError] = []

    def __str__(self) -> str:
        return (
            f"worker {self.worker_id!r} lost its lease on task {self.task_id} (attempt {self.attempt}): "
            f"{self._situation()}; nothing was changed, drop this result"
            + (f" (and those of {len(self.others)} more tasks)" if self.others else "")
        )

    def _situation(self) -> str:
        if self.status is None:
            return "the task no longer exists"
        if self.status == "processing":
            same = " itself" if self.holder == self.worker_id else ""
            return f"worker {self.holder!r}{same} holds it now as attempt {self.holder_attempts}"
        if self.status == "queued":
            return "it is queued again and waits for another worker"
        if self.status == "failed":
            return "it was cancelled, or has failed, in the meantime"
        if self.status == "dead_letter":
            return "its attempts are exhausted (dead_letter)"
        by = f" by worker {self.holder!r}" if self.holder is not None else ""
        return f"it is already {self.status}{by}"


class RetryLater(Exception):
    """Raised by a handler: try this task again in `seconds`, while attempts remain; `reason` is its error message."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
            raise ValueError(f"RetryLater: seconds is {seconds!r}; it must be a finite number of at least 0")
        super().__init__(seconds, reason)
        self.seconds = seconds
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"in {self.seconds:g} s"


class Discard(Exception):
    """Raised by a handler: this task can't ever succeed. It fails without a retry; the text is its error message."""


class TaskCancelledError(Exception):
    """Raised by `TaskContext.check`: the task was cancelled, its lease lost, its time is up, or its worker stops."""


class ConfigError(ValueError):
    """A configuration file, variable or argument is wrong; the text names it, the key and what is allowed."""


class HandlerConfigError(ConfigError):
    """A file of task handlers is wrong, or names something that can't be imported; none of it was registered."""


class TaskHandlerAlreadyRegisteredError(Exception):
    """A task type, `task_type`, has a handler already."""

    def __init__(self, message: str, task_type: str) -> None:
        super().__init__(message, task_type)
        self.task_type = task_type

    def __str__(self) -> str:
        return str(self.args[0])


class TaskHandlerNotRegisteredError(Exception):
    """A task type has no handler; `known_types` are those that have one."""

    def __init__(self, task_type: str, known_types: list[str], task_id: int | None = None) -> None:
        super().__init__(task_type, known_types, task_id)
        self.task_type = task_type
        self.known_types = known_types
        self.task_id = task_id

    def __str__(self) -> str:
        return (
            ("" if self.task_id is None else f"Cannot process task #{self.task_id}: ")
            + f"No handler registered for task type {self.task_type!r}; "
            + (f"registered are {', '.join(map(repr, self.known_types))}" if self.known_types else "none is registered")
        )


# The same grouping as the standard library's, so that code written against it catches what it caught before.
_BY_CODE: dict[int, type[QueueDatabaseError]] = {
    apsw.SQLITE_BUSY: QueueBusyError,
    apsw.SQLITE_PROTOCOL: QueueBusyError,  # lost the race for a WAL lock too often: only waiting helps
    apsw.SQLITE_CONSTRAINT: QueueIntegrityError,
    apsw.SQLITE_MISMATCH: QueueIntegrityError,
    apsw.SQLITE_TOOBIG: QueueDataError,
    apsw.SQLITE_CORRUPT: QueueFileError,
    apsw.SQLITE_NOTADB: QueueFileError,
    apsw.SQLITE_FORMAT: QueueFileError,
    apsw.SQLITE_MISUSE: QueueInterfaceError,
    apsw.SQLITE_RANGE: QueueInterfaceError,
    apsw.SQLITE_INTERNAL: QueueInternalError,
    apsw.SQLITE_NOTFOUND: QueueInternalError,
}

# What the compiled module adds to SQLite's codes (native/database_file.h), and what it says.
_LOCKED_BY_LIMIT = 0x7D06
_LOCKED_TOO_LONG = 0x7E06
_LOCKED_BY_ITSELF = 0x7F06
_BUSY_TEXTS = {
    _LOCKED_BY_LIMIT: "nobody may write, the WAL has grown to its limit while a reader holds a snapshot",
    _LOCKED_TOO_LONG: "database is locked",
    _LOCKED_BY_ITSELF: "database is locked by this very thread: it has a write transaction open on another connection",
}
_BUSY_STEPS = {
    _LOCKED_BY_LIMIT: "find the program with the long read (a backup, a forgotten BEGIN in a shell) and end it",
    _LOCKED_BY_ITSELF: "use that connection, or end its transaction first: waiting would never end",
}

_NEXT_STEP: dict[int, str] = {
    apsw.SQLITE_BUSY: "try again, and look for a process that keeps a write transaction open",
    apsw.SQLITE_PROTOCOL: "try again",
    apsw.SQLITE_READONLY: "make the file and its folder writable for this user",
    apsw.SQLITE_CANTOPEN: "check that the folder exists and that this user may write to it and to what is in it",
    apsw.SQLITE_FULL: "free space on the disk; the transaction was rolled back",
    apsw.SQLITE_IOERR: "check the disk and the system log; the transaction was rolled back",
    apsw.SQLITE_CORRUPT: "stop the workers and restore a backup",
    apsw.SQLITE_NOTADB: "point the queue at another path; the file was left as it is",
}


def from_apsw(
    error: Exception,
    *,
    statement: str | None = None,
    database: str | os.PathLike[str] | None = None,
    waited: float | None = None,
) -> QueueDatabaseError:
    """Translate an APSW error; `waited` is in seconds and appears in the message of a QueueBusyError."""
    # APSW's own complaints about how it is used have no code.
    extended = int(getattr(error, "extendedresult", 0))
    message = str(error) or type(error).__name__
    return from_code(extended, message, statement=statement, database=database, waited=waited)


def from_code(
    extended: int,
    message: str,
    *,
    statement: str | None = None,
    database: str | os.PathLike[str] | None = None,
    waited: float | None = None,
) -> QueueDatabaseError:
    """The error for an extended result code and message of SQLite's; code 0 means that the caller did wrong."""
    if extended in _BUSY_TEXTS:
        message = _BUSY_TEXTS[extended]
    original = extended
    extended = apsw.SQLITE_BUSY if extended in _BUSY_TEXTS else extended
    code = extended & 0xFF
    kind = _BY_CODE.get(code, QueueOperationalError) if code else QueueProgrammingError

    fact = message.removesuffix(".")
    name = _name(extended) if code else ""
    if name:
        fact += f" ({name})"
    if issubclass(kind, QueueBusyError) and waited is not None:
        fact += f" after waiting {waited:.1f} s"
    if database is not None:
        fact += f", in {os.fspath(database)}"
    if statement is not None:
        fact += f", running: {_shortened(statement)}"
    if extended == apsw.SQLITE_BUSY_SNAPSHOT:
        fact += "; it read before it wrote and somebody else wrote in between: use transaction(), which locks first"
    elif original in _BUSY_STEPS:
        fact += f"; {_BUSY_STEPS[original]}"
    elif code in _NEXT_STEP:
        fact += f"; {_NEXT_STEP[code]}"

    mapped = kind(fact)
    mapped.sqlite_errorcode = extended
    mapped.sqlite_errorname = name
    return mapped


@contextmanager
def raised_as(kind: type[QueueDatabaseError], busy: type[QueueBusyError], consequence: str) -> Iterator[None]:
    """Any failure of the database or of a file in the block as `kind`, or `busy` where somebody else had the database.

    The message begins with the `consequence`.
    """
    try:
        yield
    except (kind, busy):
        raise
    except (QueueDatabaseError, apsw.Error, OSError) as error:
        cause = from_apsw(error) if isinstance(error, apsw.Error) else error
        raised = (busy if isinstance(cause, QueueBusyError) else kind)(f"{consequence}: {cause}")
        if isinstance(cause, QueueDatabaseError):
            raised.sqlite_errorcode, raised.sqlite_errorname = cause.sqlite_errorcode, cause.sqlite_errorname
        raise raised from error


def _name(extended: int) -> str:
    for mapping in (apsw.mapping_extended_result_codes, apsw.mapping_result_codes):
        if extended in mapping:
            return str(mapping[extended])
    return str(extended)


def _shortened(statement: str, limit: int = 200) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
