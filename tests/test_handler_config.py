"""Handlers named in a file: all of them are registered, or none, and each mistake is named by its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prismq
from prismq import (
    HandlerConfigError,
    RetryConfig,
    Task,
    TaskHandlerConfigLoader,
    TaskHandlerInfo,
    TaskHandlerRegistry,
    load_handlers_from_config,
)

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "config" / "task_handlers.json"
WRITE = Callable[[Any], Path]


@pytest.fixture
def registry() -> TaskHandlerRegistry:
    return TaskHandlerRegistry()


@pytest.fixture
def write(tmp_path: Path) -> WRITE:
    """Writes a handlers' file, from its entries or as it is given."""

    def write_one(content: Any) -> Path:
        path = tmp_path / "handlers.json"
        path.write_text(json.dumps({"handlers": content} if isinstance(content, list) else content))
        return path

    return write_one


def entry(task_type: str, function: str = "ok", **more: Any) -> dict[str, Any]:
    return {"task_type": task_type, "module": "tests.named_handlers", "function": function, **more}


def test_the_example_loads_and_its_handlers_run(
    registry: TaskHandlerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_handlers_from_config(EXAMPLE, registry) is registry
    versions = {}
    for task_type in sorted(registry.get_registered_types()):
        info = registry.get_handler_info(task_type)
        assert info is not None
        versions[task_type] = info.version
    assert versions == {
        "backup_database": "2.0.0",
        "generate_report": "1.2.0",
        "process_payment": "1.5.0",
        "send_email": "1.0.0",
    }
    for task_type, payload in {
        "send_email": {"to": "ada", "subject": "hello", "body": "..."},
        "generate_report": {"report_type": "sales", "format": "pdf", "filters": {"year": 2030}},
        "backup_database": {"database_name": "shop", "backup_path": "/backup", "compress": True},
        "process_payment": {"amount": 5, "currency": "EUR", "payment_method": "card", "customer_id": 7},
    }.items():
        registry.get_handler(task_type)(Task(type=task_type, payload=json.dumps(payload)))
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_all_settings_of_a_handler(write: WRITE, registry: TaskHandlerRegistry) -> None:
    from tests import named_handlers

    path = write(
        [
            entry("a"),
            entry("b", "later", description="d", version="2", timeout_seconds=1.5, keep_result=True,
                  retry={"max_delay_seconds": 9}),
            entry("c", description="", timeout_seconds=None, retry=None),
        ]
    )  # fmt: skip
    assert TaskHandlerConfigLoader().load_from_file(path, registry) == 3
    assert registry.get_handler_info("a") == TaskHandlerInfo("a", named_handlers.ok)
    assert registry.get_handler_info("b") == TaskHandlerInfo(
        "b", named_handlers.later, "d", "2", 1.5, RetryConfig(max_delay_seconds=9), True
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.yaml", "handlers:\n- {task_type: a, module: tests.named_handlers, function: ok}\n"),
        ("h.toml", '[[handlers]]\ntask_type = "a"\nmodule = "tests.named_handlers"\nfunction = "ok"\n'),
    ],
)
def test_other_formats(tmp_path: Path, registry: TaskHandlerRegistry, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert load_handlers_from_config(tmp_path / name, registry).get_registered_types() == {"a"}


def test_the_global_registry_is_the_default(write: WRITE) -> None:
    prismq.reset_global_registry()
    try:
        assert load_handlers_from_config(write([entry("a")])) is prismq.get_global_registry()
        assert prismq.get_global_registry().get_registered_types() == {"a"}
    finally:
        prismq.reset_global_registry()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", r"handlers\[1\] is 'text'; it must be an object with task_type, module, function"),
        ({"task_type": "b", "module": "m"}, r"handlers\[1\] lacks the key 'function'"),
        (
            entry("b", timeout=5),
            r"handlers\[1\] has the unknown key 'timeout'; known are task_type, module, function, d",
        ),
        (entry(""), r"handlers\[1\].task_type is ''; it must be text with something in it"),
        (entry("b", module=None), r"handlers\[1\].module is None; it must be text"),
        (entry("b", module="tests.no_such"), r"handlers\[1\].module is 'tests.no_such', which can't be imported: Modu"),
        (entry("b", module=".relative"), r"handlers\[1\].module is '.relative', which can't be imported"),
        (entry("b", module="tests.broken_handlers"), r"which can't be imported: RuntimeError: not today"),
        (
            entry("b", "gone"),
            r"handlers\[1\].function is 'gone', which module .* does not have; its functions are ok, l",
        ),
        (entry("b", "CONSTANT"), r"handlers\[1\].function is 'CONSTANT', which is not callable: it is 7"),
        (entry("b", "stream"), r"handlers\[1\]: the handler for 'b' is a generator function"),
        (entry("b", version=2), r"handlers\[1\]: version of the handler for 'b' is 2; it must be text"),
        (
            entry("b", timeout_seconds="5"),
            r"handlers\[1\]: timeout_seconds of the handler for 'b' is '5'; it must be a n",
        ),
        (entry("b", timeout_seconds=-5), r"handlers\[1\]: timeout_seconds"),
        (entry("b", keep_result="yes"), r"handlers\[1\]: keep_result of the handler for 'b' is 'yes'; it must be True"),
        (entry("b", retry=3), r"handlers\[1\]: retry is 3; it must be an object with initial_delay_seconds"),
        (entry("b", retry={"delay": 3}), r"handlers\[1\]: retry has the unknown key 'delay'; known are initial_delay"),
        (
            entry("b", retry={"backoff_multiplier": 0}),
            r"handlers\[1\]: RetryConfig.backoff_multiplier is 0; it must be",
        ),
        (entry("a"), r"handlers\[1\].task_type is 'a', as that of handlers\[0\]: keep one of the two"),
        (entry("known"), r"handlers\[1\]: a handler for task type 'known' is already registered"),
    ],
)
def test_one_bad_entry_and_nothing_is_registered(
    write: WRITE, registry: TaskHandlerRegistry, bad: Any, message: str
) -> None:
    registry.register_handler("known", print)
    path = write([entry("a"), bad, entry("z")])
    with pytest.raises(HandlerConfigError, match=message) as raised:
        load_handlers_from_config(path, registry)
    assert str(raised.value).startswith(f"{path}: ")
    assert registry.get_registered_types() == {"known"}
    assert registry.get_handler("known") is print


