"""How soon others go on after a kill, from the command line, and what it is held against."""

import json
from pathlib import Path

from bench.command import main
from bench.takeover import EVENTS, NEVER_MS, TakeoverReport


def failures(milliseconds: list[float]) -> list[str]:
    report = TakeoverReport({}, dict.fromkeys(EVENTS, milliseconds))
    return [verdict.promise for verdict in report.verdicts if not verdict.passed]


def test_soon_enough() -> None:
    assert failures([1.0] * 9 + [49.0]) == []


def test_too_late() -> None:
    assert len(failures([1.0] * 8 + [51.0] * 2)) == len(EVENTS)


def test_a_task_that_nobody_got_is_lost() -> None:
    assert failures([1.0] * 99 + [NEVER_MS]) == ["no task lost"]


def test_every_event_happens(tmp_path: Path) -> None:
    file = tmp_path / "takeover.json"
    status = main(["takeover", "--rounds", "1", "--json", str(file), "--path", str(tmp_path)])
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (status == 0) == result["passed"]
    assert {event: len(each) for event, each in result["milliseconds"].items()} == dict.fromkeys(EVENTS, 1)
    assert next(verdict for verdict in result["verdicts"] if verdict["promise"] == "no task lost")["passed"]
