"""`prismq logs`: what was logged of tasks."""

from __future__ import annotations

import argparse
import time

from prismq.cli import exits, options, output
from prismq.cli.show import log_line
from prismq.logs import TaskLogger
from prismq.models import TaskLog

LOOK_SECONDS = 0.5


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
    parser.add_argument("id", nargs="?", type=int, help="the task's id (default: of all)")
    parser.add_argument("--level", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    parser.add_argument("--limit", type=options.whole(1), default=20, metavar="N", help="the newest (default 20)")
    parser.add_argument("--follow", action="store_true", help="go on with what is logged, until interrupted")


def run(arguments: argparse.Namespace) -> int:
    """Print the entries."""
    with options.existing_database(arguments) as database:
        logger = TaskLogger(database)

        def newest(limit: int) -> list[TaskLog]:
            if arguments.id is not None:
                return logger.get_task_logs(arguments.id, arguments.level, limit)[::-1]
            return logger.get_recent_logs(limit, arguments.level)[::-1]

        if arguments.json and not arguments.follow:
            output.print_json([log.to_dict() for log in newest(arguments.limit)])
            return exits.OK
        last = _print(newest(arguments.limit), 0)
        while arguments.follow:
            time.sleep(LOOK_SECONDS)
            last = _print(newest(1000), last)
    return exits.OK


def _print(logs: list[TaskLog], last: int) -> int:
    """Print those after the last one printed; returns the new last one."""
    for log in logs:
        if (log.log_id or 0) > last:
            print(log_line(log), flush=True)
            last = log.log_id or 0
    return last
