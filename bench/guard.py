"""Holds what an operation costs, WAL pages and CPU instructions, against a baseline in the repository.

Instructions are those within the C module and the SQLite below it, and the rest: Python. Apart, since a slower C part
would hide behind the interpreter's share, and since with another Python those in C can still be compared.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import callgrind
from bench.callgrind import Instructions, run_counted
from bench.costs import ROOT, CostError
from bench.findings import Findings
from bench.guarded import BATCH, MARK
from bench.isolation import ENVIRONMENT
from bench.options import UsageError, positive, whole
from bench.progress import live_line
from bench.scratch import scratch_folder
from bench.table import table
from bench.toolchain import toolchain

BASELINE = ROOT / "bench" / "baseline.json"
TASKS = 500
PREFIX = "prismq_"
"""Of the C module's entry points."""
KINDS = ("pages", "C instructions", "Python instructions")
INDEPENDENT: Mapping[str, Collection[str]] = {"C instructions": ("Python",), "Python instructions": ()}
"""What of a toolchain each kind does not depend on; pages depend on nothing of it."""
HEADER = (
    *("operation", "pages: baseline", "now", "change"),
    *("instructions, C: baseline", "now", "change"),
    *("Python: baseline", "now", "change", ""),
)

Costs = dict[str, dict[str, float]]
"""By operation and kind, a task; instructions only where they were counted."""


@dataclass(frozen=True, slots=True)
class Count:
    """`toolchain` is what instructions depend on, `tasks` how many each operation was counted for."""

    toolchain: dict[str, str]
    tasks: int
    costs: Costs

    @classmethod
    def read(cls, file: Path) -> Count:
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CostError(f"{file} can't be read ({error}); --update writes it anew") from error

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Row:
    """One operation's costs, in the order of KINDS; None where there is nothing to hold against the other."""

    operation: str
    before: tuple[float | None, ...]
    now: tuple[float | None, ...]
    tolerance: float

    @property
    def changes(self) -> list[float | None]:
        """In percent."""
        return [_change(before, now) for before, now in zip(self.before, self.now, strict=True)]

    @property
    def passed(self) -> bool:
        """An operation that one of the two doesn't have is not guarded: it fails."""
        known = [change for change in self.changes if change is not None]
        return bool(known) and max(known) <= self.tolerance

    @property
    def is_cheaper(self) -> bool:
        return any(change is not None and change < -self.tolerance for change in self.changes)


@dataclass(frozen=True, slots=True)
class GuardReport:
    """`dropped` are the kinds that can't be compared, `differences` say why; `spreads` is by how much each count of
    several differs. With `required` that instructions in C are not compared is a failure."""

    baseline: Count
    now: Count
    differences: list[str]
    rows: list[Row]
    spreads: dict[str, float]
    repeats: int = 1
    dropped: Sequence[str] = ()
    required: bool = False

    @property
    def is_blind(self) -> bool:
        """Whether what was to be compared is not."""
        return self.required and "C instructions" in self.dropped

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows) and not self.is_blind

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"changes": row.changes, "passed": row.passed} for row in self.rows]
        return asdict(self) | {"rows": rows}


def check(folder: Path, file: Path, tolerance: float, repeats: int = 1, required: bool = False) -> GuardReport:
    """Hold what is there now against the baseline in `file`, counted for as many tasks; of several counts the worst.

    With `required` it fails where instructions in C can't be compared, as then a slower one would not be seen.
    """
    baseline, here = Count.read(file), toolchain()
    instructions = set(_dropped(baseline.toolchain, here)) != set(INDEPENDENT)
    counts = []
    for number in range(repeats):
        with scratch_folder(folder) as place:
            label = f"guard, {number + 1} of {repeats}"
            counts.append(measure(place, baseline.tasks, here, instructions, label))
    report = compare(baseline, worst(counts), tolerance)
    return replace(report, spreads=spreads(counts), repeats=repeats, required=required)


