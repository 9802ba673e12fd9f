"""Wrong usage is refused before anything runs; what ran is in its results."""

import json
from pathlib import Path

import pytest

from bench.command import COMMANDS, GROUPS, SHOWING, main


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--producers", "0"], "at least 1"),
        (["--workers", "two"], "invalid"),
        (["--seconds", "-1"], "more than 0"),
        (["--seconds", "inf"], "more than 0"),
        (["--rate", "0"], "more than 0"),
        (["--durability", "maybe"], "invalid choice"),
        (["--driver", "jdbc"], "invalid choice"),
        (["--payload-bytes", "5"], "--payload-bytes"),
        (["--phase", "paced"], "--rate"),
        (["--phase", "closed", "--rate", "5"], "--rate"),
        (["--path", "no/such/folder"], "no such folder"),
        (["--json", "no/such/folder/x.json"], "no such folder"),
        (["--nonsense"], "unrecognized"),
        (["bare", "--rounds", "0"], "at least 1"),
        (["costs", "--only", "nothing like it"], "no variant"),
        (["flat", "--depths", "1000"], "at least two"),
        (["flat", "--depths", "1000", "1000"], "at least two"),
        (["flat", "--depths", "49", "1000"], "none below 50"),
        (["guard", "--tasks", "100"], "needs --update"),
        (["guard", "--tasks", "150", "--update"], "a multiple of 100"),
        (["guard", "--baseline", "no/such/file.json"], "no such file"),
        (["guard", "--baseline", "no/such/file.json", "--update"], "no such folder"),
    ],
)
def test_usage_errors(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *(name for name in COMMANDS if name != "readme")])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m bench {command}".strip() in said
    assert "example" in said
    assert ("exit status" in said) == (command not in ("bare", "costs"))


def test_the_help_names_every_command_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m bench ")]
    named = [line[3] for line in lines if len(line) > 3 and not line[3].startswith("-")]
    assert named == list(COMMANDS) == [name for commands in GROUPS.values() for name in commands]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("costs --operations 5 --no-instructions", "python -m bench costs --operations 5 --no-instructions"),
        ("costs --operations=5 --no-ins --only ready", "python -m bench costs --operations=5 --no-ins --only ready"),
        ("takeover --rounds 1", "python -m bench takeover --rounds 1"),
        (
            "--producers 1 --workers 1 --seconds 0.2 --phase closed --keep",
            "python -m bench --producers 1 --workers 1 --seconds 0.2 --phase closed",
        ),
        (
            "run --scenario steady --seconds 0.2 --phase closed",
            "python -m bench run --scenario steady --seconds 0.2 --phase closed",
        ),
    ],
)
def test_results_say_by_which_command(given: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    main([*given.split(), f"--json={file}", "--path", str(tmp_path)])
    assert json.loads(file.read_text(encoding="utf-8"))["command"] == said


def test_what_only_shows_results_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    for command in SHOWING:
        with pytest.raises(SystemExit):
            main([command, "--json", "x.json"])
        assert "unrecognized arguments: --json" in capsys.readouterr().err


def test_importing_the_entry_point_runs_nothing(tmp_path: Path) -> None:
    import bench.__main__  # noqa: F401
