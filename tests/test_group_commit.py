"""Operations that would wait for the write lock are done by its holder, and nobody can tell but by the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from prismq import LeaseLostError, QueueBusyError, QueueDatabase, QueueDatabaseError, Task, TaskQueue, native, sql
from prismq.errors import UnsupportedEnvironmentError
from prismq.native_driver import NativeDriver
from tests.colleague import SPAWN, Colleague

pytestmark = pytest.mark.skipif(native.load() is None, reason="only the compiled module commits together")
HIRE = Callable[..., Colleague]
SUBMITTING_SECONDS = 0.3
CALLERS = 8


@pytest.fixture
def team(path: Path) -> Iterator[list[TaskQueue]]:
    """Queues on one file, each with a connection of its own that is ready to work."""
    queues = [TaskQueue(path, driver="native", group_commit=True) for _ in range(CALLERS)]
    assert {queue.group_commit for queue in queues} == {"on"}
    yield queues
    for queue in queues:
        queue.close()


@contextmanager
def holding_the_lock(path: Path) -> Iterator[None]:
    """Another connection's transaction for as long as the block runs."""
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with QueueDatabase(path) as database, database.transaction():
            held.set()
            free.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        yield
    finally:
        free.set()
        holder.join()


def together(path: Path, work: list[Callable[[], Any]]) -> list[Any]:
    """Begin everything while the lock is held, so that whoever gets it next does all of it. Results or failures."""
    with ThreadPoolExecutor(len(work)) as threads:
        with holding_the_lock(path):
            begun: list[Future[Any]] = [threads.submit(one) for one in work]
            time.sleep(SUBMITTING_SECONDS)
            assert not any(future.done() for future in begun)
        return [future.exception() or future.result() for future in begun]


def records(queue: TaskQueue) -> int:
    """Sidecar files under which operations were done for others."""
    return len(queue.database.execute(sql.GROUPS_DONE).fetchall())


def test_who_waits_is_served_by_the_next_holder(team: list[TaskQueue], path: Path) -> None:
    assert records(team[0]) == 0
    ids = together(path, [lambda queue=queue: queue.enqueue("t", {"by": id(queue)}) for queue in team])
    assert sorted(ids) == list(range(1, CALLERS + 1))
    assert records(team[0]) == 1
    for queue, task_id in zip(team, ids, strict=True):
        task = queue.get(task_id)
        assert task is not None
        assert task.get_payload_dict() == {"by": id(queue)}


def test_every_operation_may_be_done_by_others_in_any_mix(team: list[TaskQueue], path: Path) -> None:
    first = team[0]
    for number in range(6):
        first.enqueue("old", {"n": number}, max_attempts=1 if number == 3 else 5)
    done, failed, exhausted, renewed = (first.claim("w") for _ in range(4))
    assert done
    assert failed
    assert exhausted
    assert renewed
    results = together(
        path,
        [
            lambda: team[0].complete(done),
            lambda: team[1].fail(failed, "no", delay_seconds=60),
            lambda: team[2].fail(exhausted, "never"),
            lambda: team[3].renew(renewed, 600),
            lambda: team[4].claim("other", types="old"),
            lambda: team[5].enqueue("new", idempotency_key="once"),
            lambda: team[6].enqueue("new", idempotency_key="once"),
        ],
    )
    assert records(first) == 1
    assert results[:2] == [None, "queued"]
    assert results[3] == renewed.lease_until_utc
    claimed = results[4]
    assert isinstance(claimed, Task)
    assert claimed.get_payload_dict() == {"n": 4}
    assert claimed.locked_by == "other"
    assert results[5] == results[6] == 7  # one of them was first
    assert [first.get(number).status for number in range(1, 8)] == [  # type: ignore[union-attr]
        "completed",
        "queued",
        results[2],
        "processing",
        "processing",
        "queued",
        "queued",
    ]
    stored = first.get(claimed.id or 0)
    assert stored == claimed  # the same as if it had done it itself, to the millisecond