def update(folder: Path, file: Path, tasks: int, tolerance: float) -> GuardReport:
    """Write the baseline anew; the report holds it against the one before, if that can be read."""
    here = toolchain()
    if here["valgrind"] == "none":
        raise CostError("--update needs valgrind: without instructions the baseline would guard half of it")
    now = measure(folder, tasks, here, instructions=True)
    before = now
    with suppress(CostError):
        before = Count.read(file)
    now.write(file)
    return compare(before, now, tolerance)


def worst(counts: Sequence[Count]) -> Count:
    """The dearest of each figure."""
    costs = {
        operation: {kind: max(count.costs[operation][kind] for count in counts) for kind in figures}
        for operation, figures in counts[0].costs.items()
    }
    return replace(counts[0], costs=costs)


def spreads(counts: Sequence[Count]) -> dict[str, float]:
    """Of each kind the largest difference between two counts of one operation, in percent of the smaller one."""
    found = dict.fromkeys(KINDS, 0.0)
    for operation, figures in counts[0].costs.items():
        for kind in figures:
            values = [count.costs[operation][kind] for count in counts]
            found[kind] = max(found[kind], _change(min(values), max(values)) or 0.0)
    return found


def measure(folder: Path, tasks: int, here: dict[str, str], instructions: bool, label: str = "guard") -> Count:
    """Count each operation for so many tasks on a queue in `folder`."""
    command = [sys.executable, "-m", "bench.guarded", str(folder / "guard.db"), str(tasks)]
    environment = os.environ | ENVIRONMENT
    with live_line(label, 1) as show:
        show(0, "half a minute with valgrind" if instructions else "")
        if instructions:
            printed, parts = run_counted(command, environment, MARK, PREFIX, folder)
        else:
            printed, parts = callgrind.run(command, environment), []
    results = [json.loads(line) for line in printed.splitlines()]
    costs: Costs = {result["operation"]: {"pages": result["pages"] / result["tasks"]} for result in results}
    if instructions:
        if len(parts) < 2 * len(results):
            raise CostError(f"{MARK} was not seen by callgrind; was the C module stripped of its symbols?")
        # Two marks an operation: every second part is one, and the last part is.
        for result, part in zip(results, parts[1 - 2 * len(results) :: 2], strict=True):
            costs[result["operation"]] |= _instructions(part, result["tasks"])
    return Count(here, tasks, costs)


def compare(baseline: Count, now: Count, tolerance: float) -> GuardReport:
    """Every operation of either; instructions only if what they depend on of the toolchain is the same for both."""
    dropped = _dropped(baseline.toolchain, now.toolchain)

    def figures(costs: Mapping[str, float]) -> tuple[float | None, ...]:
        return tuple(None if kind in dropped else costs.get(kind) for kind in KINDS)

    rows = [
        Row(operation, figures(baseline.costs.get(operation, {})), figures(now.costs.get(operation, {})), tolerance)
        for operation in dict.fromkeys((*now.costs, *baseline.costs))
    ]
    differences = [
        f"{name} {baseline.toolchain.get(name, 'unknown')!r} there, {now.toolchain.get(name, 'unknown')!r} here"
        for name in different(baseline.toolchain, now.toolchain)
    ]
    return GuardReport(baseline, now, differences, rows, dict.fromkeys(KINDS, 0.0), dropped=dropped)


