"""Runs the command as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prismq.cli import main

Prismq = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(path: Path) -> dict[str, str]:
    """Of a process whose default database is the test's."""
    return {**os.environ, "PRISMQ_QUEUE_DB_PATH": str(path), "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}


@pytest.fixture
def prismq(environment: dict[str, str], tmp_path: Path) -> Prismq:
    """Runs `python -m prismq ...` in a process of its own."""

    def run(*arguments: object, given: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prismq", *map(str, arguments)],
            input=given,
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=60,
            **{"cwd": tmp_path, **options},
        )

    return run


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Calls the command in this process: exit status, standard output and standard error."""
    monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", str(path))

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def ask(call: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Calls the command with --json, which has to succeed: what it says."""

    def run(*arguments: object) -> Any:
        status, out, err = call(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run
