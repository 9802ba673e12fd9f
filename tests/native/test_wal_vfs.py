"""The VFS "prismq" in APSW's SQLite: beside SQLite's own in other processes, killed at any moment, byte for byte."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from prismq import native
from tests.native import wal_torture
from tests.native.toolchain import ROOT
from tests.native.wal_torture import Orders, connect, require_sound

SECONDS = 4.0
FRAME_HEADER = 24
WAL_HEADER = 32

pytestmark = pytest.mark.skipif(
    native.load() is None and not os.environ.get("CI"), reason="the compiled module is not installed"
)


class Crew:
    """Processes at work on one database; those that are killed are replaced."""

    def __init__(self, path: Path, vfs_names: list[str | None], synchronous: str) -> None:
        self._path = path
        self._vfs_names = vfs_names
        self._synchronous = synchronous
        self._random = random.Random(7)
        self._running: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def start(self) -> None:
        for place in range(len(self._vfs_names)):
            self._running.append(self._hire(place))

    def kill_one(self) -> None:
        self.require_all_alive()
        place = self._random.randrange(len(self._running))
        self._kill(self._running[place])
        self._running[place] = self._hire(place)

    def kill_all(self) -> None:
        while self._running:
            self._kill(self._running.pop())

    def require_all_alive(self) -> None:
        """None ends by itself but by an error."""
        if any(process.poll() is not None for process in self._running):
            pytest.fail("\n".join(log.read_text() for log in sorted(self._path.parent.glob("stderr-*"))))

    def _hire(self, place: int) -> subprocess.Popen[bytes]:
        worker = len(self.logs)
        self.logs.append(self._path.with_name(f"done-{worker}"))
        orders = Orders(str(self._path), self._vfs_names[place], worker, self._synchronous, str(self.logs[-1]))
        with self._path.with_name(f"stderr-{worker}").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", wal_torture.__name__, orders.encode()], stderr=errors, cwd=ROOT
            )

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


@contextlib.contextmanager
def at_work(crew: Crew) -> Iterator[None]:
    try:
        crew.start()
        yield
        crew.require_all_alive()
    finally:
        crew.kill_all()


def create(path: Path, page_size: int) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL")
        connection.execute(f"BEGIN; {wal_torture.SCHEMA} COMMIT")


def require_every_acknowledged_commit(connection: apsw.Connection, logs: list[Path]) -> int:
    """A worker's ledger is what it saw committed, and at most the one it was killed over."""
    total = 0
    for worker, log in enumerate(logs):
        acknowledged = [int(line) for line in log.read_text().split()] if log.exists() else []
        stored = [
            row[0]
            for row in connection.execute("SELECT sequence FROM ledger WHERE worker = ? ORDER BY sequence", (worker,))
        ]
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert stored in (acknowledged, [*acknowledged, len(acknowledged) + 1])
        total += len(acknowledged)
    return total


@pytest.mark.parametrize(
    ("page_size", "synchronous", "vfs_names"),
    [
        (512, "FULL", ["prismq", "prismq", None]),
        (4096, "NORMAL", ["prismq", "prismq", None, None]),
        (4096, "FULL", ["prismq", "prismq", "prismq"]),
        (65536, "NORMAL", ["prismq", "prismq", None]),
    ],
    ids=["512-full-mixed", "4096-normal-mixed", "4096-full-alone", "65536-normal-mixed"],
)
def test_processes_killed_at_any_moment_lose_and_break_nothing(
    tmp_path: Path, page_size: int, synchronous: str, vfs_names: list[str | None]
) -> None:
    path = tmp_path / "shared.db"
    create(path, page_size)
    crew = Crew(path, vfs_names, synchronous)
    with at_work(crew), contextlib.closing(connect(str(path), "prismq")) as onlooker:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            time.sleep(0.35)
            require_sound(onlooker)
            crew.kill_one()
    for vfs in ("prismq", None):
        with contextlib.closing(connect(str(path), vfs)) as connection:
            assert connection.execute("PRAGMA integrity_check").get == "ok"
            require_sound(connection)
            assert require_every_acknowledged_commit(connection, crew.logs) > 20


def test_a_log_left_by_a_kill_is_recovered_without_its_index(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    create(path, 1024)
    crew = Crew(path, ["prismq"], "NORMAL")
    for _ in range(4):
        written = sum(log.stat().st_size for log in crew.logs if log.exists())
        with at_work(crew):
            deadline = time.monotonic() + 60
            while sum(log.stat().st_size for log in crew.logs if log.exists()) < written + 100:
                assert time.monotonic() < deadline, "the process commits nothing"
                time.sleep(0.05)
        path.with_name("shared.db-shm").unlink()  # nobody has it open
        with contextlib.closing(connect(str(path), None)) as connection:
            assert connection.execute("PRAGMA integrity_check").get == "ok"
            require_sound(connection)
            require_every_acknowledged_commit(connection, crew.logs)


def frames(path: Path, count: int, page_size: int) -> list[tuple[int, int, bytes]]:
    """The log's first frames: page number, the database's size after a commit or 0, page."""
    log = path.with_name(f"{path.name}-wal").read_bytes()
    size = FRAME_HEADER + page_size
    assert len(log) >= WAL_HEADER + count * size
    starts = range(WAL_HEADER, WAL_HEADER + count * size, size)
    return [(*struct.unpack_from(">II", log, at), log[at + FRAME_HEADER : at + size]) for at in starts]


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_log_is_the_same_as_sqlites_own_but_for_its_salt(tmp_path: Path, page_size: int, synchronous: str) -> None:
    logs = []
    for vfs in ("prismq", None):
        path = tmp_path / f"{vfs}.db"
        create(path, page_size)
        chance = random.Random(page_size)
        with contextlib.closing(connect(str(path), vfs)) as connection:
            connection.execute(f"PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0")
            log = []
            for end in ("COMMIT", "ROLLBACK", "COMMIT", "CHECKPOINT", "COMMIT", "ROLLBACK", "COMMIT"):
                if end == "CHECKPOINT":
                    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
                    continue
                connection.execute("BEGIN IMMEDIATE")
                for statement in ("SAVEPOINT a", None, None, "ROLLBACK TO a", None, "RELEASE a", None):
                    first = chance.randrange(wal_torture.CELLS)
                    connection.execute(*((statement,) if statement else (wal_torture.TOUCH, (first, first + 25))))
                connection.execute(end)
                count = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()[0][1]
                log.append(frames(path, count, page_size))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            assert connection.execute("PRAGMA integrity_check").get == "ok"
        logs.append((log, path.read_bytes()))
    assert logs[0] == logs[1]
