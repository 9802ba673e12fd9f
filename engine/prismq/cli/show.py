"""`prismq show`: everything about one task."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import Any, Final

from prismq import observe_sql, sql
from prismq.cli import exits, options, output
from prismq.database import QueueDatabase
from prismq.models import Task, TaskLog

LOGS: Final = 100
"""The newest log entries are shown."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands, "show", run, help="show a task with its log", examples="prismq show 42\nprismq show 42 --json"
    )
    parser.add_argument("id", type=options.whole(1), help="the task's id")


def run(arguments: argparse.Namespace) -> int:
    """Print the task."""
    with options.existing_database(arguments) as database:
        row = database.execute(sql.GET, (arguments.id,)).fetchone()
        if row is None:
            raise exits.Exit(f"there is no task {arguments.id}")
        task = output.record(Task, dict(row))
        rows = database.execute(observe_sql.TASK_LOGS, (arguments.id, None, LOGS))
        logs = [output.record(TaskLog, dict(row)) for row in rows]
        report = _report(database, arguments.id)
    if arguments.json:
        output.print_json({**task.to_dict(), "report": report, "logs": [log.to_dict() for log in logs]})
        return exits.OK
    for name, value in vars(task).items():
        if value is not None and name not in ("payload", "compatibility"):
            print(f"{name:<23} {output.plain(value)}")
    for name, text in (("compatibility", task.compatibility), ("payload", task.payload)):
        print(f"{name:<23} {_indented(text)}")
    for name, value in (report or {}).items():
        if value is not None:
            print(f"{'report ' + name:<23} {_indented(str(value))}")
    for log in reversed(logs):
        print(log_line(log, with_task=False))
    return exits.OK


def log_line(log: TaskLog, with_task: bool = True) -> str:
    """A log entry as one line."""
    task = f"task {log.task_id}  " if with_task else ""
    details = f"  {output.printable(log.details)}" if log.details else ""
    return f"{output.plain(log.at_utc)}  {log.level:<8}  {task}{output.shortened(log.message, 200)}{details}"


def _report(database: QueueDatabase, task_id: int) -> dict[str, Any] | None:
    row = database.execute("SELECT * FROM task_reports WHERE task_id = ?1", (task_id,)).fetchone()
    return None if row is None else {name: value for name, value in dict(row).items() if name != "task_id"}


def _indented(text: str) -> str:
    with suppress(ValueError):  # what is no JSON is shown as it is
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return ("\n" + " " * 24).join(map(output.printable, text.expandtabs().split("\n")))
