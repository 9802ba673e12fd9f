"""Times: stored text, aware datetimes, and everything that people write instead."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prismq import clock

MOMENT = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)


def test_now_is_aware_and_utc():
    assert clock.now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-06 07:08:09.123",
        "2024-05-06T07:08:09.123",
        "2024-05-06T07:08:09.123Z",
        "2024-05-06 07:08:09.123+00:00",
        "2024-05-06T09:08:09.123+02:00",
        "2024-05-06T01:38:09.123-05:30",
        "20240506T070809.123Z",
        "2024-05-06T07:08:09.123000",
    ],
)
def test_every_iso_form_is_the_same_moment(text):
    assert clock.to_datetime(text) == MOMENT
    assert clock.to_datetime(text).utcoffset() == timedelta(0)
    assert clock.normalise(text) == "2024-05-06 07:08:09.123"


def test_second_resolution_is_read():
    assert clock.to_datetime("2024-05-06 07:08:09") == MOMENT.replace(microsecond=0)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2024-05-06", "2024-05-06 00:00:00.000"),
        ("2024-05-06T07:08+02", "2024-05-06 05:08:00.000"),  # as long as text of whole seconds
        ("2024-05-06T070809+02:00", "2024-05-06 05:08:09.000"),  # as long as text with milliseconds
    ],
)
def test_a_short_form_is_not_mistaken_for_a_stored_one(text, stored):
    assert clock.normalise(text) == stored
    assert clock.to_datetime(text).utcoffset() == timedelta(0)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system can't change its zone at run time")
def test_the_zone_of_the_machine_plays_no_part(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for text in ("2024-05-06 07:08:09.123", "2024-05-06T07:08:09.123000", "20240506T070809.123"):
            assert clock.to_datetime(text) == MOMENT
        assert clock.to_text(MOMENT.replace(tzinfo=None)) == "2024-05-06 07:08:09.123"
        assert clock.epoch_ms(MOMENT.replace(tzinfo=None)) == clock.epoch_ms(MOMENT)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_nothing_stays_nothing():
    assert clock.to_datetime(None) is None


def test_a_naive_datetime_is_utc_and_another_zone_is_converted():
    assert clock.to_text(MOMENT.replace(tzinfo=None)) == "2024-05-06 07:08:09.123"
    tokyo = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert clock.to_text(tokyo) == "2024-05-06 07:08:09.123"


def test_what_is_finer_than_a_millisecond_is_cut_off():
    assert clock.to_text(datetime(2024, 1, 1, 0, 0, 0, 999999)) == "2024-01-01 00:00:00.999"


@pytest.mark.parametrize(
    "value", ["", "tomorrow", "2024-13-01 00:00:00", "2024-05-06 07:08:09.123 junk", 5, None, MOMENT.date()]
)
def test_what_is_not_a_time_is_refused_with_an_example(value):
    with pytest.raises(ValueError, match="not a time") as caught:
        clock.normalise(value)
    assert repr(value) in str(caught.value)
    assert "ISO-8601" in str(caught.value)


def test_a_time_outside_the_calendar_is_refused_not_overflowing():
    with pytest.raises(ValueError, match="not a time"):
        clock.normalise(datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9.5)), timezone(timedelta(hours=14))])))
def test_storing_and_reading_loses_only_microseconds(moment):
    try:
        text = clock.to_text(moment)
    except OverflowError:
        return
    back = clock.to_datetime(text)
    assert back is not None
    assert timedelta(0) <= moment - back < timedelta(milliseconds=1)
    assert clock.to_text(back) == clock.normalise(text) == text


@given(st.datetimes(), st.datetimes())
def test_the_text_sorts_as_the_time_does(one, other):
    cut = (
        one.replace(microsecond=one.microsecond // 1000 * 1000),
        other.replace(microsecond=other.microsecond // 1000 * 1000),
    )
    assert (clock.to_text(one) < clock.to_text(other)) == (cut[0] < cut[1])


@given(st.integers(min_value=-62135596800000, max_value=253402300799999))
def test_epoch_milliseconds_are_exact_both_ways(milliseconds):
    moment = clock.from_epoch_ms(milliseconds)
    assert clock.epoch_ms(moment) == milliseconds
    assert clock.to_text_ms(milliseconds) == clock.to_text(moment)


def test_the_text_is_what_sqlite_writes_itself():
    connection = apsw.Connection(":memory:")
    milliseconds = 1715000889123
    (written,) = connection.execute(
        "SELECT strftime('%Y-%m-%d %H:%M:%f', ? / 1000.0, 'unixepoch')", (milliseconds,)
    ).fetchone()
    connection.close()
    assert clock.to_text_ms(milliseconds) == written
