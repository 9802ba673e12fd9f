"""Whether those who enqueue notice that finished tasks are removed."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.beside import HEADER, Callers, Turn, by_turn, pace, ratio, rows
from bench.findings import Findings
from bench.latency import Latency
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_callers, whole
from bench.progress import live_line
from bench.scenario import Durability
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import Judged, verdict_table
from prismq import Keep, QueueDatabase, RetentionPolicy, TaskQueue
from prismq.retention import REST, Pruning

LIMIT = 2.0
TRANSACTION_MS = 5.0
BATCH = 20_000
POLICY = RetentionPolicy(completed=Keep(days=1))
LONGEST_SECONDS = 600.0
_FILL = """WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < ?1)
INSERT INTO task_queue (type, payload, status, attempts, locked_by, processing_started_utc, finished_at_utc,
  created_at_utc, updated_at_utc)
SELECT 'old', '{"body": "' || hex(zeroblob(95)) || '"}', 'completed', 1, 'w', at, at, at, at
FROM (SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '-30 days') AS at, n FROM series)"""


@dataclass(frozen=True, slots=True)
class PruneReport(Judged):
    """`removed` of `finished` tasks were removed in `seconds` of pruning; `transactions` is for how long each kept the
    write lock."""

    finished: int
    removed: int
    left: int
    seconds: float
    processes: int
    rate: float
    latency: dict[str, dict[str, Latency]]
    transactions: Latency

    @property
    def verdicts(self) -> list[Verdict]:
        enqueue = ratio(self.latency["enqueue"])
        return [
            Verdict(f"enqueue p99 beside pruning <= {LIMIT:g} times", f"{enqueue:.2f}", enqueue <= LIMIT),
            Verdict(
                f"a removing transaction < {TRANSACTION_MS:g} ms (p99)",
                f"{self.transactions.p99:.2f} ms",
                self.transactions.p99 < TRANSACTION_MS,
            ),
            Verdict("all finished tasks are removed", f"{self.left:,} left", self.left == 0),
        ]


def measure(
    folder: Path, finished: int, processes: int, rate: float, seconds: float, durability: Durability
) -> PruneReport:
    """Callers at `rate` each while so many old tasks are removed; every other turn of `seconds` they are alone."""
    path = folder / "queue.db"
    with TaskQueue(path, durability=durability) as queue:
        facts = machine_facts(folder, queue, durability)
        for done in range(0, finished, BATCH):
            queue.database.execute(_FILL, (min(BATCH, finished - done),))
    turns: list[Turn] = []
    took: list[float] = []
    with (
        QueueDatabase(path, durability=durability) as database,
        Callers(path, folder, processes, rate, durability) as callers,
        live_line("prune", finished) as show,
    ):
        # The callers' housekeeper does it. SQLite's own holds nobody up, after a commit, but would be timed with it.
        database.execute("PRAGMA wal_autocheckpoint = 0")
        pruning = Pruning(database, POLICY)
        steps = pruning.steps()
        ended = False
        began = perf_counter()
        while not ended and perf_counter() - began < LONGEST_SECONDS:
            start = perf_counter()
            time.sleep(seconds)
            turns.append(Turn(False, start, perf_counter()))
            start = perf_counter()
            while not ended and perf_counter() - start < seconds:
                pause = next(steps, None)
                ended = pause is None
                if pause:
                    took.append(pause / REST)
                    time.sleep(pause)
            turns.append(Turn(True, start, perf_counter()))
            show(pruning.removed.completed, f"{pruning.removed.completed:,} removed")
        left = database.execute("SELECT count(*) FROM task_queue WHERE type = 'old'").fetchone()[0]
    pruned = sum(turn.stop - turn.start for turn in turns if turn.beside)
    return PruneReport(
        facts,
        finished,
        pruning.removed.completed,
        left,
        pruned,
        processes,
        rate,
        by_turn(callers.calls(), turns),
        Latency.of(np.array(took), pruned),
    )


def render(report: PruneReport) -> str:
    """The report as text."""
    one = report.transactions
    load = (
        f"{report.processes} processes, {pace(report.rate)}; {report.removed:,} tasks removed in"
        f" {report.seconds:.0f} s ({report.removed / max(report.seconds, 1e-9):,.0f}/s) by {one.count:,}"
        f" transactions: p50 {one.p50:.2f}, p99 {one.p99:.2f}, longest {one.max:.1f} ms"
    )
    return "\n\n".join(
        [
            describe(report.machine),
            load,
            table(HEADER, rows(report.latency), left=2),
            verdict_table(report.verdicts),
        ]
    )


LINE = "whether removing finished tasks does"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Processes enqueue, claim and complete, in turns alone and while old finished tasks are"
        " removed, until all of them are."
    )
    parser.epilog = "example:\n  python -m bench prune --finished 100000 --json prune.json\n\n" + EXIT_STATUS
    parser.add_argument("--finished", type=whole, default=1_000_000, metavar="TASKS", help="(default 1000000)")
    add_callers(parser, processes=2)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.finished, options.processes, options.rate, options.seconds, options.durability)
    return Findings(render(report), report.as_json(), report.passed)
