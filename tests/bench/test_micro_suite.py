"""The single operations are timed on demand only, and say on what."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from interrupts import ROOT


def test_the_tests_of_the_project_are_without_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]
    assert (ROOT / "bench" / "micro" / "test_micro.py").is_file()


def test_they_run_and_say_on_what(tmp_path: Path) -> None:
    file = tmp_path / "micro.json"
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-k", "renew or complete_many", "--timeout=100"]
    # One of several test processes must not pass for one of this suite's, which would time nothing then.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, f"--benchmark-json={file}"], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    assert {one["group"] for one in found} == {"renew", "complete_many"}
    for one in found:
        assert one["stats"]["rounds"] >= 5
        assert one["extra_info"].keys() >= {"driver", "durability", "sqlite", "cpu", "depth", "tasks"}
