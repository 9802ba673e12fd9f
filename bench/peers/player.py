"""One process of a peer, run by the peer's own interpreter: python -m bench.peers.player ADAPTER FOLDER DURABILITY

Reads orders from standard input, a JSON object a line, and answers each with one. Standard library only. Times are
`time.perf_counter` seconds, one clock for all processes; latencies are milliseconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO, TypeVar

from bench.peers.adapter import Adapter, Claimed, Task

BODY = "x" * 150
"""Makes the JSON text of a task about 200 bytes long."""
LAST, WARM = -1, -2
"""Numbers of the task that sends whoever gets it home, and of those that nobody counts."""
EMPTY_SECONDS = 0.001
"""A worker that finds nothing asks again so soon, where it need not be idle for long."""
DRAINED_SECONDS = 0.3
"""A queue in which nobody has found anything for so long is empty."""
GRACE_SECONDS = 15.0
"""A call that fails for so long after the end of the window never succeeds."""
MISSED_SECONDS = 5.0
WARM_TASKS = 40
PAUSE_SECONDS = 0.05
BATCH = 1_000

T = TypeVar("T")


def make_task(number: int) -> Task:
    return {"n": number, "format": "mp4", "body": BODY}


class Player:
    """Carries out orders on one adapter. `errors` counts the calls that raised and were made again."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._errors: Counter[str] = Counter()
        self._longest = 0.0

    def play(self, order: dict[str, Any]) -> dict[str, Any]:
        self._errors.clear()
        self._longest = 0.0
        action = order.pop("do")
        answer: dict[str, Any] = getattr(self, f"do_{action}")(**order)
        return answer | {"errors": dict(self._errors)}

    def do_settings(self) -> dict[str, Any]:
        return {"settings": dict(self._adapter.settings())}

    def do_left(self) -> dict[str, Any]:
        return {"left": self._adapter.left()}

    def do_pulls(self) -> dict[str, Any]:
        return {"pulls": self._adapter.pulls}

    def do_warm(self) -> dict[str, Any]:
        """Every kind of call some times, uncounted, while nobody else is there: first calls cost more."""
        tasks = WARM_TASKS
        for _ in range(tasks):
            self._adapter.enqueue(make_task(WARM))
        if self._adapter.batches:
            self._adapter.enqueue_many([make_task(WARM)] * WARM_TASKS)
            tasks += WARM_TASKS
        if self._adapter.pulls:
            for _ in range(tasks):
                got = self._adapter.claim()
                assert got is not None
                self._adapter.complete(got[1])
        else:
            handled: list[Task] = []
            gives_up_at = perf_counter() + MISSED_SECONDS
            self._adapter.attend(handled.append, lambda: len(handled) >= tasks or perf_counter() > gives_up_at)
        if left := self._adapter.left():
            raise LookupError(f"{left} of {tasks} tasks are left that were to be done for practice")
        return {}

    def do_completed(self, at: float) -> dict[str, Any]:
        """How many tasks were completed by then."""
        _sleep_until(at)
        return {"completed": self._adapter.completed()}

    def do_fill(self, first: int, tasks: int) -> dict[str, Any]:
        self._adapter.fill(map(make_task, range(first, first + tasks)))
        return {}

    def do_single(self, tasks: int) -> dict[str, Any]:
        """Enqueue so many, then claim and complete each, and time every call."""
        enqueued, claimed, completed = [], [], []
        for number in range(tasks):
            task = make_task(number)
            started = perf_counter()
            self._adapter.enqueue(task)
            enqueued.append(perf_counter() - started)
        found: set[int] = set()
        while self._adapter.pulls and len(found) < tasks:
            started = perf_counter()
            got = self._adapter.claim()
            ended = perf_counter()
            if got is None:
                raise LookupError(f"{tasks - len(found)} of {tasks} tasks are gone")
            claimed.append(ended - started)
            found.add(got[0]["n"])
            started = perf_counter()
            self._adapter.complete(got[1])
            completed.append(perf_counter() - started)
        kinds = {"enqueue": enqueued, "claim": claimed, "complete": completed}
        left = self._adapter.left()
        if left != tasks - len(found):
            raise LookupError(f"{left} tasks are left of {tasks}, {len(found)} of them completed")
        return {name: [seconds * 1000 for seconds in each] for name, each in kinds.items()}

    def do_batch(self, tasks: int) -> dict[str, Any]:
        """Tasks per second of enqueues of BATCH in one transaction; none where a peer has no such thing."""
        if not self._adapter.batches:
            return {"rate": None}
        batches = [list(map(make_task, range(first, first + BATCH))) for first in range(0, tasks, BATCH)]
        before = self._adapter.left()
        started = perf_counter()
        for batch in batches:
            self._adapter.enqueue_many(batch)
        seconds = perf_counter() - started
        stored = self._adapter.left() - before
        if stored != len(batches) * BATCH:
            raise LookupError(f"{stored} of {len(batches) * BATCH} tasks were stored")
        return {"rate": stored / seconds}

    def do_depth(self, claims: int, seconds: float) -> dict[str, Any]:
        """Milliseconds of claims, each completed, on whatever is there; at most for so long."""
        taken: list[float] = []
        stop = perf_counter() + seconds
        while self._adapter.pulls and len(taken) < claims and perf_counter() < stop:
            started = perf_counter()
            got = self._adapter.claim()
            taken.append((perf_counter() - started) * 1000)
            assert got is not None
            self._adapter.complete(got[1])
        return {"claim": taken}

    def do_produce(self, first: int, start: float, stop: float) -> dict[str, Any]:
        """Enqueue without a pause; `numbers` is how many it was told were stored, from `first` on."""
        number, within = first, 0
        _sleep_until(start)
        while perf_counter() < stop:
            task = make_task(number)
            _, ended = self._insist(lambda: self._adapter.enqueue(task), stop)  # noqa: B023
            number += 1
            within += ended < stop
        return {"numbers": number - first, "within": within, "longest": self._longest * 1000}

    def do_work(self, start: float, stop: float, drain: bool) -> dict[str, Any]:
        """Claim and complete without a pause, if told to `drain` until nothing is left."""
        done: list[int] = []
        ends: list[float] = []
        _sleep_until(start)
        if self._adapter.pulls:
            self._pull(done, ends, stop, drain)
        else:
            self._be_called(done, ends, stop, drain)
        within = sum(end < stop for end in ends)
        longest = self._longest * 1000 if self._adapter.pulls else None
        return {"done": done, "within": within, "last": max(ends, default=start), "longest": longest}

    def do_trickle(self, first: int, tasks: int) -> dict[str, Any]:
        """A task every now and then; when each call began."""
        called = []
        for number in range(first, first + tasks):
            time.sleep(PAUSE_SECONDS * (1 + number % 7 / 7))
            called.append(perf_counter())
            self._adapter.enqueue(make_task(number))
        time.sleep(PAUSE_SECONDS)
        gives_up_at = perf_counter() + MISSED_SECONDS
        while self._adapter.left() and perf_counter() < gives_up_at:
            time.sleep(PAUSE_SECONDS)
        self._adapter.enqueue(make_task(LAST))
        return {"called": called}

    def do_attend(self, seconds: float) -> dict[str, Any]:
        """Wait for tasks until there comes the last one, but no longer than so; when each was in hand."""
        stop = perf_counter() + seconds
        had: dict[int, float] = {}

        def handle(task: Task) -> None:
            had[task["n"]] = perf_counter()

        self._adapter.attend(handle, lambda: LAST in had or perf_counter() > stop)
        return {"had": had}

    def _pull(self, done: list[int], ends: list[float], stop: float, drain: bool) -> None:
        empty_since = None
        while (now := perf_counter()) < stop:
            got, _ = self._insist(self._adapter.claim, stop, time_only=_is_a_task)
            if got is None:
                empty_since = empty_since or now
                if drain and now - empty_since > DRAINED_SECONDS:
                    return
                time.sleep(EMPTY_SECONDS)
                continue
            empty_since = None
            task, held = got
            _, ended = self._insist(lambda: self._adapter.complete(held), stop)  # noqa: B023
            done.append(task["n"])
            ends.append(ended)

    def _be_called(self, done: list[int], ends: list[float], stop: float, drain: bool) -> None:
        def handle(task: Task) -> None:
            done.append(task["n"])
            ends.append(perf_counter())

        def over() -> bool:
            now = perf_counter()
            return now > stop or (drain and bool(ends) and now - ends[-1] > DRAINED_SECONDS)

        self._adapter.attend(handle, over)

    def _insist(
        self, call: Callable[[], T], stop: float, time_only: Callable[[T], bool] = lambda result: True
    ) -> tuple[T, float]:
        """Make the call until it doesn't raise; its result and when that was back. The tries before are part of it."""
        started = perf_counter()
        while True:
            try:
                result = call()
            except Exception as error:
                self._errors[f"{type(error).__name__}: {error}"[:100]] += 1
                if perf_counter() > stop + GRACE_SECONDS:
                    raise
            else:
                ended = perf_counter()
                if time_only(result):
                    self._longest = max(self._longest, ended - started)
                return result, ended


def _is_a_task(claimed: Claimed | None) -> bool:
    return claimed is not None


def _sleep_until(moment: float) -> None:
    while (left := moment - perf_counter()) > 0:
        time.sleep(left)


def _orders(source: TextIO) -> Iterator[dict[str, Any]]:
    while line := source.readline():
        yield json.loads(line)


def main() -> None:
    parser = ArgumentParser(prog="python -m bench.peers.player")
    parser.add_argument("adapter")
    parser.add_argument("folder", type=Path)
    parser.add_argument("durability", choices=("normal", "full"))
    parser.add_argument("--host", action="store_true", help="create the queue, and serve it until the end")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a peer prints is no answer
    queue: type[Adapter] = importlib.import_module(f"bench.peers.adapters.{options.adapter}").Queue
    with queue.hosted(options.folder, options.durability) if options.host else nullcontext():
        adapter = queue(options.folder, options.durability)
        player = Player(adapter)
        gc.collect()
        print("{}", file=answers, flush=True)
        for order in _orders(sys.stdin):
            print(json.dumps(player.play(order)), file=answers, flush=True)
        adapter.close()
    # Whatever threads a peer has left are of no interest.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
