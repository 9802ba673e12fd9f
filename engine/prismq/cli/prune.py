"""`prismq prune`: remove what need not be kept, or say what housekeeping is to remove."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from prismq import database_files
from prismq.cli import exits, options, output
from prismq.errors import QueueMaintenanceError
from prismq.retention import Keep, RetentionPolicy, prune, store_policy, stored_policy

KINDS = ("completed", "failed", "dead_letter", "logs")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "prune",
        run,
        help="remove finished tasks and logs that need not be kept",
        description="Remove finished tasks and log entries that --keep, or the stored policy, doesn't keep, a little"
        " at a time. With --store they are removed from now on, by whichever process has the queue open.",
        examples="""
        prismq prune --keep completed=7d --keep logs=30d
        prismq prune --keep completed=100000 --keep failed=90d --export old.jsonl
        prismq prune --keep completed=7d --store
        prismq prune --show""",
    )
    parser.add_argument(
        "--keep",
        action="append",
        type=_keep,
        default=[],
        metavar="KIND=LIMIT",
        help=f"KIND is one of {', '.join(KINDS)}; LIMIT is an age (7d, 12h) or how many of the newest (1000)",
    )
    parser.add_argument("--export", metavar="FILE", help="append what is removed to it first, as lines of JSON")
    stored = parser.add_mutually_exclusive_group()
    stored.add_argument("--store", action="store_true", help="store the policy for housekeeping, remove nothing now")
    stored.add_argument("--forget", action="store_true", help="forget the stored policy")
    stored.add_argument("--show", action="store_true", help="show the stored policy")


def run(arguments: argparse.Namespace) -> int:
    """Prune, or see to the stored policy."""
    if arguments.keep and (arguments.forget or arguments.show):
        raise exits.Exit("--keep does not go with --forget or --show", exits.USAGE)
    if arguments.export and (arguments.store or arguments.forget or arguments.show):
        raise exits.Exit("--export goes with removing now only", exits.USAGE)
    if arguments.export:
        _require_foreign(Path(arguments.export), options.database_path(arguments))
    with options.existing_database(arguments, upgrade=not arguments.show) as database:
        policy = _policy(arguments.keep) if arguments.keep else None
        if arguments.store and policy is None:
            raise exits.Exit("--store needs --keep", exits.USAGE)
        if arguments.store or arguments.forget:
            store_policy(database, policy or RetentionPolicy())
        if arguments.store or arguments.forget or arguments.show:
            _print_policy(stored_policy(database), arguments.json)
            return exits.OK
        if policy is None and stored_policy(database) == RetentionPolicy():
            raise exits.Exit("say what to keep with --keep: no policy is stored", exits.USAGE)
        removed = prune(database, policy, export=arguments.export)
    if arguments.json:
        output.print_json(removed)
    else:
        print("removed " + ", ".join(f"{kind} {count}" for kind, count in vars(removed).items()))
    return exits.OK


def _require_foreign(export: Path, database: Path) -> None:
    """What is appended to the queue's own files would damage them."""
    place = os.path.realpath(export)
    own = [database_files.beside(database, suffix) for suffix in ("", "-wal", "-shm", "-journal", "-prismq")]
    if place in map(str, own):
        raise exits.Exit(f"{export} is the queue itself", exits.USAGE)


def _keep(text: str) -> tuple[str, Keep]:
    kind, separator, limit = text.partition("=")
    if kind not in KINDS or not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: use KIND=LIMIT, KIND being one of {', '.join(KINDS)}")
    try:
        return kind, Keep(count=int(limit)) if limit.isdecimal() else Keep(days=options.seconds(limit) / 86400)
    except QueueMaintenanceError as error:
        raise argparse.ArgumentTypeError(f"{text!r:.50}: {error}") from error


def _policy(given: list[tuple[str, Keep]]) -> RetentionPolicy:
    limits: dict[str, Keep] = {}
    for kind, keep in given:
        before = limits.get(kind, Keep())
        limits[kind] = Keep(
            keep.days if keep.days is not None else before.days, keep.count if keep.count is not None else before.count
        )
    return RetentionPolicy(**limits)


def _print_policy(policy: RetentionPolicy, as_json: bool) -> None:
    if as_json:
        output.print_json(policy.to_dict())
        return
    for kind, limits in policy.to_dict().items():
        print(f"{kind}: " + ", ".join(f"{name} {value:g}" for name, value in limits.items()))
    if policy == RetentionPolicy():
        print("everything is kept")
