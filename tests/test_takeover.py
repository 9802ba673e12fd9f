"""Whoever dies, is stopped, or finds the file of hints gone: the others go on, and take over what it did."""

from __future__ import annotations

import os
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prismq import TaskQueue, native
from tests import colleague
from tests.colleague import Colleague

OPEN = Callable[..., TaskQueue]
HIRE = Callable[..., Colleague]
LATE = 2.0
LONG = 15.0
IS_COMPILED = native.load() is not None
SETTLED = 0.2  # by then a process that was given something to do is at it


def exists(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def statuses(queue: TaskQueue) -> Counter[str]:
    return Counter(row[0] for row in queue.database.execute("SELECT status FROM task_queue"))


# -- who waits --------------------------------------------------------------------------------------------------------


def test_a_worker_killed_while_it_waits_takes_no_task_with_it(queue: TaskQueue, hire: HIRE) -> None:
    victims, heir = [hire() for _ in range(3)], hire()
    for victim in victims:
        victim.begin(colleague.claim, "victim", {"wait": LONG})
    time.sleep(SETTLED)
    heir.begin(colleague.claim, "heir", {"wait": LONG})
    time.sleep(SETTLED)
    for victim in victims:
        victim.kill()
    task_id = queue.enqueue("t")  # the dead were the first in line
    made = time.time()
    claimed, at = heir.result()
    assert claimed == task_id
    assert at - made < LATE


@pytest.mark.skipif(not colleague.can_stop(), reason="needs SIGSTOP")
@pytest.mark.parametrize("fate", ["stays stopped", "is killed"])
def test_a_called_worker_that_can_not_come_holds_a_task_no_longer_than_a_lease(
    queue: TaskQueue, hire: HIRE, fate: str
) -> None:
    victim, heir = hire(), hire()
    victim.begin(colleague.claim, "victim", {"wait": LONG, "lease_seconds": 0.5})
    time.sleep(SETTLED)
    victim.signal(signal.SIGSTOP)
    for _ in range(3):  # calls go round: one of these goes to the victim
        heir.begin(claim_and_complete, "heir")
        time.sleep(SETTLED)
        task_id = queue.enqueue("t")
        made = time.time()
        if fate == "is killed":
            time.sleep(0.05)
            victim.kill()
        claimed, at = heir.result()
        assert claimed == task_id
        assert at - made < 0.5 + LATE


@pytest.mark.skipif(not (IS_COMPILED and colleague.can_stop()), reason="needs the compiled module and SIGSTOP")
def test_a_task_of_a_dead_worker_comes_back_also_if_others_write_just_then(queue: TaskQueue, hire: HIRE) -> None:
    victim, heir = hire("native"), hire("native")
    queue.enqueue("warm")
    assert victim.run(colleague.claim, "victim", {"wait": LONG})[0] is not None
    victim.begin(colleague.claim, "victim", {"wait": LONG, "types": "t"})
    time.sleep(SETTLED)
    victim.signal(signal.SIGSTOP)
    task_id = queue.enqueue("t")  # claimed for the victim in the same transaction
    victim.kill()
    with queue.database.transaction() as connection:  # longer than whoever keeps house waits for it
        connection.execute("UPDATE queue_state SET value = value WHERE name = 'none'")
        time.sleep(0.5)
    assert heir.run(colleague.claim, "heir", {"wait": LONG, "types": "t"})[0] == task_id


def claim_and_complete(queue: TaskQueue, worker: str) -> tuple[int | None, float]:
    task = queue.claim(worker, wait=LONG)
    at = time.time()
    if task is not None:
        queue.complete(task)
    return None if task is None else task.id, at


def test_workers_killed_around_their_calls_lose_no_task(queue: TaskQueue, hire: HIRE) -> None:
    made: list[int] = []
    for turn in range(5):
        victim = hire()
        victim.begin(colleague.claim, "victim", {"wait": LONG, "lease_seconds": 0.5})
        time.sleep(SETTLED)
        if turn % 2:
            victim.kill()
        made.append(queue.enqueue("t", max_attempts=50))
        time.sleep(0.0004 * turn)
        victim.kill()
    started = time.monotonic()
    claimed = []
    while len(claimed) < len(made):  # killed before they claimed, or with a lease
        task = queue.claim("heir", wait=LONG)
        assert task is not None
        claimed.append(task.id)
        queue.complete(task)
    assert time.monotonic() - started < 0.5 + LATE
    assert sorted(id_ for id_ in claimed if id_ is not None) == made


def work_forever(queue: TaskQueue, worker: str) -> None:
    while True:
        task = queue.claim(worker, wait=None, lease_seconds=0.5)
        assert task is not None
        queue.complete(task)


def test_a_queue_whose_workers_are_killed_all_the_time_gets_its_work_done(queue: TaskQueue, hire: HIRE) -> None:
    workers = [hire() for _ in range(3)]
    for worker in workers:
        worker.begin(work_forever, "w")
    made = 0
    for turn in range(4):
        for _ in range(100):
            queue.enqueue("t", max_attempts=50)
            made += 1
            time.sleep(0.001)
        workers[turn % 3].kill()
        workers[turn % 3] = hire()
        workers[turn % 3].begin(work_forever, "w")
    deadline = time.monotonic() + 0.5 + LATE + 1
    while statuses(queue) != {"completed": made}:
        assert time.monotonic() < deadline, statuses(queue)
        time.sleep(0.05)


# -- who holds the lock -----------------------------------------------------------------------------------------------


def test_a_writer_killed_in_its_transaction_lets_the_others_in(
    queue: TaskQueue, open_queue: OPEN, hire: HIRE, tmp_path: Path
) -> None:
    others = [queue, *(open_queue() for _ in range(3))]
    for one in others:
        one.enqueue("t")
    neighbour = hire()
    for turn in range(2):
        flag = tmp_path / f"locked {turn}"
        holder = hire()
        holder.begin(colleague.sleep_in_transaction, str(flag), 60)
        exists(flag)
        with ThreadPoolExecutor(len(others)) as pool:
            futures = [pool.submit(lambda one=one: (one.enqueue("t"), time.time())) for one in others]
            neighbour.begin(colleague.enqueue)
            time.sleep(0.5)
            assert not any(future.done() for future in futures)
            assert not neighbour.is_done
            holder.kill()
            killed = time.time()
            ends = [future.result(LONG)[1] for future in futures] + [neighbour.result()[1]]
        assert max(ends) - killed < LATE
    assert statuses(queue) == {"queued": 4 + 2 * 5}  # and nothing of the dead


def test_writers_killed_under_full_load_stop_nobody(queue: TaskQueue, hire: HIRE) -> None:
    writers = [hire() for _ in range(3)]
    for writer in writers:
        writer.begin(write_without_pause, 60)
    longest, turn, ends = 0.0, 0, time.monotonic() + 2.5
    while (now := time.monotonic()) < ends:
        turn += 1
        if turn % 60 == 0:
            writers[0].kill()
            writers = [*writers[1:], hire()]
            writers[-1].begin(write_without_pause, 60)
        started = time.monotonic()
        queue.enqueue("t")
        with queue.database.transaction():
            queue.enqueue("t")
        longest = max(longest, time.monotonic() - started)
        time.sleep(0.002)
    assert now
    assert longest < LATE
    for writer in writers:
        writer.kill()
    assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def write_without_pause(queue: TaskQueue, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with queue.database.transaction():
            queue.enqueue("t")
            queue.enqueue("t")


@pytest.mark.skipif(not colleague.can_stop(), reason="needs SIGSTOP")
@pytest.mark.parametrize("way", ["alone", "too large to be done by others"])
def test_a_task_whose_maker_waited_long_for_the_lock_reaches_the_worker_who_sleeps(
    hire: HIRE, open_queue: OPEN, way: str
) -> None:
    """Though nobody keeps house meanwhile, who would see that a worker waits in vain."""
    keeper = hire()
    keeper.run(colleague.enqueue, "other")
    time.sleep(SETTLED)
    worker, maker, holder = open_queue(), open_queue(group_commit=way != "alone"), open_queue()
    payload = {"text": "x" * 5000} if way.startswith("too large") else {}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            waiting = pool.submit(colleague.claim, worker, "w", {"wait": LONG, "types": "t"})
            time.sleep(SETTLED)
            keeper.signal(signal.SIGSTOP)
            try:
                with holder.database.transaction():
                    holder.enqueue("other")
                    making = pool.submit(maker.enqueue, "t", payload)
                    time.sleep(0.35)  # longer than a worker waits for a task that is under way
            finally:
                keeper.signal(signal.SIGCONT)
            task_id = making.result(LONG)
            made = time.time()
            claimed, at = waiting.result(LONG + 5)
            assert claimed == task_id
            assert at - made < LATE
            task = worker.get(task_id)
            assert task is not None
            assert task.attempts == 1


# -- who keeps house --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["a delayed task", "a lease"])
@pytest.mark.parametrize("end", ["killed", "dismissed"])
def test_another_one_keeps_house_soon_after_the_keepers_end(hire: HIRE, open_queue: OPEN, what: str, end: str) -> None:
    lateness = []
    for turn in range(3):
        keeper = hire()  # the first to open the file keeps house
        keeper.run(colleague.enqueue, f"before {turn}")
        time.sleep(SETTLED)
        maker, worker = open_queue(), open_queue()
        if what == "a lease":
            maker.enqueue("t")
            assert maker.claim("lost", types="t", lease_seconds=0.6) is not None
        else:
            maker.enqueue("t", run_after=timedelta(seconds=0.6))
        due = time.time() + 0.6
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(colleague.claim, worker, "heir", {"wait": LONG, "types": "t"})
            time.sleep(0.2)
            if end == "killed":
                keeper.kill()
            else:
                keeper.dismiss()
            claimed, at = waiting.result(LONG + 5)
        assert claimed is not None
        lateness.append(at - due)
        maker.close()
        worker.close()
    assert max(lateness) < LATE
    if IS_COMPILED:  # a worker that looks for itself, because nobody keeps house, does so after a second
        assert min(lateness) < 0.4


def test_every_successor_keeps_house(hire: HIRE, open_queue: OPEN) -> None:
    line = [hire() for _ in range(4)]
    for one in line:
        one.run(colleague.enqueue, "other")
    worker = open_queue()
    for one in line:
        one.kill()
        worker.enqueue("t", run_after=timedelta(seconds=0.2))
        due = time.time() + 0.2
        task_id, at = colleague.claim(worker, "w", {"wait": LONG, "types": "t"})
        assert task_id is not None
        assert at - due < LATE


# -- the file of hints ------------------------------------------------------------------------------------------------


def hints(path: Path) -> Path:
    return path.with_name(path.name + "-prismq")


@pytest.mark.skipif(not IS_COMPILED or os.name == "nt", reason="there is none, or it can't be deleted")
def test_deleting_the_hints_wakes_and_loses_nobody(queue: TaskQueue, hire: HIRE, path: Path) -> None:
    queue.enqueue("other")
    assert hints(path).exists()
    workers = [hire() for _ in range(3)]
    for _ in range(3):
        for worker in workers:
            worker.begin(colleague.claim, "w", {"wait": LONG, "types": "t"})
        time.sleep(SETTLED)
        hints(path).unlink()
        ids, made = colleague.enqueue(queue, "t", 3)
        claimed = [worker.result() for worker in workers]
        assert sorted(task_id for task_id, _ in claimed) == ids
        assert max(at for _, at in claimed) - made < LATE
        until = time.monotonic() + LATE
        while not hints(path).exists():  # they use a new one
            assert time.monotonic() < until
            queue.enqueue("other")
            time.sleep(0.01)


@pytest.mark.skipif(not IS_COMPILED or os.name == "nt", reason="there is none, or it can't be deleted")
@pytest.mark.parametrize("how", ["deleted", "replaced by another", "replaced by a folder"])
def test_hints_that_go_away_all_the_time_lose_nothing(queue: TaskQueue, hire: HIRE, path: Path, how: str) -> None:
    workers, producers = [hire() for _ in range(2)], [hire() for _ in range(2)]
    for worker in workers:
        worker.begin(colleague.work_until_told, "w", {"wait": LONG})
    for producer in producers:
        producer.begin(produce, 1.5)
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        time.sleep(0.15)
        if hints(path).is_dir():
            hints(path).rmdir()
        else:
            hints(path).unlink(missing_ok=True)
        if how == "replaced by another":
            shutil.copy(path, hints(path).with_suffix(".new"))
            hints(path).with_suffix(".new").replace(hints(path))
        elif how == "replaced by a folder" and not hints(path).exists():
            try:
                hints(path).mkdir()
            except FileExistsError:
                continue
    made: dict[int, float] = {}
    for producer in producers:
        made |= producer.result()
    colleague.stop(queue, len(workers))
    done: dict[int, float] = {}
    for worker in workers:
        done |= worker.result()
    assert done.keys() == made.keys()
    assert max(done[task_id] - made[task_id] for task_id in made) < LATE


def produce(queue: TaskQueue, seconds: float) -> dict[int, float]:
    made = {}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        ids, at = colleague.enqueue(queue)
        made.update(dict.fromkeys(ids, at))
        time.sleep(0.004)
    return made


@pytest.mark.parametrize("content", [b"", b"not what it should be" * 5000, b"\xff" * 40000])
def test_hints_with_anything_in_them_are_no_matter(path: Path, open_queue: OPEN, hire: HIRE, content: bytes) -> None:
    hints(path).write_bytes(content)
    queue, worker = open_queue(), hire()
    worker.begin(colleague.claim, "w", {"wait": LONG})
    time.sleep(SETTLED)
    _, made = colleague.enqueue(queue)
    task_id, at = worker.result()
    assert task_id is not None
    assert at - made < LATE
    queue.enqueue("t", run_after=timedelta(seconds=0.2))
    assert queue.claim("w", wait=LONG) is not None


def test_without_a_place_for_hints_everything_works(path: Path, open_queue: OPEN, hire: HIRE) -> None:
    hints(path).mkdir()
    queue, worker = open_queue(), hire()
    for delay in (0.0, 0.3):
        worker.begin(colleague.claim, "w", {"wait": LONG})
        time.sleep(SETTLED)
        queue.enqueue("t", run_after=timedelta(seconds=delay))
        made = time.time()
        task_id, at = worker.result()
        assert task_id is not None
        assert at - made < delay + LATE
    with queue.database.transaction():
        queue.enqueue("t")
        worker.begin(colleague.enqueue)
        time.sleep(SETTLED)
        assert not worker.is_done
    worker.result()


# -- forks ------------------------------------------------------------------------------------------------------------


def wait_and_fork(queue: TaskQueue, flag: str) -> None:
    """Keep house, wait in a thread, and leave a child that outlives this process and never uses the queue."""
    pool = ThreadPoolExecutor(1)
    pool.submit(queue.claim, "parent", types="t", wait=60)
    time.sleep(SETTLED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(0)
    Path(flag).write_text(str(child))
    time.sleep(60)


@pytest.fixture
def orphan(hire: HIRE, tmp_path: Path) -> Any:
    """A process that keeps house and waits, forks, and can be killed; its child lives until the end of the test."""
    flag = tmp_path / "child"
    parent = hire()
    parent.begin(wait_and_fork, str(flag))
    exists(flag)
    time.sleep(SETTLED)
    yield parent
    os.kill(int(flag.read_text()), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_house_for_its_dead_parent(orphan: Colleague, open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    maker.enqueue("u", run_after=timedelta(seconds=0.6))
    due = time.time() + 0.6
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colleague.claim, worker, "heir", {"wait": LONG, "types": "u"})
        time.sleep(0.3)
        orphan.signal(signal.SIGKILL)
        task_id, at = waiting.result(LONG + 5)
    assert task_id is not None
    assert at - due < LATE
    late: list[float] = []
    for _ in range(3):
        maker.enqueue("u", run_after=timedelta(seconds=0.15))
        due = time.time() + 0.15
        task_id, at = colleague.claim(worker, "heir", {"wait": LONG, "types": "u"})
        late.append(at - due)
    assert max(late) < LATE
    assert min(late) < 0.2  # somebody keeps house: nobody had to look for himself


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_its_dead_parent(orphan: Colleague, open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colleague.claim, worker, "heir", {"wait": LONG, "types": "t"})
        time.sleep(0.3)
        orphan.signal(signal.SIGKILL)
        maker.enqueue("t")  # the dead one was the first in line
        made = time.time()
        task_id, at = waiting.result(LONG + 5)
    assert task_id is not None
    assert at - made < LATE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_childs_end_takes_nothing_from_its_parent(orphan: Colleague, open_queue: OPEN, tmp_path: Path) -> None:
    maker = open_queue()
    os.kill(int((tmp_path / "child").read_text()), signal.SIGTERM)
    time.sleep(SETTLED)
    task_id = maker.enqueue("t")  # for the parent, which still waits
    deadline = time.monotonic() + LATE
    while (task := maker.get(task_id)) is not None and task.status == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert task is not None
    assert task.locked_by == "parent"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_waits_on_its_own(queue: TaskQueue, hire: HIRE, tmp_path: Path) -> None:
    forker = hire()
    forker.begin(claim_in_a_forked_child, str(tmp_path / "ready"))
    exists(tmp_path / "ready")
    time.sleep(SETTLED)
    ids = queue.enqueue_many([{"type": "t"}] * 2)
    assert forker.result() == 0
    claimed = queue.database.execute("SELECT id FROM task_queue WHERE locked_by IN ('parent', 'child') ORDER BY id")
    assert [row[0] for row in claimed] == ids


def claim_in_a_forked_child(queue: TaskQueue, flag: str) -> int:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.claim, "parent", wait=LONG)
        time.sleep(SETTLED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                Path(flag).touch()
                os._exit(0 if queue.claim("child", wait=LONG) is not None else 1)
            except BaseException:
                os._exit(2)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if waiting.result() is not None else 3
