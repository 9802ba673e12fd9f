"""What an operation costs in things that can be counted: WAL pages and CPU instructions.

Both are totals of whole processes: what 2 N operations took less what N took, over N. So starting up, preparing
statements and the first page of everything cancel out. The API's processes run Python, the bare variants' only the loop
of bare.c.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.bare_sqlite import build
from bench.findings import Findings
from bench.isolation import ENVIRONMENT
from bench.machine import Facts, describe, machine_facts
from bench.options import UsageError, add_driver, whole
from bench.progress import live_line
from bench.scenario import Driver
from bench.table import table
from bench.variants import VARIANTS
from bench.workload import OPERATIONS, Step
from prismq import PRAGMAS, TaskQueue

ROOT = Path(__file__).resolve().parent.parent
FRAME_HEADER_BYTES = 24
COLLECTED = re.compile(r"Collected : (\d+)")
HEADER = ("pages: " + OPERATIONS[0], *OPERATIONS[1:], "sum", "instructions: " + OPERATIONS[0], *OPERATIONS[1:], "sum")


class CostError(Exception):
    """A counting process failed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is counted: the public API (`variant` None) or a bare variant."""

    name: str
    driver: Driver
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """By operation; `instructions` is None where they were not counted."""

    subject: Subject
    wal_pages: dict[str, float]
    instructions: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class CostReport:
    machine: Facts
    operations: int
    costs: list[Cost]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def subjects(driver: Driver, variants: bool, only: Sequence[str]) -> list[Subject]:
    """The public API, and with `variants` or names in `only` the bare ones; KeyError for an unknown name."""
    known = {variant.name: Subject(variant.name, driver, variant.name) for variant in VARIANTS}
    chosen = [known[name] for name in only] if only else list(known.values()) if variants else []
    return [Subject(f"prismq ({driver})", driver), *chosen]


def measure(chosen: Sequence[Subject], operations: int, instructions: bool, folder: Path) -> CostReport:
    """Count `operations` of each kind for every subject; instructions only where valgrind is installed."""
    valgrind = shutil.which("valgrind") if instructions else None
    library = build(folder) if any(subject.variant for subject in chosen) else None
    queue = TaskQueue(folder / "facts.db", driver=chosen[0].driver)
    facts = machine_facts(folder, queue, "normal")
    queue.close()
    costs = []
    with live_line("costs", len(chosen)) as update:
        for number, subject in enumerate(chosen):
            update(number, subject.name)
            place = folder / str(number)
            place.mkdir()
            costs.append(_count(subject, operations, library, place, valgrind))
    return CostReport(facts, operations, costs)


def render(report: CostReport) -> str:
    """The report as text."""
    rows = [[cost.subject.name, *_cells(cost.wal_pages, 2), *_cells(cost.instructions, 0)] for cost in report.costs]
    note = f"an operation, each in its own transaction; counted over {report.operations:,}; bare variants run in C"
    return "\n\n".join((describe(report.machine), note, table(("", *HEADER), rows)))


LINE = "WAL pages and CPU instructions per operation"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "WAL pages and, where valgrind is installed, CPU instructions that one operation costs. Repeatable:"
        " no clock is involved."
    )
    parser.epilog = "examples:\n  python -m bench costs\n  python -m bench costs --variants --json costs.json"
    parser.add_argument("--operations", type=whole, default=500, metavar="N", help="counted (default 500)")
    parser.add_argument("--variants", action="store_true", help="also other index designs, as bare statements")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these variants only")
    parser.add_argument("--no-instructions", action="store_true", help="WAL pages only")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    try:
        chosen = subjects(options.driver, options.variants, options.only or ())
    except KeyError as error:
        raise UsageError(f"--only: there is no variant {error}") from error
    report = measure(chosen, options.operations, not options.no_instructions, folder)
    return Findings(render(report), report.as_json())


def _cells(figures: dict[str, float] | None, digits: int) -> list[str]:
    if figures is None:
        return ["-"] * (len(OPERATIONS) + 1)
    return [f"{figure:,.{digits}f}" for figure in (*figures.values(), sum(figures.values()))]


def _per_operation(total: Callable[[Sequence[Step]], int], operations: int) -> dict[str, float]:
    """What one operation adds to a total: that of 2 N operations less that of N, after the same steps before."""
    ends = [(number, times * operations) for number in range(len(OPERATIONS)) for times in (1, 2)]
    runs = [
        [*(Step(earlier, 2 * operations) for earlier in OPERATIONS[:number]), Step(OPERATIONS[number], last)]
        for number, last in ends
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = list(pool.map(total, runs))
    return {
        operation: (twice - once) / operations
        for operation, once, twice in zip(OPERATIONS, totals[::2], totals[1::2], strict=True)
    }


def _count(subject: Subject, operations: int, library: Path | None, folder: Path, valgrind: str | None) -> Cost:
    frame = FRAME_HEADER_BYTES + int(PRAGMAS["page_size"])
    numbers = count()

    def wal_bytes(steps: Sequence[Step]) -> int:
        return int(_run([], subject, folder / f"{next(numbers):04}.db", library, steps).stdout)

    def instructions(steps: Sequence[Step]) -> int:
        command = [str(valgrind), "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
        said = _run(command, subject, folder / f"{next(numbers):04}.db", library, steps).stderr
        found = COLLECTED.search(said)
        if found is None:
            raise CostError(f"valgrind reported no instruction count:\n{said}")
        return int(found[1])

    pages = {operation: size / frame for operation, size in _per_operation(wal_bytes, operations).items()}
    return Cost(subject, pages, _per_operation(instructions, operations) if valgrind else None)


def _run(
    prefix: Sequence[str], subject: Subject, database: Path, library: Path | None, steps: Sequence[Step]
) -> subprocess.CompletedProcess[str]:
    bare = ["--variant", subject.variant, "--library", str(library)] if subject.variant else None
    command = [
        *prefix,
        sys.executable,
        "-m",
        "bench.workload",
        *(bare or ["--engine", subject.driver]),
        str(database),
        *map(str, steps),
    ]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise CostError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done
