"""Writers wait for the write lock in turn, say so when it takes too long, and never wait for themselves."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import QueueBusyError, TaskQueue, native
from tests import colleague
from tests.colleague import Colleague

OPEN = Callable[..., TaskQueue]
HIRE = Callable[..., Colleague]
LATE = 2.0
IS_COMPILED = native.load() is not None


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets something for all queues opened from now on."""
    file = tmp_path / "prismq.toml"
    monkeypatch.setenv("PRISMQ_SETTINGS", str(file))

    def add(name: str, value: int) -> None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{name} = {value}\n")

    return add


@pytest.fixture
def half_a_second(preset: Callable[..., None]) -> float:
    """How long connections opened from now on wait for the lock."""
    preset("busy_timeout", 500)
    return 0.5


def statuses(queue: TaskQueue) -> list[str]:
    return [row[0] for row in queue.database.execute("SELECT status FROM task_queue ORDER BY id")]


# -- a thread in its own way ------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[TaskQueue], object]] = {
    "enqueue": lambda queue: queue.enqueue("t"),
    "enqueue_many": lambda queue: queue.enqueue_many([{"type": "t"}] * 2),
    "claim": lambda queue: queue.claim("w"),
    "a waiting claim": lambda queue: queue.claim("w", wait=1),
    "cancel": lambda queue: queue.cancel(1),
    "plain SQL": lambda queue: queue.database.execute("UPDATE task_queue SET priority = 1"),
    "transaction": lambda queue: queue.database.transaction().__enter__(),
}


@pytest.mark.skipif(not IS_COMPILED, reason="nobody knows who holds the lock without the compiled module")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_thread_that_waits_for_itself_is_told_at_once(open_queue: OPEN, operation: str) -> None:
    one, other = open_queue(), open_queue()
    one.enqueue("t")
    other.enqueue("t")
    with one.database.transaction():
        one.enqueue("mine")
        started = time.monotonic()
        with pytest.raises(QueueBusyError, match="locked by this very thread"):
            OPERATIONS[operation](other)
        assert time.monotonic() - started < LATE
    assert statuses(one) == ["queued"] * 3  # the transaction was not disturbed
    other.enqueue("t")  # and the other connection works once the lock is free
    assert other.claim("w") is not None


@pytest.mark.skipif(not IS_COMPILED, reason="nobody knows who holds the lock without the compiled module")
def test_reading_beside_ones_own_transaction_is_fine(open_queue: OPEN) -> None:
    one, other = open_queue(), open_queue()
    task_id = one.enqueue("t")
    other.claim("w", types="none")
    with one.database.transaction():
        one.enqueue("mine")
        assert other.claim("w", types="none") is None
        assert other.wait(0) is True
        assert other.get(task_id) is not None


def test_two_threads_that_wait_for_each_others_files_are_told(half_a_second: float, tmp_path: Path) -> None:
    """Each has the write lock of one file and wants the other's: who has waited for long enough gives up."""
    both_hold = threading.Barrier(2)

    def cross(names: tuple[str, str]) -> str:
        with TaskQueue(tmp_path / names[0]) as own, TaskQueue(tmp_path / names[1]) as other:
            try:
                with own.database.transaction():
                    own.enqueue("own")
                    both_hold.wait(10)
                    other.enqueue("other's")
            except QueueBusyError as error:
                own.enqueue("later")  # no transaction is left open
                return str(error)
            return "done"

    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(cross, [("a.db", "b.db"), ("b.db", "a.db")]))
    told = [end for end in ends if end != "done"]
    assert told
    assert all(re.search(r"waiting 0\.[5-9]", end) for end in told)


@pytest.mark.parametrize("finish", ["commit", "rollback", "close"])
def test_what_a_thread_held_earlier_is_forgotten(open_queue: OPEN, finish: str) -> None:
    one, other = open_queue(), open_queue()
    other.enqueue("t")
    connection = one.database.get_connection()
    connection.execute("BEGIN IMMEDIATE")
    if finish == "close":
        one.close()
    else:
        getattr(connection, finish)()
    other.enqueue("t")
    with other.database.transaction():
        pass
    one.enqueue("t")


def test_another_thread_of_the_process_just_waits(open_queue: OPEN) -> None:
    one, other = open_queue(), open_queue()
    one.enqueue("t")
    with ThreadPoolExecutor(1) as pool:
        with one.database.transaction():
            waiting = pool.submit(other.enqueue, "t")
            time.sleep(0.3)
            assert not waiting.done()
        assert waiting.result(LATE) == 2


