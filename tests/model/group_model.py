"""The protocol of native/group.c and native/slots.c, one atomic step at a time; group_explorer.py takes every order.

A process is a generator that reads like its C counterpart, function by function and name by name. Each `yield` is one
step on what processes share: a word of the sidecar, a file lock, the write lock, the database. Between two steps of one
process any other may do any number of its own, be killed, or be stopped for ever.

What C decides by a clock is decided both ways: a sleep may end at once, a batch after each request, the busy timeout at
any time. `next`, whose turn it is, may hold anything. An operation is one effect in the database, since SQLite sees to
it that a transaction is done whole or not at all. Left out are I/O errors that leave open whether a commit happened,
which are told as failures with group commit or without.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


# -- what C's headers say ---------------------------------------------------------------------------------------------


class State(IntEnum):
    """slot_state of slots.h."""

    SLOT_FREE = 0
    SLOT_SUBMITTED = 1
    SLOT_TAKEN = 2
    SLOT_ANSWERED = 3


SLOT_FREE, SLOT_SUBMITTED, SLOT_TAKEN, SLOT_ANSWERED = State
SLOT_NUMBER_MASK: Final = 0x3FFFFFFF
STATE_BITS: Final = 2
CODE_SHIFT: Final = 32
_LOWER_HALF: Final = (1 << CODE_SHIFT) - 1

SQLITE_OK, SQLITE_ABORT, SQLITE_BUSY, SQLITE_FULL, SQLITE_CONSTRAINT = 0, 4, 5, 13, 19
UNDONE: Final = 516
WAIT_WOKEN, WAIT_CHANGED, WAIT_TIMED_OUT = range(3)


def word(number: int, state: State, code: int) -> int:
    """A state as it stands in the file: the code in the upper half, then the request's number, then the state."""
    return (code << CODE_SHIFT) | (number << STATE_BITS) | state


def state_in(found: int) -> State:
    return State(found & ((1 << STATE_BITS) - 1))


def number_in(found: int) -> int:
    return (found & _LOWER_HALF) >> STATE_BITS


class Request(NamedTuple):
    """What a slot's memory holds from before it is submitted: an operation, which here is a number, from 1 on."""

    operation: int


class Result(NamedTuple):
    """What it holds after that was done."""

    operation: int
    is_done: bool = True  # else it were the same tuple as its request


class SlotRequest(NamedTuple):
    """slot_request of slots.h."""

    slot: int
    number: int
    ticket: int


class Entry(NamedTuple):
    """done_operation of group.h."""

    ticket: int
    outcome: int


Row: TypeAlias = tuple[int, tuple[Entry, ...]]  # `group <number>` of queue_state, and what stands in it


class Told(NamedTuple):
    """How an operation ended for its caller, and which one's result that is."""

    code: int
    operation: int


# -- what is explored -------------------------------------------------------------------------------------------------


class Flaw(Enum):
    """A rule that is broken, so that the explorer is seen to notice."""

    NO_CARRY_OVER = auto()
    RECORD_AFTER_COMMIT = auto()
    ANSWER_BEFORE_COMMIT = auto()
    NO_NUMBER_IN_STATE = auto()
    TAKE_WITHOUT_LOCK = auto()
    TAKE_BACK_WITHOUT_LOCK = auto()
    BURY_WITHOUT_LOCK = auto()
    WRITE_RESULT_WITHOUT_LOCK = auto()
    SERVE_WITHOUT_TRANSACTION = auto()
    NO_WITHDRAWAL = auto()
    NO_LOOK_AT_RECORD = auto()
    NO_LOOK_AT_GATE_AFTER_SUBMIT = auto()
    NO_CALL_AFTER_UNLOCK = auto()
    BIT_BEFORE_STATE = auto()
    WIPE_SLOTS_IN_USE = auto()
    FORGET_ROW_IN_USE = auto()


