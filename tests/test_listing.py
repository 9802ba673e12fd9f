"""What operators list and requeue is what is there, whether it is rolled up or not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from prismq import QueueDatabase, rollup, sql

STATUSES = ("queued", "processing", "completed", "failed", "dead_letter", "paused")


@pytest.fixture
def database(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueDatabase]:
    """1,500 tasks of all sorts, most of the finished ones rolled up, some deleted since."""
    monkeypatch.setattr(rollup, "KEEP", 50)
    chance = random.Random(5)
    with QueueDatabase(path) as database:
        database.initialize_schema()
        database.execute_many(
            """INSERT INTO task_queue (id, type, payload, status, attempts, run_after_utc, finished_at_utc)
               VALUES (?, ?, '{}', ?, ?, ?, datetime('now', ?))""",
            [
                (
                    3 * number,
                    chance.choice("ab"),
                    chance.choices(STATUSES, (5, 1, 20, 2, 2, 1))[0],
                    chance.choice((0, 1, 5)),
                    chance.choice(("2000-01-01", "2999-01-01")),
                    f"-{chance.randint(60, 9000)} seconds",
                )
                for number in range(1, 1501)
            ],
        )
        while rollup.roll_up(database):
            pass
        database.execute("DELETE FROM task_queue WHERE id % 5 = 0 OR id BETWEEN 1000 AND 1900")
        assert database.execute("SELECT sum(tasks) FROM task_rollup WHERE kind = 'block'").fetchone()[0] > 300
        yield database


@pytest.mark.parametrize("status", [*STATUSES, "nothing"])
@pytest.mark.parametrize("kind", [None, "b", "nothing"])
def test_a_list_of_one_status_has_its_newest_page_by_page(
    database: QueueDatabase, status: str, kind: str | None
) -> None:
    expected = [
        row[0]
        for row in database.execute(
            "SELECT id FROM task_queue NOT INDEXED WHERE status = ? AND (? IS NULL OR type = ?) ORDER BY id DESC",
            (status, kind, kind),
        )
    ]
    listed: list[int] = []
    before = 2**63 - 1
    while page := database.execute(sql.LIST_OF_STATUS, (before, status, kind, 7)).fetchall():
        assert {row["status"] for row in page} == {status}
        listed += [row["id"] for row in page]
        before = listed[-1]
    assert listed == expected
    assert bool(expected) is (status != "nothing" != kind)
