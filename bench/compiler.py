"""Builds the C part of the benchmarks with whatever C compiler the system has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

COMPILERS = ("cc", "gcc", "clang", "cl")


class CompilerError(Exception):
    """There is no C compiler, or it refused the source."""


def compile_library(source: Path, include: Path, folder: Path) -> Path:
    """Compile one C file into a shared library in `folder`; returns its path."""
    found = [path for name in COMPILERS if (path := shutil.which(name))]
    compiler = shlex.split(os.environ["CC"]) if os.environ.get("CC") else found[:1]
    if not compiler:
        raise CompilerError(f"no C compiler found (looked for {', '.join(COMPILERS)}; set CC to name one)")
    library = folder / (source.stem + (".dll" if sys.platform == "win32" else ".so"))
    if Path(compiler[0]).stem.lower() == "cl":
        options = ["/nologo", "/O2", "/LD", f"/I{include}", str(source), f"/Fe:{library}"]
    else:
        options = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra", f"-I{include}", str(source), "-o", str(library)]
    done = subprocess.run([*compiler, *options], capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise CompilerError(f"{compiler[0]} could not compile {source.name}:\n{done.stdout}{done.stderr}")
    return library
