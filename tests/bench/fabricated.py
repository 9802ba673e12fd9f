"""Journals that nobody wrote."""

import numpy as np

from bench.journal import RECORD, Operation, Outcome, Records

Call = tuple[int, int, int, int, int, float, float, float]


def enqueued(task: int, ended: float = 0.2, priority: int = 50, intended: float = 0.1) -> Call:
    return (Operation.ENQUEUE, Outcome.DONE, 0, priority, task, intended, intended, ended)


def claimed(task: int, started: float = 1.0, ended: float = 1.1, attempt: int = 1, priority: int = 50) -> Call:
    return (Operation.CLAIM, Outcome.DONE, attempt, priority, task, started, started, ended)


def completed(task: int, ended: float = 1.2, attempt: int = 1) -> Call:
    return (Operation.COMPLETE, Outcome.DONE, attempt, 50, task, ended - 0.05, ended - 0.05, ended)


def other(operation: Operation, outcome: Outcome, started: float = 1.0, ended: float = 1.1) -> Call:
    return (operation, outcome, 0, 0, 0, started, started, ended)


def records(*calls: Call) -> Records:
    return np.array(list(calls), RECORD)
