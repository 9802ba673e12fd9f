"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bench import (
    backup,
    bare,
    capacity,
    contend,
    costs,
    flat,
    group,
    guard,
    harness,
    idle,
    metrics,
    pairs,
    prune,
    readme,
    report,
    scale,
    soak,
    steady,
    takeover,
    wake,
    workers,
)
from bench.compiler import CompilerError
from bench.crew import CrewError
from bench.flat_operations import TYPES
from bench.guarded import BATCH
from bench.machine import machine_facts
from bench.page.page import build
from bench.page.theme import MissingExtraError
from bench.peers.catalogue import CATALOGUE
from bench.peers.contest import Contest, begin
from bench.peers.contest import run as run_contest
from bench.peers.environment import default_cache
from bench.peers.measure import LARGE, QUICK, STANDARD
from bench.peers.render import render as render_contest
from bench.progress import live_line
from bench.scenario import SMALLEST_PAYLOAD, Durability, Scenario
from bench.scenarios import SCENARIOS
from bench.scratch import scratch_folder
from bench.series import Series, Settings
from bench.series import render as render_series
from bench.series import run as run_series
from bench.tune import outcome
from bench.tune.record import Record, RecordError
from bench.tune.search import Search
from bench.tune.windows import windows_facts

PASSED, FAILED, INTERRUPTED = 0, 1, 130
RESULTS = Path(__file__).parent / "results"
KILL_LEASE_SECONDS = 2.0
T = TypeVar("T")
DURABILITIES: Mapping[str, tuple[Durability, ...]] = {
    "normal": ("normal",),
    "full": ("full",),
    "both": ("normal", "full"),
}

