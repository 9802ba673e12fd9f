"""Is a queue healthy, and what can this machine do? Looks at a database without writing to it.

The database is opened read-only. What the machine can do is measured on a scratch database of its own beside it.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from prismq import __version__, clock, database_files, filesystem, native, schema, settings
from prismq.backup import QueueBackup
from prismq.database import QueueDatabase
from prismq.errors import QueueDatabaseError
from prismq.queue import TaskQueue

Verdict = Literal["ok", "warning", "failure"]

MB: Final = 2**20
DATABASE_MB: Final = (500, 1024)
WAL_MB: Final = (50, 100)
FREE_PAGES_PERCENT: Final = (10, 20)
"""From the first number on a warning, from the second on a more urgent one."""
FREE_DISK_MB: Final = (1024, 100)
"""Below the first a warning, below the second a failure."""
FAILED_PERCENT: Final = 5.0
CLAIM_P95_MS: Final = 20.0
STALE_SECONDS: Final = 300
EXPIRED_SECONDS: Final = 10
"""A lease that ended longer ago should have come back: housekeeping takes less than a second."""
BACKUP_DAYS: Final = 2
SAMPLES: Final = 200


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` says what to do unless it is "ok"."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def diagnose(path: Path, *, measure: bool = True, integrity: bool = False) -> Iterator[Finding]:
    """Look at the database at `path`; `integrity` reads all of it, `measure` takes a second of disk writes."""
    yield from _software()
    yield from _place(path)
    try:
        connection = database_files.open_read_only(path)
    except apsw.Error as error:
        yield Finding("database", "failure", f"can't be opened: {error}", "check its permissions, or restore a backup")
        return
    with closing(connection):
        connection.set_busy_timeout(1000)
        try:
            sound = yield from _file(path, connection, integrity)
            if sound:
                yield from _tasks(connection)
        except apsw.BusyError:
            yield Finding("database", "failure", "is locked by another program", "find it and end it")
        except apsw.Error as error:
            yield Finding("database", "failure", f"can't be read: {error}", "stop the workers and restore a backup")
    yield from _backups(path)
    if measure:
        yield from _machine(path)


def _software() -> Iterator[Finding]:
    sqlite = apsw.sqlite_lib_version()
    python = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    yield Finding("versions", "ok", f"prismq {__version__}, SQLite {sqlite}, APSW {apsw.apsw_version()}, {python}")
    parts = [int(part) for part in [*sqlite.split("."), "0"][:3]]
    if not settings.carries_wal_reset_fix((parts[0], parts[1], parts[2])):
        yield Finding("SQLite", "failure", f"{sqlite} can corrupt a shared WAL", "pip install --upgrade apsw")
    if native.load() is None:
        yield Finding(
            "driver", "warning", "python", "the compiled module is missing: operations take several times as long"
        )
    else:
        yield Finding("driver", "ok", "native")


def _place(path: Path) -> Iterator[Finding]:
    kind = filesystem.network_filesystem(path)
    if kind is not None:
        yield Finding("file system", "failure", f"network ({kind})", "move the queue to a local disk")
    else:
        yield Finding("file system", "ok", "local")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not writable:
        yield Finding("permissions", "failure", "not writable", "make the file and its folder writable for this user")
    free = shutil.disk_usage(path.parent).free / MB
    verdict: Verdict = "failure" if free < FREE_DISK_MB[1] else "warning" if free < FREE_DISK_MB[0] else "ok"
    yield Finding(
        "disk free", verdict, f"{free:,.0f} MiB", "" if verdict == "ok" else "free space: prune, or grow the disk"
    )
    if path == Path("/tmp/prismq/queue/queue.db"):
        yield Finding(
            "path",
            "warning",
            f"{path}, the default: anybody may write to /tmp, and many systems empty it",
            f"set {settings.DEFAULT_DB_PATH_VARIABLE} to a place of its own",
        )
    if native.load() is not None and not database_files.beside(path, database_files.SIDECAR).exists():
        yield Finding("sidecar", "ok", "none: no process has the queue open, or had since the file was moved here")


def _file(path: Path, connection: apsw.Connection, integrity: bool) -> Generator[Finding, None, bool]:
    """Returns whether it is a queue that this code can read."""
    version, mode = int(connection.pragma("user_version")), str(connection.pragma("journal_mode"))
    if not connection.table_exists("main", "task_queue"):
        yield Finding("schema", "failure", "there is no queue in this database", "name the right file with --db")
        return False
    if version > schema.VERSION:
        yield Finding("schema", "failure", f"version {version}, newer than this prismq", "upgrade prismq")
        return False
    if version < schema.VERSION:
        yield Finding("schema", "warning", f"version {version}", "the next process that opens it upgrades it")
        return False
    yield Finding("schema", "ok", f"version {version}")
    in_use = database_files.beside(path, database_files.WAL).exists()
    if mode != "wal" and in_use:  # at rest it can't be told, and doesn't matter
        yield Finding("journal mode", "failure", mode, "open it with prismq once, on a local disk")
    pages, page_bytes, free = (int(connection.pragma(name)) for name in ("page_count", "page_size", "freelist_count"))
    yield _sized("database", pages * page_bytes / MB, DATABASE_MB, "prune what need not be kept (prismq prune)")
    yield _sized(
        "WAL",
        database_files.wal_bytes(path) / MB,
        WAL_MB,
        "find the program with a long read (a backup, a forgotten BEGIN); then prismq maintain --checkpoint truncate",
    )
    share = 100 * free / pages if pages else 0.0
    advice = "they are used again; prismq maintain --vacuum gives them back, when there is little to do"
    yield _sized("free pages", share, FREE_PAGES_PERCENT, advice, "%")
    if integrity:
        lines = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
        sound = lines == ["ok"]
        yield Finding(
            "integrity", "ok" if sound else "failure", "; ".join(lines[:3]), "" if sound else "restore a backup"
        )
    return True


def _sized(name: str, size: float, limits: tuple[float, float], advice: str, unit: str = "MiB") -> Finding:
    if size < limits[0]:
        return Finding(name, "ok", f"{size:,.1f} {unit}")
    urgent = "; soon" if size >= limits[1] else ""
    return Finding(name, "warning", f"{size:,.1f} {unit}, more than {limits[size >= limits[1]]:g}", advice + urgent)


def _tasks(connection: apsw.Connection) -> Iterator[Finding]:
    now = clock.now()
    index = "task_queue INDEXED BY ix_task_status_prio_time WHERE"

    def count(condition: str, *parameters: str) -> int:
        return int(connection.execute(f"SELECT count(*) FROM {condition}", parameters).get)

    ended = clock.to_text(now - timedelta(seconds=EXPIRED_SECONDS))
    expired = count(f"{index} phase = 0 AND needs = 0 AND turn <= ?", ended)
    yield _counted(
        "expired leases", expired, "no process keeps house: start a worker, or prismq maintain --stale-leases 0s"
    )
    heard = clock.to_text(now - timedelta(seconds=STALE_SECONDS))
    stale = count("workers WHERE heartbeat_utc < ?", heard)
    yield _counted("stale workers", stale, "see prismq workers; forget them with prismq workers --reclaim")
    dead = count(f"{index} phase = -2 AND needs = 0 AND status = 'dead_letter'")
    yield _counted("dead letters", dead, "look at prismq list --status dead_letter; then prismq requeue --all")
    day = clock.to_text(now - timedelta(days=1))
    completed = count(f"{index} phase = -1 AND needs = 0 AND turn >= ?", day)
    failed = count(f"{index} phase = -2 AND needs = 0 AND turn >= ?", day)
    share = 100 * failed / (completed + failed) if failed else 0.0
    high = share > FAILED_PERCENT
    yield Finding(
        "failed, last day",
        "warning" if high else "ok",
        f"{share:.1f} % of {completed + failed:,}",
        "look at prismq list --status failed and prismq logs --level error" if high else "",
    )


def _counted(name: str, number: int, advice: str) -> Finding:
    return Finding(name, "warning" if number else "ok", f"{number:,}", advice if number else "")


def _backups(path: Path) -> Iterator[Finding]:
    folder = path.parent / "backups"
    if not folder.is_dir():
        yield Finding("backups", "ok", f"none in {folder}")
        return
    latest = QueueBackup(QueueDatabase(path), folder).get_latest_backup()
    age = None if latest is None else clock.now() - latest.created_at
    late = age is None or age > timedelta(days=BACKUP_DAYS)
    found = "none" if age is None else f"the latest {age.total_seconds() / 3600:,.1f} h ago"
    yield Finding(
        "backups", "warning" if late else "ok", found, "back up daily (prismq backup --keep 14)" if late else ""
    )


def _machine(path: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(
            prefix=".prismq-doctor-", dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            for durability in settings.DURABILITY:
                with TaskQueue(Path(folder) / f"{durability}.db", durability=durability) as queue:
                    if durability == "normal":
                        yield Finding("group commit", "ok", queue.group_commit)
                    enqueue = sorted(_milliseconds(lambda: queue.enqueue("doctor")) for _ in range(SAMPLES))
                    claim = sorted(_milliseconds(lambda: queue.claim("doctor")) for _ in range(SAMPLES))
                slow = _at(claim, 0.95) > CLAIM_P95_MS
                yield Finding(
                    f"commit, {durability}",
                    "warning" if slow else "ok",
                    f"enqueue p50 {_at(enqueue, 0.5):.2f}, p99 {_at(enqueue, 0.99):.2f} ms; "
                    f"claim p50 {_at(claim, 0.5):.2f}, p95 {_at(claim, 0.95):.2f} ms",
                    f"claims take longer than {CLAIM_P95_MS:g} ms: the disk is slow or busy" if slow else "",
                )
    except (OSError, QueueDatabaseError) as error:
        yield Finding("commit", "failure", f"can't be measured: {error}", "make the folder writable, free some space")


def _milliseconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _at(ordered: list[float], share: float) -> float:
    return ordered[round((len(ordered) - 1) * share)]
