"""One process of a worker: what the supervisor starts, several times over."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Final

from prismq.database import QueueDatabase
from prismq.handler_config import load_handlers
from prismq.worker import WorkerEngine
from prismq.worker_config import WorkerConfig

_log = logging.getLogger(__name__)

SPAWN: Final = SpawnContext()
if sys.platform == "win32":
    STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(processName)s: %(message)s"
END_SECONDS: Final = 5.0
"""How long a process may take to end after its tasks have, or were given back."""


@dataclass(frozen=True)
class Assignment:
    """What a process is to do; it goes there pickled."""

    worker_id: str
    config: WorkerConfig
    handlers: str
    database: Path
    log_level: str


def run(assignment: Assignment, supervisor: Connection) -> None:
    """Work until the supervisor closes its end, by dying if need be, or SIGTERM comes; then end with the running tasks.

    The exit status is 0, or 1 when something failed.
    """
    here, there = SPAWN.Pipe(duplex=False)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group, and the supervisor speaks for it
    signal.signal(signal.SIGTERM, lambda number, frame: there.send_bytes(b"SIGTERM"))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    logging.basicConfig(level=assignment.log_level, format=LOG_FORMAT)

    with QueueDatabase(assignment.database, durability=assignment.config.durability) as database:
        engine = _engine(assignment, database)
        succeeded = []

        def work() -> None:
            try:
                engine.run_loop()
                succeeded.append(True)
            except Exception:
                _log.exception("the worker failed")
            finally:
                there.send_bytes(b"ended")

        # Signals are dealt with by the main thread, and only while it runs Python.
        working = threading.Thread(target=work, name="prismq-worker", daemon=True)
        working.start()
        wait([here, supervisor])
        engine.stop()
        working.join(assignment.config.grace_seconds + END_SECONDS)
    sys.stdout.flush()
    if not succeeded:
        os._exit(1)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(0)  # without waiting for a handler whose task was given back


def _engine(assignment: Assignment, database: QueueDatabase) -> WorkerEngine:
    config = assignment.config
    return WorkerEngine(
        database,
        assignment.worker_id,
        config.capabilities,
        config.scheduling_strategy,
        config.lease_duration_seconds,
        config.poll_interval_seconds,
        load_handlers(assignment.handlers),
        types=config.types,
        concurrency=config.concurrency,
        pool=config.pool,
        prefetch=config.prefetch,
        retry=config.retry,
        grace_seconds=config.grace_seconds,
    )
