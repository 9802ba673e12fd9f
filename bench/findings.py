"""What a command hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Findings:
    """`text` is printed, `content` goes to the file of --json, `passed` decides on the exit status."""

    text: str
    content: dict[str, Any]
    passed: bool = True
