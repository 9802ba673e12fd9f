"""The main job, `python -m bench` without a name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench.findings import Findings
from bench.harness import run_harness
from bench.options import UsageError, add_driver, add_durability, positive, whole
from bench.report import render
from bench.scenario import SMALLEST_PAYLOAD, Scenario

KILL_LEASE_SECONDS = 2.0


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Producer and worker processes share one queue file, first as fast as they can, then at a fixed rate;"
        " every call is timed and every task accounted for."
    )
    parser.epilog = """\
examples:
  python -m bench
  python -m bench --producers 4 --workers 4 --seconds 60 --kill-workers 1
  python -m bench --durability full --rate 500 --phase paced --json result.json"""
    parser.add_argument("--producers", type=whole, default=2, metavar="P", help="producer processes (default 2)")
    parser.add_argument("--workers", type=whole, default=2, metavar="W", help="worker processes (default 2)")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="N", help="length of a phase (default 10)")
    parser.add_argument("--phase", choices=("both", "closed", "paced"), default="both", help="(default both)")
    parser.add_argument(
        "--rate", type=positive, metavar="TASKS", help="tasks/s when paced (default half the measured capacity)"
    )
    add_durability(parser)
    add_driver(parser)
    parser.add_argument("--payload-bytes", type=whole, default=200, metavar="BYTES", help="JSON text (default 200)")
    parser.add_argument("--kill-workers", type=positive, metavar="SECONDS", help="kill a random worker every SECONDS")
    parser.add_argument("--lease-seconds", type=positive, metavar="SECONDS", help="(default 60; with --kill-workers 2)")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder: queue files and journals")


def run(options: Namespace, folder: Path) -> Findings:
    if options.payload_bytes < SMALLEST_PAYLOAD:
        raise UsageError(f"--payload-bytes: at least {SMALLEST_PAYLOAD}")
    if options.phase == "paced" and options.rate is None:
        raise UsageError("--phase paced: needs --rate, as no capacity is measured")
    if options.phase == "closed" and options.rate is not None:
        raise UsageError("--rate: there is no paced phase to use it")
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
    report = run_harness(scenario, options.phase, folder)
    return Findings(render(report), report.as_json(), report.passed)
