"""Successive halving: all candidates get a few rounds, the better half gets more, and what is left is confirmed anew.

In a round every candidate runs right beside the defaults, before or after them in turn, so that a slow minute of the
machine hits both; what counts are the ratios of such pairs (Jamieson and Talwalkar 2016, with pairs for losses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from bench.progress import Update
from bench.scenario import Durability
from bench.scratch import scratch_folder
from bench.tune.candidates import BATCHES, CANDIDATES, Candidate, merged
from bench.tune.judge import LEAST_PAIRS, gains, is_worth_it, score
from bench.tune.players import Players
from bench.tune.record import Entry, Record
from prismq import Settings

RUNGS = ("all", "half", "quarter")
CONFIRM, OTHER_DURABILITY, BATCH = "confirm", "durability", "batches"
SHARES = {"all": 0.25, "half": 0.2, "quarter": 0.15, CONFIRM: 0.25, OTHER_DURABILITY: 0.05, BATCH: 0.1}
"""Of the time that is given."""
LEAST_ROUNDS = {"all": 1, "half": 1, "quarter": 1, CONFIRM: LEAST_PAIRS + 2, OTHER_DURABILITY: 3, BATCH: 3}
LEAST_TRIAL_SECONDS, MOST_TRIAL_SECONDS = 0.2, 2.0
TRIALS = 400
"""That the time is cut into, if they don't get too short or too long."""
OTHER: dict[Durability, Durability] = {"normal": "full", "full": "normal"}


@dataclass(frozen=True, slots=True)
class Found:
    """What the search came to. `chosen` are the changes that held, empty when the defaults are best."""

    tried: list[Candidate]
    kept: list[Candidate]
    chosen: list[Candidate]


class Search:
    """One search; what it has measured is in the record, and written to `file` after each pair."""

    def __init__(self, record: Record, folder: Path, file: Path, show: Update) -> None:
        self._record = record
        self._folder = folder
        self._file = file
        self._show = show
        self._base = Settings(durability=record.durability)
        self._budget = record.minutes * 60
        self._seconds = min(max(self._budget / TRIALS, LEAST_TRIAL_SECONDS), MOST_TRIAL_SECONDS)

    def run(self) -> Found:
        """Take all rounds that were not taken yet; CrewError when a process fails."""
        with Players() as players:
            left = list(CANDIDATES)
            for rung in RUNGS:
                self._stage(players, rung, left)
                left = self._better_half(left, RUNGS[: RUNGS.index(rung) + 1])
            kept = self._kept(left)
            together = Candidate("chosen", "all that was kept", merged(self._base, kept).as_dict())
            chosen: list[Candidate] = []
            if kept:
                self._stage(players, CONFIRM, [together])
                if is_worth_it(gains(self._record.pairs(together.label, CONFIRM))):
                    chosen = kept
            self._compare_durability(players, chosen)
            self._compare_batches(players, chosen)
        return Found(list(CANDIDATES), kept, chosen)

    def _better_half(self, candidates: Sequence[Candidate], stages: Sequence[str]) -> list[Candidate]:
        def rank(candidate: Candidate) -> float:
            return score(gains(self._record.pairs(candidate.label, *stages)))

        return sorted(candidates, key=rank, reverse=True)[: max(1, (len(candidates) + 1) // 2)]

    def _kept(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best of each topic that is worth it."""
        kept: dict[str, Candidate] = {}
        for candidate in candidates:  # best first
            if is_worth_it(gains(self._record.pairs(candidate.label, *RUNGS))):
                kept.setdefault(candidate.topic, candidate)
        return list(kept.values())

    def _stage(self, players: Players, stage: str, candidates: Sequence[Candidate]) -> None:
        for number in self._rounds(stage):
            for candidate in candidates:
                theirs = candidate.settings(self._base)
                self._pair(
                    stage,
                    number,
                    candidate.label,
                    lambda theirs=theirs: self._trial(players, theirs),  # type: ignore[misc]
                    lambda: self._trial(players, self._base),
                )

    def _compare_durability(self, players: Players, chosen: Sequence[Candidate]) -> None:
        """The chosen settings with the other durability, beside them."""
        ours = merged(self._base, chosen)
        other = OTHER[self._record.durability]
        theirs = Settings(**ours.as_dict() | {"durability": other})
        for number in self._rounds(OTHER_DURABILITY):
            self._pair(
                OTHER_DURABILITY,
                number,
                f"durability {other}",
                lambda: self._trial(players, theirs),
                lambda: self._trial(players, ours),
            )

    def _compare_batches(self, players: Players, chosen: Sequence[Candidate]) -> None:
        settings = merged(self._base, chosen)

        def rate(size: int) -> dict[str, float]:
            with scratch_folder(self._folder) as place:
                return {"batch": players.batches(settings, size, self._seconds, place / "trial")}

        for number in self._rounds(BATCH):
            for size in BATCHES[::-1]:
                self._pair(BATCH, number, f"{size}", lambda size=size: rate(size), dict)  # type: ignore[misc]

    def _rounds(self, stage: str) -> Iterator[int]:
        """Numbers of rounds as long as the stage has time, and as many as it needs at least."""
        number = 0
        while number < LEAST_ROUNDS[stage] or self._record.spent(stage) < SHARES[stage] * self._budget:
            yield number
            number += 1

    def _pair(
        self,
        stage: str,
        number: int,
        subject: str,
        measure: Callable[[], dict[str, float]],
        beside: Callable[[], dict[str, float]],
    ) -> None:
        if self._record.has(stage, number, subject):
            return
        self._progress(stage, number, subject)
        began = perf_counter()
        if number % 2:
            figures, base = measure(), beside()
        else:
            base, figures = beside(), measure()
        entry = Entry(stage, number, subject, figures, base, perf_counter() - began)
        self._record.entries.append(entry)
        self._record.write(self._file)

    def _trial(self, players: Players, settings: Settings) -> dict[str, float]:
        with scratch_folder(self._folder) as place:
            return asdict(players.trial(settings, self._seconds, place / "trial"))

    def _progress(self, stage: str, number: int, subject: str) -> None:
        spent = sum(entry.seconds for entry in self._record.entries)
        done = list(SHARES).index(stage)
        left = sum(
            max(0.0, share * self._budget - self._record.spent(name)) for name, share in list(SHARES.items())[done:]
        )
        minutes = f"{left / 60:.1f} min" if left >= 90 else f"{left:.0f} s"
        self._show(spent, f"{stage}, round {number + 1}: {subject}; about {minutes} left")
