"""Other processes at work on a test's queue, told over a pipe what to do."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prismq import TaskQueue
from prismq.driver import DriverChoice

SPAWN = multiprocessing.get_context("spawn")


class Colleague:
    """A process with the queue open that runs what it is given, one thing at a time.

    With `compiled=False` it is one where the compiled module is not installed.
    """

    def __init__(self, path: Path, driver: DriverChoice = "auto", *, compiled: bool = True) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, str(path), driver, compiled), daemon=True)
        self.process.start()
        theirs.close()
        self.result()

    def begin(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Have it run `work(queue, *arguments)`; `work` is a function of a module."""
        self._pipe.send((work, arguments))

    def result(self, timeout: float = 60) -> Any:
        """What the work returned; raises what it raised."""
        if not self._pipe.poll(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        succeeded, value = self._pipe.recv()
        if not succeeded:
            raise value
        return value

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self.begin(work, *arguments)
        return self.result()

    @property
    def is_done(self) -> bool:
        return self._pipe.poll()

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it without a chance to put anything in order."""
        self.process.kill()
        self.process.join()  # not by the pipe that shows its end: a child of its own may hold that

    def dismiss(self) -> None:
        """Have it close the queue and end."""
        if self.process.is_alive():
            self._pipe.send(None)
        self.process.join(60)
        assert self.process.exitcode == 0


def _serve(pipe: Any, path: str, driver: DriverChoice, compiled: bool) -> None:
    if not compiled:
        sys.modules["prismq._native"] = None  # type: ignore[assignment]
    at_work = False

    def interrupt(number: int, frame: object) -> None:
        if at_work:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    with TaskQueue(path, driver=driver) as queue:
        answer: tuple[bool, Any] = (True, queue.driver_name)
        while True:
            try:
                pipe.send(answer)
                order = pipe.recv()
            except (EOFError, OSError):  # the test is over
                return
            if order is None:
                return
            work, arguments = order
            try:
                at_work = True
                answer = (True, work(queue, *arguments))
                at_work = False
            except BaseException as error:
                at_work = False
                answer = (False, _sendable(error))


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return error


# -- what they do -----------------------------------------------------------------------------------------------------


def claim(queue: TaskQueue, worker: str, options: dict[str, Any]) -> tuple[int | None, float]:
    """The claimed task's id, and when it was there."""
    task = queue.claim(worker, **options)
    return None if task is None else task.id, time.time()


def wait(queue: TaskQueue, *arguments: Any) -> bool:
    return queue.wait(*arguments)


def enqueue(queue: TaskQueue, kind: str = "t", count: int = 1) -> tuple[list[int], float]:
    """The new tasks' ids, and when they were there."""
    ids = queue.enqueue_many([{"type": kind}] * count)
    return ids, time.time()


def add_at_once(queue: TaskQueue) -> int:
    """With a short patience: whoever leaves a transaction open is found out."""
    queue.database.get_connection().apsw.set_busy_timeout(1000)
    return queue.enqueue("from another process")


def work_until_told(queue: TaskQueue, worker: str, options: dict[str, Any]) -> dict[int, float]:
    """Claim and complete until there is a task to stop; when each task was claimed."""
    done = {}
    while (task := queue.claim(worker, **options)) is not None:
        at = time.time()
        queue.complete(task)
        if task.type == "stop":
            return done
        done[task.id or 0] = at
    raise TimeoutError("nobody told it to stop")


def stop(queue: TaskQueue, workers: int) -> None:
    """Tell so many who `work_until_told` to stop when nothing else is left."""
    queue.enqueue_many([{"type": "stop", "priority": 1_000_000}] * workers)


def sleep_in_transaction(queue: TaskQueue, flag: str, seconds: float) -> None:
    """Hold the write lock; the file `flag` says that it is held."""
    with queue.database.transaction():
        queue.enqueue("never committed")
        Path(flag).touch()
        time.sleep(seconds)


def can_stop() -> bool:
    """Whether this system can stop a process and let it go on."""
    return hasattr(signal, "SIGSTOP")
