"""`prismq cancel`: end tasks that have not ended."""

from __future__ import annotations

import argparse

from prismq import sql
from prismq.cli import exits, options, output
from prismq.queue import TaskQueue


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "cancel",
        run,
        help="end queued or running tasks as failed",
        description="End queued or running tasks as failed. A running handler is told when it next renews, reports or"
        " completes. What has ended already is left as it is, and the exit status is 1.",
        examples="prismq cancel 42\nprismq cancel 42 43 44 --json",
    )
    parser.add_argument("ids", nargs="+", type=options.whole(1), metavar="ID", help="the tasks' ids")


def run(arguments: argparse.Namespace) -> int:
    """Cancel each of the tasks, and say what became of it."""
    with options.existing_queue(arguments) as queue:
        outcomes = {task_id: _cancel(queue, task_id) for task_id in arguments.ids}
    return report(outcomes, "cancelled", arguments.json)


def report(outcomes: dict[int, str], success: str, as_json: bool) -> int:
    """Print what became of each task; the exit status is REFUSED if anything else than `success` is among it."""
    if as_json:
        output.print_json([{"id": task_id, "outcome": outcome} for task_id, outcome in outcomes.items()])
    else:
        for task_id, outcome in outcomes.items():
            print(f"task {task_id}: {outcome}")
    return exits.OK if all(outcome == success for outcome in outcomes.values()) else exits.REFUSED


def _cancel(queue: TaskQueue, task_id: int) -> str:
    return "cancelled" if queue.cancel(task_id) else why_not(queue, task_id)


def why_not(queue: TaskQueue, task_id: int) -> str:
    """What is in the way of changing a task."""
    row = queue.database.execute(sql.GET, (task_id,)).fetchone()
    return "not found" if row is None else f"not changed, it is {output.plain(row['status'])}"
