"""The runbook's commands run as they are written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from prismq import QueueBackup, QueueMonitoring, TaskLogger, TaskQueue
from prismq.cli import COMMANDS, main

DOCS = Path(__file__).resolve().parents[1] / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
WINDOWS = os.name == "nt"


@pytest.fixture
def prepared(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue in which there is something of everything, as the default database; the folder is the current one."""
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": kind, "max_attempts": 1} for kind in ("mail", "video", "mail", "video", "mail")])
        queue.complete_many(queue.claim_many("ada", 2))
        (task,) = queue.claim_many("ada", 1)
        queue.fail(task, "broken")
        assert queue.enqueue("video", idempotency_key="late", run_after="2100-01-01") == 6
        QueueMonitoring(queue.database).register_worker("ada", {"gpu": True})
        TaskLogger(queue.database).log(1, "ERROR", "it broke")
        QueueBackup(queue.database).create_backup("daily")
    monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_a_block_runs_as_it_is_written(block: str, prepared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if "||" in block:
        if WINDOWS:
            pytest.skip("a line for a POSIX shell")
        folder = prepared.parent / "bin"
        folder.mkdir()
        command = folder / "prismq"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m prismq "$@"\n')
        command.chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-e", "-c", block], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "look at the queue" in done.stdout  # there is a dead letter
        return
    for line in block.splitlines():
        name, *arguments = shlex.split(line)
        assert name == "prismq"
        assert arguments[0] in COMMANDS
        assert main(arguments) == 0, line
        out, err = capfd.readouterr()
        assert out.strip(), line
        assert err == "", line


def test_it_has_blocks_and_its_links_lead_somewhere() -> None:
    assert len(BLOCKS) >= 12
    for page in ("runbook.md", "command-line.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (DOCS / target).exists(), target
    assert set(
        re.findall(r"^### `prismq (\w+)", (DOCS / "command-line.md").read_text(encoding="utf-8"), re.MULTILINE)
    ) == set(COMMANDS)
