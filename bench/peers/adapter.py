"""What a peer must be able to do to be measured. Standard library only: every peer's interpreter imports this."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

Task: TypeAlias = dict[str, Any]
"""What is enqueued; its "n" is a number that no other task of the queue has."""
Claimed: TypeAlias = tuple[Task, Any]
"""A task as it was enqueued, and what the peer wants back to complete it."""

FILL_BATCH = 1_000
POLL_SECONDS = 0.01


class Adapter(ABC):
    """One process's use of a peer's queue in `folder`, every method as the peer's own documentation has it done.

    `pulls` is False where a worker can't ask for a task but is called with it: then `attend` is overridden, `claim` and
    `complete` are never called, and `completed` says what it can't see. `batches` is False where there is no enqueue of
    many in one transaction.
    """

    pulls = True
    batches = False

    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        """Around everything that others do in `folder`: for what has to be created first, or served meanwhile."""
        yield

    @abstractmethod
    def __init__(self, folder: Path, durability: str) -> None:
        """Open the queue; `durability`, "normal" or "full", means something only to peers that let one choose."""

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """Journal mode, synchronous and the like, read back from this process's own connection where possible."""

    @abstractmethod
    def enqueue(self, task: Task) -> None: ...

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        """All in one transaction."""
        raise NotImplementedError

    def claim(self) -> Claimed | None:
        """The next task, at once; None when there is none."""
        raise NotImplementedError

    def complete(self, handle: Any) -> None:
        raise NotImplementedError

    @abstractmethod
    def left(self) -> int:
        """Tasks that are not completed, claimed or not."""

    def completed(self) -> int:
        """Tasks that were completed so far; only where a worker can't see when that is."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None: ...

    def fill(self, tasks: Iterator[Task]) -> None:
        """Enqueue them all, as fast as it goes: nobody looks at the time."""
        while batch := list(islice(tasks, FILL_BATCH)):
            if self.batches:
                self.enqueue_many(batch)
            else:
                for task in batch:
                    self.enqueue(task)

    def wait(self, seconds: float) -> Claimed | None:
        """The next task, waited for so long in the peer's own way; here, for those that have none, by asking."""
        gives_up_at = time.perf_counter() + seconds
        while (claimed := self.claim()) is None and time.perf_counter() < gives_up_at:
            time.sleep(POLL_SECONDS)
        return claimed

    def attend(self, handle: Callable[[Task], None], over: Callable[[], bool]) -> None:
        """Work as an idle worker does: wait for tasks and have each handled, until it is over."""
        while not over():
            claimed = self.wait(0.5)
            if claimed is not None:
                task, held = claimed
                handle(task)
                self.complete(held)
