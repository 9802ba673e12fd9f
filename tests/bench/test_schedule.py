"""Producers together keep the rate, each by a schedule that no stall can move."""

import pytest

from bench.schedule import Schedule


def test_shares_interleave_to_the_whole_rate() -> None:
    shares = [Schedule(rate=10.0, seconds=1.0, index=index, producers=3) for index in range(3)]
    moments = sorted(moment for share in shares for moment in share.arrivals(100.0))
    assert moments == pytest.approx([100.0 + number / 10 for number in range(10)])


@pytest.mark.parametrize("rate", [0.5, 3.0, 1000.0, 1234.5])
def test_no_arrival_is_due_outside_the_window(rate: float) -> None:
    for index in range(4):
        moments = list(Schedule(rate, 2.0, index, 4).arrivals(5.0))
        assert all(5.0 <= moment < 7.0 for moment in moments)


def test_arrivals_do_not_depend_on_when_they_are_asked_for() -> None:
    schedule = Schedule(100.0, 1.0, 0, 1)
    assert list(schedule.arrivals(1.0)) == list(schedule.arrivals(1.0))
    assert len(schedule) == 100
