"""Wrong usage of these commands is refused before anything runs."""

import pytest

from bench.command import main


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["soak", "--processes", "1"], "at least 2"),
        (["soak", "--seconds", "30", "--snapshot-seconds", "15.1"], "at most half"),
        (["wake", "--samples", "0"], "at least 1"),
        (["idle", "--seconds", "0"], "more than 0"),
        (["group", "--processes", "0"], "at least 1"),
        (["group", "--rounds", "0"], "at least 1"),
        (["group", "--seconds", "0"], "more than 0"),
        (["group", "--durability", "maybe"], "invalid choice"),
        (["group", "--rate", "5"], "unrecognized"),
        (["pairs", "--producers", "0"], "at least 1"),
        (["pairs", "--workers", "0"], "at least 1"),
        (["pairs", "--rounds", "0"], "at least 1"),
        (["pairs", "--seconds", "-1"], "more than 0"),
        (["pairs", "--durability", "maybe"], "invalid choice"),
        (["workers", "--tasks", "0"], "at least 1"),
        (["workers", "--prefetch", "-1"], "at least 1"),
    ],
)
def test_usage_errors(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["wake", "idle", "soak", "group", "pairs", "workers"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert "exit status" in said
