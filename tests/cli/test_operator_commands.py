"""Commands about the queue: stats, top, workers, backup, restore, maintain, prune, doctor, demo."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import QueueMonitoring, TaskQueue, doctor, native
from prismq.cli import exits

if os.name != "nt":
    import fcntl
    import pty
    import termios

CALL = Callable[..., tuple[int, str, str]]
ASK = Callable[..., Any]


@pytest.fixture
def filled(path: Path) -> Path:
    """A queue with two completed tasks, a failed and a waiting one, and a worker."""
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": kind} for kind in ("mail", "mail", "video", "video")])
        QueueMonitoring(queue.database).register_worker("ada", {"gpu": True})
        queue.complete_many(queue.claim_many("ada", 2))
        task = queue.claim("ada")
        assert task is not None
        queue.fail(task, "broken", retry=False)
    return path


def test_stats(call: CALL, ask: ASK, filled: Path) -> None:
    found = ask("stats", "--hours", 1)
    assert found["depth_by_status"] == {"completed": 2, "failed": 1, "queued": 1}
    assert found["depth_by_type"] == ask("top", "--interval", "0.1")["depth_by_type"]
    assert {"type": "mail", "status": "completed", "tasks": 2} in found["depth_by_type"]
    assert found["success_failure_rates"]["failure_count"] == 1
    assert found["workers"][0]["worker_id"] == "ada"
    status, out, _ = call("stats")
    assert status == 0
    assert "mail   completed      2" in out
    assert "ada" in out
    with pytest.raises(SystemExit):
        call("stats", "--hours", "0")


def test_top_once(call: CALL, ask: ASK, filled: Path) -> None:
    found = ask("top", "--once", "--interval", "0.1")
    assert found["depth_by_status"]["completed"] == 2
    assert found["enqueued_per_second"] == 0.0
    assert found["failures"][0]["error_message"] == "broken"
    _, out, _ = call("top", "--once", "--interval", "0.1")
    for text in (str(filled), "workers (1 active, 0 stale)", "latest failures", "broken", "oldest queued"):
        assert text in out


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
@pytest.mark.parametrize("with_rich", [True, False])
def test_top_shows_everything_on_a_small_terminal(
    environment: dict[str, str], path: Path, tmp_path: Path, with_rich: bool
) -> None:
    with TaskQueue(path) as queue:
        queue.enqueue_many([{"type": f"type-{number % 12}-" + "x" * 30, "max_attempts": 1} for number in range(120)])
        for number in range(12):
            QueueMonitoring(queue.database).register_worker(f"worker-{number}")
        queue.fail_many([(task, "broken " * 40) for task in queue.claim_many("worker-1", 24)])
    folder = tmp_path / ("a folder " * 15).strip()
    folder.mkdir()
    shutil.copy(path, folder)
    environment["PRISMQ_QUEUE_DB_PATH"] = str(folder / path.name)
    if not with_rich:
        (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "prismq", "top", "--interval", "0.2"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}, cwd=tmp_path
    )
    os.close(theirs)
    patience = threading.Timer(30, process.kill)
    patience.start()
    try:
        seen = b""
        while seen.count(b"latest failures") < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # how the other end's close shows
            while more := os.read(ours, 65536):
                seen += more
        assert process.wait(30) == exits.OK
    finally:
        patience.cancel()
        process.kill()
        os.close(ours)
    frames = re.split(r"\x1b\[(?:2J\x1b\[)?H", seen.decode())
    whole = next(frame for frame in frames if "latest failures" in frame)  # another one followed
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole)
    lines = screen.replace("\r", "").rstrip("\n").split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for text in (
        "types (12)",
        "type-0-",
        "workers (12 active, 0 stale)",
        "  active  ",
        "latest failures",
        "24",
        "broken",
    ):
        assert text in screen, screen
    assert re.match(r"….*/queue\.db  \d{4}-.* UTC *$", lines[0]), screen


def test_top_without_rich(prismq: Callable[..., Any], filled: Path, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    done = prismq("top", "--once", "--interval", "0.1")  # python -m looks into this folder first
    assert done.returncode == 0
    assert "latest failures" in done.stdout


def test_workers_and_what_stale_ones_hold(call: CALL, ask: ASK, filled: Path) -> None:
    with TaskQueue(filled) as queue:
        assert queue.claim("ada", lease_seconds=3600) is not None
        assert ask("workers")["workers"][0]["active_tasks"] == 1
        assert "active" in call("workers")[1]
        time.sleep(0.2)
        found = ask("workers", "--stale", "0.1s", "--reclaim")
        assert (found["tasks_reclaimed"], found["workers_forgotten"], found["workers"]) == (1, 1, [])
        assert call("workers")[1] == "no workers\n"
        assert queue.get(4).status == "queued"  # type: ignore[union-attr]


def test_backup_list_verify_restore(call: CALL, ask: ASK, filled: Path, tmp_path: Path) -> None:
    status, out, err = call("backup", "nightly")
    assert (status, err) == (0, "")
    made = Path(out.strip())
    assert made.parent == filled.parent / "backups"
    assert call("backup", "--verify", made) == (0, out, "")
    assert ask("backup", "weekly", "--keep", 1)["deleted"] == 0
    assert ask("backup", "--keep", 1)["deleted"] == 0
    assert ask("backup", "nightly", "--keep", 1)["deleted"] == 1
    assert not made.exists()
    assert len(ask("backup", "--list")) == 3
    assert str(filled.parent / "backups") in call("backup", "--list")[1]
    with TaskQueue(filled) as queue:
        queue.enqueue("new")
        status, out, err = call("restore", "latest")
        assert (status, out) == (exits.USAGE, "")
        assert "--yes" in err
        assert len(ask("list")) == 5
        assert call("restore", "latest", "--yes")[0] == 0
        assert len(ask("list")) == 4
        assert queue.get(5) is None
    latest = ask("backup", "--list")[0]["path"]
    copy = tmp_path / "copy.db"
    assert ask("restore", latest, "--yes", "--db", copy)["database"] == str(copy)
    assert len(ask("list", "--db", copy)) == 4
    for wrong in (
        ("backup", " "),
        ("backup", "--verify", tmp_path / "none"),
        ("restore", tmp_path / "none", "--yes"),
    ):
        status, out, err = call(*wrong)
        assert (status, out) == (exits.REFUSED, "")
        assert err.startswith("prismq: ")


def test_a_mistyped_restore_makes_no_folders(call: CALL, filled: Path, tmp_path: Path) -> None:
    made = Path(call("backup")[1].strip())
    (tmp_path / "letters.txt").write_text("my letters " * 500)
    before = sorted(tmp_path.rglob("*"))
    typo = tmp_path / "typo" / "q.db"
    for wrong, expected in (
        (("restore", tmp_path / "nowhere" / "x.db", "--yes"), exits.REFUSED),
        (("restore", tmp_path / "nowhere" / "x.db"), exits.REFUSED),
        (("--db", typo, "restore", "latest", "--yes"), exits.REFUSED),
        (("--db", typo, "restore", "latest"), exits.REFUSED),
        (("--db", typo, "restore", "latest", "--dir", made.parent), exits.REFUSED),
        (("--db", typo, "restore", made), exits.USAGE),
        (("--db", typo, "restore", tmp_path / "letters.txt", "--yes"), exits.REFUSED),
        (("--db", typo, "backup", "--list"), exits.NO_DATABASE),
    ):
        status, out, err = call(*wrong)
        assert (status, out) == (expected, ""), wrong
        assert err.startswith("prismq: ")
        assert sorted(tmp_path.rglob("*")) == before, wrong
    kept = made.read_bytes()
    assert call("--db", typo, "restore", made, "--yes")[0] == exits.OK
    assert call("--db", typo, "list", "--json")[1] == call("list", "--json")[1]
    assert made.read_bytes() == kept


def test_maintain(call: CALL, ask: ASK, filled: Path) -> None:
    done = ask("maintain", "--checkpoint", "truncate", "--integrity", "--analyze", "--stale-leases", "5m", "--vacuum")
    assert done["integrity"] == ["ok"]
    assert done["checkpoint"]["busy"] == done["stale_leases"] == 0
    assert done["database"]["page_count"] > 0
    assert call("maintain")[1].startswith("database: page count")
    status, _, err = call("maintain", "--analyze", "task_queue; DROP TABLE task_queue")
    assert status == exits.REFUSED
    assert "there is no table" in err
    assert len(ask("list")) == 4


def test_maintain_tells_of_damage(call: CALL, filled: Path) -> None:
    with TaskQueue(filled) as queue:
        queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 5000}}] * 50)
    damaged = bytearray(filled.read_bytes())
    damaged[-10 * 4096 :] = b"\xff" * (10 * 4096)
    filled.write_bytes(damaged)
    assert call("maintain", "--integrity")[0] == exits.REFUSED
    status, out, _ = call("doctor", "--integrity", "--no-measure")
    assert status == exits.REFUSED
    assert "FAIL" in out
    assert "restore a backup" in out


def test_prune_now_and_from_now_on(call: CALL, ask: ASK, filled: Path, tmp_path: Path) -> None:
    assert call("prune")[0] == exits.USAGE
    export = tmp_path / "old.jsonl"
    removed = ask("prune", "--keep", "completed=1", "--keep", "failed=7d", "--export", export)
    assert removed == {"completed": 1, "failed": 0, "dead_letter": 0, "logs": 0}
    assert json.loads(export.read_text())["task"]["id"] == 1
    assert ask("prune", "--keep", "completed=7d", "--keep", "completed=0", "--store") == {
        "completed": {"days": 7, "count": 0}
    }
    assert call("prune", "--show")[1] == "completed: days 7, count 0\n"
    assert call("prune")[0] == 0  # by the stored policy, unless somebody was first
    assert [row["id"] for row in ask("list")] == [4, 3]
    assert call("prune", "--forget") == (0, "everything is kept\n", "")
    for wrong in (["--keep", "nonsense=1"], ["--keep", "failed"], ["--keep", "failed=-1"], ["--keep", "failed=soon"]):
        with pytest.raises(SystemExit) as ended:
            call("prune", *wrong)
        assert ended.value.code == exits.USAGE
    for wrong in (["--store"], ["--keep", "failed=1", "--show"], ["--keep", "failed=1", "--store", "--export", "x"]):
        assert call("prune", *wrong)[0] == exits.USAGE


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_worker_says_in_json_how_it_ended(environment: dict[str, str], filled: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "prismq", "worker", "--handlers", "tests.supervised_handlers", "--id", "w", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stderr is not None
        while "started as process" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == exits.OK
    assert json.loads(out) == {"worker_id": "w", "database": str(filled), "ended": "stopped"}


def contents(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_what_is_pruned_is_not_exported_into_the_queue_itself(call: CALL, filled: Path, suffix: str) -> None:
    with TaskQueue(filled) as queue:
        queue.enqueue("t")
        before = filled.stat().st_size
        target = filled.parent / ".." / filled.parent.name / f"{filled.name}{suffix}"
        status, out, err = call("prune", "--keep", "completed=0", "--export", target)
        assert (status, out) == (exits.USAGE, "")
        assert "is the queue itself" in err
        assert filled.stat().st_size == before
        assert queue.get(1) is not None


def test_warnings_are_lines_of_the_command(prismq: Callable[..., Any], filled: Path) -> None:
    with TaskQueue(filled) as queue:
        QueueMonitoring(queue.database).register_worker("eve\x1b[2J")
        assert queue.claim("eve\x1b[2J") is not None
        queue.database.execute("UPDATE workers SET heartbeat_utc = '2000-01-01 00:00:00.000'")
    done = prismq("workers", "--reclaim")
    assert done.returncode == exits.OK
    assert done.stderr.startswith("prismq: task 4 is queued: Worker lost: eve\\x1b[2J was last heard of")
    assert "\x1b" not in done.stderr


def test_doctor_finds_a_sound_queue_and_writes_nothing_to_it(call: CALL, filled: Path) -> None:
    with TaskQueue(filled) as queue:
        queue.enqueue_many([{"type": f"bench_{number}"} for number in range(10)])
        queue.enqueue("test_tx")
    before = contents(filled.parent)
    status, out, err = call("doctor")
    assert (status, err) == (0, "")
    assert contents(filled.parent) == before
    for text in ("driver", "file system", "disk free", "WAL", "commit, normal", "commit, full", "healthy"):
        assert text in out
    assert "expired leases     0" in out


def test_doctor_leaves_a_queue_in_use_alone(ask: ASK, filled: Path) -> None:
    with TaskQueue(filled) as queue:
        queue.claim("w", lease_seconds=3600)
        version = queue.database.execute("PRAGMA data_version").fetchone()[0]
        found = ask("doctor")
        assert queue.database.execute("PRAGMA data_version").fetchone()[0] == version
        assert queue.database.execute("SELECT count(*) FROM task_queue").fetchone()[0] == 4
    assert found["healthy"] is True
    names = {finding["name"] for finding in found["findings"]}
    assert {"versions", "group commit", "schema", "stale workers", "commit, full"} <= names


def test_doctor_finds_a_queue_in_use_through_a_link(ask: ASK, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("no symbolic links")
    with TaskQueue(path) as queue:
        queue.enqueue("t")  # all of it is in the WAL
        found = {finding["name"]: finding for finding in ask("doctor", "--no-measure", "--db", link)["findings"]}
    assert found["schema"]["verdict"] == "ok"
    assert not found["WAL"]["found"].startswith("0.0")


def looked_at(ask: ASK) -> dict[str, dict[str, str]]:
    """What doctor finds in a healthy queue, by name."""
    return {finding["name"]: finding for finding in ask("doctor", "--no-measure")["findings"]}


def test_doctor_says_which_settings_are_in_force(
    ask: ASK, call: CALL, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_at(ask)["settings"]["found"] == "the defaults"
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("PRISMQ_SETTINGS", str(file))
    file.write_text('durability = "full"\nid_block = 7\n')
    assert looked_at(ask)["settings"]["found"] == "durability full, id_block 7"
    (filled.parent / "backups").mkdir()
    for wrong in ("durability = 1", "nonsense = 1", "no toml"):
        file.write_text(wrong)
        status, out, err = call("doctor", "--no-measure")
        assert (status, err) == (exits.REFUSED, "")
        assert f"FAIL  settings           {file}: " in out
        assert "backups" in out  # it goes on


def test_doctor_warns_of_a_wal_only_when_something_is_wrong(ask: ASK, filled: Path) -> None:
    def verdict(megabytes: int) -> tuple[str, str]:
        with filled.with_name("queue.db-wal").open("wb") as wal:  # as long as it says, with nothing in it
            wal.truncate(megabytes * 2**20)
        found = looked_at(ask)["WAL"]
        return found["verdict"], found["advice"][-6:]

    assert verdict(127)[0] == "ok"
    assert verdict(129)[0] == "warning"
    assert verdict(200)[1] != "; soon"
    assert verdict(257) == ("warning", "; soon")


def test_doctor_knows_the_journal_mode_at_rest(ask: ASK, filled: Path) -> None:
    assert looked_at(ask)["journal mode"]["found"] == "wal"
    other = apsw.Connection(str(filled))
    other.pragma("journal_mode", "DELETE")
    other.close()
    found = looked_at(ask)["journal mode"]
    assert (found["verdict"], found["found"]) == ("warning", "rollback")


@pytest.mark.skipif(native.load() is None, reason="the compiled module is not installed")
def test_doctor_says_whether_there_is_group_commit_and_why_not(
    ask: ASK, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = filled.with_name("queue.db-prismq")
    with TaskQueue(filled) as queue:
        assert looked_at(ask)["group commit"]["found"] == queue.group_commit == "on"
    side.unlink()
    assert looked_at(ask)["group commit"]["found"] == "on, once a process has the queue open"
    assert not side.exists()
    side.mkdir()
    found = looked_at(ask)["group commit"]
    with TaskQueue(filled) as queue:
        assert queue.group_commit.startswith("off: ")
    assert found["verdict"] == "warning"
    assert found["found"].startswith("off: ")
    assert list(side.iterdir()) == []
    monkeypatch.setenv("PRISMQ_GROUP_COMMIT", "0")
    found = looked_at(ask)["group commit"]
    assert (found["verdict"], found["found"]) == ("ok", "off: not wanted")


def test_doctor_warns_of_places_where_anybody_may_write(ask: ASK, filled: Path) -> None:
    default = Path("/tmp/prismq/queue/queue.db")
    found = {finding.name: finding for finding in islice(doctor.diagnose(default), 4)}
    assert "many systems empty it" in found["path"].found
    assert "path" not in looked_at(ask)
    if os.name != "nt":
        filled.parent.chmod(0o777)
        assert looked_at(ask)["path"]["verdict"] == "warning"
        filled.parent.chmod(0o700)


def test_doctor_tells_what_is_wrong(call: CALL, filled: Path) -> None:
    backups = filled.parent / "backups"
    backups.mkdir()
    with TaskQueue(filled) as queue:
        queue.close()
        raw = apsw.Connection(str(filled))
        raw.execute("UPDATE workers SET heartbeat_utc = '2000-01-01 00:00:00.000'")
        raw.execute(
            """UPDATE task_queue SET status = 'processing', attempts = 1, locked_by = 'x',
               lease_until_utc = '2000-01-01 00:00:00.000' WHERE id = 4"""
        )
        raw.close()
    status, out, _ = call("doctor", "--no-measure")
    assert status == 0
    warnings = [line.split("  ")[1].strip() for line in out.splitlines() if line.startswith("WARN")]
    assert warnings == ["expired leases", "stale workers", "failed, last day", "backups"]
    assert call("doctor", "--no-measure", "--strict")[0] == exits.REFUSED
    raw = apsw.Connection(str(filled))
    raw.pragma("user_version", 99)
    raw.close()
    status, out, _ = call("doctor", "--no-measure")
    assert status == exits.REFUSED
    assert "newer than this prismq" in out
    (filled.parent / "text.db").write_text("no database " * 500)
    assert call("doctor", "--no-measure", "--db", filled.parent / "text.db")[0] == exits.REFUSED


def test_the_demo_tells_its_story(prismq: Callable[..., Any], tmp_path: Path) -> None:
    done = prismq("demo")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    for text in ("three workers", "registered", "is killed", "came back", "as attempt 2", "stale: ", "cleaned up: 1"):
        assert text in done.stdout
    assert "completed             121" in done.stdout
    assert os.listdir(tmp_path) == []
