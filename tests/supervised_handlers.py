"""Handlers for the supervisor's tests, which its processes import."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time

import prismq
from prismq import QueueDatabase, Task, TaskHandlerRegistry

if (code := os.environ.get("PRISMQ_TEST_BROKEN_IN_PROCESSES")) and multiprocessing.parent_process() is not None:
    if code == "1":
        raise RuntimeError("not in this process")
    os._exit(int(code))

empty = TaskHandlerRegistry()


@prismq.handler("nap")
def nap(task: Task) -> None:
    time.sleep(task.get_payload_dict()["seconds"])


@prismq.handler("durability", keep_result=True)
def durability(task: Task) -> list[str]:
    """Of the databases that this process has."""
    return [one.durability for one in gc.get_objects() if isinstance(one, QueueDatabase)]


@prismq.handler("crash")
def crash(task: Task) -> None:
    """As a segmentation fault would."""
    os._exit(task.get_payload_dict().get("code", 7))
