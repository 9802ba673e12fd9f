"""The cost of an operation does not grow with the queue: its plans, and the steps it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prismq import SCHEMA_STATEMENTS, SchedulingStrategy, TaskQueue, lottery, observe_sql, rollup, sql

OPEN = Callable[..., TaskQueue]
QUEUE, TYPES, KEYS = "ix_task_status_prio_time", "ix_task_type_status", "uq_task_idempotency"
LOTTERY, BY_ID = "ix_lottery", "INTEGER PRIMARY KEY"

# What each statement may reach task_queue and task_lottery by.
ACCESS = {
    "INSERT": set(),
    "INSERT_BLOCK": set(),
    "FIND_KEY": {KEYS},
    "RESERVE_IDS": set(),
    "RESERVED_IDS": set(),
    "DUE": {QUEUE},
    "PROMOTE": {QUEUE, BY_ID},
    "EXPIRED": {QUEUE},
    "COUNT_EXPIRED": set(),
    "REAP": {QUEUE, BY_ID},
    "END_LEASES": {QUEUE, BY_ID},
    "HELD_BY": {QUEUE},
    "CONSTRAINED": {QUEUE},
    "HEAD": {QUEUE},
    "CLAIM_PRIORITY": {QUEUE, BY_ID},
    "CLAIM_PRIORITY_TYPED": {TYPES, BY_ID},
    "CLAIM_FIFO": {QUEUE, BY_ID},
    "CLAIM_FIFO_TYPED": {TYPES, BY_ID},
    "CLAIM_LIFO": {QUEUE, BY_ID},
    "CLAIM_LIFO_TYPED": {TYPES, BY_ID},
    "CLAIM_LOTTERY": {LOTTERY, BY_ID},
    "CLAIM_LOTTERY_TYPED": {LOTTERY, BY_ID},
    "DRAW": {BY_ID},
    "TAKE": {BY_ID},
    "NORMALISE": {BY_ID},
    "KEEP_TRACE": set(),
    "TRACES": set(),
    "COMPLETE": {BY_ID},
    "FAIL": {BY_ID},
    "RENEW": {BY_ID},
    "NOT_HELD": {BY_ID},
    "UNCLAIM": {BY_ID},
    "UNCLAIM_ORPHAN": {BY_ID},
    "RECORD_GROUP": set(),
    "GROUP_DONE": set(),
    "GROUPS_DONE": set(),
    "FORGET_GROUPS": set(),
    "GROUPS_TO_FORGET": set(),
    "NEXT_TURNS": {QUEUE},
    "READY_KINDS": {TYPES, BY_ID},
    "GET": {BY_ID},
    "GET_HELD": {BY_ID},
    "LIST": {BY_ID},
    "LIST_OF_STATUS": {QUEUE, BY_ID},
    "CANCEL": {BY_ID},
    "REQUEUE": {BY_ID},
    "FAILED": {QUEUE},
    "LAST_FAILED": {QUEUE},
    "REQUEUE_MANY": {BY_ID},
    "KEEP_RETRY": set(),
    "RETRIES": set(),
    "REPORT_PROGRESS": {BY_ID},
    "REPORT_END": {BY_ID},
    "GET_REPORT": set(),
    "LOG": {BY_ID},
    "REGISTER_WORKER": set(),
    "BEAT": set(),
    "REMOVE_WORKER": set(),
    "NEWEST_ID": set(),
    "KEEP_IDS": set(),
    "COUNTERS": set(),
    "BEGIN_COUNTER": set(),
    "KEEP_COUNTER": set(),
    "KEPT_STATE": set(),
    "NOTE_ORIGIN": set(),
    "FORGET_ORIGIN": set(),
    "ORIGIN": set(),
    "HELD": {QUEUE},
    "COUNT_ON": {BY_ID},
}


def statements(module: Any) -> dict[str, str]:
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
    return {
        name: text
        for name, text in vars(module).items()
        if name[0] != "_" and isinstance(text, str) and text.split()[0] in verbs
    }


STATEMENTS = statements(sql)
OBSERVING = statements(observe_sql) | statements(rollup)
VIEWS = {
    statement.split()[5]: f"SELECT * FROM {statement.split()[5]}"
    for statement in SCHEMA_STATEMENTS
    if statement.startswith("CREATE VIEW")
}
# What may be scanned or sorted: the classes of a claim, of which there are few, and the JSON that describes one.
SMALL = {
    "claim",
    "class",
    "head",
    "counted",
    "need",
    "have",
    "item",
    "wanted",
    "json_each",
    "sqlite_sequence",
    "sqlite_schema",
    "16-ROW",
}
SMALL.add("CONSTANT")
SORTED = {name for name in STATEMENTS if name.startswith("CLAIM_")} | {"LIST_OF_STATUS"}


def plan(queue: TaskQueue, statement: str) -> list[str]:
    parameters = max((int(number) for number in re.findall(r"\?(\d+)", statement)), default=0)
    rows = queue.database.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * parameters)
    return [row["detail"] for row in rows]


def fill(queue: TaskQueue, count: int, **columns: str) -> None:
    """Rows from one statement; each column is an SQL expression over `n`."""
    values = {"type": "'t' || (n % 2)", "payload": "'{}'", "priority": "n % 5", **columns}
    queue.database.execute(
        f"""WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < ?)
            INSERT INTO task_queue ({", ".join(values)}) SELECT {", ".join(values.values())} FROM series""",
        (count,),
    )


@pytest.mark.parametrize("analysed", [False, True])
def test_every_statement_reaches_its_rows_by_the_index_made_for_it(tmp_path: Path, analysed: bool) -> None:
    assert set(STATEMENTS) == set(ACCESS)
    with TaskQueue(tmp_path / "queue.db") as queue:
        queue.claim("w", strategy="weighted_random")
        if analysed:  # with figures that speak against every index
            fill(queue, 2000, type="'same'", priority="1")
            queue.database.execute("ANALYZE")
        for name, statement in STATEMENTS.items():
            details = plan(queue, statement)
            used = set(
                re.findall(
                    r"(?:task_queue|task_lottery|lottery_class|class|kind|head) .*?(ix_\w+|uq_\w+|INTEGER PRIMARY KEY)",
                    "\n".join(details),
                )
            )
            assert used == ACCESS[name], (name, details)
            for detail in details:
                if detail.startswith("SCAN"):
                    # What is in a subquery is looked at by itself.
                    assert detail.split()[1] in SMALL or detail.startswith("SCAN (subquery-"), (name, details)
                assert "AUTOMATIC" not in detail, (name, details)
                assert "TEMP B-TREE" not in detail or name in SORTED, (name, details)


@pytest.mark.parametrize("analysed", [False, True])
def test_nothing_that_looks_at_the_queue_reads_through_it(tmp_path: Path, analysed: bool) -> None:
    """Finished tasks are reached by the index, from the watermark on; ready ones are counted in theirs, not read."""
    with TaskQueue(tmp_path / "queue.db") as queue:
        if analysed:
            fill(queue, 2000, type="'same'", priority="1")
            queue.database.execute("ANALYZE")
        assert len(VIEWS) == 5
        for name, statement in (OBSERVING | VIEWS).items():
            details = plan(queue, statement)
            for detail in details:
                if detail.startswith("SCAN task_queue"):  # ready tasks, each type in turn
                    assert detail.endswith("USING INDEX ix_task_type_status"), (name, details)
                assert not re.match(r"SCAN task_(rollup|times)\b", detail), (name, details)
                if detail.startswith("SCAN task_logs"):  # the newest first, up to a limit
                    assert name == "RECENT_LOGS"
                    assert "COVERING INDEX ix_logs_time" in detail
                if "phase=" in detail and "task_queue" in detail:
                    assert "ix_task_status_prio_time" in detail or "ix_task_type_status" in detail, (name, details)


def test_the_lotterys_backlog_is_read_in_order_of_ids(tmp_path: Path) -> None:
    with TaskQueue(tmp_path / "queue.db") as queue:
        queue.claim("w", strategy="weighted_random")
        for statement in (lottery._BACKFILL, lottery._CHUNK_END):
            assert any("INTEGER PRIMARY KEY (rowid>?" in detail for detail in plan(queue, statement))


# Steps of SQLite's virtual machine


def steps(queue: TaskQueue, work: Callable[[], Any]) -> int:
    """How many instructions SQLite runs for `work`."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    raw = queue.database.get_connection().apsw
    raw.set_progress_handler(step, 1)
    try:
        work()
    finally:
        raw.set_progress_handler(None, 1)
    return count


