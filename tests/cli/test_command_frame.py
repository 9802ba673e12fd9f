"""The frame of the command: help, exit statuses, errors in one line, and quiet ends."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import (
    PRAGMAS,
    PRODUCTION_PRAGMAS,
    QueueBackup,
    QueueDatabase,
    QueueMonitoring,
    TaskLogger,
    TaskQueue,
    get_default_db_path,
)
from prismq.cli import COMMANDS, exits, main, options
from tests.test_schema import make_original

CALL = Callable[..., tuple[int, str, str]]
READING = ("list", "show 1", "cancel 1", "requeue 1", "stats", "top --once", "workers", "logs", "backup", "maintain")


def test_help_tells_of_all_commands_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, "exit status", "130", "PRISMQ_QUEUE_DB_PATH"):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"  prismq {command}" in text or f" {command}" in text.split("examples:")[1]
    assert "--db" in text
    assert exits.HELP.split(",")[0] in text


def test_the_module_is_the_command(prismq: Callable[..., Any]) -> None:
    assert prismq("--help").returncode == 0
    for wrong in (
        (),
        ("nonsense",),
        ("list", "--limit", "0"),
        ("list", "--limit", "x"),
        ("enqueue", "t", "--in", "soon"),
    ):
        done = prismq(*wrong)
        assert (done.returncode, done.stdout) == (exits.USAGE, "")
        assert "usage: prismq" in done.stderr


@pytest.mark.parametrize("command", [*READING, "prune --show", "doctor"])
def test_without_a_database_none_is_made(call: CALL, path: Path, command: str) -> None:
    status, out, err = call(*command.split())
    assert (status, out) == (exits.NO_DATABASE, "")
    assert err.startswith(f"prismq: there is no database at {path};")
    assert err.count("\n") == 1
    assert os.listdir(path.parent) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("command", [*READING, "workers --reclaim", "prune --keep completed=1", "doctor"])
def test_a_database_of_something_else_is_left_alone(call: CALL, path: Path, command: str) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE mine (x)")
    other.close()
    path.with_name("text.db").write_text("my letters " * 500)
    path.with_name("empty.db").touch()
    before = contents(path.parent)
    for name, expected, message in (
        (path.name, exits.NO_DATABASE, "without a queue"),
        ("empty.db", exits.NO_DATABASE, "without a queue"),
        ("text.db", exits.REFUSED, "not a database"),
    ):
        status, out, err = call(*command.split(), "--db", path.with_name(name))
        if command == "doctor":
            assert (status, err) == (exits.REFUSED, "")
            assert "FAIL" in out
        else:
            assert (status, out) == (expected, "")
            assert message in err
    assert contents(path.parent) == before


def test_a_foreign_database_in_use_is_left_alone(call: CALL, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.pragma("journal_mode", "WAL")
    other.execute("CREATE TABLE mine (x)")
    before = {name: data for name, data in contents(path.parent).items() if not name.endswith("-shm")}
    assert call("list")[0] == exits.NO_DATABASE
    assert {name: data for name, data in contents(path.parent).items() if not name.endswith("-shm")} == before
    other.close()


def test_who_only_looks_does_not_upgrade(call: CALL, path: Path) -> None:
    make_original(path)
    before = path.read_bytes()
    for command in ("list", "show 1", "stats", "top --once", "workers", "logs", "prune --show"):
        status, out, err = call(*command.split())
        assert (status, out) == (exits.REFUSED, "")
        assert "prismq maintain --upgrade" in err
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    assert call("backup")[0] == call("maintain")[0] == exits.OK
    assert call("list")[0] == exits.REFUSED
    assert call("maintain", "--upgrade")[0] == exits.OK
    assert call("list")[0] == exits.OK


@pytest.mark.parametrize("command", ["cancel 1", "requeue 1", "workers --reclaim", "maintain --stale-leases 5m"])
def test_who_writes_upgrades(call: CALL, path: Path, command: str) -> None:
    make_original(path)
    assert call("list")[0] == exits.REFUSED
    assert "upgrade" not in call(*command.split())[2]
    assert call("list")[0] == exits.OK


def test_newer_schema_is_refused(call: CALL, path: Path) -> None:
    call("enqueue", "t")
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", 99)
    newer.close()
    for command in ("list", "cancel 1", "maintain --upgrade"):
        status, out, err = call(*command.split())
        assert (status, out) == (exits.REFUSED, "")
        assert "upgrade prismq" in err


def test_the_database_is_named_before_or_behind_the_command(call: CALL, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    assert call("--db", other, "enqueue", "a")[0] == 0
    assert call("enqueue", "b", "--db", other)[0] == 0
    assert not path.exists()
    assert [row["type"] for row in json.loads(call("--json", "--db", other, "list")[1])] == ["b", "a"]


def test_all_mean_the_same_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = argparse.Namespace(db=None)
    monkeypatch.delenv("PRISMQ_QUEUE_DB_PATH", raising=False)
    assert options.database_path(given) == get_default_db_path()
    monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", str(tmp_path / "elsewhere" / "q.db"))
    database = QueueDatabase()
    assert options.database_path(given) == get_default_db_path() == database.db_path
    assert QueueBackup(database).backup_dir == tmp_path / "elsewhere" / "backups"
    assert PRODUCTION_PRAGMAS is PRAGMAS


def test_busy_has_a_status_of_its_own(call: CALL, path: Path) -> None:
    call("enqueue", "t")
    foreign = apsw.Connection(str(path))
    foreign.execute("BEGIN IMMEDIATE")
    status, out, err = call("cancel", "1")
    foreign.execute("ROLLBACK")
    foreign.close()
    assert (status, out) == (exits.BUSY, "")
    assert "locked" in err
    assert err.count("\n") == 1


def test_a_reader_that_goes_away_ends_it_quietly(environment: dict[str, str], path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": "t" * 200}] * 5000)
    process = subprocess.Popen(
        [sys.executable, "-m", "prismq", "list", "--json", "--limit", "5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == exits.OK


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console")
@pytest.mark.parametrize(("command", "status"), [("top", exits.OK), ("logs --follow", exits.INTERRUPTED)])
def test_ctrl_c_ends_it_cleanly(environment: dict[str, str], path: Path, command: str, status: int) -> None:
    with TaskQueue(path) as queue:
        task_id = queue.enqueue("t")
        queue.database.execute(
            "INSERT INTO task_logs (task_id, level, message) VALUES (?, 'INFO', 'task m')", (task_id,)
        )
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "prismq", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.read(1)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status
    assert b"Traceback" not in err
    assert err in (b"", b"prismq: interrupted\n")


@pytest.mark.parametrize(
    "wrong",
    [
        "show 99999999999999999999",
        "show 0",
        "logs 99999999999999999999",
        "cancel 99999999999999999999",
        "requeue 99999999999999999999",
        "list --before 99999999999999999999",
        "list --limit 99999999999999999999",
        "logs --limit 99999999999999999999",
        "enqueue t --in 99999999999d",
        "maintain --stale-leases 90000d",
        "prune --keep completed=999999d",
        "prune --keep completed=36560d",
        "prune --keep completed=²",
        "top --interval 1e300",
        "workers --stale inf",
        "enqueue t --priority 99999999999999999999",
        "enqueue t --max-attempts 99999999999999999999",
    ],
)
def test_numbers_beyond_all_bounds_are_wrong_usage(call: CALL, path: Path, wrong: str) -> None:
    call("enqueue", "t")
    try:
        status, out, err = call(*wrong.split())
    except SystemExit as ended:
        status, out, err = int(str(ended.code)), "", "prismq: "
    assert (status, out) == (exits.USAGE, "")
    assert err.startswith("prismq: ")


@pytest.mark.parametrize("command", ["list", "enqueue t", "doctor --no-measure", "worker --handlers jobs.py"])
def test_a_path_longer_than_the_system_allows_is_an_error(prismq: Callable[..., Any], command: str) -> None:
    done = prismq(*command.split(), "--db", "x" * 300)
    assert done.returncode in (exits.REFUSED, exits.USAGE)
    assert done.stderr.startswith("prismq: ")
    assert done.stderr.count("\n") == 1


# Root may go everywhere, so it becomes somebody else; with everything imported, which may be out of reach then.
AS_NOBODY = """
import os, sys
import prismq.doctor
from importlib import import_module
from prismq.cli import COMMANDS, main
for name in COMMANDS:
    import_module(f"prismq.cli.{name}")
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize("command", ["list", "enqueue t", "doctor --no-measure", "restore latest --yes"])
def test_a_folder_that_this_user_may_not_enter_is_an_error(
    environment: dict[str, str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "closed").mkdir()
    TaskQueue(tmp_path / "closed" / "queue.db").close()
    (tmp_path / "closed").chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, "--db", tmp_path / "closed" / "queue.db", *command.split()],
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=60,
        )
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert (done.returncode, done.stdout) == (exits.REFUSED, "")
    assert done.stderr.startswith("prismq: ")
    assert "ermission denied" in done.stderr
    assert done.stderr.count("\n") == 1