@dataclass(frozen=True)
class Setting:
    """Who does what, and which accidents may happen, how often."""

    operations: tuple[int, ...]  # of each caller: A, B, ...
    time_outs: bool = True  # a sleep may end by itself at any time
    gives_up: bool = False  # the busy timeout may be over at any time
    must_rest: bool = False  # the gate may order to rest at any time
    refuses: bool = False  # the gate may keep the turn for another, though the lock is free
    batch_ends: bool = False  # BATCH_US may be over at any time
    fails_alone: bool = False  # any operation may fail
    crashes: int = 0
    commit_failures: int = 0
    undone: int = 0  # SQLite rolls back by itself, in the midst of a transaction
    wipes: int = 0  # the file is wiped while it is in use
    deletions: int = 0  # it is deleted while it is in use
    foreigners: int = 0  # writers that know nothing of the gate
    strangers: int = 0  # writers that come through the gate, and do nothing for others
    buriers: int = 0  # who call slots_bury
    forgetters: int = 0  # housekeepers that drop old rows
    slots: int = 0  # how many there are to join; 0: each caller has its own from the start
    prefix: tuple[tuple[int, str], ...] = ()  # who goes on first, alone, until it is about to do what
    flaws: frozenset[Flaw] = frozenset()

    @property
    def slot_count(self) -> int:
        return self.slots or len(self.operations)


# -- steps ------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One atomic step: what C or SQL calls it, on which word, with what."""

    name: str
    at: int = -1
    first: Any = None
    second: Any = None


Program: TypeAlias = Generator[Step, Any, T]


def load64(at: int) -> Step:
    return Step("load64", at)


def store64(at: int, value: object) -> Step:
    return Step("store64", at, value)


def swap64(at: int, known: int, new: int) -> Step:
    return Step("swap64", at, known, new)


def or64(at: int, bits: int) -> Step:
    return Step("or64", at, bits)


def and64(at: int, bits: int) -> Step:
    return Step("and64", at, bits)


def add32(at: int) -> Step:
    return Step("add32", at)


def platform_wake(at: int) -> Step:
    return Step("platform_wake", at)


def choose(*options: int) -> Step:
    """What the model leaves open: all of it happens."""
    return Step("choose", -1, options)


class Layout:
    """Where the words of each file lie in the model's memory."""

    HEAD: Final = ("retired", "holder", "generation", "submitted")
    SLOT: Final = ("calls", "state", "ticket", "content")

    def __init__(self, files: int, slots: int) -> None:
        self.files, self.slots = files, slots
        self.length = len(self.HEAD) + slots * len(self.SLOT)
        one = [*self.HEAD, *(f"{name}[{slot}]" for slot in range(slots) for name in self.SLOT)]
        self.names = [name if file == 0 else f"{name} of file {file}" for file in range(files) for name in one]
        self.states = frozenset(self.slot(file, slot, "state") for file in range(files) for slot in range(slots))

    def head(self, file: int, name: str) -> int:
        return file * self.length + self.HEAD.index(name)

    def slot(self, file: int, slot: int, name: str) -> int:
        return file * self.length + len(self.HEAD) + slot * len(self.SLOT) + self.SLOT.index(name)


# -- any process ------------------------------------------------------------------------------------------------------


