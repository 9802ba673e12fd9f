"""What the supervisor of a process that died can tell of what that had begun."""

from __future__ import annotations

from pathlib import Path

from prismq import Task, TaskQueue, WorkerEngine
from prismq.execution import Execution
from prismq.record import LATELY, Record, Recorder


def test_what_runs_is_in_it_however_many_begin_and_end_meanwhile(path: Path) -> None:
    with TaskQueue(path) as queue:
        clerk = WorkerEngine(queue, "w").clerk()
        record = Record(concurrency=2)
        recorder = Recorder(record)
        long = Execution(Task(id=1, attempts=3), clerk)
        recorder.begin(long)
        for number in range(2, 2 + 3 * LATELY):
            short = Execution(Task(id=number, attempts=1), clerk)
            recorder.begin(short)
            assert {(1, 3), (number, 1)} <= record.begun()
            recorder.end(short)
    assert {(number, 1) for number in range(2 + 2 * LATELY, 2 + 3 * LATELY)} <= record.begun()  # those that ran lately
    recorder.end(long)
    assert (1, 3) in record.begun()
