"""A core of its own for a process, so that who is woken does not queue behind who wakes it."""

from __future__ import annotations

import os
import sys

from bench.actors import Seat
from bench.scenario import Scenario
from bench.troupe import Part


def own_core(part: Part, core: int, scenario: Scenario, seat: Seat) -> None:
    """Part: another part, kept on the core of that number where the system lets processes choose."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
    part(scenario, seat)
