"""What is tried: a few values of each setting that can matter, one change at a time.

The gate and the waiting have no settings but group_commit, and how many tasks a call is about is the caller's choice:
rates of BATCHES are measured for advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prismq import Settings
from prismq.settings import MIB


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change of the defaults. Of those with the same `topic` at most one can be kept."""

    topic: str
    label: str
    changes: Mapping[str, Any]

    def settings(self, base: Settings) -> Settings:
        return merged(base, [self])


def _one(name: str, value: Any, label: str) -> Candidate:
    return Candidate(name, label, {name: value})


def _checkpoints(copied: int, begun_anew: int) -> Candidate:
    label = f"checkpoints at {copied // MIB}, {begun_anew // MIB} MiB"
    changes = {"checkpoint_bytes": copied, "restart_bytes": begun_anew, "long_wal_bytes": max(48 * MIB, begun_anew)}
    return Candidate("checkpoints", label, changes)


CANDIDATES = (
    _one("page_size", 2048, "page_size 2 KiB"),
    _one("page_size", 8192, "page_size 8 KiB"),
    _one("page_size", 16384, "page_size 16 KiB"),
    _one("cache_size", -2_000, "cache_size 2 MB"),
    _one("cache_size", -100_000, "cache_size 100 MB"),
    _one("mmap_size", 256 * MIB, "mmap_size 256 MiB"),
    _checkpoints(1 * MIB, 2 * MIB),
    _checkpoints(8 * MIB, 24 * MIB),
    _checkpoints(16 * MIB, 48 * MIB),
    _one("id_block", 64, "id_block 64"),
    _one("id_block", 16_384, "id_block 16,384"),
    _one("group_commit", False, "group_commit off"),
)
BATCHES = (1, 10, 100, 1_000, 5_000)
"""Tasks of one `enqueue_many`."""


def merged(base: Settings, candidates: Iterable[Candidate]) -> Settings:
    """The base with all of these changes."""
    changes: dict[str, Any] = base.as_dict()
    for candidate in candidates:
        changes |= candidate.changes
    return Settings(**changes)
