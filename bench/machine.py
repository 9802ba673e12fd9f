"""What a figure was measured on; a figure without it means nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import apsw
import psutil

import prismq
from prismq import TaskQueue

Facts = dict[str, str | int]
MAY_DIFFER = ("date", "durability")
"""Facts that say nothing about whether two figures can stand side by side."""


class OtherMachineError(ValueError):
    """What is to be gone on with was measured on another machine, with another version or another driver."""


def require_same(before: Facts, now: Facts) -> None:
    """OtherMachineError unless figures measured `now` may be added to those of `before`."""
    names = [name for name in dict.fromkeys((*before, *now)) if name not in MAY_DIFFER]
    differing = [
        f"{name.replace('_', ' ')} {before.get(name, 'unknown')} then, {now.get(name, 'unknown')} now"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise OtherMachineError(f"what it holds can't be gone on with here: {'; '.join(differing)}; begin anew")


def machine_facts(folder: Path, queue: TaskQueue, durability: str) -> Facts:
    """Facts about this machine, the file system under `folder`, and what the queue runs on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": platform.platform(),
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "apsw": apsw.apsw_version(),
        "prismq": prismq.__version__,
        "driver": queue.driver_name,
        "durability": durability,
        "group_commit": queue.group_commit,
    }


def describe(facts: Facts) -> str:
    """The facts in three lines."""
    group_commit = f", group commit {facts['group_commit']}" if "group_commit" in facts else ""  # results before it
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; {facts['os']}; {facts['file_system']}\n"
        f"Python {facts['python']}, SQLite {facts['sqlite']} (APSW {facts['apsw']}), prismq {facts['prismq']},"
        f" driver {facts['driver']}, durability {facts['durability']}{group_commit}\n"
        f"{facts['date']}"
    )


def file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`: the mount point with the longest matching path."""
    place = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
