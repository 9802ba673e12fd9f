"""The database file of a queue: where it is, and the one connection to it that this process's threads share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from prismq import filesystem, fork, schema
from prismq.connection import Connection
from prismq.cursor import Cursor, Parameters
from prismq.errors import QueueOperationalError
from prismq.settings import Durability, Settings, SettingsLike, get_default_db_path, load_settings


class QueueDatabase:
    """A queue's database file, safe to share between threads and, in each process anew, after a fork.

    The standard library's sqlite3 may open the file too; in a process that has it open here, only on Linux and with the
    compiled module: elsewhere two copies of SQLite in one process undo each other's locks and can corrupt it.

    Nothing is opened before the first use. `durability` is "normal" (survives a crash of the process) or "full"
    (a power cut loses nothing acknowledged either). With `group_commit`, callers that would wait for the write lock
    hand their operation to its holder. `settings` has these two and more: the path of a TOML file, a mapping, or a
    Settings object. What is said nowhere comes from the environment (PRISMQ_GROUP_COMMIT, and PRISMQ_SETTINGS, the path
    of such a file), else from the defaults of Settings. Raises InvalidSettingsError, and QueueDatabaseError for a
    place that can't hold a queue.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        durability: Durability | None = None,
        group_commit: bool | None = None,
        settings: SettingsLike | None = None,
    ) -> None:
        self.settings: Settings = load_settings(settings, durability=durability, group_commit=group_commit)
        self.db_path = _file_path(get_default_db_path() if db_path is None else db_path)
        self._file = os.path.realpath(self.db_path)
        self._connection: Connection | None = None
        filesystem.require_local(Path(self._file))
        try:
            self.db_path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QueueOperationalError(
                f"the folder of {self.db_path} can't be created ({error}); choose a path that this user may write to"
            ) from error

    @property
    def durability(self) -> Durability:
        """ "normal" or "full"."""
        return self.settings.durability

    @property
    def group_commit(self) -> bool:
        """Whether operations of queues on it may be done together with others."""
        return self.settings.group_commit

    def get_connection(self) -> Connection:
        """The shared connection: the same object on every call until `close()`."""
        fork.check()
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        with fork.opening:
            if self._connection is None or self._connection.closed:
                self._connection = Connection(self._file, self.settings)
            return self._connection

    def initialize_schema(self) -> None:
        """Create or upgrade the schema; does nothing when it is current. QueueSchemaError when it can't."""
        schema.apply(self.get_connection())

    def execute(self, sql: str, params: Parameters = ()) -> Cursor:
        """Run one statement; outside `transaction()` it commits by itself."""
        return self.get_connection().execute(sql, params)

    def execute_many(self, sql: str, param_list: Iterable[Parameters]) -> None:
        """Run one statement for each set of parameters in one transaction."""
        self.get_connection().executemany(sql, param_list)

    def transaction(self) -> AbstractContextManager[Connection]:
        """Run the block in a write transaction that commits at its end and is undone by any exception.

        An inner block joins the outer one: nothing is committed before the outer one ends. An exception that leaves
        the inner block undoes what that block wrote; if the outer one catches it, it goes on with the rest.
        """
        return self.get_connection().transaction()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The shared connection for this thread alone while the block runs; statements commit by themselves."""
        connection = self.get_connection()
        with connection.hold():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """As `connection()`, and all that the block reads is of one moment. A reader keeps no writer waiting."""
        with self.connection() as connection:
            alone = not connection.in_transaction
            if alone:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if alone:
                    connection.rollback()

    def close(self) -> None:
        """Roll back what is open and close; the next use opens a new connection.

        Waits for another thread's transaction, then raises QueueBusyError.
        """
        fork.check()
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"QueueDatabase({str(self.db_path)!r}, durability={self.durability!r})"


def _file_path(given: str | os.PathLike[str]) -> Path:
    text = os.fsdecode(given)
    try:
        valid = b"\0" not in text.encode()
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise QueueOperationalError(f"{text!r} can't be the path of a database: it has to be Unicode without NUL")
    if text in ("", ":memory:") or text.startswith("file:"):
        raise QueueOperationalError(
            f"a queue shared by processes needs the path of a file, not {text!r}; pass one, or None for the default"
        )
    path = Path(text)
    if os.path.isdir(path):  # Path.is_dir raises where this user may not look
        raise QueueOperationalError(f"{path} is a folder; pass the path of a file in it, such as {path / 'queue.db'}")
    return path
