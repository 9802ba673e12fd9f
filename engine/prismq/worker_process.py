"""One process of a worker: what the supervisor starts, several times over."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from prismq import signals
from prismq.database import QueueDatabase
from prismq.handler_config import load_handlers
from prismq.record import Record, Recorder
from prismq.worker import WorkerEngine
from prismq.worker_config import WorkerConfig

_log = logging.getLogger(__name__)

SPAWN: Final = get_context("spawn")
LEAVE_SECONDS: Final = 2.0
"""How long threads that handlers have left behind, and what runs at the exit, may keep a process."""
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(processName)s: %(message)s"


@dataclass(frozen=True)
class Assignment:
    """What a process is to do; it goes there pickled."""

    worker_id: str
    config: WorkerConfig
    handlers: str
    database: Path
    log_level: str
    record: Record
    wary_seconds: float
    """How long it is wary, because the process before it crashed."""


def run(assignment: Assignment, supervisor: Connection) -> None:
    """Work until the supervisor closes its end, by dying if need be, or SIGTERM comes; then finish what runs.

    The exit status is 0, or 1 when it could not begin or the engine failed.
    """
    logging.basicConfig(level=assignment.log_level, format=LOG_FORMAT)
    try:
        engine = _engine(assignment)
    except Exception:
        _log.exception("%s can't begin", assignment.worker_id)
        sys.exit(1)
    for number in signals.STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group, and the supervisor speaks for it
    signal.signal(signal.SIGTERM, lambda number, frame: engine.stop())
    signals.let_through()
    threading.Thread(target=_stop_with, args=(supervisor, engine), name="prismq-supervisor", daemon=True).start()
    if assignment.wary_seconds > 0:
        engine.wary = True
        timer = threading.Timer(assignment.wary_seconds, engine.relax)
        timer.daemon = True
        timer.start()
    assignment.record.set_at_work()
    status = 1
    try:
        with engine.db:
            engine.run_loop()
        status = 0
    finally:
        threading.Thread(target=_leave_anyway, args=(status,), name="prismq-leave", daemon=True).start()


def _engine(assignment: Assignment) -> WorkerEngine:
    config = assignment.config
    engine = WorkerEngine(
        QueueDatabase(assignment.database, durability=config.durability),
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
        timeout_seconds=config.timeout_seconds,
        heartbeat_seconds=config.heartbeat_seconds,
        grace_seconds=config.grace_seconds,
    )
    engine.recorder = Recorder(assignment.record)
    return engine


def _leave_anyway(status: int) -> None:
    """End the process when it does not end by itself: all that counts is written."""
    time.sleep(LEAVE_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def _stop_with(supervisor: Connection, engine: WorkerEngine) -> None:
    with suppress(EOFError, OSError):  # how the death of the other end shows
        supervisor.recv_bytes()
    engine.stop()
