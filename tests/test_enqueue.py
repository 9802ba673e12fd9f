"""What is stored when a task is enqueued, and what is refused before anything is."""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import InvalidTaskError, QueueDatabase, QueueDatabaseError, Task, TaskQueue

SPAWN = multiprocessing.get_context("spawn")
RAW_INSERT = "INSERT INTO task_queue (type, payload, priority) VALUES (?, ?, ?)"
OPEN = Callable[..., TaskQueue]


def stored(queue: TaskQueue, task_id: int) -> Task:
    task = queue.get(task_id)
    assert task is not None
    return task


def count(queue: TaskQueue) -> int:
    return int(queue.database.execute("SELECT count(*) FROM task_queue").fetchone()[0])


def ids(queue: TaskQueue) -> list[int]:
    return [row[0] for row in queue.database.execute("SELECT id FROM task_queue ORDER BY id")]


def raw_insert(queue: TaskQueue, kind: str = "raw") -> int:
    task_id = queue.database.execute(RAW_INSERT, (kind, "{}", 100)).lastrowid
    assert task_id is not None
    return task_id


def data_version(watcher: apsw.Connection) -> int:
    return int(watcher.pragma("data_version"))


# What is stored


def test_a_bare_task_has_the_documented_defaults(queue: TaskQueue) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    task = stored(queue, queue.enqueue("video"))
    assert (task.type, task.payload, task.compatibility, task.priority) == ("video", "{}", "{}", 100)
    assert (task.status, task.attempts, task.max_attempts) == ("queued", 0, 5)
    assert (task.locked_by, task.error_message, task.idempotency_key) == (None, None, None)
    assert (task.lease_until_utc, task.reserved_at_utc, task.processing_started_utc) == (None, None, None)
    assert task.finished_at_utc is None
    assert task.run_after_utc == task.created_at_utc == task.updated_at_utc
    assert task.created_at_utc is not None
    assert before <= task.created_at_utc <= datetime.now(UTC)


def test_every_argument_is_stored_as_given(queue: TaskQueue) -> None:
    due = datetime(2099, 1, 31, 13, 45, 0, 125000, tzinfo=UTC)
    task_id = queue.enqueue(
        "video",
        {"format": "mp4", "parts": [1, 2.5, None, True, {"deep": "ü"}]},
        priority=-7,
        run_after=due,
        max_attempts=2,
        compatibility={"region": "eu", "gpu": ["a", "b"]},
        idempotency_key="order-1",
    )
    task = stored(queue, task_id)
    assert (task.type, task.priority, task.max_attempts, task.run_after_utc) == ("video", -7, 2, due)
    assert task.get_payload_dict() == {"format": "mp4", "parts": [1, 2.5, None, True, {"deep": "ü"}]}
    assert task.get_compatibility_dict() == {"region": "eu", "gpu": ["a", "b"]}
    assert task.idempotency_key == "order-1"
    row = queue.database.execute("SELECT region, format FROM task_queue WHERE id = ?", (task_id,)).fetchone()
    assert tuple(row) == ("eu", "mp4")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (None, "{}"),
        ({}, "{}"),
        ([], "[]"),
        ([1, "two"], '[1,"two"]'),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (("a", "b"), '["a","b"]'),
        ({1: "integer key"}, '{"1":"integer key"}'),
        ('{"already" : "JSON"}', '{"already" : "JSON"}'),
        ("null", "null"),
        ('"text"', '"text"'),
    ],
)
def test_a_payload_is_an_object_to_serialise_or_json_text_that_is_kept(
    queue: TaskQueue, payload: Any, text: str
) -> None:
    assert stored(queue, queue.enqueue("t", payload)).payload == text


@pytest.mark.parametrize("priority", [0, 1, -1, 1000, 2**63 - 1, -(2**63)])
def test_any_64_bit_priority_is_stored_and_claimed(queue: TaskQueue, priority: int) -> None:
    task_id = queue.enqueue("t", priority=priority)
    task = queue.claim("w")
    assert task is not None
    assert (task.id, task.priority) == (task_id, priority)


def test_enumerations_serve_as_type_and_priority(queue: TaskQueue) -> None:
    class Kind(StrEnum):
        VIDEO = "video"

    class Urgency(IntEnum):
        HIGH = 3

    task = stored(queue, queue.enqueue(Kind.VIDEO, priority=Urgency.HIGH, max_attempts=Urgency.HIGH))
    assert (task.type, task.priority, task.max_attempts) == ("video", 3, 3)


