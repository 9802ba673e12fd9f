"""`prismq stats`: the queue in numbers."""

from __future__ import annotations

import argparse
from typing import Any

from prismq.cli import exits, options, output
from prismq.database import QueueDatabase
from prismq.metrics import QueueMetrics, depth_by_type


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "stats",
        run,
        help="depth, rates, times, failures and workers",
        examples="prismq stats\nprismq stats --hours 1 --json",
    )
    parser.add_argument(
        "--hours", type=_hours, default=24.0, metavar="N", help="window of rates and times (default 24)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers."""
    with options.existing_database(arguments) as database:
        found = collect(database, arguments.hours)
    if arguments.json:
        output.print_json(found)
    else:
        print("\n\n".join(f"{title}\n{text}" for title, text in sections(found)))
    return exits.OK


def collect(database: QueueDatabase, hours: float) -> dict[str, Any]:
    """The numbers of `stats --json`, of the last `hours`."""
    metrics = QueueMetrics(database)
    return {
        "depth_by_status": metrics.get_queue_depth_by_status(),
        "depth_by_type": kinds(database),
        "hours": hours,
        "oldest_queued_task_age_seconds": metrics.get_oldest_queued_task_age(),
        "success_failure_rates": metrics.get_success_failure_rates(hours),
        "throughput": metrics.get_throughput_metrics(hours),
        "processing_seconds": metrics.get_processing_time_percentiles(hours),
        "retries": metrics.get_retry_metrics(hours),
        "workers": metrics.get_worker_activity(),
    }


def kinds(database: QueueDatabase) -> list[dict[str, Any]]:
    """How many tasks there are of each type and status."""
    return [{"type": kind, "status": status, "tasks": tasks} for kind, status, tasks in depth_by_type(database)]


def sections(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and text of each part of the plain output."""
    rates, throughput, times = found["success_failure_rates"], found["throughput"], found["processing_seconds"]
    window = [
        ("completed", rates["success_count"]),
        ("failed", rates["failure_count"]),
        ("failed, %", 100 * rates["failure_rate"]),
        ("completed a minute", throughput["tasks_per_minute"]),
        ("with retries, %", 100 * found["retries"]["retry_rate"]),
        ("attempts, mean", found["retries"]["avg_attempts"]),
        *((f"processing {name}, s", f"{seconds:.3f}") for name, seconds in times.items()),
    ]
    depths = [(row["type"], row["status"], row["tasks"]) for row in found["depth_by_type"]]
    workers = [
        (row["worker_id"], row["active_tasks"], output.age(row["seconds_since_heartbeat"])) for row in found["workers"]
    ]
    oldest = output.age(found["oldest_queued_task_age_seconds"])
    return [
        (f"tasks (oldest queued: {oldest})", output.table(("type", "status", "tasks"), depths, left=(0, 1))),
        (f"last {found['hours']:g} h", output.table(("", ""), window)),
        ("workers", output.table(("worker", "tasks held", "heartbeat"), workers)),
    ]


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 366:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0")
    return hours
