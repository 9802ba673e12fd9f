"""What one queue did in one round with producers and workers, and what that comes to over the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np

from bench.accounting import Account, Row, account
from bench.journal import Operation, Outcome, Records, read_journals
from bench.latency import Latency, latencies
from bench.trace import Trace

KINDS = {"enqueue": Operation.ENQUEUE, "claim": Operation.CLAIM, "complete": Operation.COMPLETE}
Percentiles = dict[str, float]
PERCENTILES = ("p50", "p99", "p99_9", "max")
"""Fields of Latency, in milliseconds."""


@dataclass(frozen=True, slots=True)
class PairTurn:
    """What a side did in one round.

    `rates` are operations per second of each kind that ended inside the window, `latency` is of those that began in it.
    `waited` claims waited for a task, which their latency would show: they are not in `latency`. `busy` is how often
    SQLITE_BUSY reached a caller.
    """

    rates: dict[str, float]
    latency: dict[str, Latency]
    waited: int
    busy: int
    account: Account

    @classmethod
    def of(cls, trace: Trace, rows: Sequence[Row], lease_seconds: float) -> Self:
        records = read_journals(trace.journals)
        done = records[records["outcome"] == Outcome.DONE]
        within = done[(done["ended"] >= trace.start) & (done["ended"] < trace.stop)]
        begun = done[(done["intended"] >= trace.start) & (done["intended"] < trace.stop)]
        unwaited = [_without_waits(journal) for journal in trace.journals]
        latency = latencies(np.concatenate(unwaited), trace.start, trace.stop)
        timed = {name: latency[name] for name in KINDS}
        counts = {name: int(np.count_nonzero(within["operation"] == kind)) for name, kind in KINDS.items()}
        return cls(
            {name: count / (trace.stop - trace.start) for name, count in counts.items()},
            timed,
            len(begun) - sum(one.count for one in timed.values()),
            int(np.count_nonzero(records["outcome"] == Outcome.BUSY)),
            account(records, rows, lease_seconds),
        )

    @property
    def operations(self) -> float:
        """Per second, of all kinds."""
        return sum(self.rates.values())

    @property
    def longest(self) -> float:
        """Milliseconds of the longest call of any kind."""
        return max(latency.max for latency in self.latency.values())


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Medians over the turns of a side; `longest_of_all`, `waited`, `busy` and `astray` are of all turns together.

    Rates are operations per second, times milliseconds. `astray` tasks were lost, handed out twice, or are nobody's.
    """

    operations: float
    enqueued: float
    claimed: float
    completed: float
    longest: float
    longest_of_all: float
    latency: dict[str, Percentiles]
    waited: int
    busy: int
    astray: int

    @classmethod
    def of(cls, turns: Sequence[PairTurn]) -> Self:
        def middle(figure: Callable[[PairTurn], float]) -> float:
            return median(figure(turn) for turn in turns)

        return cls(
            operations=middle(lambda turn: turn.operations),
            enqueued=middle(lambda turn: turn.rates["enqueue"]),
            claimed=middle(lambda turn: turn.rates["claim"]),
            completed=middle(lambda turn: turn.rates["complete"]),
            longest=middle(lambda turn: turn.longest),
            longest_of_all=max(turn.longest for turn in turns),
            latency={
                name: {field: median(getattr(turn.latency[name], field) for turn in turns) for field in PERCENTILES}
                for name in KINDS
            },
            waited=sum(turn.waited for turn in turns),
            busy=sum(turn.busy for turn in turns),
            astray=sum(_astray(turn.account) for turn in turns),
        )


def _astray(found: Account) -> int:
    """A task that is none of these but more or less than it should be counts as one."""
    return len({*found.lost, *found.duplicated, *found.unasked}) or int(not found.balanced)


def _without_waits(journal: Path) -> Records:
    """What was done, but for the claims that followed one that had found nothing: they waited for a task."""
    records = read_journals([journal])
    tried = records[records["outcome"] != Outcome.BUSY]
    after_nothing = np.zeros(len(tried), bool)
    after_nothing[1:] = tried["outcome"][:-1] == Outcome.EMPTY
    waited = after_nothing & (tried["operation"] == Operation.CLAIM)
    done: Records = tried[(tried["outcome"] == Outcome.DONE) & ~waited]
    return done
