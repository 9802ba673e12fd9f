"""The main job from its command line, on real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from interrupts import ROOT

pytestmark = pytest.mark.timeout(180)
LATENCIES = {"count", "rate", "p50", "p95", "p99", "p99_9", "max"}


def bench(*arguments: object, expect: tuple[int, ...] = (0, 1)) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=150, check=False)
    assert done.returncode in expect, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def check_accounts(result: dict[str, Any]) -> None:
    for phase in result["phases"]:
        account = phase["account"]
        assert account["lost"] == account["duplicated"] == account["unasked"] == []
        states = account["completed"] + account["queued"] + account["processing"] + account["failed"]
        assert account["produced"] == states > 0
        assert phase["order_violations"] == 0
        assert phase["drained"] > 0


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def run(scratch: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    file = scratch / "result.json"
    done = bench("--producers", 2, "--workers", 2, "--seconds", 1, "--json", file, "--path", scratch)
    return done, json.loads(file.read_text(encoding="utf-8"))


def test_every_task_is_accounted_for(run: tuple[Any, dict[str, Any]]) -> None:
    check_accounts(run[1])


def test_both_phases_measure_every_operation(run: tuple[Any, dict[str, Any]]) -> None:
    closed, paced = run[1]["phases"]
    assert closed["rate"] is None
    assert paced["rate"] == pytest.approx(closed["capacity"] / 2)
    for phase in (closed, paced):
        for operation in ("enqueue", "claim", "complete", "arrival to claim"):
            latency = phase["latency"][operation]
            assert latency.keys() == LATENCIES
            assert latency["count"] > 0
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]
        assert phase["wal_bytes"] > 0
        assert phase["database_bytes"] > 0


def test_paced_arrivals_all_came(run: tuple[Any, dict[str, Any]]) -> None:
    paced = run[1]["phases"][1]
    assert paced["latency"]["enqueue"]["count"] == pytest.approx(paced["rate"] * paced["seconds"], abs=1)


def test_the_report_says_it_all(run: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, result = run
    for words in (
        "p99.9",
        "SQLITE_BUSY",
        "lost",
        "duplicated",
        "order violations",
        "WAL",
        "claim p99 < 10 ms",
        "SQLite 3.",
    ):
        assert words in done.stdout
    assert (done.returncode == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    assert done.stderr == "", "quiet when nobody looks"


def test_facts_about_the_machine(run: tuple[Any, dict[str, Any]]) -> None:
    machine = run[1]["machine"]
    for fact in ("cpu", "cores", "os", "file_system", "python", "sqlite", "driver", "durability", "date"):
        assert machine[fact]


def test_nothing_is_left_behind(run: tuple[Any, dict[str, Any]], scratch: Path) -> None:
    assert [path.name for path in scratch.iterdir()] == ["result.json"]


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    bench(
        *("--seconds", 3, "--phase", "paced", "--rate", 300, "--workers", 3),
        *("--kill-workers", 0.5, "--lease-seconds", 1, "--json", file, "--path", tmp_path),
    )
    result = json.loads(file.read_text(encoding="utf-8"))
    check_accounts(result)
    (phase,) = result["phases"]
    assert phase["kills"] >= 4
    assert phase["account"]["completed"] == phase["account"]["produced"]


def test_an_overload_shows_as_latency(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    bench(
        *("--seconds", 0.5, "--phase", "paced", "--rate", 1_000_000, "--producers", 1, "--workers", 1),
        *("--json", file, "--path", tmp_path),
        expect=(1,),
    )
    (phase,) = json.loads(file.read_text(encoding="utf-8"))["phases"]
    assert phase["missed_arrivals"] > 0
    assert phase["latency"]["enqueue"]["count"] == 500_000
    assert phase["latency"]["enqueue"]["p99"] > phase["latency"]["enqueue call"]["p99"]


@pytest.mark.parametrize("keep", [False, True])
def test_kept_only_when_asked(tmp_path: Path, keep: bool) -> None:
    bench("--seconds", 0.2, "--phase", "closed", "--path", tmp_path, *(["--keep"] if keep else []))
    assert bool(list(tmp_path.rglob("*.journal"))) == keep
