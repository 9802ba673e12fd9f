"""`prismq top`: the queue, live."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final

from prismq import clock, sql
from prismq.cli import exits, options, output
from prismq.cli.list import STATUSES
from prismq.cli.stats import kinds
from prismq.database import QueueDatabase
from prismq.heartbeat import STALE_SECONDS, WorkerHeartbeat
from prismq.metrics import QueueMetrics

MINUTE: Final = 1 / 60
HOUR: Final = 1.0
ROWS: Final = 8
"""Of each list, at most."""
GAP: Final = " " * 4
"""Between what stands side by side."""


@dataclass(frozen=True)
class Section:
    """A table of the screen; the columns numbered in `left` are text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: Sequence[int] = (0,)

    @property
    def height(self) -> int:
        """Lines of its title, header and rows."""
        return 1 + any(self.header) + len(self.rows)


class Monitor:
    """Looks at a queue again and again; rates are between two looks."""

    def __init__(self, database: QueueDatabase) -> None:
        self._database = database
        self._metrics = QueueMetrics(database)
        self._last: tuple[float, int] | None = None

    def look(self) -> dict[str, Any]:
        """The numbers of one screen."""
        newest = int(self._database.execute(sql.NEWEST_ID).fetchone()[0])
        at = time.monotonic()
        then, before = self._last or (at, newest)
        self._last = (at, newest)
        return {
            "at": clock.now(),
            "depth_by_status": self._metrics.get_queue_depth_by_status(),
            "depth_by_type": kinds(self._database),
            "oldest_queued_task_age_seconds": self._metrics.get_oldest_queued_task_age(),
            "enqueued_per_second": (newest - before) / (at - then) if at > then else None,
            "last_minute": self._metrics.get_success_failure_rates(MINUTE),
            "last_hour": self._metrics.get_success_failure_rates(HOUR),
            "processing_seconds": self._metrics.get_processing_time_percentiles(HOUR),
            "workers": WorkerHeartbeat(self._database, STALE_SECONDS).get_all_workers_summary(),
            "failures": [
                dict(row) for row in self._database.execute("SELECT * FROM v_recent_failures LIMIT ?", (ROWS,))
            ],
        }


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "top",
        run,
        help="watch the queue live: depth, rates, times, workers, failures",
        description="Watch the queue until interrupted. It only reads. On a terminal it looks better with the extra:"
        ' pip install "prismq[cli]".',
        examples="prismq top\nprismq top --interval 5\nprismq top --once --json",
    )
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="SECONDS", help="(default 1)")
    parser.add_argument("--once", action="store_true", help="print one screen, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Show screens until interrupted, or one."""
    with options.existing_database(arguments) as database:
        monitor = Monitor(database)
        monitor.look()
        if arguments.once or arguments.json:
            time.sleep(min(arguments.interval, 1.0))
            found = monitor.look()
            if arguments.json:
                output.print_json(found)
            else:
                print(_plain(found, str(database.db_path)))
            return exits.OK
        with suppress(KeyboardInterrupt):  # the way to end it
            _watch(monitor, str(database.db_path), arguments.interval)
    return exits.OK


def _watch(monitor: Monitor, name: str, interval: float) -> None:
    if sys.stdout.isatty():
        with suppress(ImportError):  # without the extra the screen is plain
            from prismq.cli import live

            live.watch(lambda width: (headline(found := monitor.look(), name, width), sections(found)), interval)
    while True:
        if sys.stdout.isatty():
            columns, lines = shutil.get_terminal_size()
            screen = _plain(monitor.look(), name, (columns, lines - 1)).splitlines()
            print("\x1b[2J\x1b[H" + "\n".join(line[:columns] for line in screen), flush=True)
        else:
            print("\n" + _plain(monitor.look(), name), flush=True)
        time.sleep(interval)


def headline(found: dict[str, Any], name: str, width: int | None = None) -> str:
    """The first line of a screen so wide: the end of a path says more than its beginning."""
    at = f"  {clock.to_text(found['at'])[:19]} UTC"
    room = None if width is None else max(width - len(at), 1)
    name = output.printable(name)
    return (name if room is None or len(name) <= room else f"…{name[len(name) - room + 1 :]}") + at


def sections(found: dict[str, Any]) -> list[Section]:
    """The tables of a screen."""
    depth = found["depth_by_status"]
    enqueued, minute, hour = found["enqueued_per_second"], found["last_minute"], found["last_hour"]
    counts = [(status, depth.get(status, 0)) for status in STATUSES]
    counts += [(status, tasks) for status, tasks in depth.items() if status not in STATUSES]
    rates = [
        ("oldest queued", output.age(found["oldest_queued_task_age_seconds"])),
        ("enqueued/s", "-" if enqueued is None else f"{enqueued:,.1f}"),
        ("completed/s, last minute", f"{minute['success_count'] / 60:,.1f}"),
        ("failed/s, last minute", f"{minute['failure_count'] / 60:,.1f}"),
        ("failed, last hour", f"{100 * hour['failure_rate']:.1f} %"),
        *((f"processing {name}, last hour", f"{value:.3f} s") for name, value in found["processing_seconds"].items()),
    ]
    types: dict[str, dict[str, int]] = {}
    for row in found["depth_by_type"]:
        types.setdefault(row["type"], {})[row["status"]] = row["tasks"]
    busiest = sorted(types.items(), key=lambda item: -item[1].get("queued", 0))[:ROWS]
    workers = found["workers"]
    active = sum(row["is_active"] for row in workers)
    return [
        Section("tasks", ("status", "tasks"), counts),
        Section("rates", ("", ""), rates),
        Section(
            f"types ({len(types)})",
            ("type", *STATUSES),
            [(output.shortened(kind, 24), *(row.get(status, 0) for status in STATUSES)) for kind, row in busiest],
        ),
        Section(
            f"workers ({active} active, {len(workers) - active} stale)",
            ("worker", "state", "heartbeat", "holds", "tasks"),
            [
                (
                    output.shortened(row["worker_id"], 30),
                    "active" if row["is_active"] else "stale",
                    output.age(row["seconds_since_heartbeat"]),
                    row["active_tasks"],
                    row["total_tasks"],
                )
                for row in workers[:ROWS]
            ],
            (0, 1),
        ),
        Section(
            "latest failures",
            ("id", "type", "status", "tries", "error"),
            [
                (
                    str(row["id"]),
                    output.shortened(row["type"], 24),
                    row["status"],
                    row["attempts"],
                    output.shortened(row["error_message"], 50),
                )
                for row in found["failures"]
            ],
            (1, 2, 4),
        ),
    ]


def fitted(found: list[Section], width: int, height: int) -> tuple[list[Section], bool]:
    """The sections of a screen so wide, and so high below the headline; and whether there is room for lines between.

    The first two stand side by side. The others have fewer rows if need be, the longest first.
    """
    beside, lists = found[:2], [_narrowed(section, width) for section in found[2:]]
    room = height - max(section.height for section in beside)
    if sum(1 + section.height for section in lists) <= room - 1:
        return [*beside, *lists], True
    room -= sum(section.height - len(section.rows) for section in lists)
    rows = [len(section.rows) for section in lists]
    while sum(rows) > max(room, 0):
        rows[rows.index(max(rows))] -= 1
    return [*beside, *(replace(one, rows=one.rows[:count]) for one, count in zip(lists, rows, strict=True))], False


def _narrowed(section: Section, width: int) -> Section:
    """Its last column is cut if it is text and the others leave too little room."""
    cells = [list(map(output.plain, row)) for row in section.rows]
    widths = [max(map(len, column)) + len(GAP) // 2 for column in zip(section.header, *cells, strict=True)]
    room = width - sum(widths[:-1]) - len(GAP) // 2
    if len(widths) - 1 not in section.left:
        return section
    return replace(section, rows=[[*row[:-1], output.shortened(row[-1], max(room, 1))] for row in cells])


def _plain(found: dict[str, Any], name: str, size: tuple[int, int] | None = None) -> str:
    """A screen, of so many columns and lines if there is a limit."""
    shown, spaced = sections(found), True
    if size is not None:
        ruled = sum(any(section.header) for section in shown[2:]) + 1  # lines under the headers
        shown, spaced = fitted(shown, size[0], size[1] - 1 - ruled)
    tables = [f"{one.title}\n{output.table(one.header, one.rows, one.left)}".splitlines() for one in shown]
    width = max(map(len, tables[0]))
    pairs = zip_longest(*tables[:2], fillvalue="")
    beside = [f"{left:<{width}}{GAP}{right}".rstrip() for left, right in pairs]
    first = headline(found, name, None if size is None else size[0])
    between = "\n\n" if spaced else "\n"
    return between.join("\n".join(lines) for lines in ([first], beside, *tables[2:]))


def _interval(text: str) -> float:
    seconds = options.seconds(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("the interval is 0.1 s to 1 h")
    return seconds
