"""Every table of numbers in the README is what the committed results say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from interrupts import ROOT

from bench.command import main
from bench.options import RESULTS
from bench.readme import BLOCK, BLOCKS, ReadmeError, renewed, stale

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_was_measured() -> None:
    assert stale(README, RESULTS) == [], "run: python -m bench readme"
    assert {found["name"] for found in BLOCK.finditer(README)} == set(BLOCKS)


def test_each_block_names_files_that_are_there() -> None:
    for found in BLOCK.finditer(README):
        files = re.findall(r"bench/results/[\w-]+\.json", found[0].splitlines()[0])
        assert files
        assert all((ROOT / name).is_file() for name in files)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_number_that_was_changed_by_hand_is_found(name: str) -> None:
    block = next(found[0] for found in BLOCK.finditer(README) if found["name"] == name)
    last = list(re.finditer(r"\d(?=[\d.,]* )", block))[-1]
    changed = block[: last.start()] + str((int(last[0]) + 1) % 10) + block[last.end() :]
    assert stale(README.replace(block, changed), RESULTS) == [name]
    assert renewed(README.replace(block, changed), RESULTS) == README


def test_new_results_make_it_stale(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    content = json.loads((results / "pairs.json").read_text(encoding="utf-8"))
    content["contests"][0]["figures"]["prismq"]["operations"] += 1000
    (results / "pairs.json").write_text(json.dumps(content), encoding="utf-8")
    assert stale(README, results) == ["pairs"]


def test_a_table_that_no_results_make_is_refused() -> None:
    with pytest.raises(ReadmeError, match="a table in '## Numbers' that no block of results makes"):
        renewed("# p\n\n## Numbers\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", RESULTS)
    with pytest.raises(ReadmeError, match="there is no block 'dreams'"):
        renewed("## Numbers\n\n<!-- numbers dreams -->\n| 1 |\n<!-- end of numbers -->\n", RESULTS)
    elsewhere = "## Numbers\n\n## Limits\n\n| a | b |\n"
    assert renewed(elsewhere, RESULTS) == elsewhere


def test_the_command_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "README.md"
    mine.write_text(README.replace("| calls/s | normal |", "| calls/s | faster |"), encoding="utf-8")
    assert main(["readme", "--check", "--readme", str(mine)]) == 1
    assert capsys.readouterr().out == "other than the results: together\n"
    assert main(["readme", "--readme", str(mine)]) == 0
    assert capsys.readouterr().out == "written anew: together\n"
    assert mine.read_text(encoding="utf-8") == README
    assert main(["readme", "--check", "--readme", str(mine)]) == 0
    assert main(["readme", "--readme", str(tmp_path / "none.md")]) == 1
    assert "none.md" in capsys.readouterr().err