@pytest.mark.parametrize(
    "text",
    [
        "ascii",
        "Grüße, 世界, مرحبا, 👩‍👩‍👧‍👦",
        'quote " backslash \\ slash / newline \n tab \t',
        "\\u0000 is only text here, and so is \\ud800",
        "e\u0301 is not é",
        "\u2028\u2029\ufeff\uffff\U0010ffff",
        "\x01\x1f\x7f",
    ],
)
def test_unicode_text_comes_back_unchanged(queue: TaskQueue, text: str) -> None:
    task_id = queue.enqueue(text, {"key " + text: [text]}, compatibility={text: text}, idempotency_key=text)
    for task in (stored(queue, task_id), queue.claim(text, capabilities={text: text}, types=[text])):
        assert task is not None
        assert (task.id, task.type, task.idempotency_key) == (task_id, text, text)
        assert task.get_payload_dict() == {"key " + text: [text]}
        assert task.get_compatibility_dict() == {text: text}
    assert stored(queue, task_id).locked_by == text


def test_json_text_may_write_characters_as_escapes(queue: TaskQueue) -> None:
    for text in ('"\\ud83d\\ude00"', '{"a":"\\u00e9 \\ud83d\\ude00"}', '["\\\\u0000", "\\\\ud800"]', '"\\u0041"'):
        assert stored(queue, queue.enqueue("t", text)).payload == text


@pytest.mark.parametrize("size", [1, 4 * 1024, 1024 * 1024])
def test_payloads_of_every_usual_size_come_back_unchanged(queue: TaskQueue, size: int) -> None:
    payload = "1" if size == 1 else json.dumps("x" * (size - 2))
    assert len(payload) == size
    task_id = queue.enqueue("t", payload)
    task = queue.claim("w")
    assert task is not None
    assert task.id == task_id
    assert task.payload == payload


def test_a_payload_of_64_mib_comes_back_unchanged(queue: TaskQueue) -> None:
    payload = json.dumps("ü" * (32 * 1024 * 1024 - 1), ensure_ascii=False)
    assert len(payload.encode()) == 64 * 1024 * 1024
    queue.enqueue("t", payload)
    task = queue.claim("w")
    assert task is not None
    assert task.payload == payload
    queue.complete(task)


def test_beyond_sqlites_size_limit_the_error_is_clear_and_nothing_is_written(queue: TaskQueue) -> None:
    queue.database.get_connection().apsw.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)
    with pytest.raises(QueueDatabaseError, match="too big") as caught:
        queue.enqueue("t", {"blob": "x" * 100_001})
    assert isinstance(caught.value, sqlite3.DataError)
    with pytest.raises(QueueDatabaseError, match="too big"):
        queue.enqueue_many([{"type": "t"}, {"type": "t", "payload": {"blob": "x" * 100_001}}])
    assert count(queue) == 0
    assert not queue.database.get_connection().in_transaction
    assert queue.enqueue("t", {"blob": "x" * 1000}) > 0


# Ids


def test_ids_increase_and_are_those_of_the_rows(queue: TaskQueue) -> None:
    given = [queue.enqueue("t") for _ in range(5)] + queue.enqueue_many([{"type": "t"}] * 5)
    assert given == sorted(set(given)) == ids(queue)


@pytest.mark.parametrize("enqueue", ["one", "many", "raw"])
@pytest.mark.parametrize("delete", ["the newest", "all", "one by one"])
def test_the_id_of_a_deleted_task_is_never_given_out_again(open_queue: OPEN, enqueue: str, delete: str) -> None:
    queue = open_queue()

    def add() -> list[int]:
        if enqueue == "raw":
            return [raw_insert(queue), raw_insert(queue)]
        if enqueue == "many":
            return queue.enqueue_many([{"type": "t"}, {"type": "t"}])
        return [queue.enqueue("t"), queue.enqueue("t")]

    seen: list[int] = []
    for _ in range(4):
        seen += add()
        if delete == "the newest":
            queue.database.execute("DELETE FROM task_queue WHERE id = (SELECT max(id) FROM task_queue)")
        elif delete == "all":
            queue.database.execute("DELETE FROM task_queue")
        else:
            for task_id in reversed(ids(queue)):
                queue.database.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
        queue.close()  # what a connection remembers must not matter
    assert seen == sorted(set(seen))


