"""Takes every order of the steps of places_model.py's processes, as group_explorer.py does with those of its model."""

from __future__ import annotations

from typing import Any

from tests.model.group_explorer import (
    DEAD,
    END,
    NOT_TOLD,
    Explorer,
    Violation,
    World,
    _put,
    _unlocked,
    _with,
    _with_row,
)
from tests.model.group_model import SQLITE_BUSY, SQLITE_OK, Step
from tests.model.group_model import Setting as GroupSetting
from tests.model.places_model import AWAKE, FREE, IN_SERVICE, Keeper, Layout, Maker, Setting, Worker, in_state, state_in

QUEUED = (-1, -1)


class PlacesExplorer(Explorer):
    """In `rows` stand the tasks, each with whose it is and by whom it was claimed; in `told` who knows of it.

    `undone` says that somebody has left while it was served.
    """

    def __init__(self, setting: Setting) -> None:
        everybody = (1,) * (len(setting.workers) + len(setting.makers))
        super().__init__(
            GroupSetting(everybody, time_outs=setting.time_outs, crashes=setting.crashes, prefix=setting.prefix)
        )
        self.places = setting
        self.layout: Any = Layout(setting.places)
        self.kinds: list[Any] = [Worker] * len(setting.workers) + [Maker] * len(setting.makers) + [Keeper]
        self._do |= {
            "claim": self._claim,
            "take": self._take,
            "abandon": self._abandon,
            "release": self._release,
            "unclaim": self._unclaim,
            "COMMIT": self._commit_task,
        }

    def process(self, pid: int) -> Any:
        return self.kinds[pid](self.places, self.layout, pid)

    def start(self) -> World:
        setting = self.places
        world = World(
            standing=tuple(self.stand(pid, ()) for pid in range(len(self.kinds))),
            memory=tuple(None if "desk" in name else 0 for name in self.layout.names),
            lock=-1,
            asleep=0,
            slot_locks=(-1,) * (2 * setting.places),
            named=0,
            made=0,
            executed=0,
            rows=(),
            told=(NOT_TOLD,) * (1 + len(setting.makers)),
            crashes=setting.crashes,
            commit_failures=setting.commit_failures,
            undone=0,
        )
        for pid, until in setting.prefix:
            world = self._go_on(world, pid, until)
        return world

    def is_over(self, world: World) -> bool:
        """Everybody has left, and each task waits for somebody, or its worker has it."""
        steps = [self.locals[local].step for local in world.standing]
        if not all(step in (END, DEAD) for step in steps[: self.callers]):
            return False
        return all(
            row == QUEUED
            or world.told[task] == 1 + row[0]
            # It waits for the end of its lease.
            or (world.undone and row[1] >= 0 and steps[row[1]] is DEAD)
            for task, row in world.rows
        )

    def _note_move(self, at: int, before: Any, after: Any) -> None:
        if at in self.layout.states and state_in(before) != state_in(after):
            self.report.moves.add((state_in(before), state_in(after)))  # type: ignore[arg-type]

    # -- steps

    def _claim(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        """A look without the write lock, and if there is something a transaction of its own."""
        for task, row in world.rows:
            if row == QUEUED and self.places.makers[task - 1] == step.first:
                if world.lock >= 0:
                    return []
                rows = _with_row(world.rows, (task, (pid, pid)))  # type: ignore[arg-type]
                return [(task, world._replace(rows=rows, told=_put(world.told, task, 1 + pid)))]
        return [(0, world)]

    def _take(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        """A swap that gives the worker its task."""
        if world.memory[step.at] != step.first:
            return [(False, world)]
        self._note_move(step.at, step.first, in_state(step.first, AWAKE))
        after = _with(world, step.at, in_state(step.first, AWAKE))
        answer = step.second
        if answer is None:
            return [(True, after)]
        if not answer.is_answer:
            raise Violation("a request is taken for an answer")
        row = dict(world.rows).get(answer.task)
        if row != (pid, answer.maker):
            raise Violation(f"task {answer.task} is handed to one who has not claimed it")
        return [(True, after._replace(told=_put(world.told, answer.task, 1 + pid)))]

    def _abandon(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        """A swap by which a worker leaves its place."""
        if world.memory[step.at] != step.first:
            return [(False, world)]
        self._note_move(step.at, step.first, in_state(step.first, FREE))
        after = _with(world, step.at, in_state(step.first, FREE))
        return [(True, after._replace(undone=1) if state_in(step.first) == IN_SERVICE else after)]

    def _release(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        rows = _with_row(world.rows, (step.first, QUEUED))  # type: ignore[arg-type]
        return (
            [] if world.lock >= 0 else [(None, world._replace(rows=rows, told=_put(world.told, step.first, NOT_TOLD)))]
        )

    def _unclaim(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        """With the time of the claim, or without: the attempt is the same after a task was given back."""
        if world.lock >= 0:
            return []
        row: Any = dict(world.rows).get(step.at)
        if row is None or row[0] != step.first or step.second not in (None, row[1]):
            return [(None, world)]
        if world.told[step.at] == 1 + row[0]:
            raise Violation(f"task {step.at} is taken away from its worker")
        return [(None, world._replace(rows=_with_row(world.rows, (step.at, QUEUED))))]  # type: ignore[arg-type]

    def _commit_task(self, world: World, pid: int, step: Step) -> list[tuple[Any, World]]:
        worker = step.second
        row = QUEUED if worker is None else (worker, pid)
        if worker is not None and self.places.workers[worker] != step.first:
            raise Violation(f"task {step.at} is claimed for a worker of another type")
        done = _unlocked(world, pid)._replace(rows=_with_row(world.rows, (step.at, row)))  # type: ignore[arg-type]
        outcomes: list[tuple[Any, World]] = [(SQLITE_OK, done)]
        if world.commit_failures:
            outcomes.append((SQLITE_BUSY, _unlocked(world, pid)._replace(commit_failures=world.commit_failures - 1)))
        return outcomes

    def _value(self, step: Step, value: Any) -> str:
        if step.at in self.layout.states and isinstance(value, int) and not isinstance(value, bool):
            return f"{state_in(value).name} {value >> 3}"
        return str(value)
