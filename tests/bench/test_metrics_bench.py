"""Metrics are measured on a queue that has everything they look at."""

import json
from pathlib import Path

import pytest

from bench import metrics
from bench.command import main

FEW = ["--finished", "3000", "--rounds", "2", "--operations", "40"]


@pytest.fixture(autouse=True)
def few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "QUEUED_TASKS", 500)
    monkeypatch.setattr(metrics, "LOG_ENTRIES", 1500)


@pytest.mark.parametrize("driver", ["auto", "python"])
def test_every_metric_is_read_and_every_completion_timed(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "LIMIT_MS", 1e9)  # a busy machine proves nothing
    monkeypatch.setattr(metrics, "COST_LIMIT", 1e9)
    file = tmp_path / "metrics.json"
    assert main(["metrics", *FEW, "--driver", driver, "--json", str(file), "--path", str(tmp_path)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["finished"], result["queued"], result["passed"]) == (3000, 500, True)
    measured = [reading["metric"] for reading in result["readings"]]
    assert len(measured) == len(set(measured)) == 26
    for reading in result["readings"]:
        assert 0 < reading["p50"] <= reading["max"]
    assert 1 <= result["uncounted"]["pages"] <= 6
    assert result["counted"]["pages"] < result["uncounted"]["pages"] + 0.5  # not a page more
    printed = capsys.readouterr().out
    assert sum(line.endswith("PASS") for line in printed.splitlines()) == 26
    assert "3,000 finished tasks of 50 types" in printed
    assert list(tmp_path.iterdir()) == [file]


def test_a_metric_that_takes_too_long_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "LIMIT_MS", 1e-6)
    assert main(["metrics", *FEW, "--path", str(tmp_path)]) == 1
    assert "FAIL  every metric < 1e-06 ms (p50)" in capsys.readouterr().out
