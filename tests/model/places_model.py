"""The protocol of native/places.c and native/handover.c, one atomic step at a time; the explorer takes every order.

As in group_model.py a process is a generator that reads like its C counterpart. A worker comes, sleeps at its place,
and leaves with one task or none, at any time; the next one may get the place. A maker adds one task, and claims it for
one who sleeps. One keeps house for ever. Workers and makers may be killed, or stopped for ever, between two steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, Final, NamedTuple

from tests.model.group_model import (
    SQLITE_OK,
    WAIT_TIMED_OUT,
    Program,
    Step,
    add32,
    choose,
    load64,
    platform_wake,
    swap64,
)


class State(IntEnum):
    """place_state of places.h."""

    PLACE_FREE = 0
    PLACE_AWAKE = 1
    PLACE_WAITING = 2
    PLACE_ASLEEP = 3
    PLACE_CALLED = 4
    PLACE_IN_SERVICE = 5
    PLACE_SERVED = 6


FREE, AWAKE, WAITING, ASLEEP, CALLED, IN_SERVICE, SERVED = State
PLACE_STATE_BITS: Final = 3
ANY_TYPE: Final = 0


def state_in(word: int) -> State:
    return State(word & ((1 << PLACE_STATE_BITS) - 1))


def in_state(word: int, state: State) -> int:
    return word & ~((1 << PLACE_STATE_BITS) - 1) | state


class Content(NamedTuple):
    """What lies on a desk, and what its check says: for which sleep it was written, as a request or as an answer."""

    sleep: int
    is_answer: bool
    worker: int
    task: int  # of an answer
    maker: int  # who has claimed it: stands for the time of that


class Flaw(Enum):
    """A rule that is broken, so that the explorer is seen to notice."""

    NO_NUMBER_IN_STATE = auto()
    ARM_WHATEVER_THE_STATE = auto()
    NO_CHECK = auto()
    LAY_DOWN_AFTER_COMMIT = auto()
    RESCUE_OF_THE_LIVING = auto()
    READ_ORPHAN_AFTER_SWAP = auto()
    BURY_THE_SERVED = auto()
    LEAVE_WHAT_IS_SERVED = auto()
    NO_GIVING_BACK = auto()
    NO_CALL_AFTER_FAILURE = auto()
    CALL_ONCE = auto()


@dataclass(frozen=True)
class Setting:
    """Who is there, and which accidents may happen, how often."""

    workers: tuple[int, ...]  # the type of task that each waits for
    makers: tuple[int, ...]  # the type of task that each adds
    places: int = 1
    leaves: bool = True  # a worker may go at any time
    time_outs: bool = True  # a sleep may end by itself at any time
    stops: bool = True  # who keeps house may take who does not come for stopped
    crashes: int = 0
    commit_failures: int = 0
    prefix: tuple[tuple[int, str], ...] = ()  # who goes on first, alone, until it is about to do what
    flaws: frozenset[Flaw] = frozenset()


class Layout:
    """Where the words lie in the model's memory."""

    PLACE: Final = ("calls", "state", "types", "desk")

    def __init__(self, places: int) -> None:
        self.slots = places  # as many locks of each kind
        self.names = [f"{name}[{place}]" for place in range(places) for name in self.PLACE]
        self.states = frozenset(self.at(place, "state") for place in range(places))

    def at(self, place: int, name: str) -> int:
        return place * len(self.PLACE) + self.PLACE.index(name)


PLACE_LOCK, SERVICE_LOCK = range(2)


class Process:
    """What every process may do with the places."""

    def __init__(self, setting: Setting, layout: Layout, pid: int) -> None:
        self.setting, self.layout, self.pid = setting, layout, pid

    def variables(self) -> tuple[Any, ...]:
        return ()

    def main(self) -> Program[None]:
        raise NotImplementedError

    def has(self, flaw: Flaw) -> bool:
        return flaw in self.setting.flaws

    def at(self, place: int, name: str) -> int:
        return self.layout.at(place, name)

    def next_sleep(self, word: int) -> int:
        return 0 if self.has(Flaw.NO_NUMBER_IN_STATE) else ((word >> PLACE_STATE_BITS) + 1) << PLACE_STATE_BITS

    def move(self, place: int, found: int, to: State) -> Step:
        return swap64(self.at(place, "state"), found, in_state(found, to))

    def wake(self, place: int) -> Program[bool]:
        yield add32(self.at(place, "calls"))
        woken: bool = yield platform_wake(self.at(place, "calls"))
        return woken

    def read_desk(self, place: int, word: int, is_answer: bool) -> Program[Content | None]:
        copy: Content | None = yield load64(self.at(place, "desk"))
        if copy is None or (copy.sleep, copy.is_answer) == (in_state(word, FREE), is_answer):
            return copy
        return copy if self.has(Flaw.NO_CHECK) else None

    def write_desk(self, place: int, word: int, content: Content) -> Step:
        return Step("store64", self.at(place, "desk"), content._replace(sleep=in_state(word, FREE)))

    def call(self, place: int, found: int) -> Program[bool]:
        while not (yield self.move(place, found, CALLED)):
            now: int = yield load64(self.at(place, "state"))
            if state_in(now) not in (WAITING, ASLEEP) or in_state(now, FREE) != in_state(found, FREE):
                return False
            if self.has(Flaw.CALL_ONCE):
                return False
            found = now
            del now
        if (yield from self.wake(place)) or (yield Step("platform_is_locked", PLACE_LOCK, place)):
            return True
        yield self.move(place, in_state(found, CALLED), FREE)
        return False

    def places_call(self, kind: int) -> Program[None]:
        for place in range(self.layout.slots):
            found: int = yield load64(self.at(place, "state"))
            if state_in(found) not in (WAITING, ASLEEP):
                continue
            wanted: int = yield load64(self.at(place, "types"))
            if wanted == kind and (yield from self.call(place, found)):
                return
            del found, wanted


