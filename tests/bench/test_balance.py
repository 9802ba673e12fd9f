"""Tasks are counted in the journals and in the file."""

from dataclasses import replace
from pathlib import Path

import pytest
from fabricated import claimed, completed, enqueued, records

from bench.balance import Balance
from prismq import TaskQueue

GOOD = Balance(enqueued=10, completed=7, repeated=0, rows={"completed": 7, "queued": 2, "processing": 1})


def test_it_holds() -> None:
    assert GOOD.holds
    assert GOOD.left == 3
    assert Balance(0, 0, 0, {}).holds


@pytest.mark.parametrize(
    "balance",
    [
        pytest.param(replace(GOOD, enqueued=11), id="an acknowledged task is not there"),
        pytest.param(replace(GOOD, enqueued=9), id="a task that nobody was told of"),
        pytest.param(replace(GOOD, completed=8), id="a completion was forgotten"),
        pytest.param(replace(GOOD, completed=6), id="a completion that nobody was told of"),
        pytest.param(replace(GOOD, repeated=1), id="acknowledged twice"),
    ],
)
def test_it_does_not_hold(balance: Balance) -> None:
    assert not balance.holds


def test_counted_in_journals_and_file(tmp_path: Path) -> None:
    with TaskQueue(tmp_path / "queue.db") as queue:
        ids = queue.enqueue_many([{"type": "bench"}] * 3)
        task = queue.claim("worker")
        assert task is not None
        queue.complete(task)
        calls = [*map(enqueued, ids), claimed(ids[0]), completed(ids[0])]
        balance = Balance.of(records(*calls), tmp_path / "queue.db")
        assert balance == Balance(3, 1, 0, {"completed": 1, "queued": 2})
        twice = Balance.of(records(*calls, completed(ids[0]), enqueued(ids[1])), tmp_path / "queue.db")
        assert twice.repeated == 2
