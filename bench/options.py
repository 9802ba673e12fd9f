"""Options that several commands have."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path

from bench.scenario import Durability

DURABILITIES: Mapping[str, tuple[Durability, ...]] = {
    "normal": ("normal",),
    "full": ("full",),
    "both": ("normal", "full"),
}
RESULTS = Path(__file__).parent / "results"
"""What is committed."""
EXIT_STATUS = "exit status: 0 all targets met, 1 one missed or a process failed, 2 wrong usage, 130 interrupted"


class UsageError(Exception):
    """Options that each make sense, but not together."""


def whole(text: str) -> int:
    """A type of option: 1, 2, 3 and so on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("must be at least 1")
    return number


def positive(text: str) -> float:
    """A type of option: seconds, a rate, a share."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ArgumentTypeError("must be more than 0")
    return number


def add_driver(parser: ArgumentParser) -> None:
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")


def add_durability(parser: ArgumentParser) -> None:
    """One of them."""
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")


def add_durabilities(parser: ArgumentParser, default: str = "both") -> None:
    """One of them or both: a key of DURABILITIES."""
    parser.add_argument("--durability", choices=tuple(DURABILITIES), default=default, help=f"(default {default})")


def add_callers(parser: ArgumentParser, processes: int) -> None:
    """Processes that make paced calls beside what is measured."""
    parser.add_argument(
        "--processes", type=whole, default=processes, metavar="P", help=f"that call (default {processes})"
    )
    parser.add_argument(
        "--rate",
        type=_not_negative,
        default=50.0,
        metavar="TASKS",
        help="tasks/s of each, 0 for as fast as they can (default 50)",
    )
    parser.add_argument("--seconds", type=positive, default=4.0, metavar="N", help="of a turn (default 4)")
    add_durability(parser)


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else positive(text)
