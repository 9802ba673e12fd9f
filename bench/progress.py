"""One live line on standard error while a phase runs; nothing when that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Update: TypeAlias = Callable[[float, str], None]
"""Called with the seconds elapsed and a text."""


def note(text: str) -> None:
    """A line that stays, on standard error; nothing when that is not a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """To be read, not to be computed with."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextmanager
def live_line(label: str, seconds: float) -> Iterator[Update]:
    """Show `label`, a bar over `seconds` and the latest text; the line is gone afterwards."""
    if not sys.stderr.isatty():
        yield lambda elapsed, text: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield lambda elapsed, text: _rewrite(f"{label} {elapsed:4.1f}/{seconds:.0f} s  {text}")
        _rewrite("")
        return
    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=seconds, text="")
        yield lambda elapsed, text: progress.update(bar, completed=elapsed, text=text)


def _rewrite(line: str) -> None:
    sys.stderr.write(f"\r{line:<78}\r" if not line else f"\r{line:<78}")
    sys.stderr.flush()