class Worker(Process):
    """A call of `claim` with a wait: queue.py, idle.c, and the parts of places.c for one worker."""

    def main(self) -> Program[None]:
        kind = self.setting.workers[self.pid]
        place = yield from self.places_enter(kind)
        got = 0 if place >= 0 else -1
        while not got:
            yield from self.places_arm(place)
            got = yield Step("claim", -1, kind)
            while not got:
                if self.setting.leaves and (yield choose(0, 1)):
                    got = -1
                elif (yield from self.places_sleep(place)):
                    got = yield from self.places_take_answer(place)
                    if not got:
                        got = yield Step("claim", -1, kind)
                    break
        if place >= 0:
            yield from self.leave(place)

    def leave(self, place: int) -> Program[None]:
        """places_leave, and giving back what has come in that moment."""
        late = yield from self.places_leave(place)
        if late:
            yield Step("release", -1, late)

    def places_enter(self, kind: int) -> Program[int]:
        for place in range(self.layout.slots):
            found: int = yield load64(self.at(place, "state"))
            if state_in(found) == FREE and (yield Step("platform_try_lock", PLACE_LOCK, place)):
                if (yield self.move(place, found, AWAKE)):
                    yield Step("store64", self.at(place, "types"), kind)
                    return place
                yield Step("platform_unlock", PLACE_LOCK, place)  # in C it stays, as another thread's
            del found
        return -1

    def places_arm(self, place: int) -> Program[None]:
        found: int = yield load64(self.at(place, "state"))
        while state_in(found) not in (IN_SERVICE, SERVED) or self.has(Flaw.ARM_WHATEVER_THE_STATE):
            if (yield swap64(self.at(place, "state"), found, self.next_sleep(found) | WAITING)):
                return
            found = yield load64(self.at(place, "state"))

    def places_sleep(self, place: int) -> Program[bool]:
        """Whether it was woken."""
        yield Step("look", self.at(place, "calls"))
        found: int = yield load64(self.at(place, "state"))
        if state_in(found) != WAITING:
            return True
        yield self.write_desk(place, found, Content(0, False, self.pid, 0, 0))
        if not (yield self.move(place, found, ASLEEP)):
            return True
        yield Step("platform_wait", self.at(place, "calls"))
        yield self.move(place, in_state(found, ASLEEP), WAITING)
        now: int = yield load64(self.at(place, "state"))
        return state_in(now) != WAITING

    def outcome(self, place: int) -> Program[int]:
        while True:
            yield Step("look", self.at(place, "calls"))
            found: int = yield load64(self.at(place, "state"))
            if state_in(found) != IN_SERVICE:
                return found
            del found
            if (yield Step("platform_wait", self.at(place, "calls"))) == WAIT_TIMED_OUT:
                now: int = yield load64(self.at(place, "state"))
                return now

    def places_take_answer(self, place: int) -> Program[int]:
        """The task, 0 for none."""
        found = yield from self.outcome(place)
        if state_in(found) != SERVED:
            return 0
        answer = yield from self.read_desk(place, found, True)
        if not (yield Step("take", self.at(place, "state"), found, answer)):
            return 0
        return answer.task if answer is not None else 0

    def places_leave(self, place: int) -> Program[int]:
        late, waited = 0, False
        while True:
            found: int = yield load64(self.at(place, "state"))
            awaited = (SERVED,) if waited else (IN_SERVICE, SERVED)
            if state_in(found) in awaited and not self.has(Flaw.LEAVE_WHAT_IS_SERVED):
                late, waited = (yield from self.places_take_answer(place)), True
            elif state_in(found) == IN_SERVICE and not (yield Step("platform_is_locked", SERVICE_LOCK, place)):
                break  # is_left_to_others
            elif (yield Step("abandon", self.at(place, "state"), found)):
                break
            del found, awaited
        yield Step("platform_unlock", PLACE_LOCK, place)
        return late


