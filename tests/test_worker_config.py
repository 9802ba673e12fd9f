"""The worker's settings: three file formats, the environment, arguments, and what each mistake is answered with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prismq import (
    ConfigError,
    JSONConfigLoader,
    RetryConfig,
    SchedulingStrategy,
    TOMLConfigLoader,
    WorkerConfig,
    WorkerConfigurationManager,
    YAMLConfigLoader,
    load_worker_config,
)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "config"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without a worker's variables."""
    for name in list(os.environ):
        if name.startswith("PRISMQ_WORKER_"):
            monkeypatch.delenv(name)
    return iter([None])


@pytest.fixture
def manager() -> WorkerConfigurationManager:
    return WorkerConfigurationManager()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    config = WorkerConfig("w")
    assert config.capabilities == {}
    assert config.scheduling_strategy is SchedulingStrategy.PRIORITY
    assert (config.lease_duration_seconds, config.poll_interval_seconds, config.max_false_starts) == (60, 1, 3)
    assert (config.types, config.concurrency, config.pool, config.processes) == (None, 1, "thread", 1)
    assert config.durability is None


def test_the_former_name_of_a_setting_still_counts(
    manager: WorkerConfigurationManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "w.json", '{"worker_id": "w", "max_retries": 1}')
    assert manager.load_from_file(path) == WorkerConfig("w", max_false_starts=1)
    monkeypatch.setenv("PRISMQ_WORKER_MAX_RETRIES", "2")
    assert manager.load_from_file(path) == WorkerConfig("w", max_false_starts=2)
    assert load_worker_config(path, max_retries=4) == WorkerConfig("w", max_false_starts=4)
    assert load_worker_config(path, max_false_starts=4) == WorkerConfig("w", max_false_starts=4)
    with pytest.raises(ConfigError, match="max_retries is -1; it must be a whole number"):
        load_worker_config(path, max_retries=-1)


@pytest.mark.parametrize(
    ("name", "strategy", "worker_id"),
    [
        ("worker_config.json", SchedulingStrategy.PRIORITY, "worker-1"),
        ("worker_priority.yaml", SchedulingStrategy.PRIORITY, "priority-worker"),
        ("worker_fifo.toml", SchedulingStrategy.FIFO, "fifo-worker"),
        ("worker_lifo.json", SchedulingStrategy.LIFO, "lifo-worker"),
        ("worker_weighted_random.yaml", SchedulingStrategy.WEIGHTED_RANDOM, "lottery-worker"),
    ],
)
def test_the_examples_load_as_they_are(name: str, strategy: SchedulingStrategy, worker_id: str) -> None:
    config = load_worker_config(EXAMPLES / name)
    assert (config.scheduling_strategy, config.worker_id) == (strategy, worker_id)


def test_every_example_is_under_test() -> None:
    assert len(list(EXAMPLES.glob("worker_*"))) == 5