def test_ids_stay_unique_when_plain_sql_and_the_api_take_turns_beyond_a_block_of_reserved_ids(
    open_queue: OPEN,
) -> None:
    first, second = open_queue(), open_queue()
    seen: list[int] = []
    for _ in range(3):
        seen += first.enqueue_many([{"type": "t"}] * 700)
        seen.append(raw_insert(second))
        seen.append(second.enqueue("t"))
        second.database.execute("DELETE FROM task_queue WHERE id > (SELECT max(id) - 500 FROM task_queue)")
        seen.append(raw_insert(first))
    assert seen == sorted(set(seen))


def test_an_id_chosen_by_plain_sql_is_passed_by_the_next(queue: TaskQueue) -> None:
    queue.database.execute("INSERT INTO task_queue (id, type, payload) VALUES (1000000, 'raw', '{}')")
    assert queue.enqueue("t") == 1000001
    assert raw_insert(queue) > 1000001


# Rows from plain SQL


def test_a_row_from_another_program_is_a_task_like_any_other(
    queue: TaskQueue, another_program: Callable[..., None]
) -> None:
    another_program(RAW_INSERT, "video", '{"format": "mp4"}', 50)
    row = queue.database.execute("SELECT * FROM task_queue").fetchone()
    task = Task.from_dict(dict(row))
    assert (task.type, task.priority, task.status, task.attempts) == ("video", 50, "queued", 0)
    assert task.run_after_utc is not None
    assert task.run_after_utc.tzinfo is UTC
    claimed = queue.claim("w")
    assert claimed is not None
    assert (claimed.id, claimed.payload, claimed.attempts) == (task.id, '{"format": "mp4"}', 1)
    queue.complete(claimed)


def test_plain_sql_can_not_store_a_payload_that_is_not_json(queue: TaskQueue) -> None:
    with pytest.raises(QueueDatabaseError, match="malformed JSON"):
        queue.database.execute(RAW_INSERT, ("video", "no JSON", 50))
    assert count(queue) == 0


# Idempotency


def test_the_same_key_returns_the_first_tasks_id_and_writes_nothing(queue: TaskQueue, path: Path) -> None:
    first = queue.enqueue("t", {"n": 1}, idempotency_key="k")
    connection = queue.database.get_connection()
    watcher = apsw.Connection(str(path))
    version, changes = data_version(watcher), connection.total_changes
    assert queue.enqueue("other", {"n": 2}, priority=1, idempotency_key="k") == first
    assert queue.enqueue_many([{"type": "t", "idempotency_key": "k"}] * 3) == [first] * 3
    assert (data_version(watcher), connection.total_changes) == (version, changes)
    queue.enqueue("t")
    assert data_version(watcher) != version  # so the watcher does see writes
    watcher.close()
    assert stored(queue, first).get_payload_dict() == {"n": 1}


def test_a_key_stays_taken_after_its_task_has_ended(queue: TaskQueue) -> None:
    first = queue.enqueue("t", idempotency_key="k")
    task = queue.claim("w")
    assert task is not None
    queue.complete(task)
    assert queue.enqueue("t", idempotency_key="k") == first
    assert queue.claim("w") is None


def test_a_batch_may_repeat_keys_of_its_own_and_of_others(queue: TaskQueue) -> None:
    known = queue.enqueue("t", idempotency_key="known")
    given = queue.enqueue_many(
        [
            {"type": "t", "idempotency_key": "a"},
            {"type": "t"},
            {"type": "t", "idempotency_key": "known"},
            {"type": "t", "idempotency_key": "a"},
            {"type": "t", "idempotency_key": "b"},
        ]
    )
    assert given[0] == given[3]
    assert given[2] == known
    assert len(set(given)) == 4
    assert count(queue) == 4


def race_for_keys(path: str, driver: Any, start: Barrier, results: Any) -> None:
    with TaskQueue(path, driver=driver) as queue:
        start.wait(30)
        results.put([queue.enqueue("t", {"n": n}, idempotency_key=f"key-{n}") for n in range(200)])


def test_two_processes_that_race_for_200_keys_get_the_same_200_ids(queue: TaskQueue, path: Path, driver: str) -> None:
    start, results = SPAWN.Barrier(2), SPAWN.Queue()
    racers = [
        SPAWN.Process(target=race_for_keys, args=(str(path), driver, start, results), daemon=True) for _ in range(2)
    ]
    for racer in racers:
        racer.start()
    one, other = results.get(timeout=60), results.get(timeout=60)
    for racer in racers:
        racer.join(30)
        assert racer.exitcode == 0
    assert one == other
    assert len(set(one)) == 200
    assert count(queue) == 200


# Transactions


