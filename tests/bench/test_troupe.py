"""Processes play their parts, and none stays behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from interrupts import ROOT, interrupt

from bench.actors import Seat
from bench.crew import CrewError
from bench.scenario import Scenario
from bench.troupe import Part, Troupe
from bench.waiters import PATIENCE_SECONDS, attend, trickle, wait

SCENARIO = Scenario(seconds=60.0)


def fail(scenario: Scenario, seat: Seat) -> None:
    seat.board.ready(seat.number)
    sys.exit(7)


def sleep(seconds: float, scenario: Scenario, seat: Seat) -> None:
    seat.board.ready(seat.number)
    time.sleep(seconds)


def count(tasks: int, scenario: Scenario, seat: Seat) -> None:
    seat.board.ready(seat.number)
    for _ in range(tasks):
        seat.board.count(seat.number)
        time.sleep(0.02)


def test_who_is_stuck_is_counted_and_killed(tmp_path: Path) -> None:
    with Troupe([partial(sleep, 60), partial(sleep, 0)], SCENARIO, tmp_path / "run") as troupe:
        troupe.begin()
        assert troupe.end(0.5) == 1
    assert gone(troupe.pids)


def run_to_the_end(troupe: Troupe) -> None:
    with troupe:
        troupe.begin()
        for _ in troupe.follow():
            pass


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_the_first_part_is_followed_to_its_end(tmp_path: Path) -> None:
    with Troupe([partial(count, 20), partial(sleep, 0)], SCENARIO, tmp_path / "run") as troupe:
        troupe.begin()
        pids = troupe.pids
        assert len(pids) == 2
        seen = list(troupe.follow())
        troupe.finish()
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= 20
    assert gone(pids)


def test_those_that_wait_are_woken_to_go(tmp_path: Path) -> None:
    with Troupe([partial(trickle, 2), partial(attend, wait)], SCENARIO, tmp_path / "run") as troupe:
        troupe.begin()
        assert max(troupe.follow()) <= 2
        begin = time.perf_counter()
        troupe.dismiss()
        assert time.perf_counter() - begin < PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("parts", "seconds", "complaint"),
    [
        pytest.param([partial(sleep, 60), fail], 60.0, "exit status 7", id="a part that fails"),
        pytest.param([partial(sleep, 60)], 0.2, "did not end", id="a part that never ends"),
    ],
)
def test_who_spoils_a_run_ends_it(parts: list[Part], seconds: float, complaint: str, tmp_path: Path) -> None:
    troupe = Troupe(parts, Scenario(seconds=seconds), tmp_path / "run")
    with pytest.raises(CrewError, match=complaint):
        run_to_the_end(troupe)
    assert len(troupe.pids) == len(parts)
    assert gone(troupe.pids)


@pytest.mark.skipif(os.name == "nt", reason="sends signals to a process group")
@pytest.mark.parametrize(
    ("arguments", "processes", "delay"),
    [
        (["wake", "--samples", "20"], 2, 0.0),
        (["wake", "--samples", "20"], 2, 1.0),
        (["idle", "--workers", "2"], 3, 0.5),
        (["soak", "--processes", "2", "--seconds", "9", "--snapshot-seconds", "3"], 3, 1.0),
    ],
)
def test_an_interrupt_is_one_line_and_leaves_nothing_behind(
    arguments: list[object], processes: int, delay: float, tmp_path: Path
) -> None:
    assert interrupt(arguments, tmp_path, processes, delay) == (130, "bench: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_nobody_outlives_a_killed_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "idle", "--workers", "2", "--path", str(tmp_path)]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = psutil.Process(run.pid).children
    until(lambda: len(list(tmp_path.rglob("*.journal"))) == 3)
    time.sleep(1)
    left = children()
    assert len(left) >= 3
    run.kill()
    run.communicate(timeout=30)
    until(lambda: not any(map(alive, left)))


def alive(process: psutil.Process) -> bool:
    """Zombies are not: nobody may be there to bury them."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
