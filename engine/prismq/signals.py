"""The signals that end a program. A terminal or a service manager sends them to every process of it at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Final

if sys.platform == "win32":
    STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def kept_back() -> Iterator[None]:
    """A process that is started in the block gets none of them before it calls `let_through`.

    Until then one would end it, and not in order. On Windows that can't be helped.
    """
    if sys.platform == "win32":
        yield
    else:
        resource_tracker.ensure_running()  # which is otherwise started within, and lets them through
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Take what was kept back, and what comes: to be called once handlers are set."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
