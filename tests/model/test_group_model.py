"""Committing together, in every order of its steps: nothing is done twice, nobody is told what is not so or waits for
ever. And the explorer that says so notices when a rule is broken."""

from __future__ import annotations

import inspect
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model.group_explorer import END, Explorer, Report
from tests.model.group_model import (
    CODE_SHIFT,
    SLOT_NUMBER_MASK,
    STATE_BITS,
    WAIT_WOKEN,
    Caller,
    Flaw,
    Process,
    Program,
    Setting,
    State,
    Step,
)

NATIVE = Path(__file__).resolve().parents[2] / "native"
LARGE = "PRISMQ_LARGE_MODEL"

A, B, C = 0, 1, 2
# A has the lock and takes B's operation along ...
TAKES = ((A, "lead: load64 submitted"), (B, "slots_sleep: platform_wait"), (A, "slots_take: load64 ticket"))
# ... and has committed, and is stopped before it says so.
COMMITTED = (*TAKES, (A, "slots_answer: swap64"))
# SQLite has rolled back by itself, so that A has lost the lock in the midst of its work, and B has settled.
UNDONE = (*TAKES, (A, "is_rolled_back: ROLLBACK"), (A, "give_write_lock_up: store64 holder"), (B, "main: tell"))

SETTINGS: dict[str, Setting] = {
    "nothing but wake-ups": Setting((2, 2), time_outs=False),
    "nothing but wake-ups, three callers": Setting((1, 1, 1), time_outs=False),
    "nothing but wake-ups, and a writer that serves nobody": Setting((1, 1), time_outs=False, strangers=1),
    "one is killed": Setting((2, 2), crashes=1),
    "both are killed": Setting((1, 2), crashes=2, commit_failures=1),
    "whatever else may go wrong": Setting(
        (1, 1),
        gives_up=True,
        must_rest=True,
        refuses=True,
        batch_ends=True,
        fails_alone=True,
        crashes=1,
        commit_failures=1,
        undone=1,
    ),
    "a writer that knows nothing of the gate": Setting((1, 1), foreigners=1, crashes=1),
    "the sidecar is wiped and deleted": Setting((1, 1), wipes=1, deletions=1, crashes=1),
    "old records are forgotten": Setting((1, 1), prefix=COMMITTED, forgetters=1, deletions=1, crashes=1),
    "others commit before the caller is told": Setting(
        (1, 1, 1, 1), prefix=(*COMMITTED, (A, "killed"), (C, "lead: load64 submitted")), crashes=1
    ),
    "a late answer meets the next request": Setting((1, 2, 1), prefix=COMMITTED),
    "a transaction is undone under its leader": Setting((1, 2, 1), prefix=UNDONE, undone=1),
    "a slot is used again after its owner is dead": Setting(
        (1, 1, 1), prefix=(*TAKES, (B, "killed")), crashes=2, slots=1, buriers=1
    ),
}

LARGE_SETTINGS: dict[str, Setting] = {
    "nothing but wake-ups, and too few slots": Setting((1, 1, 1), time_outs=False, slots=1),
    "nothing but wake-ups, three callers, four operations": Setting((2, 1, 1), time_outs=False),
    "nothing but wake-ups, three operations and a writer that serves nobody": Setting(
        (2, 1), time_outs=False, strangers=1
    ),
    "three callers who are ordered to rest and give up": Setting((1, 1, 1), must_rest=True, gives_up=True),
    "three callers, two are killed": Setting((1, 1, 1), crashes=2),
    "three callers, a commit fails": Setting((1, 1, 1), commit_failures=1),
    "three callers, two slots, one is killed": Setting((1, 1, 1), slots=2, crashes=1),
    "others commit before the caller is told, one more is killed": Setting(
        (1, 1, 1, 1), prefix=(*COMMITTED, (A, "killed")), crashes=2
    ),
    "three callers, the sidecar is wiped": Setting((1, 1, 1), wipes=1),
    "three operations, the sidecar is deleted": Setting((2, 1), deletions=1, crashes=1),
    "old records are forgotten at any time": Setting((1, 1), forgetters=1, deletions=1, crashes=1),
    "three operations, whatever else may go wrong": replace(SETTINGS["whatever else may go wrong"], operations=(2, 1)),
}

# In which setting each flaw shows.
FLAWS: dict[Flaw, Setting] = {
    Flaw.NO_CARRY_OVER: SETTINGS["others commit before the caller is told"],
    Flaw.RECORD_AFTER_COMMIT: SETTINGS["one is killed"],
    Flaw.ANSWER_BEFORE_COMMIT: SETTINGS["one is killed"],
    Flaw.NO_NUMBER_IN_STATE: SETTINGS["a late answer meets the next request"],
    Flaw.TAKE_WITHOUT_LOCK: SETTINGS["whatever else may go wrong"],
    Flaw.TAKE_BACK_WITHOUT_LOCK: SETTINGS["one is killed"],
    Flaw.BURY_WITHOUT_LOCK: SETTINGS["a slot is used again after its owner is dead"],
    Flaw.WRITE_RESULT_WITHOUT_LOCK: SETTINGS["a transaction is undone under its leader"],
    Flaw.SERVE_WITHOUT_TRANSACTION: SETTINGS["whatever else may go wrong"],
    Flaw.NO_WITHDRAWAL: SETTINGS["one is killed"],
    Flaw.NO_LOOK_AT_RECORD: SETTINGS["one is killed"],
    Flaw.NO_LOOK_AT_GATE_AFTER_SUBMIT: SETTINGS["nothing but wake-ups"],
    Flaw.NO_CALL_AFTER_UNLOCK: SETTINGS["nothing but wake-ups"],
    Flaw.BIT_BEFORE_STATE: SETTINGS["nothing but wake-ups"],
    Flaw.WIPE_SLOTS_IN_USE: SETTINGS["the sidecar is wiped and deleted"],
    Flaw.FORGET_ROW_IN_USE: SETTINGS["old records are forgotten"],
}


