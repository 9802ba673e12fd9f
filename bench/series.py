"""Named scenarios, one after the other, each judged by itself; what was done is kept, and can be gone on with."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.files import write_whole
from bench.findings import Findings
from bench.harness import PhaseChoice, Report, run_harness
from bench.machine import Facts, describe, machine_facts, require_same
from bench.options import DURABILITIES, EXIT_STATUS, UsageError, add_driver, add_durabilities, positive
from bench.progress import duration, note
from bench.scenario import Driver, Durability, Scenario
from bench.scenarios import SCENARIOS
from bench.scratch import scratch_folder
from bench.table import table
from bench.targets import Verdict
from bench.verdicts import verdict_table

OVERHEAD_SECONDS = 4.0
"""What a phase takes besides its window: processes, accounts, and the drain in order."""
TARGETS = ("p99", "SQLITE_BUSY")
"""Words of the promises that are shown also where they are kept."""
HEADER = (
    "scenario",
    "durability",
    *("through/s", "paced at/s", "enqueue p99 ms", "claim p99 ms", "busy", "largest WAL, MB", "astray", ""),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all scenarios of a series have in common."""

    seconds: float
    phase: PhaseChoice
    driver: Driver
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario's report; `row` is its line of the table, without name and durability."""

    scenario: str
    durability: Durability
    row: list[str]
    verdicts: list[Verdict]
    machine: Facts
    report: dict[str, Any]

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)


