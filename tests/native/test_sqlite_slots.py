"""native/sqlite_api.h says by hand what SQLite's headers say: every number and type in it is compared with them."""

from __future__ import annotations

import re

import pytest

from tests.native.toolchain import NATIVE, STRICT, compile_c, refusal, require, require_sqlite_headers

HEADER = (NATIVE / "sqlite_api.h").read_text(encoding="utf-8")
STRUCTURES = ("sqlite3_file", "sqlite3_io_methods", "sqlite3_vfs")
OWN = "own_"  # what the structures of the header are called while SQLite's own are included too


def slots(header: str) -> list[tuple[str, int, str, str]]:
    """Each function of the header: its name without `sqlite3_`, slot, result and parameters."""
    on_one_line = re.sub(r" +\\\n *", " ", header)
    found = re.findall(r"^#define sqlite3_(\w+) SLOT\((\d+), ([^,]+), (.+)\)$", on_one_line, re.MULTILINE)
    return [(name, int(number), result, parameters) for name, number, result, parameters in found]


def constants(header: str) -> list[str]:
    return [name for name in re.findall(r"^#define (SQLITE_\w+) ", header, re.MULTILINE) if name != "SQLITE_STATIC"]


def fields(header: str, structure: str) -> list[str]:
    body = header[header.index(f"struct {structure} {{") :]
    body = body[: body.index("\n}")]
    found = re.findall(r"^ {2}\w[^\n]*?(?:\(\*(\w+)\)\(|(\w+);$)", body, re.MULTILINE)
    return [function or plain for function, plain in found]


def comparison(header: str) -> str:
    """A C file that compiles if the header agrees with SQLite's."""
    lines = ["#include <stddef.h>"]
    lines += [f"#define {name} {OWN}{name}" for name in (*STRUCTURES, "sqlite3_api")]
    lines.append(header)
    lines += [f"enum {{ {OWN}{name} = {name} }};" for name in constants(header)]
    lines += [f"#undef {name}" for name in (*STRUCTURES, "sqlite3_api")]
    lines += [f"#undef {name}" for name in re.findall(r"^#define (\w+)", header, re.MULTILINE)]
    lines.append("#include <sqlite3ext.h>")
    for name, number, result, parameters in slots(header):
        lines.append(
            f"_Static_assert(offsetof(sqlite3_api_routines, {name}) == {number} * sizeof(void (*)(void)), "
            f'"slot of {name}");'
        )
        lines.append(
            f"_Static_assert(__builtin_types_compatible_p(__typeof__(((sqlite3_api_routines *)0)->{name}), "
            f'{result} (*)({parameters})), "type of {name}");'
        )
    lines += [f'_Static_assert({OWN}{name} == {name}, "value of {name}");' for name in constants(header)]
    for structure in STRUCTURES:
        lines.append(f'_Static_assert(sizeof({OWN}{structure}) == sizeof({structure}), "size of {structure}");')
        for field in fields(header, structure):
            lines.append(
                f"_Static_assert(offsetof({OWN}{structure}, {field}) == offsetof({structure}, {field}), "
                f'"place of {structure}.{field}");'
            )
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    require_sqlite_headers()
    return [require("gcc"), *STRICT, "-fsyntax-only", "-x", "c", "-"]


def test_the_header_is_read_completely() -> None:
    assert len(slots(HEADER)) == HEADER.count("SLOT(") - 1 > 20
    assert len(constants(HEADER)) == HEADER.count("#define SQLITE_") - 1 > 10
    assert fields(HEADER, "sqlite3_file") == ["pMethods"]
    assert len(fields(HEADER, "sqlite3_io_methods")) == 19
    assert len(fields(HEADER, "sqlite3_vfs")) == 22


def test_every_slot_structure_and_constant_agrees_with_sqlite(compiler: list[str]) -> None:
    compile_c(compiler, comparison(HEADER))


@pytest.mark.parametrize(
    ("wrong", "instead_of", "complaint"),
    [
        ("sqlite3_step SLOT(95,", "sqlite3_step SLOT(94,", "slot of step"),
        ("sqlite3_mutex_leave SLOT(132,", "sqlite3_mutex_leave SLOT(133,", "slot of mutex_leave"),
        ("SLOT(5, int, sqlite3_stmt *, int, int)", "SLOT(5, int, sqlite3_stmt *, int, sqlite3_int64)", "bind_int64"),
        ("SQLITE_SHM_EXCLUSIVE 4", "SQLITE_SHM_EXCLUSIVE 8", "value of SQLITE_SHM_EXCLUSIVE"),
        ("  int mxPathname;\n  int szOsFile;\n", "  int szOsFile;\n  int mxPathname;\n", "place of sqlite3_vfs"),
        ("  /* version 3 */\n  int (*xMore)(void);\n  int (*xFetch)", "  /* version 3 */\n  int (*xFetch)", "xFetch"),
    ],
)
def test_a_wrong_line_is_caught(compiler: list[str], wrong: str, instead_of: str, complaint: str) -> None:
    assert HEADER.count(instead_of) == 1
    assert complaint in refusal(compiler, comparison(HEADER.replace(instead_of, wrong)))
