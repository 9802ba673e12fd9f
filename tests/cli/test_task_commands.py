"""Commands about tasks: enqueue, list, show, cancel, requeue, logs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prismq import LeaseLostError, TaskLogger, TaskQueue, clock
from prismq.cli import exits

CALL = Callable[..., tuple[int, str, str]]
ASK = Callable[..., Any]


def test_enqueue_makes_the_queue_and_says_the_id(call: CALL, ask: ASK, path: Path) -> None:
    assert call("enqueue", "mail", '{"to": "ada"}') == (0, "1\n", "")
    assert ask("enqueue", "mail", "--priority", 5, "--max-attempts", 2, "--needs", '{"gpu": true}') == {"ids": [2]}
    assert ask("enqueue", "mail", "--key", "k") == ask("enqueue", "mail", "--key", "k") == {"ids": [3]}
    ask("enqueue", "late", "--in", "2h")
    ask("enqueue", "late", "--at", "2100-01-01T00:00:00+01:00")
    with TaskQueue(path) as queue:
        task = queue.get(2)
        assert task is not None
        assert (task.priority, task.max_attempts, task.get_compatibility_dict()) == (5, 2, {"gpu": True})
        late = queue.get(5)
        assert late is not None
        assert str(late.run_after_utc) == "2099-12-31 23:00:00+00:00"
        assert queue.claim("w", types="late") is None


def test_enqueue_reads_payloads_and_lines(prismq: Callable[..., Any], ask: ASK) -> None:
    assert prismq("enqueue", "mail", "-", given='{"n": 1}').stdout == "1\n"
    done = prismq("enqueue", "--lines", given='{"type": "a", "priority": 1}\n\n{"type": "b", "payload": [2]}\n')
    assert done.stdout == "2\n3\n"
    assert json.loads(ask("show", 1)["payload"]) == {"n": 1}
    assert ask("list")[1]["priority"] == 1
    done = prismq("enqueue", "--lines", given='{"type": "a"}\n{"type": ""}\n')
    assert done.returncode == exits.USAGE
    assert "task 1 of the batch" in done.stderr
    done = prismq("enqueue", "--lines", given='{"type": "a"}\nnonsense\n')
    assert done.returncode == exits.USAGE
    assert "line 2 is not JSON" in done.stderr
    assert len(ask("list")) == 3
    done = prismq("enqueue", "--lines", given='\ufeff{"type": "with a mark"}\r\n{"type": "of\u2028two lines"}\r\n')
    assert done.stdout == "4\n5\n"


@pytest.mark.parametrize("command", [["mail", "-"], ["--lines"]])
def test_input_that_is_not_utf_8_is_no_task(environment: dict[str, str], path: Path, command: list[str]) -> None:
    command = [sys.executable, "-m", "prismq", "enqueue", *command]
    done = subprocess.run(command, input=b'{"type": "\xff"}', env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (exits.USAGE, b"")
    assert b"prismq: standard input is not UTF-8" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["mail", "not json"],
        ["mail", "--at", "tomorrow"],
        ["mail", "--at", "2030-01-01", "--in", "1h"],
        [""],
        [],
        ["mail", "--lines"],
        ["--lines", "--priority", "5"],
        ["--lines", "--in", "2h"],
        ["--lines", "--max-attempts", "2"],
        ["--lines", "--key", "k"],
        ["--lines", "--at", "2030-01-01"],
        ["--lines", "--needs", "{}"],
        ["mail", "--needs", "[1]"],
    ],
)
def test_what_is_no_task_is_refused(call: CALL, wrong: list[str]) -> None:
    status, out, err = call("enqueue", *wrong)
    assert (status, out) == (exits.USAGE, "")
    assert err.startswith("prismq: ")
    assert "of the batch" not in err  # there is one


def test_list_shows_the_newest_first_by_status_and_type(call: CALL, ask: ASK, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": kind, "payload": {"long": "x" * 500}} for kind in "ababa"])
        task = queue.claim("w", types="a")
        assert task is not None
        queue.fail(task, "no\nway " * 100, retry=False)
    assert [row["id"] for row in ask("list")] == [5, 4, 3, 2, 1]
    assert [row["id"] for row in ask("list", "--limit", 2, "--before", 5)] == [4, 3]
    assert [row["id"] for row in ask("list", "--type", "b")] == [4, 2]
    assert [row["id"] for row in ask("list", "--status", "failed")] == [1]
    _, out, _ = call("list")
    assert len(out.splitlines()) == 7
    assert max(map(len, out.splitlines())) < 120
    assert "no way no way" in out
    assert call("list", "--status", "dead_letter") == (0, "no tasks\n", "")


def test_show_tells_all_of_a_task(call: CALL, ask: ASK, path: Path) -> None:
    with TaskQueue(path) as queue:
        task_id = queue.enqueue("mail", {"to": "ada"}, idempotency_key="k")
        queue.database.execute(
            "INSERT INTO task_reports (task_id, attempt, result) VALUES (?, 1, '{\"a\": 1}')", (task_id,)
        )
        TaskLogger(queue.database).log(task_id, "INFO", "hello", {"n": 1})
    status, out, _ = call("show", task_id)
    assert status == 0
    for text in ("mail", '"to": "ada"', "idempotency_key", "hello", '{"n": 1}', '"a": 1'):
        assert text in out
    shown = ask("show", task_id)
    assert (shown["id"], shown["logs"][0]["message"], shown["report"]["attempt"]) == (task_id, "hello", 1)
    assert call("show", 99) == (exits.REFUSED, "", "prismq: there is no task 99\n")


def test_cancel_ends_what_has_not_ended(call: CALL, ask: ASK, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": "t"}] * 3)
        task = queue.claim("w")
        assert task is not None
        queue.complete(task)
        completed = queue.get(1)
        status, out, _ = call("cancel", 1, 2, 99)
        assert status == exits.REFUSED
        assert out.splitlines() == ["task 1: not changed, it is completed", "task 2: cancelled", "task 99: not found"]
        assert queue.get(1) == completed
        assert ask("cancel", 3) == [{"id": 3, "outcome": "cancelled"}]
        assert queue.get(3).status == "failed"  # type: ignore[union-attr]


def test_a_running_handler_is_told_of_a_cancel(call: CALL, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue("t")
        task = queue.claim("w")
        assert task is not None
        assert call("cancel", 1) == (0, "task 1: cancelled\n", "")
        with pytest.raises(LeaseLostError, match="cancelled"):
            queue.renew(task)
        with pytest.raises(LeaseLostError):
            queue.complete(task)
        assert queue.get(1).error_message == "Cancelled by user"  # type: ignore[union-attr]


def test_times_are_utc_wherever_the_operator_is(
    prismq: Callable[..., Any], environment: dict[str, str], path: Path
) -> None:
    environment["TZ"] = "Asia/Tokyo"
    prismq("enqueue", "t")
    assert prismq("cancel", "1").returncode == 0
    with TaskQueue(path) as queue:
        task = queue.get(1)
        assert task is not None
        assert task.finished_at_utc is not None
        assert abs(clock.now() - task.finished_at_utc) < timedelta(hours=1)
    made = prismq("backup").stdout.split("queue_backup_")[1]
    moment = datetime.strptime(made[:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    assert abs(clock.now() - moment) < timedelta(hours=1)


def test_requeue_one_and_all(call: CALL, ask: ASK, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": "a" if number % 2 else "b", "max_attempts": 1} for number in range(250)])
        queue.fail_many([(task, "no") for task in queue.claim_many("w", 250)])
        assert call("requeue", 1) == (0, "task 1: requeued\n", "")
        assert call("requeue", 1, 999)[:2] == (
            exits.REFUSED,
            "task 1: not changed, it is queued\ntask 999: not found\n",
        )
        assert ask("requeue", "--all", "--status", "failed") == {"requeued": 0}
        assert ask("requeue", "--all", "--type", "a") == {"requeued": 125}
        assert call("requeue", "--all") == (0, "requeued 124\n", "")
        assert queue.database.execute("SELECT count(*) FROM task_queue WHERE phase = 1").fetchone()[0] == 250
    for wrong in ((), ("1", "--all"), ("1", "--type", "a")):
        assert call("requeue", *wrong)[0] == exits.USAGE


def test_logs_come_oldest_first(call: CALL, ask: ASK, path: Path) -> None:
    with TaskQueue(path) as queue:
        logger = TaskLogger(queue.database)
        for task_id in queue.enqueue_many([{"type": "t"}] * 2):
            logger.log(task_id, "INFO", "one")
            logger.log(task_id, "ERROR", "two")
    assert [(row["task_id"], row["message"]) for row in ask("logs")] == [(1, "one"), (1, "two"), (2, "one"), (2, "two")]
    assert [row["message"] for row in ask("logs", 1)] == ["one", "two"]
    assert [row["task_id"] for row in ask("logs", "--level", "error", "--limit", 1)] == [2]
    _, out, _ = call("logs", 2)
    assert [line.split()[2:] for line in out.splitlines()] == [
        ["INFO", "task", "2", "one"],
        ["ERROR", "task", "2", "two"],
    ]


LATE = "2030-01-01 00:00:00.000"
"""The time of what is logged at once in `log_out_of_order`; the buffered entry's is earlier."""


