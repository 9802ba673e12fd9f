"""WEIGHTED_RANDOM: every draw is proportional to 1 / (priority + 1) among the tasks that the worker may have.

Chance decides these tests. Their thresholds lie where a sound lottery fails once in a million runs.
PRISMQ_LOTTERY_SCALE multiplies the draws.
"""

# ruff: noqa: PT012 - a transaction that fails is a block of several statements

from __future__ import annotations

import math
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prismq import QueueDatabase, TaskQueue, lottery

OPEN = Callable[..., TaskQueue]
RANDOM = "weighted_random"
SCALE = int(os.environ.get("PRISMQ_LOTTERY_SCALE", "1"))


def weight(priority: int) -> float:
    return 1 / (priority + 1)


def draws(driver: str, wanted: int) -> int:
    """How many draws a test makes: fewer on the slower driver."""
    return SCALE * (wanted if driver == "native" else wanted // 4)


def assert_distributed(seen: Iterable[int], expected: list[float]) -> None:
    """Pearson's chi-square test of outcomes 0, 1, … against their weights."""
    counts = Counter(seen)
    total, weights = sum(counts.values()), sum(expected)
    shares = [total * share / weights for share in expected]
    assert min(shares) >= 5, "too few draws for this test"
    chi_square = sum((counts[n] - share) ** 2 / share for n, share in enumerate(shares))
    # Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal; 4.75 sigma is one in a million.
    freedom = len(expected) - 1
    spread = 2 / (9 * freedom)
    sigmas = ((chi_square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    assert sigmas < 4.75, (sigmas, [counts[n] for n in range(len(expected))], shares)


def draw(queue: TaskQueue, **wanted: Any) -> int:
    """The id of the task drawn, which is then done and gone."""
    task = queue.claim("w", strategy=RANDOM, **wanted)
    assert task is not None
    assert task.id is not None
    queue.complete(task)
    return task.id


def refilled(queue: TaskQueue, tasks: list[dict[str, Any]], times: int, **wanted: Any) -> list[int]:
    """Which of `tasks` is drawn, again and again, the drawn one being replaced by one like it."""
    seen = []
    with queue.database.transaction():  # commits would only cost time
        standing = dict(zip(queue.enqueue_many(tasks), range(len(tasks)), strict=True))
        for _ in range(times):
            position = standing.pop(draw(queue, **wanted))
            seen.append(position)
            standing[queue.enqueue(**tasks[position])] = position
    return seen


def with_priorities(*priorities: int) -> list[dict[str, Any]]:
    return [{"type": "t", "priority": priority} for priority in priorities]


@pytest.fixture
def lot(queue: TaskQueue) -> TaskQueue:
    """A queue whose lottery is open."""
    assert queue.claim("w", strategy=RANDOM) is None
    return queue


def test_each_draw_is_proportional_to_the_weights(lot: TaskQueue, driver: str) -> None:
    priorities = [0, 1, 1, 3, 9, 30, 99]
    seen = refilled(lot, with_priorities(*priorities), draws(driver, 100_000))
    assert_distributed(seen, [weight(priority) for priority in priorities])


def test_priority_1_beats_priority_100_fifty_to_one(lot: TaskQueue, driver: str) -> None:
    seen = refilled(lot, with_priorities(1, 100), draws(driver, 6000))
    assert_distributed(seen, [101, 2])


def test_a_negative_priority_weighs_as_much_as_zero(lot: TaskQueue, driver: str) -> None:
    seen = refilled(lot, with_priorities(-1, -(2**63), 0, 1), draws(driver, 4000))
    assert_distributed(seen, [2, 2, 2, 1])


def test_within_a_priority_neither_age_nor_order_matters(lot: TaskQueue, driver: str) -> None:
    ages: list[int] = []
    with lot.database.transaction():
        standing = lot.enqueue_many(with_priorities(*[7] * 8))
        for _ in range(draws(driver, 8000)):
            drawn = draw(lot)
            ages.append(standing.index(drawn))
            standing.remove(drawn)
            standing.append(lot.enqueue("t", priority=7))
    assert_distributed(ages, [1] * 8)


def test_a_batch_is_drawn_as_one_draw_after_another(lot: TaskQueue, driver: str) -> None:
    # Of priorities 0, 1, 3 (weights 4 : 2 : 1) the six orders have these chances.
    chances = {(0, 1, 3): 4 / 7 * 2 / 3, (0, 3, 1): 4 / 7 / 3, (1, 0, 3): 2 / 7 * 4 / 5}
    chances |= {(1, 3, 0): 2 / 7 / 5, (3, 0, 1): 1 / 7 * 2 / 3, (3, 1, 0): 1 / 7 / 3}
    orders = list(chances)
    seen = []
    with lot.database.transaction():
        for _ in range(draws(driver, 4000)):
            lot.enqueue_many(with_priorities(3, 0, 1))
            tasks = lot.claim_many("w", 5, strategy=RANDOM)
            seen.append(orders.index((tasks[0].priority, tasks[1].priority, tasks[2].priority)))
            lot.complete_many(tasks)
    assert_distributed(seen, list(chances.values()))


def test_a_low_priority_is_drawn_while_better_ones_keep_coming(lot: TaskQueue) -> None:
    # Its chance is 0.65 % a draw: after 3000 draws it is missing in one of 300 million runs.
    tasks = with_priorities(1, 1, 1, 100)
    for _ in range(30):
        if 3 in refilled(lot, tasks, 100):
            return
        lot.database.execute("DELETE FROM task_queue")
    pytest.fail("starved")


def test_a_draw_among_types_is_proportional_too(lot: TaskQueue, driver: str) -> None:
    tasks: list[dict[str, Any]] = [{"type": f"t{n % 4}", "priority": n // 2} for n in range(12)]
    times = draws(driver, 6000)
    assert_distributed(refilled(lot, tasks, times), [weight(task["priority"]) for task in tasks])
    lot.database.execute("DELETE FROM task_queue")
    seen = refilled(lot, tasks, times, types=["t1", "t3"])
    assert_distributed((n // 2 for n in seen), [weight(task["priority"]) for task in tasks[1::2]])
    assert all(n % 2 for n in seen)


def test_draws_of_one_type_do_not_change_the_chances_within_another(lot: TaskQueue, driver: str) -> None:
    ages: list[int] = []
    with lot.database.transaction():
        lot.enqueue_many([{"type": "other"}] * 5)
        standing = lot.enqueue_many(with_priorities(*[7] * 4))
        for _ in range(draws(driver, 2000)):
            for _ in range(3):
                draw(lot, types="other")
                lot.enqueue("other")
            standing.append(lot.enqueue("t", priority=7))
            drawn = draw(lot, types="t")
            ages.append(standing.index(drawn))
            standing.remove(drawn)
    assert_distributed(ages, [1] * 5)


def test_draws_of_one_type_do_not_change_the_chances_of_the_others(lot: TaskQueue, driver: str) -> None:
    seen = []
    with lot.database.transaction():
        for _ in range(draws(driver, 2000)):
            lot.enqueue_many([{"type": "a"}] * 6 + [{"type": "b"}] * 2)
            for _ in range(4):
                draw(lot, types="a")
            seen.append([task.type for task in lot.claim_many("w", 9, strategy=RANDOM)].index("b"))
            lot.database.execute("DELETE FROM task_queue")
    # Of two a and two b in random order, the first b is at place 0, 1, 2 in 3, 2, 1 of 6.
    assert_distributed(seen, [3, 2, 1])


def test_a_draw_among_tasks_with_needs_is_proportional_too(lot: TaskQueue, driver: str) -> None:
    needs: list[dict[str, Any]] = [{}, {"gpu": True}, {"region": ["eu", "us"]}, {"gpu": False}]
    tasks = [{"type": "t", "priority": n, "compatibility": needs[n % 4]} for n in range(8)]
    seen = refilled(lot, tasks, draws(driver, 6000), capabilities={"gpu": True, "region": "eu"})
    assert not {3, 7} & set(seen)
    assert_distributed((n - n // 4 for n in seen), [weight(n) for n in range(8) if n % 4 != 3])


def test_a_backlog_from_before_the_first_draw_takes_part(queue: TaskQueue, driver: str) -> None:
    priorities = [0, 1, 3, 9]
    size = 3 * lottery.BACKFILL_CHUNK // 2
    ids = queue.enqueue_many(with_priorities(*priorities) * (size // 4))
    late = queue.enqueue("t", run_after=timedelta(hours=1))
    seen = []
    with queue.database.transaction():
        for _ in range(draws(driver, 1000)):
            task = queue.claim("w", strategy=RANDOM)
            assert task is not None
            seen.append(priorities.index(task.priority))
            queue.complete(task)
            queue.enqueue("t", priority=task.priority)
    assert_distributed(seen, [weight(priority) for priority in priorities])
    rest = queue.claim_many("w", size * 2, strategy=RANDOM)
    assert len(rest) == size
    assert ids[-1] > lottery.BACKFILL_CHUNK
    assert late not in {task.id for task in rest}


def test_every_way_for_a_task_to_become_ready_leads_into_the_lottery(
    lot: TaskQueue, another_program: Callable[..., None]
) -> None:
    another_program("INSERT INTO task_queue (type, payload, priority) VALUES ('raw', '{}', 1)")
    raw = lot.database.execute("SELECT max(id) FROM task_queue").fetchone()[0]
    assert draw(lot) == raw

    retried = lot.enqueue("retried")
    task = lot.claim("w", strategy=RANDOM)
    assert task is not None
    assert lot.claim("w", strategy=RANDOM) is None
    lot.fail(task, "again", delay_seconds=0)
    assert draw(lot) == retried

    requeued = lot.enqueue("requeued")
    lot.cancel(requeued)
    assert lot.claim("w", strategy=RANDOM) is None
    lot.requeue(requeued)
    assert draw(lot) == requeued

    delayed = lot.enqueue("delayed", run_after=timedelta(hours=1))
    assert lot.claim("w", strategy=RANDOM) is None
    lot.database.execute("UPDATE task_queue SET run_after_utc = created_at_utc WHERE id = ?", (delayed,))
    assert draw(lot) == delayed

    changed = lot.enqueue("a", compatibility={"gpu": 1})
    lot.database.execute("UPDATE task_queue SET type = 'b', compatibility = '{}' WHERE id = ?", (changed,))
    assert lot.claim("w", strategy=RANDOM, types="a") is None
    assert draw(lot, types="b") == changed


@pytest.mark.parametrize("conflict", ["REPLACE", "IGNORE"])
def test_a_row_that_plain_sql_replaces_or_ignores_does_not_disturb_the_others(
    lot: TaskQueue, driver: str, conflict: str
) -> None:
    seen = []
    with lot.database.transaction():
        for _ in range(draws(driver, 1000)):
            ids = lot.enqueue_many(with_priorities(0, 0, 1))
            insert = f"INSERT OR {conflict} INTO task_queue (id, type, payload, priority) VALUES (?, ?, '{{}}', 1)"
            lot.database.execute(insert, (ids[1], "other"))
            ids.append(lot.database.execute(insert, (None, "t")).lastrowid or 0)
            lot.database.execute(f"UPDATE OR {conflict} task_queue SET priority = 0 WHERE id = ?", (ids[2],))
            order = [ids.index(task.id or 0) for task in lot.claim_many("w", 9, strategy=RANDOM)]
            assert sorted(order) == [0, 1, 2, 3]
            seen.append(order[0])
            lot.database.execute("DELETE FROM task_queue")
            assert lot.claim("w", strategy=RANDOM) is None
    assert_distributed(seen, [2, 1 if conflict == "REPLACE" else 2, 2, 1])


def test_a_changed_priority_changes_the_weight(lot: TaskQueue, driver: str) -> None:
    seen = []
    with lot.database.transaction():
        for _ in range(draws(driver, 3000)):
            ids = lot.enqueue_many(with_priorities(0, 10_000_000))
            lot.database.execute("UPDATE task_queue SET priority = 0 WHERE id = ?", (ids[1],))
            seen.append(ids.index(draw(lot)))
            lot.database.execute("DELETE FROM task_queue")
    assert_distributed(seen, [1, 1])


def test_what_another_strategy_takes_or_somebody_deletes_is_not_drawn(lot: TaskQueue) -> None:
    ids = lot.enqueue_many(with_priorities(*range(6)))
    first = lot.claim("w")
    assert first is not None
    assert first.id == ids[0]
    lot.cancel(ids[1])
    lot.database.execute("DELETE FROM task_queue WHERE id = ?", (ids[2],))
    assert sorted(task.id or 0 for task in lot.claim_many("w", 9, strategy=RANDOM)) == ids[3:]
    assert lot.database.execute("SELECT count(*) FROM task_lottery").fetchone()[0] == 0


def test_only_a_database_whose_tasks_are_drawn_has_a_lottery(queue: TaskQueue) -> None:
    def parts() -> int:
        sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%lottery%'"
        return int(queue.database.execute(sql).fetchone()[0])

    queue.enqueue_many([{"type": "t"}] * 4)
    for strategy in ("priority", "fifo", "lifo"):
        assert queue.claim("w", strategy=strategy) is not None
    assert parts() == 0
    assert queue.claim("w", strategy=RANDOM) is not None
    assert parts() > 0


def test_the_lottery_goes_on_in_other_processes_and_after_reopening(open_queue: OPEN, path: Path) -> None:
    first, second = open_queue(), open_queue()
    ids = first.enqueue_many(with_priorities(*range(20)))
    assert first.claim("w", strategy=RANDOM) is not None
    assert second.claim("w", strategy=RANDOM) is not None
    first.close()
    ids += second.enqueue_many(with_priorities(*range(20)))
    assert len(open_queue().claim_many("w", 99, strategy=RANDOM)) == 38


def test_gaps_between_ids_do_not_delay_the_first_draw(queue: TaskQueue) -> None:
    ids = {queue.enqueue("t"), 10**15, 2 * 10**15}
    for task_id in sorted(ids)[1:]:
        queue.database.execute("INSERT INTO task_queue (id, type, payload) VALUES (?, 't', '{}')", (task_id,))
    assert {task.id for task in queue.claim_many("w", 9, strategy=RANDOM)} == ids


def test_a_lottery_whose_opening_was_interrupted_is_completed_by_the_next_draw(open_queue: OPEN, path: Path) -> None:
    queue = open_queue()
    size = 2 * lottery.BACKFILL_CHUNK + 10
    queue.enqueue_many(with_priorities(5) * size)
    raw = queue.database.get_connection().apsw
    transactions = 0

    def stop_at_the_third() -> bool:
        nonlocal transactions
        transactions += 1
        return transactions == 3  # one for the tables, one for the first chunk

    raw.set_commit_hook(stop_at_the_third)
    with pytest.raises(sqlite3.Error):
        queue.claim("w", strategy=RANDOM)
    raw.set_commit_hook(None)
    with_ticket = queue.database.execute("SELECT count(*) FROM task_lottery").fetchone()[0]
    assert 0 < with_ticket < size
    assert len(open_queue().claim_many("w", size * 2, strategy=RANDOM)) == size


def test_a_draw_in_a_transaction_that_is_undone_leaves_the_task_in_the_lottery(open_queue: OPEN, path: Path) -> None:
    database = QueueDatabase(path)
    queue = open_queue(database)
    task_id = queue.enqueue("t")
    with pytest.raises(ZeroDivisionError), database.transaction():
        draw(queue)
        raise ZeroDivisionError
    assert draw(queue) == task_id
    database.close()
