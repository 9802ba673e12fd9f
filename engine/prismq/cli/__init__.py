"""The command `prismq`: one module for each of its commands."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final

from prismq.cli import exits, options, output
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
    _prepare_streams()
    logging.lastResort = _Warnings(logging.WARNING)
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
    except OSError as error:
        _forget_output()
        place = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{place}{error.strerror or error}", exits.REFUSED)
    except KeyboardInterrupt:
        return _complain("interrupted", exits.INTERRUPTED)


def _prepare_streams() -> None:
    """Nothing that a command prints fails for its characters, nor because somebody closed a stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed; no file of ours may get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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


class _Warnings(logging.Handler):
    """What the library warns of, where nothing says otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage(), exits.OK)


def _complain(message: str, status: int) -> int:
    with suppress(OSError):  # the status says it all the same
        print(f"prismq: {output.printable(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return status


def _forget_output() -> None:
    """What can't be written any more isn't when Python ends, either."""
    with suppress(OSError):
        sys.stdout.flush()
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
