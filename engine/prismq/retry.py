"""How long a failed task waits before its next attempt."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class RetryConfig:
    """Exponential backoff with jitter; all delays in seconds."""

    initial_delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0
    backoff_multiplier: float = 2.0
    jitter_factor: float = 0.1

    def __post_init__(self) -> None:
        for name, lowest in (
            ("initial_delay_seconds", 0),
            ("max_delay_seconds", 0),
            ("backoff_multiplier", 1),
            ("jitter_factor", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value < float("inf"):
                raise ValueError(f"RetryConfig.{name} is {value!r}; it must be a finite number of at least {lowest}")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; ValueError for anything else."""
        values = json.loads(text)
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a retry configuration: {text:.200}") from error

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def delay_seconds(self, attempt: int) -> float:
        """The wait after the given attempt (1 = the first): min(initial * multiplier^(attempt-1), max), +-jitter."""
        try:
            delay = self.initial_delay_seconds * self.backoff_multiplier ** (attempt - 1)
        except OverflowError:
            delay = self.max_delay_seconds
        delay = min(delay, self.max_delay_seconds)
        return max(0.0, delay * (1 + random.uniform(-self.jitter_factor, self.jitter_factor)))
