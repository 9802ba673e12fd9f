"""Is a queue healthy, and what can this machine do? Looks at a database without writing to it.

The database is opened read-only. What the machine can do is measured on a scratch database of its own beside it.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
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
from prismq.housekeeping import SLOWING_SHARE
from prismq.queue import TaskQueue
from prismq.settings import Settings

Verdict = Literal["ok", "warning", "failure"]

MB: Final = 2**20
DATABASE_MB: Final = (500, 1024)
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
    in_force = yield from _settings()
    yield from _place(path)
    yield _group_commit(path, in_force)
    try:
        connection = database_files.open_read_only(path)
    except apsw.Error as error:
        yield Finding("database", "failure", f"can't be opened: {error}", "check its permissions, or restore a backup")
        return
    with closing(connection):
        connection.set_busy_timeout(1000)
        try:
            sound = yield from _file(path, connection, in_force, integrity)
            if sound:
                yield from _tasks(connection)
        except apsw.BusyError:
            yield Finding("database", "failure", "is locked by another program", "find it and end it")
        except apsw.Error as error:
            yield Finding("database", "failure", f"can't be read: {error}", "stop the workers and restore a backup")
    yield from _backups(path, in_force)
    if measure:
        yield from _machine(path, in_force)


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


def _settings() -> Generator[Finding, None, Settings]:
    """Returns those in force, the defaults if the environment's are wrong: then no process opens the queue."""
    defaults = Settings()
    try:
        found = settings.load_settings()
    except QueueDatabaseError as error:
        advice = f"mend what {settings.SETTINGS_VARIABLE} and {settings.GROUP_COMMIT_VARIABLE} say"
        yield Finding("settings", "failure", str(error), advice)
        return defaults
    changed = found.as_dict().items() - defaults.as_dict().items()
    said = ", ".join(f"{name} {value}" for name, value in sorted(changed))
    yield Finding("settings", "ok", said or "the defaults")
    return found


def _place(path: Path) -> Iterator[Finding]:
    real = Path(os.path.realpath(path))
    if path == settings.SHARED_DB_PATH:
        found, exposed = f"{path}, the default: anybody may write to /tmp, and many systems empty it", True
    else:
        exposed = os.name != "nt" and real.parent.exists() and bool(real.parent.stat().st_mode & stat.S_IWOTH)
        found = f"{real.parent}, where anybody may write"
    if exposed:
        yield Finding("path", "warning", found, f"set {settings.DEFAULT_DB_PATH_VARIABLE} to a folder of its own")
    kind = filesystem.network_filesystem(path)
    if kind is not None:
        yield Finding("file system", "failure", f"network ({kind})", "move the queue to a local disk")
    else:
        yield Finding("file system", "ok", "local")
    writable = os.access(real, os.W_OK) and os.access(real.parent, os.W_OK)
    if not writable:
        yield Finding("permissions", "failure", "not writable", "make the file and its folder writable for this user")
    free = shutil.disk_usage(real.parent).free / MB
    verdict: Verdict = "failure" if free < FREE_DISK_MB[1] else "warning" if free < FREE_DISK_MB[0] else "ok"
    yield Finding(
        "disk free", verdict, f"{free:,.0f} MiB", "" if verdict == "ok" else "free space: prune, or grow the disk"
    )


def _group_commit(path: Path, in_force: Settings) -> Finding:
    """Whether a process that opens the queue takes part; what it needs beside the database is only looked at."""
    side = database_files.beside(path, database_files.SIDECAR)
    if not in_force.group_commit:
        return Finding("group commit", "ok", "off: not wanted")
    if native.load() is None:
        return Finding("group commit", "warning", "off: the python driver commits alone", "see driver")
    if not os.path.lexists(side):
        if os.access(side.parent, os.W_OK):
            return Finding("group commit", "ok", "on, once a process has the queue open")
        return Finding("group commit", "warning", f"off: {side} can't be made", "make its folder writable")
    if side.is_symlink() or not side.is_file() or not os.access(side, os.R_OK | os.W_OK):
        advice = "stop what uses the queue, and remove it"
        return Finding("group commit", "warning", f"off: {side} is no file that this user may write", advice)
    return Finding("group commit", "ok", "on")


def _journal(path: Path) -> Finding:
    mode = _journal_mode(path)
    if mode == "wal":
        return Finding("journal mode", "ok", mode)
    if database_files.beside(path, database_files.WAL).exists():
        return Finding("journal mode", "failure", mode, "open it with prismq once, on a local disk")
    advice = "it is a backup, or another program switched it: prismq switches it to wal when it opens it"
    return Finding("journal mode", "warning", mode, advice)


def _journal_mode(path: Path) -> str:
    """By the file's header, also at rest. SQLite reads it: closing another handle of the file would end its locks."""
    header = apsw.VFSFile("", os.path.realpath(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        return "wal" if header.xRead(1, 18) == b"\2" else "rollback"
    finally:
        header.xClose()


def _file(
    path: Path, connection: apsw.Connection, in_force: Settings, integrity: bool
) -> Generator[Finding, None, bool]:
    """Returns whether it is a queue that this code can read."""
    version = int(connection.pragma("user_version"))
    if not connection.table_exists("main", "task_queue"):
        yield Finding("schema", "failure", "there is no queue in this database", "name the right file with --db")
        return False
    if version > schema.VERSION:
        yield Finding("schema", "failure", f"version {version}, newer than this prismq", "upgrade prismq")
        return False
    if version < schema.VERSION:
        yield Finding(
            "schema", "warning", f"version {version}", "whatever writes to it upgrades it, or prismq maintain --upgrade"
        )
        return False
    yield Finding("schema", "ok", f"version {version}")
    yield _journal(path)
    pages, page_bytes, free = (int(connection.pragma(name)) for name in ("page_count", "page_size", "freelist_count"))
    yield _sized("database", pages * page_bytes / MB, DATABASE_MB, "prune what need not be kept (prismq prune)")
    usual = in_force.usual_wal_bytes
    yield _sized(
        "WAL",
        database_files.wal_bytes(path) / MB,
        (usual / MB, max(usual, SLOWING_SHARE * in_force.wal_limit_bytes) / MB),
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


def _backups(path: Path, in_force: Settings) -> Iterator[Finding]:
    folder = path.parent / "backups"
    if not folder.is_dir():
        yield Finding("backups", "ok", f"none in {folder}")
        return
    latest = QueueBackup(QueueDatabase(path, settings=in_force), folder).get_latest_backup()
    age = None if latest is None else clock.now() - latest.created_at
    late = age is None or age > timedelta(days=BACKUP_DAYS)
    found = "none" if age is None else f"the latest {age.total_seconds() / 3600:,.1f} h ago"
    yield Finding(
        "backups", "warning" if late else "ok", found, "back up daily (prismq backup --keep 14)" if late else ""
    )


def _machine(path: Path, in_force: Settings) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(
            prefix=".prismq-doctor-", dir=Path(os.path.realpath(path)).parent, ignore_cleanup_errors=True
        ) as folder:
            for durability in settings.DURABILITY:
                scratch = Path(folder) / f"{durability}.db"
                with TaskQueue(scratch, durability=durability, settings=in_force) as queue:
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
