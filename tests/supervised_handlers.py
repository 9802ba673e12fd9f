"""Handlers for the supervisor's tests, which its processes import."""

from __future__ import annotations

import os
import time

import prismq
from prismq import Task, TaskHandlerRegistry

empty = TaskHandlerRegistry()


@prismq.handler("nap")
def nap(task: Task) -> None:
    time.sleep(task.get_payload_dict()["seconds"])


@prismq.handler("crash")
def crash(task: Task) -> None:
    """As a segmentation fault would."""
    os._exit(7)
