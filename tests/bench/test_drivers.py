"""The native driver must be worth its trouble in the best round; a busy round is no reason to fail."""

import json
from pathlib import Path

import pytest

from bench import drivers
from bench.command import main
from bench.drivers import DriversReport
from bench.scenario import Driver
from prismq import native


def report(*rounds: tuple[float, float]) -> DriversReport:
    """A claim's p50 of the native and the Python driver, round by round."""
    return DriversReport(
        {}, 10, {"native": [{"claim": a} for a, _ in rounds], "python": [{"claim": b} for _, b in rounds]}
    )


@pytest.mark.parametrize(
    ("rounds", "passed"),
    [
        ([(6.0, 10.0)], True),
        ([(30.0, 10.0), (8.9, 10.0), (9.5, 10.0)], True),
        ([(9.1, 10.0), (30.0, 31.0)], False),
    ],
)
def test_the_best_round_is_judged(rounds: list[tuple[float, float]], passed: bool) -> None:
    assert report(*rounds).passed is passed


@pytest.mark.skipif(native.load() is None, reason="the compiled module is not installed")
def test_both_drivers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, turns = tmp_path / "drivers.json", []

    def timings(path: Path, payload: object, operations: int, driver: Driver) -> dict[str, float]:
        turns.append(driver)
        return {"enqueue": 10.0}

    assert main(["drivers", "--rounds", "2", "--operations", "60", "--json", str(file), "--path", str(tmp_path)]) == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert {name: len(rounds) for name, rounds in content["microseconds"].items()} == {"native": 2, "python": 2}
    assert all(each.keys() == {"enqueue", "claim", "complete"} for each in content["microseconds"]["native"])
    monkeypatch.setattr(drivers, "api_timings", timings)
    assert main(["drivers", "--rounds", "3"]) == 1  # two drivers that are alike
    assert turns == ["native", "python", "python", "native", "native", "python"]


def test_without_the_module_there_is_nothing_to_compare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "load", lambda: None)
    with pytest.raises(SystemExit):
        main(["drivers"])
    assert "the compiled module is not installed" in capsys.readouterr().err
