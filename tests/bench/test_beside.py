"""The benchmarks of backups and pruning, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.beside import Turn, by_turn, ratio
from bench.command import main


def test_calls_count_in_the_turn_in_which_they_began() -> None:
    calls = np.array([(0, 1.0, 1.001), (0, 2.0, 2.004), (0, 2.9, 3.1), (0, 9.0, 9.1), (1, 1.5, 1.6)])
    found = by_turn(calls, [Turn(False, 0.5, 1.9), Turn(True, 1.9, 3.0)])
    assert (found["enqueue"]["alone"].count, found["enqueue"]["beside"].count) == (1, 2)
    assert found["enqueue"]["beside"].max == pytest.approx(200)
    assert found["claim"]["alone"].count == 1
    assert found["complete"]["beside"].count == 0
    assert ratio(found["enqueue"]) > 100
    assert ratio(found["complete"]) == 0


def test_backups_beside_callers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "backup.json"
    main(["backup", "--tasks", "5000", "--processes", "2", "--rounds", "1", "--seconds", "1", "--json", str(result)])
    told = json.loads(result.read_text())
    assert told["backups"] >= 1
    assert (told["unsound"], told["with_gaps"], told["not_restored"]) == (0, 0, 0)
    assert told["latency"]["enqueue"]["beside"]["count"] > 0
    assert "backups of" in capsys.readouterr().out


def test_pruning_beside_callers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "prune.json"
    main(["prune", "--finished", "2000", "--processes", "1", "--seconds", "0.5", "--json", str(result)])
    told = json.loads(result.read_text())
    assert (told["removed"], told["left"]) == (2000, 0)
    assert told["transactions"]["count"] > 1
    assert "tasks removed" in capsys.readouterr().out
