"""The contest as text: a table for each group, and where prismq is behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.machine import describe
from bench.peers.catalogue import Peer
from bench.peers.contest import Contest
from bench.peers.measure import Figure, Group, groups
from bench.table import table

EVEN = 1.05
"""Within this factor two figures are alike."""
MARKS = {"better": "+", "alike": "=", "behind": "-"}
NOTE = (
    "ours : theirs beside each figure, held against the prismq of the same durability (the first or second line):"
    f" + ours is better, - ours is behind, = within {EVEN - 1:.0%};\n"
    "medians of interleaved rounds, each turn on a fresh file with new processes; lost, twice and errors are sums;"
    " errors: calls that raised and were made again"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours held against a peer's figure: `times` is ours : theirs."""

    group: Group
    figure: Figure
    peer: Peer
    ours: float
    theirs: float

    @property
    def times(self) -> float:
        return self.ours / self.theirs

    @property
    def verdict(self) -> str:
        factor = self.times if self.figure.less_is_better else 1 / self.times
        if 1 / EVEN <= factor <= EVEN:
            return "alike"
        return "behind" if factor > EVEN else "better"


def compare(contest: Contest, group: Group, figure: Figure, peer: Peer, peers: Sequence[Peer]) -> Comparison | None:
    """None where there is nothing to compare: one of them has no such figure, or the peer is ours."""
    ours = next((one for one in peers if one.is_ours and one.durability == peer.durability), None)
    if peer.is_ours or ours is None or figure.less_is_better is None:
        return None
    mine, theirs = (contest.medians(group, one)[figure.key] for one in (ours, peer))
    if mine is None or theirs is None or mine <= 0 or theirs <= 0:
        return None
    return Comparison(group, figure, peer, mine, theirs)


def comparisons(contest: Contest, peers: Sequence[Peer]) -> list[Comparison]:
    """All that there are."""
    return [
        found
        for group in groups(contest.sizes)
        for figure in group.figures
        for peer in peers
        if (found := compare(contest, group, figure, peer, peers)) is not None
    ]


def render(contest: Contest, peers: Sequence[Peer]) -> str:
    """The report as text."""
    present = [peer for peer in peers if peer.name not in contest.missing]
    parts = [describe(contest.machine), f"standard library's SQLite {contest.machine['stdlib_sqlite']}", NOTE]
    parts.append(_settings(contest, present))
    if contest.missing:
        lines = [f"  {name}: {reason}" for name, reason in contest.missing.items()]
        parts.append("not measured:\n" + "\n".join(lines))
    for group in groups(contest.sizes):
        parts.append(_group(contest, group, present))
    parts.append(_behind(comparisons(contest, present)))
    return "\n\n".join(parts)


def _settings(contest: Contest, peers: Sequence[Peer]) -> str:
    rows = []
    for peer in peers:
        said = ", ".join(f"{name} {value}" for name, value in contest.settings.get(peer.name, {}).items())
        rows.append([peer.name, ", ".join(peer.requirements) or "-", said])
    header = ("peer", "package", "as its own connection has it (synchronous 1: NORMAL, 2: FULL)")
    notes = [f"  {peer.name}: {peer.notes['']}" for peer in peers if "" in peer.notes]
    return "\n".join((table(header, rows, left=3), *notes))


def _group(contest: Contest, group: Group, peers: Sequence[Peer]) -> str:
    header = [group.name]
    for figure in group.figures:
        header += [figure.title, ""] if figure.less_is_better is not None else [figure.title]
    rows, notes = [], []
    for peer in peers:
        found = contest.medians(group, peer)
        failures = contest.failures(group, peer)
        if failures:
            notes.append(f"{peer.name}: failed in {len(failures)} of its rounds, {failures[-1]}")
        row = [peer.name]
        for figure in group.figures:
            value = found[figure.key]
            row.append("-" if value is None else format(value, figure.form))
            if figure.less_is_better is not None:
                row.append(_mark(compare(contest, group, figure, peer, peers)))
        rows.append(row)
        notes += [f"{peer.name}: {note}" for kind, note in peer.notes.items() if kind and group.name.startswith(kind)]
    said = "\n".join(f"  {note}" for note in notes)
    return "\n".join(part for part in (group.title, table(header, rows), said) if part)


def _mark(found: Comparison | None) -> str:
    return "" if found is None else f"{found.times:.2f} {MARKS[found.verdict]}"


def _behind(found: Sequence[Comparison]) -> str:
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in MARKS}
    behind = sorted((one for one in found if one.verdict == "behind"), key=lambda one: one.group.name)
    rows = [
        [
            one.group.name,
            one.figure.title,
            one.peer.name,
            format(one.ours, one.figure.form),
            format(one.theirs, one.figure.form),
            f"{one.times:.2f}",
        ]
        for one in behind
    ]
    summary = f"of {len(found)} comparisons: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if not rows:
        return summary
    return summary + "; behind:\n" + table(("rows", "figure", "peer", "prismq", "peer", "ours : theirs"), rows, left=3)
