"""The contest of peers, with prismq and the hand-written queue alone: no network is needed for these."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import psutil
import pytest
from interrupts import ROOT, interrupt

from bench.command import main
from bench.peers import contest as contests
from bench.peers import environment, measure
from bench.peers.adapter import Adapter
from bench.peers.catalogue import CATALOGUE, Peer
from bench.peers.contest import Contest, Turn, begin
from bench.peers.ensemble import Ensemble
from bench.peers.environment import PeerError, interpreter
from bench.peers.measure import STANDARD, Sizes, groups, tally
from bench.peers.player import Player
from bench.peers.render import comparisons, render

pytestmark = pytest.mark.timeout(180)
TINY = Sizes(1, 20, 1_000, 0.3, (1,), (100,), 1.0, (20, 60), 2, 0.1, 1.0)
OURS, BY_HAND = (next(peer for peer in CATALOGUE if peer.name == name) for name in ("prismq", "sqlite3 by hand"))
ABSENT = Peer("absent", "by_hand", "normal", programs=("no-such-program-anywhere",))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    folder = tmp_path_factory.mktemp("peers")
    peers = [OURS, BY_HAND, ABSENT]
    contest = begin(TINY, peers)
    contests.run(contest, peers, folder / "cache", folder, folder / "contest.json")
    assert Contest.read(folder / "contest.json") == contest
    assert sorted(path.name for path in folder.iterdir()) == ["contest.json"]
    return contest


def test_every_turn_has_every_figure(played: Contest) -> None:
    assert [turn.failed for turn in played.turns if turn.failed] == []
    assert len(played.turns) == 2 * len(groups(TINY))
    for group in groups(TINY):
        for peer in (OURS, BY_HAND):
            found = played.medians(group, peer)
            assert found.keys() == {figure.key for figure in group.figures}
            for figure in group.figures:
                value = found[figure.key]
                assert value is not None
                assert value >= 0
                if figure.is_sum:
                    assert value == 0


def test_what_was_enqueued_is_drained(played: Contest) -> None:
    drains = [group for group in groups(TINY) if group.name.startswith("drain")]
    assert [group.name for group in drains] == ["drain 100", "drain 60"]
    for group in drains:
        for peer in (OURS, BY_HAND):
            assert played.medians(group, peer)["undone"] == 0


def test_settings_are_read_back(played: Contest) -> None:
    for peer in (OURS, BY_HAND):
        assert played.settings[peer.name]["journal_mode"] == "wal"
        assert played.settings[peer.name]["synchronous"] == 1


def test_who_is_not_there_is_listed_with_the_reason(played: Contest) -> None:
    assert played.missing == {"absent": "no-such-program-anywhere is not installed"}
    report = render(played, [OURS, BY_HAND, ABSENT])
    assert "absent: no-such-program-anywhere is not installed" in report
    for group in groups(TINY):
        assert group.title in report


def without(contest: Contest, *left_out: tuple[str, Peer]) -> Contest:
    """The contest, but for these groups' turns of these peers."""
    names = [(group, peer.name) for group, peer in left_out]
    return replace(contest, turns=[turn for turn in contest.turns if (turn.group, turn.peer) not in names])


def added(contest: Contest, before: Contest) -> list[tuple[str, str]]:
    """What was taken beyond the turns of `before`, which are all there still."""
    count = len(before.turns)
    assert contest.turns[:count] == before.turns
    return [(turn.group, turn.peer) for turn in contest.turns[count:]]


def test_a_turn_taken_later_has_ours_measured_anew_beside_it(played: Contest, tmp_path: Path) -> None:
    rest = without(played, ("single", BY_HAND))
    resumed = replace(rest, turns=list(rest.turns))
    contests.run(resumed, [OURS, BY_HAND], tmp_path / "cache", tmp_path, None)
    assert added(resumed, rest) == [("single", BY_HAND.name)]
    single = groups(TINY)[0]
    ((beside, _),) = resumed.pairs(single, OURS, BY_HAND)
    assert beside == resumed.turns[-1].beside != played.medians(single, OURS)


