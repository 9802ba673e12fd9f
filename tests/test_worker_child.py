"""Handlers in processes of their own: what kills one fails one task, and nothing else."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest

from prismq import QueueProgrammingError, RetryConfig, Task, TaskHandlerRegistry, TaskQueue, WorkerEngine, child
from prismq.execution import Plan
from prismq.signals import STOP_SIGNALS
from tests.test_worker import LONG, lose, status, wait_for, working
from tests.work import is_cancelled, leave_a_thread_behind, obey, process_id

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.fixture
def driver() -> str:
    """One is enough: it makes no difference here, and processes take time to start."""
    return "auto"


def worker(queue: TaskQueue, **options: Any) -> WorkerEngine:
    registry = TaskHandlerRegistry()
    registry.register_handler("obey", obey, keep_result=True)
    registry.register_handler("pid", process_id, keep_result=True)
    options = {"retry": RetryConfig(initial_delay_seconds=0), **options}
    return WorkerEngine(queue, "w", handler_registry=registry, pool="process", **options)


def result(queue: TaskQueue, task_id: int) -> Any:
    report = queue.report(task_id)
    assert report is not None
    return report.get_result()


def error(queue: TaskQueue, task_id: int) -> str:
    task = queue.get(task_id)
    assert task is not None
    return task.error_message or ""


def test_each_slot_keeps_its_process(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "pid"}] * 10)
    worker(queue).run_loop(max_iterations=10)
    (pid,) = {result(queue, one) for one in ids}
    assert pid != os.getpid()
    wait_for(lambda: not psutil.pid_exists(pid))


def test_handlers_of_two_slots_run_at_the_same_time(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "obey", "payload": {"do": "sleep", "seconds": 0.3}}] * 2 + [{"type": "pid"}] * 2)
    worker(queue, concurrency=2).run_loop(max_iterations=4)
    tasks = [queue.get(one) for one in ids[:2]]
    starts = [task.processing_started_utc for task in tasks if task]
    ends = [task.finished_at_utc for task in tasks if task]
    assert max(start for start in starts if start) < min(end for end in ends if end)


def test_outcomes_come_back_from_the_process(queue: TaskQueue) -> None:
    def order(**payload: Any) -> int:
        return queue.enqueue("obey", payload, max_attempts=1)

    kept = order(do="return", value={"a": [1, None]})
    broken, discarded = order(do="raise", text="bröken"), order(do="discard")
    left = order(do="exit", code=3)
    later = queue.enqueue("obey", {"do": "retry later", "seconds": 1000})
    worker(queue).run_loop(max_iterations=5)
    assert result(queue, kept) == {"a": [1, None]}
    assert (status(queue, broken), error(queue, broken)) == ("dead_letter", "ValueError: bröken")
    report = queue.report(broken)
    assert report is not None
    assert "in obey" in (report.traceback or "")
    assert (status(queue, discarded), error(queue, discarded)) == ("failed", "Discard: never")
    assert (status(queue, left), error(queue, left)) == ("dead_letter", "SystemExit: 3")
    assert (status(queue, later), error(queue, later)) == ("queued", "RetryLater: not yet")


DEATHS = [
    ({"do": "die", "code": 7}, "ended with exit code 7"),
    pytest.param({"do": "be killed"}, "was killed by SIGKILL", marks=needs_signals),
    pytest.param({"do": "segfault"}, "was killed by SIGSEGV", marks=needs_signals),
]


@pytest.mark.parametrize(("payload", "how"), DEATHS)
def test_a_task_that_kills_its_process_has_failed_and_takes_no_other_down(
    queue: TaskQueue, payload: dict[str, Any], how: str
) -> None:
    others = queue.enqueue_many([{"type": "obey", "payload": {"do": "sleep", "seconds": 0.02}}] * 20)
    killer = queue.enqueue("obey", payload, max_attempts=2)
    worker(queue, concurrency=2, prefetch=5).run_loop(max_iterations=22)
    task = queue.get(killer)
    assert task is not None
    assert (task.status, task.attempts) == ("dead_letter", 2)
    assert error(queue, killer).startswith(f"ChildProcessError: the process that ran it {how}")
    assert [(status(queue, one), (queue.get(one) or Task()).attempts) for one in others] == [("completed", 1)] * 20


def test_a_handler_whose_time_is_up_is_killed_with_its_process(queue: TaskQueue) -> None:
    slow = queue.enqueue("obey", {"do": "sleep", "seconds": 3600}, max_attempts=1, priority=1)
    after = queue.enqueue("pid")
    worker(queue, timeout_seconds=1.0).run_loop(max_iterations=2)
    assert (status(queue, slow), error(queue, slow)) == (
        "dead_letter",
        "TimeoutError: it took longer than the 1 s it may take",
    )
    assert status(queue, after) == "completed"


def test_a_handler_whose_time_is_up_frees_its_slot_while_a_program_it_started_runs_on(
    queue: TaskQueue, tmp_path: Path
) -> None:
    file = tmp_path / "program"
    slow = queue.enqueue("obey", {"do": "leave a program behind", "file": str(file)}, max_attempts=1, priority=1)
    after = queue.enqueue("pid")
    worker(queue, timeout_seconds=1.0).run_loop(max_iterations=2)
    program = psutil.Process(int(file.read_text(encoding="utf-8")))
    try:
        assert program.is_running()
        assert error(queue, slow) == "TimeoutError: it took longer than the 1 s it may take"
        assert status(queue, after) == "completed"
    finally:
        program.kill()


@needs_signals
def test_a_handler_that_closes_the_line_of_its_process_has_failed(queue: TaskQueue) -> None:
    cut = queue.enqueue("obey", {"do": "close everything"}, max_attempts=1, priority=1)
    after = queue.enqueue("pid")
    worker(queue).run_loop(max_iterations=2)
    assert status(queue, cut) == "dead_letter"
    assert error(queue, cut) == (
        "ChildProcessError: the process that ran it closed its line to the worker, and was killed"
    )
    assert status(queue, after) == "completed"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signals_that_end_programs_do_not_end_a_handler(queue: TaskQueue, number: int) -> None:
    task_id = queue.enqueue("obey", {"do": "signal", "number": number}, max_attempts=1)
    worker(queue).run_loop(max_iterations=1)
    assert (status(queue, task_id), error(queue, task_id)) == ("completed", "")


@pytest.mark.parametrize("what", ["Pipe", "Process.start"])
def test_a_process_that_can_not_be_started_costs_no_attempt(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    task_id = queue.enqueue("pid", max_attempts=1)
    with monkeypatch.context() as patch:
        patch.setattr(f"prismq.child.SPAWN.{what}", no_more)
        with working(worker(queue)):
            wait_for(lambda: caplog.text.count("no process can be started for task") >= 2)
    assert "it is given back; next try in 0.2 s: [Errno 24] no more of them" in caplog.text
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts) == ("queued", 0)
    assert worker(queue).claim_and_process()
    assert (status(queue, task_id), error(queue, task_id)) == ("completed", "")


def no_more(*arguments: Any) -> None:
    raise OSError(errno.EMFILE, "no more of them")


@needs_signals
def test_a_process_that_ends_before_it_can_take_a_task_costs_no_attempt(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resource_tracker.ensure_running()  # which is started in the same way
    with monkeypatch.context() as patch, working(worker(queue)):
        patch.setattr("multiprocessing.spawn._python_exe", os.fsencode(shutil.which("false") or ""))
        task_id = queue.enqueue("pid", max_attempts=1)
        wait_for(lambda: "next try in 0.2 s: it ended with exit code 1" in caplog.text)
        patch.undo()
        wait_for(lambda: status(queue, task_id) == "completed")
    assert (queue.get(task_id) or Task()).attempts == 1


def test_stopping_kills_what_does_not_end_within_the_grace_period(queue: TaskQueue, tmp_path: Path) -> None:
    task_id = queue.enqueue("obey", {"do": "sleep", "seconds": 3600})
    with working(worker(queue, grace_seconds=0.05)):
        wait_for(lambda: psutil.Process().children())
        wait_for(lambda: status(queue, task_id) == "processing")
    assert status(queue, task_id) == "queued"
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_handler_in_a_process_has_its_context(queue: TaskQueue) -> None:
    task_id = queue.enqueue("obey", {"do": "tell", "lease": 500})
    worker(queue).run_loop(max_iterations=1)
    assert error(queue, task_id) == ""
    report = queue.report(task_id)
    assert report is not None
    assert (report.progress, report.note) == (0.75, "the last one")
    lines = queue.database.execute("SELECT level, message, details FROM task_logs").fetchall()
    assert [tuple(line) for line in lines] == [("INFO", "under way", '{"at": 1}')]


def test_a_note_that_no_process_can_send_is_text_like_any_other(queue: TaskQueue) -> None:
    task_id = queue.enqueue("obey", {"do": "tell of what no process can send"})
    worker(queue).run_loop(max_iterations=1)
    assert (status(queue, task_id), error(queue, task_id)) == ("completed", "")
    report = queue.report(task_id)
    assert report is not None
    assert report.progress == 0.75
    assert "lock object at" in (report.note or "")


@pytest.mark.parametrize("way", [lose, lambda queue, task_id: queue.cancel(task_id)])
def test_a_handler_in_a_process_is_told_that_it_lost_its_task(
    queue: TaskQueue, tmp_path: Path, way: Callable[[TaskQueue, int], object]
) -> None:
    file = tmp_path / "began"
    task_id = queue.enqueue("obey", {"do": "wait to be cancelled", "file": str(file)})
    engine = worker(queue, lease_seconds=0.5)
    with working(engine):
        wait_for(file.exists)
        way(queue, task_id)
        wait_for(lambda: file.read_text(encoding="utf-8") == "told")
        wait_for(lambda: engine.counts.refused == 1)


def test_a_handler_that_no_process_can_find_is_said_so_and_not_tried_again(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    WorkerEngine(queue, "w", pool="process").run_loop(lambda task: None, max_iterations=1)
    assert status(queue, task_id) == "failed"
    assert "it has to be a function at the top level of a module" in error(queue, task_id)


def test_one_task_alone_can_run_in_a_process(queue: TaskQueue) -> None:
    task_id = queue.enqueue("pid")
    assert worker(queue).claim_and_process()
    assert result(queue, task_id) != os.getpid()


@needs_signals
def test_the_processes_of_a_worker_that_was_killed_end_with_it(queue: TaskQueue, hire: Any, tmp_path: Path) -> None:
    file = tmp_path / "began"
    task_id = queue.enqueue("obey", {"do": "wait to be cancelled", "file": str(file)})
    colleague = hire(daemon=False)
    colleague.begin(run_in_processes)
    wait_for(file.exists)
    children = psutil.Process(colleague.process.pid).children()
    assert children
    colleague.kill()
    assert not psutil.wait_procs(children, timeout=LONG)[1]
    assert status(queue, task_id) == "processing"  # until its lease ends


def run_in_processes(queue: TaskQueue) -> None:
    worker(queue).run_loop()


def test_a_process_that_may_have_no_children_is_said_so(queue: TaskQueue, hire: Any) -> None:
    with pytest.raises(QueueProgrammingError, match="daemonic"):
        hire().run(run_in_processes)


def test_a_cancellation_that_comes_too_late_does_not_reach_the_next_task() -> None:
    """The worker may tell of it just when the process has gone on to the next order."""
    ours, theirs = child.SPAWN.Pipe()
    process = child.SPAWN.Process(target=child._serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    plan = Plan.of(is_cancelled, keep_result=True)
    seen = []
    for number, cancelled in ((1, 1), (2, 1), (3, 3)):
        ours.send(("cancel", cancelled, "late"))
        ours.send(("order", number, pickle.dumps((plan, Task(id=number)))))
        while (message := ours.recv())[1] != "ended":
            pass
        seen.append(message[2].result)
    assert seen == ["true", "false", "true"]
    ours.close()
    process.join(LONG)
    assert process.exitcode == 0


def test_what_a_handler_left_behind_is_not_taken_for_the_next_task(queue: TaskQueue, tmp_path: Path) -> None:
    file = tmp_path / "said"
    registry = TaskHandlerRegistry()
    registry.register_handler("obey", obey)
    registry.register_handler("leave", leave_a_thread_behind)
    queue.enqueue("leave", {"file": str(file)}, priority=1)
    after = queue.enqueue("obey", {"do": "sleep", "seconds": 1})
    WorkerEngine(queue, "w", handler_registry=registry, pool="process").run_loop(max_iterations=2)
    assert status(queue, after) == "completed"
    assert queue.report(after) is None
    assert queue.database.execute("SELECT count(*) FROM task_logs").fetchone()[0] == 0
    assert file.read_text(encoding="utf-8") == "the handler whose lease this was has ended"


def test_a_process_whose_worker_died_while_it_started_leaves_without_complaint(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = child.SPAWN.Pipe()
    process = child.SPAWN.Process(target=child._serve, args=(theirs,), daemon=True)
    ours.close()
    process.start()
    theirs.close()
    process.join(60)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""
