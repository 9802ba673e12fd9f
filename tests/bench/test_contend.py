"""Sides of a contest are judged against each other, and run in turn on real processes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from interrupts import interrupt
from test_harness import bench

from bench.command import main
from bench.contend import OURS, THEIRS, judge
from bench.turn import Figures

pytestmark = pytest.mark.timeout(180)
GOOD = Figures(
    enqueued=900.0,
    completed=450.0,
    completed_share=0.5,
    p50=1.0,
    p99=2.0,
    p99_9=3.0,
    longest=10.0,
    longest_of_all=11.0,
    producer_split=1.1,
    worker_split=1.1,
    busy=0,
)
PLAIN = replace(GOOD, enqueued=1000.0, longest=200.0, producer_split=9.0, worker_split=9.0, completed_share=0.1)


def failures(ours: Figures = GOOD, theirs: Figures = PLAIN, mixed: Figures = GOOD) -> list[str]:
    verdicts = judge([{OURS: ours, THEIRS: theirs}], [{OURS: mixed, THEIRS: PLAIN}])
    assert len(verdicts) == 5
    return [verdict.promise for verdict in verdicts if not verdict.passed]


def test_all_met() -> None:
    assert failures() == []


@pytest.mark.parametrize(
    ("sides", "promise"),
    [
        ({"ours": replace(GOOD, longest=20.1)}, "times shorter"),
        ({"theirs": replace(PLAIN, longest=99.0)}, "times shorter"),
        ({"ours": replace(GOOD, longest=0.0)}, "times shorter"),
        ({"ours": replace(GOOD, enqueued=599.0)}, "throughput"),
        ({"theirs": replace(PLAIN, enqueued=0.0)}, "throughput"),
        ({"mixed": replace(GOOD, completed_share=0.44)}, "completed : enqueued"),
        ({"mixed": replace(GOOD, producer_split=1.51)}, "producers"),
        ({"mixed": replace(GOOD, worker_split=1.51)}, "workers"),
        ({"mixed": replace(GOOD, worker_split=0.0)}, "workers"),
    ],
)
def test_one_missed(sides: dict[str, Figures], promise: str) -> None:
    (failure,) = failures(**sides)
    assert promise in failure


def test_bounds_are_kept_when_reached() -> None:
    ours = replace(GOOD, longest=20.0, enqueued=600.0)
    assert failures(ours, PLAIN, replace(GOOD, completed_share=0.45, producer_split=1.5, worker_split=1.5)) == []


def test_both_sides_of_both_loads(tmp_path: Path) -> None:
    file = tmp_path / "contend.json"
    done = bench("contend", "--processes", 3, "--rounds", 2, "--seconds", 0.5, "--json", file, "--path", tmp_path)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [file]
    assert (done.returncode == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    check(result["enqueuing"], producers=3, workers=0)
    check(result["mixed"], producers=2, workers=2)
    for words in ("3 producers", "2 producers, 2 workers", OURS, THEIRS, "ratio", "most : least", "SQLITE_BUSY"):
        assert words in done.stdout
    assert done.stderr == ""


def check(contest: dict[str, Any], producers: int, workers: int) -> None:
    """Everybody was there in each turn, and the figures are those of the turns."""
    assert (contest["producers"], contest["workers"]) == (producers, workers)
    assert len(contest["ours"]) == len(contest["theirs"]) == 2
    for side, turns in ((OURS, contest["ours"]), (THEIRS, contest["theirs"])):
        figures = contest["figures"][side]
        for turn in turns:
            latency = turn["latency"]["enqueue"]
            assert (len(turn["enqueued"]), len(turn["completed"])) == (producers, workers)
            assert sum(turn["enqueued"]) == latency["count"] > 0
            assert sum(turn["completed"]) == turn["latency"]["complete"]["count"]
            assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]
            assert turn["wal_bytes"] > 0
        longest = [turn["latency"]["enqueue"]["max"] for turn in turns]
        assert figures["longest"] == pytest.approx(sum(longest) / 2)
        assert figures["longest_of_all"] == max(longest)
        assert figures["producer_split"] >= 1
        assert figures["busy"] == sum(turn["busy"] for turn in turns)


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
@pytest.mark.parametrize("delay", [0.05, 3.0], ids=["starting", "running"])
def test_an_interrupt_ends_it_cleanly(delay: float, tmp_path: Path) -> None:
    said = interrupt(["contend", "--processes", 3, "--seconds", 60], tmp_path, processes=3, delay=delay)
    assert said == (130, "bench: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--processes", "0"], ["--rounds", "0"], ["--seconds", "0"], ["--rate", "5"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["contend", *arguments])
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["contend", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert "exit status" in said
