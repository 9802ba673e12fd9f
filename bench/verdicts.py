"""Reports that pass or fail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.machine import Facts
from bench.table import table
from bench.targets import Verdict


@dataclass(frozen=True, slots=True)
class Judged(ABC):
    """What a benchmark measured, on which machine, and the promises that it is held against."""

    machine: Facts

    @property
    @abstractmethod
    def verdicts(self) -> list[Verdict]:
        """One for each promise."""

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        verdicts = [asdict(verdict) for verdict in self.verdicts]
        return asdict(self) | {"verdicts": verdicts, "passed": self.passed}


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """A line for each promise."""
    rows = [["PASS" if verdict.passed else "FAIL", verdict.promise, verdict.measured] for verdict in verdicts]
    return table(("", "target", "measured"), rows, left=2)
