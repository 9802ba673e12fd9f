"""The command line: which commands there are, and what all of them have in common."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench import (
    backup,
    bare,
    capacity,
    contend,
    costs,
    drivers,
    flat,
    group,
    guard,
    idle,
    main_job,
    metrics,
    pairs,
    prune,
    readme,
    scale,
    series,
    soak,
    steady,
    takeover,
    wake,
    workers,
)
from bench.compiler import CompilerError
from bench.costs import CostError
from bench.crew import CrewError
from bench.files import write_whole
from bench.findings import Findings
from bench.options import EXIT_STATUS, UsageError
from bench.page import command as page
from bench.page.command import NoResultsError
from bench.page.theme import MissingExtraError
from bench.peers import command as peers
from bench.readme import ReadmeError
from bench.scratch import scratch_folder
from bench.tune import command as tune

PASSED, FAILED, INTERRUPTED = 0, 1, 130
PLACES = ("json", "path", "dir", "out", "cache", "baseline", "resume", "keep")
"""Options that say where, which is no part of what was measured."""


class Job(Protocol):
    """A module that is a command. `add_options` also gives the parser a description and an epilog."""

    def add_options(self, parser: ArgumentParser, /) -> None: ...

    def run(self, options: Namespace, folder: Path, /) -> Findings: ...


class Command(Job, Protocol):
    """One that has a name, and a line that says what it is for."""

    LINE: str


MEASURING: Mapping[str, Command] = {
    "run": series,
    "capacity": capacity,
    "bare": bare,
    "costs": costs,
    "drivers": drivers,
    "takeover": takeover,
    "flat": flat,
    "guard": guard,
    "contend": contend,
    "group": group,
    "pairs": pairs,
    "scale": scale,
    "peers": peers,
    "steady": steady,
    "wake": wake,
    "idle": idle,
    "metrics": metrics,
    "backup": backup,
    "prune": prune,
    "soak": soak,
    "workers": workers,
}
TUNING: Mapping[str, Command] = {"tune": tune}
SHOWING: Mapping[str, Command] = {"report": page, "readme": readme}
COMMANDS = {**MEASURING, **TUNING, **SHOWING}
GROUPS = {"other benchmarks": MEASURING, "for this machine": TUNING, "what was measured": SHOWING}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given.pop(0) if given and given[0] in COMMANDS else ""
    job: Job = COMMANDS[name] if name else main_job
    parser = _parser(name, job)
    options = parser.parse_args(given)
    _check_places(parser, options)
    options.command = command_line(name, given, options)
    try:
        with scratch_folder(options.path or getattr(options, "dir", None), getattr(options, "keep", False)) as folder:
            found = job.run(options, folder)
        if found.text:
            print(found.text)
        if options.json and found.content:
            write_whole(options.json, {"command": options.command} | found.content)
    except UsageError as error:
        parser.error(str(error))
    except (CrewError, CompilerError, CostError, MissingExtraError, NoResultsError, ReadmeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    return PASSED if found.passed else FAILED


def command_line(name: str, given: Sequence[str], options: Namespace) -> str:
    """What was asked for, as it can be asked for again, without the PLACES."""
    places = ArgumentParser(add_help=False)
    for place in PLACES:
        if place in options:
            flag = isinstance(getattr(options, place), bool)
            places.add_argument(f"--{place}", action="store_true" if flag else "store")
    kept = places.parse_known_args(given)[1]
    return shlex.join(["python", "-m", "bench", *([name] if name else ()), *kept])


def _parser(name: str, job: Job) -> ArgumentParser:
    parser = ArgumentParser(prog=f"python -m bench {name}".strip(), formatter_class=RawDescriptionHelpFormatter)
    if name in SHOWING:
        parser.set_defaults(json=None, path=None)
    else:
        parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, to FILE")
        parser.add_argument(
            "--path", type=Path, metavar="DIR", help="put the scratch folder in DIR, on the file system to be measured"
        )
    job.add_options(parser)
    if not name:
        lines = [
            f"{heading}:\n"
            + "\n".join(f"  python -m bench {each:<8} {command.LINE}" for each, command in group.items())
            for heading, group in GROUPS.items()
        ]
        parser.epilog = "\n\n".join((*lines, parser.epilog or "", EXIT_STATUS))
    return parser


def _check_places(parser: ArgumentParser, options: Namespace) -> None:
    for name in ("path", "dir", "json", "out"):
        place = getattr(options, name, None)
        needed = place if name in ("path", "dir") or place is None else place.resolve().parent
        if needed is not None and not needed.is_dir():
            parser.error(f"--{name}: no such folder: {needed}")
    begun = getattr(options, "resume", None)
    if isinstance(begun, Path):
        # It is gone on with as it was begun: options that say it otherwise would contradict it.
        changed = {name for name, value in vars(options).items() if value != parser.get_default(name)}
        contradicting = sorted(changed - {"resume", "path", "cache"})
        if contradicting:
            parser.error(f"--resume: goes on as it was begun, without --{contradicting[0]}")
        if not begun.is_file():
            parser.error(f"--resume: no such file: {begun}")
