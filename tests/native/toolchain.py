"""Compilers for the tests in this folder: missing ones skip a test, but never where CI promises them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
HERE = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror")


def require(tool: str) -> str:
    """The path of a tool."""
    found = shutil.which(tool)
    if found is None:
        _missing(f"{tool} is not installed")
    assert found is not None
    return found


def require_sqlite_headers() -> None:
    """sqlite3.h and sqlite3ext.h, found by gcc."""
    compiler = require("gcc")
    done = _run([compiler, "-E", "-x", "c", "-"], "#include <sqlite3ext.h>\n")
    if done.returncode != 0:
        _missing("sqlite3ext.h is not installed (Debian: libsqlite3-dev)")


def compile_c(command: list[str], source: str | None = None) -> str:
    """Run a compiler that must succeed; returns what it printed."""
    done = _run(command, source)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stderr


def refusal(command: list[str], source: str) -> str:
    """Run a compiler that must fail; returns why it did."""
    done = _run(command, source)
    assert done.returncode != 0, f"compiled, but should not have:\n{source}"
    return done.stderr


def statement_names() -> list[str]:
    """The statements of interface.h, in its order, as `engine/prismq/sql.py` names them."""
    text = (NATIVE / "interface.h").read_text(encoding="utf-8")
    enum = text[: text.index("} prismq_sql;")]
    names = re.findall(r"^ {2}SQL_(\w+),?$", enum, re.MULTILINE)
    assert names[-1] == "STATEMENTS"
    return names[:-1]


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must not go without this test")
    pytest.skip(reason)


def _run(command: list[str], source: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False)
