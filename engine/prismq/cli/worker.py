"""`prismq worker`: run tasks in a number of processes until told to stop."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import sys
from typing import Final, get_args

from prismq.cli import exits, options, output
from prismq.errors import ConfigError
from prismq.models import SchedulingStrategy
from prismq.supervisor import FAILED, KILLED, STOPPED, Supervisor
from prismq.worker import Pool
from prismq.worker_config import load_worker_config
from prismq.worker_process import LOG_FORMAT

_EPILOG: Final = """
signals: the first SIGTERM or SIGINT (Ctrl-C; Ctrl-Break on Windows) stops claiming, lets running
tasks finish and gives back those that have not when the grace period ends. A second one kills.

exit status: 0 done, 1 a process had to be killed or failed while stopping, 2 wrong usage or
configuration, 130 killed by a second signal"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "worker",
        run,
        help="run tasks in a number of processes",
        description="Run tasks with the given handlers, in processes that are replaced when they crash, until a signal"
        " says stop. Settings come from --config, then PRISMQ_WORKER_* variables, then options; the later one wins.",
        examples="""
        prismq worker --handlers jobs.py --processes 4
        prismq worker --handlers shop.tasks:registry --types mail,invoice --concurrency 8
        prismq --db queue.db worker --handlers handlers.json --config worker.yaml""",
    )
    parser.epilog = f"{(parser.epilog or '').split('exit status:')[0].rstrip()}\n{_EPILOG}"
    parser.add_argument(
        "--handlers",
        required=True,
        metavar="WHERE",
        help="a module or .py file, with :name for a registry in it, or a file that names handlers",
    )
    parser.add_argument("--config", metavar="FILE", help="a worker configuration in JSON, YAML or TOML")
    parser.add_argument("--processes", type=options.whole(1), metavar="N", help="how many processes (default 1)")
    parser.add_argument("--concurrency", type=options.whole(1), metavar="N", help="tasks at a time in each (default 1)")
    parser.add_argument("--pool", choices=get_args(Pool), help="where handlers run (default thread)")
    parser.add_argument(
        "--prefetch", type=options.whole(0), metavar="N", help="tasks each process claims ahead (default 0)"
    )
    parser.add_argument("--types", metavar="A,B", help="task types to claim (default: all that have a handler)")
    parser.add_argument(
        "--strategy",
        choices=[strategy.value for strategy in SchedulingStrategy],
        help="which ready task comes first (default priority)",
    )
    parser.add_argument("--lease", type=options.any_time, metavar="DURATION", help="of a claim, renewed (default 60s)")
    parser.add_argument(
        "--grace", type=options.any_time, metavar="DURATION", help="for running tasks, when told to stop (default 30s)"
    )
    parser.add_argument("--id", metavar="NAME", help="begins the workers' ids (default: host and process)")
    parser.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="default INFO"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until stopped; the exit status says how it ended."""
    logging.basicConfig(level=arguments.log_level, format=LOG_FORMAT)
    if "" not in sys.path and os.getcwd() not in sys.path:  # the handlers' module is often here
        sys.path.insert(0, os.getcwd())
    try:
        config = load_worker_config(
            arguments.config,
            defaults={"worker_id": f"{platform.node() or 'worker'}-{os.getpid()}"},
            worker_id=arguments.id,
            types=None if arguments.types is None else [name.strip() for name in arguments.types.split(",")],
            concurrency=arguments.concurrency,
            pool=arguments.pool,
            prefetch=arguments.prefetch,
            processes=arguments.processes,
            scheduling_strategy=arguments.strategy,
            lease_duration_seconds=arguments.lease,
            grace_seconds=arguments.grace,
        )
        supervisor = Supervisor(
            arguments.handlers, config, options.database_path(arguments), log_level=arguments.log_level
        )
    except (ConfigError, FileNotFoundError, ImportError) as error:
        raise exits.Exit(str(error), exits.USAGE) from error
    multiprocessing.current_process().name = "supervisor"  # as the log has it
    status = supervisor.run()
    if arguments.json:
        ended = {STOPPED: "stopped", FAILED: "failed", KILLED: "killed"}[status]
        output.print_json({"worker_id": config.worker_id, "database": supervisor.database, "ended": ended})
    return status
