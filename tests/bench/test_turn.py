"""A side's figures come from the calls inside the window, and its processes are told apart."""

from dataclasses import replace
from pathlib import Path

import pytest
from fabricated import Call, claimed, completed, enqueued, other, records

from bench.journal import Operation, Outcome
from bench.trace import Trace
from bench.turn import Figures, Ratios, Turn, ratio, split


def journal(path: Path, *calls: Call) -> Path:
    path.write_bytes(records(*calls).tobytes())
    return path


def turn(folder: Path, longest: float = 0.5) -> Turn:
    """Two seconds in which one producer is served three times and the other once, and one task is completed."""
    warm = enqueued(9, intended=0.9, ended=0.95)
    late = enqueued(8, intended=3.0, ended=9.0)
    busy = other(Operation.ENQUEUE, Outcome.BUSY, 1.1, 1.2)
    often = [warm, *(enqueued(task, intended=1.5, ended=1.6) for task in (1, 2, 3)), late]
    seldom = [busy, enqueued(4, intended=2.9, ended=2.9 + longest)]
    producers = [journal(folder / "a", *often), journal(folder / "b", *seldom)]
    workers = [journal(folder / "c", claimed(1), completed(1, 1.9)), journal(folder / "d")]
    return Turn.of(Trace(1.0, 3.0, producers, workers, 77))


@pytest.mark.parametrize(
    ("served", "expected"), [([6, 4, 5], 1.5), ([7], 1.0), ([3, 0], 3.0), ([0, 0], 0.0), ([], 0.0)]
)
def test_split(served: list[int], expected: float) -> None:
    assert split(served) == expected


def test_sides_are_compared_round_by_round(tmp_path: Path) -> None:
    """In the second round the machine is ten times as slow for both."""
    base = Figures.of([turn(tmp_path)])
    rates = ((200.0, 100.0), (30.0, 10.0), (400.0, 100.0))
    rounds = [{"a": replace(base, enqueued=one), "b": replace(base, enqueued=other)} for one, other in rates]
    found = Ratios.between(rounds, "a", "b", "enqueued")
    assert (found.middle, str(found), found.cell) == (3.0, "3.00 (2.00 to 4.00)", "3.00 (2.00 to 4.00)")
    assert str(Ratios.between(rounds[:1], "a", "b", "enqueued")) == "2.00"
    assert Ratios([0.0, 0.0]).cell == "-"


def test_ratio_with_nothing() -> None:
    assert (ratio(3.0, 2.0), ratio(3.0, 0.0)) == (1.5, 0.0)


def test_a_turn_counts_inside_the_window_by_process(tmp_path: Path) -> None:
    found = turn(tmp_path)
    assert (found.enqueued, found.completed) == ([3, 1], [1, 0])
    assert found.latency["enqueue"].count == 4
    assert found.latency["enqueue"].max == pytest.approx(500.0)
    assert (found.busy, found.wal_bytes) == (1, 77)


def test_figures_are_medians_but_for_the_longest_of_all(tmp_path: Path) -> None:
    figures = Figures.of([turn(tmp_path, longest) for longest in (0.3, 4.0, 0.5)])
    assert figures.longest == pytest.approx(500.0)
    assert figures.longest_of_all == pytest.approx(4000.0)
    assert (figures.enqueued, figures.completed, figures.completed_share) == (2.0, 0.5, 0.25)
    assert (figures.producer_split, figures.worker_split) == (3.0, 1.0)
    assert figures.busy == 3