# -- waiting too long -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["one of us", "a foreign program"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_who_waits_too_long_is_told_how_long(
    half_a_second: float, open_queue: OPEN, path: Path, operation: str, holder: str
) -> None:
    queue = open_queue()
    queue.enqueue("t")
    foreign = apsw.Connection(str(path))  # by the default VFS: takes no turn
    held = open_queue().database.get_connection().apsw if holder == "one of us" else foreign
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.execute, "BEGIN IMMEDIATE").result()
        started = time.monotonic()
        with pytest.raises(QueueBusyError, match=r"database is locked .*after waiting \d\.\d s") as caught:
            OPERATIONS[operation](queue)
        waited = time.monotonic() - started
        pool.submit(held.execute, "ROLLBACK").result()
    said = re.search(r"after waiting (\d\.\d) s", str(caught.value))
    assert half_a_second <= waited < half_a_second + LATE
    assert said is not None
    assert abs(float(said[1]) - waited) < 0.5
    assert "keeps a write transaction open" in str(caught.value)
    foreign.close()
    queue.enqueue("t")


def test_those_who_wait_all_get_their_turn_soon_after_a_long_transaction(open_queue: OPEN) -> None:
    holder = open_queue()
    others = [open_queue() for _ in range(6)]
    holder.enqueue("t")
    with ThreadPoolExecutor(len(others)) as pool:
        with holder.database.transaction():
            futures = [pool.submit(lambda one=one: (one.enqueue("t"), time.monotonic())) for one in others]
            time.sleep(1)
            assert not any(future.done() for future in futures)
        released = time.monotonic()
        assert max(future.result(LATE)[1] for future in futures) - released < LATE


