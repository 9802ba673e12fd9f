"""The handler registry: who runs which task type, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import prismq
from prismq import (
    RetryConfig,
    Task,
    TaskHandlerAlreadyRegisteredError,
    TaskHandlerInfo,
    TaskHandlerNotRegisteredError,
    TaskHandlerRegistry,
)


def resize(task: Task) -> str:
    return f"resized {task.id}"


def crop(task: Task) -> str:
    return f"cropped {task.id}"


@pytest.fixture
def registry() -> TaskHandlerRegistry:
    return TaskHandlerRegistry()


@pytest.fixture
def global_registry() -> Iterator[TaskHandlerRegistry]:
    """An empty global registry; whatever a test puts in is gone after it."""
    prismq.reset_global_registry()
    yield prismq.get_global_registry()
    prismq.reset_global_registry()


def test_a_registered_handler_is_found_by_its_type(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("resize", resize, "Makes images small", "2.1.0")
    assert registry.get_handler("resize")(Task(id=7)) == "resized 7"
    assert registry.get_handler_info("resize") == TaskHandlerInfo("resize", resize, "Makes images small", "2.1.0")
    assert registry.is_registered("resize")
    assert not registry.is_registered("crop")
    assert registry.get_handler_info("crop") is None


def test_defaults(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("resize", resize)
    info = registry.get_handler_info("resize")
    assert info is not None
    assert (info.description, info.version) == ("", "1.0.0")
    assert (info.timeout_seconds, info.retry, info.keep_result) == (None, None, False)


def test_decorators_register_and_leave_the_function_alone(registry: TaskHandlerRegistry) -> None:
    retry = RetryConfig(initial_delay_seconds=5)

    @registry.handler("thumbnail", description="d", version="3", timeout_seconds=1.5, retry=retry, keep_result=True)
    def thumbnail(task: Task) -> str:
        return "small"

    assert thumbnail(Task()) == "small"
    assert registry.get_handler_info("thumbnail") == TaskHandlerInfo("thumbnail", thumbnail, "d", "3", 1.5, retry, True)


def test_the_module_decorator_fills_the_global_registry(global_registry: TaskHandlerRegistry) -> None:
    @prismq.handler("fetch", timeout_seconds=10)
    async def fetch(task: Task) -> None: ...

    assert prismq.get_global_registry() is global_registry
    assert global_registry.get_handler("fetch") is fetch
    info = global_registry.get_handler_info("fetch")
    assert info is not None
    assert info.timeout_seconds == 10


def test_resetting_the_global_registry_makes_a_new_one(global_registry: TaskHandlerRegistry) -> None:
    global_registry.register_handler("resize", resize)
    prismq.reset_global_registry()
    assert prismq.get_global_registry().get_registered_types() == set()
    assert global_registry.get_registered_types() == {"resize"}


def test_a_type_has_one_handler_unless_it_is_replaced_on_purpose(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("resize", resize)
    with pytest.raises(TaskHandlerAlreadyRegisteredError, match="'resize' is already registered") as raised:
        registry.register_handler("resize", crop)
    assert "test_handlers.resize" in str(raised.value)
    assert "test_handlers.crop" in str(raised.value)
    assert registry.get_handler("resize") is resize
    registry.register_handler("resize", crop, allow_override=True)
    assert registry.get_handler("resize") is crop


def test_registering_several_is_all_or_nothing(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("crop", crop)
    both = [TaskHandlerInfo("resize", resize), TaskHandlerInfo("crop", resize)]
    with pytest.raises(TaskHandlerAlreadyRegisteredError, match="allow_override=True"):
        registry.register_all(both)
    assert registry.get_registered_types() == {"crop"}
    registry.register_all(both, allow_override=True)
    assert registry.get_handler("crop") is resize
    twice = [TaskHandlerInfo("new", resize), TaskHandlerInfo("new", crop)]
    with pytest.raises(TaskHandlerAlreadyRegisteredError, match="keep one of the two"):
        registry.register_all(twice, allow_override=True)
    assert not registry.is_registered("new")


def test_an_unknown_type_is_told_with_those_there_are(registry: TaskHandlerRegistry) -> None:
    with pytest.raises(TaskHandlerNotRegisteredError, match=r"No handler registered .*'crop'; none is registered"):
        registry.get_handler("crop")
    registry.register_handler("resize", resize)
    registry.register_handler("blur", resize)
    with pytest.raises(TaskHandlerNotRegisteredError, match="'crop'; registered are 'blur', 'resize'") as raised:
        registry.get_handler("crop")
    assert raised.value.task_type == "crop"
    assert raised.value.known_types == ["blur", "resize"]


def test_validate_task_names_the_task(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("resize", resize)
    registry.validate_task(Task(id=3, type="resize"))
    with pytest.raises(TaskHandlerNotRegisteredError, match="Cannot process task #4: No handler registered"):
        registry.validate_task(Task(id=4, type="crop"))


def test_unregister_and_clear(registry: TaskHandlerRegistry) -> None:
    registry.register_handler("resize", resize)
    registry.register_handler("crop", crop)
    assert registry.unregister_handler("resize")
    assert not registry.unregister_handler("resize")
    types = registry.get_registered_types()
    types.add("not in it")
    assert registry.get_registered_types() == {"crop"}
    registry.clear()
    assert registry.get_registered_types() == set()


def generator(task: Task) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task_type": ""}, "task_type cannot be empty"),
        ({"task_type": " \t"}, "task_type cannot be empty"),
        ({"task_type": 7}, "task_type is 7; it must be text"),
        ({"handler": None}, "must be callable, and is None"),
        ({"handler": "resize"}, "must be callable"),
        ({"handler": generator}, "generator function"),
        ({"description": None}, "description of the handler for 'resize' is None; it must be text"),
        ({"version": 2}, "version of the handler for 'resize' is 2; it must be text"),
        ({"timeout_seconds": 0}, "timeout_seconds .* is 0; it must be a number of seconds, at least 0.001"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds"),
        ({"timeout_seconds": True}, "timeout_seconds"),
        ({"timeout_seconds": "5"}, "timeout_seconds"),
        ({"retry": 3}, "retry of the handler for 'resize' is 3; it must be a RetryConfig"),
        ({"keep_result": 1}, "keep_result of the handler for 'resize' is 1; it must be True or False"),
    ],
)
def test_what_cannot_be_right_is_refused(
    registry: TaskHandlerRegistry, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        registry.register_handler(**{"task_type": "resize", "handler": resize, **arguments})
    assert registry.get_registered_types() == set()


def test_of_many_threads_that_register_one_type_one_succeeds(registry: TaskHandlerRegistry) -> None:
    together = threading.Barrier(8)

    def register(number: int) -> int:
        succeeded = 0
        together.wait()
        for n in range(200):
            try:
                registry.register_handler(f"type {n}", resize, description=str(number))
            except TaskHandlerAlreadyRegisteredError:
                continue
            succeeded += 1
        return succeeded

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(register, range(8))) == 200
    assert len(registry.get_registered_types()) == 200