EXIT_STATUS = "exit status: 0 all targets met, 1 one missed or a process failed, 2 wrong usage, 130 interrupted"
RUN_EPILOG = """\
other benchmarks:
  python -m bench run      named scenarios: bursts, backlogs, delays, failures, crashes and more
  python -m bench capacity the highest arrival rate that keeps the targets
  python -m bench bare     the API against bare SQLite, in one run
  python -m bench costs    WAL pages and CPU instructions per operation
  python -m bench takeover how soon others go on after a kill
  python -m bench flat     whether operations get dearer as the queue grows
  python -m bench guard    whether pages or instructions grew beyond the baseline
  python -m bench contend  whether many processes at once are served in turn
  python -m bench group    what committing together is worth
  python -m bench pairs    producers and workers, against a queue on the standard library's sqlite3
  python -m bench scale    throughput and tails with 1 to 16 processes
  python -m bench peers    the same work on other queues
  python -m bench steady   the longest calls of a queue that keeps up
  python -m bench wake     how soon an idle worker of another process has a task
  python -m bench idle     what an idle worker costs
  python -m bench metrics  what it takes to look at a queue with a million finished tasks
  python -m bench backup   whether a backup disturbs anybody
  python -m bench prune    whether removing finished tasks does
  python -m bench soak     how far the WAL grows under a reader that stays
  python -m bench workers  what claiming ahead is worth to workers

for this machine:
  python -m bench tune     searches better settings and writes them to a file

what was measured:
  python -m bench report   all results as one page of figures and tables
  python -m bench readme   the README's tables of numbers

examples:
  python -m bench
  python -m bench --producers 4 --workers 4 --seconds 60 --kill-workers 1
  python -m bench --durability full --rate 500 --phase paced --json result.json

exit status: 0 all targets met, 1 one missed or a process failed, 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "backup": _backup,
        "bare": _bare,
        "capacity": _capacity,
        "contend": _contend,
        "costs": _costs,
        "flat": _flat,
        "group": _group,
        "guard": _guard,
        "idle": _idle,
        "metrics": _metrics,
        "pairs": _pairs,
        "readme": _readme,
        "report": _report,
        "scale": _scale,
        "prune": _prune,
        "peers": _peers,
        "run": _scenarios,
        "takeover": _takeover,
        "tune": _tune,
        "soak": _soak,
        "steady": _steady,
        "wake": _wake,
        "workers": _workers,
    }
    command = commands.get(given[0] if given else "")
    try:
        return command(given[1:]) if command else _run(given)
    except (CrewError, CompilerError, costs.CostError, MissingExtraError) as error:
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


def _scenarios(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench run",
        "Named scenarios: each first as fast as it goes, then paced at half of that, on fresh files with new processes,"
        " every task accounted for and the targets judged.",
        "examples:\n  python -m bench run --list\n  python -m bench run --scenario steady burst --durability both\n"
        "  python -m bench run --seconds 60 --json run.json   # Ctrl-C; later: --resume run.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--list", action="store_true", help="the scenarios, a line each")
    parser.add_argument("--scenario", nargs="+", metavar="NAME", choices=tuple(SCENARIOS), help="(default all)")
    parser.add_argument("--seconds", type=_positive, default=10.0, metavar="N", help="of a phase (default 10)")
    parser.add_argument("--phase", choices=("both", "closed", "paced"), default="both", help="(default both)")
    parser.add_argument("--rate", type=_positive, metavar="TASKS", help="tasks/s when paced (default half of capacity)")
    parser.add_argument("--durability", choices=tuple(DURABILITIES), default="normal", help="(default normal)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the series that --json wrote to FILE")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    if options.list:
        print("\n".join(f"{name:<16} {named.line}" for name, named in SCENARIOS.items()))
        return PASSED
    if options.phase == "paced" and options.rate is None:
        parser.error("--phase paced: needs --rate, as no capacity is measured")
    if options.resume:
        series = _resumed(parser, options, Series.read)
    else:
        settings = Settings(options.seconds, options.phase, options.driver, options.rate)
        series = Series(settings, list(options.scenario or SCENARIOS), list(DURABILITIES[options.durability]))
    file = options.resume or options.json
    try:
        with scratch_folder(options.path) as folder:
            run_series(series, folder, file)
    finally:
        print(render_series(series))
    return PASSED if series.passed else FAILED


def _capacity(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench capacity",
        "The highest arrival rate at which enqueue p99, claim p99 and SQLITE_BUSY stay within the targets and the"
        " workers keep up, found by bracketing.",
        "example:\n  python -m bench capacity --scenario mixed-payloads --durability full --json capacity.json\n\n"
        "exit status: 0 there is such a rate, 1 there is none or a process failed, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument(
        "--scenario", choices=tuple(SCENARIOS), default="steady", metavar="NAME", help="(default steady)"
    )
    parser.add_argument("--seconds", type=_positive, default=5.0, metavar="N", help="of a probe (default 5)")
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    load = SCENARIOS[options.scenario].load
    load = replace(load, seconds=options.seconds, durability=options.durability, driver=options.driver)
    with scratch_folder(options.path) as folder:
        result = capacity.measure(load, folder)
    print(capacity.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _resumed(parser: argparse.ArgumentParser, options: argparse.Namespace, read: Callable[[Path], T]) -> T:
    """What --resume names, with all its settings: options that say them otherwise would contradict it."""
    given = {name for name, value in vars(options).items() if value != parser.get_default(name)}
    contradicting = sorted(given - {"resume", "path", "cache"})
    if contradicting:
        parser.error(f"--resume: goes on as it was begun, without --{contradicting[0]}")
    if not options.resume.is_file():
        parser.error(f"--resume: no such file: {options.resume}")
    try:
        return read(options.resume)
    except ValueError as error:
        parser.error(f"--resume: {error}")


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


def _contend(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench contend",
        "Processes that enqueue into one file without a pause, then two producers and two workers: the queue's own"
        " waiting against SQLite's, in interleaved rounds on fresh files, and how evenly the processes are served.",
        "example:\n  python -m bench contend --processes 8 --rounds 3 --seconds 2 --json contend.json\n\n"
        + EXIT_STATUS,
    )
    parser.add_argument("--processes", type=_whole, default=16, metavar="P", help="that enqueue (default 16)")
    parser.add_argument("--rounds", type=_whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=_positive, default=5.0, metavar="N", help="of a side's turn (default 5)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = contend.measure(folder, options.processes, options.rounds, options.seconds)
    print(contend.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _group(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench group",
        "Processes that enqueue into one file without a pause: committing together, against the queue's gate alone and"
        " SQLite's own waiting, in interleaved rounds on fresh files. Then a caller that has its file to itself, and"
        " how much there is to gain with fewer processes.",
        "example:\n  python -m bench group --durability full --rounds 3 --seconds 2 --json group.json\n\n"
        + EXIT_STATUS,
    )
    parser.add_argument("--processes", type=_whole, default=16, metavar="P", help="that enqueue (default 16)")
    parser.add_argument("--rounds", type=_whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=_positive, default=3.0, metavar="N", help="of a side's turn (default 3)")
    _add_durabilities(parser)
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        durabilities = DURABILITIES[options.durability]
        result = group.measure(folder, options.processes, options.rounds, options.seconds, durabilities)
    print(group.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _scale(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench scale",
        "More and more processes that enqueue into one file without a pause: committing together, against the queue's"
        " gate alone and SQLite's own waiting, in interleaved rounds on fresh files.",
        "example:\n  python -m bench scale --processes 1 4 --rounds 1 --seconds 1 --json scale.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument(
        "--processes", type=_whole, nargs="+", default=list(scale.PROCESSES), metavar="P", help="(default 1 2 4 8 16)"
    )
    parser.add_argument("--rounds", type=_whole, default=3, metavar="N", help="(default 3)")
    parser.add_argument("--seconds", type=_positive, default=2.0, metavar="N", help="of a side's turn (default 2)")
    _add_durabilities(parser)
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        durabilities = DURABILITIES[options.durability]
        result = scale.measure(folder, options.processes, options.rounds, options.seconds, durabilities)
    print(scale.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _pairs(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench pairs",
        "Producers and workers in a closed loop, every operation by itself: the public API, against a queue written by"
        " hand on the standard library's sqlite3, in interleaved rounds on fresh files. Every task is accounted for.",
        "example:\n  python -m bench pairs --producers 2 --workers 2 --rounds 3 --json pairs.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--producers", type=_whole, default=4, metavar="P", help="producer processes (default 4)")
    parser.add_argument("--workers", type=_whole, default=4, metavar="W", help="worker processes (default 4)")
    parser.add_argument("--rounds", type=_whole, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--seconds", type=_positive, default=4.0, metavar="N", help="of a side's turn (default 4)")
    _add_durabilities(parser)
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        durabilities = DURABILITIES[options.durability]
        result = pairs.measure(
            folder, options.producers, options.workers, options.rounds, options.seconds, durabilities
        )
    print(pairs.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _peers(arguments: Sequence[str]) -> int:
    names = [peer.name for peer in CATALOGUE]
    parser = _parser(
        "python -m bench peers",
        "The same work on other queues, each installed from the package index into a virtual environment of its own"
        " (kept for the next time), on a hand-written queue, and on prismq, in interleaved rounds.",
        "examples:\n  python -m bench peers --json peers.json\n  python -m bench peers --quick --only huey litequeue\n"
        "  python -m bench peers --resume peers.json   # after Ctrl-C\n\npeers: "
        + ", ".join(names)
        + "\n\nexit status: 0 every turn was taken, 1 one failed, 2 wrong usage, 130 interrupted (all done is kept)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes and one round: does it run?")
    size.add_argument("--large", action="store_true", help="also a drain of 200,000 tasks")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="these peers only, besides prismq")
    parser.add_argument("--rounds", type=_whole, metavar="N", help="(default 3, with --quick 1)")
    kept = default_cache()
    parser.add_argument("--cache", type=Path, default=kept, metavar="DIR", help=f"of environments (default {kept})")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the contest that --json wrote to FILE")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    unknown = [name for name in options.only or () if name not in names]
    if unknown:
        parser.error(f"--only: there is no peer {unknown[0]!r}, but {', '.join(names)}")
    chosen = [peer for peer in CATALOGUE if peer.is_ours or options.only is None or peer.name in options.only]
    if options.resume:
        contest = _resumed(parser, options, Contest.read)
        chosen = [peer for peer in CATALOGUE if peer.name in contest.peers]
    else:
        sizes = QUICK if options.quick else LARGE if options.large else STANDARD
        contest = begin(replace(sizes, rounds=options.rounds or sizes.rounds), chosen)
    try:
        with scratch_folder(options.path) as folder:
            run_contest(contest, chosen, options.cache, folder, options.resume or options.json)
    finally:
        if contest.turns:
            print(render_contest(contest, chosen))
    return FAILED if any(turn.failed for turn in contest.turns) else PASSED


def _steady(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench steady",
        "A paced load, by default at half of the capacity measured first: the longest calls, beside those of a control"
        " call in the same processes that shows what the operating system alone does to them.",
        "example:\n  python -m bench steady --seconds 20 --rate 1000 --json steady.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--producers", type=_whole, default=4, metavar="P", help="producer processes (default 4)")
    parser.add_argument("--workers", type=_whole, default=4, metavar="W", help="worker processes (default 4)")
    parser.add_argument("--seconds", type=_positive, default=60.0, metavar="N", help="when paced (default 60)")
    parser.add_argument(
        "--rate", type=_positive, metavar="TASKS", help="tasks/s (default half the capacity, measured first)"
    )
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = steady.measure(folder, options.producers, options.workers, options.seconds, options.rate)
    print(steady.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _wake(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench wake",
        "From an enqueue in one process to the task in the hands of an idle worker in another: woken by the queue,"
        " against polling SQLite each millisecond, in interleaved rounds on fresh files. Then bursts of"
        f" {wake.BURST_TASKS} tasks on many idle workers, and how many of them wake.",
        "example:\n  python -m bench wake --samples 100 --rounds 2 --json wake.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--samples", type=_whole, default=200, metavar="N", help="tasks of a round (default 200)")
    parser.add_argument("--rounds", type=_whole, default=3, metavar="N", help="of each side (default 3)")
    parser.add_argument("--processes", type=_whole, default=16, metavar="W", help="workers of the bursts (default 16)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = wake.measure(folder, options.samples, options.rounds, options.processes, options.driver)
    print(wake.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _idle(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench idle",
        "CPU time and context switches of worker processes that wait for tasks and get none, beside those of one that"
        " polls SQLite each millisecond.",
        "example:\n  python -m bench idle --seconds 60 --workers 8 --json idle.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--seconds", type=_positive, default=20.0, metavar="N", help="measured (default 20)")
    parser.add_argument("--workers", type=_whole, default=4, metavar="W", help="that wait (default 4)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = idle.measure(folder, options.seconds, options.workers, options.driver)
    print(idle.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _metrics(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench metrics",
        "Fills a queue with finished tasks, rolls them up, and reads each metric; then completes tasks on two small"
        " queues, of which one is without what the metrics stand on. The default takes about 1 GB of disk.",
        "example:\n  python -m bench metrics --finished 100000 --json metrics.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--finished", type=_whole, default=1_000_000, metavar="TASKS", help="(default 1000000)")
    parser.add_argument("--rounds", type=_whole, default=21, metavar="N", help="of each metric (default 21)")
    parser.add_argument("--operations", type=_whole, default=4_000, metavar="N", help="completions (default 4000)")
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = metrics.measure(folder, options.finished, options.rounds, options.operations, options.driver)
    print(metrics.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _backup(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench backup",
        "Processes enqueue, claim and complete, in turns alone and beside backups that follow one"
        " another; every backup is verified, restored and looked at for gaps.",
        "example:\n  python -m bench backup --tasks 20000 --rounds 3 --json backup.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--tasks", type=_whole, default=200_000, metavar="N", help="in the queue (default 200000)")
    parser.add_argument("--rounds", type=_whole, default=8, metavar="N", help="(default 8)")
    _add_callers(parser, processes=4)
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = backup.measure(
            folder,
            options.tasks,
            options.processes,
            options.rate,
            options.rounds,
            options.seconds,
            options.durability,
        )
    print(backup.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _prune(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench prune",
        "Processes enqueue, claim and complete, in turns alone and while old finished tasks are"
        " removed, until all of them are.",
        "example:\n  python -m bench prune --finished 100000 --json prune.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--finished", type=_whole, default=1_000_000, metavar="TASKS", help="(default 1000000)")
    _add_callers(parser, processes=2)
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = prune.measure(
            folder, options.finished, options.processes, options.rate, options.seconds, options.durability
        )
    print(prune.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _add_callers(parser: argparse.ArgumentParser, processes: int) -> None:
    parser.add_argument(
        "--processes", type=_whole, default=processes, metavar="P", help=f"that call (default {processes})"
    )
    parser.add_argument(
        "--rate",
        type=_not_negative,
        default=50.0,
        metavar="TASKS",
        help="tasks/s of each, 0 for as fast as they can (default 50)",
    )
    parser.add_argument("--seconds", type=_positive, default=4.0, metavar="N", help="of a turn (default 4)")
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")


def _takeover(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench takeover",
        "Kills the process that holds the write lock, the one that keeps house, and the first of two that wait for a"
        " task, and deletes the sidecar file: how soon the others go on.",
        "example:\n  python -m bench takeover --rounds 20 --json takeover.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--rounds", type=_whole, default=10, metavar="N", help="of each (default 10)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = takeover.measure(folder, options.rounds)
    print(takeover.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _soak(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench soak",
        "Producers and workers as fast as they can. After a third of the time a reader takes a snapshot and keeps it,"
        " so that no checkpoint can begin the WAL anew: how large that gets, and what the calls take meanwhile. The"
        " default takes a few GB of disk.",
        "example:\n  python -m bench soak --seconds 60 --snapshot-seconds 20 --json soak.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--seconds", type=_positive, default=300.0, metavar="N", help="of the load (default 300)")
    parser.add_argument("--processes", type=_whole, default=8, metavar="P", help="half of them workers (default 8)")
    parser.add_argument(
        "--snapshot-seconds", type=_positive, default=60.0, metavar="N", help="the reader stays (default 60)"
    )
    parser.add_argument("--driver", choices=("auto", "native", "python"), default="auto", help="(default auto)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    if options.processes < 2:
        parser.error("--processes: at least 2, a producer and a worker")
    if options.snapshot_seconds > options.seconds / 2:
        parser.error("--snapshot-seconds: at most half of --seconds: a third comes before it, and some must come after")
    with scratch_folder(options.path) as folder:
        result = soak.measure(folder, options.seconds, options.processes, options.snapshot_seconds, options.driver)
    print(soak.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _tune(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench tune",
        description="Searches settings that are better on this machine than the defaults, and writes them to a file."
        " Candidates run beside the defaults in interleaved rounds; the better half goes on, what is left is confirmed"
        " in fresh rounds. The durability is the one asked for: what the other one costs or gains is only said. Ctrl-C"
        " keeps what was measured; --resume goes on with it.",
        epilog="examples:\n  python -m bench tune --minutes 20 --dir D:\\queues\n  python -m bench tune --resume\n\n"
        "exit status: 0 written, 1 a process failed, 2 wrong usage, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=_positive, default=10.0, metavar="M", help="about as long (default 10)")
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="a folder on the disk that the queue will be on")
    parser.add_argument(
        "--out", type=Path, default=Path("prismq.toml"), metavar="FILE", help="the settings (default prismq.toml)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, to FILE")
    parser.add_argument("--resume", action="store_true", help="go on with rounds kept by an interrupted search")
    options = parser.parse_args(arguments)
    for option, place in (("--dir", options.dir), ("--out", options.out), ("--json", options.json)):
        needed = place if option == "--dir" else place.resolve().parent if place is not None else None
        if needed is not None and not needed.is_dir():
            parser.error(f"{option}: no such folder: {needed}")
    kept = options.out.with_name(f"{options.out.name}.rounds.json")
    with scratch_folder(options.dir) as folder:
        if options.resume:
            try:
                record = Record.read(kept, options.durability, options.minutes)
            except RecordError as error:
                parser.error(str(error))
        else:
            with Scenario(durability=options.durability).open(folder / "facts.db") as queue:
                facts = machine_facts(folder, queue, options.durability)
            record = Record(facts, windows_facts(folder), options.durability, options.minutes)
        try:
            with live_line("tune", options.minutes * 60) as show:
                found = Search(record, folder, kept, show).run()
        except KeyboardInterrupt:
            if record.entries:
                again = " ".join(("python -m bench tune --resume", *(one for one in arguments if one != "--resume")))
                print(f"bench: {len(record.entries)} measurements kept in {kept}; go on with {again}", file=sys.stderr)
            raise
    result = outcome.Outcome(record, found)
    result.write(options.out)
    print(outcome.render(result))
    print(f"\nwritten: {options.out}")
    _save(options.json, result.as_json())
    kept.unlink(missing_ok=True)
    return PASSED


def _readme(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench readme",
        description="Writes the README's tables of numbers anew from the committed results: what stands between"
        " <!-- numbers NAME --> and <!-- end of numbers -->.",
        epilog="exit status: 0 as the results have it, 1 it is not, or has a table that no results make",
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only say what would be changed")
    parser.add_argument("--readme", type=Path, default=RESULTS.parents[1] / "README.md", metavar="FILE")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default bench/results)")
    options = parser.parse_args(arguments)
    try:
        text = options.readme.read_text(encoding="utf-8")
        different = readme.stale(text, options.results)
        if different and not options.check:
            options.readme.write_text(readme.renewed(text, options.results), encoding="utf-8", newline="\n")
    except (readme.ReadmeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    for name in different:
        print(f"{'other than the results' if options.check else 'written anew'}: {name}")
    return FAILED if different and options.check else PASSED


def _report(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench report",
        description="All results as figures and tables: one HTML file that needs no network, and the figures as PNGs"
        " for light and dark pages. What is missing is named with the command that makes it. Needs matplotlib.",
        epilog="example:\n  python -m bench report --out report.html --results bench/results\n\n"
        "exit status: 0 written, 1 no results or no matplotlib, 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(default report.html)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="JSON of the benchmarks (default bench/results)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="of the PNGs (default beside FILE, FILE-images)")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="PNGs of these figures, e.g. scale-normal"
    )
    parser.add_argument("--no-images", action="store_true", help="the page alone")
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        parser.error(f"--results: no such folder: {options.results}")
    if not options.out.resolve().parent.is_dir():
        parser.error(f"--out: no such folder: {options.out.resolve().parent}")
    images = options.images or options.out.with_name(f"{options.out.stem}-images")
    missing = build(options.results, options.out, None if options.no_images else images, options.only)
    for one in missing:
        print(f"missing: {one.title}, {one.reason}: {one.file}\n  {one.command}", file=sys.stderr)
    print(f"written: {options.out}" + ("" if options.no_images else f", {images}{os.sep}*.png"))
    return PASSED


def _workers(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench workers",
        "Worker processes drain a backlog with empty handlers: WorkerEngine with and without tasks claimed ahead,"
        " against one claim and one complete a task, in interleaved rounds on fresh files.",
        "example:\n  python -m bench workers --tasks 100000 --json workers.json\n\n" + EXIT_STATUS,
    )
    parser.add_argument("--tasks", type=_whole, default=20_000, metavar="N", help="of the backlog (default 20000)")
    parser.add_argument("--processes", type=_whole, default=4, metavar="W", help="workers (default 4)")
    parser.add_argument("--rounds", type=_whole, default=3, metavar="N", help="of each side (default 3)")
    parser.add_argument("--prefetch", type=_whole, default=128, metavar="N", help="claimed ahead (default 128)")
    parser.add_argument("--durability", choices=("normal", "full"), default="normal", help="(default normal)")
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    with scratch_folder(options.path) as folder:
        result = workers.measure(
            folder, options.tasks, options.processes, options.rounds, options.prefetch, options.durability
        )
    print(workers.render(result))
    _save(options.json, result.as_json())
    return PASSED if result.passed else FAILED


def _guard(arguments: Sequence[str]) -> int:
    parser = _parser(
        "python -m bench guard",
        "WAL pages and CPU instructions of each operation, counted and held against a baseline. What was counted"
        " repeats; instructions only with the same compiler, Python and SQLite, otherwise pages alone are compared.",
        "examples:\n  python -m bench guard\n  python -m bench guard --update\n\n"
        "exit status: 0 nothing grew by more than the tolerance, 1 something did",
    )
    parser.add_argument(
        "--baseline", type=Path, default=guard.BASELINE, metavar="FILE", help="(default bench/baseline.json)"
    )
    parser.add_argument("--update", action="store_true", help="write the baseline anew; needs valgrind")
    parser.add_argument(
        "--tolerance", type=_positive, default=5.0, metavar="PERCENT", help="growth that passes (default 5)"
    )
    parser.add_argument(
        "--tasks", type=_whole, metavar="N", help=f"with --update: of each operation (default {guard.TASKS})"
    )
    parser.add_argument(
        "--repeats", type=_whole, metavar="N", help="count so often, and judge the worst: does chance trip the guard?"
    )
    options = parser.parse_args(arguments)
    _check_places(parser, options)
    if options.repeats and options.update:
        parser.error("--repeats: not with --update, one count is the baseline")
    if options.tasks and not options.update:
        parser.error("--tasks: needs --update, as what is compared is counted for as many as the baseline")
    if options.tasks and options.tasks % BATCH:
        parser.error(f"--tasks: a multiple of {BATCH}, the size of a batch")
    if options.update and not options.baseline.resolve().parent.is_dir():
        parser.error(f"--baseline: no such folder: {options.baseline.resolve().parent}")
    if not options.update and not options.baseline.is_file():
        parser.error(f"--baseline: no such file: {options.baseline}; --update writes it")
    with scratch_folder(options.path) as folder:
        if options.update:
            result = guard.update(folder, options.baseline, options.tasks or guard.TASKS, options.tolerance)
        else:
            result = guard.check(folder, options.baseline, options.tolerance, options.repeats or 1)
    print(guard.render(result))
    if options.update:
        print(f"\nwritten: {options.baseline}")
    _save(options.json, result.as_json())
    return PASSED if options.update or result.passed else FAILED


def _parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, to FILE")
    parser.add_argument(
        "--path", type=Path, metavar="DIR", help="put the scratch folder in DIR, on the file system to be measured"
    )
    return parser


def _add_durabilities(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--durability", choices=tuple(DURABILITIES), default="both", help="(default both)")


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


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _save(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
