"""`prismq enqueue`: put tasks into the queue."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from prismq.cli import exits, options, output
from prismq.errors import InvalidTaskError
from prismq.queue import TaskQueue


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "enqueue",
        run,
        help="put a task into the queue",
        description="Put a task into the queue, which is created if there is none, and print its id. With --lines tasks"
        " come from standard input, all or none of them.",
        examples="""
        prismq enqueue mail '{"to": "ada"}' --priority 50
        prismq enqueue report --in 2h --key report-2030-01 --needs '{"gpu": true}'
        prismq enqueue --lines < tasks.jsonl""",
    )
    parser.add_argument("type", nargs="?", help="the task's type")
    parser.add_argument("payload", nargs="?", help="JSON (default {}); - reads it from standard input")
    parser.add_argument("--priority", type=int, metavar="N", help="smaller runs first (default 100)")
    parser.add_argument("--at", metavar="TIME", help="not before this time, ISO-8601; without an offset it is UTC")
    parser.add_argument("--in", dest="delay", type=options.seconds, metavar="DURATION", help="not before then: 90s, 2h")
    parser.add_argument("--max-attempts", type=options.whole(1), metavar="N", help="executions at most (default 5)")
    parser.add_argument("--key", metavar="TEXT", help="idempotency key: the same key again is the same task")
    parser.add_argument("--needs", metavar="JSON", help="what a worker must offer (compatibility)")
    parser.add_argument(
        "--lines", action="store_true", help="read one JSON object a line, with enqueue()'s arguments as its keys"
    )


def run(arguments: argparse.Namespace) -> int:
    """Enqueue, and print the ids."""
    task = _task(arguments)
    if arguments.lines and task:
        raise exits.Exit("--lines takes all of a task from its line: give no type, payload or option", exits.USAGE)
    if not arguments.lines and arguments.type is None:
        raise exits.Exit("give a task's type, or --lines and tasks on standard input", exits.USAGE)
    if arguments.at is not None and arguments.delay is not None:
        raise exits.Exit("--at and --in exclude each other", exits.USAGE)
    if arguments.payload == "-":
        task["payload"] = _standard_input()
    tasks = list(_lines()) if arguments.lines else []
    with TaskQueue(options.database_path(arguments)) as queue:
        ids = queue.enqueue_many(tasks) if arguments.lines else [queue.enqueue(**task)]
    if arguments.json:
        output.print_json({"ids": ids})
    else:
        for task_id in ids:
            print(task_id)
    return exits.OK


def _task(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {
        "type": arguments.type,
        "payload": arguments.payload,
        "priority": arguments.priority,
        "run_after": arguments.at if arguments.delay is None else timedelta(seconds=arguments.delay),
        "max_attempts": arguments.max_attempts,
        "idempotency_key": arguments.key,
        "compatibility": arguments.needs,
    }
    return {name: value for name, value in given.items() if value is not None}


def _lines() -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_standard_input().split("\n"), 1):
        if line.strip():
            try:
                task = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidTaskError(f"line {number} is not JSON ({error})") from error
            if not isinstance(task, dict):
                raise InvalidTaskError(f"line {number} is not a JSON object")
            yield task


def _standard_input() -> str:
    """JSON, which is UTF-8 whatever the terminal's encoding is."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTaskError(f"standard input is not UTF-8 ({error})") from error
