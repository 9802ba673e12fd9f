"""One run of a worker's loop: claims, hands tasks out to where they run, and ends in good order."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from prismq.asynchronous import Stop
from prismq.errors import QueueDatabaseError
from prismq.execution import WORKER_STOPS, Execution
from prismq.handlers import Handler
from prismq.models import Task
from prismq.outcome import Outcome, raised
from prismq.slots import EventLoop, Threads

if TYPE_CHECKING:
    from prismq.worker import WorkerEngine

_log = logging.getLogger("prismq.worker")

LOOK_SECONDS: Final = 0.5
"""How soon a signal that came right before falling asleep is handled."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between claims when the database gives errors."""
ABANDON_SECONDS: Final = 2.0
"""How long the end waits for what was told to end."""


class Shift:
    """What `WorkerEngine.run_loop` does. A thread claims; the calling one waits, so that signals reach it."""

    def __init__(self, engine: WorkerEngine, task_handler: Handler | None, most: int | None) -> None:
        self._engine = engine
        self._task_handler = task_handler
        self._left = math.inf if most is None else most
        self._clerk = engine.clerk()
        self._clerk.register(engine.capabilities, engine.heartbeat_seconds)
        self._stop = Stop()
        self._stopping = False
        self._calls: SimpleQueue[None] = SimpleQueue()  # unlike other queues', its put may interrupt another one
        self._idle = threading.Event()  # at the end: nothing runs any more
        self._lock = threading.Lock()  # guards what follows
        self._waiting: deque[Execution] = deque()
        self._running: set[Execution] = set()
        self._no_room = False  # the claimer wants to be called when there is
        self._finishing = False
        self._threads = Threads(self._ended, engine.open_slot)
        self._loop: EventLoop | None = None
        self._error: BaseException | None = None

    def stop(self) -> None:
        """Claim nothing more. Any thread may call it, a signal handler too."""
        if not self._stopping:
            self._stopping = True
            self._stop.set()
            self._calls.put(None)

    def run(self) -> None:
        """Until told to stop, or as often as was asked for; then until what runs has ended."""
        claimer = threading.Thread(target=self._claim_all, name="prismq-claim", daemon=True)
        with self._clerk:
            claimer.start()
            try:
                while claimer.is_alive():
                    claimer.join(LOOK_SECONDS)
                    if self._clerk.died:
                        self.stop()
                if not self._stopping:
                    self._drain(math.inf)
            except BaseException:  # Ctrl-C
                self.stop()
                raise
            finally:
                self._finish(claimer)
        if self._error is not None:
            raise self._error

    # -- claiming, in a thread of its own -----------------------------------------------------------------------------

    def _claim_all(self) -> None:
        pause = 0.0
        try:
            while not self._stopping and self._left > 0:
                room = min(self._room(), self._left)
                if room < 1:
                    self._calls.get()
                    continue
                try:
                    tasks = self._claim(int(room))
                except QueueDatabaseError as error:
                    pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                    _log.warning("worker %s can't claim, next try in %.1f s: %s", self._engine.worker_id, pause, error)
                    self._sleep(pause)
                    continue
                pause = 0.0
                self._left -= len(tasks) or 1
                self._take_on(tasks)
        except BaseException as error:
            self._error = error

    def _claim(self, limit: int) -> list[Task]:
        engine = self._engine
        return engine.queue.claim_many(
            engine.worker_id,
            limit,
            types=engine.types,
            capabilities=engine.capabilities,
            strategy=engine.scheduling_strategy,
            lease_seconds=engine.lease_seconds,
            wait=None if self._left == math.inf else engine.poll_interval_seconds,
            stop=self._stop,
        )

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            with suppress(Empty):
                self._calls.get(timeout=left)

    def _room(self) -> int:
        """How many tasks to claim: those for idle slots, and ahead of them once half of these are used up; else 0."""
        with self._lock:
            room = self._room_now()
            self._no_room = room == 0
            return room

    def _room_now(self) -> int:
        engine = self._engine
        free = self._slots() - len(self._running) - len(self._waiting)
        room = free + engine.prefetch
        return room if free > 0 or room > engine.prefetch // 2 else 0

    def _slots(self) -> int:
        return 1 if self._engine.wary else self._engine.concurrency

    def _take_on(self, tasks: list[Task]) -> None:
        if tasks:
            executions = self._clerk.hold(tasks)
            with self._lock:
                self._waiting.extend(executions)
            self._hand_out()

    # -- running ------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Begin what waits, as far as slots are free."""
        while True:
            with self._lock:
                if not self._waiting or len(self._running) >= self._slots() or self._stopping:
                    self._tell_of_room()
                    return
                execution = self._waiting.popleft()
                if execution.cancelled is not None:  # its lease is lost already
                    continue
                self._running.add(execution)
            try:
                plan = self._engine.plan(execution.task, self._task_handler)
            except Exception as error:  # a registry of somebody else's
                plan = raised(error)
            if isinstance(plan, Outcome):  # nobody can run it
                self._take_off(execution, plan)
                continue
            execution.plan = plan
            (self._event_loop() if plan.is_async else self._threads).start(execution)

    def _event_loop(self) -> EventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = EventLoop(self._ended)
            return self._loop

    def _ended(self, execution: Execution, outcome: Outcome | None) -> None:
        self._take_off(execution, outcome)
        self._hand_out()

    def _take_off(self, execution: Execution, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._clerk.settle(execution, outcome)
            if self._engine.wary:
                self._clerk.await_written()
        with self._lock:
            self._running.discard(execution)

    def look_for_room(self) -> None:
        """The number of slots has changed."""
        self._hand_out()

    def _tell_of_room(self) -> None:
        if self._no_room and self._room_now() > 0:
            self._no_room = False
            self._calls.put(None)
        if self._finishing and not self._running and (self._stopping or not self._waiting):
            self._idle.set()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _drain(self, seconds: float) -> None:
        """Wait until nothing runs, or until told to stop, up to so many seconds."""
        end = time.monotonic() + seconds
        with self._lock:
            self._finishing = True
            if not self._running and (self._stopping or not self._waiting):
                return
            self._idle.clear()
        stopping = self._stopping
        while self._stopping == stopping and (left := end - time.monotonic()) > 0:
            if self._idle.wait(min(left, LOOK_SECONDS)):
                return

    def _give_back_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        self._clerk.release(waiting)

    def _finish(self, claimer: threading.Thread) -> None:
        """Give back what was not begun, wait for the rest, then give that back too."""
        try:
            claimer.join()
            if self._stopping:
                self._give_back_waiting()
            self._drain(self._engine.grace_seconds)
        finally:
            self._give_back_waiting()
            with self._lock:
                running = [execution for execution in self._running if not execution.settled]
            for execution in running:
                task = execution.task
                if execution.begun and task.attempts < task.max_attempts:
                    self._clerk.settle(execution, Outcome("the worker was stopped before it was done", delay_seconds=0))
                else:  # that the worker stops is no reason to give a task up
                    self._clerk.release([execution])
                execution.cancel(WORKER_STOPS)
            if self._loop is not None:
                self._loop.end()
            self._threads.end(ABANDON_SECONDS)
