"""Handlers for the supervisor's tests, which its processes import."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import prismq
from prismq import QueueDatabase, Task, TaskHandlerRegistry

if (code := os.environ.get("PRISMQ_TEST_BROKEN_IN_PROCESSES")) and multiprocessing.parent_process() is not None:
    if code == "1":
        raise RuntimeError("not in this process")
    os._exit(int(code))

empty = TaskHandlerRegistry()


@prismq.handler("nap")
def nap(task: Task) -> None:
    if (file := task.get_payload_dict().get("file")) is not None:
        Path(file).touch()
    time.sleep(task.get_payload_dict()["seconds"])


@prismq.handler("durability", keep_result=True)
def durability(task: Task) -> list[str]:
    """Of the databases that this process has."""
    return [one.durability for one in gc.get_objects() if isinstance(one, QueueDatabase)]


@prismq.handler("wait in a thread")
async def wait_in_a_thread(task: Task) -> None:
    await asyncio.to_thread(nap, task)


@prismq.handler("leave a program behind")
def leave_a_program_behind(task: Task) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    program = subprocess.Popen(command, close_fds=False)  # as os.system does
    Path(task.get_payload_dict()["file"]).write_text(str(program.pid), encoding="utf-8")
    time.sleep(600)


@prismq.handler("close pipes")
def close_pipes(task: Task) -> None:
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that this list was read from
            if int(fd.name) > 2 and os.readlink(fd).startswith("pipe:"):
                os.close(int(fd.name))
    time.sleep(600)


@prismq.handler("crash")
def crash(task: Task) -> None:
    """As a segmentation fault would."""
    os._exit(task.get_payload_dict().get("code", 7))
