"""What was measured so far, kept after each pair so that an interrupted search can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.files import write_whole
from bench.machine import Facts, OtherMachineError, machine_facts, require_same
from bench.scenario import Durability, Scenario
from bench.scratch import scratch_folder
from bench.tune.judge import Pair


class RecordError(Exception):
    """There is nothing to go on with, or it belongs to another search."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one `subject` did in one round of a stage, beside the defaults, and how many seconds that took."""

    stage: str
    round: int
    subject: str
    figures: dict[str, float]
    beside: dict[str, float]
    seconds: float


@dataclass(slots=True)
class Record:
    """All of a search: what it was asked for, where it runs, and the entries in their order."""

    machine: Facts
    windows: dict[str, str]
    durability: Durability
    minutes: float
    entries: list[Entry] = field(default_factory=list)

    def pairs(self, subject: str, *stages: str) -> list[Pair]:
        """Of these stages."""
        found = [entry for entry in self.entries if entry.subject == subject and entry.stage in stages]
        return [(entry.figures, entry.beside) for entry in found]

    def spent(self, stage: str) -> float:
        """Seconds."""
        return sum(entry.seconds for entry in self.entries if entry.stage == stage)

    def has(self, stage: str, number: int, subject: str) -> bool:
        return any((one.stage, one.round, one.subject) == (stage, number, subject) for one in self.entries)

    def write(self, file: Path) -> None:
        """At once or not at all, so that an interrupt leaves what was there."""
        write_whole(file, asdict(self))

    @classmethod
    def read(cls, file: Path, durability: Durability, minutes: float, folder: Path | None = None) -> Record:
        """One that was written here by a search for the same, to go on with in `folder` (None: the system's temporary
        one); RecordError otherwise."""
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            record = cls(**content | {"entries": [Entry(**entry) for entry in content["entries"]]})
        except OSError as error:
            raise RecordError(f"--resume: there is nothing to go on with, {file} can't be read ({error})") from error
        except (TypeError, KeyError, ValueError) as error:
            raise RecordError(f"--resume: {file} holds no rounds of a search ({error})") from error
        if (record.durability, record.minutes) != (durability, minutes):
            raise RecordError(
                f"--resume: {file} is of a search with --durability {record.durability} --minutes {record.minutes:g}:"
                " say the same, or leave --resume out to begin anew"
            )
        with scratch_folder(folder) as place, Scenario(durability=durability).open(place / "facts.db") as queue:
            here = machine_facts(place, queue, durability)
        try:
            require_same(record.machine, here)
        except OtherMachineError as error:
            raise RecordError(f"--resume: {file}: {error}") from error
        return record
