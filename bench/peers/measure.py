"""The rows: what every peer is made to do, and the figures that come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import psutil

from bench.peers.ensemble import Ensemble, Process
from bench.usage import Moment, Usage

Figures: TypeAlias = dict[str, float | None]
"""By key; None where a peer has no such thing."""

START_DELAY_SECONDS = 0.05
SETTLE_SECONDS = 0.3
DEPTH_CLAIMS, DEPTH_SECONDS = 200, 3.0
"""At each depth at most so many claims, and no more once they have taken so long."""
DRAIN_WORKERS = 4
MOST_NUMBERS = 10**9
"""The tasks of one producer are numbered from a multiple of this."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. Drains and depths have one round: to fill the queue takes longer than they do."""

    rounds: int
    single: int
    batch: int
    seconds: float
    pairs: tuple[int, ...]
    drains: tuple[int, ...]
    drain_seconds: float
    depths: tuple[int, ...]
    wakes: int
    idle_seconds: float


STANDARD = Sizes(3, 1_000, 20_000, 1.5, (2, 4), (20_000,), 5.0, (1_000, 20_000, 200_000), 25, 2.0)
LARGE = Sizes(3, 1_000, 20_000, 1.5, (2, 4), (20_000, 200_000), 60.0, (1_000, 20_000, 200_000), 25, 2.0)
QUICK = Sizes(1, 100, 1_000, 0.3, (2,), (500,), 0.8, (100, 1_000), 3, 0.2)


@dataclass(frozen=True, slots=True)
class Figure:
    """A column: `form` is its format, `less_is_better` None where there is no better."""

    key: str
    title: str
    form: str
    less_is_better: bool | None = True