def run_with_streams(environment: dict[str, str], command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" -m prismq {command} {redirection}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable], env=environment, capture_output=True, encoding="utf-8", timeout=60
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["list", "list --json", "stats", "show 1"])
def test_output_that_can_not_be_written_is_an_error(environment: dict[str, str], path: Path, command: str) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": "t"}] * 500)
    done = run_with_streams(environment, command, ">/dev/full")
    assert done.returncode == exits.REFUSED
    assert done.stderr.startswith("prismq: ")
    assert done.stderr.count("\n") == 1
    assert run_with_streams(environment, f"--db none.db {command}", "2>/dev/full").returncode == exits.NO_DATABASE


@pytest.mark.skipif(os.name == "nt", reason="for a POSIX shell")
@pytest.mark.parametrize("command", ["list", "list --json", "enqueue mail", "top --once --interval 0.1"])
def test_whoever_closes_the_output_wants_none(environment: dict[str, str], path: Path, command: str) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue("t")
    done = run_with_streams(environment, command, ">&-")
    assert (done.returncode, done.stderr) == (exits.OK, "")
    done = run_with_streams(environment, command, "<&- >&- 2>&-")
    assert done.returncode == exits.OK
    with TaskQueue(path) as queue:
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_characters_that_the_output_lacks_are_escaped(environment: dict[str, str], path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue("mäil", {"to": "\N{SNOWMAN}"})
    environment["PYTHONIOENCODING"] = "ascii"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prismq", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, encoding="ascii", timeout=60)

    for command in ("show 1", "list", "stats"):
        done = run(*command.split())
        assert (done.returncode, done.stderr) == (exits.OK, "")
        assert "m\\xe4il" in done.stdout
    assert json.loads(run("show", "1", "--json").stdout)["type"] == "mäil"


EVIL = "\x1b[2J\x9b31m\u202e\r"


def test_no_text_of_a_task_reaches_the_terminal_as_a_command(call: CALL, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue(f"t{EVIL}", {"text": EVIL}, max_attempts=1)
        QueueMonitoring(queue.database).register_worker(f"w{EVIL}", {"x": EVIL})
        task = queue.claim(f"w{EVIL}")
        assert task is not None
        queue.fail(task, f"broken{EVIL}")
        logger = TaskLogger(queue.database)
        logger.log(1, "INFO", f"message{EVIL}")
        queue.database.execute("UPDATE task_logs SET details = ?", (f"details{EVIL}",))
        queue.database.execute("INSERT INTO task_reports (task_id, attempt, traceback) VALUES (1, 1, ?)", (EVIL,))
        queue.enqueue(f"t{EVIL}")
    for command in (
        "list",
        "show 1",
        "logs",
        "stats",
        "top --once --interval 0.1",
        "workers",
        f"maintain --analyze {EVIL}",
        f"restore {EVIL} --yes",
        f"list --db {EVIL}",
    ):
        _, out, err = call(*command.split(" "))
        assert not set(EVIL) - set("[2J31m") & set(out + err), command
        assert "\\x1b[2J" in out + err, command


def test_what_nobody_can_read_as_a_time_is_shown_as_it_is(call: CALL, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": "t"}] * 2)
        TaskLogger(queue.database).log(1, "INFO", "hello")
        queue.database.execute(
            "UPDATE task_queue SET reserved_at_utc = 'whenever', created_at_utc = 20300101 WHERE id = 1"
        )
        queue.database.execute("UPDATE task_logs SET at_utc = 'yesterday'")
    for command, text in (("list", "t"), ("show 1", "whenever"), ("logs", "yesterday"), ("logs 1", "yesterday")):
        status, out, err = call(*command.split())
        assert (status, err) == (exits.OK, "")
        assert text in out
        status, out, err = call(*command.split(), "--json")
        assert (status, err) == (exits.OK, "")
    assert json.loads(call("show", "1", "--json")[1])["reserved_at_utc"] == "whenever"
    assert call("cancel", "1")[0] == exits.OK
    assert call("cancel", "1") == (exits.REFUSED, "task 1: not changed, it is failed\n", "")


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
@pytest.mark.parametrize(
    ("command", "begun", "status"),
    [
        ("top", "tasks", exits.OK),
        ("logs --follow", "hello", exits.INTERRUPTED),
        ("demo", "three workers start", exits.INTERRUPTED),
        ("demo", "registered", exits.INTERRUPTED),
        ("demo", "is killed in the midst", exits.INTERRUPTED),
    ],
)
def test_ctrl_c_of_a_terminal_ends_a_whole_group_cleanly(
    environment: dict[str, str], path: Path, tmp_path: Path, command: str, begun: str, status: int
) -> None:
    with TaskQueue(path) as queue:
        TaskLogger(queue.database).log(queue.enqueue("t"), "INFO", "hello")
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "prismq", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "TMPDIR": str(tmp_path / "temporary")},
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        while begun not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)  # until its last child has ended
    finally:
        process.kill()
    assert process.returncode == status
    assert err in ("", "prismq: interrupted\n")
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
def test_the_workers_of_a_demo_that_is_killed_end(environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "prismq", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment, "TMPDIR": str(tmp_path)},
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        while "has the long one" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        process.communicate(timeout=30)  # until the last one that could write there has ended
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
