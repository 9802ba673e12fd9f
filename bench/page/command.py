"""`python -m bench report`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench.findings import Findings
from bench.options import RESULTS, UsageError
from bench.page.page import build
from bench.page.sections import SOURCES


class NoResultsError(Exception):
    """There is nothing to show."""


LINE = "all results as one page of figures and tables"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "All results as figures and tables: one HTML file that needs no network, and the figures as PNGs"
        " for light and dark pages. What is missing is named with the command that makes it. Needs matplotlib."
    )
    parser.epilog = (
        "example:\n  python -m bench report --out report.html --results bench/results\n\n"
        "exit status: 0 written, 1 no results or no matplotlib, 2 wrong usage"
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


def run(options: Namespace, folder: Path) -> Findings:
    if not options.results.is_dir():
        raise UsageError(f"--results: no such folder: {options.results}")
    if not any(options.results.glob("*.json")):
        raise NoResultsError(f"no results in {options.results}; {SOURCES[0].command} makes some")
    images = options.images or options.out.with_name(f"{options.out.stem}-images")
    missing = build(options.results, options.out, None if options.no_images else images, options.only)
    for one in missing:
        print(f"missing: {one.title}, {one.reason}: {one.file}\n  {one.command}", file=sys.stderr)
    written = f"written: {options.out}" + ("" if options.no_images else f", {images}{os.sep}*.png")
    return Findings(written, {})
