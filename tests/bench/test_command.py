"""Wrong usage is refused before anything runs."""

from pathlib import Path

import pytest

from bench.command import main


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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["bare", "--help"], ["costs", "--help"], ["flat", "--help"], ["guard", "--help"]]
)
def test_help_has_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert "example" in capsys.readouterr().out


def test_importing_the_entry_point_runs_nothing(tmp_path: Path) -> None:
    import bench.__main__  # noqa: F401
