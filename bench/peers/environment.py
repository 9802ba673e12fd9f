"""A virtual environment for each peer, made once and kept."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.costs import ROOT
from bench.peers.catalogue import Peer

INSTALL_SECONDS = 300.0
NO_WHEEL = "No matching distribution"
PIP_QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")


class PeerError(Exception):
    """A peer that can't be installed or run; says why in one line."""


def default_cache() -> Path:
    """Where this user's caches are."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prismq-bench"


def interpreter(peer: Peer, cache: Path) -> Path:
    """The Python that has the peer, installed if it was not; PeerError when that fails."""
    missing = [program for program in peer.programs if shutil.which(program) is None]
    if missing:
        raise PeerError(f"{', '.join(missing)} is not installed")
    if not peer.requirements:
        return Path(sys.executable)
    name = "-".join((*peer.requirements, f"py{sysconfig.get_python_version()}")).replace("==", "-")
    folder = cache / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    installed = folder / "installed"
    if not (installed.is_file() and python.is_file()):  # the Python that it was made with may be gone
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        try:
            _run([str(python), "-m", "pip", "install", *PIP_QUIET, "--only-binary=:all:", *peer.requirements])
            _run([str(python), "-c", f"import bench.peers.adapters.{peer.adapter}"])
        except PeerError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise PeerError(_reason(peer, str(error))) from error
        installed.write_text("\n".join(peer.requirements) + "\n", encoding="utf-8")
    return python


def _reason(peer: Peer, said: str) -> str:
    """In place of pip's "No matching distribution", which does not say what would match."""
    if NO_WHEEL not in said:
        return said
    system = " ".join((*platform.libc_ver(), platform.machine())) if sys.platform == "linux" else platform.platform()
    needs = f": {peer.needs}" if peer.needs else ""
    here = f"{system.strip()}, Python {platform.python_version()}"
    return f"the index has no wheel of {' or '.join(peer.requirements)} for {here}{needs}"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(str(error)) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise PeerError(lines[-1].removeprefix("ERROR: ") if lines else f"{command[0]}: status {done.returncode}")