def test_without_ours_nobody_elses_turn_counts(played: Contest, tmp_path: Path) -> None:
    resumed = without(played, ("single", OURS))
    contests.run(resumed, [OURS, BY_HAND], tmp_path / "cache", tmp_path, None)
    assert added(resumed, without(played, ("single", OURS), ("single", BY_HAND))) == [
        ("single", OURS.name),
        ("single", BY_HAND.name),
    ]


def test_a_turn_that_failed_is_taken_again(played: Contest, tmp_path: Path) -> None:
    rest = without(played, ("single", BY_HAND))
    resumed = replace(rest, turns=[*rest.turns, Turn(0, "single", BY_HAND.name, {}, "out of luck")])
    file = tmp_path / "contest.json"
    file.write_text(json.dumps(asdict(resumed)), encoding="utf-8")
    assert main(["peers", "--resume", str(file)]) == 0
    again = Contest.read(file)
    assert added(again, rest) == [("single", BY_HAND.name)]
    assert again.turns[-1].failed == ""
    assert again.turns[-1].beside


def test_whoever_is_gone_keeps_their_rows(played: Contest, tmp_path: Path) -> None:
    gone = replace(BY_HAND, programs=("no-such-program-anywhere",))
    contest = replace(played, turns=list(played.turns))
    contests.run(contest, [OURS, gone], tmp_path / "cache", tmp_path, None)
    assert contest.turns == played.turns
    report = render(contest, [OURS, gone])
    assert f"{BY_HAND.name}: no-such-program-anywhere is not installed (its rows are of an earlier session)" in report
    assert f"\n{BY_HAND.name} " in report[report.index(groups(TINY)[0].title) :]


@pytest.mark.parametrize("fact", ["python", "cpu", "driver", "prismq", "stdlib_sqlite", "file_system"])
def test_a_contest_of_another_machine_is_refused(
    played: Contest, fact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "contest.json"
    file.write_text(json.dumps(asdict(played) | {"machine": played.machine | {fact: "another"}}), encoding="utf-8")
    before = file.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main(["peers", "--resume", str(file)])
    assert stopped.value.code == 2
    assert f"{fact.replace('_', ' ')} another then, " in capsys.readouterr().err
    assert file.read_bytes() == before


def test_an_environment_whose_python_is_gone_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huey = next(peer for peer in CATALOGUE if peer.name == "huey")
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:  # of which a system without that Python keeps the folder alone
            Path(command[-1]).mkdir()

    monkeypatch.setattr(environment, "_run", run)
    python = interpreter(huey, tmp_path)
    made = len(commands)
    assert interpreter(huey, tmp_path) == python
    assert len(commands) == 2 * made > 0


def test_no_wheel_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str]) -> None:
        if "pip" in command:
            raise PeerError("No matching distribution found for honker==0.5.0")

    monkeypatch.setattr(environment, "_run", fail)
    (tmp_path / "honker-0.5.0-py0").mkdir()
    with pytest.raises(PeerError, match=r"no wheel of honker==0\.5\.0 for .*Python 3.*needs glibc 2\.38"):
        interpreter(next(peer for peer in CATALOGUE if peer.name == "honker"), tmp_path)


