"""The search for the highest rate that keeps the targets."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bench import capacity
from bench.accounting import Account
from bench.capacity import CLOSE, CONFIRMATIONS, MOST_PROBES, CapacityReport, Probe, search
from bench.command import main
from bench.latency import Latency
from bench.phase import Phase
from bench.scenario import Scenario


def machine(limit: float, hiccups: int = 0) -> Callable[[float], Probe]:
    """Keeps every rate up to the limit, but for so many probes at first."""
    left = [hiccups]

    def probe(rate: float) -> Probe:
        left[0] -= 1
        return Probe(rate, 1.0, 1.0, 0.0, 0, 0, rate <= limit and left[0] < 0)

    return probe


@pytest.mark.parametrize("first", [100.0, 900.0, 1_000.0, 5_000.0])
@pytest.mark.parametrize("hiccups", [0, 1])
def test_the_answer_is_close_to_the_limit(first: float, hiccups: int) -> None:
    probes = search(machine(1_000.0, hiccups), first)
    found = answer(probes)
    assert 1_000 / CLOSE <= found <= 1_000
    assert len(probes) <= MOST_PROBES + 1 + CONFIRMATIONS


def answer(probes: list[Probe]) -> float:
    return CapacityReport({}, Scenario(), 1_000.0, probes).rate


def test_a_rate_that_is_kept_by_luck_is_not_the_answer() -> None:
    """Up to 1,000 each probe keeps the targets, above that every second one."""
    turns = iter(range(10**6))

    def probe(rate: float) -> Probe:
        return Probe(rate, 1.0, 1.0, 0.0, 0, 0, rate <= 1_000 or (rate < 1_400 and next(turns) % 2 == 1))

    probes = search(probe, 900.0)
    assert max(one.rate for one in probes if one.passed) > 1_000 * CLOSE
    assert 1_000 / CLOSE <= answer(probes) <= 1_000
    assert [one.confirms for one in probes[-CONFIRMATIONS:]] == [True] * CONFIRMATIONS


def test_what_never_holds_twice_is_no_answer() -> None:
    turns = iter(range(10**6))
    probes = search(lambda rate: Probe(rate, 1.0, 1.0, 0.0, 0, 0, next(turns) % 2 == 1), 1_000.0)
    assert answer(probes) == 0.0


def counted(rate: float, enqueued: int, completed: int) -> Phase:
    """A window of 5 s that kept all the targets."""
    nothing = Latency(0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    latency = {"enqueue": replace(nothing, count=enqueued), "complete": replace(nothing, count=completed)}
    account = Account(**{field.name: [] if "list" in str(field.type) else 0 for field in fields(Account)})
    figures = dict.fromkeys((field.name for field in fields(Phase)), 0)
    given = {"name": "paced", "rate": rate, "seconds": 5.0, "account": account, "has_order": True}
    return Phase(**figures | given | {"latency": latency | {"claim": nothing}})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waiting", "completed", "left", "passed"),
    [
        (0, 4_800, 200, True),
        (0, 4_700, 300, False),
        (20_000, 9_000, 16_000, True),
        (20_000, 5_000, 20_000, False),  # no more than came in: the backlog would be there for ever
        (20_000, 4_000, 21_000, False),
        (20_000, 24_900, 100, True),
    ],
)
def test_a_backlog_is_counted_and_has_to_fall(waiting: int, completed: int, left: int, passed: bool) -> None:
    probe = Probe.of(counted(1_000.0, 5_000, completed), waiting, 0.25)
    assert (probe.backlog, probe.passed) == (left, passed)


def test_nothing_is_kept() -> None:
    probes = search(machine(0.0), 1_000.0)
    assert not any(probe.passed for probe in probes)
    assert len(probes) <= MOST_PROBES + 1
    assert min(probe.rate for probe in probes) >= 1.0


def test_everything_is_kept() -> None:
    assert len(search(machine(float("inf")), 1_000.0)) == MOST_PROBES + CONFIRMATIONS


def test_a_real_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(capacity, "MOST_PROBES", 2)
    file = tmp_path / "capacity.json"
    status = main(["capacity", "--seconds", "0.4", "--json", str(file), "--path", str(tmp_path)])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert status == (not found["passed"])
    assert found["closed"] > 0
    assert 2 <= len([probe for probe in found["probes"] if not probe["confirms"]]) <= 3
    assert "a rate that keeps the targets" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["capacity.json"]
