"""Whatever happens to handlers, processes and leases, every task ends as its history says, and none is lost.

PRISMQ_CHAOS_TASKS sets how many tasks there are.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from prismq import Task, TaskQueue
from tests.chaos import LEASE_SECONDS, fate, work
from tests.colleague import SPAWN, can_stop

TASKS = int(os.environ.get("PRISMQ_CHAOS_TASKS", "300"))
SECONDS = 60 + TASKS / 50
"""By then it has hung."""
POOLS = ("thread", "process", "thread", "process")
BATCH = 500


class Workers:
    """Worker processes, each replaced when it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.deaths = 0
        self.seats = [self._hire(number) for number in range(len(POOLS))]

    def _hire(self, number: int) -> tuple[SPAWN.Process, object]:  # type: ignore[name-defined]
        ours, theirs = SPAWN.Pipe()
        name = f"worker-{number}.{self.deaths}"
        process = SPAWN.Process(target=work, args=(str(self.path), name, POOLS[number], theirs))  # may have children
        process.start()
        theirs.close()
        return process, ours

    def replace_the_dead(self) -> None:
        for number, (process, _) in enumerate(self.seats):
            if process.exitcode is not None:
                self.deaths += 1
                self.seats[number] = self._hire(number)

    def end(self) -> None:
        for _, pipe in self.seats:
            pipe.close()
        for process, _ in self.seats:
            process.join(30)

    def kill(self) -> None:
        for process, _ in self.seats:
            process.kill()
            process.join()


@contextmanager
def workers(path: Path) -> Iterator[Workers]:
    crew = Workers(path)
    try:
        yield crew
        crew.end()
        assert [process.exitcode for process, _ in crew.seats] == [0] * len(POOLS)
    finally:
        crew.kill()


def torment(crew: Workers, chance: random.Random) -> None:
    """Kill a worker, or have it stand still for longer than its leases."""
    process, _ = chance.choice(crew.seats)
    if process.pid is None or process.exitcode is not None:
        return
    if chance.random() < 0.5 or not can_stop():
        process.kill()
    else:
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5 * LEASE_SECONDS)
        os.kill(process.pid, signal.SIGCONT)


def is_alive(process_id: int) -> bool:
    """Whether a process of the test still runs."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(process_id)
        process.wait(30)
    return psutil.pid_exists(process_id)


def read_diaries(folder: Path) -> dict[str, set[tuple[int, int]]]:
    """Which attempts of which tasks were begun, and which ended."""
    seen: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for file in folder.glob("*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            what, task_id, attempt = line.split()
            seen[what].add((int(task_id), int(attempt)))
    return seen


def why_wrong(task: Task, cancelled: set[int], seen: dict[str, set[tuple[int, int]]]) -> str | None:
    """What is wrong with how the task ended, given what happened to it."""
    assert task.id is not None
    last = (task.id, task.attempts)
    what, error = fate(*last), task.error_message or ""
    if task.id in cancelled:
        return None if (task.status, error) == ("failed", "Cancelled by user") else "was cancelled and did not stay so"
    if task.attempts < 1:
        return "was never tried"
    match task.status:
        case "completed":
            if what != "succeed":
                return f"completed an attempt whose fate was to {what}"
            return None if last in seen["end"] else "completed without having run"
        case "failed":
            expected = {"discard": "Discard: by chance", "be cancelled": "Cancelled by user"}.get(what)
            return None if error == expected and last in seen["begin"] else "failed for no reason"
        case "dead_letter":
            if task.attempts != task.max_attempts:
                return "was given up with attempts left"
            expected = {
                "raise": "ValueError: by chance",
                "later": "RetryLater: by chance",
                "hang": "TimeoutError: ",
                "die": "ChildProcessError: ",
            }.get(what, "Lease expired: ")
            # Of a worker that stood still, every lease and every handler's time may have run out.
            if error.startswith((expected, "Lease expired: ", "TimeoutError: ")):
                return None
            return f"was given up for no reason: {error}"
    return "never ended"


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("driver", ["native"])
def test_every_task_ends_as_its_history_says(queue: TaskQueue, path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diaries"
    folder.mkdir()
    chance = random.Random(TASKS)
    payload = {"folder": str(folder), "path": str(path)}
    cancelled: set[int] = set()
    ids: list[int] = []
    end = time.monotonic() + SECONDS
    torments = 0
    with workers(path) as crew:
        while len(ids) < TASKS or queue.database.execute("SELECT 1 FROM task_queue WHERE phase >= 0").fetchone():
            assert time.monotonic() < end, "it hangs"
            if len(ids) < TASKS:
                size = min(BATCH, TASKS - len(ids))
                tries = [chance.choice((1, 2, 6)) for _ in range(size)]
                new = [{"type": "chaos", "payload": payload, "max_attempts": most} for most in tries]
                ids += queue.enqueue_many(new)
                cancelled |= {one for one in chance.sample(ids[-size:], size // 100 + 1) if queue.cancel(one)}
                if chance.random() < 0.3:
                    torment(crew, chance)
                    torments += 1
            elif torments == 0:
                torment(crew, chance)
                torments += 1
            crew.replace_the_dead()
            time.sleep(0.02)
        crew.replace_the_dead()
        time.sleep(0.1)
        crew.replace_the_dead()
    assert not [file for file in folder.glob("*.txt") if is_alive(int(file.name.partition(".")[0]))]
    seen = read_diaries(folder)
    tasks = [queue.get(one) for one in ids]
    wrong = {task.id: (why_wrong(task, cancelled, seen), task) for task in tasks if task is not None}
    assert [problem for problem in wrong.values() if problem[0] is not None] == []
    assert len(wrong) == TASKS
    begun = {task_id for task_id, _ in seen["begin"]}
    assert set(ids) - begun <= cancelled | {task.id for task in tasks if task and task.status == "dead_letter"}
    ends = Counter(task.status for task in tasks if task)
    again = sum(1 for one in seen["end"] if fate(*one) == "succeed") - ends["completed"]
    assert set(ends) == {"completed", "failed", "dead_letter"}
    print(f"\n{dict(ends)}; {crew.deaths} workers died, {again} successes were not in time and were tried again")
