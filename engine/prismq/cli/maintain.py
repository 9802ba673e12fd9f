"""`prismq maintain`: checkpoints, checks and statistics of the database."""

from __future__ import annotations

import argparse
from typing import Any

from prismq import schema
from prismq.cli import exits, options, output
from prismq.maintenance import QueueMaintenance

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "maintain",
        run,
        help="checkpoint, check, analyse, vacuum; by itself, the database's size",
        examples="""
        prismq maintain
        prismq maintain --checkpoint truncate
        prismq maintain --integrity --analyze
        prismq maintain --stale-leases 300
        prismq maintain --vacuum""",
    )
    parser.add_argument(
        "--upgrade", action="store_true", help="bring an older schema up to date, as everything does that writes to it"
    )
    parser.add_argument("--checkpoint", type=str.upper, choices=MODES, metavar="MODE", help=", ".join(MODES).lower())
    parser.add_argument("--integrity", action="store_true", help="check all of the file; status 1 if it is damaged")
    parser.add_argument("--analyze", nargs="?", const="", metavar="TABLE", help="collect statistics for your own SQL")
    parser.add_argument(
        "--stale-leases",
        type=options.seconds,
        metavar="DURATION",
        help="bring back tasks whose lease ended so long ago",
    )
    parser.add_argument(
        "--vacuum", action="store_true", help="write the file anew without its free pages; writers wait meanwhile"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for, in the order of the help, and print what came of it and the size."""
    done: dict[str, Any] = {}
    upgrade = arguments.upgrade or arguments.stale_leases is not None
    with options.existing_database(arguments, upgrade=upgrade, any_version=True) as database:
        if arguments.upgrade:
            done["schema"] = f"version {schema.VERSION}"
        maintenance = QueueMaintenance(database)
        if arguments.checkpoint:
            done["checkpoint"] = maintenance.checkpoint(arguments.checkpoint)
        if arguments.integrity:
            done["integrity"] = maintenance.integrity_check()
        if arguments.analyze is not None:
            maintenance.analyze(arguments.analyze or None)
            done["analyzed"] = arguments.analyze or "all tables"
        if arguments.stale_leases is not None:
            done["stale_leases"] = maintenance.cleanup_stale_leases(arguments.stale_leases)
        if arguments.vacuum:
            maintenance.vacuum()
            done["vacuumed"] = True
        done["database"] = maintenance.get_database_stats()
    if arguments.json:
        output.print_json(done)
    else:
        for name, value in done.items():
            print(f"{name.replace('_', ' ')}: {_described(value)}")
    return exits.OK if done.get("integrity", ["ok"]) == ["ok"] else exits.REFUSED


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {output.plain(item)}" for name, item in value.items())
    return "; ".join(value) if isinstance(value, list) else output.plain(value)
