"""Settings come from arguments, a file or mapping, the environment, and defaults, in that order, and take effect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from prismq import (
    PRAGMAS,
    InvalidSettingsError,
    QueueBusyError,
    QueueDatabase,
    QueueDatabaseError,
    Settings,
    TaskQueue,
    native,
    sql,
)
from prismq.driver import DriverName
from prismq.housekeeping import Checkpointer, delay_us
from prismq.settings import load_settings

OPEN = Callable[..., TaskQueue]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file."""
    file = tmp_path / "prismq.toml"
    file.write_text("# chosen on a quiet day\ncache_size = -4000\nid_block = 10\n", encoding="utf-8")
    return file


def pragma(database: QueueDatabase, name: str) -> Any:
    return database.execute(f"PRAGMA {name}").fetchone()[0]


# -- where they come from ---------------------------------------------------------------------------------------------


def test_the_defaults_are_the_promised_pragmas(path: Path) -> None:
    assert Settings().pragmas == PRAGMAS
    assert list(Settings().pragmas) == list(PRAGMAS)
    assert QueueDatabase(path).settings == Settings()


@pytest.mark.parametrize("kind", ["text", "path", "mapping", "object"])
def test_settings_are_a_path_a_mapping_or_an_object(path: Path, file: Path, kind: str) -> None:
    given: dict[str, Any] = {
        "text": str(file),
        "path": file,
        "mapping": {"cache_size": -4000, "id_block": 10},
        "object": Settings(cache_size=-4000, id_block=10),
    }
    with TaskQueue(path, settings=given[kind]) as queue:
        assert queue.database.settings == Settings(cache_size=-4000, id_block=10)
        assert pragma(queue.database, "cache_size") == -4000


def test_arguments_go_before_settings_which_go_before_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMQ_SETTINGS", str(file))
    assert load_settings() == Settings(cache_size=-4000, id_block=10)
    assert load_settings({"id_block": 20}) == Settings(cache_size=-4000, id_block=20)
    assert load_settings({"durability": "full"}, durability="normal", group_commit=None).durability == "normal"
    assert load_settings({"durability": "full"}, durability=None).durability == "full"
    assert load_settings(Settings()) == Settings()  # complete: nothing is asked of the environment
    assert load_settings(Settings(), durability="full") == Settings(durability="full")
    monkeypatch.setenv("PRISMQ_SETTINGS", "")
    assert load_settings() == Settings()


def test_the_switch_for_group_commit_goes_before_the_environments_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("group_commit = true\n", encoding="utf-8")
    monkeypatch.setenv("PRISMQ_SETTINGS", str(file))
    monkeypatch.setenv("PRISMQ_GROUP_COMMIT", "0")
    assert not load_settings().group_commit
    assert load_settings({"group_commit": True}).group_commit


def test_a_database_keeps_its_settings_and_a_queue_does_not_change_them(path: Path) -> None:
    with QueueDatabase(path, settings={"durability": "full"}) as database:
        assert (database.durability, database.group_commit) == ("full", True)
        with pytest.raises(ValueError, match="say them there"):
            TaskQueue(database, settings={})
        with TaskQueue(database) as queue:
            assert queue.database.durability == "full"
    with pytest.raises(FrozenInstanceError):
        Settings().id_block = 3  # type: ignore[misc]