@pytest.mark.parametrize("batch", [False, True])
def test_a_task_commits_or_vanishes_with_the_callers_transaction(open_queue: OPEN, path: Path, batch: bool) -> None:
    database = QueueDatabase(path)
    queue, outside = open_queue(database), open_queue()
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")

    def order(number: int) -> None:
        database.execute("INSERT INTO orders VALUES (?)", (number,))
        if batch:
            queue.enqueue_many([{"type": "ship", "payload": {"order": number}}] * 2)
        else:
            queue.enqueue("ship", {"order": number})
        assert ids(outside) == before  # not before the commit
        assert database.execute("SELECT count(*) FROM orders WHERE id = ?", (number,)).fetchone()[0] == 1

    before: list[int] = []
    with database.transaction():
        order(1)
    before = ids(outside)
    assert len(outside.claim_many("w", 10)) == (2 if batch else 1)
    with pytest.raises(ZeroDivisionError), database.transaction():
        order(2)
        raise ZeroDivisionError
    assert outside.claim("w") is None
    assert [row[0] for row in database.execute("SELECT id FROM orders")] == [1]
    assert queue.enqueue("after") > max(before)
    database.close()


def test_a_refused_batch_inside_a_transaction_undoes_only_itself(queue: TaskQueue) -> None:
    queue.database.get_connection().apsw.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)
    big: dict[str, Any] = {"type": "t", "payload": {"blob": "x" * 100_001}}
    with queue.database.transaction():
        first = queue.enqueue("kept")
        with pytest.raises(QueueDatabaseError, match="too big"):
            queue.enqueue_many([{"type": "undone"}, big, {"type": "undone"}])
        with pytest.raises(QueueDatabaseError, match="too big"):
            queue.enqueue(**big)
        second = queue.enqueue_many([{"type": "kept"}, {"type": "kept"}])
    assert ids(queue) == [first, *second]
    assert {row[0] for row in queue.database.execute("SELECT type FROM task_queue")} == {"kept"}


def test_a_transaction_that_ran_out_of_space_does_not_go_on_without_its_beginning(queue: TaskQueue) -> None:
    raw = queue.database.get_connection().apsw
    raw.pragma("max_page_count", raw.pragma("page_count") + 3)
    with pytest.raises(QueueDatabaseError), queue.database.transaction():
        queue.database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        with pytest.raises(QueueDatabaseError, match="full"):
            queue.enqueue("t", {"blob": "x" * 100_000})
        queue.database.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('w', '{}')")
    assert queue.database.execute("SELECT count(*) FROM workers").fetchone()[0] == 0
    assert queue.database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'orders'").fetchone()[0] == 0
    raw.pragma("max_page_count", 1_000_000)
    assert queue.enqueue("t") > 0


def test_a_batch_is_stored_in_order_in_one_transaction(queue: TaskQueue, path: Path) -> None:
    watcher = apsw.Connection(str(path))
    version = data_version(watcher)
    given = queue.enqueue_many({"type": "t", "payload": {"n": n}, "priority": n % 7} for n in range(2500))
    assert given == ids(queue)
    assert [stored(queue, task_id).get_payload_dict()["n"] for task_id in given[::500]] == [0, 500, 1000, 1500, 2000]
    assert data_version(watcher) == version + 1
    watcher.close()


def test_an_empty_batch_is_fine(queue: TaskQueue) -> None:
    assert queue.enqueue_many([]) == []


def test_full_durability_is_a_matter_of_opening(open_queue: OPEN) -> None:
    queue = open_queue(durability="full")
    assert queue.database.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert stored(queue, queue.enqueue("t")).type == "t"


# Times


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2099-05-01T12:00:00Z", "2099-05-01 12:00:00.000"),
        ("2099-05-01T12:00:00+02:00", "2099-05-01 10:00:00.000"),
        ("2099-05-01 12:00:00.5-11:30", "2099-05-01 23:30:00.500"),
        ("2099-05-01 12:00:00", "2099-05-01 12:00:00.000"),
        ("2099-05-01T12:00:00.123456", "2099-05-01 12:00:00.123"),
        ("2099-05-01", "2099-05-01 00:00:00.000"),
        (datetime(2099, 5, 1, 12), "2099-05-01 12:00:00.000"),
        (datetime(2099, 5, 1, 12, tzinfo=timezone(timedelta(hours=9))), "2099-05-01 03:00:00.000"),
        (datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), "1969-12-31 23:59:59.999"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01 00:00:00.000"),
        (datetime(2000, 2, 29, 1, 2, 3, 4000, tzinfo=UTC), "2000-02-29 01:02:03.004"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "9999-12-31 23:59:59.999"),
    ],
)
def test_any_way_to_say_a_time_is_stored_as_utc_with_milliseconds(
    queue: TaskQueue, given: datetime | str, expected: str
) -> None:
    one = queue.enqueue("t", run_after=given)
    (other,) = queue.enqueue_many([{"type": "t", "run_after": given}])
    rows = queue.database.execute("SELECT run_after_utc FROM task_queue WHERE id IN (?, ?)", (one, other)).fetchall()
    assert [row[0] for row in rows] == [expected, expected]


