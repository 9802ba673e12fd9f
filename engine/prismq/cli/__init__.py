"""The command `prismq`: one module for each of its commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from prismq.cli import exits, options
from prismq.errors import InvalidSettingsError, InvalidTaskError, QueueBusyError, QueueDatabaseError

COMMANDS: Final = (
    "enqueue",
    "list",
    "show",
    "cancel",
    "requeue",
    "worker",
    "stats",
    "top",
    "workers",
    "logs",
    "backup",
    "restore",
    "maintain",
    "prune",
    "doctor",
    "demo",
)
"""Each a module of this package with `add(commands)`, which registers its parser, in the order of `prismq --help`."""

_EPILOG: Final = f"""\
{options.DATABASE_HELP}

{exits.HELP}

examples:
  prismq enqueue mail '{{"to": "ada"}}'
  prismq --db queue.db stats
  prismq COMMAND --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status (see `exits`)."""
    try:
        arguments = _parser().parse_args(argv)
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except exits.Exit as end:
        return _complain(str(end), end.status)
    except (InvalidTaskError, InvalidSettingsError) as error:
        return _complain(str(error), exits.USAGE)
    except QueueBusyError as error:
        return _complain(str(error), exits.BUSY)
    except QueueDatabaseError as error:
        return _complain(str(error), exits.REFUSED)
    except BrokenPipeError:
        _forget_output()
        return exits.OK
    except KeyboardInterrupt:
        return _complain("interrupted", exits.INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prismq",
        description="Operate a prismq task queue.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[options.common()],
    )
    parser.set_defaults(db=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"{__name__}.{name}").add(commands)
    return parser


def _complain(message: str, status: int) -> int:
    print(f"prismq: {' '.join(message.split())}", file=sys.stderr)
    return status


def _forget_output() -> None:
    """Whoever read the output has gone; nor is it written when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
