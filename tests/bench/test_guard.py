"""The guard lets costs vary within the tolerance, not beyond, and says what it did not compare."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.callgrind import Instructions, read_part
from bench.command import main
from bench.guard import Count, compare, render, spreads, worst
from bench.toolchain import toolchain

BASELINE = Count(
    {"C compiler": "gcc 12", "SQLite": "3.60.0", "Python": "3.11.7"},
    500,
    {
        "claim": {"pages": 4.0, "C instructions": 80_000, "Python instructions": 50_000},
        "empty poll": {"pages": 0.0, "C instructions": 20_000, "Python instructions": 10_000},
    },
)
KINDS = tuple(BASELINE.costs["claim"])


def times(kind: str, factor: float, operation: str = "claim") -> Count:
    """The baseline, but for one figure."""
    figures = BASELINE.costs[operation]
    return replace(BASELINE, costs=BASELINE.costs | {operation: figures | {kind: figures[kind] * factor}})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.04, True), (1.06, False), (0.5, True)])
def test_growth_beyond_the_tolerance_fails(kind: str, factor: float, passed: bool) -> None:
    report = compare(BASELINE, times(kind, factor), 5)
    assert report.passed is passed
    assert [row.passed for row in report.rows] == [passed, True]
    assert render(report).count("FAIL") == (not passed)
    assert f"{factor * 100 - 100:+.1f} %" in render(report)


def test_the_tolerance_is_a_choice() -> None:
    assert compare(BASELINE, times("pages", 1.06), 10).passed
    assert not compare(BASELINE, times("pages", 1.04), 3).passed


def test_what_cost_nothing_may_cost_nothing() -> None:
    writes = replace(BASELINE, costs=BASELINE.costs | {"empty poll": BASELINE.costs["empty poll"] | {"pages": 0.002}})
    assert not compare(BASELINE, writes, 5).passed


@pytest.mark.parametrize("kind", KINDS)
def test_what_got_cheaper_is_noted(kind: str) -> None:
    assert "cheaper" not in render(compare(BASELINE, times(kind, 0.96), 5))
    assert "cheaper than the baseline, so write it anew (--update): claim" in render(
        compare(BASELINE, times(kind, 0.94), 5)
    )


def test_with_another_compiler_pages_alone_are_compared() -> None:
    elsewhere = BASELINE.toolchain | {"C compiler": "clang 15"}
    slower = replace(times("C instructions", 3), toolchain=elsewhere)
    report = compare(BASELINE, slower, 5)
    assert report.passed
    assert report.differences == ["C compiler 'gcc 12' there, 'clang 15' here"]
    assert render(report).splitlines()[-1].startswith("C instructions and Python instructions not compared")
    assert not compare(BASELINE, replace(times("pages", 1.06), toolchain=elsewhere), 5).passed


def test_with_another_python_instructions_in_c_are_compared_all_the_same() -> None:
    elsewhere = BASELINE.toolchain | {"Python": "3.13.0"}
    assert compare(BASELINE, replace(times("Python instructions", 3), toolchain=elsewhere), 5).passed
    report = compare(BASELINE, replace(times("C instructions", 1.06), toolchain=elsewhere), 5)
    assert not report.passed
    assert render(report).splitlines()[-1].startswith("Python instructions not compared")


@pytest.mark.parametrize(("fact", "passed"), [("C compiler", False), ("SQLite", False), ("Python", True)])
def test_where_it_would_see_nothing_the_guard_fails_if_it_is_required_to_see(fact: str, passed: bool) -> None:
    elsewhere = replace(BASELINE, toolchain=BASELINE.toolchain | {fact: "another"})
    report = compare(BASELINE, elsewhere, 5)
    assert report.passed
    required = replace(report, required=True)
    assert required.passed is passed
    assert ("FAIL" in render(required)) is not passed
    assert ("guard --update" in render(required)) is not passed
    assert replace(compare(BASELINE, BASELINE, 5), required=True).passed


def test_of_several_counts_the_worst_is_judged() -> None:
    counts = [BASELINE, times("C instructions", 1.06), times("pages", 1.02)]
    report = compare(BASELINE, worst(counts), 5)
    assert not report.passed
    assert worst(counts).costs["claim"]["pages"] == BASELINE.costs["claim"]["pages"] * 1.02
    assert compare(BASELINE, worst([BASELINE, BASELINE]), 5).passed
    assert spreads(counts) == pytest.approx({"pages": 2, "C instructions": 6, "Python instructions": 0})


def test_an_operation_that_is_not_guarded_fails() -> None:
    more = replace(BASELINE, costs=BASELINE.costs | {"cancel": {"pages": 1.0}})
    report = compare(BASELINE, more, 5)
    assert [row.passed for row in report.rows] == [True, True, False]
    assert render(report).endswith("not in the baseline, so write it anew (--update): cancel")


def test_an_operation_that_is_not_counted_any_more_fails() -> None:
    less = replace(BASELINE, costs={"claim": BASELINE.costs["claim"]})
    report = compare(BASELINE, less, 5)
    assert [(row.operation, row.passed) for row in report.rows] == [("claim", True), ("empty poll", False)]
    assert not report.passed
    assert render(report).endswith("in the baseline, but not counted any more: empty poll")


def test_a_profile_is_summed_from_outside_the_module() -> None:
    profile = """\
fn=_cffi_f_prismq_claim
0 7
cfn=prismq_claim
calls=2 0
0 1000

fn=prismq_claim
0 30
cfn=prismq_claim.part.0
calls=2 0
0 400
cfn=sqlite3_step
calls=4 0
0 500

totals: 5000
"""
    assert read_part(profile, "prismq_") == Instructions(total=5000, inside=1000)


def test_a_baseline_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    BASELINE.write(file)
    assert Count.read(file) == BASELINE


def test_a_baseline_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "baseline.json"
    for text in ("{", "[]", "{}"):
        file.write_text(text, encoding="utf-8")
        assert main(["guard", "--baseline", str(file)]) == 1
        assert "can't be read" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere compilers leave no name")
def test_the_toolchain_is_known() -> None:
    facts = toolchain()
    assert facts["C compiler"] != "none"
    assert "unknown" not in facts.values()


@pytest.mark.timeout(180)
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_what_is_counted_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline, result = tmp_path / "baseline.json", tmp_path / "result.json"
    baseline.write_text("broken", encoding="utf-8")
    places = ["--baseline", str(baseline), "--json", str(result), "--path", str(tmp_path)]
    assert main(["guard", "--update", "--tasks", "100", *places]) == 0
    assert main(["guard", "--tolerance", "1", *places]) == 0
    rows = json.loads(result.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 11
    for row in rows:
        assert all(abs(change) < 1 for change in row["changes"]), row
        pages, *instructions = row["now"]
        assert (pages == 0) == (row["operation"] == "empty poll")
        assert all(count > 1000 for count in instructions)

    content = json.loads(baseline.read_text(encoding="utf-8"))
    content["toolchain"]["SQLite"] = "another"
    content["costs"]["renew"]["pages"] /= 2
    baseline.write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert main(["guard", *places]) == 1
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.endswith("FAIL")] == ["renew"]
    assert "instructions not compared" in printed
    assert sorted(tmp_path.iterdir()) == [baseline, result]
