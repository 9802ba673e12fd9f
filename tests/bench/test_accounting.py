"""Lost and duplicated tasks are found, and lost leases told from them."""

import pytest
from fabricated import Call, claimed, completed, enqueued, other, records

from bench.accounting import Account, Row, account
from bench.journal import Operation, Outcome

LEASE_SECONDS = 2.0


def done(task: int, attempts: int = 1) -> Row:
    return Row(task, 50, "completed", attempts)


def queued(task: int) -> Row:
    return Row(task, 50, "queued", 0)


def accounted(*calls: Call, rows: list[Row]) -> Account:
    return account(records(*calls), rows, LEASE_SECONDS)


def whole(task: int) -> list[Call]:
    return [enqueued(task), claimed(task), completed(task)]


def test_every_task_once_balances() -> None:
    result = accounted(*whole(1), *whole(2), enqueued(3), rows=[done(1), done(2), queued(3)])
    assert result == Account(
        produced=3,
        completed=2,
        queued=1,
        processing=0,
        failed=0,
        reclaimed=0,
        retried=0,
        refused=0,
        lost=[],
        duplicated=[],
        unasked=[],
    )
    assert result.balanced


def test_nothing_balances() -> None:
    assert accounted(rows=[]).balanced


def test_every_status_has_its_place() -> None:
    statuses = ["completed", "queued", "processing", "failed", "dead_letter"]
    rows = [Row(task, 50, status, 1) for task, status in enumerate(statuses)]
    result = accounted(*(enqueued(task) for task in range(5)), rows=rows)
    assert (result.completed, result.queued, result.processing, result.failed) == (1, 1, 1, 2)
    assert result.balanced


@pytest.mark.parametrize(
    ("calls", "rows"),
    [
        pytest.param([enqueued(1)], [], id="an acknowledged task is not there"),
        pytest.param([enqueued(1), claimed(1)], [queued(1)], id="a claim was forgotten"),
        pytest.param(whole(1), [Row(1, 50, "processing", 1)], id="a completion was forgotten"),
        pytest.param(whole(1), [], id="a completed task is not there"),
    ],
)
def test_lost(calls: list[Call], rows: list[Row]) -> None:
    result = accounted(*whole(7), *calls, rows=[done(7), *rows])
    assert result.lost == [1]
    assert not result.balanced


@pytest.mark.parametrize(
    ("calls", "attempts"),
    [
        pytest.param([enqueued(1), enqueued(1), claimed(1), completed(1)], 1, id="an id given out twice"),
        pytest.param([enqueued(1), claimed(1), claimed(1, 1.05), completed(1)], 1, id="one attempt handed out twice"),
        pytest.param([*whole(1), completed(1, 1.3)], 1, id="completed twice"),
        pytest.param([*whole(1), claimed(1, 9.0, 9.1, attempt=2)], 2, id="claimed after its completion"),
        pytest.param(
            [enqueued(1), claimed(1), claimed(1, 2.0, 2.1, attempt=2), completed(1, 2.2, 2)],
            2,
            id="claimed within its lease",
        ),
    ],
)
def test_duplicated(calls: list[Call], attempts: int) -> None:
    result = accounted(*whole(7), *calls, rows=[done(7), done(1, attempts)])
    assert result.duplicated == [1]
    assert not result.balanced


def test_a_claim_after_a_lost_lease_is_counted_apart() -> None:
    again = claimed(1, started=3.2, ended=3.3, attempt=2)
    result = accounted(enqueued(1), claimed(1), again, completed(1, 3.4, 2), rows=[done(1, 2)])
    assert result.reclaimed == 1
    assert result.duplicated == []
    assert result.balanced


def test_a_worker_killed_before_it_could_write_its_claim_down_is_no_fault() -> None:
    result = accounted(enqueued(1), claimed(1, 3.2, 3.3, attempt=2), completed(1, 3.4, 2), rows=[done(1, 2)])
    assert result.balanced


def test_a_worker_killed_before_it_could_write_its_completion_down_is_no_fault() -> None:
    assert accounted(enqueued(1), claimed(1), rows=[done(1)]).balanced


def test_a_row_nobody_was_told_of_is_found() -> None:
    result = accounted(*whole(1), rows=[done(1), queued(2)])
    assert result.unasked == [2]
    assert not result.balanced


def test_refused_completions_are_counted() -> None:
    refused = other(Operation.COMPLETE, Outcome.REFUSED)
    assert accounted(*whole(1), refused, rows=[done(1)]).refused == 1
