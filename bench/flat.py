"""Whether the cost of an operation grows with the queue: the same operations at several depths, in one run.

Round by round each operation runs a few times at every depth, in turned order each second round, so that a slow minute
of the machine hits all depths.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.bare_sqlite import PAYLOAD_TEXT
from bench.findings import Findings
from bench.flat_operations import CHOOSY, IDLE, LOTTERY, PLAIN, TYPES, Operation
from bench.machine import Facts, describe, machine_facts
from bench.options import UsageError, add_driver, whole
from bench.progress import live_line
from bench.scenario import Driver
from bench.table import table
from prismq import TaskQueue, lottery

LIMIT = 1.5
"""The highest ratio of deepest to shallowest that counts as flat."""
DELAYED_TASKS = 100_000
"""At each depth besides the ready ones: of top priority, and due in centuries."""
BLOCK = 10
"""Operations in a row at one depth."""
CHUNK = 20_000
"""Rows of one INSERT."""

# What rows are filled with: SQL expressions over the row's number n and the payload.
READY_ROW = {"type": "'kind ' || (n % 50)", "priority": "10 + 20 * (n / 50 % 5)", "payload": "?3"}
CHOOSY_ROW = READY_ROW | {"compatibility": """'{"gpu":true}'"""}
DELAYED_ROW = READY_ROW | {"priority": "0", "run_after_utc": "'2999-01-01 00:00:00.000'"}
FINISHED_ROW = READY_ROW | {
    "status": "'completed'",
    "attempts": "1",
    "locked_by": "'worker'",
    "finished_at_utc": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One operation's p50 in microseconds at each depth, the shallowest first."""

    operation: str
    p50: list[float]

    @property
    def ratio(self) -> float:
        """Deepest : shallowest."""
        return self.p50[-1] / self.p50[0]

    @property
    def passed(self) -> bool:
        return self.ratio <= LIMIT


@dataclass(frozen=True, slots=True)
class FlatReport:
    """`depths` are ready tasks, ascending; each queue held `finished` and `delayed` ones besides."""

    machine: Facts
    depths: list[int]
    finished: int
    delayed: int
    operations: int
    rows: list[Row]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"ratio": row.ratio, "passed": row.passed} for row in self.rows]
        return asdict(self) | {"limit": LIMIT, "types": len(TYPES), "rows": rows}


def measure(folder: Path, depths: Sequence[int], operations: int, driver: Driver) -> FlatReport:
    """Fill two queues for each depth, and run each operation `operations` times on the one that it is for."""
    depths = sorted(set(depths))
    with ExitStack() as stack:

        def opened(purpose: str) -> dict[int, TaskQueue]:
            paths = {depth: folder / f"{purpose}-{depth}.db" for depth in depths}
            return {depth: stack.enter_context(TaskQueue(path, driver=driver)) for depth, path in paths.items()}

        queues, idle = opened("ready"), opened("delayed")
        before = [(FINISHED_ROW, depths[-1]), (DELAYED_ROW, DELAYED_TASKS)]
        _fill([(queue, *rows) for depth, queue in queues.items() for rows in (*before, (READY_ROW, depth))])
        _fill([(queue, DELAYED_ROW, depth) for depth, queue in idle.items()])
        rows = _run("plain", queues, PLAIN, operations)
        _fill([(queue, CHOOSY_ROW, depth // 9) for depth, queue in queues.items()])  # a tenth of what is ready then
        rows += _run("choosy", queues, CHOOSY, operations)
        with live_line("opening the lottery", len(queues)) as update:
            for number, (depth, queue) in enumerate(queues.items()):
                update(number, f"{depth:,} tasks")
                lottery.open_lottery(queue.database)
        rows += _run("lottery", queues, LOTTERY, operations)
        rows += _run("idle", idle, IDLE, operations)
        facts = machine_facts(folder, queues[depths[0]], "normal")
    return FlatReport(facts, depths, depths[-1], DELAYED_TASKS, operations, rows)


def render(report: FlatReport) -> str:
    """The report as text."""
    header = ("operation, p50 us", *(f"{depth:,}" for depth in report.depths), "ratio", "")
    rows = [
        [row.operation, *(f"{p50:.1f}" for p50 in row.p50), f"{row.ratio:.2f}", "PASS" if row.passed else "FAIL"]
        for row in report.rows
    ]
    note = (
        f"columns: ready tasks of {len(TYPES)} types, besides {report.finished:,} finished ones and"
        f" {report.delayed:,} of top priority that are not due;\n"
        "claims with capabilities and the lottery: a tenth of the ready tasks need a capability;"
        " only delayed tasks: as many of them, and no others;\n"
        f"{report.operations:,} operations each, interleaved; ratio: deepest : shallowest, PASS up to {LIMIT:g}"
    )
    return "\n\n".join((describe(report.machine), note, table(header, rows)))


LINE = "whether operations get dearer as the queue grows"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "The same operations on queues of several depths, each with as many finished tasks as the deepest has ready"
        f" ones and {DELAYED_TASKS:,} delayed ones: medians of interleaved rounds, and their ratio deepest :"
        " shallowest. The default depths take about 2 GB of disk."
    )
    parser.epilog = (
        "example:\n  python -m bench flat --depths 1000 50000 --json flat.json\n\n"
        f"exit status: 0 every ratio is at most {LIMIT:g}, 1 one is not"
    )
    parser.add_argument(
        "--depths", type=whole, nargs="+", default=[1_000, 100_000, 1_000_000], metavar="TASKS", help="ready tasks"
    )
    parser.add_argument("--operations", type=whole, default=600, metavar="N", help="of a kind (default 600)")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    if len(set(options.depths)) < 2 or min(options.depths) < len(TYPES):
        raise UsageError(f"--depths: at least two, none below {len(TYPES)}, the number of task types")
    report = measure(folder, options.depths, options.operations, options.driver)
    return Findings(render(report), report.as_json(), report.passed)


def _fill(rows: Sequence[tuple[TaskQueue, Mapping[str, str], int]]) -> None:
    """Insert so many rows of these columns into each queue, by plain SQL."""
    done = 0
    with live_line("filling", sum(count for *_, count in rows)) as update:
        for queue, columns, count in rows:
            statement = f"""WITH RECURSIVE series (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < ?2)
                INSERT INTO task_queue ({", ".join(columns)}) SELECT {", ".join(columns.values())} FROM series"""
            for first in range(0, count, CHUNK):
                end = min(first + CHUNK, count)
                queue.database.execute(statement, (first, end, PAYLOAD_TEXT))
                done += end - first
                update(done, f"{done:,} rows")
            queue.database.execute("PRAGMA wal_checkpoint").fetchall()


def _run(label: str, queues: Mapping[int, TaskQueue], operations: Mapping[str, Operation], times: int) -> list[Row]:
    """Each operation so many times on each queue."""
    taken: dict[str, dict[int, list[int]]] = {name: {depth: [] for depth in queues} for name in operations}
    with live_line(label, times) as update:
        for begin in range(0, times, BLOCK):
            update(begin, f"{begin:,} of {times:,}")
            order = list(queues)[:: -1 if begin // BLOCK % 2 else 1]
            for name, operation in operations.items():
                for depth in order:
                    numbers = range(begin, min(begin + BLOCK, times))
                    taken[name][depth] += [operation(queues[depth], number) for number in numbers]
    return [
        Row(name, [float(np.median(nanoseconds)) / 1000 for nanoseconds in by_depth.values()])
        for name, by_depth in taken.items()
    ]
