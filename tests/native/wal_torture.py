"""A process that changes a shared database at random until it is killed: `wal_torture.py ORDERS`, a JSON object."""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import asdict, dataclass

import apsw

from prismq import native

CELLS = 60
BODY = "id || ' ' || version || ' ' || hex(zeroblob((id * 7919 + version * 104729) % 1500))"

SCHEMA = f"""
CREATE TABLE cell (id INTEGER PRIMARY KEY, version INTEGER, tag INTEGER UNIQUE, body TEXT);
CREATE TABLE ledger (worker INTEGER, sequence INTEGER, touched INTEGER, PRIMARY KEY (worker, sequence)) WITHOUT ROWID;
WITH RECURSIVE number (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM number LIMIT {CELLS})
INSERT INTO cell SELECT id, 0, id * 1000000, '' FROM number;
UPDATE cell SET body = {BODY};
"""
TOUCH = f"""UPDATE cell SET version = version + 1, tag = id * 1000000 + version + 1,
  body = {BODY.replace("version", "(version + 1)")} WHERE id BETWEEN ? AND ?"""
WRONG = f"""SELECT (SELECT count(*) FROM cell WHERE body IS NOT {BODY} OR tag <> id * 1000000 + version),
  (SELECT sum(version) FROM cell) - (SELECT coalesce(sum(touched), 0) FROM ledger)"""


@dataclass
class Orders:
    """What a process is told to do; `done` is the file in which it notes every committed sequence number."""

    path: str
    vfs: str | None
    worker: int
    synchronous: str
    done: str

    def encode(self) -> str:
        return json.dumps(asdict(self))


def connect(path: str, vfs: str | None) -> apsw.Connection:
    """A connection with so small a cache that transactions spill pages."""
    native.load()
    connection = apsw.Connection(path, vfs=vfs) if vfs else apsw.Connection(path)
    connection.set_busy_timeout(10_000)
    connection.execute("PRAGMA cache_size = 4; PRAGMA wal_autocheckpoint = 50")
    return connection


def require_sound(connection: apsw.Connection) -> None:
    """One snapshot must add up: every cell is whole, and no transaction is there in part."""
    wrong_cells, missing_touches = connection.execute(WRONG).get
    if wrong_cells or missing_touches:
        raise AssertionError(f"{wrong_cells} broken cells, {missing_touches} touches unaccounted for")


class Worker:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.random = random.Random(orders.worker)
        self.sequence = 0
        self.done = os.open(orders.done, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.connection = connect(orders.path, orders.vfs)
        self.connection.execute(f"PRAGMA synchronous = {orders.synchronous}")

    def work(self) -> None:
        while True:
            chosen = self.random.choices(
                (self.commit, self.abandon, self.checkpoint, self.look, self.reconnect), (60, 20, 8, 10, 2)
            )[0]
            try:
                chosen()
            except (apsw.BusyError, apsw.LockedError):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def commit(self) -> None:
        self.begin()
        touched = self.touch()
        if self.random.random() < 0.3:
            self.connection.execute("SAVEPOINT inner")
            self.touch()
            if self.random.random() < 0.5:
                self.connection.execute("SELECT sum(length(body)) FROM cell").fetchall()
            self.connection.execute("ROLLBACK TO inner")
            touched += self.touch()
            self.connection.execute("RELEASE inner")
        self.sequence += 1
        self.connection.execute("INSERT INTO ledger VALUES (?, ?, ?)", (self.orders.worker, self.sequence, touched))
        try:
            self.connection.execute("COMMIT")
        except apsw.BusyError:
            self.sequence -= 1
            raise
        os.write(self.done, f"{self.sequence}\n".encode())

    def abandon(self) -> None:
        self.begin()
        self.touch()
        self.touch()
        self.connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        mode = self.random.choice(("PASSIVE", "FULL", "RESTART", "TRUNCATE"))
        self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def look(self) -> None:
        require_sound(self.connection)

    def reconnect(self) -> None:
        self.connection.close()
        self.connection = connect(self.orders.path, self.orders.vfs)
        self.connection.execute(f"PRAGMA synchronous = {self.orders.synchronous}")

    def begin(self) -> None:
        self.connection.execute(self.random.choice(("BEGIN", "BEGIN IMMEDIATE", "BEGIN IMMEDIATE")))

    def touch(self) -> int:
        first = self.random.randrange(CELLS)
        last = min(first + self.random.choice((0, 1, 3, 20, CELLS)), CELLS - 1)
        self.connection.execute(TOUCH, (first, last))
        return last - first + 1


if __name__ == "__main__":
    Worker(Orders(**json.loads(sys.argv[1]))).work()
