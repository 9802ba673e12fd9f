"""`python -m bench tune`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bench.findings import Findings
from bench.machine import machine_facts
from bench.options import UsageError, add_durability, positive
from bench.progress import live_line
from bench.scenario import Scenario
from bench.tune.outcome import Outcome, render
from bench.tune.record import Record, RecordError
from bench.tune.search import Search
from bench.tune.windows import windows_facts

LINE = "searches better settings and writes them to a file"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Searches settings that are better on this machine than the defaults, and writes them to a file."
        " Candidates run beside the defaults in interleaved rounds; the better half goes on, what is left is confirmed"
        " in fresh rounds. The durability is the one asked for: what the other one costs or gains is only said. Ctrl-C"
        " keeps what was measured; --resume goes on with it."
    )
    parser.epilog = (
        "examples:\n  python -m bench tune --minutes 20 --dir D:\\queues\n  python -m bench tune --resume\n\n"
        "exit status: 0 written, 1 a process failed, 2 wrong usage, 130 interrupted"
    )
    parser.add_argument("--minutes", type=positive, default=10.0, metavar="M", help="about as long (default 10)")
    add_durability(parser)
    parser.add_argument("--dir", type=Path, metavar="DIR", help="a folder on the disk that the queue will be on")
    parser.add_argument(
        "--out", type=Path, default=Path("prismq.toml"), metavar="FILE", help="the settings (default prismq.toml)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with rounds kept by an interrupted search")


def run(options: Namespace, folder: Path) -> Findings:
    kept = options.out.with_name(f"{options.out.name}.rounds.json")
    if options.resume:
        try:
            record = Record.read(kept, options.durability, options.minutes, folder)
        except RecordError as error:
            raise UsageError(str(error)) from error
    else:
        with Scenario(durability=options.durability).open(folder / "facts.db") as queue:
            facts = machine_facts(folder, queue, options.durability)
        record = Record(facts, windows_facts(folder), options.durability, options.minutes)
    try:
        with live_line("tune", options.minutes * 60) as show:
            found = Search(record, folder, kept, show).run()
    except KeyboardInterrupt:
        if record.entries:
            places = f" --out {options.out}" + (f" --dir {options.dir}" if options.dir else "")
            again = f"{options.command} --resume{places}"
            print(f"bench: {len(record.entries)} measurements kept in {kept}; go on with {again}", file=sys.stderr)
        raise
    outcome = Outcome(record, found)
    outcome.write(options.out)
    kept.unlink(missing_ok=True)
    return Findings(f"{render(outcome)}\n\nwritten: {options.out}", outcome.as_json())
