"""What the C loops of bare.c run: statements on the same SQLite as the queue's, and the queue's own C entry points."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw

from bench.compiler import compile_library
from prismq import TaskQueue, native
from prismq.native_driver import open_handle

HERE = Path(__file__).resolve().parent
ENTRY_POINT = "sqlite3_bare_init"
PRIORITY = 50
TYPE = "video"
PAYLOAD = {"body": "x" * 188}
PAYLOAD_TEXT = json.dumps(PAYLOAD)
"""200 bytes, without a key that the queue has an index on."""
WORKER = "worker-1"
TEXTS = (TYPE, PAYLOAD_TEXT, "2026-01-01 12:00:00.000", "2026-01-01 12:01:00.000", WORKER)
"""Values of :type, :payload, :now, :lease and :worker."""


class BareError(Exception):
    """SQLite refused a statement, or it found no row."""


class BareSQLite:
    """One database file and the loop that runs statements on it."""

    def __init__(self, library: Path, database: Path, pragmas: Mapping[str, object], ddl: Sequence[str]) -> None:
        self.connection = apsw.Connection(str(database))
        self.connection.enable_load_extension(True)
        self.connection.load_extension(str(library), ENTRY_POINT)
        self.connection.enable_load_extension(False)
        self._library = ctypes.CDLL(str(library))
        self._library.bare_error.restype = ctypes.c_char_p
        for name, value in pragmas.items():
            self.connection.execute(f"PRAGMA {name} = {value}")
        for statement in ddl:
            self.connection.execute(statement)

    def run(self, statements: Sequence[str], operations: int, first_id: int = 1) -> ctypes.Array[ctypes.c_double]:
        """Run `operations` operations, each made of all the statements; returns the microseconds of each."""
        timings = (ctypes.c_double * operations)()
        rows = ctypes.c_int()
        code = self._library.bare_run(
            ctypes.c_void_p(self.connection.sqlite3_pointer()),
            _strings(statements),
            len(statements),
            operations,
            _strings(TEXTS),
            ctypes.c_int64(PRIORITY),
            ctypes.c_int64(first_id),
            timings,
            ctypes.byref(rows),
        )
        if code:
            raise BareError(f"{self._library.bare_error().decode()} (SQLite code {code}) in {statements}")
        if "RETURNING" in statements[-1] and rows.value != operations:
            raise BareError(f"{rows.value} rows came back from {operations} times {statements}")
        return timings

    def close(self) -> None:
        self.connection.close()


class HotPath:
    """The queue's C entry points on one database file, called from C: no Python in between."""

    def __init__(self, library: Path, database: Path) -> None:
        module = native.load()
        if module is None:
            raise BareError("the native driver is not installed")
        self._queue = TaskQueue(database, driver="native")
        assert self._queue.driver_name == "native"  # its housekeeper runs from here on, as it does for everybody
        self._library = ctypes.CDLL(str(library))
        self._module = module
        self._handle = open_handle(self._queue.database.get_connection(), module)

    def run(self, operation: str, operations: int) -> ctypes.Array[ctypes.c_double]:
        """Run "enqueue", "claim" or "complete" so many times on a new file; returns the microseconds of each."""
        timings = (ctypes.c_double * operations)()
        entry = int(
            self._module.ffi.cast("intptr_t", self._module.ffi.addressof(self._module.lib, f"prismq_{operation}"))
        )
        handle = int(self._module.ffi.cast("intptr_t", self._handle))
        rest = {"enqueue": [ctypes.c_int64(PRIORITY)], "claim": [], "complete": [ctypes.c_int64(1)]}[operation]
        loop = getattr(self._library, f"bare_{operation}")
        code = loop(ctypes.c_void_p(entry), ctypes.c_void_p(handle), operations, _strings(TEXTS), *rest, timings)
        if code:
            raise BareError(f"{operation} failed with SQLite code {code}")
        return timings

    def close(self) -> None:
        """Check that every task was enqueued, claimed and completed, and close."""
        statement = "SELECT count(*) FROM task_queue WHERE status <> 'completed'"
        left = self._queue.database.execute(statement).fetchone()[0]
        self._module.lib.prismq_close(self._handle)
        self._queue.close()
        if left:
            raise BareError(f"{left} tasks were not completed")


def build(folder: Path) -> Path:
    """Compile the loop into `folder`; returns the library."""
    return compile_library(HERE / "bare.c", HERE.parent / "native", folder)


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