def test_known_types_are_replaced_on_purpose_only(write: WRITE, registry: TaskHandlerRegistry) -> None:
    registry.register_handler("known", print)
    load_handlers_from_config(write([entry("known"), entry("a")]), registry, allow_override=True)
    assert registry.get_handler("known") is not print
    assert registry.get_registered_types() == {"known", "a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "lacks the key 'handlers'"),
        ({"handler": []}, "has the unknown key 'handler'; known are handlers"),
        ({"handlers": {"a": 1}}, "handlers is {'a': 1}; it must be a list of objects"),
    ],
)
def test_a_file_of_another_shape(write: WRITE, registry: TaskHandlerRegistry, content: Any, message: str) -> None:
    with pytest.raises(HandlerConfigError, match=message):
        load_handlers_from_config(write(content), registry)


def test_files_that_cannot_be_read(tmp_path: Path, registry: TaskHandlerRegistry) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such configuration file"):
        load_handlers_from_config(tmp_path / "none.json", registry)
    broken = tmp_path / "broken.json"
    broken.write_text('{"handlers": [\n}')
    with pytest.raises(HandlerConfigError, match=r"Invalid JSON in .*broken.json, line 2, column 1"):
        load_handlers_from_config(broken, registry)
    with pytest.raises(HandlerConfigError, match="Unsupported configuration file format"):
        load_handlers_from_config(tmp_path / "handlers.ini", registry)


def test_a_module_that_failed_to_import_is_not_half_there(write: WRITE, registry: TaskHandlerRegistry) -> None:
    for _ in range(2):
        with pytest.raises(HandlerConfigError, match="not today"):
            load_handlers_from_config(write([entry("b", module="tests.broken_handlers")]), registry)
    assert "tests.broken_handlers" not in sys.modules
