"""Takes every order of the steps of group_model.py's processes, and says where that leads.

A state of a process is where its generators stand and what their variables hold; a state of the world is that of all
processes, and everything they share. All that can be reached are visited, breadth first, so that what is found is found
by a shortest way.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from types import GeneratorType
from typing import Any, Final, NamedTuple

from tests.model.group_model import (
    CODE_SHIFT,
    SQLITE_BUSY,
    SQLITE_OK,
    WAIT_CHANGED,
    WAIT_TIMED_OUT,
    WAIT_WOKEN,
    Burier,
    Caller,
    Deleter,
    Foreigner,
    Forgetter,
    Layout,
    Process,
    Program,
    Request,
    Row,
    Setting,
    State,
    Step,
    Stranger,
    Told,
    Wiper,
    number_in,
    state_in,
)

NOT_TOLD, TOLD_SUCCESS, TOLD_FAILURE = range(3)


class World(NamedTuple):
    """One state of everything."""

    standing: tuple[int, ...]  # of each process, which of its states
    memory: tuple[Any, ...]  # of the sidecar files
    lock: int  # who has the write lock; -1 nobody
    asleep: int  # a bit for each process
    slot_locks: tuple[int, ...]  # who has the lock of each slot of each file; -1 nobody
    named: int  # which file has the sidecar's name
    made: int  # the last number that was made for a file
    executed: int  # a bit for each operation that is in the database
    rows: tuple[Row, ...]  # of queue_state
    told: tuple[int, ...]  # of each operation, what its caller knows
    crashes: int  # these may still happen
    commit_failures: int
    undone: int


class Violation(Exception):
    """Something that may never happen."""


@dataclass
class Report:
    """What came out."""

    states: int = 0
    transitions: int = 0
    flaw: str | None = None
    trace: list[str] = field(default_factory=list)
    moves: set[tuple[State, State]] = field(default_factory=set)  # of slots

    def __str__(self) -> str:
        heading = f"{self.states:,} states, {self.transitions:,} transitions"
        return "\n".join([heading, *([self.flaw] if self.flaw else []), *self.trace])


class Local(NamedTuple):
    """A state of one process."""

    pid: int
    history: tuple[Any, ...]  # a way to it: what came of each of its steps
    step: Step  # the next one
    where: str  # in which function


class Event(NamedTuple):
    """Something that may happen next."""

    pid: int
    value: Any  # what came of its step
    world: World  # after it
    is_crash: bool = False


END: Final = Step("end")
DEAD: Final = Step("dead")
QUIET: Final = frozenset({"choose", "tell", "SELECT GROUP_DONE", "SELECT GROUPS_DONE", "make_number"})
"""Nobody else can tell whether these were done already: who is about to do one goes on first."""


class Explorer:
    """All that may happen in a setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.layout = Layout(1 + setting.deletions, setting.slot_count)
        self.callers = len(setting.operations)
        self.kinds: list[Callable[[Setting, Layout, int], Process]] = [Caller] * self.callers
        self.kinds += [Foreigner] * setting.foreigners + [Stranger] * setting.strangers
        self.kinds += [Burier] * setting.buriers + [Forgetter] * setting.forgetters
        self.kinds += [Wiper] * setting.wipes + [Deleter] * setting.deletions
        self.report = Report()
        self.locals: list[Local] = []
        self._steps: list[Step] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._next: dict[tuple[int, Any], int] = {}
        self._going_on = -1  # whose step is being done
        self._do: dict[str, Callable[[World, int, Step], list[tuple[Any, World]]]] = {
            "load64": lambda world, pid, step: [(world.memory[step.at], world)],
            "store64": self._store,
            "swap64": self._swap,
            "or64": lambda world, pid, step: [(None, _with(world, step.at, world.memory[step.at] | step.first))],
            "and64": lambda world, pid, step: [(None, _with(world, step.at, world.memory[step.at] & step.first))],
            "add32": lambda world, pid, step: [(None, _with(world, step.at, 1))],
            "look": lambda world, pid, step: [(None, _with(world, step.at, 0))],
            "choose": lambda world, pid, step: [(option, world) for option in step.first],
            "copy_request": self._copy_request,
            "memset": self._memset,
            "platform_wait": self._wait,
            "platform_wake": self._wake,
            "platform_try_lock": self._try_lock,
            "platform_unlock": lambda world, pid, step: [(None, self._with_slot_lock(world, step, -1))],
            "platform_is_locked": lambda world, pid, step: [(self._slot_lock(world, step) >= 0, world)],
            "platform_map": lambda world, pid, step: [(world.named, world)],
            "unlink": lambda world, pid, step: [(None, world._replace(named=world.named + 1))],
            "make_number": lambda world, pid, step: [(world.made + 1, world._replace(made=world.made + 1))],
            "BEGIN": self._begin,
            "BEGIN, in turn": lambda world, pid, step: [] if world.lock >= 0 else [(True, world._replace(lock=pid))],
            "COMMIT": self._commit,
            "ROLLBACK": lambda world, pid, step: [(None, _unlocked(world, pid))],
            "rolls back by itself": self._undo,
            "record": lambda world, pid, step: [(None, world._replace(rows=_with_row(world.rows, step.first)))],
            "SELECT GROUP_DONE": lambda world, pid, step: [(dict(world.rows).get(step.first, ()), world)],
            "SELECT GROUPS_DONE": self._find_ticket,
            "DELETE FORGET_GROUPS": self._forget,
            "tell": self._tell,
        }

    # -- processes

    def process(self, pid: int) -> Process:
        """A new one, at its beginning."""
        return self.kinds[pid](self.setting, self.layout, pid)

    def stand(self, pid: int, history: tuple[Any, ...]) -> int:
        """The state that a process is in after its steps came out like this."""
        process = self.process(pid)
        program = process.main()
        try:
            step = next(program)
            for value in history:
                step = program.send(value)
        except StopIteration:
            return self._number((pid, END), Local(pid, (), END, ""))
        frames = list(_frames(program))
        return self._number((pid, step, process.variables(), *frames), Local(pid, history, step, frames[-1][0]))

    def advance(self, local: int, value: Any) -> int:
        """The state after that one, when its step came out like this."""
        found = self._next.get((local, value))
        if found is None:
            known = self.locals[local]
            found = self._next[local, value] = self.stand(known.pid, (*known.history, value))
        return found

    def _number(self, key: tuple[Any, ...], local: Local) -> int:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.locals)
            self.locals.append(local)
            self._steps.append(local.step)
        return found

    # -- steps: what may come of each, as what the process is told and the world after it. Nothing: it waits.

    def _store(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        self._note_move(step.at, world.memory[step.at], step.first)
        return [(None, _with(world, step.at, step.first))]

    def _swap(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        if world.memory[step.at] != step.first:
            return [(False, world)]
        self._note_move(step.at, step.first, step.second)
        return [(True, _with(world, step.at, step.second))]

    def _note_move(self, at: int, before: Any, after: Any) -> None:
        if at in self.layout.states and state_in(before) != state_in(after):
            self.report.moves.add((state_in(before), state_in(after)))

    def _copy_request(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        copied = world.memory[step.at]
        if not isinstance(copied, Request):
            raise Violation(f"{copied} is taken for a request")
        return [(copied, world)]

    def _memset(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        for at in step.first:
            world = _with(world, at, None if "content" in self.layout.names[at] else 0)
        return [(None, world)]

    def _wait(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        return [(WAIT_CHANGED, world)] if world.memory[step.at] != 0 else []

    def _wake(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        for sleeper, local in enumerate(world.standing):
            if world.asleep >> sleeper & 1 and self._steps[local].at == step.at:
                awake = world._replace(asleep=world.asleep & ~(1 << sleeper))
                return [(True, _standing(awake, sleeper, self.advance(local, WAIT_WOKEN)))]
        return [(False, world)]

    def _slot_lock(self, world: World, step: Step) -> int:
        owner: int = world.slot_locks[step.at * self.layout.slots + step.first]
        return owner

    def _with_slot_lock(self, world: World, step: Step, owner: int) -> World:
        which = step.at * self.layout.slots + step.first
        return world._replace(slot_locks=_put(world.slot_locks, which, owner))

    def _try_lock(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        if self._slot_lock(world, step) >= 0:
            return [(False, world)]
        return [(True, self._with_slot_lock(world, step, pid))]

    def _begin(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        refused = [(False, world)]
        if world.lock >= 0:
            return refused
        return [(True, world._replace(lock=pid)), *(refused if self.setting.refuses else [])]

    def _commit(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        executed = world.executed
        if world.lock != pid:
            raise Violation("somebody commits who has not the write lock")
        for operation in step.first:
            if executed >> operation & 1:
                raise Violation(f"operation {operation} is executed twice")
            if world.told[operation] == TOLD_FAILURE:
                raise Violation(f"operation {operation} is executed after its caller was told that it failed")
            executed |= 1 << operation
        rows = world.rows if step.second is None else _with_row(world.rows, step.second)
        outcomes = [(SQLITE_OK, _unlocked(world, pid)._replace(executed=executed, rows=rows))]
        if world.commit_failures:
            failed = _unlocked(world, pid)._replace(commit_failures=world.commit_failures - 1)
            outcomes.append((SQLITE_BUSY, failed))
        return outcomes

    def _undo(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        outcomes = [(False, world)]
        if world.undone:
            outcomes.append((True, world._replace(undone=world.undone - 1)))
        return outcomes

    def _find_ticket(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        entries = (entry for _, row in world.rows for entry in row if entry.ticket == step.first)
        return [(next((entry.outcome for entry in entries), 0), world)]

    def _forget(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        """A transaction of its own."""
        files = {world.memory[self.layout.head(file, "generation")] for file in range(self.layout.files)}
        kept = tuple(row for row in world.rows if step.first != "all" and row[0] in files)
        return [(None, _unlocked(world, pid)._replace(rows=kept))]

    def _tell(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        operation, told = step.at, step.first
        assert isinstance(told, Told)
        is_done = world.executed >> operation & 1
        if told.code != SQLITE_OK:
            if is_done:
                raise Violation(f"operation {operation} was executed, its caller is told that it failed")
            return [(None, world._replace(told=_put(world.told, operation, TOLD_FAILURE)))]
        if told.operation != operation:
            raise Violation(f"the caller of operation {operation} is given the result of {told.operation or 'none'}")
        if not is_done:
            raise Violation(f"operation {operation} was not executed, its caller is told that it was")
        return [(None, world._replace(told=_put(world.told, operation, TOLD_SUCCESS)))]

    # -- exploring

    def start(self) -> World:
        """The world when the processes begin, or after the setting's prefix."""
        setting, layout = self.setting, self.layout
        memory: list[Any] = [0] * (layout.length * layout.files)
        memory[layout.head(0, "generation")] = 1
        for file in range(layout.files):
            for slot in range(layout.slots):
                memory[layout.slot(file, slot, "content")] = None
        owners = [-1] * layout.slots if setting.slots else list(range(self.callers))
        world = World(
            standing=tuple(self.stand(pid, ()) for pid in range(len(self.kinds))),
            memory=tuple(memory),
            lock=-1,
            asleep=0,
            slot_locks=(*owners, *[-1] * (layout.slots * setting.deletions)),
            named=0,
            made=1,
            executed=0,
            rows=(),
            told=(NOT_TOLD,) * (1 + sum(setting.operations)),
            crashes=setting.crashes,
            commit_failures=setting.commit_failures,
            undone=setting.undone,
        )
        for pid, until in setting.prefix:
            world = self._go_on(world, pid, until)
        return world

    def _go_on(self, world: World, pid: int, until: str) -> World:
        if until == "killed":
            return self._crash(world, pid)
        worlds, seen = [world], {world}
        for one in worlds:
            local = self.locals[one.standing[pid]]
            if until in self.describe(local):
                return one
            if local.step is END:
                continue
            new = [event.world for event in self._events_of(one, pid)]
            worlds += [after for after in new if after not in seen]
            seen.update(new)
        raise AssertionError(f"process {pid} never comes to {until}")

    def successors(self, world: World) -> Iterator[Event]:
        """All that may happen next."""
        steps, standing = self._steps, world.standing
        for pid, local in enumerate(standing):
            if steps[local].name in QUIET:
                yield from self._events_of(world, pid)
                return
        for pid, local in enumerate(standing):
            if steps[local] is END or steps[local] is DEAD:
                continue
            yield from self._events_of(world, pid)
            if world.crashes and pid < self.callers:
                yield Event(pid, None, self._crash(world, pid), is_crash=True)

    def _events_of(self, world: World, pid: int) -> Iterator[Event]:
        local = world.standing[pid]
        if world.asleep >> pid & 1:
            if self.setting.time_outs:
                awake = world._replace(asleep=world.asleep & ~(1 << pid))
                yield Event(pid, WAIT_TIMED_OUT, _standing(awake, pid, self.advance(local, WAIT_TIMED_OUT)))
            return
        step = self._steps[local]
        self._going_on = pid
        outcomes = self._do[step.name](world, pid, step)
        for value, after in outcomes:
            yield Event(pid, value, _standing(after, pid, self.advance(local, value)))
        if not outcomes and step.name == "platform_wait":
            yield Event(pid, None, world._replace(asleep=world.asleep | 1 << pid))

    def _crash(self, world: World, pid: int) -> World:
        dead = _unlocked(world, pid)._replace(
            asleep=world.asleep & ~(1 << pid),
            slot_locks=tuple(-1 if owner == pid else owner for owner in world.slot_locks),
            crashes=world.crashes - 1,
        )
        return _standing(dead, pid, self._number((pid, DEAD), Local(pid, (), DEAD, "")))

    def is_over(self, world: World) -> bool:
        """Every caller that lives was told everything."""
        return all(self._steps[local] in (END, DEAD) for local in world.standing[: self.callers])

    def explore(self) -> Report:
        """Visits every state; ends at the first violation."""
        gc.disable()  # there are no cycles, only millions of tuples to look through
        try:
            return self._explore()
        finally:
            gc.enable()

    def _explore(self) -> Report:
        report = self.report
        worlds = [self.start()]
        seen = {worlds[0]: 0}
        parents = array("l", [-1])
        sources, targets = array("l"), array("l")
        over: list[int] = []
        for number, world in enumerate(worlds):  # which grows meanwhile
            goes_on = False
            try:
                for event in self.successors(world):
                    report.transitions += 1
                    found = seen.setdefault(event.world, len(worlds))
                    if found == len(worlds):
                        worlds.append(event.world)
                        parents.append(number)
                    if not event.is_crash:
                        goes_on = True
                        sources.append(number)
                        targets.append(found)
            except Violation as violation:
                report.flaw = str(violation)
                report.trace = self._trace(worlds, parents, number)
                report.trace.append(f"{self._show(world, Event(self._going_on, None, world))}: {violation}")
                break
            if self.is_over(world):
                over.append(number)
            elif not goes_on:
                report.flaw = "somebody waits for ever: nobody does anything"
                report.trace = self._trace(worlds, parents, number)
                break
        else:
            stuck = _first_that_never_reaches(over, len(worlds), sources, targets)
            if stuck >= 0:
                report.flaw = "somebody waits for ever, whatever the others do"
                report.trace = self._trace(worlds, parents, stuck)
        report.states = len(worlds)
        return report

    # -- telling

    def _trace(self, worlds: list[World], parents: array[int], number: int) -> list[str]:
        path = [number]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        lines = [f"{self._name(pid)} goes on alone: {until}" for pid, until in self.setting.prefix]
        for before, after in pairwise(worlds[one] for one in reversed(path)):
            lines.append(next(self._show(before, event) for event in self.successors(before) if event.world == after))
        return lines

    def _show(self, world: World, event: Event) -> str:
        name = self._name(event.pid)
        if event.is_crash:
            return f"{name} is killed"
        local = self.locals[world.standing[event.pid]]
        came_of_it = "" if event.value is None else f" = {self._value(local.step, event.value)}"
        return f"{name}: {self.describe(local)}{came_of_it}"

    def _name(self, pid: int) -> str:
        return chr(ord("A") + pid) if pid < self.callers else type(self.process(pid)).__name__

    def describe(self, local: Local) -> str:
        """The next step of a process."""
        step = local.step
        on = (
            f" {self.layout.names[step.at]}"
            if step.name.endswith(("32", "64", "look", "wait", "wake", "request"))
            else ""
        )
        values = [self._value(step, value) for value in (step.first, step.second) if value is not None]
        return f"{local.where}: {step.name}{on} {' -> '.join(values)}".rstrip()

    def _value(self, step: Step, value: Any) -> str:
        if step.at in self.layout.states and isinstance(value, int) and not isinstance(value, bool):
            code = value >> CODE_SHIFT
            return f"{state_in(value).name} {number_in(value)}" + (f" with code {code}" if code else "")
        return str(value)


def _frames(program: Program[Any]) -> Iterator[tuple[str, int, tuple[Any, ...]]]:
    """Where a generator stands, and those it waits for, and what their variables hold."""
    one: object = program
    while isinstance(one, GeneratorType):
        frame = one.gi_frame
        assert frame is not None, "it has not ended"
        variables = tuple((name, value) for name, value in frame.f_locals.items() if name != "self")
        yield one.gi_code.co_name, frame.f_lasti, variables
        one = one.gi_yieldfrom


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _standing(world: World, pid: int, local: int) -> World:
    return World._make((_put(world.standing, pid, local), *world[1:]))


def _with(world: World, at: int, value: Any) -> World:
    standing, memory, *rest = world
    return world if memory[at] == value else World._make((standing, (*memory[:at], value, *memory[at + 1 :]), *rest))


def _unlocked(world: World, pid: int) -> World:
    return world._replace(lock=-1) if world.lock == pid else world


def _with_row(rows: tuple[Row, ...], row: Row) -> tuple[Row, ...]:
    return tuple(sorted([*(other for other in rows if other[0] != row[0]), row]))


def _first_that_never_reaches(over: list[int], count: int, sources: array[int], targets: array[int]) -> int:
    """The first state from which no way leads to one of `over`; -1 if there is none."""
    before: list[list[int]] = [[] for _ in range(count)]
    for source, target in zip(sources, targets, strict=True):
        before[target].append(source)
    reaches = bytearray(count)
    for number in over:
        reaches[number] = 1
    todo = list(over)
    while todo:
        for number in before[todo.pop()]:
            if not reaches[number]:
                reaches[number] = 1
                todo.append(number)
    return reaches.find(0)
