"""Waiting for tasks in an event loop: nothing is held up, and who is cancelled keeps no task."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from prismq import InvalidTaskError, QueueProgrammingError, Task, TaskQueue
from prismq.driver import DriverName
from tests import colleague
from tests.colleague import Colleague

OPEN = Callable[..., TaskQueue]
HIRE = Callable[..., Colleague]
LATE = 2.0
LONG = 15.0


def waiting_threads() -> int:
    return sum(thread.name.startswith(("prismq-wait", "prismq-give-back")) for thread in threading.enumerate())


def until(condition: Callable[[], bool], seconds: float = LONG) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def leased(queue: TaskQueue) -> list[int]:
    return [row[0] for row in queue.database.execute("SELECT id FROM task_queue WHERE status = 'processing'")]


def test_the_loop_goes_on_while_claims_wait(queue: TaskQueue, open_queue: OPEN) -> None:
    maker = open_queue()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def main() -> list[Task | None]:
        ticker = asyncio.create_task(tick())
        claims = [asyncio.create_task(queue.aclaim(f"w{number}")) for number in range(5)]
        await asyncio.sleep(1)
        assert ticks > 20  # of 100
        assert not any(claim.done() for claim in claims)
        await asyncio.to_thread(maker.enqueue_many, [{"type": "t"}] * 5)
        tasks = await asyncio.wait_for(asyncio.gather(*claims), LONG)
        ticker.cancel()
        return tasks

    tasks = asyncio.run(main())
    assert sorted(task.id or 0 for task in tasks if task is not None) == [1, 2, 3, 4, 5]
    assert {task.locked_by for task in tasks if task is not None} == {f"w{number}" for number in range(5)}


def test_an_async_claim_is_called_by_another_process(queue: TaskQueue, hire: HIRE) -> None:
    maker = hire()

    async def main() -> float:
        claim = asyncio.create_task(queue.aclaim("w"))
        await asyncio.sleep(0.1)
        maker.begin(colleague.enqueue)
        task = await asyncio.wait_for(claim, LONG)
        assert task is not None
        return time.time()

    at = asyncio.run(main())
    assert at - maker.result()[1] < LATE


def test_an_async_claim_takes_what_is_there(queue: TaskQueue) -> None:
    first = queue.enqueue("t")
    queue.enqueue("other")

    async def main() -> list[Task | None]:
        return [
            await queue.aclaim("w", types="t", lease_seconds=600, strategy="fifo"),
            await queue.aclaim("w", types="t", wait=0),
        ]

    task, none = asyncio.run(main())
    assert none is None
    assert task is not None
    assert task.id == first
    queue.complete(task)


@pytest.mark.parametrize("seconds", [0.05, 0.4])
def test_an_async_wait_lasts_as_long_as_it_was_told(queue: TaskQueue, seconds: float) -> None:
    started = time.monotonic()
    assert asyncio.run(queue.aclaim("w", wait=seconds)) is None
    assert seconds <= time.monotonic() - started < seconds + 1


@pytest.mark.parametrize("options", [{"wait": -1}, {"wait": "1"}, {"wait": True}, {"types": []}, {"lease_seconds": 0}])
def test_an_async_claim_that_is_none_is_refused(queue: TaskQueue, options: dict[str, Any]) -> None:
    queue.enqueue("t")
    with pytest.raises(InvalidTaskError, match=next(iter(options))):
        asyncio.run(queue.aclaim("w", **options))
    assert leased(queue) == []


def test_an_async_claim_inside_the_loops_transaction_is_refused_at_once(queue: TaskQueue) -> None:
    async def main() -> float:
        with queue.database.transaction():
            started = time.monotonic()
            with pytest.raises(QueueProgrammingError, match="inside a transaction"):
                await queue.aclaim("w", wait=1)
            return time.monotonic() - started

    assert asyncio.run(main()) < LATE


def test_an_error_reaches_who_awaits(queue: TaskQueue) -> None:
    queue.database.execute("ALTER TABLE task_queue RENAME TO elsewhere")
    with pytest.raises(Exception, match="task_queue"):
        asyncio.run(queue.aclaim("w"))


def test_closing_the_queue_ends_an_async_wait(queue: TaskQueue) -> None:
    async def main() -> None:
        claim = asyncio.create_task(queue.aclaim("w"))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(queue.close)
        with pytest.raises(QueueProgrammingError, match="closed"):
            await asyncio.wait_for(claim, LATE + 1.5)

    asyncio.run(main())


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_a_cancelled_wait_ends_soon_and_leaves_nothing_behind(queue: TaskQueue) -> None:
    before = waiting_threads()

    async def main() -> float:
        claims = [asyncio.create_task(queue.aclaim(f"w{number}")) for number in range(5)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        for claim in claims:
            claim.cancel()
        ends = await asyncio.gather(*claims, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        return time.monotonic() - started

    assert asyncio.run(main()) < LATE
    until(lambda: waiting_threads() == before, LATE)
    queue.enqueue("t")
    task = queue.claim("w")
    assert task is not None
    assert task.attempts == 1


def test_a_timeout_around_a_claim_is_a_cancellation(queue: TaskQueue) -> None:
    before = waiting_threads()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.aclaim("w"), 0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await queue.aclaim("w")

    asyncio.run(main())
    until(lambda: waiting_threads() == before, LATE)


def test_a_call_to_a_cancelled_wait_is_passed_on(queue: TaskQueue, open_queue: OPEN) -> None:
    """Each round a task meets a wait that is cancelled at that moment, while another one sleeps."""
    maker, heir = open_queue(), open_queue()
    chance = random.Random(5)

    async def main() -> None:
        for _ in range(30):
            with ThreadPoolExecutor(2) as pool:
                claim = asyncio.create_task(queue.aclaim("cancelled"))
                await asyncio.sleep(0.01)
                inheriting = pool.submit(heir.claim, "heir", wait=LONG)
                await asyncio.sleep(0.01)
                making = pool.submit(maker.enqueue, "t")
                await asyncio.sleep(chance.random() * 0.002)
                claim.cancel()
                with suppress(asyncio.CancelledError):
                    task = await claim  # it was too late to cancel it
                    assert task is not None
                    queue.complete(task)
                    maker.enqueue("t")
                inherited = await asyncio.wrap_future(inheriting)
                assert inherited is not None
                assert inherited.id in (making.result(), making.result() + 1)
                assert inherited.attempts == 1
                heir.complete(inherited)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert leased(queue) == []


def test_claims_cancelled_at_any_moment_lose_no_task_and_no_attempt(queue: TaskQueue, open_queue: OPEN) -> None:
    before = waiting_threads()
    maker = open_queue()
    chance = random.Random(11)
    made: list[int] = []
    got: list[int] = []
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            made.append(maker.enqueue("t"))
            time.sleep(0.002)

    async def claim_or_give_up(number: int) -> None:
        claim = asyncio.create_task(queue.aclaim(f"w{number}", lease_seconds=3600))
        await asyncio.sleep(chance.random() * 0.006)
        claim.cancel()
        with suppress(asyncio.CancelledError):
            task = await claim
            assert task is not None
            assert task.attempts == 1
            got.append(task.id or 0)

    async def main() -> None:
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            await asyncio.gather(*(claim_or_give_up(number) for number in range(4)))
        await asyncio.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        producing = pool.submit(produce)
        try:
            asyncio.run(main())
        finally:
            stop.set()
        producing.result(LONG)
    until(lambda: waiting_threads() == before)
    assert got, "every claim was cancelled: nothing was tried"
    assert sorted(got) == leased(queue)
    rest = queue.claim_many("rest", len(made))
    assert {task.attempts for task in rest} <= {1}
    assert sorted([*got, *(task.id or 0 for task in rest)]) == made


def test_a_loop_that_ends_right_after_a_cancellation_leaves_no_task_leased(queue: TaskQueue, open_queue: OPEN) -> None:
    before = waiting_threads()
    maker = open_queue()
    chance = random.Random(3)
    made: list[int] = []
    claims: list[asyncio.Task[Task | None]] = []

    async def main() -> None:
        claims.append(asyncio.create_task(queue.aclaim("w", lease_seconds=3600)))
        await asyncio.sleep(0.003)
        threading.Timer(chance.random() * 0.001, lambda: made.append(maker.enqueue("t"))).start()
        await asyncio.sleep(chance.random() * 0.003)  # then asyncio.run() cancels the claim, and closes the loop

    for _ in range(150):
        asyncio.run(main())
    until(lambda: len(made) == 150)
    until(lambda: waiting_threads() == before)
    got = [claim.result() for claim in claims if not claim.cancelled()]
    assert leased(queue) == sorted(task.id or 0 for task in got if task is not None)
    assert 0 < len(got) < 150


def test_a_loop_closed_over_a_claim_gives_the_task_back(queue: TaskQueue) -> None:
    before = waiting_threads()
    loop = asyncio.new_event_loop()
    claim = loop.create_task(queue.aclaim("w"))
    loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()
    queue.enqueue("t")
    until(lambda: waiting_threads() == before)
    assert leased(queue) == []
    task = queue.claim("w")
    assert task is not None
    assert task.attempts == 1
    claim._log_destroy_pending = False  # type: ignore[attr-defined]


PROGRAM = """
import asyncio, sys
from prismq import TaskQueue

async def main(queue):
    claims = [asyncio.create_task(queue.aclaim(f"w{number}")) for number in range(3)]
    await asyncio.sleep(0.2)
    print("leaving", flush=True)

asyncio.run(main(TaskQueue(sys.argv[1], driver=sys.argv[2])))
"""


def test_a_program_that_ends_is_not_held_up_by_its_waits(queue: TaskQueue, path: Path, driver: DriverName) -> None:
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), driver], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "leaving\n", "")
    assert time.monotonic() - started < 10
    queue.enqueue("t")
    assert queue.claim("w") is not None


def test_ctrl_c_ends_a_program_whose_loop_waits(queue: TaskQueue, hire: HIRE) -> None:
    worker = hire()
    worker.begin(claim_in_a_loop)
    started = time.monotonic()
    while not worker.is_done and time.monotonic() - started < 20:  # on a busy machine one may come before the work
        time.sleep(0.5)
        worker.signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        worker.result(0)
    queue.enqueue("t")
    assert worker.run(colleague.claim, "w", {"wait": LONG})[0] is not None


def claim_in_a_loop(queue: TaskQueue) -> None:
    asyncio.run(queue.aclaim("w"))
