"""The C sources around the sidecar file, by themselves: no SQLite is needed, so they run for Windows too."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.toolchain import HERE, NATIVE, STRICT, compile_c, require

MODULES = ("sidecar", "gate", "places", "keeper", "announcement")
SOURCES = [
    *sorted((HERE / "sidecar").glob("*.c")),
    *(NATIVE / f"{name}.c" for name in MODULES),
    *sorted(NATIVE.glob("platform_*.c")),
]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


@pytest.fixture(scope="module")
def plain_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sidecar") / "plain", "gcc", "-O2", "-g")


def build(program: Path, compiler: str, *options: str, libraries: tuple[str, ...] = ("-lpthread",)) -> Path:
    """The C tests as a program."""
    command = [require(compiler), *STRICT, f"-I{NATIVE}", *options, *map(str, SOURCES), *libraries]
    compile_c([*command, "-o", str(program)])
    return program


def run(program: list[str], work: Path, *options: str, **environment: str) -> None:
    done = subprocess.run(
        [*program, *options], cwd=work, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " tests passed" in done.stdout


def test_the_c_tests_pass(plain_program: Path, tmp_path: Path) -> None:
    run([str(plain_program)], tmp_path, "--quick", "--patience", "2")


def test_the_c_tests_pass_under_the_address_leak_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    program = build(tmp_path / "sanitized", "gcc", "-O1", "-g", *SANITIZERS)
    run([str(program)], tmp_path, "--quick", "--patience", "2", UBSAN_OPTIONS="print_stacktrace=1")


def test_the_c_tests_pass_under_valgrind(plain_program: Path, tmp_path: Path) -> None:
    valgrind = [require("valgrind"), "--quiet", "--error-exitcode=9", "--leak-check=full"]
    valgrind.append("--errors-for-leak-kinds=definite")  # a thread that still runs looks like a possible one
    run([*valgrind, str(plain_program)], tmp_path, "--quick", "--patience", "5")


def test_the_c_tests_pass_on_windows(tmp_path: Path) -> None:
    libraries = ("-static", "-lpthread", "-lsynchronization")
    program = build(tmp_path / "windows.exe", "x86_64-w64-mingw32-gcc", "-O2", "-g", libraries=libraries)
    wine = shutil.which("wine64", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/lib/wine") or require("wine64")
    work = tmp_path / "work"
    work.mkdir()
    wine_home = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    for part in ("memory is shared", "a lock keeps", "a lock goes", "a wait ends", "a changed word", "wake"):
        run([wine, str(program)], work, "--quick", "--patience", "3", "--only", part, **wine_home)
