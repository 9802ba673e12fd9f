"""The examples run as they are written, and say what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import prismq
from prismq import TaskQueue, WorkerEngine

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

SAID = {
    "cpu_pool.py": [r"12 tasks, \d+ processes", r"6,057 primes below 60,000, found in .* s by [1-4] processes"],
    "fetcher.py": [r"300 pages, 259,000 bytes in .* s", "one after the other they take 30 s"],
    "thumbnails.py": [
        "6 pictures of 36,878 bytes",
        *[r'task \d: {"file":"picture-\d.*"height":24}'] * 6,
        "6 thumbnails",
    ],
    "webhooks.py": [
        "task 1: completed after 1 attempts, no error",
        "task 2: completed after 3 attempts, HTTPError: HTTP Error 503: Service Unavailable",
        "task 3: completed after 2 attempts, RetryLater: the receiver is busy",
        "task 4: failed after 1 attempts, Discard: the receiver is gone",
    ],
}


def test_every_example_is_under_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAID, "task_handlers.py"}


@pytest.mark.parametrize("name", SAID)
def test_an_example(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    for expected in SAID[name]:
        assert any(re.fullmatch(expected, line) for line in lines), (expected, done.stdout)
    assert not list(tmp_path.iterdir())
    assert len((EXAMPLES / name).read_text().splitlines()) < 100


def test_the_handlers_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    document = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    (tmp_path / "documented_jobs.py").write_text(code)
    prismq.reset_global_registry()
    try:
        registry = prismq.load_handlers(str(tmp_path / "documented_jobs.py"))
        with TaskQueue(tmp_path / "queue.db") as queue:
            for task_type, payload in (("thumbnail", {"frames": 2}), ("mail", {}), ("mail", {"to": "ada"})):
                queue.enqueue(task_type, payload)
            WorkerEngine(queue, "w", handler_registry=registry).run_loop(max_iterations=3)
            tasks = [queue.get(task_id) for task_id in (1, 2, 3)]
            report = queue.report(1)
    finally:
        prismq.reset_global_registry()
    assert [task.status for task in tasks if task is not None] == ["completed", "failed", "queued"]
    assert report is not None
    assert report.get_result() == {"frames": 2}


def test_the_configured_handlers_run_under_the_command(tmp_path: Path) -> None:
    with TaskQueue(tmp_path / "queue.db") as queue:
        mail = queue.enqueue("send_email", {"to": "ada", "subject": "hello"}, compatibility={"region": "eu"})
        report = queue.enqueue("generate_report", {"report_type": "sales", "format": "pdf"})
        command = [sys.executable, "-m", "prismq", "--db", str(tmp_path / "queue.db"), "worker"]
        options = ["--handlers", "examples/config/task_handlers.json", "--config", "examples/config/worker_config.json"]
        worker = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        guard = threading.Timer(60, worker.kill)
        guard.start()
        assert worker.stdout is not None
        said = sorted([worker.stdout.readline(), worker.stdout.readline()])
        assert said == ["mail to ada: hello\n", "sales report as pdf, filters {}\n"]
        while any(task.finished_at_utc is None for task in map(queue.get, (mail, report)) if task is not None):
            assert worker.poll() is None
        if os.name == "nt":
            worker.kill()
        else:
            worker.terminate()
            assert worker.wait() == 0
        worker.communicate()
        guard.cancel()
        kept = queue.report(report)
        assert kept is not None
        assert kept.get_result() == {"report_type": "sales", "rows": 42}