def test_another_process_follows_the_environments_file(queue: TaskQueue, path: Path, file: Path) -> None:
    queue.enqueue("t")
    script = "import sys, prismq; print(prismq.TaskQueue(sys.argv[1]).database.settings.as_dict())"
    environment = {**os.environ, "PRISMQ_SETTINGS": str(file)}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str(Settings(cache_size=-4000, id_block=10).as_dict())


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("cache_sise = 1", r"'cache_sise' is no setting; did you mean cache_size\?"),
        ("synchronous = 'off'", r"'synchronous' is no setting; durability decides that"),
        ("[sqlite]\ncache_size = 1", r"'sqlite' is no setting"),
        ("durability = 'fast'", r"durability is 'fast'; allowed is one of 'normal', 'full'"),
        ("durability = 1", r"durability is 1; allowed is one of"),
        ("group_commit = 1", r"group_commit is 1; allowed is true or false"),
        ("page_size = 5000", r"page_size is 5000; allowed is a power of two from 512 to 65,536 bytes"),
        ("page_size = true", r"page_size is True; allowed is a power of two"),
        ("cache_size = 0", r"cache_size is 0; allowed is .* but not 0"),
        ("cache_size = 1e6", r"cache_size is 1000000.0; allowed is a whole number of pages"),
        ("mmap_size = -1", r"mmap_size is -1; allowed is a whole number of bytes from 0"),
        ("temp_store = 'ram'", r"temp_store is 'ram'; allowed is one of 'default', 'file', 'memory'"),
        ("busy_timeout = '5 s'", r"busy_timeout is '5 s'; allowed is a whole number of milliseconds"),
        ("id_block = 0", r"id_block is 0; allowed is a whole number of ids from 1"),
        ("checkpoint_bytes = 4096", r"checkpoint_bytes is 4096; allowed is a whole number of bytes from 65,536"),
        ("restart_bytes = 100000", r"none may be larger than the one that follows it"),
        ("wal_limit_bytes = 100000", r"restart_bytes is 16777216, more than wal_limit_bytes, 100000"),
        ("cache_size = ", r"this is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_before_anything_is_written(
    path: Path, file: Path, line: str, complaint: str
) -> None:
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InvalidSettingsError, match=complaint) as caught:
        TaskQueue(path, settings=file)
    assert str(caught.value).startswith(f"{file}: ")
    assert isinstance(caught.value, QueueDatabaseError)
    assert isinstance(caught.value, ValueError)
    assert not path.exists()


def test_a_file_that_is_not_there_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMQ_SETTINGS", str(tmp_path / "gone.toml"))
    with pytest.raises(InvalidSettingsError, match=r"gone\.toml: the settings can't be read \(No such file"):
        QueueDatabase(path)


def test_what_are_no_settings_at_all(path: Path) -> None:
    with pytest.raises(InvalidSettingsError, match=r"settings are a int; pass the path of a TOML file, a mapping"):
        QueueDatabase(path, settings=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingsError, match=r"^settings: cache_size is 'big'"):
        QueueDatabase(path, settings={"cache_size": "big"})
    with pytest.raises(InvalidSettingsError, match="durability is 'fast'"):
        QueueDatabase(path, durability="fast")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingsError, match="page_size is 100"):
        Settings(page_size=100)


# -- that they take effect --------------------------------------------------------------------------------------------


def test_pragmas_of_a_queues_connection(open_queue: OPEN) -> None:
    chosen = {
        "durability": "full",
        "cache_size": 300,
        "mmap_size": 1 << 20,
        "journal_size_limit": 1 << 20,
        "busy_timeout": 1234,
        "temp_store": "file",
    }
    queue = open_queue(settings=chosen)
    queue.enqueue("t")
    names = ("synchronous", "cache_size", "mmap_size", "journal_size_limit", "temp_store", "page_size", "journal_mode")
    assert [pragma(queue.database, name) for name in names] == [2, 300, 1 << 20, 1 << 20, 1, 4096, "wal"]


def test_memory_mapping_is_for_databases_without_a_queue(path: Path, driver: DriverName) -> None:
    with QueueDatabase(path) as database:
        database.execute("CREATE TABLE t (a)")
        assert pragma(database, "mmap_size") == PRAGMAS["mmap_size"]
        with TaskQueue(database, driver=driver) as queue:
            queue.enqueue("t")
        assert pragma(database, "mmap_size") == 0


@pytest.mark.parametrize("page_size", [512, 8192, 65536])
def test_the_first_one_chooses_the_page_size_of_the_file(open_queue: OPEN, page_size: int) -> None:
    first = open_queue(settings={"page_size": page_size})
    other = open_queue(settings={"page_size": 2048})
    for queue in (first, other):
        ids = queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 3000}}] * 50)
        assert len(set(ids)) == 50
        assert pragma(queue.database, "page_size") == page_size
    tasks = first.claim_many("w", 100)
    other.complete_many(tasks)
    assert pragma(first.database, "integrity_check") == "ok"


