"""`prismq restore`: make the queue what a backup is."""

from __future__ import annotations

import argparse
from pathlib import Path

from prismq.backup import QueueBackup
from prismq.cli import exits, options, output
from prismq.cli.backup import add_folder, progress
from prismq.database import QueueDatabase


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "restore",
        run,
        help="make the queue what a backup is, also while it is in use",
        description="Replace all of the queue by a backup, in one transaction: what was done since is gone. Processes"
        " that have it open may go on. The backup is verified first. Without --yes nothing is done.",
        examples="""
        prismq restore latest --yes
        prismq restore backups/queue_backup_20300101_030000_000.db --yes
        prismq --db copy.db restore backups/queue_backup_20300101_030000_000.db --yes""",
    )
    parser.add_argument("backup", help="the backup's path, or latest")
    parser.add_argument("--yes", action="store_true", help="yes, replace the queue")
    add_folder(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore. Before it is certain that there is something to restore, no file or folder is made."""
    target = options.database_path(arguments)
    path = _latest(target, arguments) if arguments.backup == "latest" else Path(arguments.backup)
    if not path.is_file():
        raise exits.Exit(f"there is no backup {path}")
    if not arguments.yes:
        raise exits.Exit(f"{target} would become what {path} is: add --yes to do it", exits.USAGE)
    with QueueDatabase(path) as backup:  # which is only read
        QueueBackup(backup, path.parent).restore_backup(path, target, progress=progress("restored"))
    if arguments.json:
        output.print_json({"restored": path, "database": target})
    else:
        print(f"{target} is what {path} was")
    return exits.OK


def _latest(target: Path, arguments: argparse.Namespace) -> Path:
    if not target.parent.is_dir() and not (arguments.dir is not None and arguments.yes):
        raise exits.Exit(f"{target.parent} is not there: create it, or name a backup")
    with QueueDatabase(target) as database:
        latest = QueueBackup(database, arguments.dir).get_latest_backup()
    if latest is None:
        raise exits.Exit("there is no backup of this queue in the folder: name one, or the folder with --dir")
    return latest.path
