"""What all commands have in common: their options, and which database they mean."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from prismq import schema, settings
from prismq.cli import exits
from prismq.clock import MAX_SECONDS
from prismq.database import QueueDatabase
from prismq.database_files import open_read_only
from prismq.errors import from_apsw
from prismq.queue import TaskQueue

LARGEST: Final = 2**63 - 1
"""Of the whole numbers that SQLite stores."""

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
    try:
        exists = path.is_file()
    except OSError as error:
        raise exits.Exit(f"{path} can't be looked at ({error.strerror})") from error
    if not exists:
        raise exits.Exit(
            f"there is no database at {path}; name it with --db or {settings.DEFAULT_DB_PATH_VARIABLE}",
            exits.NO_DATABASE,
        )
    return path


def existing_database(
    arguments: argparse.Namespace, *, upgrade: bool = False, any_version: bool = False
) -> QueueDatabase:
    """The database, to be used as a context manager; ends the command when there is none or it holds no queue.

    What isn't opened here is not written to. A schema of an earlier version ends the command, too, unless it is to be
    upgraded or doesn't matter.
    """
    path = existing_path(arguments)
    version = _schema_version(path)
    if version != schema.VERSION and not (upgrade or any_version):
        remedy = "prismq maintain --upgrade" if version < schema.VERSION else "upgrade prismq"
        raise exits.Exit(f"{path} has schema version {version}, this prismq reads version {schema.VERSION}: {remedy}")
    database = QueueDatabase(path)
    if upgrade:
        try:
            database.initialize_schema()
        except BaseException:
            database.close()
            raise
    return database


def existing_queue(arguments: argparse.Namespace) -> TaskQueue:
    """The queue in the database, upgraded, to be used as a context manager; ends the command as that."""
    with existing_database(arguments, upgrade=True) as database:
        return TaskQueue(database.db_path)


def _schema_version(path: Path) -> int:
    """Of the queue in the file, which is only looked at; ends the command when there is none."""
    try:
        with closing(open_read_only(path)) as connection:
            connection.set_busy_timeout(int(1000 * settings.BUSY_TIMEOUT_SECONDS))
            if connection.table_exists("main", "task_queue"):
                return int(connection.pragma("user_version"))
    except apsw.Error as error:
        raise from_apsw(error, statement="opening", database=path) from error
    raise exits.Exit(f"{path} is a database without a queue in it", exits.NO_DATABASE)


def whole(minimum: int) -> Callable[[str], int]:
    """An argument's type: a whole number, `minimum` or more, that SQLite can store."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= LARGEST:
            raise argparse.ArgumentTypeError(f"{text!r:.50} is not a whole number from {minimum} to {LARGEST}")
        return number

    return convert


def seconds(text: str) -> float:
    """An argument's type: as `any_time`, up to MAX_SECONDS."""
    value = any_time(text)
    if value > MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r:.50} is too long: {MAX_SECONDS / 86400:.0f}d at most")
    return value


def any_time(text: str) -> float:
    """An argument's type: seconds, or a number with s, m, h or d behind it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    factor = units.get(text[-1:])
    try:
        value = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r:.50} is no duration: use 30, 30s, 15m, 12h or 7d")
    return value
