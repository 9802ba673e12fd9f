"""Which task a worker gets, when, and what a claim changes."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import InvalidTaskError, QueueDatabase, SchedulingStrategy, Task, TaskQueue, UnsupportedEnvironmentError

OPEN = Callable[..., TaskQueue]
STRATEGIES = [strategy.value for strategy in SchedulingStrategy]
ORDERED = [strategy for strategy in STRATEGIES if strategy != "weighted_random"]


def taken(task: Task | None) -> int | None:
    return None if task is None else task.id


def drain(queue: TaskQueue, **wanted: Any) -> list[int | None]:
    """All ids a lone worker gets, one claim after another."""
    order = []
    while (task := queue.claim("w", **wanted)) is not None:
        order.append(task.id)
    return order


def soon(milliseconds: int) -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=milliseconds)


def wait_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.005)


def raw_task(queue: TaskQueue, run_after: str) -> int:
    """A task from plain SQL whose `run_after_utc` is the given SQL expression."""
    sql = f"INSERT INTO task_queue (type, payload, priority, run_after_utc) VALUES ('raw', '{{}}', 100, {run_after})"
    task_id = queue.database.execute(sql).lastrowid
    assert task_id is not None
    return task_id


# Order

PRIORITIES = [100, 5, -3, 100, 0, 5, 1000, -3, 2**63 - 1, -(2**63), 100]


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("strategy", ORDERED)
def test_one_worker_gets_the_tasks_in_the_strategys_order(queue: TaskQueue, strategy: str, batch: int) -> None:
    ids = queue.enqueue_many([{"type": f"t{p % 3}", "priority": p} for p in PRIORITIES])
    expected = {
        "fifo": ids,
        "lifo": ids[::-1],
        "priority": [task_id for _, task_id in sorted(zip(PRIORITIES, ids, strict=True))],
    }[strategy]
    order: list[int | None] = []
    while tasks := queue.claim_many("w", batch, strategy=strategy):
        order += [task.id for task in tasks]
    assert order == expected


@pytest.mark.parametrize("types", [None, ["t0", "t1", "t2"], ["t2", "t0"]])
@pytest.mark.parametrize("strategy", ORDERED)
def test_the_order_holds_across_types_and_classes_of_needs(
    queue: TaskQueue, strategy: str, types: list[str] | None
) -> None:
    offered = {"region": "eu", "gpu": True}
    needs: list[dict[str, Any]] = [{}, {"region": "eu"}, {"gpu": True}, {"region": "us"}, {}, {"gpu": True}]
    tasks = [
        {"type": f"t{n % 3}", "priority": [7, 1, 7, 3][n % 4], "compatibility": needs[(n * 5) % len(needs)]}
        for n in range(60)
    ]
    ids = queue.enqueue_many(tasks)
    mine = [
        (task["priority"], task_id)
        for task, task_id in zip(tasks, ids, strict=True)
        if (types is None or task["type"] in types) and task["compatibility"] != {"region": "us"}
    ]
    expected = {
        "fifo": sorted(task_id for _, task_id in mine),
        "lifo": sorted((task_id for _, task_id in mine), reverse=True),
        "priority": [task_id for _, task_id in sorted(mine)],
    }[strategy]
    assert drain(queue, strategy=strategy, types=types, capabilities=offered) == expected


def test_a_better_task_that_arrives_later_goes_first(queue: TaskQueue) -> None:
    first = queue.enqueue("t", priority=5)
    assert taken(queue.claim("w")) == first
    second, third = queue.enqueue("t", priority=5), queue.enqueue("t", priority=4)
    assert [taken(queue.claim("w")), taken(queue.claim("w"))] == [third, second]


def test_a_changed_priority_counts_at_the_next_claim(queue: TaskQueue) -> None:
    first, second = queue.enqueue("t", priority=1), queue.enqueue("t", priority=2)
    queue.database.execute("UPDATE task_queue SET priority = 3 WHERE id = ?", (first,))
    assert drain(queue) == [second, first]


@pytest.mark.parametrize("strategy", [*SchedulingStrategy, "FIFO", "Priority"])
def test_a_strategy_is_an_enumeration_member_or_its_name(queue: TaskQueue, strategy: str) -> None:
    task_id = queue.enqueue("t")
    assert taken(queue.claim("w", strategy=strategy)) == task_id


# Types


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_types_limit_what_is_claimed(queue: TaskQueue, strategy: str) -> None:
    a, b, c = (queue.enqueue(kind) for kind in ("a", "b", "c"))
    assert queue.claim("w", types=["unknown"], strategy=strategy) is None
    assert taken(queue.claim("w", types="b", strategy=strategy)) == b
    assert queue.claim("w", types=["b"], strategy=strategy) is None
    assert {task.id for task in queue.claim_many("w", 9, types=("c", "a", "c", "unknown"), strategy=strategy)} == {a, c}
    assert queue.claim("w", strategy=strategy) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_type_is_matched_exactly_whatever_it_contains(queue: TaskQueue, strategy: str) -> None:
    names = ["a", "A", "a ", "ä", "a\u0308", 'a"b', "a'b", "a\\b", "%", "1", "true", "null", "[]", "\U0001f600"]
    ids = {name: queue.enqueue(name) for name in names}
    for name in names:
        assert [task.id for task in queue.claim_many("w", 99, types=[name], strategy=strategy)] == [ids[name]]


# Capabilities

FITS: list[tuple[Any, Any]] = [
    # (what the task needs, what the worker offers)
    ({}, {}),
    ({}, {"anything": 1}),
    ({"k": "v"}, {"k": "v"}),
    ({"k": "v"}, {"k": "v", "more": 1}),
    ({"k": "v", "l": 1}, {"l": 1, "k": "v"}),
    ({"k": "v"}, {"k": ["u", "v"]}),
    ({"k": ["u", "v"]}, {"k": "v"}),
    ({"k": ["u", "v"]}, {"k": ["u", "v"]}),
    ({"k": ["u"]}, {"k": [["u"], "v"]}),
    ({"k": [["v"], "u"]}, {"k": ["v"]}),
    ({"k": []}, {"k": []}),
    ({"k": 1}, {"k": 1}),
    ({"k": 1}, {"k": 1.0}),
    ({"k": 1.5}, {"k": [1, 1.5]}),
    ({"k": [1, 2]}, {"k": 2.0}),
    ({"k": 2**53}, {"k": 2**53}),
    ({"k": True}, {"k": True}),
    ({"k": False}, {"k": [True, False]}),
    ({"k": [None, 1]}, {"k": None}),
    ({"k": None}, {"k": None}),
    ({"k": None}, {"k": [None]}),
    ({"k": ""}, {"k": ""}),
    ({"k": {"a": 1, "b": 2}}, {"k": {"b": 2, "a": 1}}),
    ({"k": {"a": 1}}, {"k": [{"a": 1}]}),
    ({"k": [{"a": 1}, "x"]}, {"k": {"a": 1}}),
    ({"": "empty key"}, {"": "empty key"}),
    ({"$.k[0]": 1}, {"$.k[0]": 1}),
    ({'q"\\\n': 'q"\\\n'}, {'q"\\\n': 'q"\\\n'}),
    ({"ключ": "ü"}, {"ключ": ["ü"]}),
]
MISSES: list[tuple[Any, Any]] = [
    ({"k": "v"}, {}),
    ({"k": "v"}, {"other": "v"}),
    ({"k": "v"}, {"k": "w"}),
    ({"k": "v"}, {"K": "v"}),
    ({"k": "v"}, {"k": "V"}),
    ({"k": "v", "l": 1}, {"k": "v"}),
    ({"k": "v", "l": 1}, {"k": "v", "l": 2}),
    ({"k": "v"}, {"k": []}),
    ({"k": "v"}, {"k": ["u", "w"]}),
    ({"k": ["u", "v"]}, {"k": "w"}),
    ({"k": ["u", "v"]}, {"k": ["v", "u"]}),
    ({"k": ["u"]}, {"k": ["u", "v"]}),
    ({"k": []}, {"k": "v"}),
    ({"k": 1}, {"k": "1"}),
    ({"k": "1"}, {"k": 1}),
    ({"k": 1}, {"k": True}),
    ({"k": True}, {"k": 1}),
    ({"k": 0}, {"k": False}),
    ({"k": False}, {"k": 0}),
    ({"k": True}, {"k": [1, "true"]}),
    ({"k": [1]}, {"k": True}),
    ({"k": "true"}, {"k": True}),
    ({"k": None}, {}),
    ({"k": None}, {"k": "null"}),
    ({"k": "null"}, {"k": None}),
    ({"k": None}, {"k": 0}),
    ({"k": None}, {"k": False}),
    ({"k": ""}, {"k": None}),
    ({"k": {"a": 1}}, {"k": {"a": 2}}),
    ({"k": {"a": 1}}, {"k": {"a": 1, "b": 2}}),
    ({"k": {"a": 1}}, {"k": '{"a":1}'}),
    ({"k": "[1]"}, {"k": [1]}),
    ({"k": 2**53}, {"k": 2**53 + 1}),
]


def test_a_task_fits_a_worker_that_meets_every_one_of_its_needs(queue: TaskQueue) -> None:
    for strategy in STRATEGIES:
        for needs, offers in FITS:
            task_id = queue.enqueue("t", compatibility=needs)
            wanted: dict[str, Any] = {"capabilities": offers, "strategy": strategy}
            for types in (None, "t"):
                task = queue.claim("w", types=types, **wanted)
                assert taken(task) == task_id, (strategy, types, needs, offers)
                assert task is not None
                if types is None:
                    queue.fail(task, "again", delay_seconds=0)
                else:
                    queue.complete(task)


def test_a_task_stays_for_others_when_one_need_is_not_met(queue: TaskQueue) -> None:
    for strategy in STRATEGIES:
        for needs, offers in MISSES:
            task_id = queue.enqueue("t", compatibility=needs)
            wanted: dict[str, Any] = {"capabilities": offers, "strategy": strategy}
            for types in (None, "t"):
                assert queue.claim("w", types=types, **wanted) is None, (strategy, types, needs, offers)
            queue.cancel(task_id)


def test_a_worker_that_offers_nothing_gets_only_tasks_that_need_nothing(queue: TaskQueue) -> None:
    queue.enqueue("t", compatibility={"gpu": True}, priority=0)
    plain = queue.enqueue("t")
    offers: list[dict[str, Any] | None] = [None, {}]
    for capabilities in offers:
        task = queue.claim("w", capabilities=capabilities)
        assert taken(task) == plain
        assert task is not None
        queue.fail(task, "again", delay_seconds=0)


def test_the_spelling_of_needs_from_plain_sql_does_not_matter(queue: TaskQueue) -> None:
    for text in ('{ "b" : [1, 2] , "a":"\\u00e9" }', '{"a":"é","b":[1,2]}', "{ }"):
        queue.database.execute("INSERT INTO task_queue (type, payload, compatibility) VALUES ('t', '{}', ?)", (text,))
        assert queue.claim("w", capabilities={"a": ["é"], "b": 2}) is not None, text


@pytest.mark.parametrize("strategy", ORDERED)
def test_choosy_tasks_at_the_head_do_not_block_the_others(queue: TaskQueue, strategy: str) -> None:
    def choosy(n: int) -> dict[str, Any]:
        return {"type": f"t{n % 3}", "priority": 0, "compatibility": {"model": n % 20}}

    queue.enqueue_many([choosy(n) for n in range(300)])
    mine = queue.enqueue_many([{"type": "t0", "priority": 5}, {"type": "t1", "compatibility": {"model": 99}}])
    queue.enqueue_many([choosy(n) for n in range(300)])
    got = queue.claim_many("w", 1000, capabilities={"model": 99}, strategy=strategy)
    assert sorted(task.id or 0 for task in got) == mine
    assert len(queue.claim_many("w", 1000, capabilities={"model": [3, 4]}, strategy=strategy)) == 60


# Delayed tasks


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("types", [None, "t"])
def test_a_delayed_task_is_claimable_when_due_and_not_before(
    queue: TaskQueue, strategy: str, types: str | None
) -> None:
    due = soon(150)
    later = queue.enqueue("t", priority=-5, run_after=due, compatibility={"gpu": 1})
    now = queue.enqueue("t")
    wanted: dict[str, Any] = {"strategy": strategy, "types": types, "capabilities": {"gpu": 1}}
    assert drain(queue, **wanted) == [now]
    assert datetime.now(UTC) < due  # else this proves nothing
    wait_until(due)
    assert drain(queue, **wanted) == [later]


def test_a_claim_just_before_the_due_time_gets_nothing_and_one_just_after_it_does(queue: TaskQueue) -> None:
    due = soon(100)
    task_id = queue.enqueue("t", run_after=due)
    while (task := queue.claim("w")) is None:
        pass
    assert taken(task) == task_id
    assert task.processing_started_utc is not None
    assert task.run_after_utc is not None
    assert timedelta(0) <= task.processing_started_utc - task.run_after_utc < timedelta(seconds=1)


def test_a_delayed_task_that_has_become_due_takes_its_place_by_priority(queue: TaskQueue) -> None:
    due = soon(60)
    urgent = queue.enqueue("t", priority=1, run_after=due)
    lazy = queue.enqueue("t", priority=9, run_after=due)
    middle = queue.enqueue("t", priority=5)
    wait_until(due)
    assert drain(queue) == [urgent, middle, lazy]


def test_a_flood_of_tasks_due_at_once_is_claimed_completely(queue: TaskQueue) -> None:
    ids = queue.enqueue_many([{"type": "t", "run_after": soon(40)} for _ in range(300)])
    wait_until(soon(50))
    got: list[int] = []
    while tasks := queue.claim_many("w", 50):
        got += [task.id or 0 for task in tasks]
    assert sorted(got) == ids


@pytest.mark.parametrize(
    "shape",
    [
        "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', {0})",
        "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', {0})",
        "strftime('%Y-%m-%dT%H:%M:%f', 'now', {0})",
        "strftime('%Y-%m-%d %H:%M:%f+05:30', 'now', '+330 minutes', {0})",
        "strftime('%Y-%m-%dT%H:%M:%f+13:00', 'now', '+780 minutes', {0})",
        "strftime('%Y-%m-%dT%H:%M:%f-11:00', 'now', '-660 minutes', {0})",
        "strftime('%Y-%m-%d %H:%M:%S-11:00', 'now', '-660 minutes', {0})",
        "strftime('%Y-%m-%dT%H:%M-11:00', 'now', '-660 minutes', {0})",
        "datetime('now', {0})",
        "julianday('now', {0})",
    ],
)
def test_any_spelling_of_a_time_by_plain_sql_is_claimable_when_due_and_not_before(queue: TaskQueue, shape: str) -> None:
    hour_ago = raw_task(queue, shape.format("'-1 hours'"))
    raw_task(queue, shape.format("'+1 hours'"))
    assert drain(queue) == [hour_ago]
    assert drain(queue) == []
    stored = queue.get(hour_ago)
    assert stored is not None
    assert stored.run_after_utc is not None
    assert timedelta(minutes=58) < datetime.now(UTC) - stored.run_after_utc < timedelta(minutes=62)


def test_a_delayed_task_with_another_spelling_of_its_time_comes_when_due(queue: TaskQueue) -> None:
    due = soon(120)
    raw_task(queue, f"'{due.astimezone(UTC).isoformat(timespec='milliseconds')}'")
    assert queue.claim("w") is None
    wait_until(due)
    assert queue.claim("w") is not None


def test_a_due_time_that_is_no_time_means_now_and_not_never(queue: TaskQueue) -> None:
    ids = {raw_task(queue, value) for value in ("'tomorrow'", "''", "'0000'", "0", "'2030-13-45 00:00:00'")}
    assert set(drain(queue)) == ids


def test_plain_sql_can_put_a_task_off_and_bring_it_forward(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    postpone = "UPDATE task_queue SET run_after_utc = datetime('now', '{}')"
    queue.database.execute(postpone.format("+1 hour"))
    assert queue.claim("w") is None
    queue.database.execute(postpone.format("-1 second"))
    assert taken(queue.claim("w")) == task_id


# What a claim changes


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_claim_changes_status_lease_and_attempt_together_and_returns_the_row_as_it_is(
    queue: TaskQueue, strategy: str
) -> None:
    queue.enqueue("video", {"n": 1}, priority=7, compatibility={"gpu": 1}, idempotency_key="k", max_attempts=3)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    task = queue.claim("worker-1", strategy=strategy, lease_seconds=30, capabilities={"gpu": 1})
    after = datetime.now(UTC)
    assert task is not None
    assert task.id is not None
    assert queue.get(task.id) == task
    assert (task.status, task.locked_by, task.attempts, task.max_attempts) == ("processing", "worker-1", 1, 3)
    assert (task.type, task.priority, task.get_payload_dict(), task.idempotency_key) == ("video", 7, {"n": 1}, "k")
    assert task.get_compatibility_dict() == {"gpu": 1}
    started = task.processing_started_utc
    assert started is not None
    assert before <= started <= after
    assert task.reserved_at_utc == task.updated_at_utc == started
    assert task.lease_until_utc == started + timedelta(seconds=30)
    assert task.finished_at_utc is None
    assert task.created_at_utc is not None
    assert task.created_at_utc.tzinfo is UTC


def test_attempts_count_claims_and_the_last_error_comes_with_the_next_one(queue: TaskQueue) -> None:
    task_id = queue.enqueue("t")
    for attempt in (1, 2, 3):
        task = queue.claim(f"w{attempt}")
        assert task is not None
        assert (task.id, task.attempts, task.locked_by) == (task_id, attempt, f"w{attempt}")
        assert task.error_message == (None if attempt == 1 else f"failure {attempt - 1}")
        assert queue.get(task_id) == task
        queue.fail(task, f"failure {attempt}", delay_seconds=0)


def test_a_claimed_task_is_not_claimed_again(queue: TaskQueue) -> None:
    queue.enqueue("t")
    assert queue.claim("w1") is not None
    assert queue.claim("w2") is None
    assert queue.claim_many("w2", 5) == []


def test_claim_many_takes_at_most_the_limit_with_one_lease_in_one_transaction(queue: TaskQueue, path: Path) -> None:
    ids = queue.enqueue_many([{"type": "t", "payload": {"n": n}} for n in range(10)])
    watcher = apsw.Connection(str(path))
    version = watcher.pragma("data_version")
    tasks = queue.claim_many("w", 7, lease_seconds=5)
    assert watcher.pragma("data_version") == version + 1
    watcher.close()
    assert [task.id for task in tasks] == ids[:7]
    assert [task.get_payload_dict()["n"] for task in tasks] == list(range(7))
    assert len({task.lease_until_utc for task in tasks}) == 1
    assert all(queue.get(task.id or 0) == task for task in tasks)
    assert len(queue.claim_many("w", 7)) == 3


def test_claim_many_reads_texts_of_every_size(queue: TaskQueue) -> None:
    payloads = [{"x": "ü" * size} for size in (0, 1, 100, 70_000, 3, 1_000_000, 0)]
    queue.enqueue_many({"type": "t", "payload": payload, "priority": n} for n, payload in enumerate(payloads))
    assert [task.get_payload_dict() for task in queue.claim_many("w", 100)] == payloads


def test_a_task_whose_attempts_are_used_up_is_never_claimed(queue: TaskQueue) -> None:
    insert = "INSERT INTO task_queue (type, payload, attempts, max_attempts, run_after_utc) VALUES ('t', '{}', ?, ?, ?)"
    for attempts, most in ((5, 5), (7, 5), (1, 0), (0, 0)):
        for run_after in ("2001-01-01 00:00:00", "2001-01-01T00:00:00+00:00"):
            queue.database.execute(insert, (attempts, most, run_after))
    for strategy in STRATEGIES:
        for types in (None, "t"):
            assert queue.claim("w", strategy=strategy, types=types) is None
    queue.database.execute("UPDATE task_queue SET max_attempts = attempts + 1 WHERE id = 1")
    assert taken(queue.claim("w")) == 1


def test_a_text_with_nul_from_plain_sql_survives_a_claim(queue: TaskQueue) -> None:
    def insert(kind: str, error: str | None, key: str | None) -> None:
        queue.database.execute(
            "INSERT INTO task_queue (type, payload, error_message, idempotency_key) VALUES (?, '{}', ?, ?)",
            (kind, error, key),
        )

    rows = [("a\0b", None, None), ("plain", "one\0two\0", None), ("\0", "\0\0", "k\0"), ("plain", None, "key")]
    for row in rows:
        insert(*row)
    assert [(t.type, t.error_message, t.idempotency_key) for t in queue.claim_many("w", 2)] == rows[:2]
    for row in rows[2:]:
        task = queue.claim("w")
        assert task is not None
        assert (task.type, task.error_message, task.idempotency_key) == row
        assert (task.status, task.locked_by, task.attempts) == ("processing", "w", 1)
        assert queue.get(task.id or 0) == task
        queue.complete(task)


# Transactions


def test_a_claim_joins_the_callers_transaction(open_queue: OPEN, path: Path) -> None:
    database = QueueDatabase(path)
    queue = open_queue(database)
    ids = queue.enqueue_many([{"type": "t"}, {"type": "t"}, {"type": "t"}])
    with pytest.raises(ZeroDivisionError), database.transaction():
        assert taken(queue.claim("w")) == ids[0]
        assert [task.id for task in queue.claim_many("w", 5)] == ids[1:]
        assert queue.claim("w") is None
        raise ZeroDivisionError
    rows = database.execute("SELECT status, attempts, locked_by FROM task_queue").fetchall()
    assert [tuple(row) for row in rows] == [("queued", 0, None)] * 3
    with database.transaction():
        task = queue.claim("w")
        assert task is not None
        queue.complete(task)
    assert [task.id for task in queue.claim_many("w", 5)] == ids[1:]
    database.close()


def test_a_task_enqueued_in_a_transaction_can_be_claimed_in_it(queue: TaskQueue) -> None:
    assert queue.claim("w") is None
    with queue.database.transaction():
        task_id = queue.enqueue("t")
        assert taken(queue.claim("w")) == task_id


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("types", [None, ["t"]])
def test_an_idle_worker_needs_no_write_lock_and_writes_nothing(
    queue: TaskQueue, path: Path, strategy: str, types: list[str] | None
) -> None:
    queue.enqueue("t", run_after=timedelta(hours=1))
    queue.enqueue("t", compatibility={"gpu": True})
    assert queue.claim("w", strategy=strategy, types=types) is None
    writer = apsw.Connection(str(path))
    version, changes = writer.pragma("data_version"), queue.database.get_connection().total_changes
    writer.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    for _ in range(20):
        assert queue.claim("w", strategy=strategy, types=types) is None
        assert queue.claim_many("w", 5, strategy=strategy, types=types) == []
    assert time.monotonic() - started < 2  # one wait for the lock is 5 s
    writer.execute("ROLLBACK")
    assert (writer.pragma("data_version"), queue.database.get_connection().total_changes) == (version, changes)
    writer.close()
    assert queue.claim("w", strategy=strategy, types=types, capabilities={"gpu": True}) is not None


def test_an_idle_worker_sees_a_new_task_at_its_next_claim(open_queue: OPEN) -> None:
    worker, producer = open_queue(), open_queue()
    for _ in range(3):
        assert worker.claim("w") is None
        assert worker.claim("w") is None
        task_id = producer.enqueue("t")
        assert taken(worker.claim("w")) == task_id


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"worker_id": ""}, "worker_id is empty"),
        ({"worker_id": "  "}, "worker_id is empty"),
        ({"worker_id": None}, "worker_id is None"),
        ({"worker_id": 5}, "worker_id is 5"),
        ({"worker_id": ["w"]}, "worker_id is ['w']"),
        ({"worker_id": "a\0b"}, "worker_id contains a NUL"),
        ({"worker_id": "\ud800"}, "worker_id contains half a surrogate pair"),
        ({"types": []}, "types is empty"),
        ({"types": ""}, "a type in types is empty"),
        ({"types": ["a", 5]}, "a type in types is 5"),
        ({"types": ["a", ["b"]]}, "a type in types is ['b']"),
        ({"types": ["a\0b"]}, "a type in types contains a NUL"),
        ({"types": 5}, "types"),
        ({"capabilities": ["gpu"]}, "capabilities is ['gpu']"),
        ({"capabilities": {"a": {1}}}, "capabilities can't be written as JSON"),
        ({"capabilities": {"a": float("nan")}}, "capabilities can't be written as JSON"),
        ({"capabilities": {"a": "\0"}}, "capabilities contains a NUL"),
        ({"strategy": "random"}, "strategy is 'random'; it must be one of 'fifo', 'lifo'"),
        ({"strategy": None}, "strategy is None"),
        ({"strategy": 1}, "strategy is 1"),
        ({"lease_seconds": 0}, "lease_seconds is 0"),
        ({"lease_seconds": -1}, "lease_seconds is -1"),
        ({"lease_seconds": float("nan")}, "lease_seconds is nan"),
        ({"lease_seconds": float("inf")}, "lease_seconds is inf"),
        ({"lease_seconds": "60"}, "lease_seconds is '60'"),
        ({"lease_seconds": True}, "lease_seconds is True"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": True}, "limit is True"),
        ({"limit": 1.0}, "limit is 1.0"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused_and_takes_nothing(
    queue: TaskQueue, arguments: dict[str, Any], message: str
) -> None:
    task_id = queue.enqueue("a")
    with pytest.raises(InvalidTaskError) as caught:
        queue.claim_many(**{"worker_id": "w", "limit": 1, **arguments})
    assert message in str(caught.value)
    assert taken(queue.claim("w")) == task_id


def test_a_time_that_nobody_can_read_does_not_lose_the_claim(queue: TaskQueue) -> None:
    queue.database.execute(
        "INSERT INTO task_queue (type, payload, created_at_utc) VALUES ('t', '{}', 1767225600), ('t', '{}', 'soon')"
    )
    claimed = queue.claim_many("w", 5)
    assert [task.created_at_utc for task in claimed] == [None, None]
    queue.complete_many(claimed)


def test_an_unknown_driver_is_refused_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match="'bogus' is unknown"):
        TaskQueue(path, driver="bogus")  # type: ignore[arg-type]
    monkeypatch.setenv("PRISMQ_DRIVER", "foo")
    with pytest.raises(UnsupportedEnvironmentError, match="'foo' is unknown"):
        TaskQueue(path)


@pytest.mark.parametrize("task_id", [2**63, -(2**70), True, "1", None])
def test_an_id_that_cannot_be_one_is_refused(queue: TaskQueue, task_id: Any) -> None:
    for operation in (queue.get, queue.cancel, queue.requeue):
        with pytest.raises(InvalidTaskError, match="task_id is"):
            operation(task_id)