@dataclass(slots=True)
class Series:
    """What is to be run, and what was."""

    settings: Settings
    scenarios: list[str]
    durabilities: list[Durability]
    outcomes: list[Outcome] = field(default_factory=list)
    command: str = ""
    """That began it."""

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def remaining(self) -> list[tuple[str, Durability]]:
        done = {(outcome.scenario, outcome.durability) for outcome in self.outcomes}
        return [
            (name, durability)
            for name in self.scenarios
            for durability in self.durabilities
            if (name, durability) not in done
        ]

    @classmethod
    def read(cls, file: Path, folder: Path | None = None) -> Series:
        """One that was written here, to go on with in `folder` (None: the system's temporary one); ValueError when the
        file holds none, or one of another machine."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            outcomes = [
                Outcome(**outcome | {"verdicts": [Verdict(**verdict) for verdict in outcome["verdicts"]]})
                for outcome in content["outcomes"]
            ]
            series = cls(**content | {"settings": Settings(**content["settings"]), "outcomes": outcomes})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{file} holds no series of scenarios ({error})") from error
        if outcomes:
            own = Scenario(driver=series.settings.driver)
            with scratch_folder(folder) as place, own.open(place / "facts.db") as queue:
                require_same(outcomes[-1].machine, machine_facts(place, queue, own.durability))
        return series


def play(series: Series, folder: Path, file: Path | None) -> None:
    """Run what remains, in `folder`; written to `file` after each scenario."""
    remaining = series.remaining
    phases = 2 if series.settings.phase == "both" else 1
    each = phases * (series.settings.seconds + OVERHEAD_SECONDS)
    for number, (name, durability) in enumerate(remaining):
        left = duration((len(remaining) - number) * each)
        note(f"{number + 1} of {len(remaining)}: {name}, {durability}; about {left} left")
        series.outcomes.append(_outcome(series.settings, name, durability, folder))
        if file is not None:
            write_whole(file, asdict(series))


def render(series: Series) -> str:
    """The series as text: a line for each scenario, and what each is held against."""
    if not series.outcomes:
        return "nothing was run"
    rows = [[outcome.scenario, outcome.durability, *outcome.row] for outcome in series.outcomes]
    lines = "\n".join(f"  {name}: {SCENARIOS[name].line}" for name in series.scenarios if name in SCENARIOS)
    note_ = (
        f"{series.settings.seconds:g} s a phase; through/s: enqueued and completed without a pause; the targets are of"
        " the paced phase, by default at half of that;\nenqueue: from the intended arrival on; astray: lost, handed out"
        " twice, or nobody's, and claims out of order"
    )
    verdicts = [
        Verdict(f"{outcome.scenario}, {outcome.durability}: {one.promise}", one.measured, one.passed)
        for outcome in series.outcomes
        for one in outcome.verdicts
        if not one.passed or any(word in one.promise for word in TARGETS)
    ]
    parts = (describe(series.outcomes[0].machine), lines, note_, table(HEADER, rows, left=2), verdict_table(verdicts))
    return "\n\n".join(parts)


LINE = "named scenarios: bursts, backlogs, delays, failures, crashes and more"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Named scenarios: each first as fast as it goes, then paced at half of that, on fresh files with new processes,"
        " every task accounted for and the targets judged."
    )
    parser.epilog = (
        "examples:\n  python -m bench run --list\n  python -m bench run --scenario steady burst --durability both\n"
        "  python -m bench run --seconds 60 --json run.json   # Ctrl-C; later: --resume run.json\n\n" + EXIT_STATUS
    )
    parser.add_argument("--list", action="store_true", help="the scenarios, a line each")
    parser.add_argument("--scenario", nargs="+", metavar="NAME", choices=tuple(SCENARIOS), help="(default all)")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="N", help="of a phase (default 10)")
    parser.add_argument("--phase", choices=("both", "closed", "paced"), default="both", help="(default both)")
    parser.add_argument("--rate", type=positive, metavar="TASKS", help="tasks/s when paced (default half of capacity)")
    add_durabilities(parser, default="normal")
    add_driver(parser)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the series that --json wrote to FILE")


def run(options: Namespace, folder: Path) -> Findings:
    if options.list:
        return Findings("\n".join(f"{name:<16} {named.line}" for name, named in SCENARIOS.items()), {})
    if options.phase == "paced" and options.rate is None:
        raise UsageError("--phase paced: needs --rate, as no capacity is measured")
    if options.resume:
        try:
            series = Series.read(options.resume, folder)
        except ValueError as error:
            raise UsageError(f"--resume: {error}") from error
    else:
        settings = Settings(options.seconds, options.phase, options.driver, options.rate)
        names, durabilities = list(options.scenario or SCENARIOS), list(DURABILITIES[options.durability])
        series = Series(settings, names, durabilities, command=options.command)
    try:
        play(series, folder, options.resume or options.json)
    except BaseException:
        print(render(series))
        raise
    return Findings(render(series), asdict(series), series.passed)


def _outcome(settings: Settings, name: str, durability: Durability, folder: Path) -> Outcome:
    load = replace(
        SCENARIOS[name].load,
        seconds=settings.seconds,
        durability=durability,
        driver=settings.driver,
        rate=settings.rate,
    )
    with scratch_folder(folder) as place:
        report = run_harness(load, settings.phase, place)
    return Outcome(name, durability, _row(report), report.verdicts, report.machine, report.as_json())


def _row(report: Report) -> list[str]:
    closed = next((phase for phase in report.phases if phase.rate is None), None)
    paced = next((phase for phase in report.phases if phase.rate is not None), None)
    astray = sum(
        len(phase.account.lost) + len(phase.account.duplicated) + len(phase.account.unasked) + phase.order_violations
        for phase in report.phases
    )
    return [
        "-" if closed is None else f"{closed.capacity:,.0f}",
        *(
            ("-", "-", "-")
            if paced is None
            else (
                f"{paced.rate:,.0f}",
                f"{paced.latency['enqueue'].p99:.3f}",
                f"{paced.latency['claim'].p99:.3f}",
            )
        ),
        f"{max(phase.busy_share for phase in report.phases):.3%}",
        f"{max(phase.wal_bytes for phase in report.phases) / 1e6:.1f}",
        f"{astray:,}",
        "PASS" if report.passed else "FAIL",
    ]
