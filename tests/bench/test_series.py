"""Named scenarios: each does what its name says, and a series that was interrupted is gone on with."""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fabricated import claimed, completed, enqueued, other, records
from interrupts import interrupt
from test_harness import bench, check_accounts

from bench import phase as phases
from bench.accounting import Row, account
from bench.command import main
from bench.journal import Operation, Outcome
from bench.phase import run_phase
from bench.scenario import DELAYED_EVERY, Scenario
from bench.scenarios import SCENARIOS
from bench.schedule import Schedule
from bench.series import Series
from bench.snapshot import Snapshot
from prismq import QueueDatabase

pytestmark = pytest.mark.timeout(180)


def test_kinds_come_in_turn() -> None:
    kinds = Scenario(payload_sizes=(100, 200), types=("a", "b", "c")).kinds()
    assert [kind.type for kind in kinds] == ["a", "b", "c"] * 2
    assert [len(json.dumps(kind.payload)) for kind in kinds] == [100, 200] * 3


def test_one_in_four_is_delayed() -> None:
    kinds = Scenario(delay_seconds=0.5).kinds()
    assert [kind.run_after for kind in kinds] == [timedelta(seconds=0.5)] + [None] * (DELAYED_EVERY - 1)


def test_a_burst_is_due_at_once_and_keeps_the_rate() -> None:
    shares = [Schedule(100.0, 1.0, index, 2, burst=10) for index in range(2)]
    moments = sorted(moment for share in shares for moment in share.arrivals(0.0))
    assert moments == pytest.approx([number // 10 / 10 for number in range(100)])


def failed(task: int, ended: float, attempt: int = 1) -> tuple[int, int, int, int, int, float, float, float]:
    return (Operation.FAIL, Outcome.DONE, attempt, 50, task, ended - 0.05, ended - 0.05, ended)


def test_a_claim_after_a_failure_is_no_duplicate() -> None:
    calls = [enqueued(1), claimed(1), failed(1, 1.3), claimed(1, 1.4, 1.5, attempt=2), completed(1, 1.6, attempt=2)]
    found = account(records(*calls), [Row(1, 50, "completed", 2)], 60.0)
    assert (found.retried, found.reclaimed, found.balanced) == (1, 0, True)
    without = account(records(*[call for call in calls if call[0] != Operation.FAIL]), [Row(1, 50, "completed", 2)], 60)
    assert without.duplicated == [1]


def test_a_failure_that_was_not_acknowledged_excuses_nothing() -> None:
    busy = other(Operation.FAIL, Outcome.BUSY)
    calls = [enqueued(1), claimed(1), busy, claimed(1, 1.4, 1.5, attempt=2)]
    assert account(records(*calls), [Row(1, 50, "processing", 2)], 60.0).duplicated == [1]


@dataclass(frozen=True)
class Run:
    series: Series

    def report(self, name: str) -> dict[str, Any]:
        return next(one.report for one in self.series.outcomes if one.scenario == name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What each of the scenarios that ask most of the accounts found."""
    folder = tmp_path_factory.mktemp("series")
    file = folder / "series.json"
    names = ["delayed", "failing", "held-reader"]
    done = bench("run", "--scenario", *names, "--seconds", 0.3, "--json", file, "--path", folder)
    assert [path.name for path in folder.iterdir()] == ["series.json"]
    for words in ("claim p99 < 10 ms", "enqueue p99 < 5 ms", "SQLITE_BUSY < 1 %", "astray"):
        assert words in done.stdout
    series = Series.read(file)
    assert [outcome.scenario for outcome in series.outcomes] == names
    return Run(series)


def test_every_task_of_every_scenario_is_accounted_for(run: Run) -> None:
    for outcome in run.series.outcomes:
        check_accounts(outcome.report)


def test_scenarios_do_what_they_say(run: Run) -> None:
    assert all(phase["account"]["retried"] > 0 for phase in run.report("failing")["phases"])
    assert all(phase["account"]["retried"] == 0 for phase in run.report("delayed")["phases"])
    promises = {name: [one["promise"] for one in run.report(name)["verdicts"]] for name in ("held-reader", "failing")}
    assert "no task out of order" in promises["held-reader"]
    assert "no task out of order" not in promises["failing"]  # there is no order to keep


@pytest.mark.parametrize("name", ["burst", "delayed", "many-producers", "many-workers", "mixed-payloads", "crash"])
def test_the_other_scenarios(name: str, tmp_path: Path) -> None:
    """With all their processes, but a window so short that kills have to come sooner."""
    load = replace(SCENARIOS[name].load, seconds=0.3, rate=400.0 if name == "burst" else None)
    if name == "crash":
        load = replace(load, kill_seconds=0.1, lease_seconds=0.3)
    phase = run_phase(name, load, tmp_path / "phase")
    assert phase.account.balanced
    assert (phase.account.lost, phase.account.duplicated, phase.account.unasked) == ([], [], [])
    assert (phase.kills > 0) == (name == "crash")
    drains = 1
    journals = list((tmp_path / "phase").glob("*.journal"))
    assert len(journals) == load.producers + load.workers + drains + phase.kills  # who is killed is replaced
    if name == "delayed":
        early = (
            "SELECT count(*), total(processing_started_utc < run_after_utc) FROM task_queue"
            " WHERE run_after_utc > created_at_utc"
        )
        with QueueDatabase(str(tmp_path / "phase" / "queue.db")) as database:
            delayed, too_early = database.execute(early).fetchone()
        assert delayed >= phase.latency["enqueue"].count // (DELAYED_EVERY + 1)
        assert too_early == 0
    if name == "mixed-payloads":
        with QueueDatabase(str(tmp_path / "phase" / "queue.db")) as database:
            sizes = {row[0] for row in database.execute("SELECT DISTINCT length(payload) FROM task_queue").fetchall()}
        assert sizes >= {size - 3 for size in load.payload_sizes}  # without the spaces of json.dumps
    if name == "burst":
        latency = phase.latency["enqueue"]
        assert latency.count + phase.missed_arrivals == pytest.approx(120, abs=load.burst)


def test_a_held_snapshot_keeps_the_wal_from_being_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with Scenario().open(path) as queue, Snapshot(path, "normal") as snapshot:

        def waits() -> int:
            """Pages of the WAL after it was tried to empty it."""
            queue.enqueue("bench", {})
            pages: int = queue.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[1]
            return pages

        queue.database.get_connection().apsw.set_busy_timeout(0)
        assert waits() == 0
        snapshot.keep(True)
        assert waits() > 0
        snapshot.keep(False)
        assert waits() == 0


def test_the_held_reader_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []

    class Watched(Snapshot):
        def keep(self, wanted: bool) -> None:
            kept.append(wanted)
            super().keep(wanted)

    monkeypatch.setattr(phases, "Snapshot", Watched)
    run_phase("closed loop", replace(SCENARIOS["held-reader"].load, seconds=0.6), tmp_path / "phase")
    changes = [now for before, now in pairwise([False, *kept]) if now != before]
    assert changes == [True, False]


def test_a_backlog_is_there_before_the_window_opens(tmp_path: Path) -> None:
    phase = run_phase("closed loop", Scenario(1, 1, 0.1, backlog=1_500), tmp_path / "phase")
    assert phase.account.produced >= 1_500
    assert phase.account.balanced
    assert phase.order_violations == 0
    assert phase.latency["enqueue"].count <= phase.account.produced - 1_500


def test_a_series_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "series.json"
    load = ["--scenario", "steady", "mixed-types", "--seconds", 0.2, "--phase", "closed"]
    bench("run", *load, "--json", file)
    whole = Series.read(file)
    assert whole.remaining == []
    file.write_text(json.dumps(asdict(replace(whole, outcomes=whole.outcomes[:1]))), encoding="utf-8")
    done = bench("run", "--resume", file)
    again = Series.read(file)
    assert again.outcomes[0] == whole.outcomes[0]
    assert [outcome.scenario for outcome in again.outcomes] == ["steady", "mixed-types"]
    assert "mixed-types" in done.stdout


@pytest.mark.parametrize(("fact", "value"), [("cpu", "another"), ("sqlite", "3.99.0"), ("driver", "another")])
def test_a_series_of_another_machine_is_refused(
    run: Run, fact: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = replace(run.series, outcomes=[replace(run.series.outcomes[0])])
    file = tmp_path / "series.json"
    file.write_text(json.dumps(asdict(series)), encoding="utf-8")
    assert Series.read(file) == series
    outcome = replace(series.outcomes[0], machine=series.outcomes[0].machine | {fact: value})
    file.write_text(json.dumps(asdict(replace(series, outcomes=[outcome]))), encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--resume", str(file)])
    assert stopped.value.code == 2
    assert f"{fact} {value} then, " in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_an_interrupt_is_clean(tmp_path: Path) -> None:
    load = ["run", "--scenario", "steady", "--seconds", 60]
    assert interrupt(load, tmp_path, processes=5, delay=0.5)[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--scenario", "nothing"], "invalid choice"),
        (["run", "--phase", "paced"], "needs --rate"),
        (["run", "--resume", "missing.json", "--seconds", "3"], "without --seconds"),
        (["run", "--resume", "missing.json"], "no such file"),
        (["capacity", "--scenario", "nothing"], "invalid choice"),
        (["capacity", "--seconds", "0"], "more than 0"),
        (["guard", "--update", "--repeats", "2"], "one count is the baseline"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
