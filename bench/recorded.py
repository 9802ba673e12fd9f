"""Results as they are committed, each with the command that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.targets import Verdict

HAMMER = "python -m bench --producers 4 --workers 4 --seconds 60 --phase closed"
COMMANDS: Mapping[str, str] = {
    "run-normal": "python -m bench",
    "run-full": "python -m bench --durability full",
    "hammer": HAMMER,
    "hammer-kill": f"{HAMMER} --kill-workers 1",
    "costs": "python -m bench costs --variants",
}
"""What makes a result that does not say so itself, where it is not `python -m bench NAME`."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One result; `link` is its file, as seen from the page that shows it."""

    file: Path
    content: Mapping[str, Any]
    link: str

    @classmethod
    def read(cls, file: Path, seen_from_page: str = "") -> Self:
        return cls(file, json.loads(file.read_text(encoding="utf-8")), f"{seen_from_page}{file.name}")

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def command(self) -> str:
        return str(self.content.get("command") or COMMANDS.get(self.name, f"python -m bench {self.name}"))

    @property
    def made_by(self) -> str:
        """The command, as a link to the result."""
        return f"[`{self.command}`]({self.link})"

    @property
    def machine(self) -> Mapping[str, Any]:
        """Empty where the result says none, or has one for each part."""
        parts: Sequence[Mapping[str, Any]] = (self.content, *self.content.get("outcomes", ()))
        return next((part["machine"] for part in parts if "machine" in part), {})

    @property
    def date(self) -> str:
        return str(self.machine.get("date", ""))

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """Of the whole and of its parts."""
        parts = [part.get("verdicts", ()) for part in (self.content, *self.content.get("outcomes", ()))]
        return [Verdict(**verdict) for each in parts for verdict in each]


def read_all(results: Path, seen_from_page: str = "") -> list[Recorded]:
    """Every result in the folder, by name."""
    return [Recorded.read(file, seen_from_page) for file in sorted(results.glob("*.json"))]
