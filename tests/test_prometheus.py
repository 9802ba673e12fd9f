"""What Prometheus gets to see."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from prismq import QueueDatabase, QueueDatabaseError, QueueMonitoring, TaskQueue, rollup
from prismq.prometheus import BUCKETS_SECONDS, QueueCollector
from tests.test_metrics import add

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(autouse=True)
def small_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "KEEP", 5)
    monkeypatch.setattr(rollup, "CHUNK", 5)


def scrape(database: QueueDatabase) -> Samples:
    registry = CollectorRegistry()
    registry.register(QueueCollector(database))
    return samples(generate_latest(registry).decode())


def samples(exposition: str) -> Samples:
    """By name and labels, the type before the status."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items(), reverse=True))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_everything_that_is_there(queue: TaskQueue) -> None:
    queue.enqueue_many(
        [{"type": "a"}] * 3 + [{"type": "b", "max_attempts": 1}, {"type": "c", "run_after": timedelta(hours=1)}]
    )
    (dead,) = queue.claim_many("w", 1, types="b")
    queue.fail(dead, "no")
    first = queue.claim("w", types="a")
    assert first is not None
    queue.fail(first, "once", delay_seconds=0)
    again = queue.claim("w", strategy="fifo")
    assert again is not None
    time.sleep(0.03)
    queue.complete(again)
    assert queue.claim("w", lease_seconds=0.05) is not None
    time.sleep(0.1)
    assert queue.claim("w") is not None
    monitoring = QueueMonitoring(queue.database)
    for worker in ("here", "late", "gone"):
        monitoring.register_worker(worker)
    queue.database.execute("UPDATE workers SET heartbeat_utc = datetime('now', '-2 minutes') WHERE worker_id = 'late'")
    queue.database.execute("UPDATE workers SET heartbeat_utc = datetime('now', '-9 minutes') WHERE worker_id = 'gone'")
    queue.database.execute("UPDATE task_queue SET created_at_utc = datetime('now', '-50 seconds') WHERE type = 'c'")
    found = scrape(queue.database)
    assert {labels: value for (name, labels), value in found.items() if name == "prismq_tasks"} == {
        ("a", "queued"): 1,
        ("a", "processing"): 1,
        ("a", "completed"): 1,
        ("b", "dead_letter"): 1,
        ("c", "queued"): 1,
    }
    assert 49 <= found["prismq_oldest_queued_task_age_seconds", ()] < 100
    assert found["prismq_tasks_finished_total", ("a", "completed")] == 1
    assert found["prismq_tasks_finished_total", ("b", "dead_letter")] == 1
    assert found["prismq_task_retries_total", ("a",)] == 1
    assert found["prismq_task_retries_total", ("b",)] == 0
    assert found["prismq_leases_expired_total", ()] == 1
    assert [found["prismq_workers", (state,)] for state in ("active", "late", "stale")] == [1, 1, 1]
    assert found["prismq_database_bytes", ()] > 0
    assert found["prismq_wal_bytes", ()] > 0
    assert found["prismq_task_processing_seconds_count", ()] == 1
    assert found["prismq_task_processing_seconds_bucket", ("0.02",)] == 0
    assert found["prismq_task_processing_seconds_bucket", ("+Inf",)] == 1
    assert 0.028 < found["prismq_task_processing_seconds_sum", ()] < 10


def test_an_empty_queue(path) -> None:
    with QueueDatabase(path) as database:
        found = scrape(database)
    assert found["prismq_oldest_queued_task_age_seconds", ()] == 0
    assert found["prismq_task_processing_seconds_count", ()] == 0
    assert not [name for name, _ in found if name in ("prismq_tasks", "prismq_tasks_finished_total")]


def test_counters_never_go_back(path) -> None:
    """Neither when tasks are rolled up, nor when they are deleted, nor when they are queued again."""
    with QueueDatabase(path) as database:
        database.initialize_schema()
        for number in range(40):
            add(database, ("completed", "dead_letter")[number % 2], 1 + number / 10, 0.5, attempts=1 + number % 3)
        before = scrape(database)
        counters = {key: value for key, value in before.items() if key[0].endswith(("_total", "_count", "_bucket"))}
        assert before["prismq_tasks_finished_total", ("t", "completed")] == 20
        steps = (
            lambda: [None for _ in range(20) if rollup.roll_up(database)],
            lambda: database.execute("DELETE FROM task_queue WHERE id IN (1, 2, 30, 31)"),
            lambda: database.execute(
                """UPDATE task_queue SET status = 'queued', attempts = 0, run_after_utc = '2020-01-01',
                   finished_at_utc = NULL, locked_by = NULL WHERE id IN (4, 34)"""
            ),
            lambda: database.execute("DELETE FROM task_queue"),
        )
        for step in steps:
            step()
            after = scrape(database)
            assert {key: after.get(key) for key in counters} == counters
        assert not [name for name, _ in after if name == "prismq_tasks"]


def test_the_buckets_end_where_classes_do(path) -> None:
    with QueueDatabase(path) as database:
        for seconds in BUCKETS_SECONDS[:-1]:
            ms = round(seconds * 1000)
            assert database.execute(f"SELECT {rollup.class_of('?1')}", (ms,)).fetchone()[0] == ms


def test_it_is_served_over_http(queue: TaskQueue) -> None:
    queue.enqueue("t")
    registry = CollectorRegistry()
    registry.register(QueueCollector(queue.database))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            found = samples(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
    assert found["prismq_tasks", ("t", "queued")] == 1


def test_a_database_that_can_not_be_read_fails_the_scrape(path) -> None:
    with QueueDatabase(path) as database:
        collector = QueueCollector(database)
        database.execute("DROP TABLE task_rollup")
        with pytest.raises(QueueDatabaseError):
            list(collector.collect())


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("prismq.prometheus", "prometheus_client", "metrics"), ("prismq.tracing", "opentelemetry", "otel")],
)
def test_a_missing_library_is_named_with_its_extra(module: str, library: str, extra: str) -> None:
    script = f"""
import sys
import prismq
assert "{library}" not in sys.modules  # nothing is imported that was not asked for
sys.modules["{library}"] = None
try:
    import {module}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert f'pip install "prismq[{extra}]"' in done.stdout
