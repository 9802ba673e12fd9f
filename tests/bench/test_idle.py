"""What idle workers use, from the command line."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench import idle
from bench.command import main
from bench.idle import IdleReport
from bench.usage import Moment, Usage, cpu_seconds

QUIET = IdleReport({}, 20.0, [Usage(0.05, 1.0), Usage(0.12, 1.0)], Usage(3.0, 900.0))


def test_the_mean_is_judged() -> None:
    assert QUIET.passed
    assert QUIET.cpu_percent == pytest.approx(0.085)
    assert not replace(QUIET, waiting=[Usage(0.05, 1.0), Usage(0.15, 1.0)]).passed


def test_use_between_two_moments() -> None:
    assert Usage.between(Moment(10.0, 1.0, 100), Moment(14.0, 1.5, 120)) == Usage(12.5, 5.0)


def test_cpu_time_of_a_process() -> None:
    process = psutil.Process(os.getpid())
    before, own = cpu_seconds(process), time.process_time()
    while time.process_time() < own + 0.2:
        pass
    assert cpu_seconds(process) - before >= 0.15


def test_every_worker_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(idle, "SETTLE_SECONDS", 0.2)
    file = tmp_path / "idle.json"
    arguments = ["idle", "--seconds", "1", "--workers", "2"]
    status = main([*arguments, "--json", str(file), "--path", str(tmp_path)])
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (status == 0) == result["passed"]
    assert len(result["waiting"]) == 2
    for usage in (*result["waiting"], result["polling"]):
        assert usage["cpu_percent"] >= 0
        assert usage["switches_per_second"] >= 0
    assert result["polling"]["cpu_percent"] > 0
    printed = capsys.readouterr()
    assert "CPU of an idle worker" in printed.out
    assert printed.err == "", "quiet when nobody looks"
    assert list(tmp_path.iterdir()) == [file]