class Process:
    """What a process sees of the sidecar, and what every one may do there."""

    def __init__(self, setting: Setting, layout: Layout, pid: int) -> None:
        self.setting, self.layout, self.pid = setting, layout, pid
        self.view = 0  # which file is mapped
        self.keeps_side = False

    def variables(self) -> tuple[Any, ...]:
        """All that can change, for the explorer to tell one state from another."""
        return (self.view, self.keeps_side)

    def main(self) -> Program[None]:
        raise NotImplementedError

    def has(self, flaw: Flaw) -> bool:
        return flaw in self.setting.flaws

    def group(self, name: str) -> int:
        """A word of which the file has one."""
        return self.layout.head(self.view, name)

    def slots_of(self, slot: int, name: str) -> int:
        return self.layout.slot(self.view, slot, name)

    def state_of(self, slot: int) -> int:
        return self.slots_of(slot, "state")

    # sidecar.c

    def sidecar_renew(self) -> Program[None]:
        if self.setting.deletions == 0 or not (yield load64(self.group("retired"))):
            return
        self.view = yield Step("platform_map")

    # gate.c

    def gate_is_held(self) -> Program[bool]:
        holder: int = yield load64(self.group("holder"))
        return holder != 0

    def gate_rest_ordered(self) -> Program[bool]:
        """gate_rest_ordered_us: whether there is any."""
        ordered: int = (yield choose(0, 1)) if self.setting.must_rest else 0
        return ordered != 0

    # database_file.c

    def take_write_lock(self, at_once: bool) -> Program[bool]:
        if not self.keeps_side:
            yield from self.sidecar_renew()
        if not (yield Step("BEGIN" if at_once else "BEGIN, in turn")):
            return False
        yield store64(self.group("holder"), 1)  # gate_enter
        return True

    def give_write_lock_up(self) -> Program[None]:
        """What comes after COMMIT or ROLLBACK, which gave the lock itself back."""
        yield store64(self.group("holder"), 0)  # gate_leave
        if not self.has(Flaw.NO_CALL_AFTER_UNLOCK):
            yield from self.slots_call()

    # slots.c

    def first_in_turn(self, of: int) -> Program[int]:
        slots = tuple(slot for slot in range(self.layout.slots) if of >> slot & 1)
        if len(slots) == 1:
            return slots[0]
        chosen: int = yield choose(*slots)
        return chosen

    def slots_call(self) -> Program[None]:
        waiting: int = yield load64(self.group("submitted"))
        while waiting != 0:
            slot = yield from self.first_in_turn(waiting)
            yield add32(self.slots_of(slot, "calls"))
            if (yield platform_wake(self.slots_of(slot, "calls"))):
                return
            waiting &= ~(1 << slot)


# -- a handle that commits together with others -----------------------------------------------------------------------


