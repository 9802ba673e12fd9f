"""Many real processes and threads on one file: nothing is lost, nothing is done twice, and nobody hears of a lock."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import pytest

from prismq import LeaseLostError, QueueDatabase, TaskQueue, native
from prismq.driver import DriverName

SPAWN = multiprocessing.get_context("spawn")
OPEN = Callable[..., TaskQueue]
DRIVERS: list[DriverName] = ["native", "python"] if native.load() is not None else ["python"]
STRATEGIES = ["priority", "fifo", "lifo", "weighted_random"]


def counts(queue: TaskQueue) -> dict[str, int]:
    rows = queue.database.execute("SELECT status, count(*) FROM task_queue GROUP BY status").fetchall()
    return {row[0]: row[1] for row in rows}


def write_down(path: str, lines: list[object]) -> None:
    """Append to a worker's own file; what is written survives the worker's death."""
    with open(path, "a") as file:
        file.writelines(f"{line}\n" for line in lines)


def produce(path: str, driver: DriverName, number: int, start: Barrier, stop: Event, journal: str) -> None:
    """Enqueue one by one, in batches and in transactions of its own until told to stop."""
    try:
        with TaskQueue(path, driver=driver) as queue:
            start.wait(60)
            n = 0
            while not stop.is_set():
                n += 1
                ids = [queue.enqueue(f"t{n % 3}", {"producer": number, "n": n}, priority=n % 7)]
                if n % 5 == 0:
                    ids += queue.enqueue_many(
                        [{"type": "batch", "idempotency_key": f"{number}-{n}-{i}"} for i in range(4)]
                    )
                if n % 7 == 0:
                    with queue.database.transaction():
                        ids.append(queue.enqueue("in a transaction"))
                write_down(journal, list(ids))
                time.sleep(0.0005)
    except BaseException:
        write_down(journal, ["failed: " + traceback.format_exc().replace("\n", " | ")])
        raise


def work(path: str, driver: DriverName, number: int, stop: Event, lease_seconds: float, journal: str) -> None:
    """Claim and complete, in every way there is, until told to stop and nothing is left."""
    try:
        with TaskQueue(path, driver=driver) as queue:
            n = idle = 0
            while idle < 3 or not stop.is_set():
                n += 1
                wanted: dict[str, Any] = {"strategy": STRATEGIES[(n + number) % 4], "lease_seconds": lease_seconds}
                if n % 5 == 1:
                    tasks = queue.claim_many(f"w{number}", 5, **wanted)
                else:
                    task = queue.claim(f"w{number}", **wanted)
                    tasks = [] if task is None else [task]
                idle = 0 if tasks else idle + 1
                if not tasks:
                    time.sleep(0.005)
                    continue
                for task in tasks:
                    try:
                        if n % 11 == 0 and task.attempts == 1:
                            queue.fail(task, "once", delay_seconds=0.01)
                            continue
                        if n % 3 == 0:
                            queue.renew(task, lease_seconds)
                        queue.complete(task)
                    except LeaseLostError:
                        continue  # somebody has it by now: not ours to count
                    write_down(journal, [task.id])
    except BaseException:
        write_down(journal, ["failed: " + traceback.format_exc().replace("\n", " | ")])
        raise


class Crew:
    """Processes that write down what they did, each in a file of its own."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.processes: list[Any] = []

    def start(self, target: Callable[..., None], *arguments: Any) -> None:
        journal = str(self.folder / f"{self.kind}-{len(self.processes)}.txt")
        process = SPAWN.Process(target=target, args=(*arguments, journal), daemon=True)
        process.start()
        self.processes.append(process)

    def join(self) -> None:
        for process in self.processes:
            process.join(60)
            assert process.exitcode in (0, -9), self.lines()[-1:]

    def lines(self) -> list[str]:
        paths = sorted(self.folder.glob(f"{self.kind}-*.txt"))
        return [line for path in paths for line in path.read_text().splitlines()]

    def ids(self) -> list[int]:
        lines = self.lines()
        assert not [line for line in lines if line.startswith("failed")]
        return [int(line) for line in lines]


