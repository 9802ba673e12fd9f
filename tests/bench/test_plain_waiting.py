"""The other side of a contest really waits as SQLite does, and only that is different."""

import subprocess
import sys
from pathlib import Path

import pytest
from interrupts import ROOT

SCRIPT = """
from pathlib import Path
import sys
from bench.scenario import Scenario
from bench.waiting import PlainWaiting

with {load}().open(Path(sys.argv[1])) as queue:
    assert queue.enqueue("t") == 1
    raw = queue.database.get_connection().apsw
    print(queue.driver_name, raw.open_vfs == "prismq", raw.pragma("busy_timeout"), raw.pragma("journal_mode"))
"""


def opened(load: str, path: Path) -> list[str]:
    command = [sys.executable, "-c", SCRIPT.format(load=load), str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("waiting")


def test_plain_waiting_is_sqlites_own(folder: Path) -> None:
    ours, theirs = (opened(load, folder / f"{load}.db") for load in ("Scenario", "PlainWaiting"))
    assert (ours[0], ours[3]) == (theirs[0], theirs[3])
    # SQLite says 0 where a busy handler that isn't its own is in place.
    assert theirs[1:3] == ["False", "5000"]
    assert ours[1] == str(ours[0] == "native")
