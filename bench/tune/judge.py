"""Whether a difference is one: ratios of pairs that ran right after each other, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4_000
CONFIDENCE = 95.0
INTERVAL_ERRORS = 3.92
"""Standard errors from one end of such an interval to the other."""
LEAST_PAIRS = 6
"""With fewer no change is kept: by chance alone six would all point one way in 1 of 32 cases."""
SLACK = 0.97
"""A target whose ratio is below this, and by more than a standard error below 1, counts as worse."""


@dataclass(frozen=True, slots=True)
class Target:
    """`key` of Figures; `more` is better, or less."""

    key: str
    title: str
    more: bool


TARGETS = (
    Target("operations", "operations/s", True),
    Target("p99_ms", "p99 of a call", False),
    Target("batch", "tasks/s in batches", True),
)


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times better than the defaults: the geometric mean of the pairs, and a 95 % interval around it."""

    pairs: int
    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Gain:
        """By the percentile bootstrap over pairs (Efron 1979), always with the same random numbers."""
        if not len(ratios):
            return cls(0, 1.0, 0.0, float("inf"))
        logs = np.log(np.asarray(ratios, dtype=float))
        drawn = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
        low, high = np.percentile(drawn, (50 - CONFIDENCE / 2, 50 + CONFIDENCE / 2))
        return cls(len(logs), float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)))

    @property
    def is_better(self) -> bool:
        return self.pairs >= LEAST_PAIRS and self.low > 1

    @property
    def is_worse(self) -> bool:
        """Shown to be, or looking so: one needs less evidence against a change than for it."""
        error = (np.log(self.high) - np.log(self.low)) / INTERVAL_ERRORS if self.pairs else np.inf
        return bool(self.high < 1 or (self.middle < SLACK and np.log(self.middle) < -error))


Pair = tuple[Mapping[str, float], Mapping[str, float]]
"""Figures of the candidate, and of the defaults right before or after it."""


def gains(pairs: Sequence[Pair]) -> dict[str, Gain]:
    """By target; above 1 is better, whichever way that is."""
    found = {}
    for target in TARGETS:
        ratios = [theirs[target.key] / base[target.key] for theirs, base in pairs]
        found[target.key] = Gain.of(ratios if target.more else [1 / ratio for ratio in ratios])
    return found


def is_worth_it(found: Mapping[str, Gain]) -> bool:
    """Better on at least one target, beyond the noise, and worse on none."""
    return any(gain.is_better for gain in found.values()) and not any(gain.is_worse for gain in found.values())


def score(found: Mapping[str, Gain]) -> float:
    """To rank by: the mean of all targets, as a ratio."""
    return float(np.exp(np.mean([np.log(gain.middle) for gain in found.values()])))
