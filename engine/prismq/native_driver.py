"""The driver in C: one call and one transaction an operation, the GIL released meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from prismq import clock, sql
from prismq.clock import from_stored
from prismq.driver import FAIL_OUTCOMES, STRATEGY_NUMBERS, Claim, DriverName, FailOutcome, Failure, NewTask, Token
from prismq.errors import QueueDatabaseError, QueueProgrammingError, from_code
from prismq.housekeeping import await_reap
from prismq.models import Task, claimed_task

if TYPE_CHECKING:
    from prismq.connection import Connection

_NO_TIME: Final = -(2**63)
_NUMBERS_PER_TASK: Final = 5
_TEXTS_PER_TASK: Final = 7
_EXAMPLE_TIME: Final = b"2000-01-01 00:00:00.000"
_EXAMPLE_TEXT: Final = b"\0".join(
    (_EXAMPLE_TIME, _EXAMPLE_TIME, b"type", b"{}", b"{}", _EXAMPLE_TIME, _EXAMPLE_TIME, b"", b"", b"")
)
_GROUP_STATES: Final = (  # prismq_group_state of native/interface.h
    "on",
    "off: not wanted",
    "off: there can be no file beside the database (is its folder read-only, or the disk full?)",
    "off: 64 other connections commit together already",
)
_HAS_ERROR: Final = 1  # the flags of native/interface.h
_HAS_KEY: Final = 2


class NativeDriver:
    """Executes operations through `prismq._native` on the handle of one connection."""

    name: DriverName = "native"

    def __init__(self, connection: Connection, module: ModuleType) -> None:
        self._connection = connection
        self._hold = connection.hold
        self._ffi: Any = module.ffi
        self._lib: Any = module.lib
        self._null = self._ffi.NULL
        self._handle: Any = open_handle(connection, module)
        self._result = self._lib.prismq_results(self._handle)
        self._example_numbers = self._ffi.new("int64_t[]", [1, 100, 1, 5, 0])
        self._example_text = self._ffi.new("char[]", _EXAMPLE_TEXT)
        self._example = self._ffi.new("prismq_result *")  # an answer for `rehearse`
        self._example.numbers, self._example.numbers_count = self._example_numbers, _NUMBERS_PER_TASK
        self._example.text, self._example.text_bytes = self._example_text, len(_EXAMPLE_TEXT)
        connection.before_close(self._close)

    @property
    def group_commit(self) -> str:
        with self._hold():
            return _GROUP_STATES[self._lib.prismq_group_of(self._handle or self._closed())]

    def enqueue(self, task: NewTask) -> int:
        kind, payload, compatibility, key, priority, max_attempts, run_after_ms = task
        with self._hold():
            if self._lib.prismq_enqueue(
                self._handle or self._closed(),
                kind,
                len(kind),
                payload,
                len(payload),
                compatibility,
                len(compatibility),
                self._null if key is None else key,
                0 if key is None else len(key),
                priority,
                max_attempts,
                _NO_TIME if run_after_ms is None else run_after_ms,
            ):
                raise self._error()
            return self._result.numbers[0]  # type: ignore[no-any-return]

    def enqueue_many(self, tasks: Iterable[NewTask]) -> list[int]:
        numbers: list[int] = []
        texts: list[bytes] = []
        count = 0
        for kind, payload, compatibility, key, priority, max_attempts, run_after_ms in tasks:
            key_bytes = -1 if key is None else len(key)
            run_after = _NO_TIME if run_after_ms is None else run_after_ms
            numbers += (len(kind), len(payload), len(compatibility), key_bytes, priority, max_attempts, run_after)
            texts += (kind, payload, compatibility) if key is None else (kind, payload, compatibility, key)
            count += 1
        return self._execute(self._lib.OP_ENQUEUE, count, numbers, texts)

    def claim(self, wanted: Claim, expected: bool = False) -> list[Task]:
        looks = 0
        while (tasks := self._claim(wanted, expected)) is None:
            looks += 1
            await_reap(self._connection, looks)
        return tasks

    def _claim(self, wanted: Claim, expected: bool) -> list[Task] | None:
        """The claimed tasks; None to look again: leases ran out and are brought back first, or the task's own did."""
        worker, types, capabilities, strategy, limit, lease_ms = wanted
        worker_bytes = worker.encode()
        with self._hold():
            if self._lib.prismq_claim(
                self._handle or self._closed(),
                worker_bytes,
                len(worker_bytes),
                self._null if types is None else types,
                0 if types is None else len(types),
                capabilities,
                len(capabilities),
                STRATEGY_NUMBERS[strategy],
                limit,
                lease_ms,
                expected,
            ):
                raise self._error()
            result = self._result
            if result.numbers_count == 0:
                return None if result.expired else []
            numbers = self._ffi.unpack(result.numbers, result.numbers_count)
            text = self._ffi.unpack(result.text, result.text_bytes)
        return self._tasks(worker, numbers, text) or None

    def served(self, answer: Any, worker: str) -> list[Task]:
        """The task that somebody else's enqueue claimed for this worker while it slept; see native/handover.h.

        Nothing if its lease has run out meanwhile.
        """
        numbers = self._ffi.unpack(answer.numbers, answer.numbers_count)
        return self._tasks(worker, numbers, self._ffi.unpack(answer.text, answer.text_bytes))

    def rehearse(self, worker: str) -> None:
        self.served(self._example, worker)

    def _tasks(self, worker: str, numbers: list[int], text: bytes) -> list[Task]:
        count = len(numbers)
        texts = text.decode("utf-8", "replace").split("\0")
        if len(texts) != 3 + _TEXTS_PER_TASK * (count // _NUMBERS_PER_TASK):
            return self._read_again(worker, numbers)
        at, lease_until = from_stored(texts[0]), from_stored(texts[1])
        tasks = []
        first_text = 2
        for first in range(0, count, _NUMBERS_PER_TASK):
            task_id, priority, attempts, max_attempts, flags = numbers[first : first + _NUMBERS_PER_TASK]
            kind, payload, compatibility, run_after, created, error, key = texts[
                first_text : first_text + _TEXTS_PER_TASK
            ]
            first_text += _TEXTS_PER_TASK
            tasks.append(
                claimed_task(
                    task_id,
                    priority,
                    attempts,
                    max_attempts,
                    kind,
                    payload,
                    compatibility,
                    run_after,
                    created,
                    error if flags & _HAS_ERROR else None,
                    key if flags & _HAS_KEY else None,
                    worker,
                    at,
                    lease_until,
                )
            )
        return tasks

    def has_task(self, wanted: Claim) -> bool:
        types, capabilities = wanted.types, wanted.capabilities
        looks = 0
        while True:
            with self._hold():
                if self._lib.prismq_look(
                    self._handle or self._closed(),
                    self._null if types is None else types,
                    0 if types is None else len(types),
                    capabilities,
                    len(capabilities),
                ):
                    raise self._error()
                found, expired = bool(self._result.numbers[0]), bool(self._result.expired)
            if found or not expired:
                return found
            looks += 1
            await_reap(self._connection, looks)

    def complete(self, token: Token) -> bool:
        task_id, worker, attempt = token
        worker_bytes = worker.encode()
        with self._hold():
            if self._lib.prismq_complete(
                self._handle or self._closed(), task_id, worker_bytes, len(worker_bytes), attempt
            ):
                raise self._error()
            return self._result.numbers[0] == 1  # type: ignore[no-any-return]

    def complete_many(self, tokens: Sequence[Token]) -> list[bool]:
        numbers: list[int] = []
        texts: list[bytes] = []
        for token in tokens:
            _pack_token(token, numbers, texts)
        return [outcome == 1 for outcome in self._execute(self._lib.OP_COMPLETE, len(tokens), numbers, texts)]

    def fail_many(self, failures: Sequence[Failure]) -> list[FailOutcome | None]:
        numbers: list[int] = []
        texts: list[bytes] = []
        for token, error, retry, delay_ms in failures:
            error_bytes = error.encode()
            _pack_token(token, numbers, texts)
            numbers.extend((len(error_bytes), retry, delay_ms))
            texts.append(error_bytes)
        return [FAIL_OUTCOMES[outcome] for outcome in self._execute(self._lib.OP_FAIL, len(failures), numbers, texts)]

    def renew_many(self, renewals: Sequence[tuple[Token, int]]) -> list[str | None]:
        numbers: list[int] = []
        texts: list[bytes] = []
        for token, lease_ms in renewals:
            _pack_token(token, numbers, texts)
            numbers.append(lease_ms)
        ends = self._execute(self._lib.OP_RENEW, len(renewals), numbers, texts)
        return [clock.to_text_ms(end) if end else None for end in ends]

    def _execute(self, operation: int, count: int, numbers: list[int], texts: list[bytes]) -> list[int]:
        text = b"".join(texts)
        request = self._ffi.new("prismq_request *")
        request.operation = operation
        request.count = count
        numbers_view = request.numbers = self._ffi.from_buffer("int64_t[]", array("q", numbers))
        request.numbers_count = len(numbers_view)
        text_view = request.text = self._ffi.from_buffer("char[]", text)
        request.text_bytes = len(text_view)
        with self._hold():
            if self._lib.prismq_execute(self._handle or self._closed(), request):
                raise self._error()
            if count == 0:
                return []
            return self._ffi.unpack(self._result.numbers, self._result.numbers_count)  # type: ignore[no-any-return]

    def _read_again(self, worker: str, numbers: list[int]) -> list[Task]:
        """The claimed rows as they are now: a text was too long for its slot, or plain SQL put the separator into it.

        Without those whose lease ran out before this: they are no longer the worker's.
        """
        rows = [
            self._connection.execute(sql.GET_HELD, (task_id, worker)).fetchone()
            for task_id in numbers[::_NUMBERS_PER_TASK]
        ]
        return [Task.from_row(tuple(row)) for row in rows if row is not None]

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lib.prismq_close(handle)

    def _closed(self) -> Any:
        raise QueueProgrammingError("the connection is closed; get a new one from the QueueDatabase")

    def _error(self) -> QueueDatabaseError:
        result = self._result
        message = self._ffi.string(result.message).decode("utf-8", "replace")
        waited = result.waited_ms / 1000 if result.waited_ms else None
        failure = from_code(result.code, message, database=self._connection.path, waited=waited)
        self._connection.note_failure(failure)
        return failure


def _pack_token(token: Token, numbers: list[int], texts: list[bytes]) -> None:
    worker = token.worker.encode()
    numbers.extend((token.task_id, len(worker), token.attempt))
    texts.append(worker)


def open_handle(connection: Connection, module: ModuleType, timeout: float | None = None) -> Any:
    """A C handle on the connection, with the SQL of `sql`; `prismq_close` it before the connection closes.

    `timeout` is how long its statements wait for the write lock, in seconds; None for the connection's.
    """
    ffi, lib = module.ffi, module.lib
    texts = [
        ffi.new("char[]", getattr(sql, name.removeprefix("SQL_")).encode())
        for _, name in sorted(ffi.typeof("prismq_sql").elements.items())
        if name != "SQL_STATEMENTS"
    ]
    with connection.hold():
        pointer = ffi.cast("void *", connection.apsw.sqlite3_pointer())
        timeout_ms = round((connection.timeout if timeout is None else timeout) * 1000)
        settings = connection.settings
        handle = lib.prismq_open(pointer, ffi.new("char *[]", texts), len(texts), timeout_ms, settings.group_commit)
        if handle == ffi.NULL:
            raise QueueDatabaseError(
                "the native driver could not be opened: out of memory, or built for another version"
            )
        inline_pages = settings.inline_checkpoint_bytes // connection.page_size
        lib.prismq_set(handle, settings.durability == "full", settings.id_block, inline_pages)
    return handle
