"""Whatever happens to handlers, processes and leases, every task ends as its history says, and none is lost.

PRISMQ_CHAOS_TASKS sets how many tasks there are.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from prismq import RetryConfig, Task, TaskQueue, WorkerConfig, supervisor
from prismq.supervisor import Supervisor
from tests.chaos import LEASE_SECONDS, RETRY, fate, work
from tests.colleague import SPAWN, can_stop

TASKS = int(os.environ.get("PRISMQ_CHAOS_TASKS", "300"))
SECONDS = 60 + TASKS / 50
"""By then it has hung."""
SUPERVISED_TASKS = max(300, TASKS // 4)
"""Under a supervisor each task that dies costs a new process, which takes most of the time."""
POOLS = ("thread", "process", "thread", "process")
BATCH = 500
LONG_LEASE_SECONDS = 600


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

    def torment(self, chance: random.Random) -> None:
        """Kill a worker, or have it stand still for longer than its leases."""
        process, _ = chance.choice(self.seats)
        if process.pid is None or process.exitcode is not None:
            return
        if chance.random() < 0.5 or not can_stop():
            process.kill()
        else:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(1.5 * LEASE_SECONDS)
            os.kill(process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.replace_the_dead()
        time.sleep(0.1)
        self.replace_the_dead()
        for _, pipe in self.seats:
            pipe.close()
        for process, _ in self.seats:
            process.join(30)
        assert [process.exitcode for process, _ in self.seats] == [0] * len(POOLS)

    def kill(self) -> None:
        for process, _ in self.seats:
            process.kill()
            process.join()


class Supervised:
    """Worker processes under a supervisor; no lease of theirs runs out by itself."""

    CONCURRENCY = 2

    def __init__(self, path: Path) -> None:
        config = WorkerConfig(
            "w",
            processes=len(POOLS),
            max_false_starts=1_000_000,  # those that are killed before they begin
            concurrency=self.CONCURRENCY,
            prefetch=32,
            lease_duration_seconds=LONG_LEASE_SECONDS,
            retry=RETRY,
            heartbeat_seconds=0.5,
        )
        at_once = RetryConfig(initial_delay_seconds=0.01, max_delay_seconds=0.01)
        self.supervisor = Supervisor("tests.chaos:registry", config, path, restart=at_once)
        self._thread = ThreadPoolExecutor(1)
        self._ended = self._thread.submit(self.supervisor.run)

    def replace_the_dead(self) -> None:
        assert not self._ended.done(), "it gave up"

    def torment(self, chance: random.Random) -> None:
        """Kill a process."""
        processes = psutil.Process().children()
        with suppress(psutil.NoSuchProcess):
            process = chance.choice(processes)
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()

    def end(self) -> None:
        self.supervisor.stop()
        assert self._ended.result(60) == 0

    def kill(self) -> None:
        self.supervisor.kill()
        self._thread.shutdown()


def live_through(queue: TaskQueue, crew: Workers | Supervised, folder: Path, count: int) -> History:
    """Have a crew do all tasks, some of which are cancelled, while it is tormented."""
    folder.mkdir()
    chance = random.Random(count)
    payload = {"folder": str(folder), "path": str(queue.database.db_path)}
    cancelled: set[int] = set()
    ids: list[int] = []
    end = time.monotonic() + SECONDS
    torments = 0
    try:
        while len(ids) < count or queue.database.execute("SELECT 1 FROM task_queue WHERE phase >= 0").fetchone():
            assert time.monotonic() < end, "it hangs"
            if len(ids) < count:
                size = min(BATCH, count - len(ids))
                tries = [chance.choice((1, 2, 6)) for _ in range(size)]
                new = [{"type": "chaos", "payload": payload, "max_attempts": most} for most in tries]
                ids += queue.enqueue_many(new)
                cancelled |= {one for one in chance.sample(ids[-size:], size // 100 + 1) if queue.cancel(one)}
            if chance.random() < (0.3 if len(ids) < count else 0.005) or (torments == 0 and len(ids) == count):
                crew.torment(chance)
                torments += 1
            crew.replace_the_dead()
            time.sleep(0.02)
        crew.end()
    finally:
        crew.kill()
    assert not [file for file in folder.glob("*.txt") if is_alive(int(file.name.partition(".")[0]))]
    tasks = [task for task in map(queue.get, ids) if task is not None]
    assert len(tasks) == count
    return History(tasks, cancelled, read_diaries(folder))


@dataclass(frozen=True)
class History:
    """What became of all tasks, and how."""

    tasks: list[Task]
    cancelled: set[int]
    seen: dict[str, Counter[tuple[int, int]]]
    """Which attempts of which tasks were begun, and which ended, as their handlers tell."""

    def check(self) -> None:
        """Every task ended as its attempts did, and no attempt was begun twice."""
        problems = [(why_wrong(task, self.cancelled, self.seen), task) for task in self.tasks]
        assert [problem for problem in problems if problem[0] is not None] == []
        assert [attempt for attempt, times in self.seen["begin"].items() if times > 1] == []
        assert {task.status for task in self.tasks} == {"completed", "failed", "dead_letter"}

    def never_begun(self) -> list[tuple[Task, int]]:
        """Attempts that count; not the last ones of cancelled tasks, which may have been waiting for their turn."""
        return [
            (task, attempt)
            for task in self.tasks
            for attempt in range(1, task.attempts + (task.id not in self.cancelled))
            if (task.id, attempt) not in self.seen["begin"]
        ]

    def __str__(self) -> str:
        ends = Counter(task.status for task in self.tasks)
        again = sum(1 for one in self.seen["end"] if fate(*one) == "succeed") - ends["completed"]
        return f"{dict(ends)}; {again} successes were not in time and were tried again"


def is_alive(process_id: int) -> bool:
    """Whether a process of the test still runs."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(process_id)
        process.wait(30)
    return psutil.pid_exists(process_id)


def read_diaries(folder: Path) -> dict[str, Counter[tuple[int, int]]]:
    """Which attempts of which tasks were begun, and which ended, and how often."""
    seen: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for file in folder.glob("*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            what, task_id, attempt = line.split()
            seen[what][int(task_id), int(attempt)] += 1
    return seen


def why_wrong(task: Task, cancelled: set[int], seen: dict[str, Counter[tuple[int, int]]]) -> str | None:
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
    crew = Workers(path)
    history = live_through(queue, crew, tmp_path / "diaries", TASKS)
    print(f"\n{history}; {crew.deaths} workers died")
    history.check()
    for task, attempt in history.never_begun():  # claimed ahead by a worker that died, or both stood still
        if attempt == task.attempts:
            assert (task.error_message or "").startswith(("Lease expired: ", "TimeoutError: ")), task


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("driver", ["native"])
def test_a_supervised_death_costs_no_attempt_but_of_what_was_begun(
    queue: TaskQueue, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GOOD_WHILE_SECONDS", 0.5)  # or all would run one at a time nearly all the time
    history = live_through(queue, Supervised(path), tmp_path / "diaries", SUPERVISED_TASKS)
    deaths = caplog.text.count("; another one starts in ")
    print(f"\n{history}; {deaths} processes died; {len(history.never_begun())} attempts ended before they told")
    history.check()
    assert deaths > 0
    # A handler that is begun may not have come so far as to tell.
    assert len(history.never_begun()) <= deaths * Supervised.CONCURRENCY
    assert queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 0
