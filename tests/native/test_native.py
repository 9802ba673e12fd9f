"""The C sources by themselves: built with the system's SQLite, as they are, under sanitizers and valgrind."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from prismq import QueueDatabase, lottery, sql
from tests.native.toolchain import HERE, NATIVE, STRICT, compile_c, require, require_sqlite_headers, statement_names

SOURCES = sorted(NATIVE.glob("*.c"))
PROGRAM = [
    HERE / f"{name}.c"
    for name in ("main", "requests", "wal", "faults", "wal_content", "faulty_vfs", "failing_allocator")
]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
# The tests let allocations fail, by both ways that the module has to memory.
ALLOCATION = ("-Dmalloc=failing_malloc", "-Dcalloc=failing_calloc", "-Drealloc=failing_realloc")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the C tests need of the Python side: the statements, and an empty queue."""
    require_sqlite_headers()
    folder = tmp_path_factory.mktemp("native")
    texts = ",\n".join(json.dumps(getattr(sql, name)) for name in statement_names())
    (folder / "statements.h").write_text(f"static const char *const statements[] = {{\n{texts}}};\n", encoding="utf-8")
    with QueueDatabase(folder / "empty.db") as database:
        database.initialize_schema()
        lottery.open_lottery(database)
    return folder


@pytest.fixture(scope="module")
def plain_program(prepared: Path) -> Path:
    return build(prepared, "plain", "gcc", "-O2", "-g")


def build(folder: Path, name: str, compiler: str, *options: str) -> Path:
    """The C tests as a program."""
    common = [require(compiler), *STRICT, *options, f"-I{NATIVE}"]
    objects = []
    for source in SOURCES:
        objects.append(str(folder / f"{name}-{source.stem}.o"))
        compile_c([*common, "-Wno-unused-parameter", *ALLOCATION, "-c", str(source), "-o", objects[-1]])
    compile_c([*common, f"-I{folder}", *map(str, PROGRAM), *objects, "-lsqlite3", "-o", str(folder / name)])
    return folder / name


def run(program: list[str], folder: Path, work: Path, *options: str) -> None:
    done = subprocess.run(
        [*program, str(folder / "empty.db"), *options],
        cwd=work,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " tests passed" in done.stdout


def test_the_c_tests_pass(prepared: Path, plain_program: Path, tmp_path: Path) -> None:
    run([str(plain_program)], prepared, tmp_path)


def test_the_c_tests_pass_under_the_address_leak_and_undefined_behaviour_sanitizers(
    prepared: Path, tmp_path: Path
) -> None:
    run([str(build(prepared, "sanitized", "gcc", "-O1", "-g", *SANITIZERS))], prepared, tmp_path, "--quick")


def test_the_c_tests_pass_under_valgrind(prepared: Path, plain_program: Path, tmp_path: Path) -> None:
    valgrind = [require("valgrind"), "--quiet", "--error-exitcode=9", "--leak-check=full"]
    run([*valgrind, str(plain_program)], prepared, tmp_path, "--quick")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_compiles_for_windows(source: Path, tmp_path: Path) -> None:
    compiler = require("x86_64-w64-mingw32-gcc")
    compile_c([compiler, *STRICT, "-O2", "-Wno-unused-parameter", "-c", str(source), "-o", str(tmp_path / "object.o")])
