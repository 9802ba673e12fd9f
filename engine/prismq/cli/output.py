"""How commands print: plain text for people and pipes, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from prismq import clock
from prismq.models import Record

R = TypeVar("R", bound=Record)

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, ends a line or turns the direction of writing."""


def printable(text: str) -> str:
    """One line that does nothing to a terminal, whoever wrote it: escape sequences are shown, not obeyed."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def record(kind: type[R], row: Mapping[str, Any]) -> R:
    """The row as a model; a time that plain SQL put in and nobody can read stays the text that it is."""
    try:
        return kind.from_dict(row)
    except (ValueError, TypeError, OverflowError):
        return kind(**{name: _time_or_text(value) if name.endswith("_utc") else value for name, value in row.items()})


def _time_or_text(value: Any) -> Any:
    with suppress(ValueError, TypeError, OverflowError):
        return clock.to_datetime(value)
    return value


def print_json(value: Any) -> None:
    """One JSON value, indented; times as ISO-8601, paths as text, dataclasses as objects."""
    print(json_line(value, indent=2))


def json_line(value: Any, indent: int | None = None) -> str:
    """The same on one line; what standard output's encoding may lack is escaped."""
    escapes = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(value, indent=indent, ensure_ascii=escapes, default=_json_form)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> str:
    """Aligned lines under `header`, if it says anything; the columns numbered in `left` to the left, others right."""
    cells = [[plain(value) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]

    def aligned(line: Sequence[str]) -> str:
        return "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()

    top = [aligned(header), aligned(["-" * width for width in widths])] if any(header) else []
    return "\n".join([*top, *map(aligned, cells)])


def shortened(text: str | None, limit: int) -> str:
    """One printable line of at most `limit` characters."""
    line = printable(" ".join((text or "").split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def age(seconds: float | None) -> str:
    """A duration as people say it: 0.4 s, 12 s, 3 min, 2.5 h, 4 d."""
    if seconds is None:
        return "-"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def plain(value: object) -> str:
    """A value as a cell of a table: printable, - for None, times as they are stored."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return clock.to_text(value)
    return printable(str(value))


def _json_form(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
