"""How close the public API comes to bare SQLite, in one run.

Every round opens new files and runs all sides one after the other, in turned order each second round, so that a slow
minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import sqlite3
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.bare_sqlite import PAYLOAD, PAYLOAD_TEXT, PRIORITY, TYPE, WORKER, BareSQLite, HotPath, build
from bench.findings import Findings
from bench.machine import Facts, describe, machine_facts
from bench.options import add_driver, whole
from bench.progress import live_line
from bench.scenario import Driver
from bench.table import table
from bench.variants import MINIMAL, SAME_ROW, Variant
from prismq import PRAGMAS, TaskQueue, native

Timings = dict[str, float]
"""Microseconds an operation, by operation."""
INDEXED_PAYLOAD = {"format": "mp4", "body": "x" * 171}
HOT_PATH = "C hot path"
"""The queue's C entry points called from C; all else of the queue's is measured through its Python API."""
PLAIN_VFS = "C hot path, SQLite's own VFS"
HEADER = ("operation", "prismq, p50 us", "against", "p50 us", "ratio")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operation on both sides: microseconds an operation, one figure a round."""

    operation: str
    against: str
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Above 1: slower than the other side."""
        return median(self.ours) / median(self.theirs)


@dataclass(frozen=True, slots=True)
class BareReport:
    machine: Facts
    operations: int
    batch: int
    comparisons: list[Comparison]

    def as_json(self) -> dict[str, Any]:
        figures = [
            asdict(one) | {"ours_p50": median(one.ours), "theirs_p50": median(one.theirs), "ratio": one.ratio}
            for one in self.comparisons
        ]
        return {
            "machine": self.machine,
            "operations": self.operations,
            "batch": self.batch,
            "microseconds": figures,
        }


def compare(folder: Path, rounds: int, operations: int, batch: int, driver: Driver) -> BareReport:
    """Run all sides `rounds` times; single operations `operations` times each, in transactions of their own."""
    library = build(folder)
    names = (folder / f"{number}.db" for number in count())
    sides: dict[str, Callable[[], Timings]] = {
        "prismq": lambda: api_timings(next(names), PAYLOAD, operations, driver),
        "prismq, JSON text": lambda: api_timings(next(names), PAYLOAD_TEXT, operations, driver),
        "prismq, format": lambda: api_timings(next(names), INDEXED_PAYLOAD, operations, driver),
        MINIMAL.name: lambda: _bare(library, next(names), MINIMAL, operations),
        SAME_ROW.name: lambda: _bare(library, next(names), SAME_ROW, operations),
        "enqueue_many": lambda: _enqueue_many(next(names), PAYLOAD, batch, driver),
        "enqueue_many, JSON text": lambda: _enqueue_many(next(names), PAYLOAD_TEXT, batch, driver),
        "executemany": lambda: _executemany(next(names), PAYLOAD, batch),
        "executemany, JSON text": lambda: _executemany(next(names), PAYLOAD_TEXT, batch),
    }
    if driver != "python" and native.load() is not None:
        sides[HOT_PATH] = lambda: _hot_path(library, next(names), operations)
        sides[PLAIN_VFS] = lambda: _hot_path_on_plain_vfs(library, next(names), operations)
    taken: dict[str, list[Timings]] = {side: [] for side in sides}
    with live_line("bare", rounds) as update:
        for number in range(rounds):
            update(number, f"round {number + 1} of {rounds}")
            for side in list(sides)[:: -1 if number % 2 else 1]:
                taken[side].append(sides[side]())
    queue = TaskQueue(next(names), driver=driver)
    facts = machine_facts(folder, queue, "normal")
    queue.close()
    return BareReport(facts, operations, batch, list(_comparisons(taken, batch)))


def render(report: BareReport) -> str:
    """The report as text."""
    rows = [
        [one.operation, f"{median(one.ours):.2f}", one.against, f"{median(one.theirs):.2f}", f"{one.ratio:.2f}"]
        for one in report.comparisons
    ]
    rounds = len(report.comparisons[0].ours)
    note = f"medians of {rounds} interleaved rounds; {report.operations:,} operations each, a transaction an operation"
    return "\n\n".join((describe(report.machine), note, table(HEADER, rows)))


LINE = "the API against bare SQLite, in one run"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "The public API in one process against a C loop of the same statements on the same SQLite: medians of"
        " interleaved rounds, microseconds an operation. Needs a C compiler."
    )
    parser.epilog = "example:\n  python -m bench bare --rounds 9 --json bare.json"
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--operations", type=whole, default=20_000, metavar="N", help="a round (default 20000)")
    parser.add_argument("--batch", type=whole, default=10_000, metavar="N", help="of enqueue_many (default 10000)")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    report = compare(folder, options.rounds, options.operations, options.batch, options.driver)
    return Findings(render(report), report.as_json())


def _comparisons(taken: dict[str, list[Timings]], batch: int) -> Iterator[Comparison]:
    def figures(side: str, operation: str) -> list[float]:
        return [timings[operation] for timings in taken[side]]

    for bare in (MINIMAL.name, SAME_ROW.name):
        against = f"bare C, {bare}"
        for operation in ("enqueue", "claim", "complete") if HOT_PATH in taken else ():
            yield Comparison(
                f"{operation}, C hot path", against, figures(HOT_PATH, operation), figures(bare, operation)
            )
        yield Comparison("enqueue", against, figures("prismq", "enqueue"), figures(bare, "enqueue"))
        for form, side in (("as JSON text", "prismq, JSON text"), ("with the indexed key format", "prismq, format")):
            yield Comparison(f"enqueue, payload {form}", against, figures(side, "enqueue"), figures(bare, "enqueue"))
        yield Comparison("claim", against, figures("prismq", "claim"), figures(bare, "claim"))
        yield Comparison("complete", against, figures("prismq", "complete"), figures(bare, "complete"))
    for operation in ("enqueue", "claim", "complete") if HOT_PATH in taken else ():
        ours, theirs = figures(HOT_PATH, operation), figures(PLAIN_VFS, operation)
        yield Comparison(f"{operation}, C hot path", PLAIN_VFS, ours, theirs)
    for form in ("", ", JSON text"):
        ours, theirs = figures("enqueue_many" + form, "batch"), figures("executemany" + form, "batch")
        yield Comparison(f"enqueue_many of {batch:,}{form}, a task", "stdlib executemany, one index", ours, theirs)


def api_timings(path: Path, payload: dict[str, str] | str, operations: int, driver: Driver) -> Timings:
    """p50 of enqueue, claim and complete through the public API, so many of each, on a new file."""
    queue = TaskQueue(path, durability="normal", driver=driver)
    enqueues, claims, completes = (np.empty(operations) for _ in range(3))
    for number in range(operations):
        started = perf_counter_ns()
        queue.enqueue(TYPE, payload, priority=PRIORITY)
        enqueues[number] = perf_counter_ns() - started
    tasks = []
    for number in range(operations):
        started = perf_counter_ns()
        task = queue.claim(WORKER, lease_seconds=600)
        claims[number] = perf_counter_ns() - started
        assert task is not None
        tasks.append(task)
    for number, task in enumerate(tasks):
        started = perf_counter_ns()
        queue.complete(task)
        completes[number] = perf_counter_ns() - started
    queue.close()
    samples = {"enqueue": enqueues, "claim": claims, "complete": completes}
    return {name: float(np.median(nanoseconds)) / 1000 for name, nanoseconds in samples.items()}


def _hot_path(library: Path, path: Path, operations: int) -> Timings:
    queue = HotPath(library, path)
    steps = ("enqueue", "claim", "complete")
    timings = {name: float(np.median(list(queue.run(name, operations)))) for name in steps}
    queue.close()
    return timings


def _hot_path_on_plain_vfs(library: Path, path: Path, operations: int) -> Timings:
    with patch.object(native, "vfs", lambda: None):
        return _hot_path(library, path, operations)


def _bare(library: Path, path: Path, variant: Variant, operations: int) -> Timings:
    database = BareSQLite(library, path, PRAGMAS, variant.ddl)
    steps = {"enqueue": variant.enqueue, "claim": variant.claim, "complete": variant.complete}
    timings = {name: float(np.median(list(database.run(statements, operations)))) for name, statements in steps.items()}
    database.close()
    return timings


def _tasks(payload: dict[str, str] | str, batch: int) -> list[dict[str, Any]]:
    copies = ({**payload} if isinstance(payload, dict) else payload for _ in range(batch))
    return [{"type": TYPE, "payload": copy, "priority": PRIORITY} for copy in copies]


def _enqueue_many(path: Path, payload: dict[str, str] | str, batch: int, driver: Driver) -> Timings:
    queue = TaskQueue(path, durability="normal", driver=driver)
    tasks = _tasks(payload, batch)
    started = perf_counter()
    queue.enqueue_many(tasks)
    seconds = perf_counter() - started
    queue.close()
    return {"batch": seconds * 1e6 / batch}


def _executemany(path: Path, payload: dict[str, str] | str, batch: int) -> Timings:
    """The same list of dicts through the standard library, in one transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    for statement in MINIMAL.ddl:
        connection.execute(statement)
    tasks = _tasks(payload, batch)
    if isinstance(payload, dict):
        rows = ((task["type"], json.dumps(task["payload"]), task["priority"]) for task in tasks)
    else:
        rows = ((task["type"], task["payload"], task["priority"]) for task in tasks)
    started = perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO task (type, payload, priority) VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    seconds = perf_counter() - started
    connection.close()
    return {"batch": seconds * 1e6 / batch}
