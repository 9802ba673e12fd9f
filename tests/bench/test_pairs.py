"""Producers and workers on two queues: what a round comes to, how it is judged, and real rounds."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricated import Call, claimed, completed, enqueued, other, records
from interrupts import interrupt
from test_harness import bench

from bench.accounting import Row
from bench.journal import Operation, Outcome
from bench.pair_turn import PairFigures, PairTurn
from bench.pairs import OURS, THEIRS, judge
from bench.scenario import Durability
from bench.trace import Trace

pytestmark = pytest.mark.timeout(180)
GOOD = PairFigures(
    operations=4000.0,
    enqueued=2000.0,
    claimed=1000.0,
    completed=1000.0,
    longest=10.0,
    longest_of_all=500.0,
    latency={},
    waited=0,
    busy=0,
    astray=0,
)
PLAIN = replace(GOOD, operations=1000.0, longest=200.0)


def failures(durability: Durability = "full", ours: PairFigures = GOOD, theirs: PairFigures = PLAIN) -> list[str]:
    verdicts = judge(durability, [{OURS: ours, THEIRS: theirs}])
    assert len(verdicts) == 3
    return [verdict.promise for verdict in verdicts if not verdict.passed]


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_all_met(durability: Durability) -> None:
    assert failures(durability) == []


@pytest.mark.parametrize(
    ("durability", "sides", "promise"),
    [
        ("full", {"ours": replace(GOOD, operations=3999.0)}, "full: operations/s >= 4 times"),
        ("normal", {"ours": replace(GOOD, operations=1299.0)}, "normal: operations/s >= 1.3 times"),
        ("normal", {"theirs": replace(PLAIN, operations=0.0)}, "operations/s"),
        ("full", {"ours": replace(GOOD, longest=10.1)}, "longest call 20 times shorter"),
        ("full", {"ours": replace(GOOD, longest=0.0)}, "longest call 20 times shorter"),
        ("normal", {"ours": replace(GOOD, astray=1)}, "nothing lost"),
        ("normal", {"theirs": replace(PLAIN, astray=1)}, "nothing lost"),
    ],
)
def test_one_missed(durability: Durability, sides: dict[str, PairFigures], promise: str) -> None:
    (failure,) = failures(durability, **sides)
    assert promise in failure


def journal(path: Path, *calls: Call) -> Path:
    path.write_bytes(records(*calls).tobytes())
    return path


def turn(folder: Path, *work: Call) -> PairTurn:
    """Two seconds in which two tasks are enqueued, the second one too late to count."""
    producer = journal(folder / "p", enqueued(1, intended=1.1, ended=1.2), enqueued(2, intended=2.9, ended=3.1))
    worker = journal(folder / "w", *work)
    rows = [Row(1, 50, "completed", 1), Row(2, 50, "queued", 0)]
    return PairTurn.of(Trace(1.0, 3.0, [producer], [worker], 0), rows, 60.0)


SERVED = (claimed(1, 2.0, 2.5), completed(1, 2.7))
NOTHING = other(Operation.CLAIM, Outcome.EMPTY, 1.0, 1.1)
BUSY = other(Operation.CLAIM, Outcome.BUSY, 1.2, 1.9)


def test_operations_count_by_their_end(tmp_path: Path) -> None:
    found = turn(tmp_path, *SERVED)
    assert found.rates == {"enqueue": 0.5, "claim": 0.5, "complete": 0.5}
    assert found.operations == 1.5
    assert found.latency["enqueue"].count == 2
    assert found.longest == pytest.approx(500.0)
    assert (found.waited, found.busy) == (0, 0)
    assert found.account.balanced


@pytest.mark.parametrize("before", [[NOTHING], [NOTHING, BUSY]])
def test_a_claim_that_waited_for_a_task_is_counted_but_not_timed(before: list[Call], tmp_path: Path) -> None:
    found = turn(tmp_path, *before, *SERVED)
    assert found.rates["claim"] == 0.5
    assert found.latency["claim"].count == 0
    assert found.latency["complete"].count == 1
    assert (found.waited, found.busy) == (1, len(before) - 1)


def test_figures_are_medians_but_for_the_longest_of_all(tmp_path: Path) -> None:
    turns = [turn(tmp_path, claimed(1, 2.0, ended), completed(1, 2.95)) for ended in (2.3, 2.9, 2.4)]
    figures = PairFigures.of(turns)
    assert figures.longest == pytest.approx(400.0)
    assert figures.longest_of_all == pytest.approx(900.0)
    assert figures.latency["claim"]["p50"] == pytest.approx(400.0)
    assert (figures.operations, figures.enqueued, figures.completed) == (1.5, 0.5, 0.5)
    assert figures.astray == 0


def test_a_task_that_is_claimed_twice_is_astray(tmp_path: Path) -> None:
    assert PairFigures.of([turn(tmp_path, *SERVED, claimed(1, 2.1, 2.2))]).astray == 1


def test_both_sides_of_both_durabilities(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    load = ["--producers", 2, "--workers", 2, "--rounds", 2, "--seconds", 0.5]
    done = bench("pairs", *load, "--json", file, "--path", tmp_path)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [file]
    assert (done.returncode == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    assert [contest["durability"] for contest in result["contests"]] == ["normal", "full"]
    for contest in result["contests"]:
        for turns, figures in zip((contest["ours"], contest["theirs"]), contest["figures"].values(), strict=True):
            check(turns, figures)
    for words in (OURS, THEIRS, "operations/s", "longest of all", "full, operation", "p99.9", "ratio", "SQLITE_BUSY"):
        assert words in done.stdout
    assert done.stderr == ""


def check(turns: list[dict[str, Any]], figures: dict[str, Any]) -> None:
    """Every kind of call was made and every task accounted for, and the figures are those of the turns."""
    assert len(turns) == 2
    for turn in turns:
        account = turn["account"]
        assert sum(turn["rates"].values()) > 0
        assert account["lost"] == account["duplicated"] == account["unasked"] == []
        assert account["produced"] == account["completed"] + account["queued"] + account["processing"]
        assert turn["rates"].keys() == turn["latency"].keys()
        for latency in turn["latency"].values():  # sqlite3 alone may serve one process only, for so short a while
            assert 0 <= latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]
    assert figures["operations"] == pytest.approx(sum(sum(turn["rates"].values()) for turn in turns) / 2)
    longest = [max(latency["max"] for latency in turn["latency"].values()) for turn in turns]
    assert figures["longest"] == pytest.approx(sum(longest) / 2)
    assert figures["longest_of_all"] == max(longest)
    assert figures["astray"] == 0


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
@pytest.mark.parametrize("delay", [0.05, 2.0], ids=["starting", "running"])
def test_an_interrupt_ends_it_cleanly(delay: float, tmp_path: Path) -> None:
    load = ["pairs", "--producers", 2, "--workers", 2, "--seconds", 60]
    assert interrupt(load, tmp_path, processes=4, delay=delay) == (130, "bench: interrupted\n")
    assert list(tmp_path.iterdir()) == []
