"""The tuner keeps only what is beyond the noise, never weakens the durability, and can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupts import ROOT

from bench.command import main
from bench.crew import CrewError
from bench.machine import machine_facts
from bench.scenario import Scenario
from bench.scratch import scratch_folder
from bench.tune import players, search, windows
from bench.tune.candidates import CANDIDATES, Candidate, merged
from bench.tune.judge import LEAST_PAIRS, TARGETS, Gain, Pair, gains, is_worth_it, quantile
from bench.tune.outcome import CONFIRMED, Outcome, render
from bench.tune.players import Figures
from bench.tune.record import Entry, Record, RecordError
from bench.tune.search import CONFIRM, RUNGS, Found
from prismq import QueueBusyError, Settings
from prismq.settings import load_settings

with scratch_folder(None) as place, Scenario().open(place / "facts.db") as opened:
    FACTS: dict[str, Any] = machine_facts(place, opened, "normal")
GROUP_OFF = next(one for one in CANDIDATES if one.label == "group_commit off")
BIG_PAGES = next(one for one in CANDIDATES if one.label == "page_size 8 KiB")


def pair(operations: float = 1.0, p99: float = 1.0, batch: float = 1.0, completed: float = 1.0) -> Pair:
    """Times the defaults' figures."""
    base = {"operations": 1000.0, "completed": 250.0, "p99_ms": 2.0, "batch": 500.0}
    times = {"operations": operations, "completed": completed, "p99_ms": p99, "batch": batch}
    return {key: base[key] * times[key] for key in base}, base


def record(found: dict[tuple[str, str], list[Pair]], durability: Any = "normal") -> Record:
    entries = [
        Entry(stage, number, subject, dict(figures), dict(beside), 1.0)
        for (stage, subject), pairs in found.items()
        for number, (figures, beside) in enumerate(pairs)
    ]
    return Record(FACTS, dict.fromkeys(("drive", "power plan"), windows.NOT_KNOWN), durability, 1.0, entries)


# -- what counts as a difference --------------------------------------------------------------------------------------


def test_a_gain_is_the_geometric_mean_with_its_interval() -> None:
    gain = Gain.of([2.0, 0.5] * 10)
    assert gain.middle == pytest.approx(1.0)
    assert gain.low < 1 < gain.high
    assert not gain.is_better
    assert not gain.is_worse
    assert Gain.of([1.1] * LEAST_PAIRS).is_better
    assert Gain.of([0.9] * LEAST_PAIRS).is_worse
    assert Gain.of([1.1, 1.2, 1.3]) == Gain.of([1.1, 1.2, 1.3])


def test_too_few_pairs_are_no_evidence() -> None:
    assert not Gain.of([3.0] * (LEAST_PAIRS - 1)).is_better
    assert Gain.of([0.5]).is_worse  # but nothing is kept that looks bad
    assert Gain.of([]).pairs == 0


def test_less_is_better_for_latency() -> None:
    found = gains([pair(p99=0.5)] * LEAST_PAIRS)
    assert found["p99_ms"].middle == pytest.approx(2.0)
    assert is_worth_it(found)
    assert not is_worth_it(gains([pair(p99=2.0)] * LEAST_PAIRS))


@pytest.mark.parametrize(
    ("one", "worth"),
    [
        (pair(operations=1.2), True),
        (pair(batch=1.2), True),
        (pair(completed=1.2), True),
        (pair(operations=1.2, completed=0.9), False),  # faster, since workers starve
        (pair(), False),
        (pair(operations=1.2, p99=1.1), False),
        (pair(operations=1.2, batch=0.9), False),
        (pair(operations=1.2, batch=0.98), False),  # surely
    ],
)
def test_a_change_must_be_better_somewhere_and_worse_nowhere(one: Pair, worth: bool) -> None:
    assert is_worth_it(gains([one] * LEAST_PAIRS)) == worth


@pytest.mark.parametrize("pairs", [LEAST_PAIRS, 8, 12])
def test_noise_alone_is_hardly_ever_kept(pairs: int) -> None:
    """Both sides vary by 10 %, all targets by themselves: a change that does nothing is kept in less than 1 of 30."""
    random = np.random.default_rng(0)
    keys = [target.key for target in TARGETS]

    def side() -> dict[str, float]:
        return dict(zip(keys, np.exp(random.normal(0, 0.1, len(keys))).tolist(), strict=True))

    kept = sum(is_worth_it(gains([(side(), side()) for _ in range(pairs)])) for _ in range(400))
    assert kept < 400 / 30


