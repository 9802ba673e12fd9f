"""Costs are counted, so they come out the same each time."""

import json
import os
import shutil
from pathlib import Path

import pytest

from bench.command import main
from bench.compiler import COMPILERS
from bench.costs import Subject, subjects
from bench.variants import VARIANTS
from bench.workload import Step

pytestmark = pytest.mark.timeout(180)


def test_subjects() -> None:
    ours = Subject("prismq (auto)", "auto")
    assert subjects("auto", variants=False, only=()) == [ours]
    assert len(subjects("auto", variants=True, only=())) == 1 + len(VARIANTS)
    assert [subject.variant for subject in subjects("auto", False, ["phase"])] == [None, "phase"]
    with pytest.raises(KeyError):
        subjects("auto", False, ["no such design"])


def test_steps_read_back() -> None:
    assert Step.parse(str(Step("claim", 7))) == Step("claim", 7)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler")
def test_pages_are_repeatable_and_more_indexes_cost_more(tmp_path: Path) -> None:
    results = []
    for number in range(2):
        file = tmp_path / f"{number}.json"
        designs = ["same row, one index", "original, five indexes"]
        assert main(["costs", "--operations", "40", "--no-instructions", "--json", str(file), "--only", *designs]) == 0
        results.append(json.loads(file.read_text(encoding="utf-8"))["costs"])
    assert results[0] == results[1]
    ours, one_index, five_indexes = (cost["wal_pages"] for cost in results[0])
    for operation in ("enqueue", "claim", "complete"):
        assert ours[operation] >= 1
        assert one_index[operation] < five_indexes[operation]


@pytest.mark.skipif("PRISMQ_COUNT_INSTRUCTIONS" not in os.environ, reason="a minute; set PRISMQ_COUNT_INSTRUCTIONS")
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_instructions_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    assert main(["costs", "--operations", "20", "--json", str(file), "--path", str(tmp_path)]) == 0
    (ours,) = json.loads(file.read_text(encoding="utf-8"))["costs"]
    assert all(instructions > 1000 for instructions in ours["instructions"].values())