def different(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In what two toolchains differ."""
    return [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]


def _dropped(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The kinds that two toolchains make incomparable."""
    names = set(different(before, now))
    return [kind for kind, independent in INDEPENDENT.items() if names - set(independent)]


def render(report: GuardReport) -> str:
    """The report as text."""
    rows = []
    for row in report.rows:
        cells = [row.operation]
        for kind, before, now, change in zip(KINDS, row.before, row.now, row.changes, strict=True):
            digits = 3 if kind == "pages" else 0
            cells += (_cell(before, digits), _cell(now, digits), "-" if change is None else f"{change:+.1f} %")
        rows.append([*cells, "PASS" if row.passed else "FAIL"])
    note = f"a task; counted over {report.now.tasks:,}, a transaction each but for the batches; C includes SQLite"
    return "\n\n".join((note, table(HEADER, rows), *_notes(report)))


LINE = "whether pages or instructions grew beyond the baseline"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "WAL pages and CPU instructions of each operation, counted and held against a baseline. What was counted"
        " repeats; instructions only with the same compiler, Python and SQLite, otherwise pages alone are compared."
    )
    parser.epilog = (
        "examples:\n  python -m bench guard\n  python -m bench guard --update\n\n"
        "exit status: 0 nothing grew by more than the tolerance, 1 something did"
    )
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help="(default bench/baseline.json)")
    parser.add_argument("--update", action="store_true", help="write the baseline anew; needs valgrind")
    parser.add_argument(
        "--tolerance", type=positive, default=5.0, metavar="PERCENT", help="growth that passes (default 5)"
    )
    parser.add_argument(
        "--require-instructions", action="store_true", help="fail where instructions in C can't be compared"
    )
    parser.add_argument("--tasks", type=whole, metavar="N", help=f"with --update: of each operation (default {TASKS})")
    parser.add_argument(
        "--repeats", type=whole, metavar="N", help="count so often, and judge the worst: does chance trip the guard?"
    )


def run(options: Namespace, folder: Path) -> Findings:
    if options.repeats and options.update:
        raise UsageError("--repeats: not with --update, one count is the baseline")
    if options.tasks and not options.update:
        raise UsageError("--tasks: needs --update, as what is compared is counted for as many as the baseline")
    if options.tasks and options.tasks % BATCH:
        raise UsageError(f"--tasks: a multiple of {BATCH}, the size of a batch")
    if options.update and not options.baseline.resolve().parent.is_dir():
        raise UsageError(f"--baseline: no such folder: {options.baseline.resolve().parent}")
    if not options.update and not options.baseline.is_file():
        raise UsageError(f"--baseline: no such file: {options.baseline}; --update writes it")
    if options.update:
        report = update(folder, options.baseline, options.tasks or TASKS, options.tolerance)
    else:
        report = check(folder, options.baseline, options.tolerance, options.repeats or 1, options.require_instructions)
    written = f"\n\nwritten: {options.baseline}" if options.update else ""
    return Findings(render(report) + written, report.as_json(), options.update or report.passed)


def _notes(report: GuardReport) -> list[str]:
    cheaper = [row.operation for row in report.rows if row.passed and row.is_cheaper]
    new = [row.operation for row in report.rows if row.operation not in report.baseline.costs]
    gone = [row.operation for row in report.rows if row.operation not in report.now.costs]
    notes = []
    if report.repeats > 1:
        said = ", ".join(f"{kind} {report.spreads[kind]:.2f} %" for kind in KINDS)
        notes.append(f"the worst of {report.repeats} counts; they differ by at most: {said}")
    if report.dropped:
        kinds = " and ".join(report.dropped)
        notes.append(f"{kinds} not compared, the toolchain is another: {'; '.join(report.differences)}")
    if report.is_blind:
        notes.append(
            "FAIL: instructions in C were to be compared. On the commit that the baseline is of, with this toolchain:"
            " python -m bench guard --update"
        )
    if gone:
        notes.append(f"in the baseline, but not counted any more: {'; '.join(gone)}")
    if new:
        notes.append(f"not in the baseline, so write it anew (--update): {'; '.join(new)}")
    if cheaper:
        notes.append(f"cheaper than the baseline, so write it anew (--update): {'; '.join(cheaper)}")
    return notes


def _change(before: float | None, now: float | None) -> float | None:
    if before is None or now is None:
        return None
    if before == 0:
        return float("inf") if now else 0.0
    return (now / before - 1) * 100


def _instructions(part: Instructions, tasks: int) -> dict[str, float]:
    rest = part.total - part.inside
    return {"C instructions": round(part.inside / tasks), "Python instructions": round(rest / tasks)}


def _cell(figure: float | None, digits: int) -> str:
    return "-" if figure is None else f"{figure:,.{digits}f}"
