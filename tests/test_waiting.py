"""Idle workers sleep until there is a task for them, and are called by the commit that makes one claimable."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import concurrent.futures
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prismq import (
    InvalidTaskError,
    LeaseLostError,
    QueueProgrammingError,
    Task,
    TaskQueue,
    native,
)
from prismq.driver import DriverName
from tests import colleague
from tests.colleague import Colleague

OPEN = Callable[..., TaskQueue]
HIRE = Callable[..., Colleague]
LATE = 2.0  # a call takes a fraction of a millisecond, but this machine may have other things to do
LONG = 15.0  # who waits so long was not called
INSERT = "INSERT INTO task_queue (type, payload, priority) VALUES ('t', '{}', 50)"
IS_COMPILED = native.load() is not None


@contextmanager
def waiting(work: Callable[[], Any], pause: float = 0.1) -> Iterator[Future[Any]]:
    """Runs `work` in a thread and gives it time to fall asleep."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        time.sleep(pause)
        yield future


def claimed_at(queue: TaskQueue, **options: Any) -> tuple[Task | None, float]:
    task = queue.claim("waiter", **{"wait": LONG, **options})
    return task, time.time()


# -- what calls a worker ----------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """One of the ways in which a task becomes claimable."""

    make: Callable[[TaskQueue, Any], object]
    prepare: Callable[[TaskQueue], Any] = lambda queue: None
    seconds: float = 0  # until it is claimable


def take(queue: TaskQueue, **options: Any) -> Task:
    queue.enqueue("t")
    task = queue.claim("another", **options)
    assert task is not None
    return task


def in_transaction(queue: TaskQueue, state: Any) -> None:
    with queue.database.transaction():
        queue.database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        queue.enqueue("t")


def delay_by_sql(queue: TaskQueue, state: Any) -> None:
    due = "strftime('%Y-%m-%d %H:%M:%f', 'now', '+0.3 seconds')"
    queue.database.execute(f"INSERT INTO task_queue (type, payload, run_after_utc) VALUES ('t', '{{}}', {due})")


def fail_for_good(queue: TaskQueue) -> int | None:
    task = take(queue)
    queue.fail(task, "no", retry=False)
    return task.id


