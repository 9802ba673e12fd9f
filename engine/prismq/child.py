"""A process that runs functions for one slot of a worker: what kills it takes no other task down."""

from __future__ import annotations

import logging
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
from prismq.errors import LeaseLostError, QueueDatabaseError, QueueProgrammingError
from prismq.execution import LEASE_LOST, Execution, Plan
from prismq.models import Task
from prismq.outcome import NOT_BEGUN, Outcome, raised
from prismq.slots import Run, call

_log = logging.getLogger("prismq.worker")

SPAWN: Final = get_context("spawn")
CANCEL_GRACE_SECONDS: Final = 5.0
"""How long a handler that lost its lease may go on before its process is killed."""
TELL_SECONDS: Final = 0.1
"""Between two reports of progress to the worker."""
END_SECONDS: Final = 2.0
"""How long a process has to end that is idle, or has closed its end of the pipe."""
BURIAL_SECONDS: Final = 0.005
"""Between two looks whether it has ended."""
LOOK_SECONDS: Final = 0.5
"""How soon a death is noticed that the system does not tell of: programs that handlers start may hold what would."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between tries when no process can be started."""


class Child:
    """Runs functions one after another in a process that lasts until one of them kills it; then in a new one."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()  # guards what is sent, and the process against being killed for a task that ended
        self._current: Execution | None = None
        self._number = 0  # of the order; what is said about another one counts no more
        self._doomed = False  # it was killed, which takes effect in a moment
        self._pause = 0.0

    def __enter__(self) -> Run:
        return self.run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, pipe = self._process, self._pipe
        if process is not None and pipe is not None:
            pipe.close()  # which ends it
            self._bury(process)

    def run(self, execution: Execution) -> Outcome | None:
        """Run one to its end; None when it was killed for having been interrupted.

        NOT_BEGUN, after a pause, when no process can be started for it.
        """
        try:
            order = pickle.dumps((execution.plan, execution.task))
        except Exception as error:
            return Outcome(
                f"{type(error).__name__}: the handler can't be sent to a process, it has to be a function at the top "
                f"level of a module ({error})",
                retry=False,
            )
        try:
            process, pipe = self._start()
        except OSError as error:
            self._rest(execution, error)
            return NOT_BEGUN
        self._pause = 0.0
        with self._lock:
            self._current = execution
            self._number += 1
        execution.begin()
        execution.interrupt = lambda: self._interrupt(execution)
        if execution.cancelled is not None:
            self._interrupt(execution)
        try:
            self._send("order", order)
            outcome = self._listen(execution, process, pipe)
        finally:
            with self._lock:
                self._current = None
        if outcome is None or self._doomed:
            how = self._bury(process)
            if outcome is None and execution.cancelled is None:
                outcome = Outcome(f"ChildProcessError: the process that ran it {how}")
        return outcome

    def _start(self) -> tuple[BaseProcess, Connection]:
        """The process that there is, or a new one once it is there: that is not a handler's time. OSError."""
        if self._process is not None and self._process.exitcode is not None:
            self._bury(self._process)
        if self._process is None or self._pipe is None:
            pipe, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=_serve, args=(theirs,), name="prismq-child", daemon=True)
            try:
                with theirs, signals.kept_back():
                    process.start()
            except OSError:
                pipe.close()
                raise
            _alive.add(process)
            self._process, self._pipe = process, pipe
            try:
                pipe.recv()  # that it is ready
            except (EOFError, OSError) as error:
                raise ChildProcessError(f"it {self._bury(process)}") from error
        return self._process, self._pipe

    def _rest(self, execution: Execution, error: OSError) -> None:
        """Until another try is worth it, or the worker stops."""
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        _log.error(
            "no process can be started for task %s, it is given back; next try in %.1f s: %s",
            *(execution.task_id, self._pause, error),
            extra={"task_id": execution.task_id},
        )
        cancelled = threading.Event()
        execution.interrupt = cancelled.set
        if execution.cancelled is None:
            cancelled.wait(self._pause)

    def _listen(self, execution: Execution, process: BaseProcess, pipe: Connection) -> Outcome | None:
        """Until the child tells how it ended, or has died: None."""
        while True:
            ready = connection.wait([pipe, process.sentinel], LOOK_SECONDS)
            with self._lock:  # nobody kills what this look may take from the table of processes
                dead = process.exitcode is not None
            if pipe not in ready and not pipe.poll():
                if dead or ready:
                    return None
                continue
            try:
                number, what, value = pipe.recv()
            except (EOFError, OSError):
                return None
            if number != self._number:  # a thread that a handler has left behind
                if what == "renew":
                    self._send("answer", QueueProgrammingError("the handler whose lease this was has ended"))
            elif what == "ended":
                assert isinstance(value, Outcome)
                return value
            elif what == "progress":
                execution.progress(*value)
            elif what == "log":
                execution.log(*value)
            else:
                self._send("answer", _renewed(execution, value))

    def _send(self, kind: str, content: object) -> None:
        with self._lock, suppress(OSError):  # its death is noticed elsewhere
            if self._pipe is not None:
                self._pipe.send((kind, self._number, content))

    def _interrupt(self, execution: Execution) -> None:
        if execution.cancelled != LEASE_LOST:
            self._kill(execution)
            return
        with self._lock, suppress(OSError):
            if self._current is execution and self._pipe is not None:
                self._pipe.send(("cancel", self._number, execution.cancelled))
        timer = threading.Timer(CANCEL_GRACE_SECONDS, self._kill, (execution,))
        timer.daemon = True
        timer.start()

    def _kill(self, execution: Execution) -> None:
        with self._lock:
            if self._current is execution and self._process is not None:
                self._doomed = True
                self._process.kill()

    def _bury(self, process: BaseProcess) -> str:
        """How it ended, or that it did not although its line was cut: then it is killed."""
        end = time.monotonic() + END_SECONDS
        while not self._doomed and process.exitcode is None and time.monotonic() < end:
            time.sleep(BURIAL_SECONDS)  # join() with a limit looks at what a handler may have closed or handed on
        lives = not self._doomed and process.exitcode is None
        if lives:
            process.kill()
        process.join()
        code = process.exitcode
        process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe, self._doomed = None, None, False
        if lives:
            return "closed its line to the worker, and was killed"
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