def log_out_of_order(queue: TaskQueue, task_id: int) -> None:
    """Two entries that are written at once, then an earlier one that comes late, as from a buffer."""
    entry = "INSERT INTO task_logs (task_id, at_utc, level, message) VALUES (?, ?, ?, ?)"
    queue.database.execute(entry, (task_id, LATE, "INFO", "second"))
    queue.database.execute(entry, (task_id, LATE, "ERROR", "third"))
    queue.database.execute(entry, (task_id, "2029-01-01 00:00:00.000", "INFO", "first"))


def test_an_entry_that_was_written_late_hides_none(call: CALL, path: Path) -> None:
    with TaskQueue(path) as queue:
        log_out_of_order(queue, queue.enqueue("t"))
    for arguments in ((), (1,)):
        assert [line.split()[-1] for line in call("logs", *arguments)[1].splitlines()] == ["first", "second", "third"]


@pytest.mark.parametrize("as_json", [False, True])
def test_follow_prints_each_entry_once_as_it_is_written(environment: dict[str, str], path: Path, as_json: bool) -> None:
    with TaskQueue(path) as queue:
        task_id, other = queue.enqueue("t"), queue.enqueue("t")
        log_out_of_order(queue, task_id)
        command = ["logs", str(task_id), "--level", "info", "--follow", *(["--json"] if as_json else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "prismq", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            encoding="utf-8",
        )
        patience = threading.Timer(30, process.kill)
        patience.start()
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            burst = [(other, "INFO", "not mine"), (task_id, "ERROR", "not that")]
            burst += [(task_id, "INFO", f"burst{number}") for number in range(2500)]
            entry = f"INSERT INTO task_logs (at_utc, task_id, level, message) VALUES ('{LATE}', ?, ?, ?)"
            queue.database.execute_many(entry, burst)
            log_out_of_order(queue, task_id)
            lines += [process.stdout.readline() for _ in range(2500 + 2)]
        finally:
            patience.cancel()
            process.kill()
            process.communicate()
    said = [json.loads(line)["message"] if as_json else line.split()[-1] for line in lines]
    assert said == ["first", "second", *(f"burst{number}" for number in range(2500)), "second", "first"]


def test_the_log_of_no_task_is_an_error(call: CALL, path: Path) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue("t")
    assert call("logs", 1) == (exits.OK, "", "")
    assert call("logs", 999) == (exits.REFUSED, "", "prismq: there is no task 999\n")
