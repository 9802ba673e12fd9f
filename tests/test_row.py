"""Result rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prismq.connection import Connection, Row


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    connection = Connection(tmp_path / "q.db")
    yield connection
    connection.close()


def test_a_row_is_read_by_position_by_name_and_as_a_dictionary(connection):
    row = connection.execute("SELECT 1 AS Id, 'x' AS name, 2 AS id").fetchone()
    assert (row[0], row[-1], row["ID"], row["Name"], row[0:2]) == (1, 2, 1, "x", (1, "x"))
    assert row.keys() == ["Id", "name", "id"]
    assert dict(connection.execute("SELECT 1 AS a, 2 AS b").fetchone()) == {"a": 1, "b": 2}
    assert len(row) == 3
    assert list(row) == [1, "x", 2]
    assert tuple(row) == (1, "x", 2)


def test_an_unknown_column_is_an_index_error_that_lists_the_known(connection):
    row = connection.execute("SELECT 1 AS a").fetchone()
    with pytest.raises(IndexError, match="no column 'b'; the row has a"):
        row["b"]
    with pytest.raises(IndexError):
        row[1]


def test_rows_are_equal_by_names_and_values(connection):
    one = connection.execute("SELECT 1 AS a").fetchone()
    assert isinstance(one, Row)
    assert one == connection.execute("SELECT 1 AS a").fetchone()
    assert hash(one) == hash(connection.execute("SELECT 1 AS a").fetchone())
    assert one != connection.execute("SELECT 1 AS b").fetchone()
    assert one != connection.execute("SELECT 2 AS a").fetchone()
    assert one != (1,)
    assert repr(one) == "Row(a=1)"
