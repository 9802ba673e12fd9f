"""Wake-ups from the command line, and what they are held against."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import wake
from bench.command import main
from bench.herd import Herd
from bench.reaction import Reactions
from bench.wake import POLLED, WOKEN, WakeReport

WAITED = Reactions([60.0] * 9, [110.0] * 9, 0)
ASKED = Reactions([600.0] * 9, [650.0] * 9, 0)
GOOD = WakeReport({}, 9, {WOKEN: [WAITED], POLLED: [ASKED]}, Herd(16, 4, [4, 5], [0, 1], 0, 12))


def failures(report: WakeReport) -> list[str]:
    return [verdict.promise for verdict in report.verdicts if not verdict.passed]


def with_sides(woken: Reactions, polled: Reactions = ASKED) -> WakeReport:
    return replace(GOOD, rounds={WOKEN: [woken], POLLED: [polled]})


def test_all_met() -> None:
    assert failures(GOOD) == []
    assert GOOD.passed


def test_a_worker_that_has_its_task_before_the_producer_knows_is_no_failure() -> None:
    assert failures(with_sides(replace(WAITED, since_commit=[-5.0] * 9))) == []


@pytest.mark.parametrize(
    ("report", "promise"),
    [
        (with_sides(replace(WAITED, since_commit=[101.0] * 9), replace(ASKED, since_commit=[9e9] * 9)), "<= 100 us"),
        (with_sides(replace(WAITED, since_commit=[61.0] * 9)), "10 times sooner"),
        (with_sides(replace(WAITED, missed=1)), "no task missed"),
        (replace(GOOD, herd=replace(GOOD.herd, wakes=[8, 9])), "wakes per burst"),
        (replace(GOOD, herd=replace(GOOD.herd, wakes=[0, 0])), "wakes per burst"),
        (replace(GOOD, herd=replace(GOOD.herd, unclaimed=1)), "every task"),
    ],
)
def test_one_missed(report: WakeReport, promise: str) -> None:
    (failure,) = failures(report)
    assert promise in failure
    assert not report.passed


def test_nothing_measured_is_no_pass() -> None:
    assert len(failures(with_sides(Reactions([], [], 9)))) == 3
    assert len(failures(with_sides(WAITED, Reactions([], [], 9)))) == 2


@pytest.mark.parametrize("driver", ["auto", "python"])
def test_both_sides_and_the_herd(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wake, "BURSTS", 3)
    file = tmp_path / "wake.json"
    arguments = ["wake", "--samples", "5", "--rounds", "2", "--processes", "6", "--driver", driver]
    status = main([*arguments, "--json", str(file), "--path", str(tmp_path)])
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (status == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    for side in (WOKEN, POLLED):
        assert [len(each["since_commit"]) + each["missed"] for each in result["rounds"][side]] == [5, 5]
        figures = result["sides"][side]
        assert figures["missed"] == 0
        assert figures["call_to_claimed"]["count"] == 10
        assert 0 < figures["call_to_claimed"]["p50"] <= figures["call_to_claimed"]["max"]
        assert figures["commit_to_claimed"]["p50"] < figures["call_to_claimed"]["p50"]
    assert result["sides"]["claim(wait=...), not pinned"]["missed"] == 0
    herd = result["herd"]
    assert (herd["workers"], herd["tasks"], herd["unclaimed"]) == (6, 4, 0)
    assert len(herd["wakes"]) == len(herd["empty"]) == 3
    assert sum(herd["wakes"]) - sum(herd["empty"]) == 12
    printed = capsys.readouterr()
    assert "commit to claimed" in printed.out
    assert "3 bursts of 4 tasks on 6 idle workers" in printed.out
    assert printed.err == "", "quiet when nobody looks"
    assert list(tmp_path.iterdir()) == [file]
