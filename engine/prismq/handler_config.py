"""Task handlers named in a configuration file: everything in it is registered, or nothing."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
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


def load_handlers(where: str) -> TaskHandlerRegistry:
    """The handlers in a module (a dotted name or a .py file) or in a configuration file; HandlerConfigError for none.

    A module's are those that `prismq.handler` registers while it is imported, or, for "module:name", those of the
    registry with that name in it.
    """
    target, name = _split(where)
    if Path(target).suffix.lower() not in config_files.LOADERS:
        return _of_module(target, name)
    if name is not None:
        raise HandlerConfigError(f"{where}: a configuration file has no registries; leave ':{name}' out")
    registry = load_handlers_from_config(target, TaskHandlerRegistry())
    if not registry.get_registered_types():
        raise HandlerConfigError(f"{where} has no handlers, so a worker would have nothing to do")
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
            f"{place}.module is {module_name!r}, which can't be imported: {_what(error)}"
        ) from error
    if not hasattr(module, name):
        there = ", ".join(key for key, value in vars(module).items() if inspect.isfunction(value))
        raise HandlerConfigError(
            f"{place}.function is {name!r}, which module {module_name!r} does not have; "
            f"its functions are {there or 'none'}"
        )
    function = getattr(module, name)
    if not callable(function):
        raise HandlerConfigError(f"{place}.function is {name!r}, which is not callable: it is {function!r:.100}")
    return function


def _of_module(target: str, name: str | None) -> TaskHandlerRegistry:
    try:
        module = _import_file(Path(target)) if target.endswith(".py") else importlib.import_module(target)
    except HandlerConfigError:
        raise
    except Exception as error:  # what a module raises while it is imported is its own
        raise HandlerConfigError(f"the handlers' module {target!r} can't be imported: {_what(error)}") from error
    registry = get_global_registry() if name is None else getattr(module, name, None)
    if isinstance(registry, TaskHandlerRegistry) and registry.get_registered_types():
        return registry
    there = ", ".join(key for key, value in vars(module).items() if isinstance(value, TaskHandlerRegistry))
    if name is None:
        fact = f"module {target!r} registers no handlers with @prismq.handler(...)"
    elif isinstance(registry, TaskHandlerRegistry):
        fact = f"the registry {name!r} of module {target!r} is empty"
    else:
        fact = f"module {target!r} has no registry {name!r}"
    raise HandlerConfigError(f"{fact}; " + (f"its registries are {there}" if there else "it has no registries"))


def _split(where: str) -> tuple[str, str | None]:
    target, colon, name = where.rpartition(":")
    # The colon behind a drive's letter is none of ours.
    return (target, name) if colon and name.isidentifier() and len(target) > 1 else (where, None)


def _import_file(path: Path) -> ModuleType:
    """As Python runs a script: its folder comes first on the path, so that processes find its functions by name."""
    path = path.resolve()
    if not path.is_file():
        raise HandlerConfigError(f"there is no file {path} with handlers")
    if "." in path.stem:  # which would mean a module of a package
        raise HandlerConfigError(
            f"{path} can't be imported: no module has a dot in its name; give the file a name without dots"
        )
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.import_module(path.stem)
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise HandlerConfigError(
            f"{path} can't be imported as {path.stem!r}, the name of another module "
            f"({module.__file__ or 'built in'}): give the file another name, or pass a dotted name"
        )
    return module


def _what(error: Exception) -> str:
    """What a module raised, and where in it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
