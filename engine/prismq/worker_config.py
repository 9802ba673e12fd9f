"""The settings of a worker, from a file, the environment and arguments; each one checked before anything runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args

from prismq import clock, config_files, submission
from prismq.config_files import ConfigLoader
from prismq.errors import ConfigError
from prismq.models import SchedulingStrategy
from prismq.retry import RetryConfig
from prismq.settings import Durability
from prismq.worker import Pool

PREFIX: Final = "PRISMQ_WORKER_"
"""Begins the name of each environment variable: worker_id is PRISMQ_WORKER_ID, types is PRISMQ_WORKER_TYPES."""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is told before it starts; durations in seconds. ConfigError for a value that can't be right."""

    worker_id: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    scheduling_strategy: SchedulingStrategy = SchedulingStrategy.PRIORITY
    lease_duration_seconds: float = 60
    poll_interval_seconds: float = 1
    max_false_starts: int = 3
    """How often in a row processes that fail before they can claim anything are started again, before the worker ends.

    How often a task is tried is its own `max_attempts`.
    """
    types: tuple[str, ...] | None = None
    """The task types it claims; None for those that have a handler."""
    concurrency: int = 1
    """How many tasks a process runs at the same time."""
    pool: Pool = "thread"
    """Where handlers run: "thread", or "process" for those that keep the CPU busy."""
    prefetch: int = 0
    """How many tasks a process claims ahead of those it runs."""
    retry: RetryConfig | None = None
    """The backoff of tasks and handlers that have none of their own."""
    timeout_seconds: float | None = None
    """How long a handler that has no limit of its own may run."""
    heartbeat_seconds: float = 15
    processes: int = 1
    grace_seconds: float = 30
    """How long running tasks may go on after the worker was told to stop; then they are given back."""
    durability: Durability | None = None
    """As PRISMQ_SETTINGS says, when None."""

    def __post_init__(self) -> None:
        for name in _CHECKS:
            object.__setattr__(self, name, _checked(name, getattr(self, name), name))

    def to_dict(self) -> dict[str, Any]:
        """The settings as a configuration file holds them; those that are None are left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        values["scheduling_strategy"] = self.scheduling_strategy.value
        if self.types is not None:
            values["types"] = list(self.types)
        return values


class WorkerConfigurationManager:
    """Reads and writes worker configurations. What is said later wins: file, environment, arguments.

    The arguments are WorkerConfig's fields by name; None is as good as none. Everything raises ConfigError, which names
    the file, variable or argument.
    """

    def __init__(self) -> None:
        self._loaders: dict[str, ConfigLoader] = dict(config_files.LOADERS)

    def register_loader(self, extension: str, loader: ConfigLoader) -> None:
        """Read files that end in `extension`, such as ".ini", with `loader.load(path)`, which returns a dict."""
        if not extension.startswith(".") or not callable(getattr(loader, "load", None)):
            raise ConfigError(
                f"a loader for {extension!r} is {loader!r:.100}; pass an ending such as '.ini' and an object with "
                "load(path)"
            )
        self._loaders[extension.lower()] = loader

    def load_from_file(
        self, path: str | os.PathLike[str], apply_env_overrides: bool = True, **arguments: Any
    ) -> WorkerConfig:
        """The configuration in the file; FileNotFoundError when there is none."""
        values = config_files.load(path, self._loaders)
        return self._load(_from_file(values, str(path)), apply_env_overrides, arguments)

    def load_from_dict(
        self, values: Mapping[str, Any], apply_env_overrides: bool = True, **arguments: Any
    ) -> WorkerConfig:
        """The configuration in a dictionary that is shaped like a file."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"the worker configuration is {values!r:.100}; it must be a dict")
        return self._load(_from_file(values, "the worker configuration"), apply_env_overrides, arguments)

    def load_from_env(self, prefix: str = PREFIX, **arguments: Any) -> WorkerConfig:
        """The configuration in environment variables alone; their names begin with `prefix`."""
        return _merged([_from_environment(prefix), _from_arguments(arguments)])

    def save_to_file(self, config: WorkerConfig, path: str | os.PathLike[str], indent: int = 2) -> None:
        """Write the file so that loading it gives an equal configuration."""
        config_files.save(path, config.to_dict(), indent)

    def _load(self, first: dict[str, Any], with_environment: bool, arguments: Mapping[str, Any]) -> WorkerConfig:
        environment = _from_environment(PREFIX) if with_environment else {}
        return _merged([first, environment, _from_arguments(arguments)])


