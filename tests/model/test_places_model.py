"""Handing tasks to those who sleep, in every order of its steps: no task goes to the wrong worker or is taken away from
the right one, and none is forgotten. And the explorer that says so notices when a rule is broken."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model.group_explorer import Report
from tests.model.places_explorer import PlacesExplorer
from tests.model.places_model import PLACE_STATE_BITS, Flaw, Keeper, Maker, Process, Setting, State, Worker

NATIVE = Path(__file__).resolve().parents[2] / "native"

# The first worker sleeps, the first maker claims for it and is about to lay its task down, or has and says so ...
SLEEPS = ((0, "places_sleep: platform_wait"),)
LAYS_DOWN = (*SLEEPS, (2, "places_lay_down: store64"))
CHANGES_HANDS = (*LAYS_DOWN, (0, ": end"), (1, "places_sleep: platform_wait"))
SERVED = (*SLEEPS, (2, "places_end_service: platform_unlock"))
# ... and one who keeps house is about to give it back.
GIVES_BACK = (*SERVED, (4, "take_back: swap64"))

SETTINGS: dict[str, Setting] = {
    "anybody is killed": Setting((1,), (1,), crashes=2, commit_failures=1),
    "the next worker wants another type": Setting((1, 2), (1,), crashes=1),
    "two tasks for one": Setting((1,), (1, 1), time_outs=False),
    "who serves is stopped, and the place changes hands": Setting((1, 1), (1, 1), prefix=CHANGES_HANDS, stops=False),
    "who gives back is stopped, and the place changes hands": Setting(
        (1, 1), (1, 1), prefix=GIVES_BACK, time_outs=False
    ),
    "nothing but wake-ups": Setting((1,), (1,), time_outs=False, leaves=False, stops=False),
}

# In which setting each flaw shows.
FLAWS: dict[Flaw, Setting] = {
    Flaw.NO_NUMBER_IN_STATE: SETTINGS["who gives back is stopped, and the place changes hands"],
    Flaw.ARM_WHATEVER_THE_STATE: Setting((1,), (1,)),
    Flaw.NO_CHECK: SETTINGS["who serves is stopped, and the place changes hands"],
    Flaw.LAY_DOWN_AFTER_COMMIT: SETTINGS["anybody is killed"],
    Flaw.RESCUE_OF_THE_LIVING: SETTINGS["two tasks for one"],
    Flaw.READ_ORPHAN_AFTER_SWAP: SETTINGS["two tasks for one"],
    Flaw.BURY_THE_SERVED: SETTINGS["anybody is killed"],
    Flaw.LEAVE_WHAT_IS_SERVED: SETTINGS["anybody is killed"],
    Flaw.NO_GIVING_BACK: SETTINGS["anybody is killed"],
    Flaw.NO_CALL_AFTER_FAILURE: replace(SETTINGS["nothing but wake-ups"], commit_failures=1),
    Flaw.CALL_ONCE: SETTINGS["nothing but wake-ups"],
}


def explored(setting: Setting) -> Report:
    report = PlacesExplorer(setting).explore()
    print(f"{report.states:,} states, {report.transitions:,} transitions")
    return report


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_the_order_no_task_is_lost(name: str) -> None:
    report = explored(SETTINGS[name])
    assert report.flaw is None, report


@pytest.mark.parametrize("flaw", Flaw)
def test_a_broken_rule_is_noticed(flaw: Flaw) -> None:
    report = explored(replace(FLAWS[flaw], flaws=frozenset({flaw})))
    assert report.flaw is not None
    assert report.trace


# -- the model is of this C


def source(name: str) -> str:
    return (NATIVE / name).read_text(encoding="utf-8")


def test_the_states_are_those_of_the_header() -> None:
    found = re.search(r"typedef enum \{([^}]*)\} place_state;", source("places.h"))
    assert found is not None
    assert [name.strip() for name in found[1].split(",")] == [state.name for state in State]
    assert f"PLACE_STATE_BITS = {PLACE_STATE_BITS} " in source("places.h")


def test_the_moves_of_a_place_are_those_that_the_header_lists() -> None:
    """But for those by which another thread ends a sleep, and one looks in the stead of the stopped."""
    listed = {
        (State[f"PLACE_{start}"], State[f"PLACE_{end}"])
        for start, end in re.findall(r"^ \*   (\w+) -> (\w+) ", source("places.h"), re.MULTILINE)
        if start != "each"
    }
    moves = explored(SETTINGS["anybody is killed"]).moves
    left = {(State(start), State(end)) for start, end in moves if end != State.PLACE_FREE}
    elsewhere = {(start, State.PLACE_AWAKE) for start in (State.PLACE_WAITING, State.PLACE_ASLEEP, State.PLACE_CALLED)}
    assert left == listed - elsewhere


@pytest.mark.parametrize("kind", [Process, Worker, Maker, Keeper])
def test_functions_are_named_as_in_c(kind: type[Process]) -> None:
    """But for the few that stand for a part of one."""
    own = {"main", "has", "variables", "at", "leave", "bury"}
    functions = {name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert {name for name in functions - own if not re.search(rf"\b{name}\(", source("places.c"))} == set()
