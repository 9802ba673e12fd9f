"""Whether a difference is one: ratios of pairs that ran right after each other, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""That the intervals of all targets hold together: each of them is wider (Bonferroni)."""
LEAST_PAIRS = 6
"""With fewer no change is kept: by chance alone six would all point one way in 1 of 32 cases."""
STEPS = 20_001
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
    Target("completed", "completed/s", True),
    Target("p99_ms", "p99 of a call", False),
    Target("batch", "tasks/s in batches", True),
)


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times better than the defaults: the geometric mean of the pairs, the interval around it, and the
    standard error of its logarithm."""

    pairs: int
    middle: float
    low: float
    high: float
    error: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Gain:
        """By Student's t over the logarithms; one pair alone says nothing about its error."""
        if not len(ratios):
            return cls(0, 1.0, 0.0, math.inf, math.inf)
        logs = np.log(np.asarray(ratios, dtype=float))
        count, middle = len(logs), float(logs.mean())
        if count == 1:
            only = math.exp(middle)
            return cls(1, only, only, only, 0.0)
        error = float(logs.std(ddof=1)) / math.sqrt(count)
        reach = quantile(1 - (1 - CONFIDENCE) / len(TARGETS) / 2, count - 1) * error
        return cls(count, math.exp(middle), math.exp(middle - reach), math.exp(middle + reach), error)

    @property
    def is_better(self) -> bool:
        return self.pairs >= LEAST_PAIRS and self.low > 1

    @property
    def is_worse(self) -> bool:
        """Shown to be, or looking so: one needs less evidence against a change than for it."""
        return self.high < 1 or (self.middle < SLACK and math.log(self.middle) < -self.error)


def quantile(share: float, freedom: int) -> float:
    """Of Student's t distribution, for shares from a half on: what so many of its values don't exceed."""
    # With t = sqrt(freedom) * tan(angle) its density is that of cos(angle) ** (freedom - 1), up to a right angle.
    angles = np.linspace(0, np.pi / 2, STEPS)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return math.sqrt(freedom) * math.tan(float(np.interp((share - 0.5) * 2, below / below[-1], angles)))


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
    return bool(better(found)) and not worse(found)


def worse(found: Mapping[str, Gain]) -> list[Target]:
    """The targets on which it is, or looks, worse than the defaults."""
    return [target for target in TARGETS if found[target.key].is_worse]


def better(found: Mapping[str, Gain]) -> list[Target]:
    """The targets on which it is better than the defaults, beyond the noise."""
    return [target for target in TARGETS if found[target.key].is_better]


def score(found: Mapping[str, Gain]) -> float:
    """To rank by: the mean of all targets, as a ratio."""
    return float(np.exp(np.mean([np.log(gain.middle) for gain in found.values()])))