def test_a_delay_counts_from_now(queue: TaskQueue) -> None:
    task = stored(queue, queue.enqueue("t", run_after=timedelta(hours=1)))
    assert task.run_after_utc is not None
    assert task.created_at_utc is not None
    assert abs(task.run_after_utc - task.created_at_utc - timedelta(hours=1)) < timedelta(seconds=5)


# Refusals


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("empty type", {"type": ""}, "type is empty"),
    ("blank type", {"type": " \n\t"}, "type is empty"),
    ("no text as type", {"type": 7}, "type is 7; it must be text"),
    ("bytes as type", {"type": b"video"}, "must be text"),
    ("None as type", {"type": None}, "must be text"),
    ("NUL in type", {"type": "a\0b"}, "type contains a NUL"),
    ("surrogate in type", {"type": "a\ud800b"}, "type contains half a surrogate pair"),
    ("NUL in payload", {"payload": {"a": "x\0y"}}, "payload contains a NUL"),
    ("NUL in a payload's key", {"payload": {"x\0y": 1}}, "payload contains a NUL"),
    ("surrogate in payload", {"payload": {"a": "x\udfff"}}, "payload contains half a surrogate pair"),
    ("surrogate in a payload's key", {"payload": {"x\ud800": 1}}, "payload contains half a surrogate pair"),
    ("NUL in JSON text", {"payload": '{"a": "x\0"}'}, "payload contains a NUL"),
    ("escaped NUL in JSON text", {"payload": '{"a": "\\u0000"}'}, "payload contains a NUL"),
    ("escaped NUL after a backslash", {"payload": '{"a": "\\\\\\u0000"}'}, "payload contains a NUL"),
    ("escaped NUL as all of it", {"payload": '"\\u0000"'}, "payload contains a NUL"),
    ("escaped surrogate in JSON text", {"payload": '{"a": "\\ud800"}'}, "payload contains half a surrogate pair"),
    ("escaped low surrogate first", {"payload": '["\\ude00\\ud83d"]'}, "payload contains half a surrogate pair"),
    ("escaped surrogate as all of it", {"payload": '"\\uDC00"'}, "payload contains half a surrogate pair"),
    ("no JSON text", {"payload": "hello"}, "payload is text but not valid JSON"),
    ("empty JSON text", {"payload": ""}, "payload is text but not valid JSON"),
    ("half of JSON text", {"payload": '{"a": 1'}, "payload is text but not valid JSON"),
    ("two JSON texts", {"payload": "{} {}"}, "payload is text but not valid JSON"),
    ("NaN in JSON text", {"payload": '{"a": NaN}'}, "NaN is not JSON"),
    ("Infinity in JSON text", {"payload": "[-Infinity]"}, "-Infinity is not JSON"),
    ("NaN", {"payload": {"a": float("nan")}}, "payload can't be written as JSON"),
    ("infinity", {"payload": [float("inf")]}, "payload can't be written as JSON"),
    ("a set", {"payload": {"a": {1, 2}}}, "payload can't be written as JSON"),
    ("bytes", {"payload": b"{}"}, "payload can't be written as JSON"),
    ("a datetime", {"payload": {"at": datetime(2030, 1, 1)}}, "payload can't be written as JSON"),
    ("a tuple as key", {"payload": {(1, 2): 3}}, "payload can't be written as JSON"),
    ("a circle", {"payload": circular()}, "payload can't be written as JSON"),
    ("no end of depth", {"payload": deep(200_000)}, "payload"),
    ("no end of depth in text", {"payload": "[" * 200_000 + "]" * 200_000}, "payload"),
    ("too deep for SQLite", {"payload": deep(1001)}, "payload"),
    ("too deep for SQLite in text", {"payload": "[" * 1002 + "]" * 1002}, "payload"),
    ("list as compatibility", {"compatibility": ["gpu"]}, "compatibility is"),
    ("number as compatibility", {"compatibility": "7"}, "compatibility is"),
    ("no JSON as compatibility", {"compatibility": "gpu"}, "compatibility is text but not valid JSON"),
    ("NUL in compatibility", {"compatibility": {"a": "\0"}}, "compatibility contains a NUL"),
    ("escaped NUL in compatibility", {"compatibility": '{"a": "\\u0000"}'}, "compatibility contains a NUL"),
    ("surrogate in compatibility", {"compatibility": {"\udead": 1}}, "compatibility contains half a surrogate"),
    ("escaped surrogate in compatibility", {"compatibility": '{"\\udead": 1}'}, "compatibility contains half a"),
    ("NaN in compatibility", {"compatibility": {"a": float("nan")}}, "compatibility can't be written as JSON"),
    ("empty key", {"idempotency_key": ""}, "idempotency_key is empty"),
    ("blank key", {"idempotency_key": " "}, "idempotency_key is empty"),
    ("number as key", {"idempotency_key": 5}, "idempotency_key is 5; it must be text"),
    ("NUL in key", {"idempotency_key": "a\0"}, "idempotency_key contains a NUL"),
    ("surrogate in key", {"idempotency_key": "\ud83d"}, "idempotency_key contains half a surrogate pair"),
    ("truth as priority", {"priority": True}, "priority is True"),
    ("float as priority", {"priority": 1.0}, "priority is 1.0"),
    ("text as priority", {"priority": "1"}, "priority is '1'"),
    ("None as priority", {"priority": None}, "priority is None"),
    ("priority too big", {"priority": 2**63}, "at most 64 bits"),
    ("priority too small", {"priority": -(2**63) - 1}, "at most 64 bits"),
    ("no attempts", {"max_attempts": 0}, "max_attempts is 0"),
    ("negative attempts", {"max_attempts": -1}, "max_attempts is -1"),
    ("truth as attempts", {"max_attempts": True}, "max_attempts is True"),
    ("float as attempts", {"max_attempts": 2.5}, "max_attempts is 2.5"),
    ("endless attempts", {"max_attempts": 2**31}, "max_attempts is 2147483648"),
    ("no time", {"run_after": "tomorrow"}, "run_after is 'tomorrow'"),
    ("a number as time", {"run_after": 1700000000}, "run_after is 1700000000"),
    ("a day that does not exist", {"run_after": "2099-02-30T00:00:00Z"}, "run_after is"),
    ("an hour that does not exist", {"run_after": "2099-01-01 25:00:00"}, "run_after is"),
    ("empty time", {"run_after": ""}, "run_after is ''"),
    ("a delay beyond the calendar", {"run_after": timedelta.max}, "run_after is"),
    ("before the calendar", {"run_after": "0001-01-01T00:00:00+14:00"}, "run_after is"),
]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskQueue]:
    """One queue for many refusals: they happen before the driver is asked."""
    with TaskQueue(tmp_path_factory.mktemp("refusals") / "queue.db") as queue:
        yield queue


