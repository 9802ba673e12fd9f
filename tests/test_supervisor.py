"""`prismq worker` with real processes: stopped, killed, crashed and orphaned, and where the tasks are then."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import prismq
from prismq import RetryConfig, TaskQueue, WorkerConfig
from prismq.cli import main
from prismq.supervisor import END_SECONDS, Supervisor

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = "tests.supervised_handlers"
WINDOWS = os.name == "nt"
STOP = signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGTERM
AT_ONCE = RetryConfig(initial_delay_seconds=0.01, max_delay_seconds=0.01)
STARTED = re.compile(r"(\S+) started as process (\d+)")


class Worker:
    """A `prismq worker` on a test's queue, and what it says."""

    def __init__(self, queue: TaskQueue, log: Path, options: tuple[str, ...]) -> None:
        self._log = log
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        command = (sys.executable, "-m", "prismq", "--db", str(queue.database.db_path), "worker")
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--handlers", HANDLERS, "--id", "w", *options], cwd=ROOT, stderr=file, **group
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def started(self) -> list[int]:
        """The processes it has started so far."""
        return [int(pid) for _, pid in STARTED.findall(self.log)]

    def signal(self, number: int = STOP) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status; none of its processes is left by then."""
        status = self.process.wait(60)
        assert not [pid for pid in self.started if psutil.pid_exists(pid)], self.log
        return status


@pytest.fixture(autouse=True)
def hangups_end_processes() -> Iterator[None]:
    """Also where the tests were started by nohup: what is ignored is ignored by child processes, too."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def queue(path: Path) -> Iterator[TaskQueue]:
    with TaskQueue(path) as queue:
        yield queue


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is registered, no handlers' module is imported and the path is as it was, before the test and after."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, HANDLERS, raising=False)
    prismq.reset_global_registry()
    yield
    prismq.reset_global_registry()


@pytest.fixture
def start(queue: TaskQueue, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers, and leaves nothing of them behind."""
    workers: list[Worker] = []

    def start_one(*options: str) -> Worker:
        workers.append(Worker(queue, tmp_path / f"log-{len(workers)}", options))
        return workers[-1]

    yield start_one
    for worker in workers:
        for pid in [worker.process.pid, *worker.started]:
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                continue
        worker.process.wait(60)


def until(condition: Callable[[], Any], what: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def look_from_outside(path: Path) -> str:
    """Each task's status and attempts, read by a program that changes nothing."""
    query = "SELECT status, attempts FROM task_queue"
    script = f"import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('{query}').fetchall())"
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def counts(queue: TaskQueue) -> dict[str, int]:
    return {row[0]: row[1] for row in queue.database.execute("SELECT status, count(*) FROM task_queue GROUP BY 1")}


def naps(queue: TaskQueue, count: int, seconds: float) -> list[int]:
    return queue.enqueue_many([{"type": "nap", "payload": {"seconds": seconds}} for _ in range(count)])


def test_stopped_in_the_middle_it_finishes_what_runs_and_leaves_the_rest(
    queue: TaskQueue, start: Callable[..., Worker]
) -> None:
    naps(queue, 500, 0.1)
    worker = start("--processes", "2", "--grace", "30")
    until(lambda: counts(queue).get("completed", 0) >= 5 and len(worker.started) == 2, lambda: worker.log)
    told_at = time.monotonic()
    worker.signal()
    assert worker.wait() == 0, worker.log
    assert time.monotonic() - told_at < 30  # the grace period: what runs takes a moment
    left = counts(queue)
    assert set(left) == {"completed", "queued"}, worker.log
    assert sum(left.values()) == 500
    attempts = queue.database.execute("SELECT DISTINCT status, attempts FROM task_queue ORDER BY 1").fetchall()
    assert [tuple(row) for row in attempts] == [("completed", 1), ("queued", 0)]


@pytest.mark.parametrize("options", [[], ["--prefetch", "3"]])
def test_each_process_claims_as_many_ahead_as_it_is_told(
    queue: TaskQueue, start: Callable[..., Worker], options: list[str]
) -> None:
    ids = naps(queue, 10, 1)
    last = queue.enqueue("nap", {"seconds": 0}, priority=1000)
    worker = start(*options)
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, counts(queue).get("processing", 0))
        return counts(queue).get("completed", 0) >= 2

    until(done, lambda: worker.log)
    assert most == (4 if options else 1)
    assert last > max(ids)


