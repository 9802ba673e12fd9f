"""Runs a worker in several processes: starts them, replaces those that crash, and ends all without losing a task."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final

from prismq import clock, heartbeat, housekeeping, settings, signals, sql, worker_process
from prismq.database import QueueDatabase
from prismq.errors import ConfigError, QueueDatabaseError
from prismq.handler_config import load_handlers
from prismq.record import Record
from prismq.retry import RetryConfig
from prismq.worker_config import WorkerConfig
from prismq.worker_process import SPAWN, Assignment

_log = logging.getLogger(__name__)

STOPPED, FAILED, KILLED = 0, 1, 130
"""What `Supervisor.run` returns: all ended by themselves; some had to be killed; killed on demand."""
RESTART: Final = RetryConfig(initial_delay_seconds=1, max_delay_seconds=60)
END_SECONDS: Final = 20.0
"""How long a process may take to end after the grace period, before it is killed: what is left is written meanwhile."""
GOOD_WHILE_SECONDS: Final = 60.0
"""Who lived for so long and then crashes is replaced as after a first crash.

The replacement of a process that crashed with its tasks runs one at a time for so long: who crashes it then, is alone.
"""
ONE_SIGNAL_SECONDS: Final = 0.5
"""Signals closer together count as one: a terminal and a parent process may both send one."""
LOOK_SECONDS: Final = 0.5
"""How soon is noticed what wakes nobody: a signal on Windows, a death while programs that a handler started live on."""
CUT_SECONDS: Final = 1.0
"""How long a process may go on that has closed what tells of its death."""


@dataclass
class _Place:
    """A process that there should be."""

    number: int
    crashes: int = 0
    """In a row."""
    false_starts: int = 0
    """In a row, of processes that failed before they could claim anything."""
    start_at: float = 0.0
    """Monotonic."""
    lost: int = 0
    """How many tasks ran in the last process when it crashed."""
    child: _Child | None = None


@dataclass(frozen=True)
class _Child:
    """A process that there is."""

    worker_id: str
    process: SpawnProcess
    control: Connection
    record: Record
    started_at: float


class Supervisor:
    """A worker in `config.processes` processes, each a WorkerEngine with the handlers that `handlers` names.

    `handlers` is what `load_handlers` takes. `database` is a path, None for the default one. All of it is checked here,
    before any process starts: ConfigError, QueueDatabaseError. `run` it in the main thread to have signals heard.
    """

    def __init__(
        self,
        handlers: str,
        config: WorkerConfig,
        database: str | os.PathLike[str] | None = None,
        *,
        log_level: str = "INFO",
        restart: RetryConfig = RESTART,
    ) -> None:
        known = load_handlers(handlers).get_registered_types()
        if unknown := sorted(set(config.types or ()) - known):
            raise ConfigError(
                f"types has {unknown[0]!r}, for which {handlers} has no handler; it has {', '.join(sorted(known))}"
            )
        self.handlers = handlers
        self.config = replace(config, types=config.types or tuple(sorted(known)))
        self.database = Path(settings.get_default_db_path() if database is None else database).absolute()
        self.restart = restart
        self._log_level = log_level
        self._places = [_Place(number) for number in range(1, config.processes + 1)]
        self._woken, self._wake = SPAWN.Pipe(duplex=False)
        self._stopped_at: float | None = None
        self._kill = self._told = False
        self._status = STOPPED
        with QueueDatabase(self.database, durability=config.durability) as queue:
            queue.initialize_schema()

    def stop(self) -> None:
        """Have all processes finish what they run, or give it back after the grace period, and end. Returns at once."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
            self._wake.send_bytes(b"stop")

    def kill(self) -> None:
        """End all processes at once. Their tasks come back as if their leases had run out. Returns at once."""
        self.stop()
        self._kill = True
        self._wake.send_bytes(b"kill")

    def run(self) -> int:
        """Keep the processes running until `stop`; returns STOPPED, FAILED or KILLED. May be called once."""
        with QueueDatabase(self.database, durability=self.config.durability) as database, self._hearing_signals():
            try:
                return self._supervise(database)
            finally:
                for child in self._children():  # only if this has failed itself
                    child.process.kill()
                    self._bury(child, database)

    def _supervise(self, database: QueueDatabase) -> int:
        config = self.config
        types = ", ".join(config.types or ())
        _log.info(
            "%s; processes: %d; types: %s; database: %s", config.worker_id, config.processes, types, self.database
        )
        while True:
            now = time.monotonic()
            for place in self._places:
                if place.child is not None and not place.child.process.is_alive():
                    self._ended(place, place.child, database)
            if self._stopped_at is None:
                ends = self._start_what_is_due(now)
            elif self._children():
                ends = self._end_what_is_left(now)
            else:
                _log.info("stopped")
                return self._status
            sentinels = {child.process.sentinel: child for child in self._children()}
            for ready in wait([self._woken, *sentinels], max(0.0, min(ends - now, LOOK_SECONDS))):
                if isinstance(ready, int):
                    _see_ended(sentinels[ready])
            while self._woken.poll():
                self._woken.recv_bytes()

    def _start_what_is_due(self, now: float) -> float:
        """Returns when there is more to start."""
        for place in self._places:
            if place.child is None and place.start_at <= now:
                self._start(place)
        return min((place.start_at for place in self._places if place.child is None), default=math.inf)

    def _end_what_is_left(self, now: float) -> float:
        """Tell all to end, or kill them; returns when their time is up."""
        if not self._told:
            self._told = True
            _log.info("stopping; running tasks have %g s", self.config.grace_seconds)
            for child in self._children():
                child.control.close()
        ends = now if self._stopped_at is None else self._stopped_at + self.config.grace_seconds + END_SECONDS
        if self._kill or now >= ends:
            self._status = KILLED if self._kill else FAILED
            for child in self._children():
                _log.error("killing %s", child.worker_id)
                child.process.kill()
                child.process.join()
        return ends

    def _children(self) -> list[_Child]:
        return [place.child for place in self._places if place.child is not None]

    def _start(self, place: _Place) -> None:
        worker_id = f"{self.config.worker_id}-{place.number}-{secrets.token_hex(3)}"
        with ExitStack() as failed:
            try:
                record = Record(self.config.concurrency)
                wary = GOOD_WHILE_SECONDS if place.lost else 0.0
                assignment = Assignment(
                    worker_id, self.config, self.handlers, self.database, self._log_level, record, wary
                )
                theirs, ours = SPAWN.Pipe(duplex=False)
                failed.enter_context(ours)
                process = SPAWN.Process(target=worker_process.run, args=(assignment, theirs), name=worker_id)
                with theirs, signals.kept_back():
                    process.start()
            except OSError as error:
                self._try_again(place, f"{worker_id} can't be started: {error}", 0, at_work=False)
                return
            failed.pop_all()
        place.child = _Child(worker_id, process, ours, record, time.monotonic())
        _log.info("%s started as process %d", worker_id, process.pid)

    def _ended(self, place: _Place, child: _Child, database: QueueDatabase) -> None:
        place.child = None
        code, place.lost = self._bury(child, database)
        if self._stopped_at is None:
            lived = time.monotonic() - child.started_at
            self._try_again(place, f"{child.worker_id} {_how(code)}", lived, child.record.at_work)
        else:
            _log.log(logging.ERROR if code else logging.INFO, "%s %s", child.worker_id, _how(code))
            self._status = self._status or (FAILED if code else STOPPED)

    def _try_again(self, place: _Place, what: str, lived: float, at_work: bool) -> None:
        """See to it that another process starts, unless none ever gets to work."""
        place.crashes = 1 if lived >= GOOD_WHILE_SECONDS else place.crashes + 1
        place.false_starts = 0 if at_work else place.false_starts + 1
        if all(place.false_starts > self.config.max_false_starts for place in self._places):
            _log.critical("%s, as all did since %d tries", what, place.false_starts)
            self._status = FAILED
            self.stop()
            return
        pause = self.restart.delay_seconds(place.crashes)
        place.start_at = time.monotonic() + pause
        _log.error("%s; another one starts in %.1f s", what, pause)

    def _bury(self, child: _Child, database: QueueDatabase) -> tuple[int, int]:
        """Let go of a process, take its tasks back and strike it off; its exit status, and how many it had begun."""
        lost = 0
        child.process.join()
        code = child.process.exitcode or 0
        child.process.close()
        child.control.close()
        try:
            lost = _take_back(database, child.worker_id, child.record.begun())
            heartbeat.remove(database, child.worker_id)
        except QueueDatabaseError as error:
            _log.error("tasks of %s come back when their leases end, not yet: %s", child.worker_id, error)
        return code, lost

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:  # as nohup has it
                    signal.signal(number, self._heard)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._stopped_at is None or time.monotonic() - self._stopped_at < ONE_SIGNAL_SECONDS:
            self.stop()
        else:
            self.kill()


def _see_ended(child: _Child) -> None:
    """Kill a process that lives although it looks dead: a handler has closed all its files, the queue's too."""
    end = time.monotonic() + CUT_SECONDS
    while child.process.is_alive():
        if time.monotonic() > end:
            _log.error("killing %s: one of its handlers has closed files that it needs", child.worker_id)
            child.process.kill()
            child.process.join()
        time.sleep(0.005)


def _take_back(database: QueueDatabase, worker_id: str, begun: set[tuple[int, int]]) -> int:
    """What a dead worker has begun comes back as if its leases had run out; the rest as if it had not been claimed.

    How many it had begun.
    """
    now = clock.to_text(clock.now())
    with database.transaction():
        for task_id, attempt in database.execute(sql.HELD_BY, (worker_id,)).fetchall():
            if (task_id, attempt) not in begun:
                database.execute(sql.UNCLAIM, (task_id, worker_id, attempt, now))
        lost = database.execute(sql.END_LEASES, (now, worker_id)).rowcount
    while lost > 0 and housekeeping.reap(database.get_connection()):
        pass
    return lost


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