@pytest.mark.parametrize(("share", "freedom", "value"), [(0.975, 1, 12.706), (0.975, 7, 2.3646), (0.995, 10, 3.1693)])
def test_students_t(share: float, freedom: int, value: float) -> None:
    assert quantile(share, freedom) == pytest.approx(value, rel=1e-3)


def test_a_target_is_worse_by_more_than_its_noise() -> None:
    assert not Gain.of([0.6, 1.3, 0.9, 1.2, 0.7, 1.2]).is_worse  # 0.94, by half a standard error
    assert Gain.of([0.85, 0.95, 0.9, 1.02, 0.9, 0.95]).is_worse
    assert Gain.of([0.99] * LEAST_PAIRS).is_worse


def test_candidates_are_settings_that_are_allowed_and_leave_the_durability_alone() -> None:
    labels = [candidate.label for candidate in CANDIDATES]
    assert len(set(labels)) == len(labels)
    for candidate in CANDIDATES:
        assert "durability" not in candidate.changes
        assert candidate.settings(Settings()) != Settings()
    assert merged(Settings(durability="full"), CANDIDATES[:1]).durability == "full"


# -- what is said and written -----------------------------------------------------------------------------------------


def outcome(confirmed: Pair, chosen: list[Candidate], durability: Any = "normal") -> Outcome:
    found = {
        (RUNGS[0], GROUP_OFF.label): [pair(operations=1.3)] * LEAST_PAIRS,
        (RUNGS[0], BIG_PAGES.label): [pair(operations=0.7)] * 2,
        (CONFIRM, CONFIRMED): [confirmed] * 8,
        ("batches", "1"): [({"batch": 1000.0}, {})] * 3,
        ("batches", "100"): [({"batch": 9500.0}, {})] * 3,
        ("batches", "1000"): [({"batch": 10000.0}, {})] * 3,
        ("durability", "durability full"): [pair(operations=0.25)] * 3,
    }
    return Outcome(record(found, durability), Found([GROUP_OFF, BIG_PAGES], [GROUP_OFF], chosen))


def test_what_was_confirmed_is_written_with_its_evidence(tmp_path: Path) -> None:
    result = outcome(pair(operations=1.25), [GROUP_OFF])
    out = tmp_path / "prismq.toml"
    result.write(out)
    assert tomllib.loads(out.read_text(encoding="utf-8")) == {"durability": "normal", "group_commit": False}
    assert load_settings(out) == replace(Settings(), group_commit=False) == result.settings
    said = out.read_text(encoding="utf-8")
    for words in ("default true", "operations/s 1.30", "1.25 (1.25 to 1.25)", "take back the last moments' commits"):
        assert words in " ".join(said.replace("#", "").split())
    text = render(result)
    for words in ("kept", "confirmed", "With full instead: 0.25 times", "100 tasks a call", "9.5 times"):
        assert words in text
    content = json.loads(json.dumps(result.as_json()))
    assert content["chosen"] == ["group_commit off"]


def test_what_was_not_confirmed_is_not_written(tmp_path: Path) -> None:
    result = outcome(pair(), [])
    out = tmp_path / "prismq.toml"
    result.write(out)
    assert tomllib.loads(out.read_text(encoding="utf-8")) == {"durability": "normal"}
    assert "The defaults are best here: group_commit off looked better at first" in render(result)
    assert "not confirmed" in render(result)


def test_what_was_better_in_part_is_said_with_why_it_was_not_kept() -> None:
    half_good = {(RUNGS[0], BIG_PAGES.label): [pair(p99=0.8, batch=0.9)] * LEAST_PAIRS}
    (said, *_) = Outcome(record(half_good), Found([GROUP_OFF, BIG_PAGES], [], [])).findings()[1:]
    assert said == (
        "page_size 8 KiB was better in p99 of a call 1.25 (1.25 to 1.25); it was not kept for tasks/s in batches 0.90"
        " (0.90 to 0.90)."
    )


def test_the_durability_asked_for_is_the_one_written(tmp_path: Path) -> None:
    result = outcome(pair(operations=1.25), [GROUP_OFF], "full")
    result.write(tmp_path / "prismq.toml")
    assert load_settings(tmp_path / "prismq.toml").durability == "full"
    assert "nothing acknowledged is lost in a power cut" in render(result)


# -- the search -------------------------------------------------------------------------------------------------------


