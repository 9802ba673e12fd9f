"""A database that is named by a symbolic link is the one that the link leads to, with the files beside that."""

from __future__ import annotations

from pathlib import Path

import pytest

from prismq import QueueMaintenance, TaskQueue, database_files
from prismq.doctor import diagnose


@pytest.fixture
def link(path: Path, tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    try:
        link.symlink_to(path)
    except OSError as error:
        pytest.skip(f"this user can't make links: {error}")
    return link


def test_a_queue_in_use_is_found_sound_by_its_link(queue: TaskQueue, link: Path) -> None:
    queue.enqueue("t")
    found = {finding.name: finding for finding in diagnose(link, measure=False)}
    assert found["schema"].verdict == "ok"
    assert float(found["WAL"].found.split()[0].replace(",", "")) > 0
    with TaskQueue(link) as other:
        assert other.get(1) is not None
        assert QueueMaintenance(other.database).get_database_stats()["wal_size_mb"] > 0


def test_who_looks_reads_what_was_committed_last_and_makes_no_files(queue: TaskQueue, path: Path, link: Path) -> None:
    queue.enqueue("t")
    for name in (path, link):
        raw = database_files.open_read_only(name)
        assert raw.execute("SELECT count(*) FROM task_queue").fetchall() == [(1,)]
        raw.close()
    queue.close()
    before = sorted(path.parent.rglob("*"))
    for name in (path, link):
        raw = database_files.open_read_only(name)
        assert raw.execute("SELECT count(*) FROM task_queue").fetchall() == [(1,)]
        raw.close()
    assert sorted(path.parent.rglob("*")) == before
