"""Backups: whole, named apart, made while others write, and left by nobody half done."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from prismq import BackupInfo, QueueBackup, QueueBackupError, QueueDatabase, QueueDatabaseError, TaskQueue
from tests import operation
from tests.colleague import Colleague


@pytest.fixture
def backups(queue: TaskQueue) -> QueueBackup:
    return QueueBackup(queue.database)


def fill(queue: TaskQueue, count: int = 300) -> None:
    """So much that copying takes several steps."""
    queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 6000}}] * count)


def test_a_backup_is_the_queue_as_one_file(queue: TaskQueue, backups: QueueBackup, path: Path) -> None:
    ids = queue.enqueue_many([{"type": "t"}] * 3)
    made = backups.create_backup("nightly")
    assert made.parent == path.parent / "backups"
    assert re.fullmatch(r"queue_backup_nightly_\d{8}_\d{6}_\d{3}\.db", made.name)
    assert backups.verify_backup(made) is True
    assert [file.name for file in made.parent.iterdir()] == [made.name]
    with TaskQueue(made) as copy:
        assert [copy.claim("w").id for _ in ids] == ids  # type: ignore[union-attr]


def test_what_is_not_committed_is_not_in_it(queue: TaskQueue, backups: QueueBackup) -> None:
    queue.enqueue("t")
    with queue.database.transaction():
        queue.enqueue("t")
        made = backups.create_backup()
    with TaskQueue(made) as copy:
        assert operation.count(copy) == 1


def test_while_processes_write_a_backup_is_one_moment_of_history(
    queue: TaskQueue, backups: QueueBackup, hire: Callable[..., Colleague], tmp_path: Path
) -> None:
    fill(queue)
    writers = [hire() for _ in range(3)]
    for writer in writers:
        writer.begin(operation.enqueue_until, str(tmp_path / "stop"))
    made, steps = [], []
    for _ in range(4):
        calls: list[int] = []
        made.append(backups.create_backup(progress=lambda done, pages, calls=calls: calls.append(done)))  # type: ignore[misc]
        steps.append(calls)
    (tmp_path / "stop").touch()
    written = [writer.result() for writer in writers]
    assert all(written)
    counts = []
    for backup in made:
        with TaskQueue(backup) as copy:
            counts.append(operation.count(copy))
            # Ids are given out in the order of commits: those of a moment have no gaps.
            assert copy.database.execute("SELECT max(id) FROM task_queue").fetchone()[0] == counts[-1]
    assert all(len(calls) > 1 and calls == sorted(calls) for calls in steps)  # none began anew
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_backups_in_one_moment_have_names_of_their_own(queue: TaskQueue, backups: QueueBackup) -> None:
    queue.enqueue("t")
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.extend(backups.create_backup() for _ in range(5))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 15
    assert {info.path for info in backups.list_backups()} == set(made)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", "..", ".hidden", "C:x", "a\0b", "a b", "x" * 101])
def test_a_name_that_is_none_is_refused(backups: QueueBackup, name: str) -> None:
    with pytest.raises(QueueBackupError, match="can't be part of a file's name"):
        backups.create_backup(name)
    assert list(backups.backup_dir.iterdir()) == []


def test_its_time_is_utc(queue: TaskQueue, backups: QueueBackup) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    info = BackupInfo.from_path(backups.create_backup())
    assert before <= info.created_at <= datetime.now(UTC)
    assert info.created_at.strftime("%Y%m%d_%H%M%S") in info.path.name
    assert info.size_mb == info.size_bytes / 2**20 > 0


def test_the_newest_are_kept_and_strange_files_left_alone(queue: TaskQueue, backups: QueueBackup) -> None:
    made = [backups.create_backup(name) for name in ("z", None, "a", "m")]
    strange = backups.backup_dir / "queue_backup_of_my_own.db"
    strange.write_text("mine")
    assert [info.path for info in backups.list_backups()] == made[::-1]
    latest = backups.get_latest_backup()
    assert latest is not None
    assert latest.path == made[-1]
    for count in (-1, True, 1.5, "3"):
        with pytest.raises(QueueBackupError, match="keep_count"):
            backups.cleanup_old_backups(count)  # type: ignore[arg-type]
    assert backups.cleanup_old_backups(2) == 2
    assert [info.path for info in backups.list_backups()] == made[:1:-1]
    assert backups.cleanup_old_backups() == 0
    assert strange.read_text() == "mine"


def test_what_is_no_sound_queue_does_not_verify(queue: TaskQueue, backups: QueueBackup, tmp_path: Path) -> None:
    fill(queue, 20)
    made = backups.create_backup()
    with pytest.raises(QueueBackupError, match="not found"):
        backups.verify_backup(tmp_path / "nowhere.db")
    (tmp_path / "text.db").write_text("no database " * 1000)
    with pytest.raises(QueueBackupError, match="not a database"):
        backups.verify_backup(tmp_path / "text.db")
    with apsw.Connection(str(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(QueueBackupError, match="no queue in it"):
        backups.verify_backup(tmp_path / "other.db")
    damaged = bytearray(made.read_bytes())
    damaged[3 * 4096 : 8 * 4096] = b"\xff" * (5 * 4096)
    (tmp_path / "damaged.db").write_bytes(damaged)
    with pytest.raises(QueueBackupError, match=r"damaged|malformed"):
        backups.verify_backup(tmp_path / "damaged.db")
    newer = apsw.Connection(str(made))
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(QueueBackupError, match="upgrade prismq"):
        backups.verify_backup(made)


def test_who_looks_on_can_stop_it_and_nothing_is_left(queue: TaskQueue, backups: QueueBackup) -> None:
    fill(queue)
    seen: list[tuple[int, int]] = []

    def stop(done: int, pages: int) -> None:
        seen.append((done, pages))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backups.create_backup(progress=stop)
    assert 0 < seen[0][0] < seen[0][1]
    assert list(backups.backup_dir.iterdir()) == []
    queue.enqueue("t")
    calls: list[tuple[int, int]] = []
    backups.create_backup(progress=lambda done, pages: calls.append((done, pages)))
    assert calls[-1][0] == calls[-1][1]
    assert calls == sorted(calls)


def test_a_killed_backup_leaves_no_backup(
    queue: TaskQueue, backups: QueueBackup, hire: Callable[..., Colleague]
) -> None:
    fill(queue)
    victim = hire()
    victim.begin(operation.backup, True)
    victim.process.join(60)
    assert victim.process.exitcode != 0
    assert backups.list_backups() == []
    assert backups.verify_backup(backups.create_backup())


def test_files_that_cannot_be_are_told_as_what_they_are(queue: TaskQueue, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueBackupError, match="can't be used") as raised:
        QueueBackup(queue.database, tmp_path / "file")
    assert isinstance(raised.value, QueueDatabaseError)
    assert isinstance(raised.value.__cause__, OSError)
    backups = QueueBackup(queue.database, tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(QueueBackupError, match="no backup"):
        backups.create_backup()
    with pytest.raises(QueueBackupError, match="not found"):
        QueueBackup(QueueDatabase(tmp_path / "none.db")).create_backup()
    assert not (tmp_path / "none.db").exists()
