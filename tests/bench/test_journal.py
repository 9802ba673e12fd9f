"""What a process wrote can be read back, also when it was killed in the middle of a record."""

from pathlib import Path

from bench.journal import RECORD, Journal, Operation, Outcome, read_journals


def test_records_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.write(Operation.CLAIM, Outcome.DONE, 1.0, 2.0, 3.5, task_id=2**40, attempt=3, priority=-7)
    (record,) = read_journals([path])
    assert record.tolist() == (Operation.CLAIM, Outcome.DONE, 3, -7, 2**40, 1.0, 2.0, 3.5)


def test_a_record_cut_short_is_left_out(tmp_path: Path) -> None:
    whole, cut, empty = tmp_path / "whole", tmp_path / "cut", tmp_path / "empty"
    for path in (whole, cut):
        with Journal(path) as journal:
            for task in (1, 2):
                journal.write(Operation.ENQUEUE, Outcome.DONE, 0.0, 0.0, 1.0, task)
    cut.write_bytes(cut.read_bytes()[: RECORD.itemsize + 5])
    empty.touch()
    assert read_journals([whole, cut, empty])["task_id"].tolist() == [1, 2, 1]


def test_every_write_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.write(Operation.ENQUEUE, Outcome.DONE, 0.0, 0.0, 1.0, 1)
        assert path.stat().st_size == RECORD.itemsize


def test_no_journals_are_no_records() -> None:
    assert len(read_journals([])) == 0