FORMATS = {
    "w.json": '{"worker_id": "w", "scheduling_strategy": "LIFO", "capabilities": {"gpu": true, "zones": ["a", "b"]}, '
    '"poll_interval_seconds": 0.5, "types": ["mail"], "retry": {"initial_delay_seconds": 2}}',
    "w.yaml": "worker_id: w\nscheduling_strategy: LIFO\ncapabilities: {gpu: true, zones: [a, b]}\n"
    "poll_interval_seconds: 0.5\ntypes: [mail]\nretry: {initial_delay_seconds: 2}\n",
    "w.YML": "worker_id: w\nscheduling_strategy: Lifo\ncapabilities: {gpu: true, zones: [a, b]}\n"
    "poll_interval_seconds: 0.5\ntypes: [mail]\nretry: {initial_delay_seconds: 2}\n",
    "w.toml": 'worker_id = "w"\nscheduling_strategy = "LIFO"\npoll_interval_seconds = 0.5\ntypes = ["mail"]\n'
    'capabilities = {gpu = true, zones = ["a", "b"]}\nretry = {initial_delay_seconds = 2}\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_say_the_same(tmp_path: Path, manager: WorkerConfigurationManager, name: str) -> None:
    assert manager.load_from_file(write(tmp_path, name, FORMATS[name])) == WorkerConfig(
        "w",
        capabilities={"gpu": True, "zones": ["a", "b"]},
        scheduling_strategy=SchedulingStrategy.LIFO,
        poll_interval_seconds=0.5,
        types=("mail",),
        retry=RetryConfig(initial_delay_seconds=2),
    )


def test_what_an_editor_puts_in_front_of_the_text_is_no_part_of_it(tmp_path: Path) -> None:
    assert load_worker_config(write(tmp_path, "w.json", '\ufeff{"worker_id": "w"}')).worker_id == "w"


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "w.json", '{"worker_id": "file", "concurrency": 2, "max_false_starts": 1, "prefetch": 4}')
    monkeypatch.setenv("PRISMQ_WORKER_ID", "environment")
    monkeypatch.setenv("PRISMQ_WORKER_CONCURRENCY", "3")
    config = load_worker_config(path, concurrency=5, max_false_starts=None)
    assert config == WorkerConfig("environment", concurrency=5, max_false_starts=1, prefetch=4)
    assert load_worker_config(path, apply_env_overrides=False).worker_id == "file"
    assert load_worker_config(path, defaults={"prefetch": 9, "processes": 7}).to_dict() == {
        **WorkerConfig("environment", concurrency=3, max_false_starts=1, prefetch=4, processes=7).to_dict()
    }


def test_every_setting_has_a_variable(monkeypatch: pytest.MonkeyPatch, manager: WorkerConfigurationManager) -> None:
    for name, text in {
        "ID": "w",
        "CAPABILITIES": '{"region": "eu"}',
        "SCHEDULING_STRATEGY": "FIFO",
        "LEASE_DURATION_SECONDS": "90",
        "POLL_INTERVAL_SECONDS": "0.25",
        "MAX_RETRIES": "7",
        "TYPES": "mail, report",
        "CONCURRENCY": "4",
        "POOL": "process",
        "PREFETCH": "2",
        "RETRY": '{"jitter_factor": 0}',
        "TIMEOUT_SECONDS": "9.5",
        "HEARTBEAT_SECONDS": "10",
        "PROCESSES": "2",
        "GRACE_SECONDS": "5",
        "DURABILITY": "full",
    }.items():
        monkeypatch.setenv(f"PRISMQ_WORKER_{name}", text)
    expected = WorkerConfig(
        "w", {"region": "eu"}, SchedulingStrategy.FIFO, 90, 0.25, 7, ("mail", "report"), 4, "process", 2,
        RetryConfig(jitter_factor=0), 9.5, 10, 2, 5, "full",
    )  # fmt: skip
    assert manager.load_from_env() == load_worker_config() == expected


