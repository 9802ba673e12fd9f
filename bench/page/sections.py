"""What the report shows: each section from a file of results, or what is missing and which command makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.page import plots
from bench.page.theme import Draw
from bench.peers.catalogue import CATALOGUE, Peer
from bench.peers.contest import Contest
from bench.peers.measure import Group, groups
from bench.peers.render import cell, compare
from bench.tune.judge import TARGETS
from bench.waiting import ALSO

Result = dict[str, Any]
"""What a benchmark wrote."""
WAL_POINTS = 600
RATE_SECONDS = 5.0
SUMMARY = ("count", "p50", "p95", "p99", "p99_9", "max")


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure: `name` is that of its files, `title` what it shows, `caption` what it was measured on and when."""

    name: str
    title: str
    caption: str
    draw: Draw


@dataclass(frozen=True, slots=True)
class Table:
    """The first column to the left, figures to the right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """What one command has measured. `headlines` are figures for the top of the page, and what they are; `notes`
    are sentences about single rows; `small` plots stand side by side."""

    name: str
    title: str
    text: str
    command: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    headlines: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    small: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """A section without results."""

    title: str
    file: str
    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where a section comes from: the file, the command that writes it, and what makes a section of its content."""

    title: str
    file: str
    command: str
    section: Callable[[Source, Result], Section]

    def read(self, folder: Path) -> Section | Missing:
        path = folder / self.file
        if not path.is_file():
            return Missing(self.title, self.file, self.command, "there is no such file")
        try:
            return self.section(self, json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            return Missing(self.title, self.file, self.command, f"its content is of another form ({error!r})")


def caption(result: Result, what: str) -> str:
    """What a figure shows, on which machine, how durably and when."""
    facts = result["machine"]
    return (
        f"{what} {facts['cpu']}, {facts['cores']} cores, {facts['file_system']}; Python {facts['python']}, SQLite"
        f" {facts['sqlite']}; durability {facts['durability']}; {str(facts['date'])[:10]}."
    )


# -- the sections -----------------------------------------------------------------------------------------------------


def latency(source: Source, result: Result) -> Section:
    phases = result["phases"]
    phase = next((one for one in phases if one["rate"] is not None), phases[-1])
    shown = [name for name in ("arrival to claim", "enqueue", "claim", "complete") if phase["latency"][name]["count"]]
    lines = {name: curve(phase, name) for name in shown}
    scenario = result["scenario"]
    load = f"{scenario['producers']} producers, {scenario['workers']} workers, {phase['name']}"
    what = f"Calls of a queue that keeps up: {load}, payload {scenario['payload_bytes']} bytes."
    durability = result["machine"]["durability"]
    rows = [
        [name, f"{found['count']:,}", *(f"{found[key]:,.3f}" for key in SUMMARY[1:])]
        for name, found in phase["latency"].items()
        if found["count"]
    ]
    return Section(
        f"latency-{durability}",
        source.title,
        "Enqueues count from the moment they were due, so that a stall isn't hidden; the axis gives each further nine"
        " the same room.",
        source.command,
        [
            Plot(
                f"latency-{durability}",
                f"How long calls take, durability {durability}",
                caption(result, what),
                partial(plots.percentile_curves, lines),
            )
        ],
        [Table("Milliseconds", ("call", "calls", "p50", "p95", "p99", "p99.9", "max"), rows)],
        result["verdicts"],
        [(f"{phase['latency']['claim']['p99']:.2f} ms", f"p99 of a claim, queue keeping up, durability {durability}")],
    )


def curve(phase: Result, name: str) -> list[tuple[float, float]]:
    """Shares of the calls and milliseconds: all that was recorded, else the percentiles of the table."""
    found = phase["latency"][name]
    recorded = phase.get("curves", {}).get(name)
    last = (1 - 1 / max(2, found["count"]), found["max"])
    if recorded:
        return [
            (share, ms) for share, ms in zip(recorded["shares"], recorded["ms"], strict=True) if share < last[0]
        ] + [last]
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
    return [(share, found[key]) for key, share in shares.items() if share < last[0]] + [last]


def scale(source: Source, result: Result) -> Section:
    found, tables, headlines = [], [], []
    for durability in dict.fromkeys(contest["durability"] for contest in result["contests"]):
        contests = [contest for contest in result["contests"] if contest["durability"] == durability]
        sides = list(contests[0]["figures"])

        def lines(key: str, contests: list[Result] = contests, sides: list[str] = sides) -> plots.Lines:
            return {side: [(one["processes"], one["figures"][side][key]) for one in contests] for side in sides}

        rounds = len(contests[0]["turns"][sides[0]])
        most = contests[-1]
        rate = f"{most['figures'][sides[0]]['enqueued']:,.0f}/s"
        headlines.append((rate, f"enqueued by {most['processes']} processes, durability {durability}"))
        what = f"Medians of {rounds} interleaved rounds of {contests[0]['seconds']:g} s on fresh files."
        facts = result["machine"] | {"durability": durability}
        found.append(
            Plot(
                f"scale-{durability}",
                f"Throughput and tail against processes, durability {durability}",
                caption({"machine": facts}, what),
                partial(plots.against_processes, lines("enqueued"), lines("p99"), lines("longest")),
            )
        )
        rows = [
            [
                f"{one['processes']}",
                side,
                f"{one['figures'][side]['enqueued']:,.0f}",
                f"{one['figures'][side]['p50']:,.3f}",
                f"{one['figures'][side]['p99']:,.2f}",
                f"{one['figures'][side]['longest']:,.1f}",
                f"{one['figures'][side]['producer_split']:.2f}",
            ]
            for one in contests
            for side in sides
        ]
        header = ("processes", "how they wait", "calls/s", "p50 ms", "p99 ms", "max ms", "most : least served")
        tables.append(Table(f"Durability {durability}", header, rows))
    return Section(
        "scale",
        source.title,
        "Committing together (group commit), waiting in turn at a gate, and SQLite's own busy handler. The rest is the"
        f" same code but for one thing: {ALSO}.",
        source.command,
        found,
        tables,
        result["verdicts"],
        headlines,
    )


def depth(source: Source, result: Result) -> Section:
    shown = {
        "claim priority, any type": "claim, best first",
        "claim priority, one type": "claim, one type",
        "claim fifo, any type": "claim, first in",
        "enqueue": "enqueue",
        "complete": "complete",
    }
    rows = {row["operation"]: row for row in result["rows"]}
    lines = {
        label: list(zip(result["depths"], rows[name]["p50"], strict=True))
        for name, label in shown.items()
        if name in rows
    }
    what = (
        f"p50 of {result['operations']:,} calls at each depth, interleaved; besides {result['finished']:,} finished and"
        f" {result['delayed']:,} delayed tasks."
    )
    table = [
        [name, *(f"{p50:.1f}" for p50 in row["p50"]), f"{row['ratio']:.2f}", _mark(row["passed"])]
        for name, row in rows.items()
    ]
    header = (
        "call, p50 µs",
        *(f"{one:,}" for one in result["depths"]),
        "deepest : shallowest",
        f"≤ {result['limit']:g}",
    )
    held = [
        {
            "promise": f"no call's p50 grows by more than {result['limit'] - 1:.0%} to {max(result['depths']):,} tasks",
            "measured": f"{max(row['ratio'] for row in rows.values()):.2f} at most",
            "passed": all(row["passed"] for row in rows.values()),
        }
    ]
    plot = Plot(
        "depth", "What a call costs as the queue grows", caption(result, what), partial(plots.against_depth, lines)
    )
    text = "A call costs the same with a thousand or a million tasks waiting."
    deepest = f"p50 of a claim, {max(result['depths']):,} against {min(result['depths']):,} tasks waiting"
    headlines = [(f"{rows['claim priority, any type']['ratio']:.2f} : 1", deepest)]
    tables = [Table("Every call", header, table)]
    return Section("depth", source.title, text, source.command, [plot], tables, held, headlines)


def soak(source: Source, result: Result) -> Section:
    samples = result["samples"]
    seconds, wal = samples["seconds"], [size / 1e6 for size in samples["wal_bytes"]]
    step = max(1, len(seconds) // WAL_POINTS)
    sparse = range(0, len(seconds), step)
    # A point stands for all the samples up to the next one: the largest.
    largest = [max(wal[first : first + step]) for first in sparse]
    held = next(one["stretch"] for one in result["phases"] if one["stretch"]["phase"] == "held")
    rates = {name: _rates(seconds, samples[name]) for name in ("enqueued", "completed")}
    what = (
        f"{result['processes']} processes without a pause for {result['seconds']:g} s; a reader holds a snapshot for"
        f" {result['snapshot_seconds']:g} s."
    )
    draw = partial(
        plots.log_over_time,
        [seconds[first] for first in sparse],
        largest,
        rates,
        (held["begin"], held["end"]),
        result["wal_limit_bytes"] / 1e6,
    )
    rows = [
        [
            one["stretch"]["phase"],
            call,
            f"{found['rate']:,.0f}",
            f"{found['p50']:,.3f}",
            f"{found['p99']:,.2f}",
            f"{found['max']:,.1f}",
            f"{one['stretch']['wal_bytes'] / 1e6:,.0f}",
        ]
        for one in result["phases"]
        for call, found in one["latency"].items()
        if found["count"]
    ]
    header = ("snapshot", "call", "calls/s", "p50 ms", "p99 ms", "max ms", "WAL, MB")
    return Section(
        "soak",
        source.title,
        "While a reader stays in an old snapshot SQLite can't begin its log (WAL) anew. Writers are slowed down so that"
        " it stays below its limit.",
        source.command,
        [Plot("soak", "The WAL over time", caption(result, what), draw)],
        [Table("Before, while and after it is held; the largest WAL", header, rows)],
        result["verdicts"],
    )


def _rates(seconds: Sequence[float], counts: Sequence[float]) -> list[tuple[float, float]]:
    """Tasks per second of stretches of RATE_SECONDS."""
    points, begin = [], 0
    for number, moment in enumerate(seconds):
        if moment - seconds[begin] >= RATE_SECONDS:
            points.append((moment, (counts[number] - counts[begin]) / (moment - seconds[begin])))
            begin = number
    return points


def wake(source: Source, result: Result) -> Section:
    sides = {
        side: [value for one in rounds for value in one["since_commit"]] for side, rounds in result["rounds"].items()
    }
    what = f"{result['samples']} tasks a round in {len(next(iter(result['rounds'].values())))} interleaved rounds."
    rows = [
        [
            side,
            f"{found['count']:,}",
            *(f"{found[key]:,.1f}" for key in ("p50", "p90", "p99", "max")),
            f"{each['missed']:,}",
        ]
        for side, each in result["sides"].items()
        for found in (each["commit_to_claimed"],)
    ]
    return Section(
        "wake",
        source.title,
        "An idle worker sleeps in the kernel until a commit, in whichever process, makes a task claimable.",
        source.command,
        [
            Plot(
                "wake",
                "How soon an idle worker has a task",
                caption(result, what),
                partial(plots.wake_histogram, sides),
            )
        ],
        [Table("Microseconds from commit to claim", ("worker", "tasks", "p50", "p90", "p99", "max", "missed"), rows)],
        result["verdicts"],
        [(f"{float(rows[0][2]):.0f} µs", "from a commit to the task in an idle worker's hands, p50")],
    )


def takeover(source: Source, result: Result) -> Section:
    taken = result["milliseconds"]
    times = len(next(iter(taken.values())))
    rows = [[event, f"{median(each):,.1f}", f"{max(each):,.1f}"] for event, each in taken.items()]
    draw = partial(plots.strips, taken, 50.0, "until the others go on, ms")
    title = "How soon the others go on after an accident"
    return Section(
        "takeover",
        source.title,
        "A process is killed in the worst moment, or the file of hints beside the database is deleted.",
        source.command,
        [Plot("takeover", title, caption(result, f"{times} times each; below 0: before the task was due."), draw)],
        [Table("Milliseconds", ("what happens", "p50", "max"), rows)],
        result["verdicts"],
    )


def bare(source: Source, result: Result) -> Section:
    others = list(dict.fromkeys(one["against"] for one in result["microseconds"]))
    header = ("call", "prismq µs", "other µs", "ratio")
    tables = [
        Table(
            f"p50 against {other}",
            header,
            [
                [one["operation"], f"{one['ours_p50']:,.2f}", f"{one['theirs_p50']:,.2f}", f"{one['ratio']:.2f}"]
                for one in result["microseconds"]
                if one["against"] == other
            ],
        )
        for other in others
    ]
    shown = {one["operation"]: one["ratio"] for one in result["microseconds"] if one["against"] == others[0]}
    draw = partial(plots.bars, shown, "p50, times as long", ".2f", list(shown))
    rounds = len(result["microseconds"][0]["ours"])
    what = f"Against {others[0]}; {result['operations']:,} calls a round, {rounds} interleaved rounds."
    text = "The whole queue against the least that a C program can do with the same SQLite."
    plot = Plot("bare", "How close to bare SQLite", caption(result, what), draw)
    return Section("bare", source.title, text, source.command, [plot], tables)


CHOSEN: Mapping[str, tuple[str, str, str]] = {
    "enqueue_p50": ("single", "enqueue, one process", "p50, µs"),
    "claim_p50": ("single", "claim, one process", "p50, µs"),
    "batch": ("single", "enqueue in batches", "tasks/s"),
    "completed": ("pairs", "producers and workers", "completed/s"),
    "longest": ("pairs", "the longest call of those", "ms"),
    "rate": ("drain", "workers drain a full queue", "tasks/s"),
    "wake_p50": ("wake", "an idle worker has its task", "p50, ms"),
    "idle": ("wake", "CPU of an idle worker", "% of a core"),
}
"""Figures of peers that are drawn: the group, of those whose names begin so the last, a title and the unit."""


def peers(source: Source, result: Result) -> Section:
    contest = Contest.parse(result)
    present = [peer for peer in CATALOGUE if peer.name in contest.peers and contest.has(peer)]
    measured = [one for one in groups(contest.sizes) if any(turn.group == one.name for turn in contest.turns)]
    found = []
    for key, (kind, title, unit) in CHOSEN.items():
        group = next((one for one in reversed(measured) if one.name.startswith(kind)), None)
        if group is None:
            continue
        figure = next(one for one in group.figures if one.key == key)
        better = "shorter is better" if figure.less_is_better else "longer is better"
        for durability in dict.fromkeys(peer.durability for peer in present):
            side = [peer for peer in present if peer.durability == durability]
            values = {peer.name: contest.medians(group, peer)[key] for peer in side}
            ours = [peer.name for peer in side if peer.is_ours]
            draw = partial(plots.bars, values, f"{unit} ({better}, logarithmic)", figure.form, ours, log=True)
            rounds = max(len(contest.of(group, peer)) for peer in side)
            said = f"{group.title}; medians, rounds: {rounds}."
            facts = result["machine"] | {"durability": durability}
            name = f"peers-{key.replace('_', '-')}-{durability}"
            found.append(Plot(name, f"{title}, {durability}", caption({"machine": facts}, said), draw))
    tables = [_peers_table(contest, group, present) for group in measured]
    settings = [
        [peer.name, peer.durability, ", ".join(f"{name} {value}" for name, value in read.items())]
        for peer in present
        if (read := contest.settings.get(peer.name))
    ]
    tables.append(Table("Settings, read back", ("queue", "held against prismq's", "its connection says"), settings))
    notes = [
        f"{peer.name}{f', {kind}' if kind else ''}: {note}" for peer in present for kind, note in peer.notes.items()
    ]
    notes += [f"Not measured: {name} ({reason})." for name, reason in contest.missing.items()]
    text = (
        "The same work on other queues, each in an environment of its own, interleaved. Those that sync every commit"
        " are held against prismq with durability full, the others against it with durability normal."
    )
    return Section("peers", source.title, text, source.command, found, tables, notes=notes, small=True)


def _peers_table(contest: Contest, group: Group, peers: Sequence[Peer]) -> Table:
    """Medians, and in brackets how many times theirs ours is."""
    rows = []
    for peer in peers:
        row = [peer.name]
        for figure, value in zip(group.figures, contest.medians(group, peer).values(), strict=True):
            held = compare(contest, group, figure, peer, peers)
            row.append("-" if value is None else cell(group, figure, value) + (f" ({held.times:.2f})" if held else ""))
        rows.append(row)
    failed = [f"{peer.name}: {why[-1]}" for peer in peers if (why := contest.failures(group, peer))]
    title = f"{group.title}; in brackets ours : theirs" + "".join(f"; failed: {one}" for one in failed)
    return Table(title, ("queue", *(figure.title for figure in group.figures)), rows)


def pairs(source: Source, result: Result) -> Section:
    rows = [
        [
            contest["durability"],
            side,
            f"{figures['operations']:,.0f}",
            f"{figures['enqueued']:,.0f}",
            f"{figures['completed']:,.0f}",
            f"{figures['longest']:,.1f}",
        ]
        for contest in result["contests"]
        for side, figures in contest["figures"].items()
    ]
    found = []
    for contest in result["contests"]:
        rates = {side: figures["operations"] for side, figures in contest["figures"].items()}
        what = (
            f"{result['producers']} producers, {result['workers']} workers; medians of {len(contest['ours'])} rounds."
        )
        facts = result["machine"] | {"durability": contest["durability"]}
        found.append(
            Plot(
                f"pairs-{contest['durability']}",
                f"End to end, durability {contest['durability']}",
                caption({"machine": facts}, what),
                partial(plots.bars, rates, "operations/s (longer is better)", ",.0f", ["prismq"]),
            )
        )
    header = ("durability", "queue", "operations/s", "enqueued/s", "completed/s", "longest call, ms")
    text = "Producers and workers against a queue written by hand on the standard library's sqlite3."
    tables = [Table("Medians", header, rows)]
    return Section("pairs", source.title, text, source.command, found, tables, result["verdicts"])


TUNED = {target.key: target.title for target in TARGETS}


def tune(source: Source, result: Result) -> Section:
    def interval(gain: Result) -> tuple[float, float, float]:
        return gain["middle"], gain["low"], gain["high"]

    shown = {one["label"]: interval(one["gains"]["operations"]) for one in result["candidates"] if one["pairs"] > 2}
    rows = [[one["label"], f"{one['pairs']}", *_gains(one["gains"])] for one in result["candidates"]]
    if result["confirmed"]:
        rows.append(["all that was kept, fresh rounds", f"{result['confirmed']['operations']['pairs']}"])
        rows[-1] += _gains(result["confirmed"])
    draw = partial(plots.ratios, shown, "operations/s, times the defaults'")
    plot = Plot("tune", "What other settings are worth here", caption(result, result["summary"]), draw)
    targets = result["candidates"][0]["gains"] if result["candidates"] else {}
    header = ("change", "pairs", *(TUNED.get(key, key) for key in targets))
    text = " ".join(result["findings"]) + " Lines are 95 % intervals, full dots those beyond the noise."
    tables = [Table("Times better than the defaults (95 % interval)", header, rows)]
    return Section("tune", source.title, text, source.command, [plot] if shown else [], tables)


def _gains(found: Mapping[str, Result]) -> list[str]:
    return [
        f"{gain['middle']:.2f} ({gain['low']:.2f} to {gain['high']:.2f})"
        if gain["pairs"] > 1
        else f"{gain['middle']:.2f}"
        for gain in found.values()
    ]


def verdicts_only(name: str, text: str, source: Source, result: Result) -> Section:
    return Section(name, source.title, text, source.command, verdicts=result["verdicts"])


SOURCES: Sequence[Source] = (
    Source(
        "Throughput against processes", "scale.json", "python -m bench scale --json bench/results/scale.json", scale
    ),
    Source("Latency", "run-normal.json", "python -m bench --json bench/results/run-normal.json", latency),
    Source(
        "Latency, every commit synced",
        "run-full.json",
        "python -m bench --durability full --json bench/results/run-full.json",
        latency,
    ),
    Source("Depth", "flat.json", "python -m bench flat --json bench/results/flat.json", depth),
    Source("Wake-up", "wake.json", "python -m bench wake --json bench/results/wake.json", wake),
    Source("Other queues", "peers.json", "python -m bench peers --json bench/results/peers.json", peers),
    Source("End to end", "pairs.json", "python -m bench pairs --json bench/results/pairs.json", pairs),
    Source("A reader that stays", "soak.json", "python -m bench soak --json bench/results/soak.json", soak),
    Source("Accidents", "takeover.json", "python -m bench takeover --json bench/results/takeover.json", takeover),
    Source("Bare SQLite", "bare.json", "python -m bench bare --json bench/results/bare.json", bare),
    Source("Tuning", "tune.json", "python -m bench tune --json bench/results/tune.json", tune),
    Source(
        "Hammer",
        "hammer.json",
        "python -m bench --producers 4 --workers 4 --seconds 60 --phase closed --json bench/results/hammer.json",
        partial(verdicts_only, "hammer", "Eight processes without a pause for a minute."),
    ),
    Source(
        "Hammer with kills",
        "hammer-kill.json",
        "python -m bench --producers 4 --workers 4 --seconds 60 --phase closed --kill-workers 1"
        " --json bench/results/hammer-kill.json",
        partial(verdicts_only, "hammer-kill", "The same, a worker killed every second."),
    ),
    Source(
        "Contention",
        "contend.json",
        "python -m bench contend --json bench/results/contend.json",
        partial(verdicts_only, "contend", "Many processes at once are served in turn."),
    ),
    Source(
        "Steadiness",
        "steady.json",
        "python -m bench steady --json bench/results/steady.json",
        partial(verdicts_only, "steady", "The longest calls of a queue that keeps up, for a minute."),
    ),
    Source(
        "Idle",
        "idle.json",
        "python -m bench idle --json bench/results/idle.json",
        partial(verdicts_only, "idle", "What an idle worker costs."),
    ),
    Source(
        "Committing together",
        "group.json",
        "python -m bench group --json bench/results/group.json",
        partial(verdicts_only, "group", "What committing together is worth."),
    ),
)


def read_all(folder: Path) -> Iterator[Section | Missing]:
    """Every section, in the order of the page."""
    for source in SOURCES:
        yield source.read(folder)


def _mark(passed: bool) -> str:
    return "✓ pass" if passed else "✗ FAIL"
