"""The dataclasses of the rows."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import pytest

from prismq.models import TASK_FIELDS, SchedulingStrategy, Task, TaskLog, Worker

MOMENT = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
ROW = (
    7,
    "render",
    5,
    '{"a": 1}',
    '{"region": "eu"}',
    "processing",
    2,
    5,
    "2024-05-06 07:08:01.001",
    "2024-05-06 07:09:09.123",
    "2024-05-06 07:08:09.123",
    "2024-05-06 07:08:09.123",
    None,
    "w1",
    "boom",
    "key",
    "2024-05-06 07:08:01",
    "2024-05-06 07:08:09.124",
)


def test_a_task_has_the_promised_fields_in_order_with_their_defaults():
    assert [(field.name, field.default) for field in fields(Task)] == [
        ("id", None),
        ("type", ""),
        ("priority", 100),
        ("payload", "{}"),
        ("compatibility", "{}"),
        ("status", "queued"),
        ("attempts", 0),
        ("max_attempts", 5),
        ("run_after_utc", None),
        ("lease_until_utc", None),
        ("reserved_at_utc", None),
        ("processing_started_utc", None),
        ("finished_at_utc", None),
        ("locked_by", None),
        ("error_message", None),
        ("idempotency_key", None),
        ("created_at_utc", None),
        ("updated_at_utc", None),
    ]


def test_a_worker_and_a_log_have_the_promised_fields_and_defaults():
    assert Worker().to_dict() == {"worker_id": "", "capabilities": "{}", "heartbeat_utc": None}
    assert TaskLog().to_dict() == {
        "log_id": None,
        "task_id": 0,
        "at_utc": None,
        "level": "INFO",
        "message": None,
        "details": None,
    }


def test_the_strategies_are_exactly_four_and_are_text():
    assert [strategy.value for strategy in SchedulingStrategy] == ["fifo", "lifo", "priority", "weighted_random"]
    assert SchedulingStrategy("lifo") is SchedulingStrategy.LIFO
    assert SchedulingStrategy.FIFO == "fifo"


@pytest.mark.parametrize(
    "value",
    [
        MOMENT,
        MOMENT.replace(tzinfo=None),
        MOMENT.astimezone(timezone(timedelta(hours=9))),
        "2024-05-06 07:08:09.123",
        "2024-05-06T07:08:09.123Z",
        "2024-05-06T09:08:09.123+02:00",
    ],
)
def test_any_form_of_a_time_becomes_an_aware_utc_datetime(value):
    task = Task.from_dict({"run_after_utc": value})
    assert task.run_after_utc == MOMENT
    assert task.run_after_utc.utcoffset() == timedelta(0)


def test_second_resolution_text_is_read():
    assert Worker.from_dict({"heartbeat_utc": "2024-05-06 07:08:09"}).heartbeat_utc == MOMENT.replace(microsecond=0)


def test_missing_keys_take_defaults_and_unknown_keys_are_ignored():
    task = Task.from_dict({"type": "render", "region": "eu", "phase": 1})
    assert task == Task(type="render")


@pytest.mark.parametrize("empty", [None, ""])
def test_an_absent_time_is_none(empty):
    assert Task.from_dict({"finished_at_utc": empty}).finished_at_utc is None


def test_a_bad_time_is_refused():
    with pytest.raises(ValueError, match="soon"):
        Task.from_dict({"run_after_utc": "soon"})


def test_a_row_becomes_the_same_task_as_its_dictionary():
    task = Task.from_row(ROW)
    assert task == Task.from_dict(dict(zip(TASK_FIELDS, ROW, strict=True)))
    assert task.__dict__.keys() == Task().__dict__.keys()
    assert list(task.to_dict()) == list(TASK_FIELDS)


@pytest.mark.parametrize("position", [8, 9, 10, 11, 12, 16, 17])
def test_each_time_of_a_row_has_its_own_place(position):
    row = tuple("2024-05-06 07:08:09.123" if place == position else None for place in range(18))
    values = Task.from_row(row).__dict__
    assert [name for name, value in values.items() if value is not None] == [TASK_FIELDS[position]]
    assert values[TASK_FIELDS[position]] == MOMENT


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="unpack"):
        Task.from_row(ROW[:-1])


def test_a_dictionary_is_json_with_zoned_times_and_reads_back():
    task = Task.from_row(ROW)
    text = json.dumps(task.to_dict())
    assert '"run_after_utc": "2024-05-06T07:08:01.001000+00:00"' in text
    assert Task.from_dict(json.loads(text)) == task


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "null", "{", "[" * 100_000])
def test_what_is_not_a_json_object_reads_as_empty(text):
    assert Task(payload=text).get_payload_dict() == {}
    assert Task(compatibility=text).get_compatibility_dict() == {}
    assert Worker(capabilities=text).get_capabilities_dict() == {}


def test_json_objects_are_parsed():
    assert Task.from_row(ROW).get_payload_dict() == {"a": 1}
    assert Task.from_row(ROW).get_compatibility_dict() == {"region": "eu"}
    assert Worker(capabilities='{"gpu": true}').get_capabilities_dict() == {"gpu": True}
