"""simplebroker, at least once as its documentation has it: move the message aside, delete it when it is done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from simplebroker import Queue as Broker
from simplebroker import QueueWatcher

from bench.peers.adapter import FILL_BATCH, Adapter, Claimed, Task


class Queue(Adapter):
    def __init__(self, folder: Path, durability: str) -> None:
        file = str(folder / "queue.db")
        self._tasks: Any = Broker("tasks", db_path=file, persistent=True)
        self._taken: Any = Broker("taken", db_path=file, persistent=True)

    def settings(self) -> Mapping[str, object]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        with self._tasks.sidecar() as session:
            return {name: next(iter(session.run(f"PRAGMA {name}", fetch=True)))[0] for name in names}

    def enqueue(self, task: Task) -> None:
        self._tasks.write(json.dumps(task))

    def claim(self) -> Claimed | None:
        found = self._tasks.move_one("taken", with_timestamps=True)
        return None if found is None else (json.loads(found[0]), found[1])

    def complete(self, handle: int) -> None:
        if not self._taken.delete(message_id=handle):
            raise LookupError("the message is gone")

    def attend(self, handle: Callable[[Task], None], over: Callable[[], bool]) -> None:
        stop = threading.Event()

        def stop_when_over() -> None:
            while not over():
                time.sleep(0.05)
            stop.set()

        threading.Thread(target=stop_when_over, daemon=True).start()
        watcher: Any = QueueWatcher(self._tasks, lambda body, number: handle(json.loads(body)), stop_event=stop)
        watcher.run()

    def fill(self, tasks: Iterator[Task]) -> None:
        while batch := list(islice(tasks, FILL_BATCH)):
            last = self._tasks.generate_timestamp()  # microseconds times 4096: there is room for a batch before it
            first = last - len(batch)
            self._tasks.insert_messages((json.dumps(task), first + place) for place, task in enumerate(batch))

    def left(self) -> int:
        return sum(int(queue.stats().pending) for queue in (self._tasks, self._taken))

    def close(self) -> None:
        self._tasks.close()
        self._taken.close()