def test_variables_may_begin_with_another_prefix(
    monkeypatch: pytest.MonkeyPatch, manager: WorkerConfigurationManager
) -> None:
    monkeypatch.setenv("MAILER_ID", "mailer")
    monkeypatch.setenv("MAILER_PREFETCH", "3")
    assert manager.load_from_env("MAILER_") == WorkerConfig("mailer", prefetch=3)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("ID", "", "PRISMQ_WORKER_ID is ''; it must be text with something in it"),
        ("MAX_RETRIES", "many", "Invalid integer value for PRISMQ_WORKER_MAX_RETRIES: 'many'"),
        ("MAX_RETRIES", "-1", "PRISMQ_WORKER_MAX_RETRIES is -1; it must be a whole number, at least 0"),
        ("LEASE_DURATION_SECONDS", "1m", "Invalid number in PRISMQ_WORKER_LEASE_DURATION_SECONDS: '1m'"),
        ("LEASE_DURATION_SECONDS", "nan", "PRISMQ_WORKER_LEASE_DURATION_SECONDS is nan; it must be a number of sec"),
        ("CAPABILITIES", "{region: eu}", "Invalid JSON in PRISMQ_WORKER_CAPABILITIES"),
        ("CAPABILITIES", "[1]", "PRISMQ_WORKER_CAPABILITIES is \\[1\\]; it must be an object"),
        ("SCHEDULING_STRATEGY", "best", "PRISMQ_WORKER_SCHEDULING_STRATEGY is 'best'; it must be one of 'fifo', 'l"),
        ("TYPES", "mail,,report", "PRISMQ_WORKER_TYPES is .*; it must be text with something in it"),
        ("LEASE", "5", "PRISMQ_WORKER_LEASE is unknown; known are PRISMQ_WORKER_ID, PRISMQ_WORKER_CAPABILITIES"),
    ],
)
@pytest.mark.parametrize("from_file", [True, False])
def test_a_bad_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, message: str, from_file: bool
) -> None:
    monkeypatch.setenv("PRISMQ_WORKER_ID", "w")
    monkeypatch.setenv(f"PRISMQ_WORKER_{variable}", text)
    with pytest.raises(ConfigError, match=message):
        load_worker_config(write(tmp_path, "w.json", '{"worker_id": "w"}') if from_file else None)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("worker_id", "", "text with something in it"),
        ("worker_id", "  ", "text with something in it"),
        ("worker_id", 5, "text with something in it"),
        ("worker_id", None, "text with something in it"),
        ("capabilities", ["gpu"], "an object with text as its keys"),
        ("capabilities", "gpu", "an object with text as its keys"),
        ("scheduling_strategy", "random", "one of 'fifo', 'lifo', 'priority', 'weighted_random'"),
        ("scheduling_strategy", 1, "one of 'fifo'"),
        ("lease_duration_seconds", -60, "a number of seconds, at least 0.001"),
        ("lease_duration_seconds", 0, "a number of seconds"),
        ("lease_duration_seconds", "60", "a number of seconds"),
        ("lease_duration_seconds", True, "a number of seconds"),
        ("lease_duration_seconds", None, "a number of seconds"),
        ("poll_interval_seconds", -1, "a number of seconds"),
        ("poll_interval_seconds", 1e300, "a number of seconds"),
        ("max_false_starts", 1.5, "a whole number, at least 0"),
        ("max_false_starts", "3", "a whole number"),
        ("max_false_starts", True, "a whole number"),
        ("types", [], "a list with at least one task type"),
        ("types", "mail", "a list with at least one task type"),
        ("types", ["mail", ""], "text with something in it"),
        ("concurrency", 0, "a whole number, at least 1"),
        ("pool", "greenlet", "one of 'thread', 'process'"),
        ("prefetch", -1, "a whole number, at least 0"),
        ("retry", 3, "an object with initial_delay_seconds, max_delay_seconds"),
        ("retry", {"backof": 2}, "known are initial_delay_seconds"),
        ("retry", {"jitter_factor": -1}, "a finite number of at least 0"),
        ("timeout_seconds", 0, "a number of seconds, at least 0.001"),
        ("heartbeat_seconds", None, "a number of seconds"),
        ("processes", 0, "a whole number, at least 1"),
        ("durability", "fast", "one of 'normal', 'full'"),
        ("grace_seconds", -0.5, "a number of seconds, at least 0"),
    ],
)
def test_a_bad_value_is_answered_with_its_place_and_what_is_allowed(
    tmp_path: Path, manager: WorkerConfigurationManager, key: str, value: Any, allowed: str
) -> None:
    values = {"worker_id": "w", key: value}
    path = write(tmp_path, "w.json", json.dumps(values))
    with pytest.raises(ConfigError) as in_file:
        manager.load_from_file(path)
    assert str(in_file.value).startswith(f"{path}: {key} is {value!r}; ")
    assert allowed in str(in_file.value)
    with pytest.raises(ConfigError) as in_dict:
        manager.load_from_dict(values)
    assert allowed in str(in_dict.value)
    with pytest.raises(ConfigError) as in_code:
        WorkerConfig(**values)
    assert allowed in str(in_code.value)
    if value is not None:
        with pytest.raises(ConfigError) as as_argument:
            manager.load_from_dict({"worker_id": "w"}, **{key: value})
        assert str(as_argument.value).startswith(f"{key} is {value!r}; ")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.json", "", "Invalid JSON in .*w.json, line 1, column 1"),
        ("w.json", '{\n"worker_id": w}', "Invalid JSON in .*w.json, line 2, column 14"),
        ("w.json", '{"worker_id": "a", "worker_id": "b"}', "'worker_id' is there twice"),
        ("w.json", '{"worker_id": "a", "lease_duration_seconds": Infinity}', "Infinity is not JSON"),
        ("w.json", "[1]", "w.json holds a list; it must hold keys and values"),
        ("w.json", '{"worker_id": "w", "lease": 5}', "w.json has the unknown key 'lease'; known are worker_id, capabi"),
        ("w.json", "{}", "worker_id is missing: give it in the configuration file, as PRISMQ_WORKER_ID or"),
        ("w.yaml", "", "w.yaml is empty; it must hold keys and values"),
        ("w.yaml", "# nothing yet\n", "w.yaml is empty"),
        ("w.yaml", "just text", "w.yaml holds a str"),
        ("w.yaml", "worker_id: w\n  types: [", "Invalid YAML in .*w.yaml, line 2, column 8"),
        (
            "w.yaml",
            "worker_id: a\nworker_id: b\n",
            "Invalid YAML in .*w.yaml, line 2, column 1: the key 'worker_id' is",
        ),
        ("w.yaml", "worker_id: !!python/object:os.system {}", "Invalid YAML in .*w.yaml, line 1"),
        ("w.yaml", "worker_id: w\ncapabilities: {since: 2030-01-01}", "it must hold JSON values alone"),
        ("w.yaml", "worker_id: w\non: 1", "unknown key True"),
        ("w.toml", 'worker_id = "w"\nworker_id = "v"\n\n', "Invalid TOML in .*w.toml: Cannot overwrite a value"),
        ("w.toml", 'worker_id = "w"\ntypes = mail', "Invalid TOML in .*w.toml: .*line 2, column 9"),
        ("w.toml", "", "worker_id is missing"),
        ("w.ini", "[worker]", "Unsupported configuration file format: .*w.ini ends in '.ini'; use one of .json, .toml"),
        ("w", "", "Unsupported configuration file format"),
    ],
)
def test_a_bad_file_is_answered_with_its_name_and_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_worker_config(write(tmp_path, name, text))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_bytes(b'{"worker_id": "\xff"}')
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load_worker_config(path)


