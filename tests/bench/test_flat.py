"""Operations are held against themselves at another depth, on queues that stay as deep as they were filled."""

import json
from pathlib import Path

import pytest

from bench import flat, flat_operations
from bench.command import main
from bench.flat import FlatReport, Row
from prismq import TaskQueue

DEPTHS = ["--depths", "200", "50"]


@pytest.fixture(autouse=True)
def few_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "DELAYED_TASKS", 30)


def test_a_row_is_judged_by_its_deepest_against_its_shallowest() -> None:
    assert Row("claim", [10.0, 90.0, 15.0]).ratio == 1.5
    assert Row("claim", [10.0, 90.0, 15.0]).passed
    assert not Row("claim", [10.0, 10.0, 15.1]).passed


@pytest.mark.parametrize("driver", ["auto", "python"])
def test_every_operation_at_every_depth(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flat, "LIMIT", 1e9)  # a few operations prove nothing
    file = tmp_path / "flat.json"
    arguments = ["flat", *DEPTHS, "--operations", "12", "--driver", driver]
    assert main([*arguments, "--json", str(file), "--path", str(tmp_path)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["depths"], result["finished"], result["delayed"]) == ([50, 200], 200, 30)
    measured = [row["operation"] for row in result["rows"]]
    assert len(measured) == len(set(measured)) == 28
    for strategy in ("priority", "fifo", "lifo", "weighted_random"):
        assert sum(f"claim {strategy}" in operation for operation in measured) == 5
    for row in result["rows"]:
        assert row["ratio"] == pytest.approx(row["p50"][1] / row["p50"][0])
        assert row["passed"]
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in printed if line.endswith("PASS")]
    assert [row.rsplit(maxsplit=4)[0] for row in rows] == measured
    assert list(tmp_path.iterdir()) == [file]


def test_an_operation_that_grows_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def growing(queue: TaskQueue, number: int) -> int:
        return int(queue.database.execute("SELECT count(*) FROM task_queue WHERE phase = 1").fetchone()[0])

    monkeypatch.setattr(flat, "LIMIT", 3.9)
    for operations in ("CHOOSY", "LOTTERY", "IDLE"):
        monkeypatch.setattr(flat, operations, {})
    monkeypatch.setattr(flat, "PLAIN", {"flat": lambda queue, number: 5, "growing": growing})
    assert main(["flat", *DEPTHS, "--operations", "3", "--path", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed[-2:]] == [
        ["flat", "0.0", "0.0", "1.00", "PASS"],
        ["growing", "0.1", "0.2", "4.00", "FAIL"],
    ]


def test_depths_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    queues = {depth: depth for depth in (1, 2, 3)}
    rows = flat._run("x", queues, {"look": lambda queue, number: seen.append(queue) or 1000}, 25)
    assert seen == [1] * 10 + [2] * 10 + [3] * 10 + [3] * 10 + [2] * 10 + [1] * 10 + [1] * 5 + [2] * 5 + [3] * 5
    assert rows == [Row("look", [1.0, 1.0, 1.0])]


def test_what_an_operation_takes_it_puts_back(tmp_path: Path) -> None:
    ready = "SELECT type, needs, priority, count(*) FROM task_queue WHERE phase = 1 GROUP BY 1, 2, 3"
    with TaskQueue(tmp_path / "queue.db") as queue:
        flat._fill([(queue, flat.READY_ROW, 300), (queue, flat.CHOOSY_ROW, 100), (queue, flat.DELAYED_ROW, 7)])
        before = queue.database.execute(ready).fetchall()
        assert sum(row[3] for row in before) == 400
        assert {row[0] for row in before} == set(flat_operations.TYPES)
        assert {row[2] for row in before} == set(flat_operations.PRIORITIES)
        for operations in (flat_operations.PLAIN, flat_operations.CHOOSY, flat_operations.LOTTERY):
            for name, operation in operations.items():
                assert operation(queue, 3) > 0
                assert queue.database.execute(ready).fetchall() == before, name


def test_every_operation_must_pass() -> None:
    good, bad = Row("a", [1.0, 1.0]), Row("b", [1.0, 2.0])
    assert FlatReport({}, [1, 2], 2, 2, 1, [good]).passed
    assert not FlatReport({}, [1, 2], 2, 2, 1, [good, bad]).passed