@pytest.mark.parametrize("said", [None, "normal"])
def test_the_settings_of_the_environment_count_unless_the_worker_has_its_own(
    queue: TaskQueue, start: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    (tmp_path / "settings.toml").write_text('durability = "full"')
    monkeypatch.setenv("PRISMQ_SETTINGS", str(tmp_path / "settings.toml"))
    if said is not None:
        monkeypatch.setenv("PRISMQ_WORKER_DURABILITY", said)
    task_id = queue.enqueue("durability")
    worker = start()
    until(lambda: counts(queue).get("completed"), lambda: worker.log)
    report = queue.report(task_id)
    assert report is not None
    assert set(report.get_result()) == {said or "full"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the settings can't be read"),
        ("durability = 3", "durability is 3"),
        ("speed = 1", "'speed' is no setting"),
    ],
)
def test_bad_settings_in_the_environment_are_wrong_configuration(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
    text: str | None,
    message: str,
) -> None:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("PRISMQ_SETTINGS", str(path))
    if text is not None:
        path.write_text(text)
    assert main(["--db", str(tmp_path / "queue.db"), "worker", "--handlers", HANDLERS]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert main(["--db", str(tmp_path / "queue.db"), "enqueue", "t"]) == 2
    assert not (tmp_path / "queue.db").exists()


@pytest.mark.parametrize(
    ("max_attempts", "attempts"),
    [pytest.param(2, 1, id="counted"), pytest.param(1, 0, id="its last attempt, which is not counted")],
)
@pytest.mark.parametrize("kind", ["nap", "wait in a thread"])
def test_what_does_not_end_within_the_grace_period_is_given_back(
    queue: TaskQueue, start: Callable[..., Worker], tmp_path: Path, kind: str, max_attempts: int, attempts: int
) -> None:
    file = tmp_path / "begun"
    task_id = queue.enqueue(kind, {"seconds": 600, "file": str(file)}, max_attempts=max_attempts)
    worker = start("--grace", "0.2")
    until(file.exists, lambda: worker.log)
    told_at = time.monotonic()
    worker.signal()
    assert worker.wait() == 0, worker.log
    assert time.monotonic() - told_at < 0.2 + END_SECONDS
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.locked_by, task.lease_until_utc) == ("queued", None, None)
    assert task.attempts == attempts


def test_a_second_signal_kills_and_the_tasks_come_back_at_once(queue: TaskQueue, start: Callable[..., Worker]) -> None:
    (task_id,) = naps(queue, 1, 600)
    worker = start("--processes", "2", "--grace", "600")
    until(lambda: counts(queue) == {"processing": 1}, lambda: worker.log)
    queue.close()  # nobody else is there to bring the task back
    worker.signal()
    until(lambda: "stopping" in worker.log, lambda: worker.log)
    time.sleep(0.6)  # sooner it would be the same signal
    worker.signal()
    assert worker.wait() == 130, worker.log
    assert look_from_outside(queue.database.db_path) == "[('queued', 1)]"
    task = queue.get(task_id)
    assert task is not None
    assert "Lease expired: worker w-" in (task.error_message or "")


