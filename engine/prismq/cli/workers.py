"""`prismq workers`: who works on the queue."""

from __future__ import annotations

import argparse

from prismq.cli import exits, options, output
from prismq.heartbeat import STALE_SECONDS, WorkerHeartbeat


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "workers",
        run,
        help="list workers; take back what stale ones hold",
        description="List workers with their heartbeats and tasks. With --reclaim the tasks of stale workers are queued"
        " again (dead_letter if no attempt is left) and those workers are forgotten.",
        examples="prismq workers\nprismq workers --stale 120s --reclaim",
    )
    parser.add_argument(
        "--stale",
        type=options.seconds,
        default=STALE_SECONDS,
        metavar="DURATION",
        help=f"stale is whose last heartbeat is older (default {STALE_SECONDS:g}s)",
    )
    parser.add_argument("--reclaim", action="store_true", help="take back what stale workers hold, and forget them")


def run(arguments: argparse.Namespace) -> int:
    """Print the workers, after reclaiming if asked to."""
    with options.existing_database(arguments, upgrade=arguments.reclaim) as database:
        heartbeat = WorkerHeartbeat(database, arguments.stale)
        reclaimed = forgotten = 0
        if arguments.reclaim:
            reclaimed = heartbeat.reclaim_stale_worker_tasks()
            forgotten = heartbeat.cleanup_stale_workers()
        workers = heartbeat.get_all_workers_summary()
    if arguments.json:
        output.print_json({"workers": workers, "tasks_reclaimed": reclaimed, "workers_forgotten": forgotten})
        return exits.OK
    if arguments.reclaim:
        print(f"tasks taken back: {reclaimed}, workers forgotten: {forgotten}")
    rows = [
        (
            row["worker_id"],
            "active" if row["is_active"] else "stale",
            output.age(row["seconds_since_heartbeat"]),
            row["active_tasks"],
            row["total_tasks"],
            output.shortened(row["capabilities"], 40),
        )
        for row in workers
    ]
    header = ("worker", "state", "heartbeat", "holds", "tasks", "capabilities")
    print(output.table(header, rows, left=(0, 1, 5)) if rows else "no workers")
    return exits.OK
