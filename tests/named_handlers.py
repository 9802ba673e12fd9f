"""What the tests of handler configuration name in their files."""

from __future__ import annotations

from collections.abc import Iterator

from prismq import Task

CONSTANT = 7


def ok(task: Task) -> str:
    return "ok"


async def later(task: Task) -> str:
    return "later"


def stream(task: Task) -> Iterator[int]:
    yield 1
