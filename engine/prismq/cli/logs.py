"""`prismq logs`: what was logged of tasks."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from prismq import observe_sql, sql
from prismq.cli import exits, options, output
from prismq.cli.show import log_line
from prismq.database import QueueDatabase
from prismq.models import TaskLog
from prismq.row import Row

LOOK_SECONDS = 0.5
LOOK_ENTRIES = 1000
"""Read at a time."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "logs",
        run,
        help="print the log entries of one task or all, oldest first",
        examples="""
        prismq logs 42
        prismq logs --level ERROR --limit 100
        prismq logs --follow""",
    )
    parser.add_argument("id", nargs="?", type=options.whole(1), help="the task's id (default: of all)")
    parser.add_argument("--level", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    parser.add_argument("--limit", type=options.whole(1), default=20, metavar="N", help="the newest (default 20)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on with what is logged, until interrupted; with --json a line for each entry",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the entries."""
    with options.existing_database(arguments) as database:
        written = int(database.execute(observe_sql.NEWEST_LOG).fetchone()[0])
        if arguments.id is None:
            rows = database.execute(observe_sql.RECENT_LOGS, (arguments.level, arguments.limit)).fetchall()
        else:
            rows = database.execute(observe_sql.TASK_LOGS, (arguments.id, arguments.level, arguments.limit)).fetchall()
            if not rows and database.execute(sql.GET, (arguments.id,)).fetchone() is None:
                raise exits.Exit(f"there is no task {arguments.id}")
        logs = _as_logs(reversed(rows))
        if arguments.follow:
            _print([log for log in logs if (log.log_id or 0) <= written], arguments.json)
            _follow(database, written, arguments)
        elif arguments.json:
            output.print_json([log.to_dict() for log in logs])
        else:
            _print(logs)
    return exits.OK


def _follow(database: QueueDatabase, written: int, arguments: argparse.Namespace) -> None:
    """Print what is written after the entry `written`, until interrupted."""
    while True:
        rows = database.execute(observe_sql.LOGS_AFTER, (written, LOOK_ENTRIES)).fetchall()
        _print([log for log in _as_logs(rows) if _is_wanted(log, arguments)], arguments.json)
        if rows:
            written = rows[-1]["log_id"]
        if len(rows) < LOOK_ENTRIES:
            time.sleep(LOOK_SECONDS)


def _as_logs(rows: Iterable[Row]) -> list[TaskLog]:
    return [output.record(TaskLog, dict(row)) for row in rows]


def _is_wanted(log: TaskLog, arguments: argparse.Namespace) -> bool:
    return arguments.id in (None, log.task_id) and arguments.level in (None, log.level)


def _print(logs: list[TaskLog], as_json: bool = False) -> None:
    """A line for each."""
    for log in logs:
        print(output.json_line(log.to_dict()) if as_json else log_line(log))
    sys.stdout.flush()
