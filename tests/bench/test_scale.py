"""More and more processes, three ways of waiting."""

import json
from pathlib import Path

from test_harness import bench

from bench.group import SIDES


def test_every_side_at_every_number_of_processes(tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    sizes = ("--processes", 1, 2, "--rounds", 1, "--seconds", 0.3, "--durability", "normal")
    done = bench("scale", *sizes, "--json", file, "--path", tmp_path)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [file]
    assert (done.returncode == 0) == result["passed"] == all(verdict["passed"] for verdict in result["verdicts"])
    assert [contest["processes"] for contest in result["contests"]] == [1, 2]
    for contest in result["contests"]:
        assert list(contest["figures"]) == list(SIDES)
        assert contest["astray"] == 0
        assert all(figures["enqueued"] > 0 for figures in contest["figures"].values())
    assert "most : least" in done.stdout
