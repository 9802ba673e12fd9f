"""Committing together is judged against its alternatives, and measured on real processes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from interrupts import interrupt
from test_contend import GOOD
from test_harness import bench

from bench import lone
from bench.group import GATE, PLAIN, SIDES, judge
from bench.group_actors import BLOCK, DIRECTLY, TOGETHER
from bench.scenario import Durability
from bench.turn import Figures

pytestmark = pytest.mark.timeout(180)
TOGETHER_GOOD = replace(GOOD, enqueued=3500.0, p99=9.9)
SLOW = replace(GOOD, enqueued=1000.0)


def failures(
    durability: Durability, together: Figures = TOGETHER_GOOD, gate: Figures = SLOW, plain: Figures = SLOW
) -> list[str]:
    verdicts = judge(durability, [{TOGETHER: together, GATE: gate, PLAIN: plain}])
    assert len(verdicts) == 2
    return [verdict.promise for verdict in verdicts if not verdict.passed]


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_all_met(durability: Durability) -> None:
    assert failures(durability) == []


@pytest.mark.parametrize(
    ("durability", "sides", "promise"),
    [
        ("full", {"together": replace(TOGETHER_GOOD, enqueued=3499.0)}, "full: throughput >= 3.5 times, gate"),
        ("full", {"gate": replace(SLOW, enqueued=0.0)}, "full: throughput >= 3.5 times, gate"),
        ("full", {"together": replace(TOGETHER_GOOD, p99=10.0)}, "full: p99 < 10 ms"),
        ("full", {"together": replace(TOGETHER_GOOD, p99=0.0)}, "full: p99 < 10 ms"),
        ("normal", {"gate": replace(SLOW, enqueued=2334.0)}, "normal: throughput >= 1.5 times, gate"),
        ("normal", {"plain": replace(SLOW, enqueued=2917.0)}, f"normal: throughput >= 1.2 times, {PLAIN}"),
        ("normal", {"plain": replace(SLOW, enqueued=0.0)}, f"normal: throughput >= 1.2 times, {PLAIN}"),
    ],
)
def test_one_missed(durability: Durability, sides: dict[str, Figures], promise: str) -> None:
    assert failures(durability, **sides) == [promise]


def test_what_is_not_promised() -> None:
    assert failures("normal", replace(TOGETHER_GOOD, p99=100.0)) == []
    assert failures("full", plain=TOGETHER_GOOD) == []


@pytest.mark.parametrize(("found", "passed"), [(0.5, True), (1.05, True), (1.06, False), (0.0, False)])
def test_a_lone_caller_is_judged(found: float, passed: bool) -> None:
    (verdict,) = lone.judge("normal", {"enqueue": found})
    assert verdict.passed == passed
    assert "normal: lone enqueue" in verdict.promise


def test_all_parts_of_both_durabilities(tmp_path: Path) -> None:
    file = tmp_path / "group.json"
    done = bench("group", "--processes", 2, "--rounds", 1, "--seconds", 0.3, "--json", file, "--path", tmp_path)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [file]
    assert (done.returncode == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    assert [contest["durability"] for contest in result["contests"]] == ["normal", "full"]
    for contest in result["contests"]:
        check(contest, list(SIDES))
    few = [(contest["durability"], contest["processes"]) for contest in result["few"]]
    assert few == [("normal", 1), ("normal", 2), ("full", 1), ("full", 2)]
    for contest in result["few"]:
        check(contest, [TOGETHER, GATE])
    for caller in result["lone"]:
        check_lone(caller)
    for words in ("normal, 2 processes", "full, 2 processes", *SIDES, "lone caller", "gate, calls/s", "SQLITE_BUSY"):
        assert words in done.stdout
    assert done.stderr == ""


def check(contest: dict[str, Any], sides: list[str]) -> None:
    """Everybody was there in each turn, and every task is in the file."""
    assert list(contest["turns"]) == list(contest["figures"]) == sides
    assert contest["astray"] == 0
    for side in sides:
        (turn,) = contest["turns"][side]
        latency = turn["latency"]["enqueue"]
        assert len(turn["enqueued"]) == contest["processes"]
        assert sum(turn["enqueued"]) == latency["count"] > 0
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]
        assert contest["figures"][side]["enqueued"] == pytest.approx(latency["rate"])


def check_lone(caller: dict[str, Any]) -> None:
    """Whole blocks on both files, as many on each."""
    for operation, found in caller["ratios"].items():
        together, directly = (caller["latency"][side][operation] for side in (TOGETHER, DIRECTLY))
        assert together["count"] == directly["count"] > 0
        assert together["count"] % BLOCK == 0
        assert found == pytest.approx(together["p50"] / directly["p50"])


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
@pytest.mark.parametrize("delay", [0.05, 2.0], ids=["starting", "running"])
def test_an_interrupt_ends_it_cleanly(delay: float, tmp_path: Path) -> None:
    said = interrupt(["group", "--processes", 3, "--seconds", 60], tmp_path, processes=3, delay=delay)
    assert said == (130, "bench: interrupted\n")
    assert list(tmp_path.iterdir()) == []