class Caller(Process):
    """The whole of group.c, and the parts of slots.c that it alone uses."""

    def __init__(self, setting: Setting, layout: Layout, pid: int) -> None:
        super().__init__(setting, layout, pid)
        first = 1 + sum(setting.operations[:pid])
        self.operations = range(first, first + setting.operations[pid])
        self.own = SlotRequest(-1 if setting.slots else pid, 0, 0)
        self.mapping = -1 if setting.slots else 0  # the file where the slot is
        self.taken: tuple[SlotRequest, ...] = ()
        self.done: tuple[Entry, ...] = ()
        # What stands in the running transaction: nobody else sees it before COMMIT.
        self.effects: tuple[int, ...] = ()
        self.row: Row | None = None
        self.early: tuple[tuple[SlotRequest, Request], ...] = ()  # Flaw.TAKE_WITHOUT_LOCK

    def variables(self) -> tuple[Any, ...]:
        running = (self.taken, self.done, self.effects, self.row, self.early)
        return (*super().variables(), self.own, self.mapping, *running)

    def main(self) -> Program[None]:
        for operation in self.operations:
            told = yield from self.perform(operation)
            self.own = SlotRequest(self.own.slot, 0, 0)  # nobody looks at these again
            self.taken = self.done = ()
            yield Step("tell", operation, told)

    # -- slots.c: for the owner of a slot

    def move(self, request: SlotRequest, start: State, end: State, code: int) -> Step:
        return swap64(self.state_of(request.slot), word(request.number, start, 0), word(request.number, end, code))

    def slots_join(self) -> Program[int]:
        for slot in range(self.layout.slots):
            if not (yield Step("platform_try_lock", self.view, slot)):
                continue
            found: int = yield load64(self.state_of(slot))
            if state_in(found) != SLOT_TAKEN and (yield swap64(self.state_of(slot), found, word(0, SLOT_FREE, 0))):
                return slot
            yield Step("platform_unlock", self.view, slot)
        return -1

    def slots_submit(self) -> Program[None]:
        yield store64(self.slots_of(self.own.slot, "ticket"), self.own.ticket)
        if self.has(Flaw.BIT_BEFORE_STATE):
            yield or64(self.group("submitted"), 1 << self.own.slot)
        yield store64(self.state_of(self.own.slot), word(self.own.number, SLOT_SUBMITTED, 0))
        if not self.has(Flaw.BIT_BEFORE_STATE):
            yield or64(self.group("submitted"), 1 << self.own.slot)

    def slots_sleep(self) -> Program[int]:
        """Without `seen`: here `calls` only says whether there was one since its owner last looked."""
        end: int = yield Step("platform_wait", self.slots_of(self.own.slot, "calls"))
        return end

    def slots_is(self, state: State) -> Program[bool]:
        found: int = yield load64(self.state_of(self.own.slot))
        return found & _LOWER_HALF == word(self.own.number, state, 0)

    def slots_code(self) -> Program[int]:
        found: int = yield load64(self.state_of(self.own.slot))
        return found >> CODE_SHIFT

    def slots_withdraw(self) -> Program[bool]:
        if not (yield self.move(self.own, SLOT_SUBMITTED, SLOT_FREE, 0)):
            return False
        yield and64(self.group("submitted"), ~(1 << self.own.slot))
        return True

    def slots_take_back(self) -> Program[bool]:
        moved: bool = yield self.move(self.own, SLOT_TAKEN, SLOT_FREE, 0)
        return moved

    def slots_be_done(self) -> Program[bool]:
        found: int = yield load64(self.state_of(self.own.slot))
        if found & _LOWER_HALF != word(self.own.number, SLOT_ANSWERED, 0):
            return False
        moved: bool = yield swap64(self.state_of(self.own.slot), found, word(self.own.number, SLOT_FREE, 0))
        return moved

    # -- slots.c: for one who has the write lock

    def is_awaited(self, slot: int) -> Program[bool]:
        if (yield Step("platform_is_locked", self.view, slot)):
            return True
        is_fresh: int = yield choose(0, 1)  # of one who is dead, but was awake within FRESH_US
        return is_fresh != 0

    def slots_take(self, slot: int) -> Program[tuple[SlotRequest, Request] | None]:
        yield and64(self.group("submitted"), ~(1 << slot))
        found: int = yield load64(self.state_of(slot))
        if state_in(found) != SLOT_SUBMITTED:
            return None
        number = number_in(found)
        if not (yield from self.is_awaited(slot)):
            yield swap64(self.state_of(slot), found, word(number, SLOT_FREE, 0))
            return None
        if not (yield swap64(self.state_of(slot), found, word(number, SLOT_TAKEN, 0))):
            return None  # withdrawn just now
        ticket: int = yield load64(self.slots_of(slot, "ticket"))
        copy: Request = yield Step("copy_request", self.slots_of(slot, "content"))
        return SlotRequest(slot, number, ticket), copy

    def slots_unsettled(self, ours: frozenset[int]) -> Program[tuple[int, ...]]:
        tickets: tuple[int, ...] = ()
        for slot in range(self.layout.slots):
            state = state_in((yield load64(self.state_of(slot))))
            if state in (SLOT_TAKEN, SLOT_ANSWERED) and slot not in ours:
                ticket: int = yield load64(self.slots_of(slot, "ticket"))
                tickets += (ticket,)
                del ticket
            del state
        return tickets

    # -- slots.c: after the transaction

    def slots_answer(self, taken: SlotRequest, code: int) -> Program[None]:
        if not (yield self.move(taken, SLOT_TAKEN, SLOT_ANSWERED, code)):
            return  # its owner has found out by itself
        yield add32(self.slots_of(taken.slot, "calls"))
        yield platform_wake(self.slots_of(taken.slot, "calls"))

    def slots_generation(self) -> Program[int]:
        known: int = yield load64(self.group("generation"))
        if known != 0:
            return known
        made: int = yield Step("make_number")
        if (yield swap64(self.group("generation"), 0, made)):
            return made
        found: int = yield load64(self.group("generation"))
        return found

    # -- handle.c

    def execute_job(self, operation: int) -> Program[int]:
        if self.setting.fails_alone and (yield choose(0, 1)):
            return SQLITE_CONSTRAINT
        self.effects = (*self.effects, operation)
        return SQLITE_OK

    def is_rolled_back(self) -> Program[bool]:
        """sqlite3_get_autocommit after a failure: SQLite has rolled back, and so given the write lock back."""
        if self.setting.undone == 0 or not (yield Step("rolls back by itself")):
            return False
        self.effects, self.row = (), None
        yield Step("ROLLBACK")
        yield from self.give_write_lock_up()
        return True

    def end_scope(self, code: int) -> Program[int]:
        """COMMIT or ROLLBACK; neither if SQLite has rolled back by itself."""
        effects, row = self.effects, self.row
        self.effects, self.row = (), None
        if code == SQLITE_FULL:
            return code
        late = None
        if code != SQLITE_OK:
            yield Step("ROLLBACK")
        else:
            if self.has(Flaw.RECORD_AFTER_COMMIT):
                late, row = row, None
            code = yield Step("COMMIT", -1, effects, row)
        del effects, row
        yield from self.give_write_lock_up()
        if late is not None:
            yield Step("record", -1, late)
        return code

    # -- group.c: what was done, as the database knows it

    def carry_over(self, name: int, tickets: tuple[int, ...]) -> Program[None]:
        before: tuple[Entry, ...] = yield Step("SELECT GROUP_DONE", -1, name)
        self.done += tuple(entry for entry in before if entry.ticket in tickets)

    def record(self) -> Program[None]:
        tickets = yield from self.slots_unsettled(frozenset(taken.slot for taken in self.taken))
        name = yield from self.slots_generation()
        if tickets and not self.has(Flaw.NO_CARRY_OVER):
            yield from self.carry_over(name, tickets)
        self.row = (name, tuple(sorted(self.done)))

    def find_done(self) -> Program[int]:
        """The outcome, 0 for none."""
        if self.has(Flaw.NO_LOOK_AT_RECORD):
            return 0
        outcome: int = yield Step("SELECT GROUPS_DONE", -1, self.own.ticket)
        return outcome

    # -- group.c: doing what others have submitted

    def do_taken(self, taken: SlotRequest, request: Request) -> Program[int]:
        """A failure is one of the whole transaction; it may be that SQLite has undone everything."""
        code = yield from self.execute_job(request.operation)
        if (yield from self.is_rolled_back()):
            code = SQLITE_FULL
        if code == SQLITE_OK or self.has(Flaw.WRITE_RESULT_WITHOUT_LOCK):
            yield store64(self.slots_of(taken.slot, "content"), Result(request.operation))  # write_result
        if code == SQLITE_OK:
            self.done = (*self.done, Entry(taken.ticket, request.operation))
        return code

    def serve(self) -> Program[int]:
        self.done = self.done[:0]
        code = yield from self.do_early()
        waiting: int = yield load64(self.group("submitted"))
        while waiting != 0 and len(self.taken) < self.layout.slots:
            slot = yield from self.first_in_turn(waiting)
            waiting &= ~(1 << slot)
            code = yield from self.take_along(slot)
            if code != SQLITE_OK or (self.setting.batch_ends and (yield choose(0, 1))):
                break
            if waiting == 0:
                waiting = yield load64(self.group("submitted"))
        if code == SQLITE_OK and self.done:
            yield from self.record()
        return code

    def take_along(self, slot: int) -> Program[int]:
        """In C a part of `serve`."""
        found = yield from self.slots_take(slot)
        if found is None:
            return SQLITE_OK
        self.taken = (*self.taken, found[0])
        return (yield from self.do_taken(*found))

    def do_early(self) -> Program[int]:
        """Flaw.TAKE_WITHOUT_LOCK"""
        while self.early:
            (taken, copy), self.early = self.early[0], self.early[1:]
            self.taken = (*self.taken, taken)
            yield from self.do_taken(taken, copy)
        return SQLITE_OK

    def lead(self, operation: int) -> Program[Told]:
        code = yield from self.execute_job(operation)
        if (yield from self.is_rolled_back()) and not self.has(Flaw.SERVE_WITHOUT_TRANSACTION):
            code = SQLITE_FULL  # in execute_job or handover_claim
        self.taken = ()
        if code == SQLITE_OK and ((yield load64(self.group("submitted"))) != 0 or self.early):
            failure = yield from self.serve()
            if failure != SQLITE_OK:
                return (yield from self.start_over(operation, failure))
            del failure
        if self.has(Flaw.ANSWER_BEFORE_COMMIT):
            yield from self.answer_taken(code)
        code = yield from self.end_scope(code)
        yield from self.answer_taken(code)
        return Told(code, operation)

    def start_over(self, operation: int, failure: int) -> Program[Told]:
        is_rolled_back = failure == SQLITE_FULL
        yield from self.end_scope(SQLITE_FULL if is_rolled_back else SQLITE_ABORT)
        del is_rolled_back
        yield from self.answer_taken(UNDONE)
        yield from self.take_write_lock(at_once=False)
        code = yield from self.execute_job(operation)
        if (yield from self.is_rolled_back()):
            code = SQLITE_FULL
        return Told((yield from self.end_scope(code)), operation)

    def answer_taken(self, code: int) -> Program[None]:
        while self.taken:
            taken, self.taken = self.taken[0], self.taken[1:]
            yield from self.slots_answer(taken, code)

    def lead_in_turn(self, operation: int) -> Program[Told]:
        yield from self.take_write_lock(at_once=False)
        return (yield from self.lead(operation))

    # -- group.c: having it done by others

    def join(self) -> Program[bool]:
        if self.mapping != self.view:
            self.own, self.mapping = SlotRequest(-1, 0, 0), self.view
            slot = yield from self.slots_join()
            self.own = SlotRequest(slot, 0, 0)
        return self.own.slot >= 0

    def submit(self, operation: int) -> Program[bool]:
        if not (yield from self.join()):
            return False
        yield store64(self.slots_of(self.own.slot, "content"), Request(operation))
        ticket = operation
        number = 0 if self.has(Flaw.NO_NUMBER_IN_STATE) else ticket & SLOT_NUMBER_MASK
        self.own = SlotRequest(self.own.slot, number, ticket)
        yield from self.slots_submit()
        return True

    def take_answer(self) -> Program[Told | None]:
        code = yield from self.slots_code()
        content: Request | Result | None = yield load64(self.slots_of(self.own.slot, "content"))
        if code != SQLITE_OK:
            answer = Told(code, 0)
        elif isinstance(content, Result):
            answer = Told(SQLITE_OK, content.operation)
        elif content is None:
            answer = Told(SQLITE_OK, 0)  # zeros: a claim that found nothing
        else:
            return None
        del content
        yield from self.slots_be_done()
        return answer

    def is_undone(self) -> Program[bool]:
        is_so = (yield from self.slots_is(SLOT_ANSWERED)) and (yield from self.slots_code()) == UNDONE
        return is_so and (yield from self.slots_be_done())

    def settle(self, operation: int) -> Program[Told]:
        if not self.has(Flaw.NO_WITHDRAWAL) and (yield from self.slots_withdraw()):
            return (yield from self.lead(operation))
        if (yield from self.is_undone()):
            return (yield from self.lead(operation))
        outcome = yield from self.find_done()
        answer = None
        if outcome == 0:
            if (yield from self.slots_is(SLOT_ANSWERED)):
                answer = yield from self.take_answer()
            if answer is None:
                yield from self.slots_take_back()
                return (yield from self.lead(operation))
        yield from self.end_scope(SQLITE_ABORT)
        if answer is not None:
            return answer
        if not (yield from self.slots_take_back()):
            yield from self.slots_be_done()
        return Told(SQLITE_OK, outcome)  # result_of

    def follow(self, operation: int) -> Program[Told]:
        impatient = False
        trusts = self.has(Flaw.NO_LOOK_AT_GATE_AFTER_SUBMIT)  # that somebody has the lock, as it was before
        while True:
            yield Step("look", self.slots_of(self.own.slot, "calls"))  # seen = load32
            if (yield from self.is_undone()):
                return (yield from self.lead_in_turn(operation))
            if (yield from self.slots_is(SLOT_ANSWERED)):
                answer = yield from self.take_answer()
                if answer is not None:
                    return answer
                del answer
            if self.setting.gives_up and (yield choose(0, 1)) and (yield from self.slots_withdraw()):
                return Told(SQLITE_BUSY, 0)  # give_up
            ordered = yield from self.gate_rest_ordered()
            if not ordered and (impatient or not (trusts or (yield from self.gate_is_held()))):
                if (yield from self.take_write_lock(at_once=True)):
                    return (yield from self.settle(operation))
                if self.has(Flaw.TAKE_BACK_WITHOUT_LOCK) and (yield from self.slots_take_back()):
                    return (yield from self.lead_in_turn(operation))
            trusts = False
            impatient = (yield from self.slots_sleep()) == WAIT_TIMED_OUT

    # -- group.c: the entry

    def perform_in_group(self, operation: int) -> Program[Told]:
        may_ask = not (yield from self.gate_is_held()) and not (yield from self.gate_rest_ordered())
        if may_ask and (yield from self.take_write_lock(at_once=True)):
            return (yield from self.lead(operation))
        del may_ask
        if self.has(Flaw.TAKE_WITHOUT_LOCK) and (yield from self.take_early()):
            return (yield from self.lead_in_turn(operation))
        self.keeps_side = True
        is_submitted = yield from self.submit(operation)
        told = yield from self.follow(operation) if is_submitted else self.lead_in_turn(operation)
        self.keeps_side = False
        return told

    def take_early(self) -> Program[bool]:
        """Flaw.TAKE_WITHOUT_LOCK"""
        waiting: int = yield load64(self.group("submitted"))
        if waiting != 0:
            found = yield from self.slots_take((yield from self.first_in_turn(waiting)))
            self.early = () if found is None else (found,)
        return bool(self.early)

    def perform(self, operation: int) -> Program[Told]:
        yield from self.sidecar_renew()
        return (yield from self.perform_in_group(operation))


