"""The README's tables of numbers, made from the committed results, so that they can't say anything else.

A block stands between `<!-- numbers NAME: files, commands -->` and `<!-- end of numbers -->`.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accounting import Account
from bench.findings import Findings
from bench.latency import Latency
from bench.machine import describe
from bench.options import RESULTS
from bench.phase import Phase
from bench.report import LATENCY_HEADER, fact_rows, latency_rows, load_line
from bench.scenario import Scenario
from bench.table import table
from bench.takeover import percentile
from bench.targets import Verdict
from bench.verdicts import verdict_table

Result = dict[str, Any]
END = "<!-- end of numbers -->"
BLOCK = re.compile(r"<!-- numbers (?P<name>[\w-]+)[^>]* -->\n.*?<!-- end of numbers -->", re.DOTALL)
HEADING = "## Numbers"


class ReadmeError(Exception):
    """The README has a block that there is none of, or a table of numbers outside of all blocks."""


@dataclass(frozen=True, slots=True)
class Block:
    """What is made of the results in `files`, which `commands` write."""

    files: Sequence[str]
    commands: Sequence[str]
    render: Callable[..., str]

    def text(self, results: Path) -> str:
        return self.render(*(json.loads((results / name).read_text(encoding="utf-8")) for name in self.files))

    def about(self) -> str:
        places = ", ".join(f"bench/results/{name}" for name in self.files)
        return f": {places}; {', '.join(self.commands)}"


def renewed(readme: str, results: Path) -> str:
    """The README with each block as the results have it. ReadmeError."""
    outside = [line for line in _numbers(BLOCK.sub("", readme)) if line.startswith(("|", "```"))]
    if outside:
        raise ReadmeError(f"a table in '{HEADING}' that no block of results makes, it begins {outside[0]!r:.80}")

    def renew(found: re.Match[str]) -> str:
        block = BLOCKS.get(found["name"])
        if block is None:
            raise ReadmeError(f"there is no block {found['name']!r} (there are {', '.join(BLOCKS)})")
        return f"<!-- numbers {found['name']}{block.about()} -->\n{block.text(results)}\n{END}"

    return BLOCK.sub(renew, readme)


def stale(readme: str, results: Path) -> list[str]:
    """Names of the blocks that say something else than the results."""
    now = {found["name"]: found[0] for found in BLOCK.finditer(readme)}
    then = {found["name"]: found[0] for found in BLOCK.finditer(renewed(readme, results))}
    return [name for name, text in now.items() if then[name] != text]


def _numbers(readme: str) -> Iterator[str]:
    """Lines of the section."""
    inside = False
    for line in readme.splitlines():
        if line.startswith("## "):
            inside = line.strip() == HEADING
        elif inside:
            yield line


# -- the blocks -------------------------------------------------------------------------------------------------------


def main_job(result: Result) -> str:
    """As the main job prints it, without its notes."""
    phases = [_phase(phase) for phase in result["phases"]]
    verdicts = [Verdict(**verdict) for verdict in result["verdicts"]]
    parts = (
        describe(result["machine"]),
        load_line(Scenario(**result["scenario"])),
        table(LATENCY_HEADER, latency_rows(phases), left=2),
        table(("", *(phase.name for phase in phases)), fact_rows(phases)),
        verdict_table(verdicts),
    )
    return "```\n" + "\n\n".join(parts) + "\n```"


def bare(result: Result) -> str:
    rows = {(row["operation"], row["against"]): row for row in result["microseconds"]}
    minimal, stdlib = "bare C, minimal row, one index", "stdlib executemany, one index"
    dicts, texts = (
        f"enqueue_many of {result['batch']:,}, a task",
        f"enqueue_many of {result['batch']:,}, JSON text, a task",
    )
    shown = {
        f"{name}{where}": (rows[f"{name}{ours}", minimal], "", ".1f")
        for ours, where in ((", C hot path", ", C hot path"), ("", ", from Python"))
        for name in ("enqueue", "claim", "complete")
    } | {
        f"`enqueue_many` of {result['batch']:,} dicts, a task": (
            rows[dicts, stdlib],
            "stdlib `json.dumps` and `executemany`: ",
            ".2f",
        ),
        "the same with payloads given as JSON text, which we check and stdlib does not": (
            rows[texts, stdlib],
            "",
            ".2f",
        ),
    }
    return _markdown(
        ("one process, p50 of a transaction", "prismq", "bare C loop, minimal table", "ratio"),
        [
            (name, f"{row['ours_p50']:{form}} us", f"{against}{row['theirs_p50']:{form}} us", f"{row['ratio']:.2f}")
            for name, (row, against, form) in shown.items()
        ],
    )


def contention(contend: Result, wake: Result, idle: Result, steady: Result, soak: Result, takeover: Result) -> str:
    ours, theirs = contend["enqueuing"]["figures"].values()
    mixed, mixed_theirs = contend["mixed"]["figures"].values()
    woken, polled, unpinned = (side["commit_to_claimed"]["p50"] for side in wake["sides"].values())
    waiting = [usage["cpu_percent"] for usage in idle["waiting"]]
    logs = {phase["stretch"]["phase"]: phase["stretch"]["wal_bytes"] / 1e6 for phase in soak["phases"]}
    last = soak["samples"]["wal_bytes"][-1] / 1e6
    calls, scenario = steady["latency"], steady["scenario"]
    held, first = (
        takeover["milliseconds"][f"{who} killed"] for who in ("holder of the write lock", "first waiting worker")
    )
    pair = f"{contend['mixed']['producers']} producers, {contend['mixed']['workers']} workers"
    paced = f"{scenario['producers']} + {scenario['workers']} processes paced at half of capacity"
    minutes = f"{soak['processes']} processes without pause for {soak['seconds'] / 60:g} minutes"
    rows = [
        (
            f"{contend['enqueuing']['producers']} processes enqueue without pause: longest call",
            f"{_ms(ours['longest'])} ms",
            f"{_ms(theirs['longest'])} ms",
            _source("contend"),
        ),
        ("calls/s", f"{ours['enqueued']:,.0f}", f"{theirs['enqueued']:,.0f}", ""),
        ("most : least served process", f"{ours['producer_split']:.2f}", f"{theirs['producer_split']:.2f}", ""),
        (
            f"{pair}: completed of enqueued (0.5 is fair)",
            f"{mixed['completed_share']:.3f}",
            f"{mixed_theirs['completed_share']:.3f}",
            "",
        ),
        (
            "idle worker in another process: commit to claimed task, p50",
            f"{woken:.1f} us",
            f"{polled:.1f} us",
            _source("wake"),
        ),
        ("the same, where the system may put both on one core", f"{unpinned:.1f} us", "", ""),
        (
            "CPU of an idle worker, % of a core",
            f"{sum(waiting) / len(waiting):.3f}",
            f"{idle['polling']['cpu_percent']:.2f}",
            _source("idle"),
        ),
        (f"{paced}, {scenario['seconds']:g} s: enqueue p99.9, max", _two(calls["enqueue"]), "", _source("steady")),
        ("claim p99.9, max", _two(calls["claim"]), "", ""),
        (
            f"{minutes}, a reader holding a snapshot for one: largest WAL",
            f"{logs['held']:,.0f} MB",
            "",
            _source("soak"),
        ),
        ("largest before it, and the file at the end", f"{logs['before']:,.0f}, {last:,.0f} MB", "", ""),
        (
            "until the others go on, p90: holder of the write lock killed",
            f"{percentile(held, 0.9):.1f} ms",
            "",
            _source("takeover"),
        ),
        ("first of two waiting workers killed as a task is added", f"{percentile(first, 0.9):.1f} ms", "", ""),
    ]
    return _markdown(("what", "prismq", "the other", "command"), rows)


def together(result: Result) -> str:
    rows = []
    for contest in result["contests"]:
        sides = list(contest["figures"].values())
        rows.append(("calls/s", contest["durability"], *(f"{side['enqueued']:,.0f}" for side in sides)))
        rows.append(("p99, longest call, ms", "", *(f"{_ms(side['p99'])}, {_ms(side['longest'])}" for side in sides)))
    processes = f"{result['contests'][0]['processes']} processes"
    return _markdown((processes, "durability", "together", "each in its turn", "SQLite's own busy handler"), rows)


def pairs(result: Result) -> str:
    rows = []
    for contest in result["contests"]:
        ours, theirs = contest["figures"].values()
        rates = ours["operations"], theirs["operations"]
        calls = ours["longest"], theirs["longest"]
        rows.append(
            ("operations/s", contest["durability"], *(f"{rate:,.0f}" for rate in rates), f"{rates[0] / rates[1]:.2f}")
        )
        rows.append(("longest call, ms", "", *map(_ms, calls), f"{calls[0] / calls[1]:.3f}"))
    processes = f"{result['producers']} + {result['workers']} processes"
    return _markdown((processes, "durability", "prismq", "sqlite3 by hand", "ratio"), rows)


BLOCKS: Mapping[str, Block] = {
    "run": Block(("run-normal.json",), ("python -m bench",), main_job),
    "bare": Block(("bare.json",), ("python -m bench bare",), bare),
    "contention": Block(
        tuple(f"{name}.json" for name in ("contend", "wake", "idle", "steady", "soak", "takeover")),
        ("each by the command in its last column",),
        contention,
    ),
    "together": Block(("group.json",), ("python -m bench group",), together),
    "pairs": Block(("pairs.json",), ("python -m bench pairs",), pairs),
}


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(cell if cell == "---" else f" {cell} ".replace("  ", " ") for cell in line) + "|"
        for line in lines
    )


def _source(name: str) -> str:
    return f"`python -m bench {name}` ([results](bench/results/{name}.json))"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _two(found: Mapping[str, float]) -> str:
    return f"{found['p99_9']:.1f}, {found['max']:.1f} ms"


def _phase(content: Result) -> Phase:
    """As it was before it became JSON."""
    fields = {name: content[name] for name in Phase.__slots__ if name in content and name != "curves"}
    latency = {name: Latency(**found) for name, found in content["latency"].items()}
    account = Account(**{"retried": 0} | content["account"])  # results from before there were retries have none
    return Phase(**{"has_order": True} | fields | {"latency": latency, "account": account})


LINE = "the README's tables of numbers"


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Writes the README's tables of numbers anew from the committed results: what stands between"
        " <!-- numbers NAME --> and <!-- end of numbers -->."
    )
    parser.epilog = "exit status: 0 as the results have it, 1 it is not, or has a table that no results make"
    parser.add_argument("--check", action="store_true", help="change nothing, only say what would be changed")
    parser.add_argument("--readme", type=Path, default=RESULTS.parents[1] / "README.md", metavar="FILE")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default bench/results)")


def run(options: Namespace, folder: Path) -> Findings:
    try:
        text = options.readme.read_text(encoding="utf-8")
        different = stale(text, options.results)
        if different and not options.check:
            options.readme.write_text(renewed(text, options.results), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReadmeError(str(error)) from error
    said = "other than the results" if options.check else "written anew"
    return Findings("\n".join(f"{said}: {name}" for name in different), {}, not (different and options.check))
