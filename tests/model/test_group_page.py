"""docs/group-commit.md says what the sources and the model do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.model.group_explorer import Explorer
from tests.model.group_model import Flaw, Setting
from tests.native.toolchain import compile_c, require

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
PAGE = (ROOT / "docs" / "group-commit.md").read_text(encoding="utf-8")


def test_the_diagram_has_the_moves_of_the_model() -> None:
    diagram = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    assert diagram is not None
    drawn = re.findall(r"^ *(\w+) --> (\w+): ", diagram[1], re.MULTILINE)
    moves = Explorer(Setting((1, 1), crashes=1)).explore().moves
    assert sorted(drawn) == sorted((start.name[5:], end.name[5:]) for start, end in moves)


def test_the_bounds_are_those_of_the_sources(tmp_path: Path) -> None:
    bounds = {name: int(value) for name, value in re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    assert len(bounds) == 9
    of_headers = [name for name in bounds if not name.endswith("_US")]
    printed = numbers_of(tmp_path, [*of_headers, "sizeof(sidecar_words)", "sizeof(group_words)", "sizeof(slot_words)"])
    *values, whole, states, slot = printed
    assert dict(zip(of_headers, values, strict=True)) == {name: bounds[name] for name in of_headers}
    for name in set(bounds) - set(of_headers):
        found = re.findall(rf"\b{name} = (\d+)", source("group.c") + source("slots.c"))
        assert [int(value) for value in found] == [bounds[name]]
    rest = whole - states - bounds["GROUP_SLOTS"] * slot
    text = " ".join(PAGE.split())
    assert f"{whole:,} bytes in all" in text
    assert f"{states:,} bytes with a bit" in text
    assert f"{bounds['GROUP_SLOTS']} slots of {slot:,} bytes" in text
    assert f"The other {rest:,} bytes" in text


def test_the_page_counts_the_flaws() -> None:
    assert len(Flaw) == 16
    assert "Broken in any of sixteen ways, the model fails." in " ".join(PAGE.split())


def source(name: str) -> str:
    return (NATIVE / name).read_text(encoding="utf-8")


def numbers_of(folder: Path, expressions: list[str]) -> list[int]:
    """What the headers make of these."""
    program = folder / "numbers.exe"
    lines = "".join(f'printf("%ld\\n", (long)({one}));' for one in expressions)
    written = f'#include <stdio.h>\n#include "group.h"\nint main(void) {{{lines} return 0; }}\n'
    compile_c([require("gcc"), "-std=c11", f"-I{NATIVE}", "-x", "c", "-", "-o", str(program)], written)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]
