"""The ends of calls without a pause between them leave the records of whole calls."""

from array import array

from bench.closed_loop import records_of
from bench.journal import Operation, Outcome


def test_a_call_begins_as_the_one_before_ended() -> None:
    records = records_of(1.0, array("d", [1.5, 1.7]), array("q", [8, 9]), array("d", [1.6]))
    assert records["outcome"].tolist() == [Outcome.DONE, Outcome.DONE, Outcome.BUSY]
    assert records["operation"].tolist() == [Operation.ENQUEUE] * 3
    assert records["intended"].tolist() == records["started"].tolist() == [1.0, 1.5, 1.6]
    assert records["ended"].tolist() == [1.5, 1.7, 1.6]
    assert records["task_id"].tolist() == [8, 9, 0]


def test_nothing_was_called() -> None:
    assert len(records_of(1.0, array("d"), array("q"), array("d"))) == 0
