"""A process that runs functions for one slot of a worker: what kills it takes no other task down."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from contextlib import suppress
from datetime import datetime
from multiprocessing import connection, get_context, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final
from weakref import WeakSet

from prismq import signals
from prismq.errors import LeaseLostError, QueueDatabaseError
from prismq.execution import LEASE_LOST, Execution, Plan
from prismq.models import Task
from prismq.outcome import Outcome, raised
from prismq.slots import Run, call

SPAWN: Final = get_context("spawn")
CANCEL_GRACE_SECONDS: Final = 5.0
"""How long a handler that lost its lease may go on before its process is killed."""
TELL_SECONDS: Final = 0.1
"""Between two reports of progress to the worker."""
END_SECONDS: Final = 2.0
"""How long an idle process has to end."""

# What a child is told: a letter and a pickle.
_ORDER, _CANCEL, _RENEWED = b"O", b"C", b"R"


class Child:
    """Runs functions one after another in a process that lasts until one of them kills it; then in a new one."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()  # guards what is sent, and the process against being killed for a task that ended
        self._current: Execution | None = None

    def __enter__(self) -> Run:
        return self.run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, pipe = self._process, self._pipe
        if process is not None and pipe is not None:
            pipe.close()  # which ends it
            process.join(END_SECONDS)
            if process.exitcode is None:
                process.kill()
            self._bury(process)

    def run(self, execution: Execution) -> Outcome | None:
        """Run one to its end; None when it was killed for having been interrupted."""
        try:
            order = pickle.dumps((execution.plan, execution.task))
        except Exception as error:
            return Outcome(
                f"{type(error).__name__}: the handler can't be sent to a process, it has to be a function at the top "
                f"level of a module ({error})",
                retry=False,
            )
        process, pipe = self._start()
        with self._lock:
            self._current = execution
        execution.interrupt = lambda: self._interrupt(execution)
        if execution.cancelled is not None:
            self._interrupt(execution)
        try:
            with suppress(OSError):  # its death is noticed below
                self._send(_ORDER + order)
            outcome = self._listen(execution, process, pipe)
        finally:
            with self._lock:
                self._current = None
        if outcome is None:
            how = self._bury(process)
            if execution.cancelled is None:
                outcome = Outcome(f"ChildProcessError: the process that ran it {how}")
        return outcome

    def _start(self) -> tuple[BaseProcess, Connection]:
        if self._process is None or self._pipe is None or self._process.exitcode is not None:
            if self._process is not None:
                self._bury(self._process)
            self._pipe, theirs = SPAWN.Pipe()
            self._process = SPAWN.Process(target=_serve, args=(theirs,), name="prismq-child", daemon=True)
            with signals.kept_back():
                self._process.start()
            _alive.add(self._process)
            theirs.close()
        return self._process, self._pipe

    def _listen(self, execution: Execution, process: BaseProcess, pipe: Connection) -> Outcome | None:
        """Until the child tells how it ended, or has died: None."""
        while True:
            if pipe not in connection.wait([pipe, process.sentinel]) and not pipe.poll():
                return None
            try:
                what, value = pipe.recv()
            except (EOFError, OSError):
                return None
            if what == "ended":
                assert isinstance(value, Outcome)
                return value
            if what == "progress":
                execution.progress(*value)
            elif what == "log":
                execution.log(*value)
            else:
                self._send(_RENEWED + pickle.dumps(_renewed(execution, value)))

    def _send(self, message: bytes) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.send_bytes(message)

    def _interrupt(self, execution: Execution) -> None:
        if execution.cancelled != LEASE_LOST:
            self._kill(execution)
            return
        with suppress(OSError):
            self._send(_CANCEL + pickle.dumps(execution.cancelled))
        timer = threading.Timer(CANCEL_GRACE_SECONDS, self._kill, (execution,))
        timer.daemon = True
        timer.start()

    def _kill(self, execution: Execution) -> None:
        with self._lock:
            if self._current is execution and self._process is not None:
                self._process.kill()

    def _bury(self, process: BaseProcess) -> str:
        """How it ended."""
        process.join()
        code = process.exitcode
        process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        if code is not None and code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                by_system = " (by somebody, or by the system for want of memory)" if name == "SIGKILL" else ""
                return f"was killed by {name}{by_system}"
        return f"ended with exit code {code}"


_alive: WeakSet[BaseProcess] = WeakSet()


def _kill_all() -> None:
    for process in list(_alive):
        with suppress(ValueError):  # it was closed
            process.kill()


# At its end multiprocessing sends SIGTERM to what still runs, and would wait for ever for those that take no notice.
util.Finalize(None, _kill_all, exitpriority=0)


def _renewed(execution: Execution, seconds: float | None) -> datetime | QueueDatabaseError:
    try:
        return execution.renew(seconds)
    except QueueDatabaseError as error:
        return error


# -- in the child -----------------------------------------------------------------------------------------------------


class _LineToWorker:
    """The line of a handler in the child. What is sent at intervals is sent by a thread, so that no handler waits."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._untold: tuple[float, str] | None = None
        self._told = threading.Event()
        self._answers: SimpleQueue[datetime | QueueDatabaseError] = SimpleQueue()
        self.orders: SimpleQueue[bytes | None] = SimpleQueue()
        self.at_work = False
        self.cancelled: str | None = None
        threading.Thread(target=self._receive, name="prismq-receive", daemon=True).start()
        threading.Thread(target=self._tell_now_and_then, name="prismq-tell", daemon=True).start()

    def progress(self, fraction: float, note: str) -> None:
        self._untold = (fraction, note)
        self._told.set()

    def log(self, at: datetime, level: str, message: str, details: str | None) -> None:
        self._send("log", (at, level, message, details))

    def renew(self, seconds: float | None) -> datetime:
        self._send("renew", seconds)
        answer = self._answers.get()
        if isinstance(answer, QueueDatabaseError):
            if isinstance(answer, LeaseLostError):
                self.cancelled = LEASE_LOST
            raise answer
        return answer

    def end(self, outcome: Outcome) -> None:
        self._tell()
        self._send("ended", outcome)

    def _send(self, what: str, value: Any) -> None:
        with self._sending:
            self._pipe.send((what, value))

    def _tell(self) -> None:
        with self._sending:
            untold, self._untold = self._untold, None
            if untold is not None:
                self._pipe.send(("progress", untold))

    def _tell_now_and_then(self) -> None:
        while True:
            self._told.wait()
            self._told.clear()
            with suppress(OSError):
                self._tell()
            time.sleep(TELL_SECONDS)

    def _receive(self) -> None:
        while True:
            try:
                message = self._pipe.recv_bytes()
            except (EOFError, OSError):  # the worker has closed it, or is no more: nobody would take a result
                if self.at_work:
                    os._exit(1)
                self.orders.put(None)
                return
            kind, rest = message[:1], message[1:]
            if kind == _ORDER:
                self.orders.put(rest)
            elif kind == _CANCEL:
                self.cancelled = pickle.loads(rest)
            else:
                self._answers.put(pickle.loads(rest))


def _serve(pipe: Connection) -> None:
    # Signals go to the whole group; the worker decides what they mean. Programs that handlers start do get SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signals.let_through()
    line = _LineToWorker(pipe)
    while (order := line.orders.get()) is not None:
        line.at_work, line.cancelled = True, None
        try:
            plan, task = _understood(order)
            outcome = call(plan, task, line)
        except BaseException as error:
            outcome = raised(error)
        line.at_work = False
        with suppress(OSError):
            line.end(outcome)


def _understood(order: bytes) -> tuple[Plan, Task]:
    plan, task = pickle.loads(order)
    return plan, task
