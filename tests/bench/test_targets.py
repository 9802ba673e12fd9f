"""A missed target is a FAIL, and one FAIL is enough."""

from dataclasses import replace

import numpy as np
import pytest

from bench.accounting import Account
from bench.latency import Latency
from bench.phase import Phase
from bench.targets import judge

ACCOUNT = Account(
    produced=10,
    completed=8,
    queued=2,
    processing=0,
    failed=0,
    reclaimed=0,
    retried=0,
    refused=0,
    lost=[],
    duplicated=[],
    unasked=[],
)


def latency(milliseconds: float) -> Latency:
    return Latency.of(np.full(10, milliseconds / 1000), 1.0)


GOOD = Phase(
    name="paced",
    rate=10.0,
    seconds=1.0,
    latency={"enqueue": latency(1.0), "claim": latency(1.0), "complete": latency(1.0)},
    calls=1000,
    busy=0,
    empty_claims=0,
    missed_arrivals=0,
    kills=0,
    account=ACCOUNT,
    has_order=True,
    passed_over=0,
    drained=2,
    out_of_place=0,
    wal_bytes=0,
    database_bytes=0,
)


def failures(phase: Phase) -> list[str]:
    return [verdict.promise for verdict in judge([phase]) if not verdict.passed]


def test_all_met() -> None:
    assert failures(GOOD) == []


@pytest.mark.parametrize(
    ("phase", "promise"),
    [
        (replace(GOOD, latency=GOOD.latency | {"claim": latency(10.0)}), "claim p99"),
        (replace(GOOD, latency=GOOD.latency | {"enqueue": latency(5.0)}), "enqueue p99"),
        (replace(GOOD, latency=GOOD.latency | {"claim": latency(0.0)}), "claim p99"),
        (replace(GOOD, busy=10), "SQLITE_BUSY"),
        (replace(GOOD, passed_over=1), "out of order"),
        (replace(GOOD, out_of_place=1), "out of order"),
        (replace(GOOD, account=replace(ACCOUNT, produced=11)), "produced"),
    ],
)
def test_one_missed(phase: Phase, promise: str) -> None:
    (failure,) = failures(phase)
    assert promise in failure


@pytest.mark.parametrize(
    ("account", "fault"),
    [(replace(ACCOUNT, lost=[3]), "no task lost"), (replace(ACCOUNT, duplicated=[3]), "no task duplicated")],
)
def test_a_lost_or_duplicated_task_fails_twice(account: Account, fault: str) -> None:
    assert failures(replace(GOOD, account=account)) == [fault, "produced = completed + still queued"]


def test_a_closed_loop_is_not_judged_by_latency() -> None:
    closed = replace(GOOD, rate=None, latency=GOOD.latency | {"claim": latency(99.0)})
    assert failures(closed) == []
