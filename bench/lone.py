"""What committing together costs somebody who has the file to itself: one process, two files, in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.group_actors import DIRECTLY, LONE, TOGETHER, alone, lone_journal
from bench.journal import read_journals
from bench.latency import Latency, latencies
from bench.scenario import Durability, Scenario
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict
from bench.trace import Trace
from bench.turn import ratio

OPERATIONS = ("enqueue", "claim", "complete")
DEARER = 1.05
HEADER = ("lone caller", "operation", "calls", "p50 us, group commit", "p50 us, direct", "ratio")


@dataclass(frozen=True, slots=True)
class Lone:
    """Latencies of the lone caller's calls on each of its files; the last block ends after the window."""

    durability: Durability
    latency: dict[str, dict[str, Latency]]

    @classmethod
    def of(cls, durability: Durability, seconds: float, folder: Path) -> Self:
        """Let one process call for so many seconds; CrewError when it fails."""
        scenario = Scenario(producers=1, workers=0, seconds=seconds, durability=durability)
        with scratch_folder(folder) as place:
            trace = Trace.of(f"{durability}, lone caller", scenario, place / "lone", alone, alone)
            (journal,) = trace.journals
            return cls(durability, {side: _latency(lone_journal(journal, side), trace.start) for side in LONE})

    def ratios(self) -> dict[str, float]:
        """Of the p50s, by operation."""
        together, directly = self.latency[TOGETHER], self.latency[DIRECTLY]
        return {name: ratio(together[name].p50, directly[name].p50) for name in OPERATIONS}

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratios": self.ratios()}


def judge(durability: Durability, ratios: Mapping[str, float]) -> list[Verdict]:
    """Nothing measured is nothing kept."""
    return [
        Verdict(f"{durability}: lone {name}, p50 <= {DEARER:g} times", f"{found:.3f} times", 0 < found <= DEARER)
        for name, found in ratios.items()
    ]


def lone_table(callers: list[Lone]) -> str:
    """A line for each operation."""
    rows = []
    for caller in callers:
        together, directly = caller.latency[TOGETHER], caller.latency[DIRECTLY]
        for name, found in caller.ratios().items():
            p50s = (f"{side[name].p50 * 1000:,.1f}" for side in (together, directly))
            rows.append([caller.durability, name, f"{directly[name].count:,}", *p50s, f"{found:.3f}"])
    return table(HEADER, rows, left=2)


def _latency(journal: Path, start: float) -> dict[str, Latency]:
    found = latencies(read_journals([journal]), start, math.inf)
    return {name: found[name] for name in OPERATIONS}