def test_a_writer_that_gave_up_keeps_nobody_waiting(
    half_a_second: float, open_queue: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = [open_queue() for _ in range(3)]
    for one in impatient:
        one.enqueue("t")
    monkeypatch.undo()
    holder, patient = open_queue(), open_queue()
    holder.enqueue("t")
    patient.enqueue("t")
    with ThreadPoolExecutor(4) as pool:
        with holder.database.transaction():
            giving_up = [pool.submit(one.enqueue, "t") for one in impatient]
            waiting = pool.submit(patient.enqueue, "t")
            for future in giving_up:
                with pytest.raises(QueueBusyError):
                    future.result(half_a_second + LATE)
            assert not waiting.done()
        waiting.result(LATE)
        for one in impatient:
            one.enqueue("t")


# -- turns ------------------------------------------------------------------------------------------------------------


def write_without_pause(queue: TaskQueue, seconds: float, in_blocks: bool) -> tuple[int, float]:
    """How many transactions there were, and how long the slowest took."""
    count, longest, now = 0, 0.0, time.monotonic()
    ends = now + seconds
    while now < ends:
        if in_blocks:
            with queue.database.transaction():
                queue.enqueue("t")
                queue.database.execute("UPDATE task_queue SET priority = 7 WHERE id = 1")
        else:
            queue.enqueue("t")
        count += 1
        longest = max(longest, time.monotonic() - now)
        now = time.monotonic()
    return count, longest


def test_writers_without_a_pause_starve_nobody(queue: TaskQueue, hire: HIRE) -> None:
    writers = [hire() for _ in range(4)] + [hire("auto")]
    queue.enqueue("t")
    for number, writer in enumerate(writers):
        writer.begin(write_without_pause, 2.0, number % 2 == 1)
    results = [writer.result() for writer in writers]  # no QueueBusyError
    assert max(longest for _, longest in results) < LATE
    counts = [count for count, _ in results]
    assert sum(counts) == len(statuses(queue)) - 1
    assert min(counts) > sum(counts) / 100


def test_threads_and_processes_with_and_without_the_module_take_turns(
    queue: TaskQueue, open_queue: OPEN, hire: HIRE
) -> None:
    outsider, colleague_ = hire("python", compiled=False), hire()
    others = [open_queue() for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        outsider.begin(write_without_pause, 1.5, False)
        colleague_.begin(write_without_pause, 1.5, True)
        futures = [pool.submit(write_without_pause, one, 1.5, number == 1) for number, one in enumerate(others)]
        results = [future.result(30) for future in futures] + [outsider.result(), colleague_.result()]
    assert sum(count for count, _ in results) == len(statuses(queue))
    assert min(count for count, _ in results) > 5
    assert max(longest for _, longest in results) < LATE + 1


def test_a_busy_file_lets_a_late_comer_in(queue: TaskQueue, hire: HIRE) -> None:
    writers = [hire() for _ in range(3)]
    for writer in writers:
        writer.begin(write_without_pause, 2.0, True)
    longest = 0.0
    for _ in range(30):
        started = time.monotonic()
        queue.enqueue("late")
        longest = max(longest, time.monotonic() - started)
        time.sleep(0.03)
    for writer in writers:
        writer.result()
    assert longest < LATE


def test_readers_never_wait_for_a_writer(open_queue: OPEN) -> None:
    writer, reader = open_queue(), open_queue()
    task_id = writer.enqueue("t")
    release = threading.Event()

    def hold() -> None:
        with writer.database.transaction():
            writer.enqueue("t")
            release.wait(30)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        time.sleep(0.1)
        started = time.monotonic()
        assert reader.get(task_id) is not None
        assert reader.wait(0) is True
        assert time.monotonic() - started < 1
        release.set()
        holding.result()


def increment(queue: TaskQueue, times: int) -> None:
    for _ in range(times):
        with queue.database.transaction():
            (value,) = queue.database.execute("SELECT value FROM counter").fetchone()
            queue.database.execute("UPDATE counter SET value = ?", (value + 1,))


def test_only_one_at_a_time_has_the_lock(queue: TaskQueue, hire: HIRE) -> None:
    queue.database.execute("CREATE TABLE counter (value INTEGER)")
    queue.database.execute("INSERT INTO counter VALUES (0)")
    others: list[Any] = [hire() for _ in range(3)]
    for one in others:
        one.begin(increment, 300)
    increment(queue, 300)
    for one in others:
        one.result()
    assert queue.database.execute("SELECT value FROM counter").fetchone()[0] == 1200


def test_a_foreign_programs_transaction_is_waited_out(queue: TaskQueue, hire: HIRE, tmp_path: Path) -> None:
    flag = tmp_path / "locked"
    foreign = hire("python", compiled=False)
    foreign.begin(colleague.sleep_in_transaction, str(flag), 0.6)
    deadline = time.monotonic() + 30
    while not flag.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started = time.monotonic()
    queue.enqueue("t")
    assert time.monotonic() - started < 0.6 + LATE
    foreign.result()


# -- while a reader lets the log grow ---------------------------------------------------------------------------------

LIMIT = 16 * 1024 * 1024
BATCH = [{"type": "t", "payload": {"body": "x" * 20_000}}] * 10


@pytest.fixture
def small_limit(preset: Callable[..., None]) -> None:
    """The log is as long as it may be soon. Counts for the process that keeps house, which is this one."""
    preset("wal_limit_bytes", LIMIT)


def log_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def write_until_refused(queue: TaskQueue, path: Path, seconds: float) -> tuple[QueueBusyError | None, int]:
    """What said at last that nobody writes any more, and how long the log was at most."""
    longest, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            queue.enqueue_many(BATCH)
        except QueueBusyError as error:
            return error, longest
        longest = max(longest, log_bytes(path))
    return None, longest


def test_the_log_stays_within_its_limit_while_a_reader_holds_it(
    small_limit: None, half_a_second: float, open_queue: OPEN, path: Path
) -> None:
    queue = open_queue()
    queue.enqueue_many(BATCH)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task_queue").fetchall()
    refused, longest = write_until_refused(queue, path, 30)
    assert refused is not None
    assert "reader" in str(refused)
    # It was slowed down on the way: what is written between two looks is far less than a quarter.
    assert LIMIT * 0.8 < longest < LIMIT * 1.25
    assert queue.get(1) is not None  # reading goes on
    assert queue.wait(0) is True

    reader.execute("COMMIT")
    ended = time.monotonic()
    while True:  # and soon everybody writes again
        try:
            queue.enqueue_many(BATCH)
            break
        except QueueBusyError:
            assert time.monotonic() - ended < 3 * LATE
    started = time.monotonic()
    for _ in range(20):
        queue.enqueue_many(BATCH)
    assert time.monotonic() - started < 3 * LATE
    assert log_bytes(path) < LIMIT * 1.25
    reader.close()


def test_writers_are_slowed_down_before_they_are_stopped(small_limit: None, queue: TaskQueue, path: Path) -> None:
    def seconds_of(batches: int) -> float:
        started = time.monotonic()
        for _ in range(batches):
            queue.enqueue_many(BATCH)
        return time.monotonic() - started

    queue.enqueue_many(BATCH)
    quick = seconds_of(10)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task_queue").fetchall()
    while log_bytes(path) < LIMIT * 0.7:
        queue.enqueue_many(BATCH)
    time.sleep(0.3)
    assert seconds_of(5) > quick
    reader.execute("COMMIT")
    reader.close()


def test_transactions_and_claims_go_on_under_a_held_log(small_limit: None, queue: TaskQueue, path: Path) -> None:
    queue.enqueue_many(BATCH)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task_queue").fetchall()
    while log_bytes(path) < LIMIT * 0.5:
        queue.enqueue_many(BATCH)
    for _ in range(3):
        task = queue.claim("w", wait=LATE)
        assert task is not None
        queue.complete(task)
        with queue.database.transaction():
            queue.enqueue("t")
    reader.execute("COMMIT")
    reader.close()