def test_a_stale_claim_is_refused_by_whoever_does_it(team: list[TaskQueue], path: Path) -> None:
    team[0].enqueue("t")
    task = team[0].claim("w", lease_seconds=0.001)
    assert task is not None
    time.sleep(0.05)
    again = team[1].claim("w2", wait=5)
    assert again is not None
    late, kept = together(path, [lambda: team[0].complete(task), lambda: team[1].complete(again)])
    assert isinstance(late, LeaseLostError)
    assert kept is None


@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
def test_what_fails_fails_alone_and_says_the_same(team: list[TaskQueue], path: Path, how: str) -> None:
    team[0].database.execute(
        "CREATE TRIGGER no_bad AFTER INSERT ON task_queue WHEN NEW.type = 'bad' "
        f"BEGIN SELECT RAISE({how}, 'bad is not wanted here'); END"
    )
    with pytest.raises(QueueDatabaseError) as alone:
        team[0].enqueue("bad")
    results = together(
        path, [lambda queue=queue, n=n: queue.enqueue("bad" if n % 3 == 1 else "good") for n, queue in enumerate(team)]
    )
    for number, result in enumerate(results):
        if number % 3 == 1:
            assert type(result) is type(alone.value)
            assert str(result) == str(alone.value)
        else:
            assert isinstance(result, int)
    stored = team[0].database.execute("SELECT type, count(*) FROM task_queue GROUP BY type").fetchall()
    assert [tuple(row) for row in stored] == [("good", 5)]
    team[1].enqueue("good")  # and no transaction is left open


def test_what_does_not_fit_goes_its_own_way(team: list[TaskQueue], path: Path) -> None:
    large = {"body": "x" * 100_000}
    work: list[Callable[[], Any]] = [lambda queue=queue: queue.enqueue("t", large) for queue in team[:3]]
    work += [lambda queue=queue: queue.enqueue_many([{"type": "t"}] * 3) for queue in team[3:6]]
    results = together(path, work)
    ids = [*results[:3], *results[3], *results[4], *results[5]]
    assert sorted(ids) == list(range(1, 13))
    claimed = team[0].claim_many("w", 12)
    assert sorted(len(task.payload) for task in claimed)[-3:] == [100_011] * 3


def test_a_large_task_is_claimed_by_others_too(team: list[TaskQueue], path: Path) -> None:
    for queue in team:
        queue.enqueue("t", {"body": "x" * 20_000})
    tasks = together(path, [lambda n=n, queue=queue: queue.claim(f"w{n}") for n, queue in enumerate(team)])
    assert records(team[0]) == 1
    assert sorted(task.id for task in tasks) == list(range(1, CALLERS + 1))
    assert {len(task.payload) for task in tasks} == {20_011}
    assert all(task == team[0].get(task.id) for task in tasks)


