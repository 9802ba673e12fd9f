"""How soon an idle worker of another process has a task: woken by the queue, against asking SQLite each millisecond.

Every round gives each side a fresh file and new processes, in turn, so that a slow minute of the machine hits both.
A second part lets a burst loose on many idle workers and counts how many of them it wakes.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from bench.core import own_core
from bench.findings import Findings
from bench.herd import Herd
from bench.journal import Records, read_journals
from bench.machine import describe, machine_facts
from bench.options import EXIT_STATUS, add_driver, whole
from bench.progress import live_line
from bench.reaction import Reactions, Spread
from bench.scenario import Driver, Scenario
from bench.table import table
from bench.targets import Verdict
from bench.troupe import Part, Troupe
from bench.verdicts import Judged, verdict_table
from bench.waiters import (
    MISSED_SECONDS,
    TRICKLE_SECONDS,
    Take,
    answer,
    attend,
    burst,
    poll,
    trickle,
    wait,
)

WOKEN, POLLED = "claim(wait=...)", "data_version every 1 ms"
UNPINNED = "claim(wait=...), not pinned"
SIDES: Mapping[str, Take] = {WOKEN: wait, POLLED: poll, UNPINNED: wait}
"""UNPINNED is shown and not judged. A virtual machine's scheduler takes a halted core for an occupied one and likes to
put who is woken on the core of who wakes it, where it waits until that one sleeps: not the queue's doing."""
WARM_TASKS = 10
"""Of each round, not counted."""
BURSTS, BURST_TASKS = 30, 4
CLAIMED_US = 100.0
SOONER_TIMES = 10.0
WAKES_PER_TASK = 2.0
HEADER = ("from, to", "worker", "tasks", "missed", "p50 us", "p90 us", "p99 us", "max us")


@dataclass(frozen=True, slots=True)
class WakeReport(Judged):
    """`rounds` has the reactions of each side, round by round."""

    samples: int
    rounds: dict[str, list[Reactions]]
    herd: Herd

    @property
    def sides(self) -> dict[str, Reactions]:
        """All rounds of a side together."""
        return {side: Reactions.together(each) for side, each in self.rounds.items()}

    @property
    def verdicts(self) -> list[Verdict]:
        sides, herd = self.sides, self.herd
        measured = all(sides[side].since_commit for side in (WOKEN, POLLED))
        woken, polled = (sides[side].commit_to_claimed.p50 for side in (WOKEN, POLLED))
        times = f"{polled / woken:,.1f} times" if woken > 0 else f"{woken:.1f} us : {polled:.1f} us"
        missed = sides[WOKEN].missed
        return [
            Verdict(
                f"commit to claimed, p50 <= {CLAIMED_US:g} us", f"{woken:.1f} us", measured and woken <= CLAIMED_US
            ),
            Verdict(
                f"at least {SOONER_TIMES:g} times sooner than polling",
                times,
                measured and polled > 0 and woken * SOONER_TIMES <= polled,
            ),
            Verdict("no task missed", f"{missed:,}", missed == 0),
            Verdict(
                f"wakes per burst <= {WAKES_PER_TASK:g} x {herd.tasks} tasks",
                f"{herd.wakes_per_burst:.1f}",
                0 < herd.wakes_per_burst <= WAKES_PER_TASK * herd.tasks,
            ),
            Verdict("every task of the bursts claimed", f"{herd.unclaimed:,} not", herd.unclaimed == 0),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        sides = {
            name: {
                "commit_to_claimed": asdict(side.commit_to_claimed),
                "call_to_claimed": asdict(side.call_to_claimed),
                "missed": side.missed,
            }
            for name, side in self.sides.items()
        }
        derived = ("wakes_per_burst", "empty_per_burst", "sleeps_per_burst")
        herd = asdict(self.herd) | {name: getattr(self.herd, name) for name in derived}
        return Judged.as_json(self) | {"sides": sides, "herd": herd}


def measure(folder: Path, samples: int, rounds: int, workers: int, driver: Driver) -> WakeReport:
    """`samples` tasks in each of `rounds` rounds for each side, then BURSTS bursts on `workers` idle workers."""
    seconds = (samples + WARM_TASKS) * (TRICKLE_SECONDS[1] + MISSED_SECONDS)  # a limit, far from being reached
    scenario = Scenario(seconds=seconds, driver=driver)
    taken: dict[str, list[Reactions]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for order, (side, take) in enumerate(SIDES.items()):
            parts: list[Part] = [partial(trickle, WARM_TASKS + samples), partial(attend, take)]
            if side != UNPINNED:
                parts = [partial(own_core, part, core) for core, part in enumerate(parts)]
            label = f"round {number + 1} of {rounds}, {side}"
            records = _played(label, WARM_TASKS + samples, parts, scenario, folder / f"{number}-{order}")
            taken[side].append(Reactions.of(records, WARM_TASKS, MISSED_SECONDS))
    herd = _herd(scenario, workers, folder / "herd")
    with scenario.open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, scenario.durability)
    return WakeReport(facts, samples, taken, herd)


def render(report: WakeReport) -> str:
    """The report as text."""
    herd = report.herd
    note = (
        f"{len(report.rounds[WOKEN])} interleaved rounds of {report.samples} tasks, one every"
        f" {TRICKLE_SECONDS[0] * 1000:.0f} to {TRICKLE_SECONDS[1] * 1000:.0f} ms, each claimed by an idle worker of"
        " another process;\n"
        "each process on a core of its own, but for the last side;\n"
        "commit: enqueue() has returned; call: before enqueue(); claimed: claim() has returned the task;"
        f" missed: not within {MISSED_SECONDS:g} s"
    )
    rows = [
        row
        for side, reactions in report.sides.items()
        for row in (
            _row("commit to claimed", side, reactions, reactions.commit_to_claimed),
            _row("call to claimed", side, reactions, reactions.call_to_claimed),
        )
    ]
    facts = [
        ["workers woken, mean", f"{herd.wakes_per_burst:.2f}"],
        ["workers woken, most", f"{max(herd.wakes, default=0):,}"],
        ["of these found nothing, mean", f"{herd.empty_per_burst:.2f}"],
        ["times a worker's thread slept, all workers", f"{herd.sleeps_per_burst:.1f}"],
    ]
    heading = f"{len(herd.wakes)} bursts of {herd.tasks} tasks on {herd.workers} idle workers"
    return "\n\n".join(
        (
            describe(report.machine),
            note,
            table(HEADER, rows, left=2),
            table((heading, "a burst"), facts),
            verdict_table(report.verdicts),
        )
    )


LINE = "how soon an idle worker of another process has a task"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "From an enqueue in one process to the task in the hands of an idle worker in another: woken by the queue,"
        " against polling SQLite each millisecond, in interleaved rounds on fresh files. Then bursts of"
        f" {BURST_TASKS} tasks on many idle workers, and how many of them wake."
    )
    parser.epilog = "example:\n  python -m bench wake --samples 100 --rounds 2 --json wake.json\n\n" + EXIT_STATUS
    parser.add_argument("--samples", type=whole, default=200, metavar="N", help="tasks of a round (default 200)")
    parser.add_argument("--rounds", type=whole, default=3, metavar="N", help="of each side (default 3)")
    parser.add_argument("--processes", type=whole, default=16, metavar="W", help="workers of the bursts (default 16)")
    add_driver(parser)


