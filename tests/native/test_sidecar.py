"""The C sources around the sidecar file, by themselves: no SQLite is needed, so they run for Windows too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.toolchain import HERE, NATIVE, STRICT, compile_c, require

MODULES = ("sidecar", "gate", "places", "keeper", "announcement")
SOURCES = [
    *sorted((HERE / "sidecar").glob("*.c")),
    *(NATIVE / f"{name}.c" for name in MODULES),
    *sorted(NATIVE.glob("platform_*.c")),
]
# What platform_macos.c takes from Apple's headers, as documented.
APPLE_HEADERS = {
    "Availability.h": "",
    "os/clock.h": "typedef enum { OS_CLOCK_MACH_ABSOLUTE_TIME = 32 } os_clockid_t;\n",
    "os/os_sync_wait_on_address.h": """
#include <stddef.h>
#include <stdint.h>
typedef enum { OS_SYNC_WAIT_ON_ADDRESS_SHARED = 1 } os_sync_wait_on_address_flags_t;
typedef enum { OS_SYNC_WAKE_BY_ADDRESS_SHARED = 1 } os_sync_wake_by_address_flags_t;
int os_sync_wait_on_address_with_timeout(void *, uint64_t, size_t, os_sync_wait_on_address_flags_t, os_clockid_t,
                                         uint64_t);
int os_sync_wake_by_address_any(void *, size_t, os_sync_wake_by_address_flags_t);
""",
}
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
    valgrind.append("--fair-sched=yes")  # else a thread that turns in circles keeps the others from running
    run([*valgrind, str(plain_program)], tmp_path, "--quick", "--patience", "5")


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The command that runs a Windows program."""
    wine = shutil.which("wine64", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/lib/wine") or require("wine64")
    home = tmp_path / "wine"
    monkeypatch.setenv("WINEPREFIX", str(home))
    monkeypatch.setenv("WINEDEBUG", "-all")
    # Wine's services live on a while, and a test would wait for them if they held the pipe its output comes through.
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([wine, "wineboot", "--init"], check=True, **silent)
    yield wine
    subprocess.run([wine, "wineboot", "--kill"], check=False, **silent)
    shutil.rmtree(home, ignore_errors=True)  # 700 MB, which pytest would keep


def test_the_c_tests_pass_on_windows(windows: str, tmp_path: Path) -> None:
    libraries = ("-static", "-lpthread", "-lsynchronization")
    program = build(tmp_path / "windows.exe", "x86_64-w64-mingw32-gcc", "-O2", "-g", libraries=libraries)
    work = tmp_path / "work"
    work.mkdir()
    run([windows, str(program)], work, "--quick", "--patience", "3")


@pytest.mark.skipif(sys.platform == "darwin", reason="the module itself is built here")
@pytest.mark.parametrize("newest", ["130000", "140400"])
def test_the_sources_for_macos_compile(newest: str, tmp_path: Path) -> None:
    """As far as that can be told without the system's own headers."""
    write_apple_headers(tmp_path)
    macos = ["-D__APPLE__", "-U__linux__", "-D__MAC_14_4=140400", f"-D__MAC_OS_X_VERSION_MAX_ALLOWED={newest}"]
    available = "-D__builtin_available(system, others)=1"
    for source in ("platform_macos.c", "platform_posix.c"):
        command = [require("gcc"), *STRICT, *macos, available, f"-I{tmp_path}", f"-I{NATIVE}", "-fsyntax-only"]
        compile_c([*command, str(NATIVE / source)])


def write_apple_headers(folder: Path) -> None:
    for name, content in APPLE_HEADERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="built of what the two systems have in common")
def test_no_turn_is_kept_for_those_who_poll(tmp_path: Path) -> None:
    """As on macOS before 14.4, where nobody knows whether anybody waits."""
    write_apple_headers(tmp_path)
    macos = ("-D__APPLE__", "-U__linux__", "-D_GNU_SOURCE", f"-I{tmp_path}")
    program = build(tmp_path / "polling", "gcc", "-O2", *macos)
    for sentence in ("who gives up passes", "a turn ends for one who keeps coming", "a killed sleeper is passed over"):
        run([str(program)], tmp_path, "--quick", "--patience", "2", "--only", sentence)
