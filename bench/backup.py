"""Whether a backup disturbs those who use the queue, and whether it holds what it should."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.beside import HEADER, PAYLOAD, Callers, Turn, by_turn, pace, ratio, rows
from bench.findings import Findings
from bench.latency import Latency
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_callers, whole
from bench.progress import live_line
from bench.scenario import Durability
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import Judged, verdict_table
from prismq import QueueBackup, QueueDatabase, TaskQueue

LIMIT = 2.0
"""The highest ratio of the callers' p99 beside a backup to that without one."""
BATCH = 5000


@dataclass(frozen=True, slots=True)
class BackupReport(Judged):
    """`backups` were made beside the callers, of `megabytes` each, in `seconds` (mean)."""

    tasks: int
    processes: int
    rate: float
    latency: dict[str, dict[str, Latency]]
    backups: int
    megabytes: float
    seconds: float
    unsound: int
    with_gaps: int
    not_restored: int

    @property
    def verdicts(self) -> list[Verdict]:
        return [
            *(
                Verdict(f"{name} p99 beside a backup <= {LIMIT:g} times", f"{ratio(both):.2f}", ratio(both) <= LIMIT)
                for name, both in self.latency.items()
            ),
            Verdict("every backup verifies", f"{self.unsound} do not", self.unsound == 0),
            Verdict("every backup is one moment of history", f"{self.with_gaps} are not", self.with_gaps == 0),
            Verdict("every backup restores", f"{self.not_restored} do not", self.not_restored == 0),
        ]


def measure(
    folder: Path, tasks: int, processes: int, rate: float, rounds: int, seconds: float, durability: Durability
) -> BackupReport:
    """Callers at `rate` each on a queue of so many tasks; in each round a turn alone, then one beside backups."""
    path = folder / "queue.db"
    with TaskQueue(path, durability=durability) as queue:
        facts = machine_facts(folder, queue, durability)
        for _ in range(0, tasks, BATCH):
            queue.enqueue_many([{"type": "filler", "priority": 1000, "payload": PAYLOAD}] * BATCH)
    turns: list[Turn] = []
    made: list[tuple[Path, float]] = []
    backups = QueueBackup(QueueDatabase(path), folder / "backups")
    total = 2 * rounds * seconds
    with Callers(path, folder, processes, rate, durability) as callers, live_line("backup", total) as show:
        for number in range(rounds):
            for beside in (False, True):
                start = perf_counter()
                while (left := start + seconds - perf_counter()) > 0:
                    if beside:
                        began = perf_counter()
                        made.append((backups.create_backup(), perf_counter() - began))
                    else:
                        time.sleep(left)
                turns.append(Turn(beside, start, perf_counter()))
                show((2 * number + 1 + beside) * seconds, f"{len(made)} backups")
    unsound = with_gaps = not_restored = 0
    for number, (backup, _) in enumerate(made):
        unsound += not backups.verify_backup(backup)
        target = folder / f"restored-{number}.db"
        backups.restore_backup(backup, target)
        with QueueDatabase(backup) as copy, QueueDatabase(target) as restored:
            counts = [one.execute("SELECT count(*), max(id) FROM task_queue").fetchone() for one in (copy, restored)]
            with_gaps += counts[0][0] != counts[0][1]
            not_restored += tuple(counts[0]) != tuple(counts[1])
        target.unlink()
    return BackupReport(
        facts,
        tasks,
        processes,
        rate,
        by_turn(callers.calls(), turns),
        len(made),
        max(backup.stat().st_size for backup, _ in made) / 2**20,
        sum(took for _, took in made) / len(made),
        unsound,
        with_gaps,
        not_restored,
    )


def render(report: BackupReport) -> str:
    """The report as text."""
    load = (
        f"{report.processes} processes, {pace(report.rate)}, {report.tasks:,} tasks in the queue;"
        f" {report.backups} backups of {report.megabytes:.0f} MiB, {report.seconds:.2f} s each"
    )
    return "\n\n".join(
        [
            describe(report.machine),
            load,
            table(HEADER, rows(report.latency), left=2),
            verdict_table(report.verdicts),
        ]
    )


LINE = "whether a backup disturbs anybody"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Processes enqueue, claim and complete, in turns alone and beside backups that follow one"
        " another; every backup is verified, restored and looked at for gaps."
    )
    parser.epilog = "example:\n  python -m bench backup --tasks 20000 --rounds 3 --json backup.json\n\n" + EXIT_STATUS
    parser.add_argument("--tasks", type=whole, default=200_000, metavar="N", help="in the queue (default 200000)")
    parser.add_argument("--rounds", type=whole, default=8, metavar="N", help="(default 8)")
    add_callers(parser, processes=4)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(
        folder,
        options.tasks,
        options.processes,
        options.rate,
        options.rounds,
        options.seconds,
        options.durability,
    )
    return Findings(render(report), report.as_json(), report.passed)