def test_a_file_that_is_nested_too_deep(tmp_path: Path) -> None:
    for name, text in (("w.json", "[" * 100_000), ("w.toml", "a = " + "[" * 5_000), ("w.yaml", "[" * 2_000)):
        with pytest.raises(ConfigError, match="Invalid"):
            load_worker_config(write(tmp_path, name, text))


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("w.json", "w.yaml", "w.toml"):
        with pytest.raises(FileNotFoundError, match=f"there is no such configuration file: .*{name}"):
            load_worker_config(tmp_path / name)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        load_worker_config(tmp_path / "folder.json")


def test_without_its_extra_a_format_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: WorkerConfigurationManager
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    with pytest.raises(ImportError, match=r'needs the extra "yaml": python -m pip install "prismq\[yaml\]"'):
        load_worker_config(write(tmp_path, "w.yaml", "worker_id: w"))
    with pytest.raises(ImportError, match=r"prismq\[toml\]"):
        manager.save_to_file(WorkerConfig("w"), tmp_path / "w.toml")
    assert load_worker_config(write(tmp_path, "w.toml", 'worker_id = "w"')).worker_id == "w"


@pytest.mark.parametrize("name", ["w.json", "w.yaml", "w.yml", "w.toml"])
def test_what_is_saved_loads_as_the_same(tmp_path: Path, manager: WorkerConfigurationManager, name: str) -> None:
    plain = WorkerConfig("w")
    full = WorkerConfig(
        "wörker", {"gpu": True, "zones": ["a", {"b": 1.5}]}, SchedulingStrategy.FIFO, 1.5, 0.25, 0, ("mail",), 2,
        "process", 1, RetryConfig(3), None, 5, 2, 0,
    )  # fmt: skip
    for config in (plain, full):
        manager.save_to_file(config, tmp_path / name)
        assert manager.load_from_file(tmp_path / name) == config


