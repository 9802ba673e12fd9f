"""Task handlers named in a configuration file: everything in it is registered, or nothing."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from prismq import config_files
from prismq.errors import ConfigError, HandlerConfigError, TaskHandlerAlreadyRegisteredError
from prismq.handlers import TaskHandlerInfo, TaskHandlerRegistry, get_global_registry
from prismq.retry import RetryConfig

_REQUIRED: Final = ("task_type", "module", "function")
_OPTIONAL: Final = tuple(field.name for field in fields(TaskHandlerInfo) if field.name not in ("task_type", "handler"))


class TaskHandlerConfigLoader:
    """Registers the handlers that a file names."""

    def load_from_file(
        self, path: str | os.PathLike[str], registry: TaskHandlerRegistry, allow_override: bool = False
    ) -> int:
        """Register them all and return how many, or register none: HandlerConfigError, FileNotFoundError.

        The file is an object with the key "handlers": a list of objects with task_type, module (a dotted name) and
        function (its name in there), and, if wanted, the further arguments of TaskHandlerInfo.
        """
        try:
            values = config_files.load(path)
        except ConfigError as error:
            raise HandlerConfigError(str(error)) from error
        try:
            handlers = _handlers(values)
        except ConfigError as error:
            raise HandlerConfigError(f"{path}: {error}") from error
        try:
            registry.register_all(handlers, allow_override)
        except TaskHandlerAlreadyRegisteredError as error:
            index = [info.task_type for info in handlers].index(error.task_type)
            raise HandlerConfigError(f"{path}: handlers[{index}]: {error}") from error
        return len(handlers)


def load_handlers_from_config(
    path: str | os.PathLike[str], registry: TaskHandlerRegistry | None = None, allow_override: bool = False
) -> TaskHandlerRegistry:
    """Register the handlers that a file names, by default in the global registry, and return the registry."""
    registry = get_global_registry() if registry is None else registry
    TaskHandlerConfigLoader().load_from_file(path, registry, allow_override)
    return registry


def _handlers(values: Mapping[str, Any]) -> list[TaskHandlerInfo]:
    config_files.check_keys(values, ("handlers",), (), "the file")
    entries = values["handlers"]
    if not isinstance(entries, list):
        raise HandlerConfigError(f"handlers is {entries!r:.100}; it must be a list of objects")
    handlers: list[TaskHandlerInfo] = []
    first_of_type: dict[str, int] = {}
    for index, entry in enumerate(entries):
        info = _handler(entry, f"handlers[{index}]")
        first = first_of_type.setdefault(info.task_type, index)
        if first != index:
            raise HandlerConfigError(
                f"handlers[{index}].task_type is {info.task_type!r}, as that of handlers[{first}]: keep one of the two"
            )
        handlers.append(info)
    return handlers


def _handler(entry: object, place: str) -> TaskHandlerInfo:
    if not isinstance(entry, dict):
        raise HandlerConfigError(f"{place} is {entry!r:.100}; it must be an object with {', '.join(_REQUIRED)}")
    config_files.check_keys(entry, _REQUIRED, _OPTIONAL, place)
    for name in _REQUIRED:
        if not isinstance(entry[name], str) or not entry[name].strip():
            raise HandlerConfigError(f"{place}.{name} is {entry[name]!r:.100}; it must be text with something in it")
    options = {name: entry[name] for name in _OPTIONAL if name in entry}
    function = _function(entry["module"], entry["function"], place)
    try:
        if options.get("retry") is not None:
            options["retry"] = RetryConfig.from_dict(options["retry"])
        return TaskHandlerInfo(entry["task_type"], function, **options)
    except ValueError as error:
        raise HandlerConfigError(f"{place}: {error}") from error


def _function(module_name: str, name: str, place: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # what a module raises while it is imported is its own
        raise HandlerConfigError(
            f"{place}.module is {module_name!r}, which can't be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        there = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise HandlerConfigError(
            f"{place}.function is {name!r}, which module {module_name!r} does not have; "
            f"its functions are {there or 'none'}"
        )
    function = getattr(module, name)
    if not callable(function):
        raise HandlerConfigError(f"{place}.function is {name!r}, which is not callable: it is {function!r:.100}")
    return function
