"""Ctrl-C on a benchmark."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Not from conftest: a spawned process would find another one by that name.
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0


def interrupt(
    arguments: list[object], folder: Path, processes: int, delay: float, trace: str = "*.journal"
) -> tuple[int, str]:
    """Press Ctrl-C so many seconds after the last of its processes was started; exit status and standard error.

    Every process leaves one file named like `trace` in the folder.
    """
    command = [sys.executable, "-m", "bench", *map(str, arguments), "--path", str(folder)]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _until(lambda: len(list(folder.rglob(trace))) >= processes)
        time.sleep(delay)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=PATIENCE_SECONDS)[1]
        _until(lambda: not _alive(running.pid))
    finally:
        if _alive(running.pid):
            os.killpg(running.pid, signal.SIGKILL)
    return running.returncode, said


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