def test_saving_what_a_format_cannot_hold_leaves_the_file_alone(
    tmp_path: Path, manager: WorkerConfigurationManager
) -> None:
    path = write(tmp_path, "w.toml", "before")
    with pytest.raises(ConfigError, match=r"w.toml can't be written"):
        manager.save_to_file(WorkerConfig("w", {"nothing": None}), path)
    assert path.read_text() == "before"
    with pytest.raises(ConfigError, match="Unsupported configuration file format"):
        manager.save_to_file(WorkerConfig("w"), tmp_path / "w.ini")
    assert not (tmp_path / "w.ini").exists()


def test_a_loader_of_ones_own(tmp_path: Path, manager: WorkerConfigurationManager) -> None:
    class Lines:
        def load(self, path: Any) -> dict[str, Any]:
            return dict(line.split("=") for line in Path(path).read_text().splitlines())

    manager.register_loader(".INI", Lines())
    path = write(tmp_path, "w.ini", "worker_id=w\npool=process")
    assert manager.load_from_file(path) == WorkerConfig("w", pool="process")
    with pytest.raises(ConfigError, match="Unsupported"):
        WorkerConfigurationManager().load_from_file(path)
    with pytest.raises(ConfigError, match="pass an ending such as"):
        manager.register_loader("ini", Lines())
    with pytest.raises(ConfigError, match="an object with load"):
        manager.register_loader(".ini", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, 5, ["worker_id"], "worker_id"])
def test_a_loader_of_ones_own_that_reads_no_settings(
    tmp_path: Path, manager: WorkerConfigurationManager, content: Any
) -> None:
    class Loader:
        def load(self, path: Any) -> Any:
            return content

    manager.register_loader(".ini", Loader())
    with pytest.raises(ConfigError, match=r"w.ini .*; it must hold keys and values"):
        manager.load_from_file(write(tmp_path, "w.ini", ""))


@pytest.mark.parametrize("name", ["w.json", "w.yaml", "w.toml"])
def test_saving_where_no_file_can_be(tmp_path: Path, manager: WorkerConfigurationManager, name: str) -> None:
    for path in (tmp_path / "no" / "such" / name, tmp_path / "folder" / name):
        if path.parent.name == "folder":
            path.mkdir(parents=True)
        with pytest.raises(ConfigError, match=f"{name} can't be written: ") as error:
            manager.save_to_file(WorkerConfig("w"), path)
        assert isinstance(error.value.__cause__, OSError)


def test_the_loaders_read_any_mapping(tmp_path: Path) -> None:
    assert JSONConfigLoader().load(write(tmp_path, "a.txt", '{"a": [1]}')) == {"a": [1]}
    assert YAMLConfigLoader().load(write(tmp_path, "a.txt", "a: [1]")) == {"a": [1]}
    assert TOMLConfigLoader().load(write(tmp_path, "a.txt", "a = [1]")) == {"a": [1]}


def test_a_dict_that_is_none_and_unknown_arguments(manager: WorkerConfigurationManager) -> None:
    with pytest.raises(ConfigError, match=r"the worker configuration is \['w'\]; it must be a dict"):
        manager.load_from_dict(["w"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the call has the unknown key 'lease'"):
        manager.load_from_dict({"worker_id": "w"}, lease=3)
