"""A stream on a Redis server of this run's own: a consumer group claims, XACK and XDEL complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench.peers.adapter import Adapter, Claimed, Task

STREAM, GROUP = "tasks", "workers"
READY_SECONDS = 10.0


class Queue(Adapter):
    batches = True

    @staticmethod
    @contextmanager
    def hosted(folder: Path, durability: str) -> Iterator[None]:
        sync = "always" if durability == "full" else "everysec"
        sockets = Path(tempfile.mkdtemp(prefix="prismq-redis-"))  # a socket's path must be short
        (folder / "socket").write_text(str(sockets / "s"), encoding="utf-8")
        options = ["--port", "0", "--unixsocket", str(sockets / "s"), "--dir", str(folder), "--save", ""]
        append = ["--appendonly", "yes", "--appendfsync", sync, "--daemonize", "no", "--loglevel", "warning"]
        server = subprocess.Popen(["redis-server", *options, *append], stdout=subprocess.DEVNULL)
        try:
            client = _client(folder)
            deadline = time.perf_counter() + READY_SECONDS
            while not _answers(client):
                if server.poll() is not None or time.perf_counter() > deadline:
                    raise RuntimeError("redis-server did not start")
                time.sleep(0.02)
            client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            yield
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(sockets, ignore_errors=True)

    def __init__(self, folder: Path, durability: str) -> None:
        self._client: Any = _client(folder)
        self._worker = f"worker-{os.getpid()}"

    def settings(self) -> Mapping[str, object]:
        return {name: self._client.config_get(name)[name] for name in ("appendonly", "appendfsync")}

    def enqueue(self, task: Task) -> None:
        self._client.xadd(STREAM, {"task": json.dumps(task)})

    def enqueue_many(self, tasks: Sequence[Task]) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            for task in tasks:
                pipeline.xadd(STREAM, {"task": json.dumps(task)})
            pipeline.execute()

    def claim(self) -> Claimed | None:
        return self._read(None)

    def wait(self, seconds: float) -> Claimed | None:
        return self._read(max(1, round(seconds * 1000)))

    def _read(self, block: int | None) -> Claimed | None:
        found = self._client.xreadgroup(GROUP, self._worker, {STREAM: ">"}, count=1, block=block)
        if not found:
            return None
        entries = found[STREAM][0] if isinstance(found, dict) else found[0][1]
        number, fields = entries[0]
        return json.loads(fields["task"]), number

    def complete(self, handle: str) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xack(STREAM, GROUP, handle)
            pipeline.xdel(STREAM, handle)
            pipeline.execute()

    def left(self) -> int:
        return int(self._client.xlen(STREAM))

    def close(self) -> None:
        self._client.close()


def _client(folder: Path) -> Any:
    path = (folder / "socket").read_text(encoding="utf-8")
    return redis.Redis(unix_socket_path=path, decode_responses=True)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
