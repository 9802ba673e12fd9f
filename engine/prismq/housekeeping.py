"""What no caller's operation should do.

Checkpoints, letting in what is due, bringing back what a lease ran out on, removing what is kept no longer.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw

from prismq import clock, rollup, sql
from prismq.errors import QueueBusyError, QueueDatabaseError
from prismq.post import CHANGED, CHECKPOINT, CLOSED, DUE, ELECTED, LOOK, ORPHAN, STOPPED, TURN_SECONDS, Post
from prismq.retention import StoredRetention
from prismq.settings import Settings

if TYPE_CHECKING:
    from prismq.connection import Connection
    from prismq.database import QueueDatabase

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.25
"""After so long without a commit the rest of the WAL is copied too."""
FAILED_PAUSE_SECONDS: Final = 30.0
"""How long a housekeeper rests at most after failures in a row."""
PROMOTE_LIMIT: Final = 64
"""Delayed tasks let in at a time, by a claim or here, so that nobody pays for a flood."""
MOST_CALLED: Final = 256
"""No more workers are called for tasks of one kind: so many can sleep."""
REAP_CHUNK: Final = 100
"""Leases returned in one transaction, so that no caller waits for many."""
REAP_PATIENCE_LOOKS: Final = 50
REAP_LOOK_SECONDS: Final = 0.001
"""So often, and so far apart, a caller looks whether the housekeeper has returned expired leases before it does it."""
SHORTEST_WAIT_SECONDS: Final = 0.0001
LONGEST_WAIT_SECONDS: Final = 0.001
"""Between these a waiter looks again whether a lock is free: an eighth of its wait so far."""
SNAPSHOT_SECONDS: Final = 2.0
"""A reader that holds a checkpoint back for longer is waited out."""
RESTART_PASSES: Final = 4
"""So many passes at most before a restart."""
RESTART_PAGES: Final = 64
"""Few enough to be copied while writers are held."""
RESTART_PAUSE_SECONDS: Final = 0.02
LONGEST_RESTART_PAUSE_SECONDS: Final = 0.2
"""Until a restart is tried again: twice as long after each try in vain."""
ROLL_UP_SECONDS: Final = 2.0
"""How often to look while there are commits whether enough tasks have finished to be rolled up."""
ROLL_UP_SHARE: Final = 0.2
"""Of the time goes into rolling up at most while there are commits: it keeps writers waiting."""
CHECK_SECONDS: Final = 600.0
"""How often to see at rest, after commits, whether the roll-ups agree with the rows."""
FORGOTTEN_AFTER: Final = timedelta(minutes=10)
"""The records of a sidecar file are dropped when the one that replaced it is so old: nobody waits for so long."""
SLOWING_SHARE: Final = 0.25
"""Of the WAL's limit, from which on writers are slowed down."""
HELD_PAUSE_SECONDS: Final = 0.1
"""How often the rest of each writer is set anew while a reader lets the WAL grow."""


