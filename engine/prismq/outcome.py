"""What became of one run of a handler, as plain data that a process can tell another."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import Any, Final

from prismq import clock, submission
from prismq.errors import Discard, RetryLater

ERROR_LIMIT_BYTES: Final = 4096
TRACEBACK_LIMIT_BYTES: Final = 16384
RESULT_LIMIT_BYTES: Final = 1 << 20
"""A longer result is not kept; errors and tracebacks lose their middle."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Completed without an `error`; else failed, retried if `retry` says so, after `delay_seconds` or a backoff."""

    error: str | None = None
    retry: bool = True
    delay_seconds: float | None = None
    traceback: str | None = None
    result: str | None = None
    """JSON."""
    complaint: str | None = None
    """Why there is no result where one was to be kept."""


COMPLETED: Final = Outcome()
NOT_BEGUN: Final = Outcome("it could not be begun")
"""The task is given back as if it had never been claimed."""


def returned(value: Any) -> Outcome:
    """A handler's return value, to be kept."""
    try:
        result = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: nothing in it can't be stored
    except (TypeError, ValueError, RecursionError) as error:
        return Outcome(complaint=f"the result was not kept, it can't be written as JSON: {_message(error)}")
    if len(result) > RESULT_LIMIT_BYTES:
        size = f"it has {len(result):,} bytes of JSON, the limit is {RESULT_LIMIT_BYTES:,}"
        return Outcome(complaint=f"the result was not kept, {size}")
    return Outcome(result=result)


def raised(error: BaseException) -> Outcome:
    """What a handler raised. The frame that caught it is not part of the traceback."""
    text = shortened(_message(error), ERROR_LIMIT_BYTES)
    if isinstance(error, Discard):
        return Outcome(text, retry=False)
    if isinstance(error, RetryLater):
        return Outcome(text, delay_seconds=min(error.seconds, clock.MAX_SECONDS))
    try:
        frames = error.__traceback__ and error.__traceback__.tb_next
        trace = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as trouble:  # an exception may do anything in its __str__
        trace = f"the traceback can't be written: {type(trouble).__name__}"
    return Outcome(text, traceback=shortened(submission.message(trace), TRACEBACK_LIMIT_BYTES))


def shortened(text: str, limit: int) -> str:
    """The text without its middle when it has more than `limit` bytes in UTF-8."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    mark = " … "
    half = (limit - len(mark.encode())) // 2
    return encoded[:half].decode(errors="ignore") + mark + encoded[-half:].decode(errors="ignore")


def _message(error: BaseException) -> str:
    try:
        return submission.message(error)
    except Exception as trouble:
        return f"{type(error).__name__}: its text can't be read ({type(trouble).__name__})"
