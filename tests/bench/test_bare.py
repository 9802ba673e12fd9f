"""The bare side measures what it says it measures."""

import json
import re
import shutil
from pathlib import Path

import pytest

from bench.bare_sqlite import HERE, BareError, BareSQLite, build
from bench.command import main
from bench.compiler import COMPILERS, CompilerError, compile_library
from bench.variants import VARIANTS, Variant

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler")
PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@needs_compiler
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_takes_tasks_through_their_life(library: Path, variant: Variant, tmp_path: Path) -> None:
    database = BareSQLite(library, tmp_path / "bare.db", PRAGMAS, variant.ddl)
    for statements in (variant.enqueue, variant.claim, variant.complete):
        timings = database.run(statements, 50)
        assert all(microseconds > 0 for microseconds in timings)
    rows = database.connection.execute("SELECT status, count(*) FROM task GROUP BY status").fetchall()
    database.close()
    assert rows == [("completed", 50)]


@needs_compiler
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_no_variant_scans_or_sorts(library: Path, variant: Variant, tmp_path: Path) -> None:
    database = BareSQLite(library, tmp_path / "bare.db", PRAGMAS, variant.ddl)
    bindings = {"now": "", "lease": "", "worker": ""}
    bindings["id"] = ""
    plan = " ".join(
        row[3]
        for statement in variant.claim
        if statement not in ("BEGIN IMMEDIATE", "COMMIT")
        for row in database.connection.execute("EXPLAIN QUERY PLAN " + statement, bindings)
    )
    database.close()
    assert "B-TREE" not in plan
    assert not re.search(r"SCAN task(?! USING (COVERING )?INDEX)", plan)


@needs_compiler
def test_a_claim_that_finds_nothing_is_an_error(library: Path, tmp_path: Path) -> None:
    database = BareSQLite(library, tmp_path / "bare.db", PRAGMAS, VARIANTS[0].ddl)
    with pytest.raises(BareError, match="0 rows"):
        database.run(VARIANTS[0].claim, 1)
    with pytest.raises(BareError, match="no such table: nowhere"):
        database.run(["DELETE FROM nowhere"], 1)
    database.close()


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompilerError, match="no C compiler"):
        compile_library(tmp_path / "x.c", tmp_path, tmp_path)


@needs_compiler
def test_the_comparison_from_its_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bare.json"
    arguments = ["bare", "--rounds", "2", "--operations", "50", "--batch", "100"]
    assert main([*arguments, "--json", str(file), "--path", str(tmp_path)]) == 0
    figures = json.loads(file.read_text(encoding="utf-8"))["microseconds"]
    measured = {figure["operation"] for figure in figures}
    assert {"enqueue", "claim", "complete", "enqueue, C hot path", "claim, C hot path"} < measured
    for figure in figures:
        assert len(figure["ours"]) == len(figure["theirs"]) == 2
        assert figure["ratio"] == pytest.approx(figure["ours_p50"] / figure["theirs_p50"])
    assert "executemany" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


@needs_compiler
def test_slots_of_its_own_are_those_of_the_real_header(tmp_path: Path) -> None:
    slots = re.findall(r"#define sqlite3_(\w+) SLOT\((\d+)", (HERE / "bare.c").read_text(encoding="utf-8"))
    assert slots
    source = tmp_path / "slots.c"
    checks = (
        f'_Static_assert(offsetof(struct sqlite3_api_routines, {name}) == {number} * sizeof(void *), "{name}");'
        for name, number in slots
    )
    headers = ("#include <stddef.h>", "#if __has_include(<sqlite3ext.h>)", "#include <sqlite3ext.h>")
    source.write_text("\n".join([*headers, *checks, "#endif", "int slots_checked;"]) + "\n", encoding="utf-8")
    compile_library(source, tmp_path, tmp_path)
