"""Without a terminal a long run says now and then how far it is; a short one says nothing."""

import pytest

from bench import progress


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with progress.live_line("group", 8) as update:
        for number in range(8):
            update(number, f"round {number + 1}")
            now[0] += 40
    assert capsys.readouterr().err.splitlines() == [
        "group: 25%, round 3; about 4 min left",
        "group: 50%, round 5; about 3 min left",
        "group: 75%, round 7; about 80 s left",
    ]


def test_a_short_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.live_line("bare", 0) as update:
        update(0, "round 1")
    assert capsys.readouterr().err == ""