def costs(queue: TaskQueue) -> dict[str, int]:
    """The steps of every operation, on a queue that has something to claim."""
    cost: dict[str, int] = {}
    held = []

    def claim(**wanted: Any) -> None:
        task = queue.claim("w", **wanted)
        assert task is not None
        held.append(task)

    queue.claim("w", strategy="weighted_random")  # opens the lottery
    cost["enqueue"] = steps(queue, lambda: queue.enqueue("t0", priority=3))
    cost["enqueue with a key"] = steps(queue, lambda: queue.enqueue("t1", idempotency_key="k"))
    cost["enqueue a known key"] = steps(queue, lambda: queue.enqueue("t1", idempotency_key="k"))
    for strategy in SchedulingStrategy:
        for types in (None, "t1", ["t0", "t1", "t2"]):
            for capabilities in (None, {"gpu": True, "region": "eu"}):
                wanted: dict[str, Any] = {"strategy": strategy, "types": types, "capabilities": capabilities}
                cost[f"claim {wanted}"] = steps(queue, partial(claim, **wanted))
    cost["renew"] = steps(queue, lambda: queue.renew(held[0]))
    cost["complete"] = steps(queue, lambda: queue.complete(held[0]))
    cost["retry"] = steps(queue, lambda: queue.fail(held[1], "x"))
    cost["fail"] = steps(queue, lambda: queue.fail(held[2], "x", retry=False))
    cost["cancel"] = steps(queue, lambda: queue.cancel(held[3].id or 0))
    cost["requeue"] = steps(queue, lambda: queue.requeue(held[3].id or 0))
    for strategy in SchedulingStrategy:
        for _ in range(2):  # the second one knows that it is idle
            cost[f"idle {strategy}"] = steps(queue, partial(queue.claim, "w", types="absent", strategy=strategy))
    return cost


