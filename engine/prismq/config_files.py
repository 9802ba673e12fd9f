"""Configuration files as dictionaries: JSON, YAML and TOML, by the ending of their name."""

from __future__ import annotations

import errno
import importlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from prismq.errors import ConfigError


class ConfigLoader(Protocol):
    """Reads files of one format."""

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The file's content; ConfigError names the file, and the line where it can't be understood."""
        ...


class JSONConfigLoader:
    """Reads JSON files."""

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The object in the file; ConfigError, FileNotFoundError."""
        try:
            values = json.loads(_text(path), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"Invalid JSON in {path}, line {error.lineno}, column {error.colno}: {error.msg}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"Invalid JSON in {path}: {error}") from error
        return _mapping(values, path)


class YAMLConfigLoader:
    """Reads YAML files, with the extra `yaml`."""

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The mapping in the file; ConfigError, FileNotFoundError, ImportError without the extra."""
        yaml = _extra("yaml", "yaml", path)
        try:
            values = yaml.load(_text(path), _yaml_loader(yaml))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
            raise ConfigError(f"Invalid YAML in {path}{place}: {getattr(error, 'problem', None) or error}") from error
        except (ValueError, RecursionError) as error:  # a date that is none
            raise ConfigError(f"Invalid YAML in {path}: {error}") from error
        return _mapping(values, path)


class TOMLConfigLoader:
    """Reads TOML files."""

    def load(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The table in the file; ConfigError, FileNotFoundError."""
        try:
            values = tomllib.loads(_text(path))
        except (tomllib.TOMLDecodeError, RecursionError) as error:  # the text names line and column
            raise ConfigError(f"Invalid TOML in {path}: {error}") from error
        return _mapping(values, path)


LOADERS: Final[Mapping[str, ConfigLoader]] = {
    ".json": JSONConfigLoader(),
    ".yaml": YAMLConfigLoader(),
    ".yml": YAMLConfigLoader(),
    ".toml": TOMLConfigLoader(),
}


def load(path: str | os.PathLike[str], loaders: Mapping[str, ConfigLoader] = LOADERS) -> dict[str, Any]:
    """What is in the file; ConfigError says what is wrong with it, FileNotFoundError that it is none."""
    return _mapping(loaders[_suffix(path, loaders)].load(path), path)


def save(path: str | os.PathLike[str], values: Mapping[str, Any], indent: int = 2) -> None:
    """Write the file, or leave it as it was: ConfigError, ImportError without the extra `yaml` or `toml`."""
    path = Path(path)
    suffix = _suffix(path, LOADERS)
    try:
        if suffix == ".json":
            text = json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
        elif suffix == ".toml":
            text = _extra("tomli_w", "toml", path).dumps(values, indent=indent)
        else:
            text = _extra("yaml", "yaml", path).safe_dump(dict(values), indent=indent, sort_keys=False)
        path.write_text(text, encoding="utf-8")
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{path} can't be written: {error}") from error


def check_keys(values: Mapping[Any, Any], required: Sequence[str], optional: Sequence[str], place: str) -> None:
    """ConfigError unless all `required` keys are there and none is unknown; `place` is where they were read."""
    allowed = [*required, *optional]
    if unknown := [key for key in values if key not in allowed]:
        raise ConfigError(f"{place} has the unknown key {unknown[0]!r}; known are {', '.join(allowed)}")
    if missing := [key for key in required if key not in values]:
        raise ConfigError(f"{place} lacks the key {missing[0]!r}; it needs {', '.join(required)}")


def _suffix(path: str | os.PathLike[str], loaders: Mapping[str, ConfigLoader]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in loaders:
        raise ConfigError(
            f"Unsupported configuration file format: {path} ends in {suffix or 'nothing'!r}; "
            f"use one of {', '.join(sorted(loaders))}"
        )
    return suffix


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such configuration file", os.fspath(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def _mapping(values: object, path: str | os.PathLike[str]) -> dict[str, Any]:
    if values is None:
        raise ConfigError(f"{path} is empty; it must hold keys and values")
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; it must hold keys and values")
    return values


def _extra(module: str, extra: str, path: str | os.PathLike[str]) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{path} needs the extra "{extra}": python -m pip install "prismq[{extra}]"') from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _yaml_loader(yaml: ModuleType) -> Any:
    """PyYAML's safe loader, which would let the last of two equal keys win."""

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for index, (key, _) in enumerate(node.value):
                if key.value in keys[:index]:
                    message = f"the key {key.value!r} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            values: dict[Any, Any] = super().construct_mapping(node, deep)
            return values

    return Loader
