"""The promises that a run is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.phase import Phase

CLAIM_MS = 10.0
ENQUEUE_MS = 5.0
BUSY_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise held against what was measured."""

    promise: str
    measured: str
    passed: bool


def judge(phases: Sequence[Phase]) -> list[Verdict]:
    """Latency is judged in paced phases only: a closed loop has no load but the one that the engine lets it have."""
    verdicts = []
    for phase in phases:
        if phase.rate is not None:
            for operation, limit in (("claim", CLAIM_MS), ("enqueue", ENQUEUE_MS)):
                p99 = phase.latency[operation].p99
                promise = f"{operation} p99 < {limit:g} ms, {phase.name}"
                verdicts.append(Verdict(promise, f"{p99:.3f} ms", 0 < p99 < limit))
        promise = f"SQLITE_BUSY < {BUSY_PERCENT:g} %, {phase.name}"
        verdicts.append(Verdict(promise, f"{phase.busy_share:.3%}", phase.busy_share * 100 < BUSY_PERCENT))
    accounts = [phase.account for phase in phases]
    verdicts.append(_none("no task lost", sum(len(account.lost) for account in accounts)))
    verdicts.append(_none("no task duplicated", sum(len(account.duplicated) for account in accounts)))
    if all(phase.has_order for phase in phases):
        verdicts.append(_none("no task out of order", sum(phase.order_violations for phase in phases)))
    balance = f"{sum(account.produced for account in accounts):,} = {sum(account.present for account in accounts):,}"
    balanced = all(account.balanced for account in accounts)
    verdicts.append(Verdict("produced = completed + still queued", balance, balanced))
    return verdicts


def _none(promise: str, count: int) -> Verdict:
    return Verdict(promise, f"{count:,}", count == 0)
