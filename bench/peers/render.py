"""The contest as text: a table for each group, and where prismq is behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.machine import describe
from bench.peers.catalogue import Peer
from bench.peers.contest import Contest, rival_of
from bench.peers.measure import Figure, Figures, Group, groups
from bench.table import table

EVEN = 1.05
"""Within this factor two figures are alike, however sure that is."""
MARKS = {"better": "+", "alike": "=", "behind": "-"}
NOTE = (
    "ours : theirs beside each figure, held against the prismq of the same durability (the first or second line):"
    " the median of the rounds' ratios, and\ntheir least and largest;"
    f" + ours is better, - ours is behind, = within {EVEN - 1:.0%} or not the same way in every round;\n"
    "figures are medians of interleaved rounds, each turn on a fresh file with new processes that were warmed up; lost,"
    " twice and errors are sums;\nerrors: calls that raised and were made again"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours held against a peer's figure: medians of both, and `ratios`, ours : theirs, one a round."""

    group: Group
    figure: Figure
    peer: Peer
    ours: float
    theirs: float
    ratios: Sequence[float]

    @property
    def times(self) -> float:
        return median(self.ratios)

    @property
    def verdict(self) -> str:
        """There is a difference when it is large enough and all rounds agree about it."""
        if 1 / EVEN <= self.times <= EVEN or min(self.ratios) <= 1 <= max(self.ratios):
            return "alike"
        return "behind" if (self.times > 1) == self.figure.less_is_better else "better"

    def __str__(self) -> str:
        spread = f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if len(self.ratios) > 1 else ""
        return f"{self.times:.2f}{spread}"


def compare(contest: Contest, group: Group, figure: Figure, peer: Peer, peers: Sequence[Peer]) -> Comparison | None:
    """None where there is nothing to compare: one of them has no such figure, or the peer is ours."""
    ours = rival_of(peer, peers)
    if ours is None or figure.less_is_better is None:
        return None
    ratios = [_ratio(*pair, figure.key) for pair in contest.pairs(group, ours, peer)]
    known = [ratio for ratio in ratios if ratio is not None]
    mine, theirs = (contest.medians(group, one)[figure.key] for one in (ours, peer))
    return Comparison(group, figure, peer, mine, theirs, known) if known and mine and theirs else None


def _ratio(ours: Figures, theirs: Figures, key: str) -> float | None:
    mine, other = ours.get(key), theirs.get(key)
    return mine / other if mine and other else None


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
    present = [peer for peer in peers if peer.name not in contest.missing or contest.has(peer)]
    parts = [describe(contest.machine), f"standard library's SQLite {contest.machine['stdlib_sqlite']}", NOTE]
    parts.append(_settings(contest, present))
    if contest.missing:
        had = {peer.name for peer in present}
        lines = [
            f"  {name}: {reason}" + (" (its rows are of an earlier session)" if name in had else "")
            for name, reason in contest.missing.items()
        ]
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
            row.append("-" if value is None else cell(group, figure, value))
            if figure.less_is_better is not None:
                row.append(_mark(compare(contest, group, figure, peer, peers)))
        rows.append(row)
        notes += [f"{peer.name}: {note}" for kind, note in peer.notes.items() if kind and group.name.startswith(kind)]
    said = "\n".join(f"  {note}" for note in notes)
    return "\n".join(part for part in (group.title, table(header, rows), said) if part)


def cell(group: Group, figure: Figure, value: float) -> str:
    """Whoever was stopped before a queue was empty says so."""
    stopped = f", stopped after {group.cap:g} s" if figure.key == "undone" and value and group.cap is not None else ""
    return format(value, figure.form) + stopped


def _mark(found: Comparison | None) -> str:
    return "" if found is None else f"{found} {MARKS[found.verdict]}"


def _behind(found: Sequence[Comparison]) -> str:
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in MARKS}
    behind = sorted((one for one in found if one.verdict == "behind"), key=lambda one: one.group.name)
    rows = []
    for one in behind:
        figures = (format(value, one.figure.form) for value in (one.ours, one.theirs))
        rows.append([one.group.name, one.figure.title, one.peer.name, *figures, str(one)])
    summary = f"of {len(found)} comparisons: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if not rows:
        return summary
    return summary + "; behind:\n" + table(("rows", "figure", "peer", "prismq", "peer", "ours : theirs"), rows, left=3)
