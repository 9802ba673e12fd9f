"""What all commands have in common: their options, and which database they mean."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prismq import settings
from prismq.cli import exits
from prismq.database import QueueDatabase
from prismq.errors import QueueDatabaseError
from prismq.queue import TaskQueue

DATABASE_HELP: Final = f"database: --db, else {settings.DEFAULT_DB_PATH_VARIABLE}, else the default path of this system"


def common() -> argparse.ArgumentParser:
    """The options that stand before or behind the command, as a new parent parser."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--db",
        metavar="PATH",
        help=f"the database (default: {settings.DEFAULT_DB_PATH_VARIABLE}, else the default path)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str | None = None,
    examples: str,
) -> argparse.ArgumentParser:
    """Register a command's parser; `examples` are command lines, one a line."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description or help[0].upper() + help[1:] + ".", 90),
        epilog=f"examples:\n{lines}\n\n{exits.HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common()],
    )
    parser.set_defaults(run=run)
    return parser


def database_path(arguments: argparse.Namespace) -> Path:
    """Where the database is that the command means."""
    return Path(arguments.db) if arguments.db is not None else settings.get_default_db_path()


def existing_path(arguments: argparse.Namespace) -> Path:
    """As `database_path`; ends the command when there is no file."""
    path = database_path(arguments)
    if not path.is_file():
        raise exits.Exit(
            f"there is no database at {path}; name it with --db or {settings.DEFAULT_DB_PATH_VARIABLE}",
            exits.NO_DATABASE,
        )
    return path


def existing_database(arguments: argparse.Namespace) -> QueueDatabase:
    """The database, to be used as a context manager; ends the command when there is none or it holds no queue."""
    database = QueueDatabase(existing_path(arguments))
    try:
        found = database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'task_queue'").fetchone()
    except QueueDatabaseError:
        database.close()
        raise
    if found is None:
        database.close()
        raise exits.Exit(f"{database.db_path} is a database without a queue in it", exits.NO_DATABASE)
    database.initialize_schema()
    return database


def existing_queue(arguments: argparse.Namespace) -> TaskQueue:
    """The queue in the database, to be used as a context manager; ends the command as `existing_database` does."""
    with existing_database(arguments) as database:
        return TaskQueue(database.db_path)


def whole(minimum: int) -> Callable[[str], int]:
    """An argument's type: a whole number, `minimum` or more."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} on")
        return number

    return convert


def seconds(text: str) -> float:
    """An argument's type: seconds, or a number with s, m, h or d behind it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    factor = units.get(text[-1:])
    try:
        value = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: use 30, 30s, 15m, 12h or 7d")
    return value
