"""One load on a fresh queue file, from the empty file to the account of every task."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from bench import accounting, order
from bench.accounting import Account, Row
from bench.actors import RETRY_SECONDS, claim, complete, enqueue, serve
from bench.crew import Crew
from bench.journal import Journal, Operation, Outcome, Records, read_journals
from bench.latency import Curve, Latency, durations, latencies
from bench.progress import live_line
from bench.scenario import PRIORITIES, Scenario
from bench.snapshot import Snapshot
from prismq import QueueDatabase, TaskQueue

WATCH_SECONDS = 0.02
DRAIN_TASKS = 10_000
DRAIN_TASKS_AT_LEAST = 1_000
DRAIN_WORKER = "drain"
FILL_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase measured. Shares are of the calls made, sizes in bytes."""

    name: str
    rate: float | None
    seconds: float
    latency: dict[str, Latency]
    calls: int
    busy: int
    empty_claims: int
    missed_arrivals: int
    kills: int
    account: Account
    has_order: bool
    passed_over: int
    drained: int
    out_of_place: int
    wal_bytes: int
    database_bytes: int
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def busy_share(self) -> float:
        return self.busy / self.calls if self.calls else 0.0

    @property
    def order_violations(self) -> int:
        return self.passed_over + self.out_of_place

    @property
    def capacity(self) -> float:
        """Tasks per second that went all the way through."""
        return min(self.latency["enqueue"].rate, self.latency["complete"].rate)


def run_phase(name: str, scenario: Scenario, folder: Path) -> Phase:
    """Run `scenario` in `folder`, which must not exist; raises CrewError when one of its processes fails."""
    folder.mkdir()
    database = folder / "queue.db"
    own = folder / "drain.journal"
    with scenario.open(database) as queue, Journal(own) as journal:
        _fill(queue, journal, scenario)
    with Crew(scenario, database, folder) as crew:
        crew.begin()
        with Snapshot(database, scenario.durability) if scenario.held else nullcontext() as snapshot:
            wal_bytes = _watch(name, scenario, crew, folder / "queue.db-wal", snapshot)
        start = crew.board.start
        crew.finish()
    queue = scenario.open(database)
    with Journal(own) as journal:
        if crew.kills:
            _recover(queue, journal, database, scenario)
        if not scenario.has_order:
            time.sleep(scenario.delay_seconds + RETRY_SECONDS)  # so that all are due
        _top_up(queue, journal, database, scenario)
        expected = order.file_order(read_rows(database))[:DRAIN_TASKS]
        claimed = _drain(queue, journal, scenario, len(expected))
    queue.close()
    rows = read_rows(database)
    records = read_journals([*crew.journals, own])
    return Phase(
        name=name,
        rate=scenario.rate,
        seconds=scenario.seconds,
        latency=latencies(records, start, start + scenario.seconds),
        calls=int(np.count_nonzero(records["outcome"] != Outcome.MISSED)),
        busy=_count(records, Outcome.BUSY),
        empty_claims=_count(records, Outcome.EMPTY),
        missed_arrivals=_count(records, Outcome.MISSED),
        kills=crew.kills,
        account=accounting.account(records, rows, scenario.lease_seconds),
        has_order=scenario.has_order,
        passed_over=order.passed_over(records, rows) if scenario.has_order else 0,
        drained=len(claimed),
        out_of_place=order.out_of_place(claimed, expected) if scenario.has_order else 0,
        wal_bytes=wal_bytes,
        database_bytes=database.stat().st_size,
        curves={name: Curve.of(taken) for name, taken in durations(records, start, start + scenario.seconds).items()},
    )


def _count(records: Records, outcome: Outcome) -> int:
    return int(np.count_nonzero(records["outcome"] == outcome))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _watch(label: str, scenario: Scenario, crew: Crew, wal: Path, snapshot: Snapshot | None = None) -> int:
    """Stay with the crew until the window closes, killing when it is time; returns the largest WAL seen.

    The snapshot is taken after a third of the window, and given up after another.

    The WAL is looked at by name only: closing a descriptor of it would drop this process's POSIX locks on it.
    """
    start, stop = crew.board.start, crew.board.stop
    kill_at = start + scenario.kill_seconds if scenario.kill_seconds else stop
    largest = 0
    with live_line(label, scenario.seconds) as update:
        while (now := time.perf_counter()) < stop:
            crew.check()
            if snapshot is not None:
                snapshot.keep(scenario.seconds / 3 <= now - start < scenario.seconds * 2 / 3)
            if now >= kill_at:
                crew.kill_worker()
                kill_at += scenario.kill_seconds or 0.0
            largest = max(largest, _size(wal))
            counts = crew.board.counts()
            enqueued, completed = sum(counts[: scenario.producers]), sum(counts[scenario.producers :])
            update(now - start, f"{enqueued:,} enqueued, {completed:,} completed, WAL {largest / 1e6:.1f} MB")
            time.sleep(WATCH_SECONDS)
    return largest


def _recover(queue: TaskQueue, journal: Journal, database: Path, scenario: Scenario) -> None:
    """Finish everything, waiting for the leases of the killed to run out."""
    deadline = time.perf_counter() + 10 * scenario.lease_seconds + 10
    while time.perf_counter() < deadline:
        while serve(queue, journal, DRAIN_WORKER, scenario.lease_seconds):
            deadline = time.perf_counter() + 10 * scenario.lease_seconds + 10
        if not any(row.status in ("queued", "processing") for row in read_rows(database)):
            return
        time.sleep(0.05)


def _fill(queue: TaskQueue, journal: Journal, scenario: Scenario) -> None:
    """The backlog, enqueued in batches: all records of a batch have its times."""
    kinds = scenario.kinds()
    for first in range(0, scenario.backlog, FILL_BATCH):
        numbers = range(first, min(first + FILL_BATCH, scenario.backlog))
        tasks = [asdict(kinds[number % len(kinds)]) | {"priority": _priority(number)} for number in numbers]
        started = time.perf_counter()
        ids = queue.enqueue_many(tasks)
        ended = time.perf_counter()
        for number, task_id in zip(numbers, ids, strict=True):
            priority = _priority(number)
            journal.write(Operation.ENQUEUE, Outcome.DONE, started, started, ended, task_id, 0, priority)


def _priority(number: int) -> int:
    return PRIORITIES[number % len(PRIORITIES)]


def _top_up(queue: TaskQueue, journal: Journal, database: Path, scenario: Scenario) -> None:
    """Make sure that there is something to drain in order."""
    queued = sum(row.status == "queued" for row in read_rows(database))
    for number in range(DRAIN_TASKS_AT_LEAST - queued):
        enqueue(queue, journal, scenario.payload(), number, time.perf_counter())


def _drain(queue: TaskQueue, journal: Journal, scenario: Scenario, tasks: int) -> list[int]:
    """Claim and complete up to `tasks` tasks as one worker; returns their ids in the order they came."""
    claimed: list[int] = []
    while len(claimed) < tasks and (task := claim(queue, journal, DRAIN_WORKER, scenario.lease_seconds)):
        assert task.id is not None
        claimed.append(task.id)
        complete(queue, journal, task)
    return claimed


def read_rows(database: Path) -> list[Row]:
    """Every task of the file, read through the engine."""
    reader = QueueDatabase(str(database))
    rows = reader.execute("SELECT id, priority, status, attempts FROM task_queue").fetchall()
    reader.close()
    return [Row(*row) for row in rows]