def test_a_python_that_does_not_start_is_a_failed_turn(played: Contest, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("", encoding="utf-8")
    group = groups(TINY)[0]
    turn = contests._turn(replace(played), 0, group, BY_HAND, None, {BY_HAND.name: python}, tmp_path)
    assert turn.failed
    assert turn.figures == {}


class Burner:
    """A process that waits for another of its own, which is busy."""

    def __enter__(self) -> "Burner":
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
        busy = "import time\nuntil = time.time() + 20\nwhile time.time() < until: pass"
        self.running = subprocess.Popen([sys.executable, "-c", code, busy])
        self.pid = self.running.pid
        while not (children := psutil.Process(self.pid).children()):
            time.sleep(0.01)
        self.child = children[0]
        return self

    def __exit__(self, *failure: object) -> None:
        self.child.kill()
        self.running.wait()


def test_an_idle_workers_cpu_includes_the_server_it_needs() -> None:
    with Burner() as host:
        worker: Any = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert measure._idle(worker, cast(Any, host), 0.5) > 5
        finally:
            worker.communicate()


@pytest.mark.parametrize(("pulls", "count"), [(True, 70), (False, 40)])
def test_what_workers_cannot_see_is_counted_by_the_peer(pulls: bool, count: int) -> None:
    class Host:
        told: ClassVar[list[float]] = []

        def ask(self, do: str, **order: float) -> dict[str, Any]:
            return {"pulls": pulls, "completed": 60}

        def tell(self, do: str, at: float) -> None:
            self.told.append(at)

        def hear(self) -> dict[str, Any]:
            return {"completed": 100}

    counter = measure.Counter.of(cast(Any, Host()))
    counter.tell(9.0)
    assert Host.told == ([] if pulls else [9.0])
    assert counter.hear(70) == count


class Shelf(Adapter):
    """A queue in memory that counts calls and can lose tasks."""

    batches = True

    def __init__(self, loses: bool) -> None:
        self.tasks: list[Any] = []
        self.calls: Counter[str] = Counter()
        self.loses = loses

    def settings(self) -> dict[str, object]:
        return {}

    def enqueue(self, task: Any) -> None:
        self.calls["enqueue"] += 1
        self.tasks.append(task)

    def enqueue_many(self, tasks: Any) -> None:
        self.calls["enqueue_many"] += 1
        self.tasks += tasks

    def claim(self) -> Any:
        self.calls["claim"] += 1
        return self.tasks[0], 0

    def complete(self, handle: Any) -> None:
        self.calls["complete"] += 1
        if not self.loses:
            self.tasks.pop(0)

    def left(self) -> int:
        return len(self.tasks)

    def close(self) -> None: ...


def test_a_process_is_warm_before_it_counts() -> None:
    shelf = Shelf(loses=False)
    Player(shelf).do_warm()
    assert shelf.tasks == []
    assert all(shelf.calls[call] > 0 for call in ("enqueue", "enqueue_many", "claim", "complete"))
    with pytest.raises(LookupError, match="are left"):
        Player(Shelf(loses=True)).do_warm()


def test_whoever_is_stopped_before_the_end_says_so(played: Contest) -> None:
    group = next(group for group in groups(TINY) if group.name == "drain 60")
    turns = [replace(turn, figures=turn.figures | {"undone": 1_234.0}) for turn in played.turns]
    assert "1,234, stopped after 1 s" in render(replace(played, turns=turns), [OURS, BY_HAND])
    assert "stopped after" not in render(played, [OURS, BY_HAND])
    assert group.cap == 1.0


def test_the_deepest_queue_is_drained_by_the_one_command() -> None:
    assert [group.name for group in groups(STANDARD) if "drain" in group.name] == ["drain 20,000", "drain 200,000"]
    assert STANDARD.rounds >= 3


def fabricated(ours: float, theirs: float, group: str, key: str) -> Contest:
    return rounds([(ours, theirs)], group, key)


def rounds(pairs: list[tuple[float, float]], group: str, key: str) -> Contest:
    turns = [
        Turn(number, group, peer.name, {key: value})
        for number, pair in enumerate(pairs)
        for peer, value in zip((OURS, BY_HAND), pair, strict=True)
    ]
    return Contest({}, STANDARD, [OURS.name, BY_HAND.name], turns=turns)


@pytest.mark.parametrize(
    ("pairs", "verdict", "times"),
    [
        ([(50, 100), (500, 1_000), (5, 10)], "better", 0.5),  # whatever the machine does between the rounds
        ([(80, 100), (90, 100), (110, 100)], "alike", 0.9),  # one of the rounds says otherwise
        ([(120, 100), (130, 100), (140, 100)], "behind", 1.3),
        ([(102, 100), (103, 100), (104, 100)], "alike", 1.03),
    ],
)
def test_rounds_are_compared_one_by_one(pairs: list[tuple[float, float]], verdict: str, times: float) -> None:
    contest = rounds(pairs, "single", "claim_p50")
    (found,) = comparisons(contest, [OURS, BY_HAND])
    assert (found.verdict, found.times) == (verdict, times)
    ratios = [ours / theirs for ours, theirs in pairs]
    assert str(found) == f"{times:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


@pytest.mark.parametrize(
    ("ours", "theirs", "group", "key", "verdict"),
    [
        (50.0, 100.0, "single", "claim_p50", "better"),
        (100.0, 50.0, "single", "claim_p50", "behind"),
        (100.0, 98.0, "single", "claim_p50", "alike"),
        (100.0, 50.0, "single", "batch", "better"),
        (50.0, 100.0, "single", "batch", "behind"),
    ],
)
def test_better_and_behind(ours: float, theirs: float, group: str, key: str, verdict: str) -> None:
    (found,) = comparisons(fabricated(ours, theirs, group, key), [OURS, BY_HAND])
    assert (found.verdict, found.times) == (verdict, ours / theirs)


@pytest.mark.parametrize(
    ("made", "done", "left", "lost", "twice"),
    [(5, [[0, 1], [2]], 2, 0, 0), (5, [[0, 1], [2]], 1, 1, 0), (5, [[0, 1], [1, 2]], 2, 0, 1), (3, [[0, 1]], 2, 0, 1)],
)
def test_tasks_are_counted(made: int, done: list[list[int]], left: int, lost: int, twice: int) -> None:
    assert tally(made, [{"done": numbers} for numbers in done], left) == {"lost": lost, "twice": twice}


def test_another_durability_is_not_compared() -> None:
    full = replace(BY_HAND, durability="full")
    assert comparisons(fabricated(1.0, 2.0, "single", "claim_p50"), [OURS, full]) == []


def test_figures_are_medians_and_what_went_wrong_is_summed() -> None:
    figures = [{"completed": rate, "lost": lost} for rate, lost in ((1.0, 0), (9.0, 2), (2.0, 1))]
    turns = [Turn(number, "pairs 2+2", OURS.name, each) for number, each in enumerate(figures)]
    group = next(group for group in groups(STANDARD) if group.name == "pairs 2+2")
    found = Contest({}, STANDARD, [OURS.name], turns=turns).medians(group, OURS)
    assert (found["completed"], found["lost"]) == (2.0, 3)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    python = interpreter(OURS, tmp_path)
    broken = replace(OURS, adapter="no_such_adapter")
    with pytest.raises(PeerError, match="No module named"), Ensemble(broken, python, tmp_path / "turn") as ensemble:
        ensemble.add()


def test_adapters_import_nothing_but_their_peer() -> None:
    """In the peer's environment there is nothing else."""
    for peer in CATALOGUE:
        source = (ROOT / "bench" / "peers" / "adapters" / f"{peer.adapter}.py").read_text(encoding="utf-8")
        if peer.requirements:
            ours = {line.split()[1] for line in source.splitlines() if line.startswith(("from bench", "import bench"))}
            assert ours == {"bench.peers.adapter"}
    code = "import sys; sys.modules['numpy'] = None; sys.modules['prismq'] = None; import bench.peers.player"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "nobody"], "there is no peer 'nobody'"),
        (["--resume", "missing.json"], "no such file"),
        (["--resume", "missing.json", "--quick"], "without --quick"),
        (["--quick", "--large"], "not allowed"),
        (["--rounds", "0"], "at least 1"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["peers", *arguments])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_file_that_holds_no_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "contest.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["peers", "--resume", str(file)])
    assert "holds no contest" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_an_interrupt_keeps_what_was_done(tmp_path: Path) -> None:
    file = tmp_path / "contest.json"
    arguments = ["peers", "--quick", "--only", BY_HAND.name, "--json", file]
    # The file is there after the first turn.
    status, said = interrupt(arguments, tmp_path, processes=1, delay=0.3, trace="contest.json")
    assert status == 130
    assert said.endswith("bench: interrupted\n")
    assert list(tmp_path.iterdir()) == [file]
    contest = Contest.read(file)
    assert 0 < len(contest.turns) < 10
    assert [turn.failed for turn in contest.turns if turn.failed] == []
