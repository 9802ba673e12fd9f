"""The search for the highest rate that keeps the targets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import capacity
from bench.capacity import CLOSE, MOST_PROBES, Probe, search
from bench.command import main


def machine(limit: float, hiccups: int = 0) -> Callable[[float], Probe]:
    """Keeps every rate up to the limit, but for so many probes at first."""
    left = [hiccups]

    def probe(rate: float) -> Probe:
        left[0] -= 1
        return Probe(rate, 1.0, 1.0, 0.0, 0, 0, rate <= limit and left[0] < 0)

    return probe


@pytest.mark.parametrize("first", [100.0, 900.0, 1_000.0, 5_000.0])
@pytest.mark.parametrize("hiccups", [0, 1])
def test_the_answer_is_close_to_the_limit(first: float, hiccups: int) -> None:
    probes = search(machine(1_000.0, hiccups), first)
    found = max(probe.rate for probe in probes if probe.passed)
    assert 1_000 / CLOSE <= found <= 1_000
    assert len(probes) <= MOST_PROBES + 1


def test_nothing_is_kept() -> None:
    probes = search(machine(0.0), 1_000.0)
    assert not any(probe.passed for probe in probes)
    assert len(probes) <= MOST_PROBES + 1
    assert min(probe.rate for probe in probes) >= 1.0


def test_everything_is_kept() -> None:
    assert len(search(machine(float("inf")), 1_000.0)) == MOST_PROBES


def test_a_real_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(capacity, "MOST_PROBES", 2)
    file = tmp_path / "capacity.json"
    status = main(["capacity", "--seconds", "0.4", "--json", str(file), "--path", str(tmp_path)])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert status == (not found["passed"])
    assert found["closed"] > 0
    assert 2 <= len(found["probes"]) <= 3
    assert "a rate that keeps the targets" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["capacity.json"]
