"""What a number of instructions depends on: compilers and builds, but not the machine's speed."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import apsw

from prismq import native

COMPILER = re.compile(rb"GCC: \([ -~]+|[ -~]*clang version [ -~]+")


def toolchain() -> dict[str, str]:
    """Facts by name; with all of them equal, the same code takes the same number of instructions."""
    module = native.load()
    libc = " ".join(platform.libc_ver())
    sqlite = f"{apsw.sqlite_lib_version()} in APSW {apsw.apsw_version()}, build {_digest(Path(apsw.__file__))}"
    return {
        "architecture": platform.machine(),
        "C compiler": "none" if module is None else _compiler(Path(str(module.__file__))),
        "libc": libc.strip() or "unknown",
        "Python": " ".join(sys.version.split()),
        "SQLite": sqlite,
        "valgrind": _valgrind(),
    }


def _compiler(library: Path) -> str:
    """The compiler's name for itself, which it leaves in what it compiles."""
    found = COMPILER.search(library.read_bytes())
    return "unknown" if found is None else found[0].decode("ascii").strip()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def _valgrind() -> str:
    if not shutil.which("valgrind"):
        return "none"
    return subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