@pytest.mark.parametrize(("arguments", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_can_not_be_stored_is_refused_before_anything_is_written(
    untouched: TaskQueue, arguments: dict[str, Any], message: str
) -> None:
    queue = untouched
    connection = queue.database.get_connection()
    changes = connection.total_changes
    with pytest.raises(InvalidTaskError) as caught:
        queue.enqueue(**{"type": "t", **arguments})
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 500
    with pytest.raises(InvalidTaskError) as caught:
        queue.enqueue_many([{"type": "fine"}, {"type": "t", **arguments}, {"type": "fine"}])
    assert message in str(caught.value)
    assert "task 1 of the batch" in str(caught.value)
    assert (connection.total_changes, count(queue)) == (changes, 0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"type": "t", "prio": 1, "payloda": 2}, "unknown keys payloda, prio"),
        ({"payload": {}}, "no type"),
        ({}, "no type"),
        ("video", "not a dict"),
        (None, "not a dict"),
        ({"type": "t", 5: 1}, "unknown keys 5"),
    ],
)
def test_a_batch_names_the_index_of_what_is_not_a_task(queue: TaskQueue, task: Any, message: str) -> None:
    with pytest.raises(InvalidTaskError) as caught:
        queue.enqueue_many([{"type": "fine"}, {"type": "fine"}, task])
    assert "task 2 of the batch" in str(caught.value)
    assert message in str(caught.value)
    assert count(queue) == 0
