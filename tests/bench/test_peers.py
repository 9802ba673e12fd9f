"""The contest of peers, with prismq and the hand-written queue alone: no network is needed for these."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from interrupts import ROOT, interrupt

from bench.command import main
from bench.peers import contest as contests
from bench.peers.catalogue import CATALOGUE, Peer
from bench.peers.contest import Contest, Turn, begin
from bench.peers.ensemble import Ensemble
from bench.peers.environment import PeerError, interpreter
from bench.peers.measure import STANDARD, Sizes, groups, tally
from bench.peers.render import comparisons, render

pytestmark = pytest.mark.timeout(180)
TINY = Sizes(1, 20, 1_000, 0.3, (1,), (100,), 1.0, (20, 60), 2, 0.1)
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
                if figure.key in ("lost", "twice", "errors", "missed"):
                    assert value == 0


def test_what_was_enqueued_is_drained(played: Contest) -> None:
    group = next(group for group in groups(TINY) if group.name.startswith("drain"))
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


def test_only_what_is_missing_is_done_again(played: Contest, tmp_path: Path) -> None:
    single = [turn for turn in played.turns if turn.group == "single" and turn.peer == OURS.name]
    rest = [turn for turn in played.turns if turn not in single]
    resumed = replace(played, turns=list(rest))
    contests.run(resumed, [OURS, BY_HAND], tmp_path / "cache", tmp_path, None)
    assert resumed.turns[:-1] == rest
    assert (resumed.turns[-1].group, resumed.turns[-1].peer) == ("single", OURS.name)


def fabricated(ours: float, theirs: float, group: str, key: str) -> Contest:
    turns = [Turn(0, group, OURS.name, {key: ours}), Turn(0, group, BY_HAND.name, {key: theirs})]
    return Contest({}, STANDARD, [OURS.name, BY_HAND.name], turns=turns)


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
    file, scratch = tmp_path / "contest.json", tmp_path / "scratch"
    scratch.mkdir()
    arguments = ["peers", "--only", BY_HAND.name, "--json", file]
    # Of the first turn one process is there, of the second another: by then the first turn is in the file.
    status, said = interrupt(arguments, scratch, processes=1, delay=4.0, trace="0.log")
    assert status == 130
    assert said.endswith("bench: interrupted\n")
    assert list(scratch.iterdir()) == []
    if file.exists():
        turns = json.loads(file.read_text(encoding="utf-8"))["turns"]
        assert 0 < len(turns) < 10
