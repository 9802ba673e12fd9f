"""The rows: what every peer is made to do, and the figures that come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, Self, TypeAlias

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
WARM_WAKES = 3
"""The first tasks of an idle worker, which are not counted."""
MOST_NUMBERS = 10**9
"""The tasks of one producer are numbered from a multiple of this."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. What is left at the last of the depths is drained, for `deep_seconds` at most."""

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
    deep_seconds: float = 5.0


STANDARD = Sizes(3, 1_000, 20_000, 2.5, (2, 4), (20_000,), 4.0, (1_000, 20_000, 200_000), 25, 2.0, 5.0)
LARGE = replace(STANDARD, drain_seconds=60.0, deep_seconds=60.0)
QUICK = Sizes(1, 100, 1_000, 0.3, (2,), (500,), 0.8, (100, 1_000), 3, 0.2, 0.8)


@dataclass(frozen=True, slots=True)
class Figure:
    """A column: `form` is its format, `less_is_better` None where there is no better.

    Of the rounds' figures it has the median, or the sum where it counts what went wrong.
    """

    key: str
    title: str
    form: str
    less_is_better: bool | None = True
    is_sum: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Rows with the same columns; `name` begins with the kind that notes are kept by.

    `cap` is how many seconds a drain may take.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    measure: Callable[[Ensemble], Figures]
    cap: float | None = None


def groups(sizes: Sizes) -> list[Group]:
    """All of them, in the order of the report."""
    astray = tuple(Figure(key, key, ",.0f", None, is_sum=True) for key in ("lost", "twice", "errors"))
    drained = (
        Figure("rate", "drained, tasks/s", ",.0f", False),
        Figure("longest", "longest call, ms", ",.1f"),
        Figure("undone", "not reached", ",.0f", None),
        *astray,
    )
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
                ),
                partial(pairs, count, sizes.seconds),
            )
        )
    for tasks in sizes.drains:
        found.append(
            Group(
                f"drain {tasks:,}",
                f"{tasks:,} tasks waiting, {DRAIN_WORKERS} workers, at most {sizes.drain_seconds:g} s",
                drained,
                partial(drain, tasks, sizes.drain_seconds),
                sizes.drain_seconds,
            )
        )
    deepest = max(sizes.depths)
    found.append(
        Group(
            f"drain {deepest:,}",
            f"{deepest:,} tasks waiting: before that, a claim with so many, p50 us of up to {DEPTH_CLAIMS}; then"
            f" {DRAIN_WORKERS} workers, at most {sizes.deep_seconds:g} s",
            (*(Figure(f"depth_{depth}", f"claim at {depth:,}", ",.1f") for depth in sizes.depths), *drained),
            partial(deep, sizes.depths, sizes.deep_seconds),
            sizes.deep_seconds,
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
                Figure("missed", "missed", ",.0f", None, is_sum=True),
                Figure("idle", "idle CPU, % of a core", ",.3f"),
            ),
            partial(wake, sizes.wakes, sizes.idle_seconds),
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
    host, *processes = ensemble.add(1 + 2 * count)
    counter = Counter.of(host)
    start = perf_counter() + START_DELAY_SECONDS
    window = {"start": start, "stop": start + seconds}
    for number, process in enumerate(processes[:count]):
        process.tell("produce", first=number * MOST_NUMBERS, **window)
    for process in processes[count:]:
        process.tell("work", drain=False, **window)
    counter.tell(start + seconds)
    made = [process.hear() for process in processes[:count]]
    done = [process.hear() for process in processes[count:]]
    completed = counter.hear(sum(one["within"] for one in done))
    left = host.ask("left")["left"]
    return {
        "completed": completed / seconds,
        "enqueued": sum(one["within"] for one in made) / seconds,
        "longest": _longest([*made, *done]),
        "errors": _errors([*made, *done]),
    } | tally(sum(one["numbers"] for one in made), done, left)


def drain(tasks: int, seconds: float, ensemble: Ensemble) -> Figures:
    """Tasks per second until the last was completed, or until the time was over."""
    host, *workers = ensemble.add(1 + DRAIN_WORKERS)
    host.ask("fill", first=0, tasks=tasks)
    return _drained(host, workers, tasks, seconds)


def deep(counts: Sequence[int], seconds: float, ensemble: Ensemble) -> Figures:
    """Microseconds of a claim at each depth, on one file that grows, and then the drain of what is left."""
    host, *workers = ensemble.add(1 + DRAIN_WORKERS)
    figures: Figures = {}
    filled = 0
    for count in counts:
        host.ask("fill", first=filled, tasks=count - host.ask("left")["left"])
        filled += count
        taken = host.ask("depth", claims=min(DEPTH_CLAIMS, count // 2), seconds=DEPTH_SECONDS)["claim"]
        figures[f"depth_{count}"] = median(taken) * 1000 if taken else None
    return figures | _drained(host, workers, host.ask("left")["left"], seconds)


def _drained(host: Process, workers: Sequence[Process], tasks: int, seconds: float) -> Figures:
    counter = Counter.of(host)
    start = perf_counter() + START_DELAY_SECONDS
    for worker in workers:
        worker.tell("work", start=start, stop=start + seconds, drain=True)
    counter.tell(start + seconds)
    done = [worker.hear(seconds + 60) for worker in workers]
    count = sum(len(one["done"]) for one in done)
    completed = counter.hear(count)
    left = host.ask("left")["left"]
    # Of all that was drained the last is known; otherwise the last call may be one that was never acknowledged.
    took = max(one["last"] for one in done) - start if count == completed else seconds
    return {
        "rate": completed / took if completed else 0.0,
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
    idle = _idle(worker, producer, idle_seconds)
    called = producer.ask("trickle", first=0, tasks=WARM_WAKES + tasks)["called"]
    had = worker.hear()["had"]
    counted = list(enumerate(called))[WARM_WAKES:]
    waits = [(had[str(number)] - begun) * 1000 for number, begun in counted if str(number) in had]
    return {
        "wake_p50": median(waits) if waits else None,
        "wake_max": max(waits, default=None),
        "missed": tasks - len(waits),
        "idle": idle,
    }


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts what was completed where workers can't: they are called with a task, and not told when that is over."""

    host: Process
    before: int | None

    @classmethod
    def of(cls, host: Process) -> Self:
        """To be made before anything that counts is enqueued or claimed."""
        pulls = host.ask("pulls")["pulls"]
        return cls(host, None if pulls else host.ask("completed", at=0.0)["completed"])

    def tell(self, at: float) -> None:
        """Count at this moment (`time.perf_counter` seconds)."""
        if self.before is not None:
            self.host.tell("completed", at=at)

    def hear(self, seen: int) -> int:
        """The count, or what the workers have seen."""
        return seen if self.before is None else int(self.host.hear()["completed"]) - self.before


def _percentiles(milliseconds: Sequence[float]) -> tuple[float | None, float | None]:
    if not milliseconds:
        return None, None
    p50, p99 = (float(value) * 1000 for value in np.percentile(milliseconds, (50, 99)))
    return p50, p99


def _idle(worker: Process, host: Process, seconds: float) -> float:
    """Of the worker, and of the server that the host has started if the peer is one."""
    processes = [psutil.Process(worker.pid), *psutil.Process(host.pid).children(recursive=True)]
    begin = [Moment.of(process) for process in processes]
    time.sleep(seconds)
    spans = zip(begin, [Moment.of(process) for process in processes], strict=True)
    return sum(Usage.between(*span).cpu_percent for span in spans)


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
