"""What makes the same operations cost the same each time: nobody works beside them, and chance is seeded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from prismq import TaskQueue, driver

if TYPE_CHECKING:
    from bench.scenario import Driver

ENVIRONMENT = {
    # Otherwise every run's dictionaries would take their own number of instructions.
    "PYTHONHASHSEED": "0",
    # One memcpy and one memset for all processors; those that they choose count a REP instruction once a byte.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM",
}


class NoHousekeeper:
    """Stands in for the queue's housekeeper, whose checkpoints begin the WAL anew while its pages are counted."""

    def __init__(self, *arguments: object) -> None:
        pass

    def abandon(self) -> None:
        pass

    def stop(self) -> None:
        pass


class FixedSeed(apsw.VFS):
    """While it is the default, SQLite seeds its random numbers with zeros."""

    def __init__(self) -> None:
        super().__init__("fixed seed", "", makedefault=True)

    def xRandomness(self, numbytes: int) -> bytes:
        return bytes(numbytes)


def isolated_queue(path: Path, choice: Driver) -> TaskQueue:
    """A queue whose WAL nobody checkpoints. From here on no TaskQueue of this process has a housekeeper."""
    driver.Housekeeper = NoHousekeeper  # type: ignore[assignment, attr-defined]
    queue = TaskQueue(path, driver=choice)
    assert queue.driver_name  # connects: the driver sets a WAL hook of its own, which the pragma takes away
    queue.database.execute("PRAGMA wal_autocheckpoint = 0")
    _seed_chance()
    return queue


def _seed_chance() -> None:
    """Seed SQLite's random numbers, once a file is open: its first one in a process throws the seed away."""
    seed = FixedSeed()
    apsw.randomness(0)
    apsw.randomness(1)
    seed.unregister()