class _Line:
    """The line of the handler of one order; what it still says when that has ended, the worker drops."""

    def __init__(self, number: int, wire: _Wire) -> None:
        self._number = number
        self._wire = wire

    @property
    def cancelled(self) -> str | None:
        return self._wire.cancelled.get(self._number)

    def progress(self, fraction: float, note: str) -> None:
        self._wire.tell_later(self._number, (fraction, note))

    def log(self, at: datetime, level: str, message: str, details: str | None) -> None:
        self._wire.tell(self._number, "log", (at, level, message, details))

    def renew(self, seconds: float | None) -> datetime:
        answer = self._wire.ask(self._number, "renew", seconds)
        if isinstance(answer, QueueDatabaseError):
            if isinstance(answer, LeaseLostError):
                self._wire.cancelled[self._number] = LEASE_LOST
            raise answer
        return answer


class _Wire:
    """The child's end of the pipe. Progress is sent now and then by a thread, so that no handler waits for it."""

    def __init__(self, pipe: Connection) -> None:
        self.orders: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
        self.cancelled: dict[int, str] = {}
        """Why orders should end, by their number."""
        self._pipe = pipe
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._answers: SimpleQueue[datetime | QueueDatabaseError] = SimpleQueue()
        self._later: tuple[int, tuple[float, str]] | None = None
        self._is_later = threading.Event()
        self._at_work = self._cut = False
        threading.Thread(target=self._receive, name="prismq-receive", daemon=True).start()
        threading.Thread(target=self._tell_now_and_then, name="prismq-tell", daemon=True).start()

    def begin(self) -> None:
        """From now on, the end of the worker is the end of this process, whatever it is doing."""
        self._at_work = True
        if self._cut:
            os._exit(1)

    def end(self, number: int, outcome: Outcome) -> None:
        self._at_work = False
        with suppress(OSError):  # the worker is gone, which the other thread will notice
            self._tell_the_latest()
            self.tell(number, "ended", outcome)
        for ended in [
            other for other in list(self.cancelled) if other <= number
        ]:  # the next one may be cancelled by now
            self.cancelled.pop(ended, None)

    def tell(self, number: int, what: str, value: Any) -> None:
        with self._sending:
            self._pipe.send((number, what, value))

    def ask(self, number: int, what: str, value: Any) -> datetime | QueueDatabaseError:
        with self._asking:
            self.tell(number, what, value)
            return self._answers.get()

    def tell_later(self, number: int, progress: tuple[float, str]) -> None:
        self._later = (number, progress)
        self._is_later.set()

    def _tell_the_latest(self) -> None:
        with self._sending:
            later, self._later = self._later, None
            if later is not None:
                self._pipe.send((later[0], "progress", later[1]))

    def _tell_now_and_then(self) -> None:
        while True:
            self._is_later.wait()
            self._is_later.clear()
            with suppress(OSError):
                self._tell_the_latest()
            time.sleep(TELL_SECONDS)

    def _receive(self) -> None:
        while True:
            try:
                kind, number, content = self._pipe.recv()
            except (EOFError, OSError):  # the worker has closed it, or is no more: nobody would take a result
                self._cut = True
                if self._at_work:
                    os._exit(1)
                self.orders.put(None)
                return
            if kind == "order":
                self.orders.put((number, content))
            elif kind == "cancel":
                self.cancelled[number] = content
            else:
                self._answers.put(content)


def _serve(pipe: Connection) -> None:
    # Signals go to the whole group; the worker decides what they mean. Programs that handlers start do get those that
    # are not ignored.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stop in signals.STOP_SIGNALS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, lambda number, frame: None)
    signals.let_through()
    wire = _Wire(pipe)
    with suppress(OSError):  # the worker is gone already, which the other thread will notice
        wire.tell(0, "ready", None)
    while (order := wire.orders.get()) is not None:
        number, content = order
        wire.begin()
        try:
            plan, task = _understood(content)
            outcome = call(plan, task, _Line(number, wire))
        except BaseException as error:
            outcome = raised(error)
        wire.end(number, outcome)


def _understood(order: bytes) -> tuple[Plan, Task]:
    plan, task = pickle.loads(order)
    return plan, task
