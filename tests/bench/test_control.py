"""The control call is as long as it should be on any machine."""

from itertools import cycle

import pytest

from bench import control
from bench.control import CONTROL_SECONDS, SAMPLE_TURNS, control_turns, spin


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_turns_fill_the_time(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = CONTROL_SECONDS / speed
    disturbed = cycle([sample, sample, 100 * sample])
    monkeypatch.setattr(control, "_sample", lambda: next(disturbed))
    assert control_turns() == SAMPLE_TURNS * speed


def test_on_this_machine() -> None:
    turns = control_turns()
    assert turns >= 1
    spin(turns)
