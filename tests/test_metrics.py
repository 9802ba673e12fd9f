"""Metrics say what is there and what has finished, whether its rows are rolled up, deleted or changed."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import (
    SCHEMA_STATEMENTS,
    InvalidTaskError,
    QueueDatabase,
    QueueDatabaseError,
    QueueMetrics,
    TaskQueue,
    clock,
    observe_sql,
    rollup,
)

OPEN = Callable[..., TaskQueue]
STATUSES = ("queued", "processing", "paused")
ADD = """INSERT INTO task_queue (type, payload, status, attempts, priority, locked_by, created_at_utc,
  processing_started_utc, finished_at_utc) VALUES (?, '{}', ?, ?, ?, ?, ?, ?, ?)"""


@pytest.fixture(autouse=True)
def small_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tasks are enough for roll-ups, and the test decides when."""
    monkeypatch.setattr(rollup, "KEEP", 20)
    monkeypatch.setattr(rollup, "CHUNK", 15)


@pytest.fixture
def database(path: Path) -> Iterator[QueueDatabase]:
    """A queue's database without a housekeeper."""
    with QueueDatabase(path) as database:
        database.initialize_schema()
        yield database


@pytest.fixture
def metrics(database: QueueDatabase) -> QueueMetrics:
    return QueueMetrics(database)


def text(hours_ago: float) -> str:
    return clock.to_text(clock.now() - timedelta(hours=hours_ago))


def add(
    database: QueueDatabase,
    status: str,
    hours_ago: float = 0.1,
    seconds: float | None = 1.0,
    kind: str = "t",
    attempts: int = 1,
    priority: int = 100,
    worker: str = "w",
) -> None:
    """Its processing took exactly `seconds`, in whole milliseconds."""
    finished = clock.now() - timedelta(hours=hours_ago)
    started = None if seconds is None else clock.to_text(finished - timedelta(milliseconds=round(seconds * 1000)))
    created = clock.to_text(finished - timedelta(hours=1))
    row = (kind, status, attempts, priority, worker, created, started, clock.to_text(finished))
    database.execute(ADD, row)


def add_many(database: QueueDatabase, count: int, seed: int = 1) -> None:
    """Of all sorts, over the last 60 hours."""
    chance = random.Random(seed)
    with database.transaction():
        for _ in range(count):
            add(
                database,
                chance.choice(["completed"] * 4 + ["failed", "dead_letter"]),
                chance.uniform(0.01, 60),
                chance.choice([None, chance.lognormvariate(0, 2)]),
                chance.choice(["a", "b", "c"]),
                chance.randint(1, 4),
                chance.choice([1, 50]),
                chance.choice(["w1", "w2"]),
            )


def roll_up(database: QueueDatabase) -> int:
    """How many rows are in the sums afterwards."""
    while rollup.roll_up(database):
        pass
    return int(database.execute("SELECT coalesce(sum(tasks), 0) FROM task_rollup WHERE kind = 'there'").fetchone()[0])


def everything(database: QueueDatabase) -> dict[str, Any]:
    """All that doesn't depend on the moment."""
    metrics = QueueMetrics(database)
    said: dict[str, Any] = {
        "depth": metrics.get_queue_depth(),
        "by status": metrics.get_queue_depth_by_status(),
        "by type": metrics.get_queue_depth_by_type(),
        "of a type": metrics.get_queue_depth("a", "completed"),
    }
    for hours in (0.5, 1, 3.7, 24, 47, 49, 100):
        said |= {
            f"rates {hours}": metrics.get_success_failure_rates(hours),
            f"throughput {hours}": metrics.get_throughput_metrics(hours),
            f"retries {hours}": metrics.get_retry_metrics(hours),
        }
    for view in ("v_queue_type_summary", "v_task_performance", "v_recent_failures"):
        said[view] = [dict(row) for row in database.execute(f"SELECT * FROM {view}").fetchall()]
    return said


# What it says