WAYS = {
    "enqueue": Way(lambda queue, _: queue.enqueue("t")),
    "enqueue with a key": Way(lambda queue, _: queue.enqueue("t", idempotency_key="k")),
    "enqueue_many": Way(lambda queue, _: queue.enqueue_many([{"type": "t"}] * 40)),
    "in a transaction": Way(in_transaction),
    "plain SQL": Way(lambda queue, _: queue.database.execute(INSERT)),
    "a delay that ends": Way(lambda queue, _: queue.enqueue("t", run_after=timedelta(seconds=0.3)), seconds=0.3),
    "a delay by plain SQL": Way(delay_by_sql, seconds=0.3),
    "a delay cut short": Way(
        lambda queue, _: queue.database.execute("UPDATE task_queue SET run_after_utc = '2020-01-01 00:00:00.000'"),
        lambda queue: queue.enqueue("t", run_after=timedelta(hours=1)),
    ),
    "a retry at once": Way(lambda queue, task: queue.fail(task, "again", delay_seconds=0), take),
    "a retry": Way(lambda queue, task: queue.fail(task, "again", delay_seconds=0.3), take, 0.3),
    "a lease that ends": Way(lambda queue, task: None, lambda queue: take(queue, lease_seconds=0.5), 0.5),
    "a lease renewed for a while": Way(
        lambda queue, task: queue.renew(task, 0.3), lambda queue: take(queue, lease_seconds=600), 0.3
    ),
    "requeue": Way(lambda queue, task_id: queue.requeue(task_id), fail_for_good),
    "release": Way(lambda queue, task: queue.release(task), take),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_waiting_claim_gets_what_becomes_claimable(open_queue: OPEN, way: str) -> None:
    maker, worker = open_queue(), open_queue()
    state = WAYS[way].prepare(maker)
    with waiting(lambda: claimed_at(worker)) as future:
        WAYS[way].make(maker, state)
        made = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert at - made < WAYS[way].seconds + LATE


@pytest.mark.parametrize("maker", ["native", "python", "without the module", "foreign"])
def test_a_waiting_claim_gets_what_another_process_puts_in(
    queue: TaskQueue, hire: HIRE, another_program: Callable[..., None], maker: str
) -> None:
    if maker == "native" and not IS_COMPILED:
        pytest.skip("the compiled module is not installed")
    if maker == "without the module":
        another = hire("python", compiled=False)
    elif maker != "foreign":
        another = hire(maker)
    with waiting(lambda: claimed_at(queue)) as future:
        if maker == "foreign":
            another_program(INSERT)
            made = time.time()
        else:
            _, made = another.run(colleague.enqueue)
        task, at = future.result(LONG + 5)
    assert task is not None
    assert at - made < LATE


@pytest.mark.parametrize("waiter", ["without the module", "compiled"])
def test_a_process_without_the_module_is_no_outsider(queue: TaskQueue, hire: HIRE, waiter: str) -> None:
    worker = hire("python", compiled=waiter == "compiled")
    maker = hire("python", compiled=False)
    delays = [0.0, 0.0, 0.3]
    for delay in delays:
        worker.begin(colleague.claim, "w", {"wait": LONG})
        time.sleep(0.1)
        _, made = maker.run(enqueue_delayed, delay)
        task_id, at = worker.result()
        assert task_id is not None
        assert at - made < delay + LATE
    queue.enqueue("t")
    assert worker.run(colleague.claim, "w", {"wait": LONG})[0] is not None


def enqueue_delayed(queue: TaskQueue, seconds: float) -> tuple[int, float]:
    return queue.enqueue("t", run_after=timedelta(seconds=seconds)), time.time()


def test_a_foreign_insert_is_noticed_soon(queue: TaskQueue, another_program: Callable[..., None], path: Path) -> None:
    lateness = []
    for _ in range(5):
        with waiting(lambda: claimed_at(queue)) as future:
            another_program(INSERT)
            made = time.time()  # it has begun and ended in between: later than the commit
            lateness.append(future.result(LONG + 5)[1] - made)
    assert max(lateness) < LATE
    assert min(lateness) < 0.2


@pytest.mark.skipif(not IS_COMPILED, reason="nobody calls without the compiled module")
@pytest.mark.skipif(not colleague.can_stop(), reason="needs SIGSTOP")
def test_the_commit_itself_calls_and_needs_no_housekeeper(hire: HIRE, open_queue: OPEN, driver: DriverName) -> None:
    if driver != "native":
        pytest.skip("the Python driver leaves it to the housekeeper")
    keeper = hire()
    keeper.run(colleague.enqueue, "other")
    time.sleep(0.2)  # by now it keeps house
    maker, worker = open_queue(), open_queue()
    maker.enqueue("other")
    keeper.signal(signal.SIGSTOP)
    time.sleep(1.2)
    quick = []
    for _ in range(8):
        with waiting(lambda: claimed_at(worker, types="t"), 0.05) as future:
            maker.enqueue("t")
            made = time.time()
            quick.append(future.result(LONG + 5)[1] - made)
    # Without a call it would be the waiter's own look, half a second after it fell asleep.
    assert statistics.median(quick) < 0.2, quick


@pytest.mark.skipif(not IS_COMPILED, reason="nobody calls without the compiled module")
@pytest.mark.skipif(not colleague.can_stop(), reason="needs SIGSTOP")
def test_a_stopped_housekeeper_makes_workers_look_for_themselves(hire: HIRE, open_queue: OPEN) -> None:
    keeper = hire()
    keeper.run(colleague.enqueue, "other")
    time.sleep(0.2)
    queue = open_queue()
    queue.enqueue("other")
    keeper.signal(signal.SIGSTOP)
    with waiting(lambda: claimed_at(queue, types="t")) as future:
        queue.enqueue("t", run_after=timedelta(seconds=0.3))
        made = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert at - made < 0.3 + 1.5 + LATE


def test_nobody_is_called_before_the_commit_nor_for_what_is_rolled_back(open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    with waiting(lambda: (worker.wait(LONG), time.monotonic())) as future:
        with pytest.raises(KeyError), maker.database.transaction():
            maker.enqueue("t")
            raise KeyError
        time.sleep(0.3)
        assert not future.done()
        with maker.database.transaction():
            maker.enqueue("t")
            time.sleep(0.3)
            assert not future.done()
        committed = time.monotonic()
        found, at = future.result(LONG + 5)
    assert found
    assert at - committed < LATE


def test_a_savepoint_undone_calls_nobody(open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    with waiting(lambda: worker.wait(0.6)) as future:
        with maker.database.transaction():
            with pytest.raises(KeyError), maker.database.transaction():
                maker.enqueue("t")
                raise KeyError
            maker.database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        assert future.result(LONG) is False
    assert worker.claim("w") is None


# -- who is called ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", ["b", ["b", "c"], [f"b{n}" for n in range(9)] + ["b"]], ids=["one", "two", "ten"])
def test_a_worker_is_called_for_its_types_only(open_queue: OPEN, types: str | list[str]) -> None:
    maker, worker = open_queue(), open_queue()
    with waiting(lambda: claimed_at(worker, types=types)) as future:
        maker.enqueue("a")
        maker.database.execute(INSERT)
        time.sleep(0.3)
        assert not future.done()
        wanted = maker.enqueue("b")
        made = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert task.id == wanted
    assert at - made < LATE


@pytest.mark.parametrize("way", ["enqueue", "plain SQL"])
def test_a_worker_is_called_for_what_it_is_able_to_do(open_queue: OPEN, way: str) -> None:
    maker, plain, other, able = (open_queue() for _ in range(4))
    with (
        waiting(lambda: plain.wait(1.5), 0) as on_plain,
        waiting(lambda: other.wait(1.5, capabilities={"gpu": False, "zone": "a"}), 0) as on_other,
        waiting(lambda: claimed_at(able, capabilities={"gpu": True, "zone": "a"})) as on_able,
    ):
        if way == "enqueue":
            maker.enqueue("t", compatibility={"gpu": True})
        else:
            maker.database.execute(
                "INSERT INTO task_queue (type, payload, compatibility) VALUES ('t', '{}', '{\"gpu\": true}')"
            )
        made = time.time()
        task, at = on_able.result(LONG + 5)
        assert task is not None
        assert at - made < LATE
        assert on_plain.result(LONG) is False
        assert on_other.result(LONG) is False


def test_a_burst_calls_about_as_many_workers_as_it_has_tasks(open_queue: OPEN) -> None:
    if not IS_COMPILED:
        pytest.skip("without the compiled module every worker looks for itself")
    queue, maker = open_queue(), open_queue()
    burst, idle = 4, 20
    called: list[bool] = []

    def work(number: int) -> int | None:
        called.append(queue.wait(2))
        if not called[-1]:
            return None
        task = queue.claim(f"w{number}")
        return None if task is None else task.id

    with ThreadPoolExecutor(idle) as pool:
        futures = [pool.submit(work, number) for number in range(idle)]
        time.sleep(0.5)
        ids = maker.enqueue_many([{"type": "t"}] * burst)
        got = [future.result(LONG) for future in futures]
    assert sorted(filter(None, got)) == ids
    assert burst <= sum(called) <= 3 * burst


def test_more_workers_than_places_to_sleep_at_all_get_their_task(open_queue: OPEN) -> None:
    queue, maker = open_queue(), open_queue()
    workers = 270  # places are 256
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(queue.claim, f"w{number}", wait=30) for number in range(workers)]
        time.sleep(0.5)
        ids = maker.enqueue_many([{"type": "t"}] * workers)
        tasks = [future.result(60) for future in futures]
    assert sorted(task.id for task in tasks if task is not None and task.id is not None) == ids


def test_claim_many_comes_back_with_what_there_is(open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    with waiting(lambda: worker.claim_many("w", 10, wait=LONG)) as future:
        ids = maker.enqueue_many([{"type": "t"}] * 3)
        assert [task.id for task in future.result(LONG + 5)] == ids
    assert worker.claim_many("w", 10, wait=0.05) == []


@pytest.mark.parametrize("strategy", ["fifo", "lifo", "weighted_random"])
def test_every_strategy_waits(open_queue: OPEN, strategy: str) -> None:
    maker, worker = open_queue(), open_queue()
    with waiting(lambda: claimed_at(worker, strategy=strategy)) as future:
        task_id = maker.enqueue("t")
        made = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert task.id == task_id
    assert at - made < LATE


def test_a_worker_in_the_queues_own_process_and_connection_is_called_too(queue: TaskQueue) -> None:
    with waiting(lambda: claimed_at(queue)) as future:
        queue.enqueue("t")
        made = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert at - made < LATE


# -- how long ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7])
def test_a_wait_lasts_as_long_as_it_was_told(queue: TaskQueue, seconds: float) -> None:
    for call in (
        lambda: queue.claim("w", wait=seconds),
        lambda: queue.claim_many("w", 5, wait=seconds) or None,
        lambda: queue.wait(seconds) or None,
    ):
        started = time.monotonic()
        assert call() is None
        assert seconds <= time.monotonic() - started < seconds + 1


def test_what_is_there_already_is_taken_at_once(queue: TaskQueue) -> None:
    queue.enqueue("t")
    started = time.monotonic()
    assert queue.wait(None) is True
    assert queue.claim("w", wait=None) is not None
    assert queue.claim("w", wait=0) is None
    assert queue.wait(0) is False
    assert time.monotonic() - started < LATE


def test_waiting_takes_no_time_of_a_processor(queue: TaskQueue, hire: HIRE) -> None:
    worker = hire()
    queue.enqueue("other")
    assert worker.run(processor_seconds_of_waiting, 1.5) < 0.3


def processor_seconds_of_waiting(queue: TaskQueue, seconds: float) -> float:
    before = time.process_time()
    queue.wait(seconds, "t")
    return time.process_time() - before


@pytest.mark.parametrize("wait", [-1, -0.001, float("nan"), float("inf"), "1", True, 1e12, object()])
def test_a_wait_that_is_no_duration_is_refused(queue: TaskQueue, wait: Any) -> None:
    task_id = queue.enqueue("t")
    for call in (
        lambda: queue.claim("w", wait=wait),
        lambda: queue.claim_many("w", 5, wait=wait),
        lambda: queue.wait(wait),
    ):
        with pytest.raises(InvalidTaskError, match="wait is"):
            call()
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts) == ("queued", 0)


def test_a_wait_for_what_is_no_claim_is_refused(queue: TaskQueue) -> None:
    for types in ([], [""], 5):
        with pytest.raises(InvalidTaskError, match="type"):
            queue.wait(1, types)  # type: ignore[arg-type]
    with pytest.raises(InvalidTaskError, match="capabilities"):
        queue.wait(1, None, ["gpu"])  # type: ignore[arg-type]


# -- in and around transactions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0.5, None])
@pytest.mark.parametrize("is_there_one", [False, True])
def test_waiting_inside_a_transaction_is_refused(queue: TaskQueue, wait: float | None, is_there_one: bool) -> None:
    if is_there_one:
        queue.enqueue("t")
    with queue.database.transaction():
        for call in (
            lambda: queue.claim("w", wait=wait),
            lambda: queue.claim_many("w", 5, wait=wait),
            lambda: queue.wait(wait),
        ):
            with pytest.raises(QueueProgrammingError, match="inside a transaction"):
                call()
        queue.enqueue("mine")
    assert queue.claim("w", types="mine") is not None  # the transaction went on


def test_looking_without_waiting_is_fine_inside_a_transaction(queue: TaskQueue) -> None:
    with queue.database.transaction():
        assert queue.claim("w", wait=0) is None
        assert queue.wait(0) is False
        queue.enqueue("t")
        assert queue.wait(0) is True
        assert queue.claim("w", wait=0) is not None


def test_a_delay_that_ends_while_the_database_is_locked_is_made_up_for(open_queue: OPEN) -> None:
    maker, worker = open_queue(), open_queue()
    maker.enqueue("t", run_after=timedelta(seconds=0.3))
    with waiting(lambda: claimed_at(worker)) as future:
        with maker.database.transaction():
            time.sleep(0.8)
        released = time.time()
        task, at = future.result(LONG + 5)
    assert task is not None
    assert at - released < LATE


def test_a_thread_that_waits_keeps_no_other_thread_from_the_queue(queue: TaskQueue) -> None:
    with waiting(lambda: queue.claim("w", types="never", wait=1)) as future:
        started = time.monotonic()
        for _ in range(20):
            queue.enqueue("t")
            task = queue.claim("another")
            assert task is not None
            queue.complete(task)
        with queue.database.transaction():
            queue.enqueue("t")
        assert time.monotonic() - started < 0.8
        assert future.result(LONG) is None


# -- ends that nobody waited for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [None, 60])
def test_ctrl_c_ends_a_wait(queue: TaskQueue, hire: HIRE, wait: float | None) -> None:
    worker = hire()
    for _ in range(2):
        worker.begin(colleague.claim, "w", {"wait": wait})
        time.sleep(0.3)
        assert not worker.is_done
        started = time.monotonic()
        worker.signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            worker.result()
        assert time.monotonic() - started < LATE
    queue.enqueue("t")
    assert worker.run(colleague.claim, "w", {"wait": LONG})[0] is not None


def test_who_is_called_and_interrupted_passes_the_call_on(queue: TaskQueue, hire: HIRE) -> None:
    victim, heir = hire(), hire()
    for _ in range(6):
        victim.begin(colleague.claim, "victim", {"wait": LONG, "lease_seconds": 0.5})
        heir.begin(colleague.claim, "heir", {"wait": LONG, "lease_seconds": 60})
        time.sleep(0.1)
        queue.enqueue_many([{"type": "t"}] * 2)
        victim.signal(signal.SIGINT)
        assert heir.result()[0] is not None
        # The victim has either got the other task or left it; in both cases it comes to the heir in the end.
        with suppress(KeyboardInterrupt):
            assert victim.result()[0] is not None
        second, _ = heir.run(colleague.claim, "heir", {"wait": LONG, "lease_seconds": 60})
        assert second is not None


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside another process"])
@pytest.mark.parametrize("wait", [None, 30])
def test_closing_ends_the_waits_of_other_threads(
    open_queue: OPEN, hire: HIRE, wait: float | None, is_alone: bool
) -> None:
    if not is_alone:
        another = hire()  # keeps house, so that nobody here has to look for himself
        another.run(colleague.enqueue, "other")
        time.sleep(0.2)
    queue = open_queue()
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(queue.claim, "w", types="t", wait=wait),
            pool.submit(queue.wait, wait, "t"),
        ]
        time.sleep(0.3)
        started = time.monotonic()
        queue.close()
        assert time.monotonic() - started < LATE
        try:
            for future in futures:
                with pytest.raises(QueueProgrammingError, match="closed"):
                    future.result(LATE + 1.5)
        finally:
            with open_queue() as again:  # whoever waits still is to come out
                again.enqueue_many([{"type": "t"}] * 4)
                concurrent.futures.wait(futures, LONG)


def test_a_call_to_a_queue_that_was_closed_is_passed_on(open_queue: OPEN, hire: HIRE) -> None:
    another = hire()
    another.begin(colleague.claim, "w", {"wait": LONG})
    queue = open_queue()
    queue.enqueue("other")
    assert another.result()[0] is not None
    another.begin(colleague.claim, "w", {"wait": LONG})
    with waiting(lambda: queue.claim("closed", wait=LONG)) as future:
        queue.close()
        with open_queue() as maker:
            maker.enqueue_many([{"type": "t"}] * 2)
            made = time.time()
            task_id, at = another.result()
            assert task_id is not None
            assert at - made < LATE + 1.5
            with pytest.raises(QueueProgrammingError, match="closed"):
                future.result(LONG + 5)
            assert maker.claim("w", wait=LONG) is not None


# -- giving back ------------------------------------------------------------------------------------------------------


def test_what_is_released_is_as_if_it_had_never_been_claimed(queue: TaskQueue) -> None:
    queue.enqueue("t", {"n": 1}, max_attempts=2)
    first = queue.claim("w")
    assert first is not None
    queue.fail(first, "once", delay_seconds=0)
    before = queue.get(first.id or 0)
    second = queue.claim("w")
    assert before is not None
    assert second is not None
    queue.release(second)
    after = queue.get(first.id or 0)
    assert after is not None
    before.updated_at_utc = after.updated_at_utc
    assert after == before
    assert (second.status, second.lease_until_utc) == ("queued", None)
    last = queue.claim("another")
    assert last is not None
    assert last.attempts == 2
    assert queue.fail(last, "no more") == "dead_letter"


def test_only_a_claim_that_holds_can_be_released(queue: TaskQueue) -> None:
    queue.enqueue("t")
    task = queue.claim("w")
    assert task is not None
    queue.release(task)
    with pytest.raises(LeaseLostError, match="queued again"):
        queue.release(task)
    again = queue.claim("another")
    assert again is not None
    for stale in (queue.release, queue.complete):
        with pytest.raises(LeaseLostError, match="'another' holds it"):
            stale(task)
    queue.complete(again)
    with pytest.raises(LeaseLostError, match="already completed"):
        queue.release(again)
    with pytest.raises(InvalidTaskError, match="not claimed"):
        queue.release(Task("t"))


def test_a_released_claim_is_stale_for_the_same_worker_too(queue: TaskQueue) -> None:
    queue.enqueue("t")
    released = queue.claim("w")
    assert released is not None
    queue.release(released)
    current = queue.claim("w")
    assert current is not None
    with pytest.raises(LeaseLostError):
        queue.complete(released)


@pytest.mark.parametrize("strategy", ["priority", "fifo", "lifo", "weighted_random"])
def test_released_tasks_are_claimed_again_by_every_strategy(queue: TaskQueue, strategy: str) -> None:
    ids = queue.enqueue_many({"type": "t", "priority": n % 3} for n in range(9))
    for _ in range(3):
        for task in queue.claim_many("w", 9, strategy=strategy):
            queue.release(task)
    tasks = queue.claim_many("w", 20, strategy=strategy)
    assert sorted(task.id or 0 for task in tasks) == ids
    assert {task.attempts for task in tasks} == {1}


def test_a_task_released_in_a_transaction_comes_back_with_its_commit(open_queue: OPEN) -> None:
    holder, worker = open_queue(), open_queue()
    task = take(holder)
    with waiting(lambda: claimed_at(worker)) as future:
        with holder.database.transaction():
            holder.release(task)
            time.sleep(0.2)
            assert not future.done()
        assert future.result(LONG + 5)[0] is not None


# -- no call is lost --------------------------------------------------------------------------------------------------


def produce(queue: TaskQueue, seed: int, count: int) -> dict[int, float]:
    """Enqueue with pauses in which workers fall asleep; when each task was committed."""
    chance, made = random.Random(seed), {}
    while len(made) < count:
        size = chance.choice([1, 1, 1, 2, 5])
        ids, at = colleague.enqueue(queue, f"t{chance.randrange(3)}", size)
        made.update(dict.fromkeys(ids, at))
        time.sleep(chance.choice([0, 0.0002, 0.001, 0.003, 0.01]) * chance.random())
    return made


def test_no_call_is_lost_between_busy_processes(queue: TaskQueue, hire: HIRE) -> None:
    workers = [hire() for _ in range(4)]
    producers = [hire() for _ in range(2)]
    for number, worker in enumerate(workers):
        types = None if number % 2 else ["t0", "t1", "t2", "stop"]
        worker.begin(colleague.work_until_told, f"w{number}", {"wait": LONG, "types": types})
    for number, producer in enumerate(producers):
        producer.begin(produce, number, 1500)
    made: dict[int, float] = {}
    for producer in producers:
        made |= producer.result()
    colleague.stop(queue, len(workers))
    done: Counter[int] = Counter()
    gap = 0.0
    for worker in workers:
        claimed = worker.result()
        done.update(claimed.keys())
        gap = max([gap, *(at - made[task_id] for task_id, at in claimed.items())])
    assert done == Counter(made.keys())
    assert gap < LATE


def test_no_call_is_lost_between_threads_that_pass_one_task_on(queue: TaskQueue, open_queue: OPEN) -> None:
    """Each worker makes the next one's task, so that a lost call stops everything."""
    rounds, stations = 300, 4

    def work(number: int) -> float:
        own, longest = open_queue(), 0.0
        for turn in range(rounds):
            started = time.monotonic()
            task = own.claim(f"w{number}", types=f"t{number}", wait=LONG)
            assert task is not None, f"turn {turn}"
            longest = max(longest, time.monotonic() - started)
            with own.database.transaction():
                own.complete(task)
                own.enqueue(f"t{(number + 1) % stations}")
        return longest

    with ThreadPoolExecutor(stations) as pool:
        futures = [pool.submit(work, number) for number in range(stations)]
        queue.enqueue("t0")
        assert max(future.result(60) for future in futures) < LATE + 1


def test_waits_that_end_and_begin_lose_no_call(open_queue: OPEN) -> None:
    """Waits so short that calls often meet a worker that is just giving up."""
    maker = open_queue()
    stop = threading.Event()
    claimed: list[tuple[int, float]] = []

    def work(number: int) -> None:
        own, chance = open_queue(), random.Random(number)
        while not stop.is_set():
            task = own.claim(f"w{number}", wait=chance.choice([0.001, 0.003, 0.01]))
            if task is not None:
                claimed.append((task.id or 0, time.time()))

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work, number) for number in range(3)]
        made = produce(maker, 7, 300)
        deadline = time.monotonic() + LONG
        while len(claimed) < len(made) and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        for future in futures:
            future.result(LONG)
    assert sorted(task_id for task_id, _ in claimed) == sorted(made)
    assert max(at - made[task_id] for task_id, at in claimed) < LATE
