"""Processes that share a queue file for a while, and what they leave to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.phase import _watch
from bench.scenario import Scenario
from bench.troupe import Part, Troupe


@dataclass(frozen=True, slots=True)
class Trace:
    """The window in `time.perf_counter` seconds, a journal of each process, and the largest WAL in bytes."""

    start: float
    stop: float
    producers: list[Path]
    workers: list[Path]
    wal_bytes: int

    @property
    def journals(self) -> list[Path]:
        return [*self.producers, *self.workers]

    @classmethod
    def of(cls, label: str, scenario: Scenario, folder: Path, produce: Part, work: Part) -> Self:
        """Run the scenario's processes in `folder`, which must not exist; CrewError when one of them fails."""
        parts = [produce] * scenario.producers + [work] * scenario.workers
        with Troupe(parts, scenario, folder) as troupe:
            troupe.begin()
            wal_bytes = _watch(label, scenario, troupe, folder / "queue.db-wal")
            start = troupe.board.start
            troupe.finish()
        producers, workers = troupe.journals[: scenario.producers], troupe.journals[scenario.producers :]
        return cls(start, start + scenario.seconds, producers, workers, wal_bytes)
