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
    """Restore."""
    with QueueDatabase(options.database_path(arguments)) as database:
        if arguments.backup == "latest":
            latest = QueueBackup(database, arguments.dir).get_latest_backup()
            if latest is None:
                raise exits.Exit("there is no backup of this queue in the folder: name one, or the folder with --dir")
            path = latest.path
        else:
            path = Path(arguments.backup)
        if not arguments.yes:
            raise exits.Exit(f"{database.db_path} would become what {path} is: add --yes to do it", exits.USAGE)
        folder = arguments.dir if arguments.dir is not None else path.parent
        QueueBackup(database, folder).restore_backup(path, progress=progress("restored"))
    if arguments.json:
        output.print_json({"restored": path, "database": database.db_path})
    else:
        print(f"{database.db_path} is what {path} was")
    return exits.OK
