"""Who is measured, how each is installed, and what makes a figure of theirs another thing than ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.scenario import Durability


@dataclass(frozen=True, slots=True)
class Peer:
    """`durability` is that of the prismq side it is compared with; without requirements it runs in this interpreter.

    `notes` are about the rows of a group, "" all of them. `needs` says what a system must have for it to be installed.
    """

    name: str
    adapter: str
    durability: Durability
    requirements: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    needs: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.adapter == "ours"


POLLED = "has no waiting across processes: asked each 10 ms here"
HAND = "no lease is ever given back, no retries, no waiting"

CATALOGUE = (
    Peer("prismq", "ours", "normal"),
    Peer("prismq (full)", "ours", "full"),
    Peer("sqlite3 by hand", "by_hand", "normal", notes={"": HAND, "wake": POLLED}),
    Peer("sqlite3 by hand (full)", "by_hand", "full", notes={"": HAND, "wake": POLLED}),
    Peer(
        "honker",
        "honker",
        "normal",
        ("honker==0.5.0",),
        needs="on Linux it needs glibc 2.38",
        notes={"": "a completed task is deleted; no idempotency", "wake": "a thread asks for data_version each 1 ms"},
    ),
    Peer(
        "litequeue",
        "litequeue",
        "normal",
        ("litequeue==0.9",),
        notes={"": "no lease: the task of a dead worker stays locked; no retries, no batches", "wake": POLLED},
    ),
    Peer(
        "localqueue",
        "localqueue",
        "normal",
        ("localqueue==1.4.1",),
        notes={"wake": "asks after 10 ms, then 1.5 times as long up to 250 ms"},
    ),
    Peer(
        "taskito",
        "taskito",
        "normal",
        ("taskito==0.22.0",),
        notes={
            "": "no claims: its scheduler calls the handler; tuned to ask each 5 ms for 64 tasks (untuned: 50 ms, 1)",
            "pairs": "a worker's calls can't be seen, so no longest call; completed is what its stats say at the end",
            "drain": "a worker's calls can't be seen, so no longest call; unless all was drained the rate is by its"
            " stats at the end",
        },
    ),
    Peer(
        "huey",
        "huey",
        "full",
        ("huey==3.5.4",),
        notes={
            "": "at most once: a claim deletes the row, completing writes nothing; no batches",
            "wake": "asks after 100 ms, then 1.15 times as long up to 10 s",
        },
    ),
    Peer(
        "persist-queue",
        "persistqueue",
        "full",
        ("persist-queue==1.1.0",),
        notes={
            "": "not for several processes by its maintainers' word: two may claim the same task; auto_resume is off,"
            " as otherwise who opens it takes the others' tasks back; no lease, no batches",
            "wake": "its own waiting sees other processes' tasks each 10 s: asked each 10 ms here",
        },
    ),
    Peer(
        "simplebroker",
        "simplebroker",
        "full",
        ("simplebroker==8.7.2",),
        notes={
            "": "at least once by moving a message aside and deleting it; no lease, no retries, no batches",
            "wake": "its watcher claims at most once",
        },
    ),
    Peer(
        "redis stream",
        "redis",
        "normal",
        ("redis==8.1.0",),
        ("redis-server",),
        notes={
            "": "a server; appendfsync everysec: a power failure loses up to a second, as synchronous=NORMAL may",
            "wake": "idle CPU is the worker's and the server's",
        },
    ),
)
