"""What a search has found: in words, as the settings file, and as JSON for the report."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import describe
from bench.table import table
from bench.tune.candidates import BATCHES, Candidate, merged
from bench.tune.judge import CONFIDENCE, TARGETS, Gain, better, gains, worse
from bench.tune.record import Record
from bench.tune.search import BATCH, CONFIRM, OTHER, OTHER_DURABILITY, RUNGS, Found
from bench.tune.windows import NOT_KNOWN
from prismq import Settings
from prismq.settings import load_settings

ENOUGH = 0.9
"""Of the best rate: the smallest batch that reaches it is advised."""
TOML_WIDTH = 98
CONFIRMED = "all that was kept"
PROMISES = {
    "normal": "Durability normal: a crash of your processes loses nothing; a power cut or a crash of the system may"
    " take back the last moments' commits.",
    "full": "Durability full: nothing acknowledged is lost in a power cut, if the disk tells the truth.",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search and what came of it."""

    record: Record
    found: Found

    @property
    def settings(self) -> Settings:
        return merged(Settings(durability=self.record.durability), self.found.chosen)

    @property
    def confirmed(self) -> dict[str, Gain]:
        """Of what was kept against the defaults, in fresh rounds; no pairs when nothing was kept."""
        return gains(self.record.pairs(CONFIRMED, CONFIRM))

    def summary(self) -> str:
        pairs = max((len(self.record.pairs(one.label, *RUNGS)) for one in self.found.tried), default=0)
        return (
            f"{len(self.found.tried)} changes of one setting, each in pairs beside the defaults (up to {pairs} pairs),"
            f" {self.record.minutes:g} min, load: 2 producers and 2 workers."
        )

    def findings(self) -> list[str]:
        """Sentences."""
        said = []
        if self.found.chosen:
            names = ", ".join(candidate.label for candidate in self.found.chosen)
            better = ", ".join(f"{target.title} {_times(self.confirmed[target.key])}" for target in TARGETS)
            said.append(f"Better here than the defaults: {names}. In fresh rounds times better: {better}.")
        elif self.found.kept:
            names = ", ".join(candidate.label for candidate in self.found.kept)
            said.append(f"The defaults are best here: {names} looked better at first, fresh rounds did not confirm it.")
        else:
            said.append("The defaults are best here: no change was better beyond the noise and worse nowhere.")
        said += [*self._refused(), self._durability(), self._batches()]
        known = {name: fact for name, fact in self.record.windows.items() if fact != NOT_KNOWN}
        said += [f"{name.capitalize()}: {fact}." for name, fact in known.items()]
        return [sentence for sentence in said if sentence]

    def _refused(self) -> list[str]:
        """What was better in one way and not kept, as it was worse in another."""
        said = []
        for candidate in self.found.tried:
            found = gains(self.record.pairs(candidate.label, *RUNGS))
            good, bad = better(found), worse(found)
            if good and bad:
                for_it, against = (
                    ", ".join(f"{target.title} {_times(found[target.key])}" for target in targets)
                    for targets in (good, bad)
                )
                said.append(f"{candidate.label} was better in {for_it}; it was not kept for {against}.")
        return said

    def _durability(self) -> str:
        kept, other = self.record.durability, OTHER[self.record.durability]
        pairs = self.record.pairs(f"durability {other}", OTHER_DURABILITY)
        promise = f"{PROMISES[kept]} It was asked for and is not changed."
        if not pairs:
            return promise
        found = gains(pairs)
        rate, p99 = found["operations"].middle, 1 / found["p99_ms"].middle
        return f"{promise} With {other} instead: {rate:.2f} times the operations/s, a p99 {p99:.2f} times as long."

    def _batches(self) -> str:
        rates = self.batch_rates()
        if not rates:
            return ""
        best = max(rates.values())
        size = min(size for size, rate in rates.items() if rate >= ENOUGH * best)
        single = f"{rates[size] / rates[1]:.1f} times that of one by one"
        more = "; larger ones gain little" if size < max(rates) else ", the most of those tried"
        return f"Batches: {size:,} tasks a call reach {rates[size]:,.0f} tasks/s, {single}{more}."

    def batch_rates(self) -> dict[int, float]:
        """Medians, tasks per second by size."""
        rates = {}
        for size in BATCHES:
            pairs = self.record.pairs(f"{size}", BATCH)
            if pairs:
                rates[size] = median(figures["batch"] for figures, _ in pairs)
        return rates

    def as_json(self) -> dict[str, Any]:
        """Everything, the pairs too."""
        candidates = []
        for candidate in self.found.tried:
            found = gains(self.record.pairs(candidate.label, *RUNGS))
            main = found["operations"]
            candidates.append(
                {
                    "setting": candidate.topic,
                    "label": candidate.label,
                    "changes": dict(candidate.changes),
                    "pairs": main.pairs,
                    "gains": {key: asdict(gain) for key, gain in found.items()},
                    "kept": candidate in self.found.kept,
                }
            )
        return {
            "machine": self.record.machine,
            "windows": self.record.windows,
            "durability": self.record.durability,
            "minutes": self.record.minutes,
            "summary": self.summary(),
            "findings": self.findings(),
            "settings": self.settings.as_dict(),
            "chosen": [candidate.label for candidate in self.found.chosen],
            "confirmed": {key: asdict(gain) for key, gain in self.confirmed.items()} if self.found.kept else {},
            "candidates": candidates,
            "batches": self.batch_rates(),
            "entries": [asdict(entry) for entry in self.record.entries],
        }

    def as_toml(self) -> str:
        """The settings file: what differs from the defaults, and why."""
        facts = describe(self.record.machine).splitlines()
        lines = ["Settings of prismq for one machine, written by python -m bench tune.", *facts, "", self.summary()]
        lines += [
            "",
            *self.findings(),
            "",
            "Use it: TaskQueue(settings=...) or PRISMQ_SETTINGS=..., a path to this file.",
        ]
        wrapped = [part for line in lines for part in (textwrap.wrap(line, TOML_WIDTH) or [""])]
        text = "".join(f"# {line}".rstrip() + "\n" for line in wrapped) + "\n"
        text += f'durability = "{self.record.durability}"  # as asked for; never chosen for speed\n'
        defaults = Settings().as_dict()
        for candidate in self.found.chosen:
            found = gains(self.record.pairs(candidate.label, *RUNGS))
            evidence = "; ".join(f"{target.title} {_times(found[target.key])}" for target in TARGETS)
            text += f"\n# {evidence}\n"
            for name, value in candidate.changes.items():
                if value != defaults[name]:
                    text += f"{name} = {_toml(value)}  # default {_toml(defaults[name])}\n"
        if not self.found.chosen:
            text += "\n# Everything else: the defaults.\n"
        return text

    def write(self, out: Path) -> None:
        """The settings file, which is read once to see that it holds what it should."""
        out.write_text(self.as_toml(), encoding="utf-8")
        if load_settings(out, group_commit=self.settings.group_commit) != self.settings:
            raise AssertionError(f"{out} was written, but reads as other settings")


