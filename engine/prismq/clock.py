"""The one home of time: aware UTC datetimes in Python, text 'YYYY-MM-DD HH:MM:SS.mmm' (UTC) in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

MAX_SECONDS: Final = 100 * 366 * 86400.0
"""The longest duration: a century, so that no time it leads to is beyond the year 9999."""

_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)
_STORED_LENGTHS = (23, 19)  # with and without milliseconds


def seconds(value: object, lowest: float = 0.0) -> float:
    """A duration, unchanged; ValueError says what it must be."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= MAX_SECONDS:
        raise ValueError(f"it must be a number of seconds, at least {lowest:g} and at most {MAX_SECONDS:.0f}")
    return value


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """The stored form, cut to milliseconds; a naive datetime is UTC. OverflowError outside the years 1 to 9999."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(" ", "milliseconds")


def to_datetime(text: str | None) -> datetime | None:
    """Read the stored form, or any ISO-8601 text (naive is UTC); ValueError when it is neither."""
    if text is None:
        return None
    if len(text) in _STORED_LENGTHS:
        try:
            moment = datetime.fromisoformat(text + "+00:00")
        except ValueError:
            pass  # an ISO text with its own offset may have the same length
        else:
            return moment
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def from_stored(text: str) -> datetime:
    """Read the stored form alone, as fast as Python can; ValueError for anything else."""
    return datetime.fromisoformat(text + "+00:00")


def normalise(value: datetime | str) -> str:
    """Any accepted time as the stored form; ValueError says what was wrong with it."""
    try:
        moment = to_datetime(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise TypeError
        return to_text(moment)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"not a time: {value!r}; pass a datetime or ISO-8601 text such as '2030-01-31 13:45:00' (UTC) "
            "or '2030-01-31T13:45:00+02:00'"
        ) from error


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01 UTC; a naive datetime is UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // _MILLISECOND


def from_epoch_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime that lies `milliseconds` after 1970-01-01."""
    return (_EPOCH + milliseconds * _MILLISECOND).replace(tzinfo=UTC)


def to_text_ms(milliseconds: int) -> str:
    """The stored form of `milliseconds` since 1970-01-01 UTC."""
    return (_EPOCH + milliseconds * _MILLISECOND).isoformat(" ", "milliseconds")
