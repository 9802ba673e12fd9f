"""How far a benchmark is, on standard error: a live line on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeAlias

Update: TypeAlias = Callable[[float, str], None]
"""Called with how much is done, in seconds or parts, and a text."""
LINE_SECONDS = 60.0
"""So often without a terminal, such as in a log of CI."""


def note(text: str) -> None:
    """A line that stays, on standard error; nothing when that is not a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """To be read, not to be computed with."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextmanager
def live_line(label: str, total: float) -> Iterator[Update]:
    """Show `label`, how much of `total` is done, and the latest text; a live line is gone afterwards."""
    if not sys.stderr.isatty():
        yield _lines(label, total)
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda done, text: _rewrite(f"{label} {done:4.1f}/{total:.0f}  {text}")
        _rewrite("")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=total, text="")
        yield lambda done, text: progress.update(bar, completed=done, text=text)


def _lines(label: str, total: float) -> Update:
    """A line each LINE_SECONDS, with how long the rest will take at the same pace."""
    started = said = monotonic()

    def update(done: float, text: str) -> None:
        nonlocal said
        now = monotonic()
        if total and now - said >= LINE_SECONDS:
            said = now
            left = f"; about {duration((now - started) * (total - done) / done)} left" if 0 < done <= total else ""
            print(f"{label}: {done / total:.0%}, {text}{left}", file=sys.stderr, flush=True)

    return update


def _rewrite(line: str) -> None:
    sys.stderr.write(f"\r{line:<78}\r" if not line else f"\r{line:<78}")
    sys.stderr.flush()
