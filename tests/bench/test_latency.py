"""Percentiles over every sample, counted from when a call was due."""

import numpy as np
import pytest
from fabricated import claimed, completed, enqueued, other, records

from bench.journal import Operation, Outcome
from bench.latency import Curve, Latency, latencies


def test_percentiles_of_known_samples() -> None:
    result = Latency.of(np.arange(1, 1002) / 1000, window=10.0)
    assert (result.count, result.rate) == (1001, 100.1)
    figures = [result.p50, result.p95, result.p99, result.p99_9, result.max]
    assert figures == pytest.approx([501.0, 951.0, 991.0, 1000.0, 1001.0])


def test_one_bad_sample_of_a_thousand_is_not_lost() -> None:
    samples = np.full(1000, 0.001)
    samples[500] = 3.0
    result = Latency.of(samples, window=1.0)
    assert result.max == pytest.approx(3000.0)
    assert result.p99 == pytest.approx(1.0)


def test_no_samples_are_zero() -> None:
    assert Latency.of(np.empty(0), 1.0).max == 0.0


def test_enqueue_counts_from_the_intended_arrival() -> None:
    late = (Operation.ENQUEUE, Outcome.DONE, 0, 50, 1, 1.0, 1.4, 1.5)
    result = latencies(records(late), 0.0, 2.0)
    assert result["enqueue"].max == pytest.approx(500.0)
    assert result["enqueue call"].max == pytest.approx(100.0)


def test_an_arrival_that_never_got_its_turn_counts_at_its_age() -> None:
    missed = other(Operation.ENQUEUE, Outcome.MISSED, started=1.0, ended=3.0)
    result = latencies(records(enqueued(1), missed), 0.0, 2.0)
    assert result["enqueue"].count == 2
    assert result["enqueue"].max == pytest.approx(2000.0)
    assert result["enqueue call"].count == 1


def test_only_calls_due_inside_the_window_count() -> None:
    calls = [enqueued(task, moment + 0.1, intended=moment) for task, moment in enumerate((0.5, 1.0, 1.9, 2.0))]
    assert latencies(records(*calls), 1.0, 2.0)["enqueue"].count == 2


def test_empty_busy_and_refused_calls_are_not_latencies() -> None:
    calls = [
        other(Operation.CLAIM, Outcome.EMPTY),
        other(Operation.CLAIM, Outcome.BUSY),
        other(Operation.COMPLETE, Outcome.REFUSED),
    ]
    assert {latency.count for latency in latencies(records(*calls), 0.0, 2.0).values()} == {0}


def test_a_producer_woken_late_is_told_from_one_held_up() -> None:
    on_time = (Operation.ENQUEUE, Outcome.DONE, 0, 50, 1, 1.0, 1.0, 1.05)
    woken_late = (Operation.ENQUEUE, Outcome.DONE, 0, 50, 2, 1.1, 1.3, 1.5)
    held_up = (Operation.ENQUEUE, Outcome.DONE, 0, 50, 3, 1.2, 1.5, 1.6)
    another = (Operation.ENQUEUE, Outcome.DONE, 0, 50, 4, 1.0, 1.4, 1.5)
    result = latencies(records(on_time, woken_late, held_up, another), 0.0, 2.0)
    assert result["producer woken late"].count == 1
    assert result["producer woken late"].max == pytest.approx(200.0)


def test_the_wait_for_a_worker_runs_from_the_arrival_to_the_first_claim() -> None:
    again = claimed(1, 1.7, 1.8, attempt=2)
    result = latencies(records(enqueued(1, intended=0.1), claimed(1, 1.0, 1.1), again, completed(1)), 0.0, 2.0)
    assert result["arrival to claim"].count == 1
    assert result["arrival to claim"].max == pytest.approx(1000.0)


def test_a_curve_ends_where_a_single_call_would_decide() -> None:
    curve = Curve.of(np.arange(1, 101) / 1000)
    assert curve.shares[0] == 0.5
    assert curve.shares[-1] == 0.99
    assert curve.ms == pytest.approx([float(np.quantile(np.arange(1, 101), share)) for share in curve.shares])
    assert Curve.of(np.empty(0)) == Curve([], [])
    assert Curve.of(np.ones(1)) == Curve([], [])
