"""A soak from its command line, and what it is held against."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated import other, records

from bench import soak
from bench.balance import Balance
from bench.command import main
from bench.crew import CrewError
from bench.journal import Operation, Outcome
from bench.latency import Latency
from bench.samples import Sample, Stretch
from bench.soak import PHASES, SLACK_BYTES, Phase, SoakReport

LIMIT = 1_000_000


def phase(name: str, wal_bytes: int) -> Phase:
    latency = Latency.of(np.full(10, 0.001), 1.0)
    return Phase(Stretch(0.0, 1.0, name, wal_bytes, 10.0, 10.0), dict.fromkeys(soak.CALLS, latency))


GOOD = SoakReport(
    machine={},
    processes=2,
    seconds=3.0,
    snapshot_seconds=1.0,
    wal_limit_bytes=LIMIT,
    phases=[phase("before", 10), phase("held", LIMIT + SLACK_BYTES), phase("after", 20)],
    busy=0,
    refused=0,
    stuck=0,
    balance=Balance(3, 2, 0, {"completed": 2, "queued": 1}),
    database_bytes=4096,
    samples=[],
)


def failures(report: SoakReport) -> list[str]:
    return [verdict.promise for verdict in report.verdicts if not verdict.passed]


def test_all_met() -> None:
    assert failures(GOOD) == []
    assert GOOD.passed


@pytest.mark.parametrize(
    ("report", "promise"),
    [
        (replace(GOOD, wal_limit_bytes=LIMIT - 1), "largest WAL"),
        (replace(GOOD, phases=[*GOOD.phases[:2], phase("after", 2 * LIMIT)]), "largest WAL"),
        (replace(GOOD, busy=1), "no errors"),
        (replace(GOOD, refused=1), "no errors"),
        (replace(GOOD, stuck=1), "every call came back"),
        (replace(GOOD, balance=replace(GOOD.balance, enqueued=4)), "enqueued"),
    ],
)
def test_one_missed(report: SoakReport, promise: str) -> None:
    (failure,) = failures(report)
    assert promise in failure
    assert not report.passed


def test_busy_calls_are_timed_in_the_phase_they_began_in() -> None:
    busy = [other(Operation.ENQUEUE, Outcome.BUSY, started, started + 5.0) for started in (10.5, 11.0, 12.0)]
    result = soak._phase(Stretch(1.0, 2.0, "held", 0, 0.0, 0.0), records(*busy), start=10.0)
    assert result.latency[soak.BUSY].count == 1
    assert result.latency[soak.BUSY].max == pytest.approx(5000.0)
    assert result.latency["enqueue"].count == 0


@pytest.mark.parametrize("seen", [PHASES[:1], PHASES[:2], PHASES[1:]])
def test_a_snapshot_not_held_within_the_run_is_no_result(seen: tuple[str, ...]) -> None:
    samples = [Sample(float(number), name, 0, 0, 0) for number, name in enumerate(seen)]
    with pytest.raises(CrewError, match="snapshot was not held"):
        soak._phases(samples)


@pytest.mark.parametrize("driver", ["auto", "python"])
def test_before_while_and_after(driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "soak.json"
    arguments = ["soak", "--seconds", "3", "--processes", "2", "--snapshot-seconds", "1", "--driver", driver]
    status = main([*arguments, "--json", str(file), "--path", str(tmp_path)])
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (status == 0) == result["passed"]
    assert [phase["stretch"]["phase"] for phase in result["phases"]] == list(PHASES)
    held = result["phases"][1]["stretch"]
    assert held["end"] - held["begin"] > 0.5
    for one in result["phases"]:
        assert one["latency"].keys() == {*soak.CALLS, soak.BUSY}
        assert one["latency"]["enqueue"]["count"] > 0
    samples = result["samples"]
    assert {len(column) for column in samples.values()} == {30}
    assert sorted(samples["enqueued"]) == samples["enqueued"]
    assert max(samples["wal_bytes"]) == result["wal_bytes"] > 0
    balance = result["balance"]
    assert balance["enqueued"] >= samples["enqueued"][-1] > 0
    assert balance["enqueued"] == sum(balance["rows"].values())
    assert balance["completed"] == balance["rows"]["completed"]
    printed = capsys.readouterr()
    assert "largest WAL" in printed.out
    assert printed.err == "", "quiet when nobody looks"
    assert list(tmp_path.iterdir()) == [file]