def test_a_large_task_whose_lease_has_run_out_is_not_taken_from_its_next_worker(
    team: list[TaskQueue], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not fit into a slot, so its worker reads it once more, and may be late."""
    read_again = NativeDriver._read_again

    def late(driver: NativeDriver, worker: str, numbers: list[int]) -> list[Task]:
        monkeypatch.setattr(NativeDriver, "_read_again", read_again)
        time.sleep(0.1)
        taken.append(team[2].claim("next", wait=10))
        return read_again(driver, worker, numbers)

    taken: list[Task | None] = []
    monkeypatch.setattr(NativeDriver, "_read_again", late)
    team[3].enqueue("large", {"body": "x" * 20_000})
    _, task = together(
        path, [lambda: team[0].enqueue("later", run_after="2099-01-01"), lambda: team[1].claim("w", lease_seconds=0.05)]
    )
    assert task is None
    assert taken[0] is not None
    team[2].complete(taken[0])


def test_a_single_operation_has_its_turn_beside_transactions_without_pause(path: Path) -> None:
    def transact() -> None:
        with QueueDatabase(path) as database:
            while not over.is_set():
                with database.transaction():
                    database.execute("UPDATE queue_state SET value = value WHERE name = 'none'")
                    time.sleep(0.002)
                time.sleep(0.0002)

    over = threading.Event()
    with TaskQueue(path, group_commit=True, driver="native") as queue, ThreadPoolExecutor(4) as threads:
        queue.enqueue("t")
        others = [threads.submit(transact) for _ in range(4)]
        try:
            ids = [queue.enqueue("t") for _ in range(20)]
        finally:
            over.set()
        for other in others:
            other.result(60)
    assert ids == list(range(2, 22))


def test_the_sidecar_may_vanish_while_they_wait(team: list[TaskQueue], path: Path) -> None:
    def vanish() -> None:
        time.sleep(SUBMITTING_SECONDS / 2)
        path.with_name(path.name + "-prismq").unlink()
        time.sleep(SUBMITTING_SECONDS * 2)

    *ids, _ = together(path, [*(lambda queue=queue: queue.enqueue("t") for queue in team), vanish])
    assert sorted(ids) == list(range(1, CALLERS + 1))
    assert sorted(queue.enqueue("t") for queue in team) == list(range(CALLERS + 1, 2 * CALLERS + 1))


def test_who_waits_too_long_is_told_and_nothing_is_done_later(team: list[TaskQueue], path: Path) -> None:
    with ThreadPoolExecutor(2) as threads, holding_the_lock(path):
        started = time.monotonic()
        late = threads.submit(team[0].enqueue, "late")
        with pytest.raises(QueueBusyError, match=r"after waiting 5\.\d s"):
            late.result(60)
        assert 4.9 < time.monotonic() - started < 30
    assert team[1].enqueue("t") == 1
    assert team[0].database.execute("SELECT count(*) FROM task_queue").fetchone()[0] == 1


def test_inside_a_transaction_nothing_is_handed_over(team: list[TaskQueue]) -> None:
    with suppress(ZeroDivisionError), team[0].database.transaction():
        team[0].enqueue("t")
        raise ZeroDivisionError
    assert team[0].claim("w") is None


@pytest.mark.parametrize("wanted", [True, False])
def test_it_can_be_switched_off(path: Path, wanted: bool) -> None:
    queues = [TaskQueue(path, group_commit=wanted, driver="native") for _ in range(CALLERS)]
    ids = together(path, [lambda queue=queue: queue.enqueue("t") for queue in queues])
    assert sorted(ids) == list(range(1, CALLERS + 1))
    assert records(queues[0]) == int(wanted)
    assert queues[0].group_commit == ("on" if wanted else "off: not wanted")
    for queue in queues:
        queue.close()


def test_the_environment_decides_where_the_code_does_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMQ_GROUP_COMMIT", "0")
    assert not QueueDatabase(path).group_commit
    assert QueueDatabase(path, group_commit=True).group_commit
    monkeypatch.setenv("PRISMQ_GROUP_COMMIT", "yes")
    with pytest.raises(UnsupportedEnvironmentError, match=r"'yes'.* use 1 \(on\) or 0 \(off\)"):
        TaskQueue(path)
    with QueueDatabase(path, group_commit=False) as database:
        with pytest.raises(ValueError, match="group_commit is True here but False"):
            TaskQueue(database, group_commit=True)
        with TaskQueue(database) as queue:
            assert queue.group_commit.startswith("off")


def test_the_python_driver_commits_alone(path: Path) -> None:
    with TaskQueue(path, driver="python") as queue:
        assert queue.group_commit == "off: the python driver commits alone"


def test_more_connections_than_slots_all_get_their_turn(path: Path) -> None:
    queues = [TaskQueue(path, driver="native") for _ in range(70)]
    states = [queue.group_commit for queue in queues]
    assert states.count("on") == 64
    assert states[-1].startswith("off: 64 other connections")
    ids = together(path, [lambda queue=queue: queue.enqueue("t") for queue in queues])
    assert sorted(ids) == list(range(1, 71))
    for queue in queues:
        queue.close()


def enqueue_until(path: str, moment: float) -> list[int]:
    ids = []
    with TaskQueue(path, driver="native") as queue:
        while time.time() < moment:
            ids.append(queue.enqueue("t"))
    return ids


def test_processes_share_transactions_and_lose_nothing(path: Path) -> None:
    with TaskQueue(path, driver="native") as queue:
        with SPAWN.Pool(4) as pool:
            ids = [one for some in pool.starmap(enqueue_until, [(str(path), time.time() + 3)] * 4, 1) for one in some]
        assert sorted(ids) == list(range(1, len(ids) + 1))
        assert records(queue) == 1
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