# -- the others -------------------------------------------------------------------------------------------------------


class Foreigner(Process):
    """A writer with SQLite's own VFS: nobody knows that it has the lock, and it calls nobody."""

    def main(self) -> Program[None]:
        yield Step("BEGIN, in turn")
        yield Step("ROLLBACK")


class Stranger(Process):
    """A writer that comes through the gate, such as a caller's own transaction."""

    def main(self) -> Program[None]:
        yield from self.take_write_lock(at_once=False)
        yield Step("ROLLBACK")
        yield from self.give_write_lock_up()


class Burier(Process):
    """Who has the write lock drops what was taken of callers who are dead."""

    def main(self) -> Program[None]:
        if self.has(Flaw.BURY_WITHOUT_LOCK):
            yield from self.slots_bury()
            return
        yield from self.take_write_lock(at_once=False)
        yield from self.slots_bury()
        yield Step("ROLLBACK")
        yield from self.give_write_lock_up()

    def slots_bury(self) -> Program[None]:
        for slot in range(self.layout.slots):
            found: int = yield load64(self.state_of(slot))
            if state_in(found) == SLOT_TAKEN and not (yield Step("platform_is_locked", self.view, slot)):
                yield swap64(self.state_of(slot), found, word(0, SLOT_FREE, 0))


