"""A sidecar after a restart of the machine, beside a copy of the database, and seen from different containers."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prismq import QueueDatabase, TaskQueue, native
from tests import colleague
from tests.colleague import Colleague

pytestmark = pytest.mark.skipif(native.load() is None, reason="only the compiled module has one")
OF_NATIVE_USERS = pytest.mark.parametrize("driver", ["native"], indirect=True)
HIRE = Callable[..., Colleague]
SETTLED = 0.3  # by then a process that was given something to do is at it
LONG = 15.0
HOUR_US = 3_600_000_000
LIST = "SELECT id, type FROM task_queue ORDER BY id"


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + "-prismq")


def enqueue_one(queue: TaskQueue, kind: str) -> int:
    return queue.enqueue(kind)


def pretend_a_restart(path: Path) -> int:
    """The steady clock begins anew, so that every moment in the file lies far ahead. How many there were."""
    words = bytearray(sidecar(path).read_bytes())
    now, found = time.monotonic_ns() // 1000, 0
    for at in range(0, len(words) - 7, 8):
        (word,) = struct.unpack_from("<Q", words, at)
        if abs(word - now) < HOUR_US:
            struct.pack_into("<Q", words, at, word + 1000 * HOUR_US)
            found += 1
    sidecar(path).write_bytes(words)
    return found


@OF_NATIVE_USERS
def test_a_restart_in_the_midst_of_work_leaves_nothing_to_wait_for(path: Path, hire: HIRE, tmp_path: Path) -> None:
    with TaskQueue(path) as queue:
        done = queue.enqueue("before")
    holder, *callers = [hire() for _ in range(4)]
    holder.begin(colleague.sleep_in_transaction, str(tmp_path / "flag"), 60)
    while not (tmp_path / "flag").exists():
        time.sleep(0.01)
    for caller in callers:
        caller.begin(enqueue_one, "submitted, and never done")
    time.sleep(SETTLED)
    for one in (*callers, holder):  # else those would do it as soon as the lock is free
        one.kill()
    assert pretend_a_restart(path) > len(callers)
    with TaskQueue(path, settings={"busy_timeout": 2000}) as queue:
        assert queue.group_commit == "on"
        later = queue.enqueue("after")
        assert [tuple(row) for row in queue.database.execute(LIST)] == [(done, "before"), (later, "after")]
        assert [task.id for task in queue.claim_many("w", 9, wait=LONG)] == [done, later]


@OF_NATIVE_USERS
def test_a_copy_is_a_queue_of_its_own(path: Path, hire: HIRE, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / path.name
    copy.parent.mkdir()
    worker = hire()
    worker.begin(colleague.claim, "w", {"wait": LONG})
    time.sleep(SETTLED)
    with QueueDatabase(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for file in (path, sidecar(path)):
        shutil.copy(file, copy.with_name(file.name))
    with TaskQueue(copy) as copied:
        assert copied.group_commit == "on"
        for number in range(1, 4):
            assert copied.enqueue(f"copied {number}") == number
        time.sleep(SETTLED)
        assert not worker.is_done
        with TaskQueue(path) as queue:
            assert queue.enqueue("here") == 1
            assert worker.result()[0] == 1
            assert [row[1] for row in queue.database.execute(LIST)] == ["here"]
        assert [task.type for task in copied.claim_many("w", 9)] == ["copied 1", "copied 2", "copied 3"]


IN_A_CONTAINER = """
import os, sys, time
from prismq import TaskQueue
assert os.getpid() == 1, os.getpid()
with TaskQueue(sys.argv[1], driver="native") as queue:
    until = float(sys.argv[2])
    while time.time() < until:
        print(queue.enqueue("t"), flush=True)
"""


def in_a_container(path: Path, until: float) -> subprocess.Popen[str]:
    """A process that is number 1 of a PID namespace of its own, so that others have its number too."""
    program = [sys.executable, "-c", IN_A_CONTAINER, str(path), str(until)]
    return subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *program], stdout=subprocess.PIPE, text=True)


def may_unshare() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs the right to make PID namespaces")
def test_processes_with_the_same_number_in_different_containers_are_told_apart(path: Path) -> None:
    until = time.time() + 4
    with TaskQueue(path, driver="native") as queue:
        started = [in_a_container(path, until) for _ in range(3)]
        killed, *others = started
        ids = []
        while time.time() < until:
            ids.append(queue.enqueue("t"))
            if len(ids) == 500:
                killed.kill()  # with it goes the process in the namespace
        for process in others:
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            ids += [int(line) for line in output.split()]
        told = [int(line) for line in (killed.communicate()[0]).splitlines() if line]
        stored = [row[0] for row in queue.database.execute("SELECT id FROM task_queue ORDER BY id")]
        assert len(ids) == len(set(ids))
        assert set(ids) | set(told[:-1]) <= set(stored)
        assert len(stored) - len(ids) - len(told) in (-1, 0, 1)  # the last one may not have been said, or not whole
        assert queue.database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