class Maker(Process):
    """An enqueue: `lead` of group.c, handover.c, and the parts of places.c for one who has the write lock."""

    def main(self) -> Program[None]:
        task = 1 + self.pid - len(self.setting.workers)
        kind = self.setting.makers[task - 1]
        yield Step("BEGIN, in turn")
        service = yield from self.places_begin_service(kind)
        answer = None
        if service is not None:
            place, begun, worker = service
            if (yield load64(self.at(place, "state"))) == begun:  # places_go_on_serving
                answer = Content(0, True, worker, task, self.pid)
                if not self.has(Flaw.LAY_DOWN_AFTER_COMMIT):
                    yield from self.places_lay_down(place, begun, answer)
        code: int = yield Step("COMMIT", task, kind, None if answer is None else answer.worker)
        served = code == SQLITE_OK and answer is not None
        if code == SQLITE_OK and answer is None:
            yield from self.places_call(kind)  # announcement_publish
        if service is not None:
            if served and answer is not None and self.has(Flaw.LAY_DOWN_AFTER_COMMIT):
                yield from self.places_lay_down(place, begun, answer)
            still = yield from self.places_end_service(place, begun, served)
            if not still and served and not self.has(Flaw.NO_GIVING_BACK):
                yield Step("unclaim", task, worker)
                yield from self.places_call(kind)

    def places_begin_service(self, kind: int) -> Program[tuple[int, int, int] | None]:
        for place in range(self.layout.slots):
            found: int = yield load64(self.at(place, "state"))
            if state_in(found) != ASLEEP or (yield load64(self.at(place, "types"))) != kind:
                continue
            if not (yield Step("platform_is_locked", PLACE_LOCK, place)):
                continue
            if not (yield Step("platform_try_lock", SERVICE_LOCK, place)):
                continue
            request = yield from self.begin_at(place, found)
            if request is not None:
                return place, in_state(found, IN_SERVICE), request.worker
            yield Step("platform_unlock", SERVICE_LOCK, place)
            del found, request
        return None

    def begin_at(self, place: int, found: int) -> Program[Content | None]:
        if not (yield self.move(place, found, IN_SERVICE)):
            return None
        request = yield from self.read_desk(place, found, False)
        if request is None:
            yield self.move(place, in_state(found, IN_SERVICE), CALLED)
        yield from self.wake(place)
        return request

    def places_lay_down(self, place: int, begun: int, answer: Content) -> Program[None]:
        if (yield load64(self.at(place, "state"))) == begun:
            yield self.write_desk(place, begun, answer)

    def places_end_service(self, place: int, begun: int, served: bool) -> Program[bool]:
        still: bool = True
        if served or not self.has(Flaw.NO_CALL_AFTER_FAILURE):
            still = yield self.move(place, begun, SERVED if served else CALLED)
        if still:
            yield from self.wake(place)
        yield Step("platform_unlock", SERVICE_LOCK, place)
        return still


class Keeper(Process):
    """places_rescue and places_bury, again and again, and what housekeeping.py does about orphans."""

    def main(self) -> Program[None]:
        while True:
            for place in range(self.layout.slots):
                found: int = yield load64(self.at(place, "state"))
                if state_in(found) == IN_SERVICE:
                    orphan = yield from self.end_for_the_dead(place, found)
                elif state_in(found) == SERVED:
                    orphan = yield from self.take_back(place, found)
                else:
                    orphan = None
                if orphan is not None:
                    yield Step("unclaim", orphan.task, orphan.worker, orphan.maker)
                    yield from self.places_call(self.setting.makers[orphan.task - 1])
                yield from self.bury(place, found)
                del found, orphan

    def end_for_the_dead(self, place: int, found: int) -> Program[Content | None]:
        if not self.has(Flaw.RESCUE_OF_THE_LIVING) and (yield Step("platform_is_locked", SERVICE_LOCK, place)):
            return None
        orphan = yield from self.read_desk(place, found, True)
        lives: bool = yield Step("platform_is_locked", PLACE_LOCK, place)
        if not (yield self.move(place, found, CALLED if lives else FREE)):
            return None
        yield from self.wake(place)
        return orphan

    def take_back(self, place: int, found: int) -> Program[Content | None]:
        lives: bool = yield Step("platform_is_locked", PLACE_LOCK, place)
        if lives and not (self.setting.stops and (yield choose(0, 1))):
            return None
        late = self.has(Flaw.READ_ORPHAN_AFTER_SWAP)
        orphan = None if late else (yield from self.read_desk(place, found, True))
        if not (yield self.move(place, found, AWAKE if lives else FREE)):
            return None
        return (yield from self.read_desk(place, found, True)) if late else orphan

    def bury(self, place: int, found: int) -> Program[None]:
        """places_bury"""
        if state_in(found) == FREE:
            return
        if state_in(found) in (IN_SERVICE, SERVED) and not self.has(Flaw.BURY_THE_SERVED):
            return
        if not (yield Step("platform_is_locked", PLACE_LOCK, place)):
            yield self.move(place, found, FREE)
