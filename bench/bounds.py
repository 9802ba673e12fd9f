"""Numbers that prose may hold: what the code itself sets, as the code has it.

Everything else that is a number was measured, and belongs into a block that is made of the results.
"""

from __future__ import annotations

import re
from pathlib import Path

from prismq import Settings
from prismq.housekeeping import delay_us
from prismq.idle import LONGEST_POLL_SECONDS
from prismq.settings import MIB, MINIMUM_SQLITE

NATIVE = Path(__file__).resolve().parents[1] / "native"
GIB = 1024 * MIB
AIM = re.compile(r"\]\([^)]*\)|<[^>]*>")
"""Where links lead to, and tags."""
CODE = re.compile(r"^```\w+\n.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
UNIT = r" ?(?:%|(?:[mµu]?s|[KMG]i?B|/s|times)\b)"
AMOUNT = r"(?<![\w.-])\d[\d,.]*(?: to \d[\d,.]*)?"
NUMBER, MEASUREMENT = re.compile(f"{AMOUNT}(?:{UNIT})?"), re.compile(f"{AMOUNT}{UNIT}")


def bounds() -> frozenset[str]:
    """As they are written: with their unit, if they have one."""
    settings = Settings()
    limit = settings.wal_limit_bytes
    sizes = (settings.restart_bytes, settings.long_wal_bytes, limit // 4)
    return frozenset(
        {
            ".".join(map(str, MINIMUM_SQLITE)),
            f"{_set('gate.c', 'SHORTEST_WAIT_US') / 1e3:g} to {_set('gate.c', 'LONGEST_WAIT_US') / 1e3:g} ms",
            f"{_set('keeper.c', 'TICK_US') / 1e3:g} ms",
            f"{_set('sidecar.h', 'SIDECAR_PLACES')}",
            f"{LONGEST_POLL_SECONDS * 1e3:g} ms",
            *(f"{size / MIB:g} MiB" for size in sizes),
            f"{limit / GIB:g} GiB",
            f"{delay_us(limit // 4, limit) / 1e3:.0f} to {delay_us(limit - 1, limit) / 1e3:.0f} ms",
        }
    )


def unbacked(text: str) -> list[str]:
    """Numbers in prose, and in code those with a unit, that are none of the bounds."""
    text = AIM.sub("", text)
    measured = [one for code in CODE.findall(text) for one in MEASUREMENT.findall(code)]
    found = [*NUMBER.findall(CODE.sub("", text)), *measured]
    allowed = bounds()
    return [number for one in found if (number := one.rstrip(".,")) not in allowed]


def _set(file: str, name: str) -> int:
    """A constant of the C module."""
    found = re.search(rf"\b{name} = (\d+)", (NATIVE / file).read_text(encoding="utf-8"))
    if found is None:
        raise LookupError(f"there is no {name} in native/{file}")
    return int(found[1])