class Housekeeper:
    """A daemon thread with a connection of its own, so that no caller's operation does its work.

    It belongs to the connection that its queues work on, and lives as long. Of all on one file only one is at work.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._pid = os.getpid()
        self._post = Post(path)
        self._thread = threading.Thread(
            target=_keep_house, args=(path, settings, self._post), name="prismq-keeper", daemon=True
        )
        self._thread.start()

    def abandon(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self._post.stop()

    def stop(self) -> None:
        """End the thread and wait for it; a forked child has no such thread."""
        if self._pid == os.getpid():
            self.abandon()
            self._thread.join()


def _keep_house(path: Path, settings: Settings, post: Post) -> None:
    from prismq.database import QueueDatabase

    own = replace(settings, group_commit=False, mmap_size=settings.mmap_size or 0)
    with QueueDatabase(path, settings=own) as database, post.taken(database):
        house = _House(database, post)
        pause = 0.0
        while not (events := post.wait(pause)) & STOPPED:
            try:
                pause = house.attend(events)
            except QueueBusyError:
                pause = TURN_SECONDS  # the others first
            except QueueDatabaseError as error:
                pause = min(max(2 * pause, 1.0), FAILED_PAUSE_SECONDS)
                _log.error("housekeeping of %s failed, trying again in %.0f s: %s", path, pause, error)
                post.rest(pause)


class _House:
    """What there is to be done on one database."""

    def __init__(self, database: QueueDatabase, post: Post) -> None:
        self._database = database
        self._post = post
        self._checkpointer = Checkpointer(database, post.sync)
        self._retention = StoredRetention(database)
        self._leads = False
        self._owed = 0  # events that were not attended to yet, because somebody else was writing
        self._orphans: list[tuple[int, str, int, str]] = []  # as of the post
        self._changed_at: float | None = None  # since when not all of the WAL is copied
        self._roll_up_at = 0.0
        self._rolling_up = False  # there may be something to be rolled up
        self._unchecked = False  # the roll-ups may not agree with the rows
        self._check_at = time.monotonic() + CHECK_SECONDS

    def attend(self, events: int) -> float:
        """Do what the events call for; returns how long to wait for more, in seconds."""
        now = time.monotonic()
        self._leads |= events != 0  # others are told nothing
        if events & (CHANGED | ELECTED):
            self._changed_at = now
            self._rolling_up = self._unchecked = True
        if events & ORPHAN:
            self._orphans.append(self._post.orphan)
        self._owed |= events
        self._serve_waiting_workers()
        if self._owed & CHECKPOINT or self._checkpointer.delays:
            self._checkpointer.checkpoint(busy=True)
            self._owed &= ~CHECKPOINT
        elif self._changed_at is not None and now - self._changed_at >= IDLE_SECONDS:
            self._checkpointer.checkpoint()
            self._changed_at = None
        self._post.order_delay(self._checkpointer.delay_us)
        if self._owed & ELECTED:
            old_enough = (_group_of(clock.now() - FORGOTTEN_AFTER),)
            if self._database.execute(sql.GROUPS_TO_FORGET, old_enough).fetchone() is not None:  # else no lock is taken
                self._database.execute(sql.FORGET_GROUPS, old_enough)
            self._owed &= ~ELECTED
        until_roll_up = self._roll_up()
        if self._checkpointer.delays:
            return min(HELD_PAUSE_SECONDS, until_roll_up)
        until_retention = self._retention.attend() if self._leads else math.inf
        return min(IDLE_SECONDS if self._changed_at is not None else math.inf, until_roll_up, until_retention)

    def _serve_waiting_workers(self) -> None:
        """Make claimable what became so, and call those who sleep. What busy writers prevent stays owed."""
        while self._orphans:
            self._database.execute(sql.UNCLAIM_ORPHAN, (*self._orphans[-1], clock.to_text(clock.now())))
            self._orphans.pop()
        if self._owed & (DUE | ELECTED):
            self._let_in_and_bring_back()
        if self._owed & (DUE | ELECTED | CHANGED | LOOK | ORPHAN):
            self._post.expect(self._next_turn)
            if self._post.is_anybody_waiting():
                self._wake()
        self._owed &= CHECKPOINT | ELECTED

    def _roll_up(self) -> float:
        """Roll up some finished tasks if it is time to; returns how long to wait for more, in seconds."""
        began = time.monotonic()
        if not self._rolling_up:
            return self._check_roll_up(began)
        if began < self._roll_up_at and self._changed_at is not None:
            return self._roll_up_at - began
        more = rollup.roll_up(self._database)
        ended = time.monotonic()
        if more:
            self._roll_up_at = ended + (ended - began) / ROLL_UP_SHARE
            return self._roll_up_at - ended
        self._rolling_up = False
        self._roll_up_at = ended + ROLL_UP_SECONDS
        return self._check_roll_up(ended)

    def _check_roll_up(self, now: float) -> float:
        """See, at rest, whether the sums are right, if it is time to; returns how long to wait for that."""
        if not self._unchecked or self._changed_at is not None:
            return math.inf
        if now < self._check_at:
            return self._check_at - now
        self._unchecked = False
        self._check_at = now + CHECK_SECONDS
        if rollup.check(self._database):
            return math.inf
        _log.info("finished tasks of %s were changed by hand: their sums are made anew", self._database.db_path)
        self._rolling_up = True
        return 0.0

    def _let_in_and_bring_back(self) -> None:
        connection = self._database.get_connection()
        while reap(connection) == REAP_CHUNK or let_in(connection) == PROMOTE_LIMIT:
            pass

    def _next_turn(self) -> datetime | None:
        turns = [row[0] for row in self._database.execute(sql.NEXT_TURNS) if row[0] is not None]
        return min((_as_time(turn.decode("utf-8", "replace")) for turn in turns), default=None)

    def _wake(self) -> None:
        for kind, choosy, count in self._database.execute(sql.READY_KINDS, (MOST_CALLED,)).fetchall():
            self._post.call(kind, bool(choosy), count)


class Checkpointer:
    """Copies committed pages into the database, and begins the WAL anew where no reader stands in the way."""

    def __init__(self, database: QueueDatabase, sync: Callable[[], None] = lambda: None) -> None:
        settings, page_size = database.settings, database.get_connection().page_size
        self._database = database
        self._sync = sync  # has what was copied reach the disk
        self._page_size = page_size
        self._worth_pages = settings.checkpoint_bytes // page_size
        self._restart_pages = settings.restart_bytes // page_size
        self._long_pages = settings.long_wal_bytes // page_size
        self._limit_bytes = settings.wal_limit_bytes
        self._copied, self._copied_at = -1, 0.0  # how much was copied, and since when
        self._restart_at = 0.0  # monotonic; later after somebody was in the way
        self._restart_pause = RESTART_PAUSE_SECONDS
        self.delay_us = 0
        """How long each writer should rest before its turn, so that the WAL stays bounded."""

    @property
    def delays(self) -> bool:
        """Whether writers are slowed down at the moment."""
        return self.delay_us > 0

    def checkpoint(self, busy: bool = False) -> None:
        """Copy what was committed, if it is worth it while writers are busy; restart a long WAL."""
        pages, copied = self._run("NOOP")[1:]  # in SQLite before 3.51: PASSIVE
        now = time.monotonic()
        if copied != self._copied:
            self._copied, self._copied_at = copied, now
        # What stays behind for long belongs to a reader that holds a snapshot: until it ends, nothing is begun anew.
        read_on = copied < pages and now - self._copied_at > SNAPSHOT_SECONDS
        restart = pages > self._restart_pages and now >= self._restart_at
        left = pages - copied
        worth = left >= (self._worth_pages if busy else 1)
        if restart or worth:
            pages, copied = self._run("PASSIVE")[1:]
        # What is not copied yet will be while the restart holds the writers, so it should be little; unless the writers
        # outrun the copying, when holding them is the point.
        little = self._long_pages if pages >= self._long_pages else max(self._worth_pages, pages // 4)
        if restart and not read_on and pages - copied <= little:
            self._shorten_restart(left)
            blocked = self._run("RESTART")[0]
            longer = min(2 * self._restart_pause, LONGEST_RESTART_PAUSE_SECONDS)
            self._restart_pause = longer if blocked else RESTART_PAUSE_SECONDS
            self._restart_at = time.monotonic() + self._restart_pause
            pages = pages if blocked else 0
        self.delay_us = delay_us(pages * self._page_size, self._limit_bytes)

    def _shorten_restart(self, left: int) -> None:
        """Copy and sync beforehand, with nobody held up, what the restart would while it holds the writers.

        `left` pages were before the pass just made. While it ran more were committed, as many as it took long: with a
        disk that is faster than the writers a few passes leave next to nothing.
        """
        for _ in range(RESTART_PASSES):
            self._sync()
            pages, copied = self._run("NOOP")[1:]
            if not RESTART_PAGES < pages - copied < left / 2:
                return
            left = pages - copied
            self._run("PASSIVE")

    def _run(self, mode: str) -> tuple[int, int, int]:
        """Whether somebody was in the way, the pages in the WAL, and how many of them are in the database."""
        blocked, pages, copied = self._database.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return blocked, pages, copied


def delay_us(wal_bytes: int, limit_bytes: int) -> int:
    """How long each writer rests before its turn when the WAL has grown so long under a reader's snapshot.

    From 1 ms at a quarter of the limit to 256 ms, doubling eight times on the way; at the limit nobody writes.
    """
    quarter = limit_bytes * SLOWING_SHARE
    if wal_bytes < quarter:
        return 0
    if wal_bytes >= limit_bytes:
        return CLOSED
    return int(1000 * 2 ** (8 * (wal_bytes - quarter) / (limit_bytes - quarter)))


def checkpoint_inline(connection: Connection) -> Callable[[apsw.Connection, str, int], int]:
    """APSW's WAL hook in place of SQLite's own, which checkpoints inside a caller's commit every 1,000 pages."""
    beyond_measure = connection.settings.inline_checkpoint_bytes // connection.page_size

    def after_commit(raw: apsw.Connection, name: str, pages: int) -> int:
        if pages >= beyond_measure:
            with suppress(apsw.Error):  # the commit stands; the next one tries again
                raw.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    return after_commit