class Machine:
    """Processes whose figures are known in advance: only `good` settings are faster, and `lucky` ones at first."""

    def __init__(self, good: dict[str, Any], lucky: dict[str, Any] | None = None) -> None:
        self.good, self.lucky, self.trials = good, lucky or {}, 0

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _has(self, settings: Settings, changes: dict[str, Any]) -> bool:
        return bool(changes) and all(getattr(settings, name) == value for name, value in changes.items())

    def trial(self, settings: Settings, seconds: float, folder: Path) -> Figures:
        self.trials += 1
        faster = self._has(settings, self.good) or (self.trials < 80 and self._has(settings, self.lucky))
        times = (1.3 if faster else 1.0) * (0.3 if settings.durability == "full" else 1)
        return Figures(1000 * times * (1 + 0.01 * (self.trials % 3)), 250.0, 2.0, 500.0)

    def batches(self, settings: Settings, size: int, seconds: float, folder: Path) -> float:
        return 1000.0 * min(size, 100)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, machine: Machine, durability: Any = "normal") -> Outcome:
    ticks = iter(range(10**9))
    monkeypatch.setattr(search, "Players", lambda: machine)
    monkeypatch.setattr(search, "perf_counter", lambda: next(ticks) * 1.0)
    kept = record({}, durability)
    kept.minutes = 2.0
    found = search.Search(kept, folder, folder / "rounds.json", lambda elapsed, text: None).run()
    return Outcome(kept, found)


def test_the_better_setting_is_found_and_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, tmp_path, Machine({"cache_size": -100_000}))
    assert [one.label for one in result.found.chosen] == ["cache_size 100 MB"]
    assert result.settings == Settings(cache_size=-100_000)
    tried = {entry.subject for entry in result.record.entries if entry.stage == RUNGS[0]}
    assert tried == {candidate.label for candidate in CANDIDATES}
    assert len({entry.subject for entry in result.record.entries if entry.stage == RUNGS[2]}) == 3


def test_luck_is_found_out_in_fresh_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, tmp_path, Machine({}, lucky={"cache_size": -100_000}))
    assert result.found.chosen == []
    assert result.settings == Settings()


def test_a_search_for_full_durability_stays_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, tmp_path, Machine({"page_size": 8192}), "full")
    assert result.settings == Settings(durability="full", page_size=8192)
    assert "With normal instead: 3.3" in render(result)


def test_rounds_that_were_kept_are_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(monkeypatch, tmp_path, Machine({"cache_size": -100_000}))
    kept = Record.read(tmp_path / "rounds.json", "normal", 2.0)
    assert kept == first.record
    machine = Machine({"cache_size": -100_000})
    monkeypatch.setattr(search, "Players", lambda: machine)
    again = search.Search(kept, tmp_path, tmp_path / "rounds.json", lambda elapsed, text: None).run()
    assert machine.trials == 0
    assert again == first.found


def test_another_searchs_rounds_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rounds.json"
    with pytest.raises(RecordError, match="nothing to go on with"):
        Record.read(file, "normal", 1.0)
    record({}).write(file)
    assert Record.read(file, "normal", 1.0).entries == []
    with pytest.raises(RecordError, match="--durability normal --minutes 1: say the same"):
        Record.read(file, "full", 1.0)
    replace(record({}), machine=FACTS | {"driver": "another"}).write(file)
    with pytest.raises(RecordError, match=r"driver another then, .* now"):
        Record.read(file, "normal", 1.0)
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(RecordError, match="holds no rounds"):
        Record.read(file, "normal", 1.0)


# -- what a trial counts ---------------------------------------------------------------------------------------------


class Slow:
    """A queue whose every call takes so long, and is refused so often before it is made."""

    def __init__(self, seconds: float, refusals: int = 0) -> None:
        self.seconds, self.refusals, self.left = seconds, refusals, refusals

    def enqueue(self, *given: object) -> None:
        time.sleep(self.seconds)
        if self.left:
            self.left -= 1
            raise QueueBusyError("busy")
        self.left = self.refusals

    def claim(self, worker: str) -> object:
        time.sleep(self.seconds)
        return object()

    def complete(self, task: object) -> None:
        time.sleep(self.seconds)


def load(queue: Any, produces: bool, seconds: float) -> players.Load:
    return players._load(queue, {}, produces, None, time.perf_counter() + seconds)


def test_whoever_is_refused_goes_on_waiting() -> None:
    found = load(Slow(0.02, refusals=4), True, 0.3)
    assert min(found.taken) >= 0.1
    assert found.within <= 3


def test_a_call_under_way_at_the_end_is_among_the_durations_alone() -> None:
    found = load(Slow(0.3), True, 0.1)
    assert (len(found.taken), found.within) == (1, 0)
    assert found.taken[0] >= 0.3


def test_what_workers_completed_is_counted() -> None:
    found = load(Slow(0.01), False, 0.2)
    assert 0 < found.completed <= len(found.taken) / 2
    assert load(Slow(0.01), True, 0.1).completed == 0


