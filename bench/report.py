"""What the main job prints."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import Report
from bench.latency import Latency
from bench.machine import describe
from bench.phase import Phase
from bench.scenario import Scenario
from bench.table import table
from bench.verdicts import verdict_table

PACED_ONLY = ("enqueue call", "producer woken late")
LATENCY_HEADER = ("phase", "operation", "count", "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms")
NOTES = """\
enqueue, paced: from the intended arrival, so that a stall isn't hidden. In it are the waits behind late calls and the
sleep of an idle producer overrunning ("producer woken late": a busy machine); "enqueue call" is the call alone.
order: a claim is a violation when a better task, enqueued before the claim began, was claimed after it had ended;
and at the end one worker drains the file, which must give exactly (priority, id) order."""


def render(report: Report) -> str:
    """The whole report as text."""
    return "\n\n".join(
        (
            describe(report.machine),
            load_line(report.scenario),
            table(LATENCY_HEADER, latency_rows(report.phases), left=2),
            table(("", *(phase.name for phase in report.phases)), fact_rows(report.phases)),
            NOTES,
            verdict_table(report.verdicts),
        )
    )


def load_line(scenario: Scenario) -> str:
    """Who does what, in a line."""
    kills = f", a worker killed every {scenario.kill_seconds:g} s" if scenario.kill_seconds else ""
    return (
        f"{scenario.producers} producers, {scenario.workers} workers, {scenario.seconds:g} s a phase,"
        f" payload {scenario.payload_bytes} bytes, leases {scenario.lease_seconds:g} s{kills}"
    )


def latency_rows(phases: Sequence[Phase]) -> list[list[str]]:
    """Lines under LATENCY_HEADER."""
    return [
        [phase.name, operation, *latency_cells(latency)]
        for phase in phases
        for operation, latency in phase.latency.items()
        if phase.rate is not None or operation not in PACED_ONLY
    ]


def latency_cells(latency: Latency) -> list[str]:
    """From the count on."""
    figures = (latency.p50, latency.p95, latency.p99, latency.p99_9, latency.max)
    return [f"{latency.count:,}", f"{latency.rate:,.0f}", *(f"{milliseconds:.3f}" for milliseconds in figures)]


def fact_rows(phases: Sequence[Phase]) -> list[list[str]]:
    """A line for each fact, a column for each phase."""
    accounts = [phase.account for phase in phases]
    return [
        ["enqueued and completed, tasks/s", *(f"{phase.capacity:,.0f}" for phase in phases)],
        ["SQLITE_BUSY seen by callers", *(f"{phase.busy:,} ({phase.busy_share:.3%})" for phase in phases)],
        ["claims that found nothing", *(f"{phase.empty_claims:,}" for phase in phases)],
        ["arrivals never issued", *(f"{phase.missed_arrivals:,}" for phase in phases)],
        ["workers killed", *(f"{phase.kills:,}" for phase in phases)],
        ["produced", *(f"{account.produced:,}" for account in accounts)],
        ["completed", *(f"{account.completed:,}" for account in accounts)],
        ["still queued", *(f"{account.queued:,}" for account in accounts)],
        ["in processing", *(f"{account.processing:,}" for account in accounts)],
        ["failed", *(f"{account.failed:,}" for account in accounts)],
        ["claimed again after a lost lease", *(f"{account.reclaimed:,}" for account in accounts)],
        ["claimed again after a failure", *(f"{account.retried:,}" for account in accounts)],
        ["late completions refused", *(f"{account.refused:,}" for account in accounts)],
        ["lost", *(_ids(account.lost) for account in accounts)],
        ["duplicated", *(_ids(account.duplicated) for account in accounts)],
        ["rows nobody was told of", *(_ids(account.unasked) for account in accounts)],
        ["order violations, live", *(f"{phase.passed_over:,}" for phase in phases)],
        ["order violations, drain", *(f"{phase.out_of_place:,} of {phase.drained:,}" for phase in phases)],
        ["largest WAL, MB", *(f"{phase.wal_bytes / 1e6:.1f}" for phase in phases)],
        ["database, MB", *(f"{phase.database_bytes / 1e6:.1f}" for phase in phases)],
    ]


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in ids[:3])
    return f"{len(ids):,}" + (f" ({shown}{', ...' if len(ids) > 3 else ''})" if ids else "")