class Forgetter(Process):
    """FORGET_GROUPS of sql.py: a housekeeper drops the rows of files that nobody uses any more."""

    def main(self) -> Program[None]:
        yield from self.take_write_lock(at_once=False)
        yield Step("DELETE FORGET_GROUPS", -1, "all" if self.has(Flaw.FORGET_ROW_IN_USE) else "of files not in use")
        yield from self.give_write_lock_up()


class Wiper(Process):
    """wipe of sidecar.c, on a file that others use."""

    def main(self) -> Program[None]:
        if self.has(Flaw.WIPE_SLOTS_IN_USE):
            yield store64(self.group("generation"), 0)
        yield Step("memset", -1, (self.group("retired"), self.group("holder")))
        if self.has(Flaw.WIPE_SLOTS_IN_USE):
            slots = range(self.layout.slots)
            states = tuple(self.state_of(slot) for slot in slots)
            yield Step("memset", -1, (self.group("submitted"), self.group("generation"), *states))
            rest = (name for name in Layout.SLOT if name != "state")
            yield Step("memset", -1, tuple(self.slots_of(slot, name) for name in rest for slot in slots))


class Deleter(Process):
    """The file is deleted, and whoever notices tells those who use it."""

    def main(self) -> Program[None]:
        yield Step("unlink")
        yield store64(self.group("retired"), 1)
