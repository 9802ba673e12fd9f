"""Handlers that tests run in child processes, and what else processes of workers do: importable there."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from prismq import Discard, RetryLater, Task, TaskContext


def do_nothing(task: Task) -> None:
    pass


def process_id(task: Task) -> int:
    return os.getpid()


def obey(task: Task, context: TaskContext) -> Any:
    """Do what the payload says."""
    order = task.get_payload_dict()
    match order["do"]:
        case "return":
            return order["value"]
        case "raise":
            raise ValueError(order["text"])
        case "discard":
            raise Discard("never")
        case "retry later":
            raise RetryLater(order["seconds"], "not yet")
        case "exit":
            raise SystemExit(order["code"])
        case "die":
            os._exit(order["code"])
        case "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "signal":
            signal.raise_signal(order["number"])
        case "close everything":
            os.closerange(3, 200)
            time.sleep(3600)
        case "leave a program behind":
            command = [sys.executable, "-c", "import time; time.sleep(3600)"]
            program = subprocess.Popen(command, close_fds=False)  # as os.system does
            Path(order["file"]).write_text(str(program.pid), encoding="utf-8")
            time.sleep(3600)
        case "segfault":
            ctypes.string_at(0)
        case "sleep":
            time.sleep(order["seconds"])
        case "tell":
            context.progress(0.25, "a quarter")
            context.log("info", "under way", {"at": 1})
            context.renew(order["lease"])
            for n in range(20_000):
                context.progress(n / 20_000)
            context.progress(0.75, "the last one")
        case "tell of what no process can send":
            context.progress(0.5, lambda: None)  # type: ignore[arg-type]
            context.progress(0.75, threading.Lock())  # type: ignore[arg-type]
        case "wait to be cancelled":
            Path(order["file"]).touch()
            while not context.cancelled:
                time.sleep(0.01)
            Path(order["file"]).write_text("told", encoding="utf-8")
        case what:
            raise AssertionError(what)
    return None


def is_cancelled(task: Task, context: TaskContext) -> bool:
    return context.cancelled


def leave_a_thread_behind(task: Task, context: TaskContext) -> None:
    """One that goes on telling of this task, and wants its lease, when another one runs."""

    def tell() -> None:
        time.sleep(0.2)
        context.progress(0.9, "from the one before")
        context.log("info", "from the one before")
        try:
            context.renew(1000)
        except Exception as error:
            Path(task.get_payload_dict()["file"]).write_text(str(error), encoding="utf-8")

    threading.Thread(target=tell).start()