def test_depths_by_type_and_status(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "a"}] * 3 + [{"type": "b"}] * 2 + [{"type": "c", "run_after": timedelta(hours=1)}])
    first, second = queue.claim_many("w", 2)
    queue.complete(first)
    queue.fail(second, "no", retry=False)
    metrics = QueueMetrics(queue.database)
    assert metrics.get_queue_depth() == 6
    assert metrics.get_queue_depth(status="queued") == 4
    assert metrics.get_queue_depth("a") == 3
    assert metrics.get_queue_depth(task_type="c", status="queued") == 1
    assert metrics.get_queue_depth("a", "dead_letter") == metrics.get_queue_depth("nothing") == 0
    assert metrics.get_queue_depth_by_status() == {"queued": 4, "completed": 1, "failed": 1}
    assert metrics.get_queue_depth_by_type() == {"a": 3, "b": 2, "c": 1}


def test_a_claimed_task_counts_as_processing(queue: TaskQueue) -> None:
    queue.enqueue("t")
    assert queue.claim("w") is not None
    assert QueueMetrics(queue.database).get_queue_depth_by_status() == {"processing": 1}
    (row,) = queue.database.execute("SELECT status, task_count FROM v_queue_type_summary").fetchall()
    assert tuple(row) == ("processing", 1)


def test_rows_of_plain_sql_count_whatever_their_status(database: QueueDatabase, metrics: QueueMetrics) -> None:
    database.execute(
        "INSERT INTO task_queue (type, payload, status) VALUES ('t', '{}', 'paused'), ('t', '{}', 'failed')"
    )
    database.execute("INSERT INTO task_queue (type, payload, attempts) VALUES ('t', '{}', 5)")
    assert metrics.get_queue_depth_by_status() == {"failed": 1, "paused": 1, "queued": 1}
    assert metrics.get_queue_depth() == metrics.get_queue_depth("t") == 3
    assert metrics.get_retry_metrics()["total_tasks"] == 1


def test_an_empty_queue(metrics: QueueMetrics) -> None:
    assert metrics.get_queue_depth() == 0
    assert metrics.get_queue_depth_by_status() == metrics.get_queue_depth_by_type() == {}
    assert metrics.get_oldest_queued_task_age() is None
    assert metrics.get_success_failure_rates() == {
        "success_count": 0,
        "failure_count": 0,
        "total_count": 0,
        "success_rate": 0.0,
        "failure_rate": 0.0,
    }
    assert metrics.get_worker_activity() == []
    assert metrics.get_throughput_metrics() == {
        "tasks_completed": 0,
        "tasks_per_minute": 0.0,
        "avg_processing_time_seconds": 0.0,
    }
    assert metrics.get_retry_metrics() == {
        "total_tasks": 0,
        "tasks_with_retries": 0,
        "retry_rate": 0.0,
        "avg_attempts": 0.0,
        "max_attempts_reached": 0,
    }
    assert metrics.get_processing_time_percentiles() == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_the_age_of_the_oldest_queued_task(database: QueueDatabase, metrics: QueueMetrics) -> None:
    for seconds in (5, 120, 60):
        created = text(seconds / 3600)
        database.execute("INSERT INTO task_queue (type, payload, created_at_utc) VALUES ('t', '{}', ?)", (created,))
    add(database, "completed", 100)
    age = metrics.get_oldest_queued_task_age()
    assert isinstance(age, int)
    assert 120 <= age < 150


def test_rates_count_both_kinds_of_failure(database: QueueDatabase, metrics: QueueMetrics) -> None:
    for status in ("completed", "completed", "completed", "failed", "dead_letter"):
        add(database, status)
    add(database, "failed", hours_ago=25)
    assert metrics.get_success_failure_rates(hours=24) == {
        "success_count": 3,
        "failure_count": 2,
        "total_count": 5,
        "success_rate": 0.6,
        "failure_rate": 0.4,
    }
    assert metrics.get_success_failure_rates(26)["failure_count"] == 3


