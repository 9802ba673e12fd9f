"""The screen of `prismq top`, drawn with rich (the extra `cli`)."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prismq.cli import output
from prismq.cli.top import Section, fitted

STYLES = {"failed": "red", "dead_letter": "red", "stale": "yellow", "processing": "cyan", "completed": "green"}


def watch(look: Callable[[int], tuple[str, list[Section]]], interval: float) -> None:
    """Show what `look` returns for a width, a headline and tables, every `interval` seconds until interrupted."""
    with Live(screen=True, auto_refresh=False) as live:
        while True:
            width, height = live.console.size
            live.update(_screen(*look(width), width, height), refresh=True)
            time.sleep(interval)


def _screen(headline: str, found: list[Section], width: int, height: int) -> RenderableType:
    shown, spaced = fitted(found, width, height - 1)
    tasks, rates, *lists = map(_table, shown)
    parts: list[RenderableType] = [Text(headline, style="bold"), Columns([tasks, rates], padding=(0, 4)), *lists]
    return Group(*(line for part in parts for line in ((part, "") if spaced else (part,))))


def _table(section: Section) -> Table:
    table = Table(
        title=section.title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        show_header=any(section.header),
    )
    for number, name in enumerate(section.header):
        table.add_column(
            name, justify="left" if number in section.left else "right", no_wrap=True, style=STYLES.get(name)
        )
    for row in section.rows:
        table.add_row(*(Text(text := output.plain(value), style=STYLES.get(text, "")) for value in row))
    return table