@pytest.mark.skipif(WINDOWS, reason="a process can't send itself such a signal there")
def test_two_signals_at_once_are_one(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(prismq.supervisor, "ONE_SIGNAL_SECONDS", 600)
    naps(queue, 1, 0.5)
    supervisor = Supervisor(HANDLERS, WorkerConfig("w"), queue.database.db_path)

    def send_two() -> None:
        until(lambda: counts(queue) == {"processing": 1}, lambda: caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: "stopping" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

    with caplog.at_level("INFO"), ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send_two)
        assert supervisor.run() == 0
        sent.result()
    assert counts(queue) == {"completed": 1}


def test_a_crashed_process_is_replaced_and_its_task_comes_back_before_its_lease_ends(
    queue: TaskQueue, start: Callable[..., Worker]
) -> None:
    crash = queue.enqueue("crash", max_attempts=1, priority=1)
    naps(queue, 1, 0)
    worker = start("--lease", "600")
    until(lambda: counts(queue) == {"dead_letter": 1, "completed": 1}, lambda: worker.log)
    worker.signal()
    assert worker.wait() == 0, worker.log
    assert len(worker.started) == 2
    assert "ended with status 7; another one starts in" in worker.log
    task = queue.get(crash)
    assert task is not None
    assert task.attempts == 1
    assert re.fullmatch(r"Lease expired: worker w-1-\w+ did not finish attempt 1 by .* UTC", task.error_message or "")


@contextmanager
def supervised(queue: TaskQueue, config: WorkerConfig, restart: RetryConfig = AT_ONCE) -> Iterator[Supervisor]:
    """A supervisor in a thread, stopped at the end of the block."""
    supervisor = Supervisor(HANDLERS, config, queue.database.db_path, restart=restart)
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(supervisor.run)
        try:
            yield supervisor
        finally:
            supervisor.stop()
        assert ended.result(60) == 0


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_a_crashed_process_had_not_begun_loses_no_attempt(queue: TaskQueue, fresh: None, concurrency: int) -> None:
    crash = queue.enqueue("crash", max_attempts=4, priority=1)
    slow = queue.enqueue_many([{"type": "nap", "payload": {"seconds": 0.3}, "priority": 2}] * (concurrency - 1))
    others = queue.enqueue_many([{"type": "nap", "payload": {"seconds": 0}, "max_attempts": 1}] * 8)
    with supervised(queue, WorkerConfig("w", concurrency=concurrency, prefetch=10)):
        until(lambda: set(counts(queue)) == {"dead_letter", "completed"}, lambda: str(counts(queue)))
    ends = [(task.status, task.attempts) for task in map(queue.get, [crash, *others]) if task is not None]
    assert ends == [("dead_letter", 4), *[("completed", 1)] * 8]
    assert [task.status for task in map(queue.get, slow) if task is not None] == ["completed"] * len(slow)


def test_a_task_that_crashes_its_process_takes_those_beside_it_down_once_at_most(queue: TaskQueue, fresh: None) -> None:
    nap = {"type": "nap", "payload": {"seconds": 0.5}, "max_attempts": 2, "priority": 1}
    *innocent, poison = queue.enqueue_many([nap, nap, {"type": "crash", "max_attempts": 4}])
    with supervised(queue, WorkerConfig("w", concurrency=3)):
        until(lambda: not {"queued", "processing"} & set(counts(queue)))
    tasks = [task for task in map(queue.get, [*innocent, poison]) if task is not None]
    assert [task.status for task in tasks] == ["completed", "completed", "dead_letter"]
    assert tasks[-1].attempts == 4


def test_after_a_while_without_a_crash_a_process_runs_as_many_tasks_as_it_may(
    queue: TaskQueue, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prismq.supervisor, "GOOD_WHILE_SECONDS", 0.5)
    queue.enqueue("crash", max_attempts=1)
    with supervised(queue, WorkerConfig("w", concurrency=3, grace_seconds=0)):
        until(lambda: counts(queue) == {"dead_letter": 1})
        naps(queue, 3, 600)
        until(lambda: counts(queue) == {"dead_letter": 1, "processing": 3})


def test_a_death_is_noticed_while_a_program_that_a_handler_started_runs_on(
    queue: TaskQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture, fresh: None
) -> None:
    file = tmp_path / "program"
    task_id = queue.enqueue("leave a program behind", {"file": str(file)}, max_attempts=1)
    with caplog.at_level("INFO"), supervised(queue, WorkerConfig("w")):
        until(lambda: file.exists() and file.read_text(encoding="utf-8"), lambda: caplog.text)
        program = psutil.Process(int(file.read_text(encoding="utf-8")))
        try:
            psutil.Process(int(STARTED.findall(caplog.text)[0][1])).kill()
            until(lambda: len(STARTED.findall(caplog.text)) == 2, lambda: caplog.text)
            assert program.is_running()
        finally:
            program.kill()
    task = queue.get(task_id)
    assert task is not None
    assert (task.status, task.attempts) == ("dead_letter", 1)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="handlers can't tell what is a pipe here")
