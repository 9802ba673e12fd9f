"""Claims out of order are found; what overlaps in time is not held against anybody."""

from fabricated import Call, claimed, enqueued, records

from bench.accounting import Row
from bench.order import file_order, out_of_place, passed_over


def rows(*calls: Call) -> list[Row]:
    taken = {call[4] for call in calls if call[0] == 1}
    return [Row(call[4], call[3], "queued", int(call[4] in taken)) for call in calls if call[0] == 0]


def violations(*calls: Call) -> int:
    return passed_over(records(*calls), rows(*calls))


def test_best_first_is_in_order() -> None:
    assert violations(enqueued(1, priority=90), enqueued(2, priority=10), claimed(2, 1.0, 1.1, priority=10)) == 0


def test_a_better_task_passed_over_is_found() -> None:
    worse, better = enqueued(1, priority=90), enqueued(2, priority=10)
    later = claimed(2, 2.0, 2.1, priority=10)
    assert violations(worse, better, claimed(1, 1.0, 1.1, priority=90), later) == 1


def test_a_better_task_never_claimed_is_found() -> None:
    assert violations(enqueued(1, priority=90), enqueued(2, priority=10), claimed(1, 1.0, 1.1, priority=90)) == 1


def test_of_equal_priority_the_smaller_id_goes_first() -> None:
    assert violations(enqueued(1), enqueued(2), claimed(2, 1.0, 1.1), claimed(1, 2.0, 2.1)) == 1


def test_a_task_enqueued_during_the_claim_may_be_passed_over() -> None:
    assert violations(enqueued(1, priority=90), enqueued(2, 1.05, 10), claimed(1, 1.0, 1.1, priority=90)) == 0


def test_a_task_claimed_at_the_same_time_is_not_passed_over() -> None:
    tasks = enqueued(1, priority=90), enqueued(2, priority=10)
    assert violations(*tasks, claimed(1, 1.0, 1.1, priority=90), claimed(2, 1.05, 1.2, priority=10)) == 0


def test_an_overlapping_arrival_does_not_hide_a_task_passed_over() -> None:
    tasks = enqueued(1, priority=90), enqueued(2, priority=30), enqueued(3, 1.05, 10)
    assert violations(*tasks, claimed(1, 1.0, 1.1, priority=90), claimed(3, 2.0, 2.1, priority=10)) == 1


def test_a_task_that_a_killed_worker_may_have_held_is_not_counted() -> None:
    worse, better = enqueued(1, priority=90), enqueued(2, priority=10)
    calls = (worse, better, claimed(1, 1.0, 1.1, priority=90), claimed(2, 4.0, 4.1, attempt=2, priority=10))
    assert passed_over(records(*calls), [Row(1, 90, "completed", 1), Row(2, 10, "completed", 2)]) == 0


def test_a_drain_is_held_against_the_file() -> None:
    table = [Row(1, 90, "queued", 0), Row(2, 10, "queued", 0), Row(3, 10, "completed", 1), Row(4, 10, "queued", 0)]
    assert file_order(table) == [2, 4, 1]
    assert out_of_place([2, 4, 1], [2, 4, 1]) == 0
    assert out_of_place([4, 2, 1], [2, 4, 1]) == 2
    assert out_of_place([2, 4], [2, 4, 1]) == 1
