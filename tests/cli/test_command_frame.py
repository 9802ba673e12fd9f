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
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import PRAGMAS, PRODUCTION_PRAGMAS, QueueBackup, QueueDatabase, TaskQueue, get_default_db_path
from prismq.cli import COMMANDS, exits, main, options

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


def test_a_database_of_something_else_is_left_alone(call: CALL, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE mine (x)")
    other.close()
    status, _, err = call("list")
    assert status == exits.NO_DATABASE
    assert "without a queue" in err
    path.with_name("text.db").write_text("my letters " * 500)
    status, _, err = call("list", "--db", path.with_name("text.db"))
    assert status == exits.REFUSED
    assert "not a database" in err
    assert path.with_name("text.db").read_text() == "my letters " * 500


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