def test_a_process_whose_line_a_handler_has_cut_is_replaced(queue: TaskQueue, fresh: None) -> None:
    cut = queue.enqueue("close pipes", max_attempts=1, priority=1)
    naps(queue, 1, 0)
    with supervised(queue, WorkerConfig("w")):
        until(lambda: counts(queue) == {"dead_letter": 1, "completed": 1})
    task = queue.get(cut)
    assert task is not None
    assert "Lease expired: worker w-1-" in (task.error_message or "")


def test_no_row_of_a_crashed_process_stays(queue: TaskQueue, fresh: None) -> None:
    queue.enqueue("crash", max_attempts=2)
    with supervised(queue, WorkerConfig("w")):
        until(lambda: counts(queue) == {"dead_letter": 1})
        until(lambda: queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 1)
    assert queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 0


@pytest.mark.parametrize("code", [1, 3])
def test_no_exit_status_of_a_handler_stops_the_supervisor(queue: TaskQueue, fresh: None, code: int) -> None:
    queue.enqueue("crash", {"code": code}, max_attempts=3, priority=1)
    naps(queue, 1, 0)
    with supervised(queue, WorkerConfig("w", max_false_starts=0)):
        until(lambda: counts(queue) == {"dead_letter": 1, "completed": 1})


def test_the_pause_before_a_replacement_grows_with_each_crash(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture, fresh: None
) -> None:
    queue.enqueue("crash", max_attempts=3)
    restart = RetryConfig(initial_delay_seconds=0.1, backoff_multiplier=3, jitter_factor=0)
    with caplog.at_level("INFO"), supervised(queue, WorkerConfig("w"), restart):
        until(lambda: counts(queue) == {"dead_letter": 1}, lambda: caplog.text)
    pauses = re.findall(r"ended with status 7; another one starts in (\S+) s", caplog.text)
    assert pauses == ["0.1", "0.3", "0.9"]


@pytest.mark.parametrize("code", ["1", "9"])
def test_when_no_process_ever_gets_to_work_it_gives_up(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fresh: None, code: str
) -> None:
    """Whether it tells so, or just dies."""
    monkeypatch.setenv("PRISMQ_TEST_BROKEN_IN_PROCESSES", code)
    config = WorkerConfig("w", processes=2, max_false_starts=1)
    assert Supervisor(HANDLERS, config, queue.database.db_path, restart=AT_ONCE).run() == 1
    assert len(re.findall(f"ended with status {code}", caplog.text)) >= 4
    assert re.search(f"ended with status {code}, as all did since [23] tries", caplog.text)


def test_processes_whose_supervisor_was_killed_finish_and_end(queue: TaskQueue, start: Callable[..., Worker]) -> None:
    naps(queue, 500, 0.1)
    worker = start("--processes", "2")
    until(lambda: counts(queue).get("completed", 0) >= 5 and len(worker.started) == 2, lambda: worker.log)
    worker.process.kill()
    worker.process.wait(60)
    until(lambda: not [pid for pid in worker.started if psutil.pid_exists(pid)], lambda: worker.log)
    assert set(counts(queue)) == {"completed", "queued"}, worker.log


@pytest.mark.skipif(WINDOWS, reason="a process can't be sent SIGTERM there")
def test_a_process_that_is_told_to_end_alone_finishes_and_is_replaced(
    queue: TaskQueue, start: Callable[..., Worker]
) -> None:
    naps(queue, 1, 1)
    worker = start("--processes", "1")
    until(lambda: counts(queue) == {"processing": 1}, lambda: worker.log)
    os.kill(worker.started[0], signal.SIGTERM)
    until(lambda: len(worker.started) == 2, lambda: worker.log)
    assert counts(queue) == {"completed": 1}
    assert "ended with status 0; another one starts" in worker.log
    worker.signal()
    assert worker.wait() == 0, worker.log


