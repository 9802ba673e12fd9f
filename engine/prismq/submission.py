"""Checks what callers pass in, before anything is written: every refusal is an InvalidTaskError that says why."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from prismq import clock
from prismq.driver import Claim, NewTask
from prismq.errors import InvalidTaskError
from prismq.models import SchedulingStrategy
from prismq.retry import RetryConfig

RunAfter = datetime | timedelta | str | None
"""When a task may first run: a time (naive is UTC), ISO-8601 text, a delay from now, or None for at once."""


def _encoder(sort_keys: bool) -> Callable[[Any], str]:
    """Compact JSON. `JSONEncoder.encode` makes a new C encoder at every call; one made once takes half the time."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    make, escape = getattr(json.encoder, "c_make_encoder", None), getattr(json.encoder, "c_encode_basestring", None)
    if make is None or escape is None:  # an interpreter without the C accelerator
        return encoder.encode
    pieces = make(None, encoder.default, escape, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(pieces(value, 0))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODE: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode
_ENCODE: Final = _encoder(sort_keys=False)
_ENCODE_SORTED: Final = _encoder(sort_keys=True)
# A NUL or half a surrogate pair written as an escape; an escaped backslash before the u is just text.
_NUL_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_NUL: Final = "{} contains a NUL character, which SQLite's text functions stop at: remove it"
_EMPTY: Final = b"{}"


def new_task(
    type: str,
    payload: Any = None,
    priority: int = 100,
    run_after: RunAfter = None,
    max_attempts: int = 5,
    compatibility: Mapping[str, Any] | str | None = None,
    idempotency_key: str | None = None,
) -> NewTask:
    """The task to store; raises InvalidTaskError."""
    if (priority.__class__ is not int and not _is_whole(priority)) or not _LEAST <= priority <= _MOST:
        raise InvalidTaskError(f"priority is {priority!r}; it must be a whole number of at most 64 bits")
    if (max_attempts.__class__ is not int and not _is_whole(max_attempts)) or not 1 <= max_attempts <= 2147483647:
        raise InvalidTaskError(f"max_attempts is {max_attempts!r}; it must be a whole number from 1 to 2147483647")
    return (
        _type(type) if type.__class__ is str else text(type, "type"),
        _EMPTY if payload is None else _json(payload, "payload", _ENCODE),
        _EMPTY if compatibility is None else _needs(compatibility),
        None if idempotency_key is None else text(idempotency_key, "idempotency_key"),
        priority,
        max_attempts,
        None if run_after is None else _run_after_ms(run_after),
    )


def new_tasks(tasks: Iterable[Mapping[str, Any]], retries: dict[int, str]) -> Iterator[NewTask]:
    """The tasks to store, each given as a mapping of `new_task`'s arguments; the refusal names the task's index.

    What one has as `retry` besides is put into `retries` under its index, checked, as JSON.
    """
    for index, task in enumerate(tasks):
        try:
            if "retry" in task:
                task = dict(task)
                if (own := task.pop("retry")) is not None:
                    retries[index] = retry(own)
            yield new_task(**task)
        except InvalidTaskError as error:
            raise InvalidTaskError(f"task {index} of the batch: {error}") from error
        except TypeError as error:
            raise InvalidTaskError(f"task {index} of the batch: {_why_not_a_task(task)}") from error


def text(value: object, name: str) -> bytes:
    """Non-empty Unicode text without NUL, as UTF-8."""
    if not isinstance(value, str):
        raise InvalidTaskError(f"{name} is {value!r:.100}; it must be text")
    if not value or value.isspace():
        raise InvalidTaskError(f"{name} is empty; it must be text with something in it")
    return _utf8(value, name)


def retry(value: object) -> str:
    """A task's own backoff as JSON."""
    if not isinstance(value, RetryConfig):
        raise InvalidTaskError(f"retry is {value!r:.100}; it must be a RetryConfig")
    return json.dumps(asdict(value), separators=(",", ":"))


@lru_cache(1024)
def _type(value: str) -> bytes:
    """A queue has few types and many tasks: each is checked once."""
    return text(value, "type")


def message(value: object) -> str:
    """An error's text, made storable: what can't be stored is replaced, since losing the failure would be worse."""
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def claim(
    worker_id: str,
    limit: int,
    types: Iterable[str] | str | None,
    capabilities: Mapping[str, Any] | None,
    strategy: SchedulingStrategy | str,
    lease_seconds: float,
) -> Claim:
    """What a worker asks for; raises InvalidTaskError. A worker asks the same again and again: kept for reuse."""
    if types is not None and not isinstance(types, str) and isinstance(types, Iterable):
        types = tuple(types)
    if capabilities is None:
        try:
            return _plain_claim(worker_id, limit, types, strategy, lease_seconds)
        except TypeError:
            pass  # something unhashable: _claim says what is wrong with it
    return _claim(worker_id, limit, types, capabilities, strategy, lease_seconds)


@lru_cache(1024, typed=True)
def _plain_claim(
    worker_id: str, limit: int, types: tuple[str, ...] | str | None, strategy: SchedulingStrategy | str, lease: float
) -> Claim:
    return _claim(worker_id, limit, types, None, strategy, lease)


def _claim(
    worker_id: str,
    limit: int,
    types: Iterable[str] | str | None,
    capabilities: Mapping[str, Any] | None,
    strategy: SchedulingStrategy | str,
    lease_seconds: float,
) -> Claim:
    text(worker_id, "worker_id")
    return Claim(
        worker_id,
        type_names(types),
        _capabilities(capabilities),
        _strategy(strategy),
        count(limit, "limit"),
        milliseconds(lease_seconds, "lease_seconds", 0.001),
    )


def _strategy(value: SchedulingStrategy | str) -> SchedulingStrategy:
    try:
        return SchedulingStrategy(value.lower() if isinstance(value, str) else value)
    except ValueError:
        known = ", ".join(repr(strategy.value) for strategy in SchedulingStrategy)
        raise InvalidTaskError(f"strategy is {value!r}; it must be one of {known}") from None


def type_names(wanted: Iterable[str] | str | None) -> bytes | None:
    """Task types as a JSON array, None for all; a single type may stand alone."""
    if wanted is None:
        return None
    if not isinstance(wanted, Iterable):
        raise InvalidTaskError(f"types is {wanted!r:.100}; it must be task types, or None for all")
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names:
        raise InvalidTaskError("types is empty, so nothing could ever be claimed; pass None for tasks of every type")
    for name in names:
        text(name, "a type in types")
    return _ENCODE(names).encode()


def _capabilities(offered: Mapping[str, Any] | None) -> bytes:
    """What a worker can do, as a JSON object."""
    if not offered:
        return _EMPTY
    if not isinstance(offered, Mapping):
        raise InvalidTaskError(f"capabilities is {offered!r:.100}; it must be a dict")
    return _json(dict(offered), "capabilities", _ENCODE_SORTED)


def task_id(value: object) -> int:
    """A task's id."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTaskError(f"task_id is {value!r:.100}; it must be the number that enqueue() returned")
    if not _LEAST <= value <= _MOST:
        raise InvalidTaskError(f"task_id is {value}; ids have at most 64 bits")
    return value


def milliseconds(seconds: object, name: str, lowest: float = 0.0) -> int:
    """A duration in seconds as whole ms, at least 1 when positive."""
    checked = duration(seconds, name, lowest)
    return max(1, round(checked * 1000)) if checked else 0


def duration(seconds: object, name: str, lowest: float = 0.001) -> float:
    """A duration in seconds, unchanged."""
    try:
        return clock.seconds(seconds, lowest)
    except ValueError as error:
        raise InvalidTaskError(f"{name} is {seconds!r:.100}; {error}") from None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def count(value: object, name: str, lowest: int = 1) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**31:
        raise InvalidTaskError(f"{name} is {value!r:.100}; it must be a whole number of at least {lowest}")
    return value


def _utf8(value: str, name: str) -> bytes:
    if "\0" in value:
        raise InvalidTaskError(_NUL.format(name))
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidTaskError(
            f"{name} contains half a surrogate pair ({value[error.start]!r} at {error.start}): not Unicode text"
        ) from error


def _json(value: object, name: str, encode: Any) -> bytes:
    """JSON in UTF-8: text is taken as JSON already, anything else is serialised."""
    if isinstance(value, str):
        return _json_text(value, name)
    try:
        encoded: str = encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTaskError(
            f"{name} can't be written as JSON ({error}); pass dicts, lists, text, finite numbers, booleans and None"
        ) from error
    return _storable(encoded, name)


def _storable(encoded: str, name: str) -> bytes:
    if "\\u0000" in encoded and _NUL_ESCAPE.search(encoded):
        raise InvalidTaskError(_NUL.format(name))
    try:
        return encoded.encode()
    except UnicodeEncodeError:
        return _utf8(encoded, name)  # says where


def _json_text(value: str, name: str) -> bytes:
    encoded = _utf8(value, name)
    try:
        parsed = _DECODE(value)
    except (ValueError, RecursionError) as error:
        raise InvalidTaskError(
            f"{name} is text but not valid JSON ({error}); pass JSON text, or the object itself to have it serialised"
        ) from error
    if "\\u" in value and (_NUL_ESCAPE.search(value) or _SURROGATE_ESCAPE.search(value)):
        _storable(_ENCODE(parsed), name)  # refuses what the escapes stand for, unless they pair up
    return encoded


def _needs(compatibility: Mapping[str, Any] | str) -> bytes:
    """A JSON object with sorted keys: equal needs must be equal text, they are one class in the index."""
    if isinstance(compatibility, str):
        _json_text(compatibility, "compatibility")
        compatibility = json.loads(compatibility)
    if not isinstance(compatibility, Mapping):
        raise InvalidTaskError(f"compatibility is {compatibility!r:.100}; it must be a JSON object (a dict)")
    return _json(dict(compatibility), "compatibility", _ENCODE_SORTED)


def _run_after_ms(run_after: RunAfter) -> int:
    try:
        if isinstance(run_after, timedelta):
            return clock.epoch_ms(clock.now() + run_after)
        return clock.epoch_ms(run_after if isinstance(run_after, datetime) else _parsed_time(run_after))
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidTaskError(f"run_after is {run_after!r:.100}: {error}") from error


def _parsed_time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("pass a datetime, a timedelta from now, or ISO-8601 text such as '2030-01-31T13:45:00+02:00'")
    moment = clock.to_datetime(clock.normalise(value))
    if moment is None:
        raise ValueError("not a time")
    return moment


def _why_not_a_task(task: object) -> str:
    if not isinstance(task, Mapping):
        return f"it is {task!r:.100}, not a dict of enqueue's arguments"
    known = [*inspect.signature(new_task).parameters, "retry"]
    unknown = sorted(str(key) for key in task if key not in known)
    if unknown:
        return f"unknown keys {', '.join(unknown)}; known are {', '.join(known)}"
    return "it has no type" if "type" not in task else "its values do not fit enqueue's arguments"