def explored(setting: Setting) -> Report:
    report = Explorer(setting).explore()
    print(f"{report.states:,} states, {report.transitions:,} transitions")
    return report


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_the_order_all_ends_well(name: str) -> None:
    report = explored(SETTINGS[name])
    assert report.flaw is None, report


@pytest.mark.skipif(LARGE not in os.environ, reason=f"takes many minutes and gigabytes: set {LARGE}=1")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", LARGE_SETTINGS)
def test_whatever_the_order_all_ends_well_in_large(name: str) -> None:
    report = explored(LARGE_SETTINGS[name])
    assert report.flaw is None, report


@pytest.mark.parametrize("flaw", Flaw)
def test_a_broken_rule_is_noticed(flaw: Flaw) -> None:
    report = explored(replace(FLAWS[flaw], flaws=frozenset({flaw})))
    assert report.flaw is not None
    assert report.trace


# -- the explorer itself


@pytest.mark.parametrize("name", ["whatever else may go wrong", "the sidecar is wiped and deleted"])
def test_a_state_of_a_process_says_all_that_matters(name: str) -> None:
    """Processes that were never merged with others of the same state do the same steps."""
    explorer = Explorer(replace(SETTINGS[name], operations=(2, 2, 2), crashes=0))
    choices = random.Random(1)
    for _ in range(100):
        world = explorer.start()
        programs = [explorer.process(pid).main() for pid in range(len(world.standing))]
        steps = [next(program) for program in programs]
        for _ in range(150):
            events = list(explorer.successors(world))
            if not events:
                break
            event = choices.choice(events)
            woken = [
                pid
                for pid, (before, after) in enumerate(zip(world.standing, event.world.standing, strict=True))
                if before != after and pid != event.pid
            ]
            moved = world.standing[event.pid] != event.world.standing[event.pid] or event.value is not None
            for pid, value in [(event.pid, event.value)] * moved + [(pid, WAIT_WOKEN) for pid in woken]:
                steps[pid] = next_step(programs[pid], value)
            world = event.world
            assert [explorer.locals[local].step for local in world.standing] == steps


def next_step(program: Program[None], value: object) -> Step:
    try:
        return program.send(value)
    except StopIteration:
        return END


def test_a_trace_tells_the_steps_of_each_process() -> None:
    report = explored(replace(SETTINGS["nothing but wake-ups"], flaws=frozenset({Flaw.NO_LOOK_AT_GATE_AFTER_SUBMIT})))
    assert report.flaw == "somebody waits for ever: nobody does anything"
    assert "A: take_write_lock: BEGIN = True" in report.trace
    assert "B: slots_submit: store64 state[1] SLOT_SUBMITTED 3" in report.trace


# -- the model is of this C


def source(name: str) -> str:
    return (NATIVE / name).read_text(encoding="utf-8")


def test_the_states_are_those_of_the_header() -> None:
    found = re.search(r"typedef enum \{([^}]*)\} slot_state;", source("slots.h"))
    assert found is not None
    assert [name.strip() for name in found[1].split(",")] == [state.name for state in State]


@pytest.mark.parametrize(
    ("name", "value"), [("SLOT_NUMBER_MASK", SLOT_NUMBER_MASK), ("STATE_BITS", STATE_BITS), ("CODE_SHIFT", CODE_SHIFT)]
)
def test_numbers_are_those_of_the_sources(name: str, value: int) -> None:
    found = re.findall(rf"\b{name} = (0x[0-9a-f]+|\d+)", source("slots.h") + source("slots.c"))
    assert [int(number, 0) for number in found] == [value]


def test_the_moves_of_a_slot_are_those_that_the_header_lists() -> None:
    listed = re.findall(r"^ \*   (\w+) -> (\w+) ", source("slots.h"), re.MULTILINE)
    report = explored(Setting((1, 1), crashes=1))
    assert {(State[f"SLOT_{start}"], State[f"SLOT_{end}"]) for start, end in listed} == report.moves


@pytest.mark.parametrize("kind", [Process, Caller])
def test_functions_are_named_as_in_c(kind: type[Process]) -> None:
    """But for the few that stand for a part of one."""
    sources = "".join(
        source(name) for name in ("group.c", "slots.c", "gate.c", "sidecar.c", "handle.c", "database_file.c")
    )
    own = {
        "main",
        "has",
        "variables",
        "group",
        "gate_rest_ordered",
        "is_rolled_back",
        "take_along",
        "take_early",
        "do_early",
    }
    functions = {name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert {name for name in functions - own if not re.search(rf"\b{name}\(", sources)} == set()
