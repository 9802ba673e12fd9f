"""Group commit while processes are killed or stopped at each of its failpoints, and worse: done once, and never twice.

`kills/` is a C program: eight processes work on one queue, journal in shared memory what they asked for and what they
were answered, and are killed at the failpoints of native/group.c and anywhere. Afterwards journal and database must
agree.

PRISMQ_KILLS says how often at each failpoint; a long run, with how long the others waited for those who died:

    PRISMQ_KILLS=200 python -m pytest -n0 -s tests/native/test_kills_at_failpoints.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prismq import QueueDatabase, lottery, sql
from tests.native.toolchain import HERE, NATIVE, STRICT, compile_c, require, require_sqlite_headers, statement_names

KILLS = int(os.environ.get("PRISMQ_KILLS", "8"))
LONGEST_WAIT_MS = 100
"""Of 99 in 100 calls that were under way when somebody died."""

SOURCES = sorted(NATIVE.glob("*.c"))
PROGRAM = [*sorted((HERE / "kills").glob("*.c")), HERE / "faulty_vfs.c", HERE / "failing_allocator.c"]
SANITIZERS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
# The trials let allocations fail, by both ways that the module has to memory.
ALLOCATION = ("-Dmalloc=failing_malloc", "-Dcalloc=failing_calloc", "-Drealloc=failing_realloc")
ONE_MAPPING = ("-Dplatform_map=shared_platform_map", "-Dplatform_unmap=shared_platform_unmap")
# SQLite is not instrumented: what it does can't be judged, and its locks would order nearly all that the module does.
UNSEEN = "called_from_lib:libsqlite3\n"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes that were forked"),
    pytest.mark.timeout(120 + 30 * KILLS),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the program needs of the Python side: the statements, and an empty queue."""
    require_sqlite_headers()
    folder = tmp_path_factory.mktemp("kills")
    texts = ",\n".join(json.dumps(getattr(sql, name)) for name in statement_names())
    (folder / "statements.h").write_text(f"static const char *const statements[] = {{\n{texts}}};\n", encoding="utf-8")
    with QueueDatabase(folder / "empty.db") as database:
        database.initialize_schema()
        lottery.open_lottery(database)
    return folder


@pytest.fixture(scope="module")
def plain_program(prepared: Path) -> Path:
    return build(prepared, "plain", "-O2")


@pytest.fixture(scope="module")
def sanitized_program(prepared: Path) -> Path:
    return build(prepared, "sanitized", *SANITIZERS)


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder in memory, if there is such a thing: it is processes that are slow to wake here, not a disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="prismq-kills-", dir=place) as name:
        yield Path(name)


def build(folder: Path, name: str, *options: str, one_mapping: bool = False) -> Path:
    """The program with the module in it, whose failpoints are there."""
    common = [require("gcc"), *STRICT, "-g", *options, "-DPRISMQ_FAILPOINTS", "-Wno-unused-parameter", f"-I{NATIVE}"]
    objects = []
    for source in SOURCES:
        objects.append(str(folder / f"{name}-{source.stem}.o"))
        renamed = ONE_MAPPING if one_mapping and not source.stem.startswith("platform_") else ()
        compile_c([*common, *ALLOCATION, *renamed, "-c", str(source), "-o", objects[-1]])
    of_tests = [f"-I{folder}", f"-I{HERE}", *map(str, PROGRAM)]
    compile_c([*common, *of_tests, *objects, "-lsqlite3", "-lpthread", "-o", str(folder / name)])
    return folder / name


def run(
    program: list[str], folder: Path, work: Path, trial: str, times: int, *options: str, **environment: str
) -> None:
    command = [*program, str(folder / "empty.db"), "--trial", trial, "--times", str(max(times, 1)), *options]
    done = subprocess.run(
        command, cwd=work, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    print(f"\n{trial}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("verified\n")


def test_processes_killed_at_each_failpoint_lose_nothing_and_hold_nobody_up(
    prepared: Path, plain_program: Path, work: Path
) -> None:
    run([str(plain_program)], prepared, work, "kill", KILLS, "--limit-ms", str(LONGEST_WAIT_MS))


def test_who_was_stopped_at_a_failpoint_changes_nothing_of_what_others_did_meanwhile(
    prepared: Path, plain_program: Path, work: Path
) -> None:
    run([str(plain_program)], prepared, work, "stop", KILLS // 8)


@pytest.mark.parametrize("trial", ["delete", "wipe", "zero", "scribble"])
def test_the_sidecar_may_vanish_or_lose_its_content_at_any_moment(
    trial: str, prepared: Path, plain_program: Path, work: Path
) -> None:
    """Whoever scribbles over it may make up requests: then it is enough that nobody crashes or hangs."""
    run([str(plain_program)], prepared, work, trial, 10 * KILLS)


@pytest.mark.parametrize("trial", ["disk", "memory"])
def test_an_accident_of_one_who_does_others_operations_undoes_them_and_is_reported_to_all(
    trial: str, prepared: Path, plain_program: Path, work: Path
) -> None:
    run([str(plain_program)], prepared, work, trial, 10 * KILLS)


@pytest.mark.parametrize("trial", ["kill", "wipe", "scribble", "disk", "memory"])
def test_the_same_under_the_address_leak_and_undefined_behaviour_sanitizers(
    trial: str, prepared: Path, sanitized_program: Path, work: Path
) -> None:
    times = KILLS // 4 if trial == "kill" else 5 * KILLS
    run([str(sanitized_program)], prepared, work, trial, times, UBSAN_OPTIONS="print_stacktrace=1")


def test_threads_race_for_nothing(prepared: Path, work: Path) -> None:
    program = build(prepared, "threads", "-O1", "-fsanitize=thread", one_mapping=True)
    suppressions = prepared / "suppressions"
    suppressions.write_text(UNSEEN, encoding="utf-8")
    options = f"suppressions={suppressions} report_mutex_bugs=0 history_size=4"
    run([*unrandomised(), str(program)], prepared, work, "threads", 3 * KILLS, TSAN_OPTIONS=options)


def unrandomised() -> list[str]:
    """ThreadSanitizer does not start where addresses are more random than its version expects."""
    setarch = [shutil.which("setarch") or "", "-R"]
    works = setarch[0] and subprocess.run([*setarch, "true"], capture_output=True, check=False).returncode == 0
    return setarch if works else []
