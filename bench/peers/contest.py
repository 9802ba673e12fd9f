"""Rounds in which every peer has its turn at every group of rows; what was done is kept, and can be gone on with.

Every turn gives a peer a fresh file and new processes. Within a round all peers do the same group one after the other,
in turned order each second round, so that a slow minute of the machine hits all of them. What is compared are figures
of one round; a turn that is taken after an interrupt has prismq's figures measured anew beside it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import psutil

from bench.files import write_whole
from bench.machine import Facts, machine_facts, require_same
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
    """One peer's figures of one group in one round; `failed` says why there are none.

    `beside` are prismq's of right before, if those of the same round were measured in an earlier session.
    """

    round: int
    group: str
    peer: str
    figures: Figures
    failed: str = ""
    beside: Figures = field(default_factory=dict)


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
        """Round, group and peer of each turn that did not fail."""
        return {(turn.round, turn.group, turn.peer) for turn in self.turns if not turn.failed}

    def of(self, group: Group, peer: Peer) -> list[Turn]:
        """In the order of the rounds."""
        found = [turn for turn in self.turns if (turn.group, turn.peer) == (group.name, peer.name)]
        return sorted(found, key=lambda turn: turn.round)

    def has(self, peer: Peer) -> bool:
        """Whether there are figures of it."""
        return any(turn.peer == peer.name and not turn.failed for turn in self.turns)

    def medians(self, group: Group, peer: Peer) -> Figures:
        """Over the rounds; what counts tasks that went wrong is the sum."""
        turns = [turn.figures for turn in self.of(group, peer)]
        found: Figures = {}
        for figure in group.figures:
            values = [value for figures in turns if (value := figures.get(figure.key)) is not None]
            found[figure.key] = (sum if figure.is_sum else median)(values) if values else None
        return found

    def pairs(self, group: Group, ours: Peer, theirs: Peer) -> list[tuple[Figures, Figures]]:
        """What both did in each round in which both did something."""
        own = {turn.round: turn.figures for turn in self.of(group, ours)}
        return [(turn.beside or own.get(turn.round, {}), turn.figures) for turn in self.of(group, theirs)]

    def failures(self, group: Group, peer: Peer) -> list[str]:
        return [turn.failed for turn in self.of(group, peer) if turn.failed]

    def reopen(self, present: Sequence[Peer]) -> None:
        """Forget what is to be done again, of those who are there: failures, and what has no prismq beside it."""
        done = self.done()
        there = {peer.name: peer for peer in present}

        def stays(turn: Turn) -> bool:
            if turn.peer not in there:
                return True
            rival = rival_of(there[turn.peer], present)
            beside = rival is None or turn.beside or (turn.round, turn.group, rival.name) in done
            return bool(beside) and not turn.failed

        self.turns = [turn for turn in self.turns if stays(turn)]

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Contest:
        """Of JSON; TypeError, KeyError or ValueError when that is no contest."""
        sizes: dict[str, Any] = content["sizes"]
        sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
        turns = [Turn(**turn) for turn in content["turns"]]
        return cls(**content | {"sizes": Sizes(**sizes), "turns": turns})

    @classmethod
    def read(cls, file: Path, folder: Path | None = None) -> Contest:
        """One that was written here, to go on with in `folder` (None: the system's temporary one); ValueError when the
        file holds none, or one of another machine."""
        try:
            contest = cls.parse(json.loads(file.read_text(encoding="utf-8")))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{file} holds no contest of peers ({error})") from error
        require_same(contest.machine, _facts(folder))
        return contest


def begin(sizes: Sizes, peers: Sequence[Peer], folder: Path | None = None) -> Contest:
    """A contest in which nothing was measured yet, to be held in `folder` (None: the system's temporary one)."""
    return Contest(_facts(folder), sizes, [peer.name for peer in peers])


def _facts(parent: Path | None) -> Facts:
    with scratch_folder(parent) as folder, Scenario().open(folder / "facts.db") as queue:
        return machine_facts(folder, queue, "normal and full") | {"stdlib_sqlite": sqlite3.sqlite_version}


def run(contest: Contest, peers: Sequence[Peer], cache: Path, folder: Path, file: Path | None) -> None:
    """Take all turns that were not taken yet or failed, in `folder`; written to `file` after each."""
    pythons = _prepare(contest, peers, cache)
    present = [peer for peer in peers if peer.name in pythons]
    contest.reopen(present)
    earlier = contest.done()
    plan = [turn for turn in _plan(contest.sizes, present) if _key(turn) not in earlier]
    took: dict[str, list[float]] = {}
    with live_line("peers", len(plan)) as show:
        for number, (round_number, group, peer) in enumerate(plan):
            left = sum(_guess(took, later.name) for _, later, _ in plan[number:])
            show(number, f"{number + 1} of {len(plan)}: {group.name}, {peer.name}; about {duration(left)} left")
            started = perf_counter()
            rival = rival_of(peer, present)
            again = rival if rival is not None and (round_number, group.name, rival.name) in earlier else None
            contest.turns.append(_turn(contest, round_number, group, peer, again, pythons, folder))
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


def _plan(sizes: Sizes, peers: Sequence[Peer]) -> Iterator[tuple[int, Group, Peer]]:
    for number in range(sizes.rounds):
        for group in groups(sizes):
            for peer in list(peers)[:: -1 if number % 2 else 1]:
                yield number, group, peer


def rival_of(peer: Peer, peers: Sequence[Peer]) -> Peer | None:
    """The prismq that the peer is held against; none for prismq itself."""
    ours = (one for one in peers if one.is_ours and one.durability == peer.durability)
    return None if peer.is_ours else next(ours, None)


def _key(turn: tuple[int, Group, Peer]) -> tuple[int, str, str]:
    number, group, peer = turn
    return number, group.name, peer.name


def _turn(
    contest: Contest,
    number: int,
    group: Group,
    peer: Peer,
    again: Peer | None,
    pythons: Mapping[str, Path],
    folder: Path,
) -> Turn:
    """The peer's, right after one of `again`."""

    def figures(one: Peer) -> Figures:
        with scratch_folder(folder) as place, Ensemble(one, pythons[one.name], place / "turn") as ensemble:
            found = group.measure(ensemble)
            contest.settings[one.name] = ensemble.settings
            return found

    try:
        beside = {} if again is None else figures(again)
        return Turn(number, group.name, peer.name, figures(peer), beside=beside)
    except (PeerError, OSError, psutil.Error) as error:
        return Turn(number, group.name, peer.name, {}, str(error))


def _guess(took: dict[str, list[float]], group: str) -> float:
    """Seconds that a turn of the group will take."""
    known = took.get(group) or [seconds for each in took.values() for seconds in each]
    return fmean(known) if known else FIRST_GUESS_SECONDS
