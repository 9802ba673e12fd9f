"""A journal held in memory leaves the same records, and leaves the file alone until its end."""

from pathlib import Path

import pytest

from bench import held_journal
from bench.held_journal import HeldJournal
from bench.journal import Journal, Operation, Outcome, read_journals


def write(journal: Journal, records: int) -> None:
    for task in range(records):
        journal.write(Operation.CLAIM, Outcome.DONE, 1.0, 2.0, 3.5, task, attempt=3, priority=-7)


def test_nothing_is_written_before_the_end(tmp_path: Path) -> None:
    held, plain = tmp_path / "held.journal", tmp_path / "plain.journal"
    with HeldJournal(held) as journal:
        write(journal, 1000)
        assert held.stat().st_size == 0
    with Journal(plain) as journal:
        write(journal, 1000)
    assert held.read_bytes() == plain.read_bytes()


def test_more_than_it_holds_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_journal, "HELD_BYTES", 1000)
    path = tmp_path / "a.journal"
    with HeldJournal(path) as journal:
        write(journal, 500)
    assert read_journals([path])["task_id"].tolist() == list(range(500))