CROWDS: dict[str, dict[str, str]] = {
    "ready": {},
    "ready and choosy": {
        "compatibility": """CASE n % 3 WHEN 0 THEN '{"gpu":true}' WHEN 1 THEN '{"tpu":true}' ELSE '{}' END"""
    },
    "finished": {
        "status": "CASE n % 2 WHEN 0 THEN 'completed' ELSE 'dead_letter' END",
        "finished_at_utc": "datetime('now')",
    },
    "delayed": {"run_after_utc": "'2999-01-01 00:00:00.000'"},
    "running": {
        "status": "'processing'",
        "lease_until_utc": "'2999-01-01 00:00:00.000'",
        "locked_by": "'other'",
        "attempts": "1",
    },
    "used up": {"attempts": "5"},
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_no_operation_costs_more_because_the_queue_is_long(open_queue: OPEN, tmp_path: Path, crowd: str) -> None:
    def measured(count: int) -> dict[str, int]:
        queue = open_queue(tmp_path / f"{count}.db")
        fill(queue, 60)
        fill(queue, 60, compatibility="""'{"gpu":true}'""")
        fill(queue, count, **CROWDS[crowd])
        return costs(queue)

    short, long = measured(100), measured(10_000)
    assert short.keys() == long.keys()
    for name, cost in long.items():
        assert cost <= 1.1 * short[name] + 20, (name, short[name], cost)


def test_listing_and_requeuing_do_not_walk_through_the_history(
    open_queue: OPEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each status there are a few among many others, the oldest and newest ids too."""
    monkeypatch.setattr(rollup, "LAG_SECONDS", -60.0)
    few = {"queued": 3, "processing": 2, "completed": 3, "failed": 2, "dead_letter": 2, "paused": 1}

    def measured(count: int, crowd: str) -> dict[str, int]:
        queue = open_queue(tmp_path / f"{crowd}-{count}.db")
        moment = "'2999-01-01 00:00:00.000'"
        columns = {"lease_until_utc": moment, "locked_by": "'w'"}
        for status, number in few.items():
            fill(queue, number, status=f"'{status}'", finished_at_utc=moment, **columns)
        fill(queue, count, status=f"'{crowd}'", finished_at_utc="datetime('now', (n / 50 - 9000) || ' seconds')")
        while rollup.roll_up(queue.database):
            pass
        cost = {}
        for status in few:
            if status != crowd:
                parameters = (2**63 - 1, status, None, 20)
                rows = queue.database.execute(sql.LIST_OF_STATUS, parameters).fetchall()
                assert len(rows) == few[status]
                cost[status] = steps(queue, partial(queue.database.execute, sql.LIST_OF_STATUS, parameters))
        cost["requeue"] = steps(queue, queue.requeue_all) if crowd != "dead_letter" else 0
        return cost

    for crowd in ("completed", "dead_letter"):
        short, long = measured(2500, crowd), measured(20_000, crowd)
        for name, cost in long.items():
            assert cost <= 1.5 * short[name] + 200, (crowd, name, short[name], cost)


def test_fifty_types_in_the_queue_do_not_make_a_claim_dearer(open_queue: OPEN, tmp_path: Path) -> None:
    def measured(kinds: int) -> dict[str, int]:
        queue = open_queue(tmp_path / f"{kinds}.db")
        fill(queue, 120)
        fill(queue, 120, compatibility="""'{"gpu":true}'""")
        fill(queue, 3000, type=f"'kind ' || (n % {kinds})")
        return costs(queue)

    few, many = measured(1), measured(50)
    for name, cost in many.items():
        one_look_a_type = 50 * 25 if "WEIGHTED_RANDOM" in name else 0  # a lottery weighs the types, not their tasks
        assert cost <= 1.1 * few[name] + 20 + one_look_a_type, (name, few[name], cost)


def test_an_idle_claim_is_a_handful_of_seeks(queue: TaskQueue) -> None:
    fill(queue, 2000, run_after_utc="'2999-01-01 00:00:00.000'")
    queue.claim("w")
    assert steps(queue, lambda: queue.claim("w")) < 200