def reap(connection: Connection, grace_seconds: float = 0) -> int:
    """Return up to REAP_CHUNK leases that ran out so long ago: queued again, or dead_letter when no attempt is left.

    How many.
    """
    now = clock.now()
    ended = clock.to_text(now - timedelta(seconds=grace_seconds))
    if connection.execute(sql.EXPIRED, (ended,)).fetchone() is None:
        return 0
    with connection.transaction():
        returned = connection.execute(sql.REAP, (clock.to_text(now), REAP_CHUNK, ended)).fetchall()
        if returned:
            connection.execute(sql.COUNT_EXPIRED, (len(returned),))
    for task_id, status, error in returned:
        text = error.decode("utf-8", "replace")
        _log.warning("task %s is %s: %s", task_id, status, text, extra={"task_id": task_id, "status": status})
    return len(returned)


def await_reap(connection: Connection, looks: int) -> None:
    """Leave the return of expired leases to whoever keeps house, for a moment after each of a caller's `looks`.

    Their ends are its timer, so it is at work on them already. If nobody does it, or nobody can because this is the
    caller's own transaction, it is done here.
    """
    if looks > REAP_PATIENCE_LOOKS or connection.in_transaction:
        reap(connection)
    else:
        time.sleep(REAP_LOOK_SECONDS)


def let_in(connection: Connection) -> int:
    """Make up to PROMOTE_LIMIT delayed tasks that are due claimable. How many."""
    now = clock.to_text(clock.now())
    if connection.execute(sql.DUE, (now,)).fetchone() is None:
        return 0
    return connection.execute(sql.PROMOTE, (now, PROMOTE_LIMIT)).rowcount


def _group_of(moment: datetime) -> str:
    """The name below which the records of sidecar files stand that were made before; see `slots_generation`."""
    return f"group {clock.epoch_ms(moment) << 16:016x}"


def _as_time(turn: str) -> datetime:
    """When a delayed task is due or a lease ends; what is no time, has come."""
    try:
        return clock.to_datetime(turn) or clock.now()
    except ValueError:
        return clock.now()
