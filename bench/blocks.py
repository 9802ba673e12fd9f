"""What is shown of the results in detail, as Markdown: a function makes each block of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.latency import Latency
from bench.peers.catalogue import CATALOGUE
from bench.peers.contest import Contest
from bench.peers.render import Comparison, comparisons
from bench.printed import phases_of
from bench.recorded import Recorded
from bench.report import fact_rows, load_line
from bench.scenario import Scenario
from bench.takeover import percentile
from bench.targets import Verdict

LONGEST = "longest call, ms: median of the rounds' longest, and of all rounds"


def figure(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(cell if cell == "---" else f" {cell} ".replace("  ", " ") for cell in line) + "|"
        for line in lines
    )


def missed(verdicts: Sequence[Verdict]) -> str:
    """A line for each promise that was not kept, or that all were."""
    lines = [f"- missed: {one.promise}; measured {one.measured}" for one in verdicts if not one.passed]
    return "\n".join(lines) or f"All {len(verdicts)} targets of this benchmark were met."


# -- the main job -----------------------------------------------------------------------------------------------------


def hammer(plain: Recorded, killed: Recorded) -> str:
    columns = [phases_of(result)[0] for result in (plain, killed)]
    calls = ("enqueue", "claim", "complete")
    rows = [
        *fact_rows(columns),
        *([f"{name}: p99, longest call, ms", *(_two(phase.latency[name]) for phase in columns)] for name in calls),
    ]
    header = [f"{load_line(Scenario(**result['scenario']))}" for result in (plain, killed)]
    return markdown(("", *header), rows)


def _two(latency: Latency) -> str:
    return f"{figure(latency.p99)}, {figure(latency.max)}"


# -- one process ------------------------------------------------------------------------------------------------------


def bare(result: Recorded) -> str:
    rows = {(row["operation"], row["against"]): row for row in result["microseconds"]}
    minimal, stdlib = "bare C, minimal row, one index", "stdlib executemany, one index"
    batch = f"{result['batch']:,}"
    shown = [
        *(
            (f"{name}{where}", (f"{name}{ours}", minimal), "")
            for ours, where in ((", C hot path", ", C hot path"), ("", ", from Python"))
            for name in ("enqueue", "claim", "complete")
        ),
        (
            f"`enqueue_many` of {batch} dicts, a task",
            (f"enqueue_many of {batch}, a task", stdlib),
            "stdlib `json.dumps` and `executemany`: ",
        ),
        (
            "the same with payloads given as JSON text, which prismq checks and stdlib does not",
            (f"enqueue_many of {batch}, JSON text, a task", stdlib),
            "",
        ),
    ]
    return markdown(
        ("one process, p50 of a transaction, us", "prismq", "bare C loop, minimal table", "ratio"),
        [
            (name, figure(row["ours_p50"]), against + figure(row["theirs_p50"]), f"{row['ratio']:.2f}")
            for name, key, against in shown
            if (row := rows.get(key)) is not None
        ],
    )


def flat_ratios(result: Recorded) -> list[float]:
    """Deepest : shallowest, of each operation."""
    return [row["ratio"] for row in result["rows"]]


def flat(result: Recorded) -> str:
    depths = " and ".join(f"{depth:,}" for depth in (result["depths"][-1], result["depths"][0]))
    ratios = {row["operation"]: row["ratio"] for row in result["rows"]}
    dearest = sorted(ratios, key=lambda name: -ratios[name])[:5]
    rows = [
        (f"{len(ratios)} operations, median", f"{median(ratios.values()):.2f}"),
        *((name, f"{ratios[name]:.2f}") for name in ("enqueue", "complete") if name in ratios),
        *((f"{name} (one of the five that grew most)", f"{ratios[name]:.2f}") for name in dearest),
    ]
    return markdown((f"p50 with {depths} ready tasks", "ratio"), rows)


# -- many processes ---------------------------------------------------------------------------------------------------


def contention(result: Recorded) -> str:
    tables = []
    for load in (result["enqueuing"], result["mixed"]):
        sides = load["figures"]
        what = f"{load['producers']} processes enqueue without a pause"
        if load["workers"]:
            what = f"{load['producers']} producers and {load['workers']} workers, without a pause"
        rows = [
            ("enqueues/s", *(f"{side['enqueued']:,.0f}" for side in sides.values())),
            ("p50, p99 of an enqueue, ms", *(f"{figure(s['p50'])}, {figure(s['p99'])}" for s in sides.values())),
            (LONGEST, *map(_longest, sides.values())),
            ("most : least served producer", *(f"{side['producer_split']:.2f}" for side in sides.values())),
        ]
        if load["workers"]:
            shares = (f"{side['completed_share']:.3f}" for side in sides.values())
            rows.append(("completed of enqueued (a worker commits twice a task: 0.5 is fair)", *shares))
        tables.append(markdown((what, *sides), rows))
    return "\n\n".join((*tables, missed(result.verdicts)))


def together(result: Recorded) -> str:
    rows = []
    for contest in result["contests"]:
        sides = contest["figures"].values()
        rows.append(("calls/s", contest["durability"], *(f"{side['enqueued']:,.0f}" for side in sides)))
        rows.append(("p99, ms", contest["durability"], *(figure(side["p99"]) for side in sides)))
        rows.append((LONGEST, contest["durability"], *map(_longest, sides)))
    first = result["contests"][0]
    return markdown((f"{first['processes']} processes", "durability", *first["figures"]), rows)


def fewer(result: Recorded) -> str:
    """With fewer processes, and alone."""
    counts = list(dict.fromkeys(contest["processes"] for contest in result["few"]))
    rows = []
    for durability in dict.fromkeys(contest["durability"] for contest in result["few"]):
        found = {one["processes"]: one["figures"].values() for one in result["few"] if one["durability"] == durability}
        ratios = {count: first["enqueued"] / second["enqueued"] for count, (first, second) in found.items()}
        rows.append((durability, *(f"{ratios[count]:.2f}" if count in ratios else "" for count in counts)))
    alone = [
        (caller["durability"], *(f"{caller['ratios'][name]:.3f}" for name in ("enqueue", "claim", "complete")))
        for caller in result["lone"]
    ]
    few = markdown(("calls/s, together : each in its turn", *(f"{count} processes" for count in counts)), rows)
    lone = markdown(("alone: p50 of a call, switched on : off", "enqueue", "claim", "complete"), alone)
    return f"{few}\n\n{lone}\n\n{missed(result.verdicts)}"


def scale(result: Recorded) -> str:
    rows = [
        (
            str(contest["processes"]),
            contest["durability"],
            *(f"{side['enqueued']:,.0f}" for side in contest["figures"].values()),
        )
        for contest in result["contests"]
    ]
    sides = result["contests"][0]["figures"]
    return markdown(("processes", "durability", *(f"calls/s, {side}" for side in sides)), rows)


def pairs(result: Recorded) -> str:
    rows = []
    for contest in result["contests"]:
        ours, theirs = contest["figures"].values()
        rounds = list(zip(contest["ours"], contest["theirs"], strict=True))
        for title, key, of_round in PAIR_ROWS:
            ratios = [of_round(mine) / other for mine, its in rounds if (other := of_round(its))]
            times = figure(median(ratios)) if ratios else ""
            rows.append((title, contest["durability"], figure(ours[key]), figure(theirs[key]), times))
        longest = (figure(side["longest_of_all"]) for side in (ours, theirs))
        rows.append(("longest call of all rounds, ms", contest["durability"], *longest, ""))
    processes = f"{result['producers']} + {result['workers']} processes, end to end, medians of the rounds"
    sides = result["contests"][0]["figures"]
    return f"{markdown((processes, 'durability', *sides, 'ratio in a round'), rows)}\n\n{missed(result.verdicts)}"


PAIR_ROWS: Sequence[tuple[str, str, Callable[[Mapping[str, Any]], float]]] = (
    ("operations/s", "operations", lambda turn: sum(turn["rates"].values())),
    ("enqueues/s", "enqueued", lambda turn: turn["rates"]["enqueue"]),
    ("completed/s", "completed", lambda turn: turn["rates"]["complete"]),
    ("longest call of a round, ms", "longest", lambda turn: max(one["max"] for one in turn["latency"].values())),
)
"""What of the figures, and how it comes from a turn."""


def waking(wake: Recorded, idle: Recorded) -> str:
    rows = []
    for side, found in wake["sides"].items():
        spread = found["commit_to_claimed"]
        rows.append((side, *(figure(spread[key]) for key in ("p50", "p90", "p99", "max"))))
    waiting = [usage["cpu_percent"] for usage in idle["waiting"]]
    cpu = [
        ("waits with `claim(wait=...)`", figure(sum(waiting) / len(waiting))),
        ("asks for data_version each millisecond", figure(idle["polling"]["cpu_percent"])),
    ]
    header = ("idle worker of another process: from the commit to the claimed task, us", "p50", "p90", "p99", "longest")
    return f"{markdown(header, rows)}\n\n{markdown(('an idle worker', 'CPU, % of a core'), cpu)}"


def steadiness(steady: Recorded, soak: Recorded, takeover: Recorded) -> str:
    scenario = steady["scenario"]
    paced = (
        f"{scenario['producers']} + {scenario['workers']} processes, {scenario['seconds']:g} s at"
        f" {scenario['rate']:,.0f} tasks/s"
    )
    if steady["capacity"]:
        paced += f", {scenario['rate'] / steady['capacity']:.0%} of the capacity measured first"
    calls = [
        (name, *(figure(steady["latency"][name][key]) for key in ("p50", "p99", "p99_9", "max")))
        for name in ("enqueue", "claim", "complete", "control")
    ]
    held = f"{soak['processes']} processes without a pause for {soak['seconds']:g} s, a reader's snapshot for"
    wal = [(one["stretch"]["phase"], figure(one["stretch"]["wal_bytes"] / 1e6)) for one in soak["phases"]]
    after = [
        (event, figure(percentile(each, 0.5)), figure(percentile(each, 0.9)), figure(max(each)))
        for event, each in takeover["milliseconds"].items()
    ]
    return "\n\n".join(
        (
            markdown((f"{paced}: ms", "p50", "p99", "p99.9", "longest"), calls),
            markdown((f"{held} {soak['snapshot_seconds']:g} s of it: largest WAL, MB", ""), wal),
            markdown(("until the others go on, ms", "p50", "p90", "longest"), after),
        )
    )


def promises(*results: Recorded) -> str:
    """What each is held against."""
    rows = [
        (one.made_by if number == 0 else "", verdict.promise, verdict.measured, "yes" if verdict.passed else "**no**")
        for one in results
        for number, verdict in enumerate(one.verdicts)
    ]
    return markdown(("made by", "target", "measured", "kept"), rows)


def _longest(side: Mapping[str, float]) -> str:
    return f"{figure(side['longest'])}, {figure(side['longest_of_all'])}"


# -- other queues -----------------------------------------------------------------------------------------------------


def compared(result: Recorded) -> list[Comparison]:
    """Every figure of ours beside every peer's."""
    contest = Contest.parse(dict(result.content))
    chosen = [peer for peer in CATALOGUE if peer.name in contest.peers and peer.name not in contest.missing]
    return comparisons(contest, chosen)


def peers(result: Recorded) -> str:
    found = compared(result)
    rows = [
        (name, *(str(sum(one.peer.name == name and one.verdict == verdict for one in found)) for verdict in VERDICTS))
        for name in dict.fromkeys(one.peer.name for one in found)
    ]
    missing = [f"- not measured: {name}: {reason}" for name, reason in result["missing"].items()]
    behind = [
        (one.group.name, one.figure.title, one.peer.name, figure(one.ours), figure(one.theirs), str(one))
        for one in found
        if one.verdict == "behind"
    ]
    header = ("where prismq is behind", "figure", "peer", "prismq", "peer's", "ours : theirs")
    return "\n\n".join(
        (
            markdown(("figures of prismq beside those of", *VERDICTS), rows),
            *(["\n".join(missing)] if missing else []),
            markdown(header, behind),
        )
    )


VERDICTS = ("better", "alike", "behind")
