"""The README's numbers: a line for each thing that it promises, what was missed, and on what it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from bench.blocks import compared, figure, flat_ratios, markdown
from bench.phase import Phase
from bench.printed import phases_of
from bench.recorded import Recorded
from bench.targets import BUSY_PERCENT, CLAIM_MS, ENQUEUE_MS

Row = tuple[str, str, str, str]
"""What, prismq, what is beside it, and the command that made it."""
HEADER: Row = ("what", "prismq", "beside it", "made by")
MAIN = (
    "run-normal",
    "run-full",
    "hammer-kill",
    "contend",
    "group",
    "wake",
    "idle",
    "flat",
    "bare",
    "pairs",
    "peers",
)
"""Results that the rows are made of."""


def main(*results: Recorded) -> str:
    """In the order of MAIN."""
    normal, full, killed, contend, group, wake, idle, flat, bare, pairs, peers = results
    rows = [
        *_main_job(normal, "normal"),
        *_main_job(full, "full"),
        _killed(killed),
        *_contention(contend),
        *_together(group),
        *_waking(wake, idle),
        _flat(flat),
        _bare(bare),
        *_pairs(pairs),
        _peers(peers),
    ]
    return markdown(HEADER, rows)


def machines(*results: Recorded) -> str:
    """On what, and when, the results were measured."""
    found: dict[str, list[Recorded]] = {}
    for one in results:
        facts = one.machine
        if facts:
            system = str(facts["os"]).partition("-with")[0]
            said = (
                f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; {system}; {facts['file_system']};"
                f" Python {facts['python']}, SQLite {facts['sqlite']}"
            )
            found.setdefault(said, []).append(one)
    lines = []
    for said, of_it in found.items():
        days = sorted({one.date[:10] for one in of_it})
        which = "" if len(found) == 1 else f" ({', '.join(one.name for one in of_it)})"
        lines.append(f"- {said}; {' to '.join(dict.fromkeys((days[0], days[-1])))}{which}")
    return "\n".join(lines)


def missed(*results: Recorded) -> str:
    """Of every result, what it was held against and did not keep."""
    judged = [(one, verdict) for one in results for verdict in one.verdicts]
    failed = [(one, verdict) for one, verdict in judged if not verdict.passed]
    said = f"{len(judged) - len(failed)} of the {len(judged)} targets that the benchmarks judge were met"
    if not failed:
        return f"{said}."
    lines = [f"- {one.made_by}: {verdict.promise}; measured {verdict.measured}" for one, verdict in failed]
    return f"{said}; missed:\n\n" + "\n".join(lines)


def _main_job(result: Recorded, durability: str) -> list[Row]:
    phases = phases_of(result)
    closed = next(phase for phase in phases if phase.rate is None)
    paced = next(phase for phase in phases if phase.rate is not None)
    scenario = result["scenario"]
    load = f"durability {durability}, {scenario['producers']} producers, {scenario['workers']} workers"
    p99 = ", ".join(f"{figure(paced.latency[name].p99)} ms" for name in ("enqueue", "claim"))
    return [
        (f"{load}: enqueued and completed", f"{closed.capacity:,.0f} tasks/s", "", result.made_by),
        (
            f"paced at {paced.capacity:,.0f} tasks/s: p99 of an enqueue, of a claim",
            p99,
            f"targets: {ENQUEUE_MS:g} ms, {CLAIM_MS:g} ms",
            "",
        ),
        ("SQLITE_BUSY; tasks lost, run twice, out of order", _astray(phases), f"targets: {BUSY_PERCENT:g} %; none", ""),
    ]


def _astray(phases: list[Phase]) -> str:
    lost, twice = (sum(len(getattr(phase.account, kind)) for phase in phases) for kind in ("lost", "duplicated"))
    busy = max(phase.busy_share for phase in phases)
    return f"{100 * busy:.2f} %; {lost}, {twice}, {sum(phase.order_violations for phase in phases)}"


def _killed(result: Recorded) -> Row:
    phases = phases_of(result)
    scenario = result["scenario"]
    again = sum(phase.account.reclaimed for phase in phases)
    lost, twice = (sum(len(getattr(phase.account, kind)) for phase in phases) for kind in ("lost", "duplicated"))
    load = f"{scenario['producers']} + {scenario['workers']} processes, {scenario['seconds']:g} s"
    killed = f"{sum(phase.kills for phase in phases)} workers killed"
    return (
        f"{load}, {killed}: tasks lost, run twice, claimed again after their lease",
        f"{lost}, {twice}, {again}",
        "",
        result.made_by,
    )


def _contention(result: Recorded) -> list[Row]:
    load = result["enqueuing"]
    (_, ours), (other, theirs) = load["figures"].items()
    what = f"{load['producers']} processes enqueue without a pause"
    return [
        (f"{what}: calls/s", f"{ours['enqueued']:,.0f}", f"{other}: {theirs['enqueued']:,.0f}", result.made_by),
        (
            "longest call of all rounds",
            f"{figure(ours['longest_of_all'])} ms",
            f"{figure(theirs['longest_of_all'])} ms",
            "",
        ),
    ]


def _together(result: Recorded) -> list[Row]:
    rows: list[Row] = []
    for contest in result["contests"]:
        (_, ours), (other, theirs), *_ = contest["figures"].items()
        rows.append(
            (
                f"{contest['processes']} processes commit together, durability {contest['durability']}: calls/s",
                f"{ours['enqueued']:,.0f}",
                f"each in its turn ({other}): {theirs['enqueued']:,.0f}",
                "" if rows else result.made_by,
            )
        )
    return rows


def _waking(wake: Recorded, idle: Recorded) -> list[Row]:
    p50 = [figure(side["commit_to_claimed"]["p50"]) for side in wake["sides"].values()]
    waiting = [usage["cpu_percent"] for usage in idle["waiting"]]
    polling = "asking each millisecond"
    return [
        (
            "idle worker of another process: commit to claimed task, p50, each process on a core of its own",
            f"{p50[0]} us",
            f"{polling}: {p50[1]} us",
            wake.made_by,
        ),
        ("the same, where the system places them", f"{p50[2]} us", "", ""),
        (
            "CPU of an idle worker, of a core",
            f"{figure(sum(waiting) / len(waiting))} %",
            f"{polling}: {figure(idle['polling']['cpu_percent'])} %",
            idle.made_by,
        ),
    ]


def _flat(result: Recorded) -> Row:
    ratios = flat_ratios(result)
    most, least = result["depths"][-1], result["depths"][0]
    return (
        f"p50 of {len(ratios)} operations, {most:,} : {least:,} tasks waiting: median, worst",
        f"{median(ratios):.2f}, {max(ratios):.2f}",
        f"target: {result['limit']:g}",
        result.made_by,
    )


def _bare(result: Recorded) -> Row:
    rows: Mapping[tuple[str, str], Any] = {(row["operation"], row["against"]): row for row in result["microseconds"]}
    shown = [rows[name, "bare C, minimal row, one index"] for name in ("enqueue", "claim", "complete")]
    ours, theirs = (", ".join(figure(row[key]) for row in shown) for key in ("ours_p50", "theirs_p50"))
    return (
        "one process, from Python: p50 of enqueue, claim, complete",
        f"{ours} us",
        f"C loop on a minimal table: {theirs} us",
        result.made_by,
    )


def _pairs(result: Recorded) -> list[Row]:
    rows: list[Row] = []
    load = f"{result['producers']} + {result['workers']} processes end to end"
    for contest in result["contests"]:
        (_, ours), (other, theirs) = contest["figures"].items()
        rows.append(
            (
                f"{load}, durability {contest['durability']}: operations/s; longest call",
                f"{ours['operations']:,.0f}; {figure(ours['longest_of_all'])} ms",
                f"{other}: {theirs['operations']:,.0f}; {figure(theirs['longest_of_all'])} ms",
                "" if rows else result.made_by,
            )
        )
    return rows


def _peers(result: Recorded) -> Row:
    found = compared(result)
    counts = [sum(one.verdict == verdict for one in found) for verdict in ("better", "alike", "behind")]
    names = dict.fromkeys(one.peer.name for one in found)
    return (
        f"{len(found)} figures beside those of other queues: better, alike, behind",
        ", ".join(map(str, counts)),
        ", ".join(names),
        result.made_by,
    )