def run(options: Namespace, folder: Path) -> Findings:
    report = measure(folder, options.samples, options.rounds, options.processes, options.driver)
    return Findings(render(report), report.as_json(), report.passed)


def _row(interval: str, side: str, reactions: Reactions, spread: Spread) -> list[str]:
    figures = (spread.p50, spread.p90, spread.p99, spread.max)
    return [interval, side, f"{spread.count:,}", f"{reactions.missed:,}", *(f"{figure:,.1f}" for figure in figures)]


def _played(label: str, tasks: int, parts: list[Part], scenario: Scenario, folder: Path) -> Records:
    with Troupe(parts, scenario, folder) as troupe:
        troupe.begin()
        _watch(label, tasks, troupe)
        troupe.dismiss()
    return read_journals(troupe.journals)


def _herd(scenario: Scenario, workers: int, folder: Path) -> Herd:
    parts: list[Part] = [partial(burst, BURSTS, BURST_TASKS), *[answer] * workers]
    with Troupe(parts, scenario, folder) as troupe:
        troupe.begin()
        waiters = [psutil.Process(pid) for pid in troupe.pids[1:]]
        before = _sleeps(waiters)
        _watch(f"bursts on {workers} workers", BURSTS * BURST_TASKS, troupe)
        ended, sleeps = perf_counter(), _sleeps(waiters) - before
        troupe.dismiss()
    return Herd.of(read_journals(troupe.journals), workers, BURST_TASKS, ended, sleeps)


def _watch(label: str, tasks: int, troupe: Troupe) -> None:
    with live_line(label, tasks) as update:
        for done in troupe.follow():
            update(done, f"{done:,} of {tasks:,} tasks claimed")


def _sleeps(processes: list[psutil.Process]) -> int:
    """How often they have waited in the kernel; on Linux their main threads, which are those that wait for tasks."""
    return sum(int(process.num_ctx_switches().voluntary) for process in processes)
