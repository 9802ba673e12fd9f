"""Restores: into a queue that others have open, whole or not at all, and without giving anything out twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from prismq import LeaseLostError, QueueBackup, QueueBackupError, QueueDatabase, TaskQueue
from tests import colleague, operation
from tests.colleague import Colleague

HIRE = Callable[..., Colleague]


@pytest.fixture
def backups(queue: TaskQueue) -> QueueBackup:
    return QueueBackup(queue.database)


def types(queue: TaskQueue) -> list[str]:
    return [row[0] for row in queue.database.execute("SELECT type FROM task_queue ORDER BY id")]


def sound(queue: TaskQueue) -> bool:
    return bool(queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def test_whoever_has_it_open_sees_the_backup_and_nothing_newer(
    queue: TaskQueue, backups: QueueBackup, hire: HIRE, path: Path
) -> None:
    other = hire()
    queue.enqueue_many([{"type": "old", "payload": {"body": "x" * 2000}}] * 20)
    made = backups.create_backup()
    other.run(colleague.enqueue, "new", 500)  # still in the WAL, which must not be replayed over the backup
    assert path.with_name("queue.db-wal").stat().st_size > 0
    backups.restore_backup(made)
    assert other.run(operation.count) == 20
    assert types(queue) == ["old"] * 20
    other.run(colleague.enqueue, "newest")
    assert types(queue) == ["old"] * 20 + ["newest"]
    other.dismiss()
    queue.close()
    assert types(queue) == ["old"] * 20 + ["newest"]
    assert sound(queue)


def test_an_open_transaction_of_another_ends_first_and_a_reader_keeps_its_moment(
    queue: TaskQueue, backups: QueueBackup, hire: HIRE, tmp_path: Path
) -> None:
    queue.enqueue("old")
    made = backups.create_backup()
    queue.enqueue("new")
    other = hire()
    other.begin(colleague.sleep_in_transaction, str(tmp_path / "flag"), 0.5)
    while not (tmp_path / "flag").exists():
        time.sleep(0.01)
    reader = QueueDatabase(queue.database.db_path)
    with reader.connection() as connection:
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM task_queue").fetchone()[0] == 2
        backups.restore_backup(made)
        assert connection.execute("SELECT count(*) FROM task_queue").fetchone()[0] == 2
        connection.rollback()
    other.result()
    assert reader.execute("SELECT count(*) FROM task_queue").fetchone()[0] == 1
    reader.close()


def test_while_processes_enqueue_no_id_is_given_out_twice(
    queue: TaskQueue, backups: QueueBackup, hire: HIRE, tmp_path: Path
) -> None:
    queue.enqueue_many([{"type": "old"}] * 50)
    made = backups.create_backup()
    writers = [hire() for _ in range(3)]
    for number in range(2):
        flag = tmp_path / f"stop{number}"
        for writer in writers:
            writer.begin(operation.enqueue_until, str(flag))
        time.sleep(0.2)
        backups.restore_backup(made)
        time.sleep(0.2)
        flag.touch()
        given = [task_id for writer in writers for task_id in writer.result()]
        assert len(set(given)) == len(given)
        there = {row[0] for row in queue.database.execute("SELECT id FROM task_queue")}
        assert set(range(1, 51)) <= there
        assert there <= {*range(1, 51), *given}
        # What was enqueued after the restore is there: the newest ids, without a gap.
        newest = sorted(there)[50:]
        assert newest == list(range(newest[0], newest[-1] + 1))
        assert newest[-1] == max(given)
    assert sound(queue)


def test_ids_of_tasks_that_are_gone_stay_theirs(queue: TaskQueue, backups: QueueBackup) -> None:
    made = backups.create_backup()
    given = queue.enqueue_many([{"type": "t"}] * 5)
    queue.database.execute("DELETE FROM task_queue WHERE id = ?", (given[-1],))
    queue.database.execute("INSERT INTO task_logs (task_id, level) VALUES (?, 'INFO')", (given[0],))
    backups.restore_backup(made)
    assert queue.enqueue("t") == given[-1] + 1
    queue.database.execute("INSERT INTO task_logs (task_id, level) VALUES (?, 'INFO')", (given[-1] + 1,))
    assert queue.database.execute("SELECT log_id FROM task_logs").fetchone()[0] == 2


def test_a_claim_from_before_is_refused_even_to_its_own_worker(queue: TaskQueue, backups: QueueBackup) -> None:
    task_id = queue.enqueue("t", max_attempts=1)
    made = backups.create_backup()
    before = queue.claim("w")
    assert before is not None
    backups.restore_backup(made)
    with pytest.raises(LeaseLostError):
        queue.renew(before)
    again = queue.claim("w")
    assert again is not None
    assert again.id == task_id
    with pytest.raises(LeaseLostError):
        queue.complete(before)
    queue.complete(again)


def test_an_idle_worker_of_another_process_gets_a_restored_task(
    queue: TaskQueue, backups: QueueBackup, hire: HIRE
) -> None:
    task_id = queue.enqueue("t")
    made = backups.create_backup()
    task = queue.claim("w")
    assert task is not None
    queue.complete(task)
    other = hire()
    other.begin(colleague.claim, "idle", {"wait": 30})
    time.sleep(0.3)
    assert not other.is_done
    backups.restore_backup(made)
    assert other.result()[0] == task_id


def test_what_writers_note_for_each_other_stays_known(queue: TaskQueue, backups: QueueBackup) -> None:
    note = "INSERT INTO queue_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    queue.database.execute(note, ("group 00000000000000aa", b"old ticket......"))
    made = backups.create_backup()
    queue.database.execute(note, ("group 00000000000000aa", b"new ticket......"))
    queue.database.execute(note, ("group 00000000000000bb", b"another........."))
    backups.restore_backup(made)
    rows = queue.database.execute("SELECT name, value FROM queue_state WHERE name GLOB 'group 00000000000000*'")
    assert {tuple(row) for row in rows} == {
        ("group 00000000000000aa", b"new ticket......"),
        ("group 00000000000000bb", b"another........."),
    }


def test_a_killed_restore_has_not_happened(queue: TaskQueue, backups: QueueBackup, hire: HIRE) -> None:
    queue.enqueue_many([{"type": "old", "payload": {"body": "x" * 6000}}] * 600)
    made = backups.create_backup()
    queue.enqueue("new")
    victim = hire()
    victim.begin(operation.restore, str(made), True)
    victim.process.join(60)
    assert victim.process.exitcode != 0
    assert operation.count(queue) == 601
    queue.enqueue("newer")  # the lock came back
    assert sound(queue)
    hire().run(operation.restore, str(made))
    assert operation.count(queue) == 600
    assert sound(queue)


def test_what_is_no_queue_is_not_written_to(backups: QueueBackup, queue: TaskQueue, tmp_path: Path) -> None:
    queue.enqueue("t")
    made = backups.create_backup()
    with apsw.Connection(str(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    (tmp_path / "text.db").write_text("my letters " * 1000)
    for name, message in (("other.db", "database of something else"), ("text.db", "damaged or no database")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(QueueBackupError, match=message):
            backups.restore_backup(made, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    other = apsw.Connection(str(tmp_path / "other.db"))
    assert [row[0] for row in other.execute("SELECT name FROM sqlite_schema")] == ["mine"]
    other.close()
    with pytest.raises(QueueBackupError, match="the database itself"):
        backups.restore_backup(queue.database.db_path)
    made.write_bytes(made.read_bytes()[:8192])
    with pytest.raises(QueueBackupError):
        backups.restore_backup(made)
    assert types(queue) == ["t"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".prismq", "other.db-", "text.db-"))]


def test_a_restore_to_a_new_place_ignores_a_log_that_lies_there(
    queue: TaskQueue, backups: QueueBackup, path: Path, tmp_path: Path
) -> None:
    queue.enqueue("old")
    made = backups.create_backup()
    queue.enqueue_many([{"type": "new"}] * 100)
    target = tmp_path / "elsewhere" / "queue.db"
    target.parent.mkdir()
    for suffix in ("-wal", "-shm"):  # of a database that was moved away alone
        target.with_name("queue.db" + suffix).write_bytes(path.with_name("queue.db" + suffix).read_bytes())
    backups.restore_backup(made, target)
    with TaskQueue(target) as restored:
        assert types(restored) == ["old"]
        assert sound(restored)


def test_a_backup_of_another_page_size_fits(queue: TaskQueue, backups: QueueBackup) -> None:
    queue.enqueue("old")
    made = backups.create_backup()
    backup = apsw.Connection(str(made))
    backup.pragma("page_size", 8192)
    backup.execute("VACUUM")
    backup.close()
    queue.enqueue("new")
    backups.restore_backup(made)
    assert types(queue) == ["old"]
    assert queue.database.execute("PRAGMA page_size").fetchone()[0] == 4096


def test_a_backup_from_before_the_lottery_serves_those_who_play_it(
    queue: TaskQueue, backups: QueueBackup, hire: HIRE
) -> None:
    queue.enqueue_many([{"type": "old"}] * 3)
    made = backups.create_backup()
    other = hire()
    assert other.run(operation.claim_weighted) == "old"
    backups.restore_backup(made)
    assert [other.run(operation.claim_weighted) for _ in range(4)] == ["old", "old", "old", None]


def test_progress_reaches_the_end(queue: TaskQueue, backups: QueueBackup) -> None:
    queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 6000}}] * 300)
    calls: list[tuple[int, int]] = []
    backups.restore_backup(backups.create_backup(), progress=lambda done, pages: calls.append((done, pages)))
    assert len(calls) > 1
    assert calls[-1][0] == calls[-1][1]
    assert operation.count(queue) == 300
