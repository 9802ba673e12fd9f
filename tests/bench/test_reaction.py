"""How soon a task was in hand: from the commit and from the call, with its sign."""

import pytest
from fabricated import claimed, completed, enqueued, other, records

from bench.journal import Operation, Outcome
from bench.reaction import Reactions, Spread

MISSED_SECONDS = 2.0


def test_percentiles_of_known_samples() -> None:
    assert Spread.of([float(value) for value in range(101)]) == Spread(101, 50.0, 90.0, 99.0, 100.0)
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0, 0.0)


def test_from_the_commit_and_from_the_call() -> None:
    calls = [enqueued(1, ended=0.2, intended=0.1), claimed(1, ended=0.25), completed(1)]
    result = Reactions.of(records(*calls), 0, MISSED_SECONDS)
    assert result.since_commit == pytest.approx([50_000.0])
    assert result.since_call == pytest.approx([150_000.0])
    assert result.missed == 0


def test_a_task_claimed_before_its_producer_knew_counts_below_zero() -> None:
    result = Reactions.of(records(enqueued(1, ended=0.2), claimed(1, ended=0.19)), 0, MISSED_SECONDS)
    assert result.commit_to_claimed.p50 == pytest.approx(-10_000.0)


def test_a_task_claimed_late_or_never_is_missed_and_not_timed() -> None:
    calls = [enqueued(task, ended=0.2) for task in (1, 2, 3)] + [claimed(1, ended=0.3), claimed(2, ended=2.3)]
    result = Reactions.of(records(*calls), 0, MISSED_SECONDS)
    assert len(result.since_commit) == len(result.since_call) == 1
    assert result.missed == 2


def test_the_first_tasks_warm_up_only() -> None:
    calls = [enqueued(task, ended=0.2) for task in (1, 2, 3)] + [claimed(3, ended=0.3)]
    result = Reactions.of(records(*calls), 2, MISSED_SECONDS)
    assert (len(result.since_commit), result.missed) == (1, 0)


def test_only_claims_that_found_a_task_count() -> None:
    result = Reactions.of(records(enqueued(1), other(Operation.CLAIM, Outcome.EMPTY)), 0, MISSED_SECONDS)
    assert (result.since_commit, result.missed) == ([], 1)


def test_rounds_together() -> None:
    assert Reactions.together([Reactions([1.0], [2.0], 1), Reactions([3.0], [4.0], 2)]) == Reactions(
        [1.0, 3.0], [2.0, 4.0], 3
    )
