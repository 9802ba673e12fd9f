"""How long a failed task waits before its next attempt."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from prismq import clock


@dataclass(frozen=True)
class RetryConfig:
    """Exponential backoff with jitter; all delays in seconds. ValueError for what can't be."""

    initial_delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0
    backoff_multiplier: float = 2.0
    jitter_factor: float = 0.1

    def __post_init__(self) -> None:
        for name in ("initial_delay_seconds", "max_delay_seconds"):
            try:
                clock.seconds(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"RetryConfig.{name} is {getattr(self, name)!r:.100}; {error}") from None
        for name, lowest in (("backoff_multiplier", 1), ("jitter_factor", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value < math.inf:
                raise ValueError(
                    f"RetryConfig.{name} is {value!r:.100}; it must be a finite number of at least {lowest}"
                )

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Build from a mapping of the fields, as a configuration holds it; ValueError for a bad one."""
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(f"retry is {values!r:.100}; it must be an object with {', '.join(known)}")
        if unknown := [key for key in values if key not in known]:
            raise ValueError(f"retry has the unknown key {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**values)

    def delay_seconds(self, attempt: int) -> float:
        """The wait after the given attempt (1 = the first): min(initial * multiplier^(attempt-1), max), +-jitter."""
        try:
            delay = self.initial_delay_seconds * self.backoff_multiplier ** (attempt - 1)
        except OverflowError:
            delay = self.max_delay_seconds
        delay = min(delay, self.max_delay_seconds)
        jittered = delay * (1 + random.uniform(-self.jitter_factor, self.jitter_factor))
        return min(max(0.0, jittered), clock.MAX_SECONDS)