def test_throughput(database: QueueDatabase, metrics: QueueMetrics) -> None:
    for seconds in (0.25, 0.75, None):
        add(database, "completed", 0.5, seconds)
    add(database, "failed", 0.5)
    assert metrics.get_throughput_metrics(hours=1) == {
        "tasks_completed": 3,
        "tasks_per_minute": 0.05,
        "avg_processing_time_seconds": 0.5,
    }


def test_a_task_that_failed_once_and_then_succeeded_was_retried(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 3 + [{"type": "once", "max_attempts": 1}])
    (lost,) = queue.claim_many("w", 1, types="once")
    assert queue.fail(lost, "no") == "dead_letter"
    task = queue.claim("w")
    assert task is not None
    queue.fail(task, "once", delay_seconds=0)
    again = queue.claim("w", strategy="fifo")
    assert again is not None
    assert again.id == task.id
    queue.complete(again)
    assert QueueMetrics(queue.database).get_retry_metrics() == {
        "total_tasks": 4,
        "tasks_with_retries": 1,
        "retry_rate": 0.25,
        "avg_attempts": 0.75,
        "max_attempts_reached": 1,
    }


def test_percentiles_interpolate_between_the_nearest_two(database: QueueDatabase, metrics: QueueMetrics) -> None:
    times = [0.010, 0.020, 0.030, 0.040, 1.0]
    for seconds in times:
        add(database, "completed", 0.1, seconds)
    add(database, "completed", 0.1, None)  # nobody knows when it was begun
    add(database, "completed", 0.1, 50, kind="other")
    add(database, "failed", 0.1, 99)
    found = metrics.get_processing_time_percentiles(hours=24, task_type="t")
    assert found == pytest.approx({"p50": 0.030, "p95": 0.040 + 0.8 * 0.96, "p99": 0.040 + 0.96 * 0.96}, abs=0.002)
    assert metrics.get_processing_time_percentiles(24)["p99"] > 40


def test_a_single_time_is_every_percentile(database: QueueDatabase, metrics: QueueMetrics) -> None:
    add(database, "completed", 0.1, 0.037)
    assert metrics.get_processing_time_percentiles() == pytest.approx(dict.fromkeys(("p50", "p95", "p99"), 0.037))


def test_times_of_short_tasks_have_milliseconds(queue: TaskQueue) -> None:
    for _ in range(3):
        queue.enqueue("t")
        task = queue.claim("w")
        time.sleep(0.015)
        assert task is not None
        queue.complete(task)
    metrics = QueueMetrics(queue.database)
    assert 0.014 <= metrics.get_processing_time_percentiles()["p50"] < 10
    assert metrics.get_throughput_metrics()["avg_processing_time_seconds"] >= 0.014


def test_worker_activity_is_that_of_the_view_the_busiest_first(queue: TaskQueue) -> None:
    queue.enqueue_many([{"type": "t"}] * 3)
    queue.claim_many("busy", 2)
    queue.database.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('idle', '{}'), ('busy', '{}')")
    rows = QueueMetrics(queue.database).get_worker_activity()
    assert [(row["worker_id"], row["active_tasks"]) for row in rows] == [("busy", 2), ("idle", 0)]
    assert rows[0].keys() == {"worker_id", "capabilities", "heartbeat_utc", "active_tasks", "seconds_since_heartbeat"}


