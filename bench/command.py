"""The command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import bare, costs, flat, harness, report
from bench.compiler import CompilerError
from bench.crew import CrewError
from bench.flat_operations import TYPES
from bench.scenario import SMALLEST_PAYLOAD, Scenario
from bench.scratch import scratch_folder

PASSED, FAILED, INTERRUPTED = 0, 1, 130
KILL_LEASE_SECONDS = 2.0

RUN_EPILOG = """\
other benchmarks:
  python -m bench bare     the API against bare SQLite, in one run
  python -m bench costs    WAL pages and CPU instructions per operation
  python -m bench flat     whether operations get dearer as the queue grows

examples:
  python -m bench
  python -m bench --producers 4 --workers 4 --seconds 60 --kill-workers 1
  python -m bench --durability full --rate 500 --phase paced --json result.json

exit status: 0 all targets met, 1 one missed or a process failed, 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = {"bare": _bare, "costs": _costs, "flat": _flat}.get(given[0] if given else "")
    try:
        return command(given[1:]) if command else _run(given)
    except (CrewError, CompilerError, costs.CostError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench",
        "Producer and worker processes share one queue file, first as fast as they can, then at a fixed rate;"
        " every call is timed and every task accounted for.",
        RUN_EPILOG,
    )
    parser.add_argument("--producers", type=_whole, default=2, metavar="P", help="producer processes (default 2)")
    parser.add_argument("--workers", type=_whole, default=2, metavar="W", help="worker processes (default 2)")
    parser.add_argument("--seconds", type=_positive, default=10.0, metavar="N", help="length of a phase (default 10)")
    parser.add_argument("--phase", choices=("both", "closed", "paced"), default="both", help="(default both)")
    parser.add_argument(
        "--rate", type=_positive, metavar="TASKS", help="tasks/s when paced (default half the measured capacity)"
    )
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    parser.add_argument("--payload-bytes", type=_whole, default=200, metavar="BYTES", help="JSON text (default 200)")
    parser.add_argument("--kill-workers", type=_positive, metavar="SECONDS", help="kill a random worker every SECONDS")
    parser.add_argument(
        "--lease-seconds", type=_positive, metavar="SECONDS", help="(default 60; with --kill-workers 2)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder: queue files and journals")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    if options.payload_bytes < SMALLEST_PAYLOAD:
        parser.error(f"--payload-bytes: at least {SMALLEST_PAYLOAD}")
    if options.phase == "paced" and options.rate is None:
        parser.error("--phase paced: needs --rate, as no capacity is measured")
    if options.phase == "closed" and options.rate is not None:
        parser.error("--rate: there is no paced phase to use it")
    scenario = Scenario(
        producers=options.producers,
        workers=options.workers,
        seconds=options.seconds,
        durability=options.durability,
        driver=options.driver,
        payload_bytes=options.payload_bytes,
        lease_seconds=options.lease_seconds or (KILL_LEASE_SECONDS if options.kill_workers else 60.0),
        kill_seconds=options.kill_workers,
        rate=options.rate,
    )
    with scratch_folder(options.path, options.keep) as folder:
        result = harness.run_harness(scenario, options.phase, folder)
    print(report.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _bare(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench bare",
        "The public API in one process against a C loop of the same statements on the same SQLite: medians of"
        " interleaved rounds, microseconds an operation. Needs a C compiler.",
        "example:\n  python -m bench bare --rounds 9 --json bare.json",
    )
    parser.add_argument("--rounds", type=_whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--operations", type=_whole, default=20_000, metavar="N", help="a round (default 20000)")
    parser.add_argument("--batch", type=_whole, default=10_000, metavar="N", help="of enqueue_many (default 10000)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = bare.compare(folder, options.rounds, options.operations, options.batch, options.driver)
    print(bare.render(result))
    _save(options.json, result.as_json())
    return PASSED


def _costs(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench costs",
        "WAL pages and, where valgrind is installed, CPU instructions that one operation costs. Repeatable:"
        " no clock is involved.",
        "examples:\n  python -m bench costs\n  python -m bench costs --variants --json costs.json",
    )
    parser.add_argument("--operations", type=_whole, default=500, metavar="N", help="counted (default 500)")
    parser.add_argument("--variants", action="store_true", help="also other index designs, as bare statements")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these variants only")
    parser.add_argument("--no-instructions", action="store_true", help="WAL pages only")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    try:
        subjects = costs.subjects(options.driver, options.variants, options.only or ())
    except KeyError as error:
        parser.error(f"--only: there is no variant {error}")
    with scratch_folder(options.path) as folder:
        result = costs.measure(subjects, options.operations, not options.no_instructions, folder)
    print(costs.render(result))
    _save(options.json, result.as_json())
    return PASSED


def _flat(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench flat",
        "The same operations on queues of several depths, each with as many finished tasks as the deepest has ready"
        f" ones and {flat.DELAYED_TASKS:,} delayed ones: medians of interleaved rounds, and their ratio deepest :"
        " shallowest. The default depths take about 2 GB of disk.",
        "example:\n  python -m bench flat --depths 1000 50000 --json flat.json\n\n"
        f"exit status: 0 every ratio is at most {flat.LIMIT:g}, 1 one is not",
    )
    parser.add_argument(
        "--depths", type=_whole, nargs="+", default=[1_000, 100_000, 1_000_000], metavar="TASKS", help="ready tasks"
    )
    parser.add_argument("--operations", type=_whole, default=600, metavar="N", help="of a kind (default 600)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    if len(set(options.depths)) < 2 or min(options.depths) < len(TYPES):
        parser.error(f"--depths: at least two, none below {len(TYPES)}, the number of task types")
    with scratch_folder(options.path) as folder:
        result = flat.measure(folder, options.depths, options.operations, options.driver)
    print(flat.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, to FILE")
    parser.add_argument(
        "--path", type=Path, metavar="DIR", help="put the scratch folder in DIR, on the file system to be measured"
    )
    return parser


def _check_places(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.path is not None and not options.path.is_dir():
        parser.error(f"--path: no such folder: {options.path}")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        parser.error(f"--json: no such folder: {options.json.resolve().parent}")


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


def _save(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
