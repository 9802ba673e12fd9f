"""A fixed number of operations in one process, for counting what they cost.

`python -m bench.workload DATABASE SUBJECT STEP...` runs the steps one after the other and prints the bytes of WAL that
they left; nothing is checkpointed meanwhile. A step is `enqueue=500`, `claim=500` or `complete=500`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.bare_sqlite import PAYLOAD, PRIORITY, TYPE, WORKER, BareSQLite
from bench.variants import VARIANTS

if TYPE_CHECKING:
    from bench.scenario import Driver
    from prismq import Task

OPERATIONS = ("enqueue", "claim", "complete")
BARE_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL", "cache_size": -20000, "wal_autocheckpoint": 0}
Operations = dict[str, Callable[[int], None]]
"""What runs a number of operations, by name."""


@dataclass(frozen=True, slots=True)
class Step:
    """So many operations of one kind."""

    operation: str
    count: int

    def __str__(self) -> str:
        return f"{self.operation}={self.count}"

    @classmethod
    def parse(cls, text: str) -> Step:
        operation, _, number = text.partition("=")
        if operation not in OPERATIONS:
            raise argparse.ArgumentTypeError(f"unknown operation {operation!r}")
        return cls(operation, int(number))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.workload")
    parser.add_argument("database", type=Path)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--engine", metavar="DRIVER", help="the public API on this driver")
    subject.add_argument("--variant", metavar="NAME", help="a design of bench.variants, run by bare C")
    parser.add_argument("--library", type=Path, help="the compiled bare.c, for --variant")
    parser.add_argument("steps", type=Step.parse, nargs="+", metavar="STEP")
    options = parser.parse_args(arguments)
    operations = (
        _variant(options.database, options.library, options.variant)
        if options.variant
        else _engine(options.database, options.engine)
    )
    for step in options.steps:
        operations[step.operation](step.count)
    print(options.database.with_name(options.database.name + "-wal").stat().st_size)


def _engine(path: Path, driver: Driver) -> Operations:
    # Imported here, because a bare variant's instructions are counted in a process that needs none of it.
    from bench.isolation import isolated_queue

    queue = isolated_queue(path, driver)
    tasks: list[Task] = []

    def enqueue(count: int) -> None:
        for _ in range(count):
            queue.enqueue(TYPE, PAYLOAD, priority=PRIORITY)

    def claim(count: int) -> None:
        for _ in range(count):
            task = queue.claim(WORKER, lease_seconds=600)
            assert task is not None
            tasks.append(task)

    def complete(count: int) -> None:
        for task in tasks[:count]:
            queue.complete(task)
        del tasks[:count]

    return {"enqueue": enqueue, "claim": claim, "complete": complete}


def _variant(path: Path, library: Path, name: str) -> Operations:
    design = next(variant for variant in VARIANTS if variant.name == name)
    database = BareSQLite(library, path, BARE_PRAGMAS, design.ddl)
    done = dict.fromkeys(OPERATIONS, 0)

    def runner(operation: str, statements: Sequence[str]) -> Callable[[int], None]:
        def run(count: int) -> None:
            database.run(statements, count, first_id=done[operation] + 1)
            done[operation] += count

        return run

    return {
        "enqueue": runner("enqueue", design.enqueue),
        "claim": runner("claim", design.claim),
        "complete": runner("complete", design.complete),
    }


if __name__ == "__main__":
    main()
