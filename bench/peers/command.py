"""`python -m bench peers`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, replace
from pathlib import Path

from bench.findings import Findings
from bench.options import UsageError, whole
from bench.peers.catalogue import CATALOGUE
from bench.peers.contest import Contest, begin
from bench.peers.contest import run as take_turns
from bench.peers.environment import default_cache
from bench.peers.measure import LARGE, QUICK, STANDARD
from bench.peers.render import render

LINE = "the same work on other queues"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "The same work on other queues, each installed from the package index into a virtual environment of its own"
        " (kept for the next time), on a hand-written queue, and on prismq, in interleaved rounds."
    )
    parser.epilog = (
        "examples:\n  python -m bench peers --json peers.json\n  python -m bench peers --quick --only huey litequeue\n"
        "  python -m bench peers --resume peers.json   # after Ctrl-C\n\npeers: "
        + ", ".join(peer.name for peer in CATALOGUE)
        + "\n\nexit status: 0 every turn was taken, 1 one failed, 2 wrong usage, 130 interrupted (all done is kept)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes and one round: does it run?")
    size.add_argument("--large", action="store_true", help="a minute for each drain and deep queue")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="these peers only, besides prismq")
    parser.add_argument("--rounds", type=whole, metavar="N", help="(default 3, with --quick 1)")
    kept = default_cache()
    parser.add_argument("--cache", type=Path, default=kept, metavar="DIR", help=f"of environments (default {kept})")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the contest that --json wrote to FILE")


def run(options: Namespace, folder: Path) -> Findings:
    names = [peer.name for peer in CATALOGUE]
    unknown = [name for name in options.only or () if name not in names]
    if unknown:
        raise UsageError(f"--only: there is no peer {unknown[0]!r}, but {', '.join(names)}")
    chosen = [peer for peer in CATALOGUE if peer.is_ours or options.only is None or peer.name in options.only]
    if options.resume:
        try:
            contest = Contest.read(options.resume, folder)
        except ValueError as error:
            raise UsageError(f"--resume: {error}") from error
        chosen = [peer for peer in CATALOGUE if peer.name in contest.peers]
    else:
        sizes = QUICK if options.quick else LARGE if options.large else STANDARD
        contest = begin(replace(sizes, rounds=options.rounds or sizes.rounds), chosen, folder)
        contest.command = options.command
    try:
        take_turns(contest, chosen, options.cache, folder, options.resume or options.json)
    except BaseException:
        if contest.turns:
            print(render(contest, chosen))
        raise
    return Findings(render(contest, chosen), asdict(contest), not any(turn.failed for turn in contest.turns))
