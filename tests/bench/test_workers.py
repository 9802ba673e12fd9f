"""The benchmark of workers drains each side's backlog completely, and holds the right ratio against the promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.workers import AHEAD, LOOP, SINGLE, WorkersReport, measure, render


def test_each_side_completes_its_backlog(tmp_path: Path) -> None:
    report = measure(tmp_path, 300, 2, 1, 16, "normal")
    assert report.astray == 0
    assert set(report.rates) == {AHEAD, SINGLE, LOOP}
    assert all(rate > 0 for (rate,) in report.rates.values())
    said = render(report)
    assert "a backlog of 300 tasks" in said
    assert "every task completed, once" in said


@pytest.mark.parametrize(("ahead", "astray", "passed"), [(30.0, 0, True), (29.0, 0, False), (30.0, 1, False)])
def test_the_promise_is_three_times_the_loops_rate(ahead: float, astray: int, passed: bool) -> None:
    rates = {AHEAD: [1.0, ahead, 99.0], SINGLE: [5.0] * 3, LOOP: [10.0, 1.0, 11.0]}
    report = WorkersReport({}, 100, 4, 16, rates, astray)
    assert report.passed is passed
    assert report.as_json()["times"][AHEAD] == pytest.approx(ahead / 10)