def test_a_trial_in_which_workers_got_nothing_has_a_ratio() -> None:
    producers = (np.array([0.001] * 99 + [0.2]).tobytes(), 99, 0)
    found = Figures.of([producers, (b"", 0, 0)], 2.0, 500.0)
    assert (found.operations, found.completed) == (49.5, 0.5)
    assert found.p99_ms > 1.0
    with pytest.raises(CrewError, match="no call"):
        Figures.of([(b"", 0, 0)], 2.0, 500.0)


# -- for real ---------------------------------------------------------------------------------------------------------


def test_a_smoke_run_writes_settings_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", [GROUP_OFF, BIG_PAGES])
    monkeypatch.setattr(search, "BATCHES", (1, 100))
    out, file = tmp_path / "prismq.toml", tmp_path / "tune.json"
    places = ["--out", str(out), "--json", str(file), "--dir", str(tmp_path)]
    assert main(["tune", "--minutes", "0.01", *places]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prismq.toml", "tune.json"]
    settings = load_settings(out)
    assert settings.durability == "normal"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["settings"] == settings.as_dict()
    for entry in content["entries"]:
        assert all(figure > 0 for figure in entry["figures"].values())
    said = capsys.readouterr()
    for words in ("operations/s", "p99 of a call", "tasks a batch", "With full instead", "written:"):
        assert words in said.out
    assert said.err == ""


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "tune", "--minutes", "5", "--out", str(tmp_path / "p.toml")]
    running = subprocess.Popen(
        [*command, "--dir", str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    kept = tmp_path / "p.toml.rounds.json"
    try:
        deadline = time.monotonic() + 60
        while not kept.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert "measurements kept in" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert Record.read(kept, "normal", 5.0).entries
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--minutes", "0"], "more than 0"),
        (["--durability", "off"], "invalid choice"),
        (["--dir", "nowhere"], "no such folder"),
        (["--out", "nowhere/p.toml"], "no such folder"),
        (["--json", "nowhere/p.json"], "no such folder"),
        (["--resume"], "nothing to go on with"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["tune", *arguments])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


# -- Windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watching", "excluded", "says"),
    [
        ("True\r\n", "C:\\Queues\r\nD:\\Build\r\n", "this folder is excluded"),
        ("True\r\n", "c:\\queues\r\n", "this folder is excluded"),
        ("True\r\n", "C:\\Queues2\r\n", "watches this folder too"),
        ("True\r\n", "", "watches this folder too"),
        ("True\r\n", "N/A: Must be an administrator to view exclusions\r\n", "is not known (run as administrator)"),
        ("True\r\n", None, "is not known (run as administrator)"),
        ("False\r\n", "", "does not watch"),
        (None, None, windows.NOT_KNOWN),
        ("", "", windows.NOT_KNOWN),
    ],
)
def test_what_defender_says(watching: str | None, excluded: str | None, says: str) -> None:
    assert says in windows.defender(watching, excluded, "C:\\Queues\\jobs")


@pytest.mark.parametrize(
    ("said", "plan"),
    [
        ("Power Scheme GUID: 381b4222-f694-41f0-9685-ff5bb260df2e  (Balanced)\r\n", "Balanced"),
        ("GUID des Energieschemas: 8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c  (Höchstleistung)\r\n", "Höchstleistung"),
        ("no scheme\r\n", windows.NOT_KNOWN),
        ("()", windows.NOT_KNOWN),
        (None, windows.NOT_KNOWN),
    ],
)
def test_what_powercfg_says(said: str | None, plan: str) -> None:
    assert windows.power_plan(said) == plan


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('{"MediaType": "SSD", "BusType": "NVMe"}', "SSD, NVMe"),
        ('{"MediaType": 4, "BusType": 17}', "SSD, NVMe"),
        ('[{"MediaType": 3, "BusType": 11}, {"MediaType": 4, "BusType": 17}]', "HDD, SATA"),
        ('{"MediaType": "Unspecified", "BusType": "USB"}', "USB"),
        ('{"MediaType": 0, "BusType": 99}', windows.NOT_KNOWN),
        ("[]", windows.NOT_KNOWN),
        ("Get-Partition : No MSFT_Partition objects found", windows.NOT_KNOWN),
        (None, windows.NOT_KNOWN),
    ],
)
def test_what_the_disk_says(said: str | None, kind: str) -> None:
    assert windows.drive(said) == kind


@pytest.mark.skipif(os.name == "nt", reason="there they may be known")
def test_elsewhere_nothing_of_this_is_known(tmp_path: Path) -> None:
    assert set(windows.windows_facts(tmp_path).values()) == {windows.NOT_KNOWN}
