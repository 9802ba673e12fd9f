"""Retention: what goes, what stays, and that nothing goes without a trace that was asked for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    Keep,
    QueueMaintenanceError,
    QueueMetrics,
    RetentionPolicy,
    TaskLogger,
    TaskQueue,
    prune,
    retention,
    store_policy,
    stored_policy,
)
from tests import operation
from tests.colleague import Colleague

ALL = RetentionPolicy(completed=Keep(count=0), failed=Keep(count=0), dead_letter=Keep(count=0))


def finish(queue: TaskQueue, completed: int = 0, failed: int = 0, dead_letter: int = 0) -> None:
    queue.enqueue_many([{"type": "t", "max_attempts": 1}] * (completed + failed + dead_letter))
    queue.complete_many(queue.claim_many("w", completed) if completed else [])
    queue.fail_many([(task, "no") for task in queue.claim_many("w", failed)] if failed else [], retry=False)
    queue.fail_many([(task, "no") for task in queue.claim_many("w", dead_letter)] if dead_letter else [])


def backdate(queue: TaskQueue, days: int, condition: str = "true") -> None:
    queue.database.execute(
        f"""UPDATE task_queue SET finished_at_utc = strftime('%Y-%m-%d %H:%M:%f', 'now', '-{days} days')
            WHERE finished_at_utc IS NOT NULL AND {condition}"""
    )


def test_by_default_everything_is_kept(queue: TaskQueue) -> None:
    finish(queue, completed=3, failed=2)
    backdate(queue, 5000)
    assert vars(prune(queue.database)) == {"completed": 0, "failed": 0, "dead_letter": 0, "logs": 0}
    assert vars(prune(queue.database, RetentionPolicy())) == vars(retention.Pruned())
    assert operation.count(queue) == 5


def test_by_age_and_status(queue: TaskQueue) -> None:
    finish(queue, completed=4, failed=3, dead_letter=3)
    backdate(queue, 10, "id % 2 = 0")
    queue.enqueue_many([{"type": "waits"}] * 2)
    claimed = queue.claim("w")
    queue.database.execute("UPDATE task_queue SET created_at_utc = '2000-01-01 00:00:00.000'")
    removed = prune(queue.database, RetentionPolicy(completed=Keep(days=7), dead_letter=Keep(days=11)))
    assert (removed.completed, removed.failed, removed.dead_letter) == (2, 0, 0)
    removed = prune(queue.database, RetentionPolicy(failed=Keep(days=7), dead_letter=Keep(days=7)))
    assert removed.failed + removed.dead_letter == 3
    left = operation.statuses(queue)
    assert (left["completed"], left["queued"], left["processing"]) == (2, 1, 1)
    assert claimed is not None
    queue.complete(claimed)
    prune(queue.database, ALL)
    assert operation.statuses(queue) == {"queued": 1}


def test_by_count_the_newest_stay(queue: TaskQueue) -> None:
    finish(queue, completed=1000, failed=10, dead_letter=10)
    removed = prune(
        queue.database, RetentionPolicy(completed=Keep(count=30), failed=Keep(count=4), dead_letter=Keep(count=0))
    )
    assert (removed.completed, removed.failed, removed.dead_letter) == (970, 6, 10)
    rows = queue.database.execute("SELECT id FROM task_queue ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [*range(971, 1001), *range(1007, 1011)]
    assert prune(queue.database, RetentionPolicy(completed=Keep(count=30))).completed == 0
    assert prune(queue.database, RetentionPolicy(completed=Keep(count=50))).completed == 0


def test_a_logged_task_goes_with_all_that_belongs_to_it(queue: TaskQueue) -> None:
    finish(queue, completed=2)
    kept = queue.enqueue("kept")
    for task_id in (1, 2, kept):
        queue.database.execute("INSERT INTO task_logs (task_id, level, message) VALUES (?, 'INFO', 'm')", (task_id,))
        queue.database.execute("INSERT INTO task_options (task_id, retry) VALUES (?, '{}')", (task_id,))
        queue.database.execute("INSERT INTO task_reports (task_id, attempt) VALUES (?, 1)", (task_id,))
    prune(queue.database, ALL)
    for table, column in (
        ("task_queue", "id"),
        ("task_logs", "task_id"),
        ("task_options", "task_id"),
        ("task_reports", "task_id"),
    ):
        assert [row[0] for row in queue.database.execute(f"SELECT {column} FROM {table}")] == [kept]
    assert queue.database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_ids_and_keys_of_what_is_gone(queue: TaskQueue) -> None:
    first = queue.enqueue("t", idempotency_key="key")
    task = queue.claim("w")
    assert task is not None
    queue.complete(task)
    assert queue.enqueue("t", idempotency_key="key") == first
    prune(queue.database, ALL)
    assert queue.enqueue("t", idempotency_key="key") == first + 1


def test_metrics_remember_what_is_gone(queue: TaskQueue) -> None:
    finish(queue, completed=7, failed=3)
    metrics = QueueMetrics(queue.database)
    before = metrics.get_success_failure_rates(1)
    prune(queue.database, ALL)
    assert operation.count(queue) == 0
    assert metrics.get_success_failure_rates(1) == before
    assert before["total_count"] == 10


def test_logs_by_age_and_count(queue: TaskQueue) -> None:
    queue.enqueue("t")
    for age in range(10, 0, -1):
        queue.database.execute(
            """INSERT INTO task_logs (task_id, level, at_utc)
               VALUES (1, 'INFO', strftime('%Y-%m-%d %H:%M:%f', 'now', ?))""",
            (f"-{age} days",),
        )
    assert prune(queue.database, RetentionPolicy(logs=Keep(days=7.5))).logs == 3
    assert prune(queue.database, RetentionPolicy(logs=Keep(count=4))).logs == 3
    assert [row[0] for row in queue.database.execute("SELECT log_id FROM task_logs")] == [7, 8, 9, 10]
    assert prune(queue.database, RetentionPolicy(logs=Keep(count=0))).logs == 4
    assert operation.count(queue) == 1


def test_what_is_requeued_meanwhile_stays(queue: TaskQueue) -> None:
    finish(queue, failed=100)
    steps = retention.Pruning(queue.database, ALL).steps()
    while operation.count(queue) == 100:
        next(steps)
    assert operation.count(queue) > 50
    assert queue.requeue(100)
    for _ in steps:
        pass
    assert operation.statuses(queue) == {"queued": 1}
    assert queue.get(100) is not None


def log(queue: TaskQueue, task_id: int, count: int) -> None:
    queue.database.execute(
        """WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < ?2)
           INSERT INTO task_logs (task_id, level, message) SELECT ?1, 'INFO', 'line ' || v FROM n""",
        (task_id, count),
    )


def rows(queue: TaskQueue) -> int:
    """Tasks and log lines."""
    counts = queue.database.execute("SELECT (SELECT count(*) FROM task_queue), (SELECT count(*) FROM task_logs)")
    return sum(counts.fetchone())


@pytest.mark.parametrize("logs", [0, 30, 100, 5000])
def test_one_transaction_removes_few_rows(queue: TaskQueue, logs: int) -> None:
    """Log lines count as well, whether there are some of many tasks or many of one."""
    tasks = 4 if logs > 1000 else 600
    finish(queue, completed=tasks)
    if logs:
        for task_id in range(1, tasks + 1):
            log(queue, task_id, logs)
    left = rows(queue)
    assert left == tasks * (1 + logs)
    for _ in retention.Pruning(queue.database, ALL).steps():
        now = rows(queue)
        assert left - now <= 500
        left = now
    assert left == 0


def test_a_task_with_many_log_lines_is_exported_whole(queue: TaskQueue, tmp_path: Path) -> None:
    finish(queue, completed=3)
    log(queue, 2, 3000)
    export = tmp_path / "old.jsonl"
    removed = prune(queue.database, ALL, export=export)
    assert (removed.completed, rows(queue)) == (3, 0)
    exported = [record["task"] for record in lines(export)]
    assert [len(task["logs"]) for task in exported] == [0, 3000, 0]
    assert exported[1]["logs"][-1]["message"] == "line 3000"


def test_what_is_logged_or_requeued_while_a_log_goes_stays(queue: TaskQueue, tmp_path: Path) -> None:
    finish(queue, failed=2)
    for task_id in (1, 2):
        log(queue, task_id, 2000)
    with (tmp_path / "old.jsonl").open("ab+") as export:
        steps = retention.Pruning(queue.database, ALL, export).steps()
        while rows(queue) > 3500:
            next(steps)
        assert queue.requeue(2)
        TaskLogger(queue.database).log(1, "INFO", "late")  # it isn't in the file
        for _ in steps:
            pass
    assert operation.statuses(queue) == {"failed": 1, "queued": 1}
    kept = queue.database.execute("SELECT task_id, count(*) FROM task_logs GROUP BY task_id").fetchall()
    assert [tuple(row) for row in kept] == [(1, 1), (2, 2000)]
    assert prune(queue.database, ALL).failed == 1


def test_inside_a_transaction_it_is_refused(queue: TaskQueue) -> None:
    finish(queue, completed=1)
    with queue.database.transaction(), pytest.raises(QueueMaintenanceError, match="end it first"):
        prune(queue.database, ALL)
    assert operation.count(queue) == 1


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_what_goes_is_exported_first(queue: TaskQueue, tmp_path: Path) -> None:
    queue.enqueue("käse", {"text": "\u2028 line\n"})
    task = queue.claim("w")
    assert task is not None
    queue.complete(task)
    queue.enqueue("waits")
    queue.database.execute(
        "INSERT INTO task_logs (task_id, level, message) VALUES (1, 'INFO', 'of 1'), (2, 'INFO', 'of 2')"
    )
    queue.database.execute("INSERT INTO task_options (task_id, retry) VALUES (1, '{}')")
    queue.database.execute("INSERT INTO task_reports (task_id, attempt, result) VALUES (1, 1, '5')")
    export = tmp_path / "old.jsonl"
    prune(queue.database, RetentionPolicy(completed=Keep(count=0), logs=Keep(count=0)), export=export)
    (gone, log) = lines(export)
    assert gone["task"]["type"] == "käse"
    assert json.loads(gone["task"]["payload"]) == {"text": "\u2028 line\n"}
    assert gone["task"]["logs"][0]["message"] == "of 1"
    assert gone["task"]["options"]["retry"] == "{}"
    assert gone["task"]["report"]["result"] == "5"
    assert log["log"]["message"] == "of 2"


def test_an_export_that_fails_removes_nothing(queue: TaskQueue, tmp_path: Path) -> None:
    finish(queue, completed=5)
    with pytest.raises(QueueMaintenanceError, match="not everything was removed"):
        prune(queue.database, ALL, export=tmp_path / "no" / "folder" / "old.jsonl")
    with pytest.raises(QueueMaintenanceError):
        prune(queue.database, ALL, export=tmp_path)
    assert operation.count(queue) == 5


def test_who_is_killed_has_removed_nothing_unexported(
    queue: TaskQueue, hire: Callable[..., Colleague], tmp_path: Path
) -> None:
    finish(queue, completed=3000)
    export = tmp_path / "old.jsonl"
    for _ in range(3):
        victim = hire()
        before = operation.count(queue)
        victim.begin(operation.prune_all, str(export))
        deadline = time.monotonic() + 30
        while operation.count(queue) > before - 200 and operation.count(queue):
            assert time.monotonic() < deadline
        victim.kill()
    text = export.read_bytes().split(b"\n")
    exported = set()
    for line in text:
        with suppress(ValueError):  # cut short
            exported.add(json.loads(line)["task"]["id"])
    there = {row[0] for row in queue.database.execute("SELECT id FROM task_queue")}
    assert len(there) < 3000
    assert set(range(1, 3001)) <= exported | there
    with export.open("ab") as file:
        file.write(b'{"task": {"id": 1, "ty')  # as one who is killed in the midst of it
    prune(queue.database, ALL, export=export)
    assert operation.count(queue) == 0
    ids = set()
    for line in export.read_bytes().split(b"\n")[:-1]:
        try:
            ids.add(json.loads(line)["task"]["id"])
        except ValueError:
            assert line.startswith(b'{"task"')
    assert ids == set(range(1, 3001))


@pytest.mark.parametrize(
    "limits",
    [
        {"days": -1},
        {"days": float("nan")},
        {"days": "7"},
        {"days": True},
        {"count": -1},
        {"count": 1.5},
        {"count": "9"},
    ],
)
def test_a_limit_that_is_none_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(QueueMaintenanceError, match=r"(days|count) is"):
        Keep(**limits)


def test_a_stored_policy_is_read_as_it_was_given(queue: TaskQueue) -> None:
    assert stored_policy(queue.database) == RetentionPolicy()
    policy = RetentionPolicy(completed=Keep(7, 1000), logs=Keep(count=0))
    store_policy(queue.database, policy)
    assert stored_policy(queue.database) == policy
    store_policy(queue.database, RetentionPolicy())
    assert stored_policy(queue.database) == RetentionPolicy()
    for values in ([], {"unknown": {}}, {"logs": {"weeks": 1}}, {"logs": 5}):
        with pytest.raises(QueueMaintenanceError):
            RetentionPolicy.from_dict(values)


def test_whoever_keeps_house_applies_it(queue: TaskQueue, hire: Callable[..., Colleague]) -> None:
    finish(queue, completed=100, failed=10)
    store_policy(queue.database, RetentionPolicy(completed=Keep(count=10)))
    queue.close()
    other = hire()
    deadline = time.monotonic() + 30
    while other.run(operation.statuses) != {"completed": 10, "failed": 10}:
        assert time.monotonic() < deadline
        other.run(operation.count)
        time.sleep(0.05)


def test_a_policy_that_cannot_be_read_stops_nobody(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "LOOK_SECONDS", 0.05)
    finish(queue, completed=20)
    queue.database.execute("INSERT INTO queue_state (name, value) VALUES ('retention', '{\"some\": \"day\"}')")
    with pytest.raises(QueueMaintenanceError, match="retention policy"):
        prune(queue.database)
    queue.close()
    caplog.clear()
    queue.enqueue("t", run_after="2000-01-01")
    assert queue.claim("w", lease_seconds=0.05, wait=10) is not None
    assert queue.claim("w", wait=10) is not None  # its lease was seen to
    deadline = time.monotonic() + 30
    while "nothing is removed" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert caplog.text.count("nothing is removed") == 1
    store_policy(queue.database, RetentionPolicy(completed=Keep(count=0)))
    while operation.statuses(queue) != {"processing": 1}:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_its_statements_reach_their_rows_by_indexes(queue: TaskQueue) -> None:
    statements = {name: text for name, text in vars(retention).items() if isinstance(text, str) and name[0] == "_"}
    checked = 0
    for name, text in statements.items():
        if text.split()[0] not in ("SELECT", "DELETE"):
            continue
        parameters = max((int(number) for number in re.findall(r"\?(\d)", text)), default=0)
        plan = queue.database.execute(f"EXPLAIN QUERY PLAN {text}", ("[]", "", 0, 1, 1)[:parameters])
        details = [row["detail"] for row in plan]
        checked += 1
        for detail in details:
            assert not detail.startswith(("SCAN task", "SCAN log")) or name == "_LOG_BEHIND", (name, details)
            assert "TEMP B-TREE" not in detail or "json" in text, (name, details)
    assert checked > 6
    assert list(islice(retention.Pruning(queue.database, ALL).steps(), 5)) == []
