"""A DB-API cursor that holds a complete result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import apsw

from prismq.errors import QueueDataError, from_code
from prismq.row import Columns, Row

if TYPE_CHECKING:
    from prismq.connection import Connection

Parameters = Sequence[Any] | Mapping[str, Any]

_IGNORED = re.compile(r"(?:[\s;]|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_WORD = re.compile(r"\w+")
_CHANGES_ROWS = {"INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"}


class Cursor:
    """What one statement left behind: its rows, read before `execute` returned, and its counts.

    `rowcount` is -1 for anything but INSERT, UPDATE, DELETE and REPLACE; `lastrowid` is None before the first INSERT.
    """

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._columns: Columns | None = None
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self._writes = False

    @property
    def description(self) -> tuple[tuple[str, None, None, None, None, None, None], ...] | None:
        """One 7-tuple for each column, of which SQLite knows the name; None when there are no columns."""
        if self._columns is None:
            return None
        return tuple((name, None, None, None, None, None, None) for name in self._columns.names)

    def execute(self, sql: str, parameters: Parameters = ()) -> Self:
        """Run one statement; QueueProgrammingError when there are more."""
        self.connection.run(sql, lambda raw: self._run_one(raw, sql, parameters))
        return self

    def executemany(self, sql: str, parameter_list: Iterable[Parameters]) -> Self:
        """Run one statement for each set of parameters, all or none; `rowcount` is the sum."""
        total = 0
        with self.connection.transaction():
            for parameters in parameter_list:
                self.execute(sql, parameters)
                total += max(self.rowcount, 0)
        self._columns, self._rows, self.rowcount = None, iter(()), total
        return self

    def executescript(self, sql: str) -> Self:
        """Run any number of statements and drop their rows; those before a failing one stay done."""
        self._forget()
        self.connection.run(sql, lambda raw: _translated(raw.cursor(), sql, ()))
        return self

    def fetchone(self) -> Any:
        """The next row, or None."""
        values = next(self._rows, None)
        return None if values is None else self._row(values)

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next `size` rows (`arraysize` by default), fewer at the end."""
        return [self._row(values) for values in islice(self._rows, self.arraysize if size is None else size)]

    def fetchall(self) -> list[Row]:
        """All remaining rows."""
        return [self._row(values) for values in self._rows]

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        return self._row(next(self._rows))

    def close(self) -> None:
        """Drop the rows; nothing of SQLite's is open."""
        self._rows = iter(())

    def _row(self, values: tuple[Any, ...]) -> Row:
        assert self._columns is not None
        return Row(self._columns, values)

    def _forget(self) -> None:
        self._columns, self._rows, self._writes, self.rowcount = None, iter(()), False, -1

    def _run_one(self, raw: apsw.Connection, sql: str, parameters: Parameters) -> None:
        self._forget()
        described = False

        def describe(cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
            nonlocal described
            if described:
                return True  # a comment behind the statement
            described = True
            if _skipped(sql, len(statement)) < len(sql):
                raise from_code(0, "execute() takes one statement, executescript() takes several", statement=sql)
            names = tuple(column[0] for column in cursor.get_description())
            self._columns = Columns(names) if names else None
            self._writes = not cursor.is_readonly
            return True

        # Asked beforehand, for after the last row APSW no longer knows the names of the columns.
        cursor = raw.cursor()
        cursor.exec_trace = describe
        self._rows = iter(_translated(cursor, sql, parameters))
        if self._writes:
            word = _first_word(sql)
            if word in _CHANGES_ROWS:
                self.rowcount = raw.changes()
            if word in ("INSERT", "REPLACE"):
                self.lastrowid = raw.last_insert_rowid()


def _translated(cursor: apsw.Cursor, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """Run it all; what APSW reports with Python's own exceptions becomes ours."""
    try:
        return cursor.execute(sql, parameters).fetchall()
    except UnicodeEncodeError as error:
        raise QueueDataError(
            f"text with half of a surrogate pair is not valid Unicode and can't be stored ({error}); "
            "clean it first, for example with text.encode('utf-8', 'replace').decode()"
        ) from error
    except UnicodeDecodeError as error:
        raise QueueDataError(f"stored text is not valid UTF-8 ({error}); read it with CAST(... AS BLOB)") from error
    except KeyError as error:
        raise from_code(0, f"no value for the parameter {error}", statement=sql) from error
    except (TypeError, ValueError) as error:
        raise from_code(0, str(error), statement=str(sql)) from error


def _skipped(sql: str, start: int) -> int:
    match = _IGNORED.match(sql, start)
    return match.end() if match else start


def _first_word(sql: str) -> str:
    match = _WORD.match(sql, _skipped(sql, 0))
    return match[0].upper() if match else ""
