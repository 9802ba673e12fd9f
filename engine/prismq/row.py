"""Result rows that are read by position and by name, as those of the standard library's `sqlite3.Row` are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Columns:
    """The column names of one result, shared by its rows."""

    __slots__ = ("_positions", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._positions: dict[str, int] | None = None

    def position(self, name: str) -> int:
        """Where a name stands, case ignored and the first of equal ones; IndexError when there is none."""
        positions = self._positions
        if positions is None:
            positions = self._positions = {}
            for position, column in enumerate(self.names):
                positions.setdefault(column.lower(), position)
        found = positions.get(name.lower())
        if found is None:
            raise IndexError(f"no column {name!r}; the row has {', '.join(self.names)}")
        return found


class Row:
    """One immutable result row: `row[0]`, `row["name"]`, `row.keys()`, `dict(row)`, iteration over the values."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Columns, values: tuple[Any, ...]) -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, key: int | slice | str) -> Any:
        return self._values[self._columns.position(key) if isinstance(key, str) else key]

    def keys(self) -> list[str]:
        """The column names in order."""
        return list(self._columns.names)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return self._columns.names == other._columns.names and self._values == other._values

    def __hash__(self) -> int:
        return hash((self._columns.names, self._values))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._columns.names, self._values, strict=True))
        return f"Row({shown})"


Sequence.register(Row)