def load_worker_config(
    file_path: str | os.PathLike[str] | None = None,
    apply_env_overrides: bool = True,
    *,
    defaults: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> WorkerConfig:
    """The configuration from a file if given, the environment and arguments; the later one wins.

    `defaults` are what counts where none of them says anything. ConfigError, FileNotFoundError.
    """
    layers = [_from_arguments(defaults or {})]
    if file_path is not None:
        layers.append(_from_file(config_files.load(file_path), str(file_path)))
    if apply_env_overrides or file_path is None:
        layers.append(_from_environment(PREFIX))
    return _merged([*layers, _from_arguments(arguments)])


def _from_file(values: Mapping[Any, Any], source: str) -> dict[str, Any]:
    config_files.check_keys(values, (), _KEYS, source)
    return {name: _checked(name, value, f"{source}: {name}") for name, value in values.items()}


def _from_environment(prefix: str) -> dict[str, Any]:
    if os.name == "nt":  # where the names of variables are upper case, however they were set
        prefix = prefix.upper()
    names = {prefix + name.removeprefix("worker_").upper(): name for name in _KEYS}
    found = {}
    for variable, text in os.environ.items():
        if variable.startswith(prefix):
            if variable not in names:
                raise ConfigError(f"the environment variable {variable} is unknown; known are {', '.join(names)}")
            name = names[variable]
            parser = _PARSERS.get(_FORMER.get(name, name))
            value = text if parser is None else parser(text, variable)
            found[name] = _checked(name, value, variable)
    return found


def _from_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in values.items() if value is not None}
    config_files.check_keys(given, (), _KEYS, "the call")
    return {name: _checked(name, value, name) for name, value in given.items()}


def _merged(layers: list[dict[str, Any]]) -> WorkerConfig:
    values = {_FORMER.get(name, name): value for layer in layers for name, value in layer.items()}
    if "worker_id" not in values:
        raise ConfigError(f"worker_id is missing: give it in the configuration file, as {PREFIX}ID or as an argument")
    return WorkerConfig(**values)


def _checked(name: str, value: object, place: str) -> Any:
    try:
        return _CHECKS[_FORMER.get(name, name)](value)
    except ValueError as error:
        raise ConfigError(f"{place} is {value!r:.200}; {error}") from error


# Each check returns the value as WorkerConfig holds it, or raises ValueError with what it must be.


def _text(value: Any) -> str:
    with suppress(ValueError):
        submission.text(value, "")
        return str(value)
    raise ValueError("it must be text with something in it")


def _capabilities(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("it must be an object with text as its keys")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it must hold JSON values alone ({error})") from error
    return dict(value)


def _choice(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in allowed:
            raise ValueError(f"it must be one of {', '.join(map(repr, allowed))}")
        return value.lower()

    return check


def _strategy(value: Any) -> SchedulingStrategy:
    return SchedulingStrategy(_choice(*(strategy.value for strategy in SchedulingStrategy))(value))


def _seconds(lowest: float) -> Callable[[Any], float]:
    return lambda value: clock.seconds(value, lowest)


def _whole(lowest: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**31:
            raise ValueError(f"it must be a whole number, at least {lowest}")
        return value

    return check


def _if_any(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _types(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("it must be a list with at least one task type")
    return tuple(map(_text, value))


def _retry(value: Any) -> RetryConfig:
    return value if isinstance(value, RetryConfig) else RetryConfig.from_dict(value)


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "worker_id": _text,
    "capabilities": _capabilities,
    "scheduling_strategy": _strategy,
    "lease_duration_seconds": _seconds(0.001),
    "poll_interval_seconds": _seconds(0.001),
    "max_false_starts": _whole(0),
    "types": _if_any(_types),
    "concurrency": _whole(1),
    "pool": _choice(*get_args(Pool)),
    "prefetch": _whole(0),
    "retry": _if_any(_retry),
    "timeout_seconds": _if_any(_seconds(0.001)),
    "heartbeat_seconds": _seconds(0.001),
    "processes": _whole(1),
    "grace_seconds": _seconds(0),
    "durability": _if_any(_choice(*get_args(Durability))),
}

_FORMER: Final = {"max_retries": "max_false_starts"}
"""Names that files, variables and arguments may still use."""
_KEYS: Final = (*_CHECKS, *_FORMER)


# Environment variables are text: each parser returns what a file would hold.


def _whole_from(text: str, variable: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"Invalid integer value for {variable}: {text!r:.100}; write digits, such as 3") from error


def _number_from(text: str, variable: str) -> float:
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError as error:
        raise ConfigError(f"Invalid number in {variable}: {text!r:.100}; write seconds, such as 0.5") from error


def _json_from(text: str, variable: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Invalid JSON in {variable}: {text!r:.100} ({error})") from error


def _names_from(text: str, variable: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


_PARSERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "capabilities": _json_from,
    "lease_duration_seconds": _number_from,
    "poll_interval_seconds": _number_from,
    "max_false_starts": _whole_from,
    "types": _names_from,
    "concurrency": _whole_from,
    "prefetch": _whole_from,
    "retry": _json_from,
    "timeout_seconds": _number_from,
    "heartbeat_seconds": _number_from,
    "processes": _whole_from,
    "grace_seconds": _number_from,
}
