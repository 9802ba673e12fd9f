"""The processes of one peer on one queue, started, told what to do and ended from here."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from bench.costs import ROOT
from bench.peers.catalogue import Peer
from bench.peers.environment import PeerError

ANSWER_SECONDS = 120.0
END_SECONDS = 10.0


class Process:
    """One process of a peer. Orders are given with `tell`, their answers taken with `hear`, in the same order."""

    def __init__(self, python: Path, peer: Peer, folder: Path, log: Path, host: bool) -> None:
        command = [str(python), "-m", "bench.peers.player", peer.adapter, str(folder), peer.durability]
        self._said = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [*command, *(["--host"] if host else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                cwd=ROOT,
                env=_environment(peer),
                start_new_session=True,  # Ctrl-C is for the one who can end them all in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, **order: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do} | order) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerError(self._why()) from error

    def hear(self, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The next answer; PeerError with the last line of standard error when there is none within `seconds`."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(seconds, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise PeerError(self._why())
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise PeerError(f"its process answered {line.strip()!r:.80}") from error
        return answer

    def ask(self, do: str, **order: object) -> dict[str, Any]:
        self.tell(do, **order)
        return self.hear()

    def end(self, kill: bool) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not kill:
            try:
                self._process.stdin.close()
                self._process.wait(END_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                kill = True
        if kill:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _why(self) -> str:
        status = self._process.wait()
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with exit status {status}"


class Ensemble:
    """A peer's processes on a new queue in `folder`, which must not exist; the first of them hosts it."""

    def __init__(self, peer: Peer, python: Path, folder: Path) -> None:
        folder.mkdir()
        self._peer, self._python, self._folder = peer, python, folder
        self._processes: list[Process] = []
        self.settings: dict[str, object] = {}
        """What the connection of the first process says."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *rest: object) -> None:
        host, others = self._processes[:1], self._processes[1:]
        for process in [*others, *host]:
            process.end(kill=failure is not None and process not in host)

    def add(self, count: int = 1) -> list[Process]:
        """So many more processes, each with the queue open and warm; the queue is empty, and must have been."""
        folder = self._folder / "queue"
        folder.mkdir(exist_ok=True)
        added = []
        for _ in range(count):
            number = len(self._processes)
            log = self._folder / f"{number}.log"
            process = Process(self._python, self._peer, folder, log, host=number == 0)
            self._processes.append(process)
            added.append(process)
            if number == 0:
                process.hear()  # the queue is there before others open it
                self.settings = process.ask("settings")["settings"]
        for process in added:
            if process is not self._processes[0]:
                process.hear()
        for process in added:  # one by one, as each takes back what it puts in
            process.ask("warm")
        return added


def _environment(peer: Peer) -> dict[str, str]:
    if not peer.requirements:
        return dict(os.environ)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}