@dataclass(frozen=True, slots=True)
class Group:
    """Rows with the same columns; `name` begins with the kind that notes are kept by."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    measure: Callable[[Ensemble], Figures]
    rounds: int


def groups(sizes: Sizes) -> list[Group]:
    """All of them, in the order of the report."""
    astray = (Figure("lost", "lost", ",.0f", None), Figure("twice", "twice", ",.0f", None))
    errors = Figure("errors", "errors", ",.0f", None)
    found = [
        Group(
            "single",
            f"one process, {sizes.single:,} tasks one by one, us a call; then {sizes.batch:,} in batches of 1,000",
            (
                *(
                    Figure(f"{kind}_{name}", f"{kind} {name}", ",.1f")
                    for kind in ("enqueue", "claim", "complete")
                    for name in ("p50", "p99")
                ),
                Figure("whole", "all three, tasks/s", ",.0f", False),
                Figure("batch", "batch, tasks/s", ",.0f", False),
            ),
            partial(single, sizes.single, sizes.batch),
            sizes.rounds,
        )
    ]
    for count in sizes.pairs:
        found.append(
            Group(
                f"pairs {count}+{count}",
                f"{count} producers and {count} workers without a pause, {sizes.seconds:g} s",
                (
                    Figure("completed", "completed/s", ",.0f", False),
                    Figure("enqueued", "enqueued/s", ",.0f", False),
                    Figure("longest", "longest call, ms", ",.1f"),
                    *astray,
                    errors,
                ),
                partial(pairs, count, sizes.seconds),
                sizes.rounds,
            )
        )
    for tasks in sizes.drains:
        found.append(
            Group(
                f"drain {tasks:,}",
                f"{tasks:,} tasks waiting, {DRAIN_WORKERS} workers, at most {sizes.drain_seconds:g} s",
                (
                    Figure("rate", "tasks/s", ",.0f", False),
                    Figure("longest", "longest call, ms", ",.1f"),
                    Figure("undone", "not reached", ",.0f", None),
                    *astray,
                    errors,
                ),
                partial(drain, tasks, sizes.drain_seconds),
                1,
            )
        )
    found.append(
        Group(
            "wake",
            f"an idle worker in another process, {sizes.wakes} tasks, one every 50 to 100 ms, and"
            f" {sizes.idle_seconds:g} s with none",
            (
                Figure("wake_p50", "enqueue called to task in hand, p50 ms", ",.3f"),
                Figure("wake_max", "max ms", ",.1f"),
                Figure("missed", "missed", ",.0f", None),
                Figure("idle", "idle CPU, % of a core", ",.3f"),
            ),
            partial(wake, sizes.wakes, sizes.idle_seconds),
            sizes.rounds,
        )
    )
    found.append(
        Group(
            "depth",
            f"a claim with so many tasks waiting, p50 us of up to {DEPTH_CLAIMS}",
            tuple(Figure(f"depth_{depth}", f"{depth:,}", ",.1f") for depth in sizes.depths),
            partial(depths, sizes.depths),
            1,
        )
    )
    return found


def single(tasks: int, batch: int, ensemble: Ensemble) -> Figures:
    """Latencies in us; `whole` is by the sum of them, checkpoints included that a median does not show."""
    (process,) = ensemble.add()
    found = process.ask("single", tasks=tasks)
    figures: Figures = {}
    kinds = ("enqueue", "claim", "complete")
    for kind in kinds:
        figures[f"{kind}_p50"], figures[f"{kind}_p99"] = _percentiles(found[kind])
    everything = all(found[kind] for kind in kinds)
    figures["whole"] = tasks * 1000 / sum(sum(found[kind]) for kind in kinds) if everything else None
    return figures | {"batch": process.ask("batch", tasks=batch)["rate"]}


def pairs(count: int, seconds: float, ensemble: Ensemble) -> Figures:
    """Calls per second that ended inside the window; a task is lost when it is neither completed nor left."""
    (host,) = ensemble.add()
    processes = ensemble.add(2 * count)
    start = perf_counter() + START_DELAY_SECONDS
    window = {"start": start, "stop": start + seconds}
    for number, process in enumerate(processes[:count]):
        process.tell("produce", first=number * MOST_NUMBERS, **window)
    for process in processes[count:]:
        process.tell("work", drain=False, **window)
    made = [process.hear() for process in processes[:count]]
    done = [process.hear() for process in processes[count:]]
    left = host.ask("left")["left"]
    return {
        "completed": sum(one["within"] for one in done) / seconds,
        "enqueued": sum(one["within"] for one in made) / seconds,
        "longest": _longest([*made, *done]),
        "errors": _errors([*made, *done]),
    } | tally(sum(one["numbers"] for one in made), done, left)


def drain(tasks: int, seconds: float, ensemble: Ensemble) -> Figures:
    """Tasks per second until the last was completed, or until the time was over."""
    (host,) = ensemble.add()
    host.ask("fill", first=0, tasks=tasks)
    workers = ensemble.add(DRAIN_WORKERS)
    start = perf_counter() + START_DELAY_SECONDS
    for worker in workers:
        worker.tell("work", start=start, stop=start + seconds, drain=True)
    done = [worker.hear(seconds + 60) for worker in workers]
    count = sum(len(one["done"]) for one in done)
    left = host.ask("left")["left"]
    return {
        "rate": count / (max(one["last"] for one in done) - start) if count else 0.0,
        "longest": _longest(done),
        "undone": left,
        "errors": _errors(done),
    } | tally(tasks, done, left)


def wake(tasks: int, idle_seconds: float, ensemble: Ensemble) -> Figures:
    """Milliseconds from the beginning of an enqueue call until a worker that waited had the task."""
    (producer,) = ensemble.add()
    (worker,) = ensemble.add()
    worker.tell("attend", seconds=SETTLE_SECONDS + idle_seconds + 60)
    time.sleep(SETTLE_SECONDS)
    idle = _idle(worker, idle_seconds)
    called = producer.ask("trickle", first=0, tasks=tasks)["called"]
    had = worker.hear()["had"]
    waits = [(had[str(number)] - begun) * 1000 for number, begun in enumerate(called) if str(number) in had]
    return {
        "wake_p50": median(waits) if waits else None,
        "wake_max": max(waits, default=None),
        "missed": tasks - len(waits),
        "idle": idle,
    }


def depths(counts: Sequence[int], ensemble: Ensemble) -> Figures:
    """Microseconds of a claim at each depth, on one file that grows; none where nobody can claim."""
    (process,) = ensemble.add()
    figures: Figures = {}
    if not process.ask("pulls")["pulls"]:
        return figures
    filled = 0
    for count in counts:
        process.ask("fill", first=filled, tasks=count - process.ask("left")["left"])
        filled += count
        taken = process.ask("depth", claims=min(DEPTH_CLAIMS, count // 2), seconds=DEPTH_SECONDS)["claim"]
        figures[f"depth_{count}"] = median(taken) * 1000 if taken else None
    return figures


def _percentiles(milliseconds: Sequence[float]) -> tuple[float | None, float | None]:
    if not milliseconds:
        return None, None
    p50, p99 = (float(value) * 1000 for value in np.percentile(milliseconds, (50, 99)))
    return p50, p99


def _idle(worker: Process, seconds: float) -> float:
    process = psutil.Process(worker.pid)
    begin = Moment.of(process)
    time.sleep(seconds)
    return Usage.between(begin, Moment.of(process)).cpu_percent


def _longest(answers: Sequence[Mapping[str, Any]]) -> float | None:
    """None where one of the processes can't see its calls."""
    found = [answer["longest"] for answer in answers]
    return None if None in found else max(found)


def _errors(answers: Sequence[Mapping[str, Any]]) -> int:
    return sum(sum(answer["errors"].values()) for answer in answers)


def tally(made: int, done: Sequence[Mapping[str, Any]], left: int) -> Figures:
    """Tasks that were neither done nor left, and how often one was done again, or is there without having been made."""
    numbers = [number for one in done for number in one["done"]]
    distinct = len(set(numbers))
    missing = made - distinct - left
    return {"lost": max(0, missing), "twice": len(numbers) - distinct + max(0, -missing)}
