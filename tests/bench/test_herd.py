"""Wakes fall to the burst that they came after."""

import pytest
from fabricated import Call, claimed, enqueued, other, records

from bench.herd import Herd
from bench.journal import Operation, Outcome


def burst(at: float, *tasks: int) -> list[Call]:
    return [enqueued(task, ended=at + 0.01, intended=at) for task in tasks]


def in_vain(at: float) -> Call:
    return other(Operation.CLAIM, Outcome.EMPTY, at, at + 0.01)


def test_wakes_by_burst() -> None:
    calls = [*burst(1.0, 1, 2), *burst(2.0, 3, 4), claimed(1, 1.1), claimed(2, 1.2), in_vain(1.9)]
    herd = Herd.of(records(*calls, claimed(3, 2.1), claimed(4, 2.2)), 8, 2, ended=3.0, sleeps=5)
    assert (herd.wakes, herd.empty, herd.unclaimed) == ([3, 2], [1, 0], 0)
    figures = herd.wakes_per_burst, herd.empty_per_burst, herd.sleeps_per_burst
    assert figures == pytest.approx((2.5, 0.5, 2.5))


def test_what_comes_after_the_end_is_not_the_last_bursts() -> None:
    herd = Herd.of(records(*burst(1.0, 1), claimed(1, 1.1), in_vain(3.1)), 8, 1, ended=3.0, sleeps=0)
    assert (herd.wakes, herd.empty) == ([1], [0])


def test_a_wake_before_any_burst_is_nobodys() -> None:
    assert Herd.of(records(*burst(1.0, 1), in_vain(0.5)), 8, 1, ended=3.0, sleeps=0).wakes == [0]


def test_tasks_that_nobody_claimed_are_counted() -> None:
    calls = [*burst(1.0, 1, 2, 3), claimed(2, 1.1), claimed(3, 3.1)]
    assert Herd.of(records(*calls), 8, 3, ended=3.0, sleeps=0).unclaimed == 2


def test_no_bursts() -> None:
    assert Herd.of(records(), 8, 4, ended=1.0, sleeps=0).wakes_per_burst == 0.0
