"""The single operations are timed on demand only, and every one of them runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from interrupts import ROOT

pytestmark = pytest.mark.timeout(180)


def collected(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_the_project_s_tests_are_without_them() -> None:
    assert "testpaths" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not any("test_micro.py" in test for test in collected("-n0", "tests/test_enqueue.py", "tests/bench"))


def test_they_run_and_say_on_what(tmp_path: Path) -> None:
    file = tmp_path / "micro.json"
    command = [sys.executable, "-m", "pytest", "bench/micro", "-q", "-k", "0 and (claim or renew)"]
    done = subprocess.run([*command, f"--benchmark-json={file}"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    assert {one["group"] for one in found} >= {"claim", "claim_many", "renew"}
    for one in found:
        assert one["stats"]["rounds"] >= 5
        assert one["extra_info"].keys() >= {"driver", "durability", "sqlite", "cpu", "depth", "tasks"}
