"""`prismq list`: the tasks, newest first."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Final

from prismq import clock, sql
from prismq.cli import exits, options, output
from prismq.models import Task

STATUSES: Final = ("queued", "processing", "completed", "failed", "dead_letter")
ERROR_WIDTH: Final = 40


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "list",
        run,
        help="list tasks, newest first",
        examples="""
        prismq list --status dead_letter
        prismq list --type mail --limit 100 --json""",
    )
    parser.add_argument("--status", choices=STATUSES, help="only those")
    parser.add_argument("--type", metavar="TYPE", help="only those")
    parser.add_argument(
        "--before",
        type=options.whole(1),
        default=options.LARGEST,
        metavar="ID",
        help="only ids below, for the next page",
    )
    parser.add_argument("--limit", type=options.whole(1), default=20, metavar="N", help="(default 20)")


def run(arguments: argparse.Namespace) -> int:
    """Print the tasks."""
    with options.existing_database(arguments) as database:
        if arguments.status is None:
            rows = database.execute(sql.LIST, (arguments.before, arguments.type, arguments.limit))
        else:
            wanted = (arguments.before, arguments.status, arguments.type, arguments.limit)
            rows = database.execute(sql.LIST_OF_STATUS, wanted)
        tasks = [output.record(Task, dict(row)) for row in rows]
    if arguments.json:
        output.print_json([task.to_dict() for task in tasks])
    elif not tasks:
        print("no tasks")
    else:
        header = ("id", "type", "status", "prio", "tries", "age", "worker", "error")
        print(output.table(header, [_row(task) for task in tasks], left=(1, 2, 6, 7)))
    return exits.OK


def _row(task: Task) -> tuple[object, ...]:
    created = task.created_at_utc if isinstance(task.created_at_utc, datetime) else None  # see output.record
    return (
        str(task.id),
        output.shortened(task.type, 30),
        task.status,
        task.priority,
        f"{task.attempts}/{task.max_attempts}",
        output.age(None if created is None else (clock.now() - created).total_seconds()),
        None if task.locked_by is None else output.shortened(task.locked_by, 30),
        output.shortened(task.error_message, ERROR_WIDTH),
    )
