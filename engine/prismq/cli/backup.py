"""`prismq backup`: make, list and verify backups."""

from __future__ import annotations

import argparse
import sys

from prismq.backup import Progress, QueueBackup
from prismq.backup_files import BackupInfo
from prismq.cli import exits, options, output


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "backup",
        run,
        help="back the queue up while it is in use",
        description="Copy the queue as it is now into the folder of backups, verified, while others go on,"
        " and print the copy's path.",
        examples="""
        prismq backup
        prismq backup nightly --keep 14
        prismq backup --list
        prismq backup --verify backups/queue_backup_20300101_030000_000.db""",
    )
    parser.add_argument("name", nargs="?", help="a part of the file's name")
    add_folder(parser)
    parser.add_argument(
        "--keep", type=options.whole(1), metavar="N", help="then delete all but the newest N of that name"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the backups instead, newest first")
    other.add_argument("--verify", metavar="PATH", help="verify a backup instead")


def add_folder(parser: argparse.ArgumentParser) -> None:
    """The option that names the folder of backups."""
    parser.add_argument("--dir", metavar="FOLDER", help="of backups (default: backups beside the database)")


def run(arguments: argparse.Namespace) -> int:
    """Back up, list or verify."""
    with options.existing_database(arguments, any_version=True) as database:
        backups = QueueBackup(database, arguments.dir)
        if arguments.list:
            _print(backups.list_backups(), arguments.json)
            return exits.OK
        if arguments.verify is not None:
            backups.verify_backup(arguments.verify)
            made, deleted = BackupInfo.from_path(arguments.verify), 0
        else:
            path = backups.create_backup(arguments.name, progress=progress("copied"))
            made = BackupInfo.from_path(path)
            deleted = (
                0 if arguments.keep is None else backups.cleanup_old_backups(arguments.keep, name=arguments.name or "")
            )
    if arguments.json:
        output.print_json({**vars(made), "deleted": deleted})
    else:
        print(made.path)
    return exits.OK


def progress(verb: str) -> Progress | None:
    """Shows on standard error how far it is, if somebody looks at that."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, pages: int) -> None:
        end = "\n" if done >= pages else ""
        print(f"\r{verb} {done:,} of {pages:,} pages", end=end, file=sys.stderr, flush=True)

    return show


def _print(backups: list[BackupInfo], as_json: bool) -> None:
    if as_json:
        output.print_json([vars(backup) for backup in backups])
    elif not backups:
        print("no backups")
    else:
        rows = [(str(backup.path), backup.created_at, backup.size_mb) for backup in backups]
        print(output.table(("path", "made (UTC)", "MiB"), rows, left=(0, 1)))