@pytest.mark.skipif(WINDOWS, reason="the other tests send such signals to the whole group there")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_that_reach_the_whole_group_before_it_works(
    queue: TaskQueue, start: Callable[..., Worker], number: str
) -> None:
    naps(queue, 500, 0.05)
    worker = start("--processes", "2")
    until(lambda: len(worker.started) == 2, lambda: worker.log)  # which hardly run by now
    os.killpg(worker.process.pid, getattr(signal, number))
    assert worker.wait() == 0, worker.log
    assert "Traceback" not in worker.log
    assert set(counts(queue)) <= {"completed", "queued"}, worker.log


@pytest.mark.skipif(WINDOWS, reason="the other tests send such signals to the whole group there")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_that_reach_the_whole_group_while_handlers_run_in_processes(
    queue: TaskQueue, start: Callable[..., Worker], number: str
) -> None:
    naps(queue, 2, 1)
    worker = start("--pool", "process", "--concurrency", "2")
    until(lambda: counts(queue) == {"processing": 2}, lambda: worker.log)
    time.sleep(0.5)  # the handlers' processes start meanwhile, or not: either way the tasks are to be finished
    os.killpg(worker.process.pid, getattr(signal, number))
    assert worker.wait() == 0, worker.log
    assert counts(queue) == {"completed": 2}, worker.log


# Mistakes, all of them told before any process starts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--handlers", "no.such.module"],
            "the handlers' module 'no.such.module' can't be imported: ModuleNotFoundErr",
        ),
        (["--handlers", "tests.broken_handlers"], r"RuntimeError: not today \(.*broken_handlers.py, line 3\)"),
        (["--handlers", "no_such.py"], r"there is no file .*no_such.py with handlers"),
        (["--handlers", "{folder}/my.jobs.py"], "my.jobs.py can't be imported: no module has a dot in its"),
        (["--handlers", "{folder}/my.jobs.py:registry"], "give the file a name without dots"),
        (["--handlers", "no_such.json"], "there is no such configuration file"),
        (["--handlers", "handlers.ini"], "'handlers.ini' can't be imported"),
        (["--handlers", "tests.named_handlers"], "registers no handlers with @prismq.handler.*; it has no registries"),
        (["--handlers", f"{HANDLERS}:empty"], "the registry 'empty' of module .* is empty; its registries are empty"),
        (["--handlers", f"{HANDLERS}:other"], "module .* has no registry 'other'; its registries are empty"),
        (["--handlers", "{example}:registry"], "a configuration file has no registries; leave ':registry' out"),
        (
            ["--handlers", "{example}", "--types", "send_email,fax"],
            "types has 'fax', for which .* has no handler; it ha",
        ),
        (["--handlers", "{example}", "--config", "no_such.toml"], "there is no such configuration file"),
        (["--handlers", "{example}", "--types", ","], "types is .*; it must be text with something in it"),
        (
            ["--handlers", "{example}", "--prefetch", "3", "--grace", "1e10"],
            "grace_seconds is 1.*; it must be a number",
        ),
        (["--handlers", "{example}", "--lease", "0"], "lease_duration_seconds is 0.0; it must be a number of seconds"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fresh: None, options: list[str], message: str
) -> None:
    example = str(ROOT / "examples" / "config" / "task_handlers.json")
    (tmp_path / "my.jobs.py").touch()
    options = [option.replace("{example}", example).replace("{folder}", str(tmp_path)) for option in options]
    assert main(["--db", str(tmp_path / "queue.db"), "worker", *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("prismq: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "queue.db").exists()


def test_a_database_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], fresh: None) -> None:
    (tmp_path / "queue.db").write_text("just text " * 500)
    example = str(ROOT / "examples" / "config" / "task_handlers.json")
    assert main(["--db", str(tmp_path / "queue.db"), "worker", "--handlers", example]) == 1
    assert "not a database" in capsys.readouterr().err


def test_a_file_named_like_another_module(tmp_path: Path, capsys: pytest.CaptureFixture[str], fresh: None) -> None:
    (tmp_path / "json.py").write_text("")
    assert main(["--db", str(tmp_path / "queue.db"), "worker", "--handlers", str(tmp_path / "json.py")]) == 2
    assert "give the file another name" in capsys.readouterr().err
