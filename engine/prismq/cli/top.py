"""`prismq top`: the queue, live."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from prismq import clock, sql
from prismq.cli import exits, options, output
from prismq.cli.list import STATUSES
from prismq.database import QueueDatabase
from prismq.heartbeat import STALE_SECONDS, WorkerHeartbeat
from prismq.metrics import QueueMetrics, depth_by_type

MINUTE: Final = 1 / 60
HOUR: Final = 1.0
ROWS: Final = 8
"""Of each list."""


@dataclass(frozen=True)
class Section:
    """A table of the screen; the columns numbered in `left` are text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: Sequence[int] = (0,)


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
            "depth_by_type": depth_by_type(self._database),
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

            live.watch(lambda: (headline(found := monitor.look(), name), sections(found)), interval)
    clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else "\n"
    while True:
        print(clear + _plain(monitor.look(), name), flush=True)
        time.sleep(interval)


def headline(found: dict[str, Any], name: str) -> str:
    """The first line of a screen."""
    return f"{name}  {clock.to_text(found['at'])[:19]} UTC"


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
    kinds: dict[str, dict[str, int]] = {}
    for kind, status, tasks in found["depth_by_type"]:
        kinds.setdefault(kind, {})[status] = tasks
    busiest = sorted(kinds.items(), key=lambda item: -item[1].get("queued", 0))[:ROWS]
    workers = found["workers"]
    active = sum(row["is_active"] for row in workers)
    return [
        Section("tasks", ("status", "tasks"), counts),
        Section("rates", ("", ""), rates),
        Section(
            f"types ({len(kinds)})",
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
                    row["type"],
                    row["status"],
                    row["attempts"],
                    output.shortened(row["error_message"], 50),
                )
                for row in found["failures"]
            ],
            (1, 2, 4),
        ),
    ]


def _plain(found: dict[str, Any], name: str) -> str:
    parts = [f"{one.title}\n{output.table(one.header, one.rows, one.left)}" for one in sections(found)]
    return "\n\n".join([headline(found, name), *parts])


def _interval(text: str) -> float:
    seconds = options.seconds(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("the interval is 0.1 s to 1 h")
    return seconds