def test_producers_and_workers_of_both_drivers_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    start, stop, drained = SPAWN.Barrier(5), SPAWN.Event(), SPAWN.Event()
    with TaskQueue(path) as queue:
        producers, workers = Crew(tmp_path, "producer"), Crew(tmp_path, "worker")
        for number in range(4):
            driver = DRIVERS[number % len(DRIVERS)]
            producers.start(produce, str(path), driver, number, start, stop)
            workers.start(work, str(path), driver, number, drained, 30)
        start.wait(60)
        time.sleep(3)
        stop.set()
        producers.join()
        drained.set()
        workers.join()
        while task := queue.claim("the rest"):  # what was retried at the very end
            queue.complete(task)
            write_down(str(tmp_path / "worker-rest.txt"), [task.id])
        made, done = producers.ids(), workers.ids()
        assert len(made) > 500
        assert Counter(done) == Counter(made)
        assert max(Counter(made).values()) == 1
        assert counts(queue) == {"completed": len(made)}
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_workers_killed_in_the_middle_of_it_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    stop = SPAWN.Event()
    with TaskQueue(path) as queue:
        ids = queue.enqueue_many(
            [{"type": f"t{n % 3}", "max_attempts": 1000, "priority": n % 5} for n in range(20_000)]
        )
        workers = Crew(tmp_path, "worker")
        for number in range(2):
            workers.start(work, str(path), DRIVERS[number % len(DRIVERS)], number, stop, 0.4)

        def returned() -> int:
            sql = "SELECT count(*) FROM task_queue WHERE error_message LIKE 'Lease expired%'"
            return int(queue.database.execute(sql).fetchone()[0])

        killed = 0
        while killed < 6 or not returned():
            time.sleep(0.5)
            victim = workers.processes[-2]
            if not (tmp_path / f"worker-{len(workers.processes) - 2}.txt").exists():
                continue  # it has not begun yet
            os.kill(victim.pid, signal.SIGKILL)
            victim.join(30)
            killed += 1
            number = len(workers.processes)
            workers.start(work, str(path), DRIVERS[number % len(DRIVERS)], number, stop, 0.4)
        queue.database.execute("DELETE FROM task_queue WHERE status = 'queued' AND attempts = 0")  # enough is enough
        stop.set()
        workers.join()
        while counts(queue).keys() - {"completed"}:
            if (task := queue.claim("the rest")) is not None:
                queue.complete(task)
        left = {row[0] for row in queue.database.execute("SELECT id FROM task_queue")}
        done = Counter(workers.ids())
        assert left <= set(ids)
        assert set(done) <= left  # what a worker was told is done is done
        assert max(done.values()) == 1
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def settle_by_threads(queues: list[TaskQueue], threads: int, each: int) -> tuple[list[int], list[int]]:
    """Threads that enqueue, claim and complete on the given queues: what they made and what they did."""
    made: list[int] = []
    done: list[int] = []
    start = threading.Barrier(threads)

    def run(number: int) -> None:
        queue = queues[number % len(queues)]
        start.wait(30)
        for n in range(each):
            made.append(queue.enqueue("t", {"thread": number, "n": n}))
            made.extend(queue.enqueue_many([{"type": "t"}] * 2))
            with queue.database.transaction():
                made.append(queue.enqueue("t"))
            for task in queue.claim_many(f"w{number}", 4, strategy=STRATEGIES[n % 4]):
                queue.renew(task)
                queue.complete(task)
                done.append(task.id or 0)

    with ThreadPoolExecutor(threads) as pool:
        for running in [pool.submit(run, number) for number in range(threads)]:
            running.result(timeout=60)
    for task in queues[0].claim_many("the rest", 100_000):
        queues[0].complete(task)
        done.append(task.id or 0)
    return made, done


@pytest.mark.parametrize("shape", ["one queue", "two queues on one database", "two databases"])
def test_threads_share_a_queue_without_getting_in_each_others_way(open_queue: OPEN, path: Path, shape: str) -> None:
    database = QueueDatabase(path)
    queues = [open_queue() if shape == "two databases" else open_queue(database)]
    if shape != "one queue":
        queues.append(open_queue() if shape == "two databases" else open_queue(database))
    made, done = settle_by_threads(queues, threads=4, each=25)
    assert len(made) == 4 * 25 * 4
    assert Counter(done) == Counter(made)
    assert counts(queues[0]) == {"completed": len(made)}
    database.close()


def test_one_thread_does_not_see_into_anothers_transaction(queue: TaskQueue) -> None:
    inside, checked = threading.Event(), threading.Event()

    def transact() -> int:
        with queue.database.transaction():
            task_id = queue.enqueue("t")
            inside.set()
            assert not checked.wait(0.2)  # the other one has to wait
        return task_id

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(transact)
        assert inside.wait(10)
        task = queue.claim("w")
        checked.set()
        assert task is not None
        assert task.id == running.result(timeout=10)


def test_two_queues_on_one_database_may_have_different_drivers(path: Path) -> None:
    with QueueDatabase(path) as database:
        queues = [TaskQueue(database, driver=driver) for driver in DRIVERS]
        for one in queues:
            for other in queues:
                with database.transaction():
                    first = one.enqueue("t")
                    task = other.claim("w")
                    assert task is not None
                    assert task.id == first
                    one.complete(task)
        assert counts(queues[0]) == {"completed": len(queues) ** 2}
        for queue in queues:
            queue.close()
        assert database.execute("SELECT 1").fetchone()[0] == 1  # it belongs to its maker


def test_a_closed_queue_opens_again_at_its_next_use(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    for _ in range(3):
        queue.close()
        task = queue.claim("w")
        assert task is not None
        assert task.id == task_id
        queue.close()
        queue.fail(task, "again", delay_seconds=0)
    before = threading.active_count()
    queue.claim("w")
    queue.close()
    assert threading.active_count() <= before


def test_queues_on_one_database_share_its_connections_driver(path: Path, driver: DriverName) -> None:
    with QueueDatabase(path) as database:
        queues = [TaskQueue(database, driver=driver) for _ in range(20)]
        for queue in queues:
            queue.enqueue("t")
        assert len(database.get_connection().drivers) == 1
        for queue in queues[1:]:
            queue.close()
        assert queues[0].claim("w") is not None
        queues[0].close()


def test_a_claim_reaches_its_thread_while_others_find_expired_leases(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 600)
    queue.enqueue_many([{"type": "short", "max_attempts": 2**31 - 1}] * 20)
    done = threading.Event()

    def let_leases_run_out() -> None:
        while not done.is_set():
            queue.claim_many("forgetful", 20, types="short", lease_seconds=0.001)

    def find_them() -> None:
        while not done.is_set():
            queue.claim("idle", types="none")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places between any two steps
    try:
        with ThreadPoolExecutor(3) as pool:
            others = [pool.submit(let_leases_run_out), pool.submit(find_them), pool.submit(find_them)]
            got = [queue.claim("w", types="t", lease_seconds=600) for _ in range(500)]
            done.set()
            for other in others:
                other.result()
    finally:
        sys.setswitchinterval(before)
    held = queue.database.execute("SELECT count(*) FROM task_queue WHERE locked_by = 'w'").fetchone()[0]
    assert held == sum(task is not None for task in got) == 500
