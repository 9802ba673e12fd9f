"""Backups: whole, named apart, made while others write, and left by nobody half done."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import BackupInfo, QueueBackup, QueueBackupError, QueueDatabase, QueueDatabaseError, TaskQueue
from tests import operation
from tests.colleague import Colleague

OPEN = Callable[..., TaskQueue]


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


def test_while_processes_enqueue_and_complete_a_backup_is_one_moment_of_history(
    queue: TaskQueue, backups: QueueBackup, hire: Callable[..., Colleague], tmp_path: Path
) -> None:
    fill(queue)
    workers = {f"worker {number}": hire() for number in range(4)}
    for name, worker in workers.items():
        worker.begin(operation.work_until, str(tmp_path / "stop"), name)
    made, steps = [], []
    for _ in range(3):
        calls: list[int] = []
        made.append(backups.create_backup(progress=lambda done, pages, calls=calls: calls.append(done)))  # type: ignore[misc]
        steps.append(calls)
    (tmp_path / "stop").touch()
    done = {name: worker.result() for name, worker in workers.items()}
    assert all(len(calls) > 1 and calls == sorted(calls) for calls in steps)  # none began anew
    lengths = []
    for number, backup in enumerate(made):
        assert backups.verify_backup(backup)
        backups.restore_backup(backup, tmp_path / f"restored-{number}.db")
        for path in (backup, tmp_path / f"restored-{number}.db"):
            with TaskQueue(path) as copy:
                # Ids are given out in the order of commits: those of a moment have no gaps.
                newest = copy.database.execute("SELECT max(id) FROM task_queue").fetchone()[0]
                assert newest == operation.count(copy)
                lengths.append([operation.holds_a_prefix(copy, name, did) for name, did in done.items()])
    assert lengths[::2] == lengths[1::2]
    assert lengths == sorted(lengths, key=sum)
    assert sum(lengths[-1]) > sum(lengths[0])
    assert operation.statuses(queue)["completed"] == sum(what == "complete" for did in done.values() for what, _ in did)


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


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("before deploy", "before_deploy"),
        ("../x", ".._x"),
        ("a/b\\c:d", "a_b_c_d"),
        (".hidden", ".hidden"),
        ("a\0b\ud800*?", "a_b___"),
        ("prüfung", "prüfung"),
        ("x" * 100, "x" * 100),
    ],
)
def test_what_a_file_name_cannot_hold_is_replaced(queue: TaskQueue, backups: QueueBackup, name: str, kept: str) -> None:
    queue.enqueue("t")
    made = backups.create_backup(name)
    assert made.parent == backups.backup_dir
    assert re.fullmatch(rf"queue_backup_{re.escape(kept)}_\d{{8}}_\d{{6}}_\d{{3}}\.db", made.name)
    (info,) = backups.list_backups()
    assert (info.path, info.name) == (made, kept)
    assert backups.cleanup_old_backups(0, name=name) == 1


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "ä" * 51, 7])
def test_a_name_that_is_none_is_refused(queue: TaskQueue, backups: QueueBackup, name: Any) -> None:
    queue.enqueue("t")
    with pytest.raises(QueueBackupError, match="can't be part of a file's name"):
        backups.create_backup(name)
    assert not backups.backup_dir.exists()


def test_queues_that_share_a_folder_have_each_their_own_backups(open_queue: OPEN, tmp_path: Path) -> None:
    queues = {name: open_queue(tmp_path / f"{name}.db") for name in ("x", "y")}
    shared = {name: QueueBackup(queue.database) for name, queue in queues.items()}
    assert shared["x"].backup_dir == shared["y"].backup_dir
    made: dict[str, list[Path]] = {"x": [], "y": []}
    for _ in range(2):
        for name, queue in queues.items():
            queue.enqueue(name)
            made[name].append(shared[name].create_backup("daily"))
    for name, backups in shared.items():
        assert [info.path for info in backups.list_backups()] == made[name][::-1]
    newest = shared["x"].get_latest_backup()
    assert newest is not None
    assert newest.path == made["x"][1]
    assert shared["x"].cleanup_old_backups(1) == 1
    assert {path for paths in made.values() for path in paths if path.exists()} == {made["x"][1], *made["y"]}
    shared["x"].restore_backup(made["y"][0])  # on purpose: x is still x, with a content of y
    assert [info.path for info in shared["x"].list_backups()] == [made["x"][1]]
    assert [info.path for info in shared["y"].list_backups()] == made["y"][::-1]


def test_those_of_one_name_are_thinned_out_by_themselves(queue: TaskQueue, backups: QueueBackup) -> None:
    made = [backups.create_backup(name) for name in ("weekly", "daily", None, "daily", None)]
    assert backups.cleanup_old_backups(1, name="daily") == 1
    assert backups.cleanup_old_backups(1, name="") == 1
    assert [path for path in made if path.exists()] == [made[0], made[3], made[4]]


def test_a_queue_that_was_moved_keeps_its_backups_and_a_copy_has_none(open_queue: OPEN, tmp_path: Path) -> None:
    queue = open_queue(tmp_path / "old.db")
    queue.enqueue("t")
    made = QueueBackup(queue.database).create_backup()
    queue.close()
    shutil.copy(tmp_path / "old.db", tmp_path / "copy.db")
    copy = QueueBackup(QueueDatabase(tmp_path / "copy.db"))
    assert copy.list_backups() == []
    (tmp_path / "copy.db").unlink()
    (tmp_path / "old.db").rename(tmp_path / "new.db")
    moved = QueueBackup(QueueDatabase(tmp_path / "new.db"))
    assert [info.path for info in moved.list_backups()] == [made]
    moved.restore_backup(made, tmp_path / "twin.db")
    assert QueueBackup(QueueDatabase(tmp_path / "old.db")).get_latest_backup() is not None  # there is no queue: his are
    assert not (tmp_path / "old.db").exists()
    with QueueDatabase(tmp_path / "twin.db") as twin:
        own = QueueBackup(twin).create_backup()
    assert [info.path for info in moved.list_backups()] == [made]
    assert [info.path for info in QueueBackup(QueueDatabase(tmp_path / "twin.db")).list_backups()] == [own, made]


def test_a_damaged_database_has_its_backups_and_a_new_one_in_its_place_does_not(
    open_queue: OPEN, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = open_queue()
    made = QueueBackup(queue.database).create_backup()
    queue.close()
    path.write_bytes(b"damaged " * 1000)
    backups = QueueBackup(QueueDatabase(path))
    assert [info.path for info in backups.list_backups()] == [made]
    path.unlink()
    open_queue().enqueue("t")
    assert backups.list_backups() == []
    broken = made.with_name("queue_backup_20300101_000000_000.db")
    broken.write_bytes(b"damaged " * 1000)
    assert backups.get_latest_backup() is None
    assert f"{broken} is left out" in caplog.text


def test_looking_for_backups_makes_no_folder(queue: TaskQueue, tmp_path: Path) -> None:
    backups = QueueBackup(queue.database, tmp_path / "no" / "folder")
    assert backups.list_backups() == []
    assert backups.get_latest_backup() is None
    assert backups.cleanup_old_backups() == 0
    with pytest.raises(QueueBackupError, match="not found"):
        backups.restore_backup(tmp_path / "none.db")
    assert not (tmp_path / "no").exists()
    assert backups.create_backup().parent == tmp_path / "no" / "folder"


def test_a_name_with_no_time_of_a_calendar_is_dated_by_its_file(queue: TaskQueue, backups: QueueBackup) -> None:
    made = backups.create_backup()
    odd = made.rename(made.with_name("queue_backup_99999999_999999_999.db"))
    (info,) = backups.list_backups()
    assert info.path == odd
    assert abs(info.created_at - datetime.now(UTC)) < timedelta(hours=1)


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
        QueueBackup(queue.database, tmp_path / "file").create_backup()
    assert isinstance(raised.value, QueueDatabaseError)
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(QueueBackupError, match="not found"):
        QueueBackup(QueueDatabase(tmp_path / "none.db")).create_backup()
    assert not (tmp_path / "none.db").exists()