def render(outcome: Outcome) -> str:
    """The outcome as text."""
    header = ("change", "pairs", *(target.title for target in TARGETS), "")
    rows = [_row(outcome, candidate) for candidate in outcome.found.tried]
    if outcome.found.kept:
        rows += [[], _cells(CONFIRMED, outcome.confirmed, "confirmed" if outcome.found.chosen else "not confirmed")]
    note = (
        "times better than the defaults (above 1 is better, also of the p99): geometric mean of pairs that ran side by"
        f" side, and the\ninterval, of which all {len(TARGETS)} hold with {CONFIDENCE:.0%}; a change is kept when one"
        " is above 1 and no target is worse"
    )
    batches = [[f"{size:,}", f"{rate:,.0f}"] for size, rate in outcome.batch_rates().items()]
    said = "\n".join(f"- {sentence}" for sentence in outcome.findings())
    return "\n\n".join(
        (
            describe(outcome.record.machine),
            outcome.summary(),
            note,
            table(header, rows),
            table(("tasks a batch", "tasks/s"), batches),
            said,
        )
    )


def _row(outcome: Outcome, candidate: Candidate) -> list[str]:
    found = gains(outcome.record.pairs(candidate.label, *RUNGS))
    return _cells(candidate.label, found, "kept" if candidate in outcome.found.kept else "")


def _cells(label: str, found: dict[str, Gain], remark: str) -> list[str]:
    cells = (_times(found[target.key]) for target in TARGETS)
    return [label, f"{found['operations'].pairs}", *cells, remark]


def _times(gain: Gain) -> str:
    return f"{gain.middle:.2f} ({gain.low:.2f} to {gain.high:.2f})" if gain.pairs > 1 else f"{gain.middle:.2f}"


def _toml(value: Any) -> str:
    if value is None:
        return "0 for a TaskQueue"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