def test_the_busy_timeout_is_the_one_set(open_queue: OPEN, path: Path) -> None:
    patient, hasty = open_queue(), open_queue(settings={"busy_timeout": 500})
    patient.enqueue("t")
    hasty.enqueue("t")
    foreign = apsw.Connection(str(path))
    foreign.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(QueueBusyError, match=r"after waiting 0\.\d s"):
        hasty.enqueue("t")
    assert time.monotonic() - began < 3
    foreign.execute("ROLLBACK")
    foreign.close()
    assert patient.enqueue("t") == 3


def test_ids_are_reserved_in_blocks_of_the_size_set(open_queue: OPEN) -> None:
    queue = open_queue(settings={"id_block": 5})
    queue.enqueue("t")
    assert queue.database.execute("SELECT seq FROM sqlite_sequence").fetchone()[0] <= 6
    assert queue.enqueue_many([{"type": "t"}] * 40) == list(range(2, 42))


def test_those_who_share_a_file_with_other_settings_share_its_ids(open_queue: OPEN) -> None:
    queues = [open_queue(settings={"id_block": block}) for block in (1, 7, 1000)]
    ids = [queue.enqueue("t") for _ in range(30) for queue in queues]
    assert ids == list(range(1, 91))


@pytest.mark.parametrize(("checkpoint_bytes", "copied"), [(1 << 20, True), (16 << 20, False)])
def test_what_is_committed_is_copied_from_the_length_set(
    open_queue: OPEN, path: Path, checkpoint_bytes: int, copied: bool
) -> None:
    queue = open_queue(settings={"checkpoint_bytes": checkpoint_bytes, "restart_bytes": 16 << 20})
    queue.enqueue("t")
    housekeeper = queue.database.get_connection().housekeeper
    assert housekeeper is not None
    housekeeper.stop()
    queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 3000}}] * 1000)
    Checkpointer(queue.database).checkpoint(busy=True)
    assert (path.stat().st_size > 3_000_000) == copied


def test_a_commit_helps_from_the_length_set(open_queue: OPEN, path: Path) -> None:
    queue = open_queue(settings={"inline_checkpoint_bytes": 1 << 20})
    queue.enqueue("t")
    housekeeper = queue.database.get_connection().housekeeper
    assert housekeeper is not None
    housekeeper.stop()
    before = path.stat().st_size
    deadline = time.monotonic() + 30
    while path.stat().st_size < before + 500_000:  # nobody keeps house, which is noticed after a while
        queue.enqueue_many([{"type": "t", "payload": {"body": "x" * 3000}}] * 50)
        assert time.monotonic() < deadline


def test_writers_rest_from_a_quarter_of_the_limit_set() -> None:
    assert delay_us(24, 100) == 0
    assert 0 < delay_us(26, 100) < delay_us(60, 100) < delay_us(100, 100)
    assert delay_us(60, 1000) == 0


@pytest.mark.skipif(native.load() is None, reason="only the compiled module commits together")
def test_who_does_not_sync_does_nothing_for_those_who_do(path: Path) -> None:
    """Among processes of different durability a commit that was promised to be synced is never somebody else's."""
    with (
        TaskQueue(path, driver="native") as hasty,
        TaskQueue(path, driver="native", durability="full") as careful,
        QueueDatabase(path) as holder,
        ThreadPoolExecutor(2) as threads,
    ):
        assert hasty.group_commit == careful.group_commit == "on"
        led = 0
        for number in range(16):
            before = _records(holder)
            order = [hasty, careful][:: -1 if number % 2 else 1]
            with holder.transaction():
                begun = {}
                for queue in order:
                    begun[queue] = threads.submit(queue.enqueue, "t")
                    time.sleep(0.03)
            first, second = begun[hasty].result(60), begun[careful].result(60)
            if first < second:
                led += 1
                assert _records(holder) == before
        assert led > 0


def _records(database: QueueDatabase) -> list[Any]:
    return [bytes(row[0]) for row in database.execute(sql.GROUPS_DONE)]


def test_an_object_can_be_changed_into_another(path: Path) -> None:
    assert replace(Settings(), durability="full").pragmas["synchronous"] == "FULL"
    with pytest.raises(InvalidSettingsError, match="busy_timeout is -1"):
        replace(Settings(), busy_timeout=-1)


def test_every_setting_is_described() -> None:
    described = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", described, flags=re.MULTILINE) == list(Settings().as_dict())
