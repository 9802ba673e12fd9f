"""`prismq requeue`: give failed tasks and dead letters all their attempts again."""

from __future__ import annotations

import argparse

from prismq.cli import exits, options, output
from prismq.cli.cancel import report, why_not


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "requeue",
        run,
        help="give failed tasks and dead letters all their attempts again",
        examples="""
        prismq requeue 42
        prismq requeue --all --type mail
        prismq requeue --all --status failed""",
    )
    parser.add_argument("ids", nargs="*", type=options.whole(1), metavar="ID", help="the tasks' ids")
    parser.add_argument("--all", action="store_true", help="all dead letters")
    parser.add_argument("--type", metavar="TYPE", help="with --all: only those")
    parser.add_argument("--status", choices=("dead_letter", "failed"), help="with --all: those (default dead_letter)")


def run(arguments: argparse.Namespace) -> int:
    """Requeue, and say what became of each task or how many they were."""
    if arguments.all == bool(arguments.ids):
        raise exits.Exit("give ids, or --all for all dead letters", exits.USAGE)
    if not arguments.all and (arguments.type or arguments.status):
        raise exits.Exit("--type and --status go with --all", exits.USAGE)
    with options.existing_queue(arguments) as queue:
        if not arguments.all:
            outcomes = {one: "requeued" if queue.requeue(one) else why_not(queue, one) for one in arguments.ids}
            return report(outcomes, "requeued", arguments.json)
        count = queue.requeue_all(arguments.type, arguments.status or "dead_letter")
    if arguments.json:
        output.print_json({"requeued": count})
    else:
        print(f"requeued {count}")
    return exits.OK
