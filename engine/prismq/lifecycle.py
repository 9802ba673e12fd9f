"""The life of a task: which status follows which, and by what."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Status = Literal["queued", "processing", "completed", "failed", "dead_letter"]

STATUSES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "dead_letter")
ENDED: Final[frozenset[Status]] = frozenset({"completed", "failed", "dead_letter"})
"""Out of these nothing leads but an operator's requeue."""


class Transition(NamedTuple):
    """`before` is None for a task that did not exist."""

    before: Status | None
    after: Status
    by: str


TRANSITIONS: Final = (
    Transition(None, "queued", "enqueue"),
    Transition("queued", "processing", "claim"),
    Transition("queued", "failed", "cancel"),
    Transition("processing", "completed", "complete"),
    Transition("processing", "processing", "renew"),
    Transition("processing", "queued", "release"),
    Transition("processing", "queued", "fail, attempts left"),
    Transition("processing", "dead_letter", "fail, attempts used up"),
    Transition("processing", "failed", "fail without retry"),
    Transition("processing", "queued", "lease expired, attempts left"),
    Transition("processing", "dead_letter", "lease expired, attempts used up"),
    Transition("processing", "failed", "cancel"),
    Transition("failed", "queued", "requeue"),
    Transition("dead_letter", "queued", "requeue"),
)
"""All there are; what is not here is refused and changes nothing."""


def mermaid() -> str:
    """The transitions as a Mermaid state diagram; docs/lifecycle.md shows it."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {before or '[*]'} --> {after}: {by}" for before, after, by in TRANSITIONS]
    lines += [f"    {status} --> [*]" for status in STATUSES if status in ENDED]
    return "\n".join(lines)