def test_the_health_summary_leaves_out_workers_that_are_gone(queue: TaskQueue) -> None:
    queue.enqueue("t")
    queue.database.execute(
        """INSERT INTO workers (worker_id, capabilities, heartbeat_utc)
           VALUES ('here', '{}', datetime('now')), ('gone', '{}', datetime('now', '-10 minutes'))"""
    )
    summary = QueueMetrics(queue.database).get_queue_health_summary()
    assert summary.keys() == {
        "queue_depth",
        "oldest_queued_task_age_seconds",
        "success_failure_rates_24h",
        "throughput_1h",
        "active_workers",
        "retry_metrics_24h",
        "timestamp",
    }
    assert (summary["queue_depth"], summary["active_workers"]) == (1, 1)
    assert abs(datetime.fromisoformat(summary["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert summary["timestamp"].endswith("+00:00")


@pytest.mark.parametrize("hours", [0, -1, "24", float("nan"), float("inf"), True, None])
def test_a_window_that_is_none_is_refused(metrics: QueueMetrics, hours: Any) -> None:
    for ask in (
        metrics.get_success_failure_rates,
        metrics.get_throughput_metrics,
        metrics.get_retry_metrics,
        metrics.get_processing_time_percentiles,
    ):
        with pytest.raises(InvalidTaskError, match="hours is"):
            ask(hours)


def test_every_failure_of_the_database_is_ours(database: QueueDatabase, metrics: QueueMetrics) -> None:
    database.execute("DROP TABLE task_rollup")
    with pytest.raises(QueueDatabaseError):
        metrics.get_queue_depth()


# Roll-ups


def test_rolling_up_changes_nothing_that_anybody_sees(database: QueueDatabase, metrics: QueueMetrics) -> None:
    add_many(database, 400)
    add(database, "completed", 0.5, 3, kind="a")
    with frozen():
        before = everything(database)
        assert 300 < roll_up(database) < 401 - rollup.KEEP
        assert everything(database) == before


def test_plain_rows_and_sums_agree_with_the_rows_themselves(database: QueueDatabase) -> None:
    add_many(database, 300)
    roll_up(database)
    rows = database.execute(
        """SELECT type, status, count(*) AS task_count, round(avg(priority), 2) AS avg_priority FROM task_queue
           NOT INDEXED GROUP BY type, status ORDER BY type, status"""
    ).fetchall()
    assert database.execute("SELECT * FROM v_queue_type_summary").fetchall() == rows
    rows = database.execute(
        """SELECT type, status, count(*) AS task_count, round(avg(round((julianday(finished_at_utc)
             - julianday(processing_started_utc)) * 86400, 3)), 2) AS avg_processing_seconds,
             round(avg(attempts), 2) AS avg_attempts FROM task_queue NOT INDEXED GROUP BY type, status
           ORDER BY type, status"""
    ).fetchall()
    assert database.execute("SELECT * FROM v_task_performance").fetchall() == rows


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
def test_the_views_say_what_the_public_statements_define(
    database: QueueDatabase, path: Path, rolled: bool, deleted: bool
) -> None:
    """Those read every row and stand on the three tables alone."""
    database.execute_many(
        """INSERT INTO task_queue (type, payload, status, priority, attempts, created_at_utc)
           VALUES ('a', '{}', ?, ?, ?, ?)""",
        [(status, number, number % 7, text(99 - number / 10)) for number in range(10) for status in STATUSES],
    )
    database.execute(
        "UPDATE task_queue SET run_after_utc = '2999-01-01 00:00:00.000' WHERE id % 2 AND status = 'queued'"
    )
    with database.transaction():
        for number in range(1200):  # created in the order of ids, as tasks are
            add(
                database,
                ("completed", "failed", "dead_letter")[number % 7 % 3],
                60 - number / 30,
                kind="ab"[number % 2],
            )
    if rolled:
        assert roll_up(database) > 1000
    if deleted:
        database.execute("DELETE FROM task_queue WHERE id % 3 = 0 OR id BETWEEN 200 AND 700 OR status = 'failed'")
        if rolled:
            assert database.execute("SELECT min(tasks) FROM task_rollup WHERE kind = 'block'").fetchone()[0] == 0
            assert rollup.check(database)
    database.close()
    plain = apsw.Connection(str(path.with_name("plain.db")))
    for statement in SCHEMA_STATEMENTS:
        plain.execute(statement)
    plain.execute("ATTACH ? AS filled", (str(path),))
    for table in ("task_queue", "task_logs", "workers"):
        names = [name for (name,) in plain.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        plain.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(names)} FROM filled.{table}")
    for view in ("v_queue_status_summary", "v_queue_type_summary", "v_task_performance", "v_recent_failures"):
        said = [tuple(row) for row in database.execute(f"SELECT * FROM {view}")]
        assert said == plain.execute(f"SELECT * FROM main.{view}").fetchall(), view
        assert len(said) > 3
    plain.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('w', '{}')")
    assert plain.execute("SELECT worker_id, active_tasks FROM main.v_worker_status").fetchall() == [("w", 0)]
    plain.close()


def test_what_was_deleted_is_not_forgotten_when_the_sums_begin_anew(
    database: QueueDatabase, metrics: QueueMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_many(database, 300)
    monkeypatch.setattr("prismq.metrics.EXACT_TIMES", 0)

    def said() -> list[Any]:
        windows = (1, 3.7, 24, 46)
        return [
            [metrics.get_processing_time_percentiles(hours, kind) for hours in windows for kind in (None, "a")],
            [metrics.get_success_failure_rates(hours) for hours in windows],
            [metrics.get_throughput_metrics(hours) for hours in windows],
            [tuple(row) for row in database.execute(observe_sql.FINISHED_EVER, (True,)) if row["type"] != "late"],
            [tuple(row) for row in database.execute(observe_sql.TIMES_EVER) if row["took"] != 7_000_000],
        ]

    with frozen():
        before = said()
        database.execute("DELETE FROM task_queue WHERE id % 4 = 1")
        assert roll_up(database) > 150
        database.execute("DELETE FROM task_queue WHERE id % 4 > 1")
        assert said() == before
        assert rollup.check(database)
        add(database, "completed", 59.9, seconds=7000, kind="late")  # finished before the watermark
        for _ in range(2):
            assert not rollup.check(database)
            assert said() == before
            roll_up(database)
            assert said() == before
            assert rollup.check(database)
            database.execute("UPDATE task_queue SET status = 'failed' WHERE type = 'late'")
        assert metrics.get_queue_depth("late") == 1


@pytest.mark.parametrize("rolled", [False, True])
def test_what_is_deleted_stays_in_rates_and_leaves_depths(database: QueueDatabase, rolled: bool) -> None:
    add_many(database, 200)
    if rolled:
        roll_up(database)
    metrics = QueueMetrics(database)
    before = {hours: metrics.get_success_failure_rates(hours) for hours in (10, 100)}
    throughput = metrics.get_throughput_metrics(100)
    database.execute("DELETE FROM task_queue WHERE id % 3 = 0 AND finished_at_utc < ?", (text(11),))
    left = database.execute("SELECT count(*) FROM task_queue").fetchone()[0]
    assert left < 160
    for _ in range(2):
        assert metrics.get_queue_depth() == left
        assert sum(metrics.get_queue_depth_by_type().values()) == left
        assert {hours: metrics.get_success_failure_rates(hours) for hours in (10, 100)} == before
        assert metrics.get_throughput_metrics(100) == throughput
        roll_up(database)
    assert rollup.check(database)
    database.execute("DELETE FROM task_queue")
    assert metrics.get_queue_depth() == 0
    assert metrics.get_queue_depth_by_type() == {}
    assert database.execute("SELECT count(*) FROM task_rollup WHERE kind = 'worker'").fetchone()[0] == 0


@pytest.mark.parametrize("rolled", [False, True])
def test_a_requeued_task_has_not_failed(open_queue: OPEN, path: Path, rolled: bool) -> None:
    with QueueDatabase(path) as database:
        database.initialize_schema()
        add_many(database, 100)
        if rolled:
            assert roll_up(database) > 50
    queue = open_queue()
    metrics = QueueMetrics(queue.database)
    before, depth = metrics.get_success_failure_rates(100), metrics.get_queue_depth_by_status()
    oldest = queue.database.execute(
        "SELECT id FROM task_queue WHERE status = 'failed' ORDER BY finished_at_utc LIMIT 1"
    ).fetchone()[0]
    assert queue.requeue(oldest)
    after, depth_after = metrics.get_success_failure_rates(100), metrics.get_queue_depth_by_status()
    assert after["failure_count"] == before["failure_count"] - 1
    assert after["success_count"] == before["success_count"]
    assert (depth_after["failed"], depth_after["queued"]) == (depth["failed"] - 1, 1)
    task = queue.claim("w")
    assert task is not None
    queue.complete(task)
    assert metrics.get_success_failure_rates(100)["success_count"] == before["success_count"] + 1
    assert rollup.check(queue.database)


def test_what_was_changed_by_hand_is_found_and_counted_anew(database: QueueDatabase, metrics: QueueMetrics) -> None:
    add_many(database, 200)
    roll_up(database)
    assert rollup.check(database)
    database.execute("DELETE FROM task_queue WHERE id <= 10")
    finished_ever = metrics.get_success_failure_rates(1000)["total_count"]
    add(database, "completed", 50)  # finished before the watermark
    database.execute("UPDATE task_queue SET status = 'queued' WHERE id IN (20, 21, 22)")
    assert not rollup.check(database)
    rows = database.execute("SELECT status, count(*) FROM task_queue NOT INDEXED GROUP BY status").fetchall()
    for _ in range(2):
        assert metrics.get_queue_depth_by_status() == dict(tuple(row) for row in rows)
        assert rollup.check(database)
        roll_up(database)
    assert finished_ever == 200


def test_a_batch_that_finished_in_one_millisecond_is_rolled_up_whole(database: QueueDatabase) -> None:
    moment = text(1)
    with database.transaction():
        for _ in range(100):
            database.execute(ADD, ("t", "completed", 1, 1, "w", moment, moment, moment))
    assert roll_up(database) == 100
    assert QueueMetrics(database).get_success_failure_rates()["success_count"] == 100
    assert not rollup.roll_up(database)


def test_what_has_only_just_finished_is_left_alone(database: QueueDatabase) -> None:
    """Until no clock that is set back by a little can bring anything before the watermark."""
    with database.transaction():
        for _ in range(100):
            add(database, "completed", 0.0005)
    assert roll_up(database) == 0


@pytest.mark.parametrize("kind", [None, "a"])
def test_percentiles_of_many_tasks_are_at_most_five_percent_off(
    database: QueueDatabase, metrics: QueueMetrics, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    chance = random.Random(7)
    times: list[float] = []
    with database.transaction():
        for number in range(600):
            seconds = chance.lognormvariate(0, 2.5)
            add(database, "completed", chance.uniform(0.1, 20), seconds, "ab"[number % 2])
            if kind in (None, "ab"[number % 2]):
                times.append(round(seconds, 3))
    roll_up(database)
    exact = metrics.get_processing_time_percentiles(24, kind)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    assert exact == pytest.approx({"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}, rel=0.01, abs=0.002)
    monkeypatch.setattr("prismq.metrics.EXACT_TIMES", 100)
    ordered = sorted(times)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        value = ordered[int((len(ordered) - 1) * share)]
        found = metrics.get_processing_time_percentiles(24, kind)[name]
        assert found == pytest.approx(value, rel=0.051, abs=0.002)
    assert metrics.get_processing_time_percentiles(24, "absent")["p50"] == 0.0


def test_the_classes_of_processing_time_are_at_most_a_tenth_wide(database: QueueDatabase) -> None:
    for ms in [*range(300), 999, 1000, 1001, 4999, 5000, 123_456, 86_400_000, 10**11]:
        lower = database.execute(f"SELECT {rollup.class_of('?1')}", (ms,)).fetchone()[0]
        width = rollup.class_width(lower)
        assert lower <= ms < lower + width, ms
        assert width == 1 or width <= lower / 10


@contextmanager
def frozen() -> Iterator[None]:
    """Windows end at the same moment while the block runs."""
    moment = clock.now()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: moment)
        yield


def test_windows_count_from_their_very_beginning(database: QueueDatabase, metrics: QueueMetrics) -> None:
    add_many(database, 300, seed=3)
    roll_up(database)
    ends = [row[0] for row in database.execute("SELECT finished_at_utc FROM task_queue")]
    with frozen():
        for hours in (0.1, 0.99, 1, 2.5, 13.01, 24, 36.6, 46.9, 47.1, 55):
            since = text(hours)
            assert metrics.get_success_failure_rates(hours)["total_count"] == sum(end >= since for end in ends), hours


def test_the_housekeeper_rolls_up_what_finishes(open_queue: OPEN, path: Path) -> None:
    queue = open_queue()
    with queue.database.transaction():
        for _ in range(100):
            add(queue.database, "completed", 0.5)
    deadline = time.monotonic() + 60
    rolled = "SELECT coalesce(sum(tasks), 0) FROM task_rollup WHERE kind = 'there'"
    while queue.database.execute(rolled).fetchone()[0] < 60:
        assert time.monotonic() < deadline
        queue.enqueue("t")
        time.sleep(0.1)
    assert QueueMetrics(queue.database).get_queue_depth("t", "completed") == 100


def test_the_housekeeper_notices_what_was_changed_by_hand(
    open_queue: OPEN, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with QueueDatabase(path) as database:
        database.initialize_schema()
        add_many(database, 100)
        assert roll_up(database) > 60
        database.execute("UPDATE task_queue SET status = 'queued' WHERE id IN (SELECT id FROM task_queue LIMIT 60)")
        assert QueueMetrics(database).get_queue_depth() != 100
    monkeypatch.setattr("prismq.housekeeping.CHECK_SECONDS", 0.5)
    queue = open_queue()
    queue.enqueue("t")
    deadline = time.monotonic() + 60
    while QueueMetrics(queue.database).get_queue_depth() != 101:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_metrics_hold_no_writer_up_and_see_one_moment(open_queue: OPEN) -> None:
    """Sums and rows change hands all the time; together they are always what was enqueued."""
    queue = open_queue()
    queue.enqueue_many([{"type": "t"}] * 400)
    stop = threading.Event()
    wrong: list[int] = []

    def look() -> None:
        with QueueDatabase(queue.database.db_path) as other:
            while not stop.is_set():
                depth = QueueMetrics(other).get_queue_depth()
                if depth != 400:
                    wrong.append(depth)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollup, "LAG_SECONDS", -3600.0)
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for number in range(40):
                queue.complete_many(queue.claim_many("w", 10))
                if number % 4 == 0:
                    rollup.roll_up(queue.database)
        finally:
            stop.set()
            watcher.join(30)
    assert wrong == []
    assert queue.database.execute("SELECT value > '' FROM queue_state WHERE name = 'rolled_up_to'").fetchone()[0]


def test_the_time_zone_changes_nothing(database: QueueDatabase) -> None:
    for hours in (0.5, 1.5, 23.5, 24.5):
        add(database, "completed", hours)
    database.execute("INSERT INTO workers VALUES ('w', '{}', ?)", (text(0.001),))
    database.execute("INSERT INTO task_queue (type, payload) VALUES ('t', '{}')")
    database.close()
    script = """
import sys
from prismq import QueueDatabase, QueueMetrics, QueueMonitoring, WorkerHeartbeat
with QueueDatabase(sys.argv[1]) as database:
    metrics = QueueMetrics(database)
    print([metrics.get_success_failure_rates(hours)["total_count"] for hours in (1, 2, 24, 25)],
          metrics.get_oldest_queued_task_age() < 100, metrics.get_queue_health_summary()["active_workers"],
          len(WorkerHeartbeat(database).get_active_workers()), QueueMonitoring(database).update_heartbeat("w"),
          metrics.get_worker_activity()[0]["seconds_since_heartbeat"] < 100)
"""
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(database.db_path)],
            env=os.environ | {"TZ": zone},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split("\n")[0] == "[1, 2, 3, 4] True 1 1 True True", zone
