"""Rounds in which every peer has its turn at every group of rows; what was done is kept, and can be gone on with.

Every turn gives a peer a fresh file and new processes. Within a round all peers do the same group one after the other,
in turned order each second round, so that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

from bench.files import write_whole
from bench.machine import Facts, machine_facts
from bench.peers.catalogue import Peer
from bench.peers.ensemble import Ensemble
from bench.peers.environment import PeerError, interpreter
from bench.peers.measure import Figures, Group, Sizes, groups
from bench.progress import duration, live_line
from bench.scenario import Scenario
from bench.scratch import scratch_folder

FIRST_GUESS_SECONDS = 5.0
"""Of a turn, as long as there was none."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One peer's figures of one group in one round; `failed` says why there are none."""

    round: int
    group: str
    peer: str
    figures: Figures
    failed: str = ""


@dataclass(slots=True)
class Contest:
    """All that was measured so far. `missing` says why a peer is not there, `settings` what its connection says."""

    machine: Facts
    sizes: Sizes
    peers: list[str]
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    command: str = ""
    """That began it."""

    def done(self) -> set[tuple[int, str, str]]:
        return {(turn.round, turn.group, turn.peer) for turn in self.turns}

    def medians(self, group: Group, peer: Peer) -> Figures:
        """Over the rounds; what counts tasks that went wrong is the sum."""
        turns = [turn.figures for turn in self.turns if (turn.group, turn.peer) == (group.name, peer.name)]
        found: Figures = {}
        for figure in group.figures:
            values = [value for figures in turns if (value := figures.get(figure.key)) is not None]
            combine = sum if figure.less_is_better is None else median
            found[figure.key] = combine(values) if values else None
        return found

    def failures(self, group: Group, peer: Peer) -> list[str]:
        found = [turn for turn in self.turns if (turn.group, turn.peer) == (group.name, peer.name)]
        return [turn.failed for turn in found if turn.failed]

    @classmethod
    def read(cls, file: Path) -> Contest:
        """A contest that was written; ValueError when the file holds none."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            sizes: dict[str, Any] = content["sizes"]
            sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
            turns = [Turn(**turn) for turn in content["turns"]]
            return cls(**content | {"sizes": Sizes(**sizes), "turns": turns})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{file} holds no contest of peers ({error})") from error


def begin(sizes: Sizes, peers: Sequence[Peer]) -> Contest:
    """A contest in which nothing was measured yet."""
    with scratch_folder(None) as folder, Scenario().open(folder / "facts.db") as queue:
        facts = machine_facts(folder, queue, "normal and full")
    facts["stdlib_sqlite"] = sqlite3.sqlite_version
    return Contest(facts, sizes, [peer.name for peer in peers])


def run(contest: Contest, peers: Sequence[Peer], cache: Path, folder: Path, file: Path | None) -> None:
    """Take all turns that were not taken yet, in `folder`; written to `file` after each."""
    pythons = _prepare(contest, peers, cache)
    present = [peer for peer in peers if peer.name in pythons]
    plan = [turn for turn in _plan(groups(contest.sizes), present) if _key(turn) not in contest.done()]
    took: dict[str, list[float]] = {}
    with live_line("peers", len(plan)) as show:
        for number, (round_number, group, peer) in enumerate(plan):
            left = sum(_guess(took, later.name) for _, later, _ in plan[number:])
            show(number, f"{number + 1} of {len(plan)}: {group.name}, {peer.name}; about {duration(left)} left")
            started = perf_counter()
            contest.turns.append(_turn(contest, round_number, group, peer, pythons[peer.name], folder))
            took.setdefault(group.name, []).append(perf_counter() - started)
            if file is not None:
                write_whole(file, asdict(contest))


def _prepare(contest: Contest, peers: Sequence[Peer], cache: Path) -> dict[str, Path]:
    """The interpreter of each peer that could be installed; the others are noted in the contest."""
    found: dict[str, Path] = {}
    contest.missing.clear()
    with live_line("environments", len(peers)) as show:
        for number, peer in enumerate(peers):
            show(number, peer.name)
            try:
                found[peer.name] = interpreter(peer, cache)
            except PeerError as error:
                contest.missing[peer.name] = str(error)
    return found


def _plan(all_groups: Sequence[Group], peers: Sequence[Peer]) -> Iterator[tuple[int, Group, Peer]]:
    for number in range(max(group.rounds for group in all_groups)):
        for group in all_groups:
            if number < group.rounds:
                for peer in list(peers)[:: -1 if number % 2 else 1]:
                    yield number, group, peer


def _key(turn: tuple[int, Group, Peer]) -> tuple[int, str, str]:
    number, group, peer = turn
    return number, group.name, peer.name


def _turn(contest: Contest, number: int, group: Group, peer: Peer, python: Path, folder: Path) -> Turn:
    try:
        with scratch_folder(folder) as place, Ensemble(peer, python, place / "turn") as ensemble:
            figures = group.measure(ensemble)
            contest.settings[peer.name] = ensemble.settings
            return Turn(number, group.name, peer.name, figures)
    except PeerError as error:
        return Turn(number, group.name, peer.name, {}, str(error))


def _guess(took: dict[str, list[float]], group: str) -> float:
    """Seconds that a turn of the group will take."""
    known = took.get(group) or [seconds for each in took.values() for seconds in each]
    return fmean(known) if known else FIRST_GUESS_SECONDS
