"""How every connection is set up, what can be set, where the queue lives by default, which SQLite is good enough."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import apsw

from prismq.errors import InvalidSettingsError, UnsupportedEnvironmentError

PRAGMAS: dict[str, str | int] = {
    "journal_mode": "WAL",
    "synchronous": "NORMAL",
    "busy_timeout": 5000,  # milliseconds
    "wal_autocheckpoint": 1000,  # pages
    "foreign_keys": "ON",
    "temp_store": "MEMORY",
    "mmap_size": 134217728,  # bytes
    "page_size": 4096,  # bytes
    "cache_size": -20000,  # KiB when negative
}
PRODUCTION_PRAGMAS = PRAGMAS

BUSY_TIMEOUT_SECONDS = int(PRAGMAS["busy_timeout"]) / 1000

# NORMAL survives a crash of the process and may lose the last commits in a power cut; FULL loses nothing acknowledged.
Durability = Literal["normal", "full"]
DURABILITY: dict[Durability, str] = {"normal": "NORMAL", "full": "FULL"}
TempStore = Literal["default", "file", "memory"]

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Before these, a WAL reset that races with a writer can corrupt the database (sqlite.org/wal.html, WAL-reset bug).
MINIMUM_SQLITE = (3, 51, 3)
MINIMUM_SQLITE_OF_LINE: dict[tuple[int, int], tuple[int, int, int]] = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}

SHARED_DB_PATH = Path("/tmp/prismq/queue/queue.db")
DEFAULT_DB_PATH_VARIABLE = "PRISMQ_QUEUE_DB_PATH"
GROUP_COMMIT_VARIABLE = "PRISMQ_GROUP_COMMIT"
SETTINGS_VARIABLE = "PRISMQ_SETTINGS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set, by the names it has in a settings file. InvalidSettingsError for a value that is not allowed.

    Each process has its own. Of those that concern the whole file, `page_size` is as whoever created the file had it,
    and the checkpoints' are those of the process that keeps house; everything else is the connection's own business.
    """

    durability: Durability = "normal"
    """"normal" survives a crash of the process; with "full" a power cut loses nothing acknowledged either."""
    group_commit: bool = True
    """Operations that would wait for the write lock are done by its holder."""
    page_size: int = int(PRAGMAS["page_size"])
    """Bytes, of a file that is created."""
    cache_size: int = int(PRAGMAS["cache_size"])
    """SQLite's page cache of each connection: pages, or KiB when negative."""
    mmap_size: int | None = None
    """Bytes of the file that are mapped into memory. None: PRAGMAS' of a QueueDatabase, 0 as soon as a TaskQueue works
    on it. With memory mapping SQLite asks the WAL index for each page it reads, also for those in its cache: a claim
    took 1.3 times as long (bench/RESULTS.md)."""
    temp_store: TempStore = "memory"
    """Where SQLite puts temporary tables."""
    journal_size_limit: int = 64 * MIB
    """Bytes that the WAL shrinks to when it is begun anew, having grown beyond under a reader that kept it from being
    begun anew; -1 leaves it as it is."""
    busy_timeout: int = int(PRAGMAS["busy_timeout"])
    """Milliseconds that an operation waits for its turn. Below 500 the Python driver may wait for seconds."""
    id_block: int = 1024
    """Ids reserved at a time in AUTOINCREMENT's counter: so many enqueues write one page more once."""
    checkpoint_bytes: int = 4 * MIB
    """Of WAL not yet copied into the database that are worth a checkpoint while writers are busy."""
    restart_bytes: int = 16 * MIB
    """A WAL so long is begun anew. Only then are writers held, while the last few pages are copied."""
    long_wal_bytes: int = 48 * MIB
    """A WAL so long is begun anew even if much is left to copy meanwhile: writers outrun the copying."""
    inline_checkpoint_bytes: int = 128 * MIB
    """A WAL so long means that nobody who keeps house keeps up: the committer helps."""
    wal_limit_bytes: int = 1024 * MIB
    """The WAL grows no longer than this, and one transaction more: it only grows far beyond `long_wal_bytes` while a
    reader holds a snapshot, and writers are slowed down from a quarter of this on."""

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            _check(name, value)
        if not self.checkpoint_bytes <= self.restart_bytes <= self.long_wal_bytes:
            raise InvalidSettingsError(
                f"checkpoint_bytes is {self.checkpoint_bytes}, restart_bytes {self.restart_bytes}, long_wal_bytes "
                f"{self.long_wal_bytes}: none may be larger than the one that follows it"
            )
        if self.restart_bytes > self.wal_limit_bytes:
            raise InvalidSettingsError(
                f"restart_bytes is {self.restart_bytes}, more than wal_limit_bytes, {self.wal_limit_bytes}: "
                "nobody could write any more before the WAL is begun anew"
            )

    @property
    def timeout(self) -> float:
        """`busy_timeout` in seconds."""
        return self.busy_timeout / 1000

    @property
    def pragmas(self) -> dict[str, str | int]:
        """Of a connection that is opened, in their order."""
        own: dict[str, str | int] = {
            "synchronous": DURABILITY[self.durability],
            "busy_timeout": self.busy_timeout,
            "temp_store": self.temp_store.upper(),
            "mmap_size": PRAGMAS["mmap_size"] if self.mmap_size is None else self.mmap_size,
            "page_size": self.page_size,
            "cache_size": self.cache_size,
        }
        # A new file has its pages' size from the moment it is switched to WAL.
        first: dict[str, str | int] = {"page_size": self.page_size} if self.page_size != PRAGMAS["page_size"] else {}
        return first | PRAGMAS | own

    @property
    def queue_pragmas(self) -> dict[str, int]:
        """What a TaskQueue changes on its connection."""
        return {"mmap_size": self.mmap_size or 0, "journal_size_limit": self.journal_size_limit}

    @property
    def usual_wal_bytes(self) -> int:
        """The WAL's file is no longer unless something is wrong: nobody who keeps house keeps up, or a long read."""
        kept = self.wal_limit_bytes if self.journal_size_limit < 0 else self.journal_size_limit
        return max(self.inline_checkpoint_bytes, kept)

    def as_dict(self) -> dict[str, Any]:
        """By name, in the order above."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


SettingsLike = Settings | Mapping[str, Any] | str | os.PathLike[str]


class _Rule(NamedTuple):
    allowed: str
    admits: Callable[[Any], bool]


def _whole(least: int, most: int, unit: str) -> _Rule:
    allowed = f"a whole number of {unit} from {least:,} to {most:,}"
    return _Rule(allowed, lambda value: type(value) is int and least <= value <= most)


def _one_of(*names: str) -> _Rule:
    return _Rule(f"one of {', '.join(map(repr, names))}", lambda value: isinstance(value, str) and value in names)


_MOST_BYTES: Final = 1 << 40
_BYTES: Final = _whole(64 * KIB, _MOST_BYTES, "bytes")
_CACHE: Final = _whole(-(1 << 31) + 1, (1 << 31) - 1, "pages (KiB when negative)")
_RULES: Final[dict[str, _Rule]] = {
    "durability": _one_of(*DURABILITY),
    "group_commit": _Rule("true or false", lambda value: isinstance(value, bool)),
    "page_size": _Rule(
        "a power of two from 512 to 65,536 bytes",
        lambda value: type(value) is int and 512 <= value <= 65536 and value & (value - 1) == 0,
    ),
    "cache_size": _Rule(f"{_CACHE.allowed}, but not 0", lambda value: _CACHE.admits(value) and value != 0),
    "mmap_size": _Rule(
        f"a whole number of bytes from 0 to {_MOST_BYTES:,}",
        lambda value: value is None or (type(value) is int and 0 <= value <= _MOST_BYTES),
    ),
    "temp_store": _one_of("default", "file", "memory"),
    "journal_size_limit": _whole(-1, _MOST_BYTES, "bytes, -1 for no limit,"),
    "busy_timeout": _whole(0, (1 << 31) - 1, "milliseconds"),
    "id_block": _whole(1, 1 << 20, "ids"),
    "checkpoint_bytes": _BYTES,
    "restart_bytes": _BYTES,
    "long_wal_bytes": _BYTES,
    "inline_checkpoint_bytes": _BYTES,
    "wal_limit_bytes": _BYTES,
}


def _check(name: str, value: object) -> None:
    if name not in _RULES:
        near = difflib.get_close_matches(name, _RULES, 1)
        hint = {"synchronous": "; durability decides that"}.get(name, f"; did you mean {near[0]}?" if near else "")
        raise InvalidSettingsError(f"{name!r} is no setting{hint} (there are {', '.join(_RULES)})")
    if not _RULES[name].admits(value):
        raise InvalidSettingsError(f"{name} is {value!r:.100}; allowed is {_RULES[name].allowed}")


def load_settings(given: SettingsLike | None = None, **arguments: Any) -> Settings:
    """The settings in force: `arguments` that are not None, then `given`, the environment, the defaults.

    `given` is the path of a TOML file, a mapping with some of the names of Settings, or a Settings object, which is
    complete: then the environment isn't asked. In it PRISMQ_GROUP_COMMIT (0 or 1) goes before the file that
    PRISMQ_SETTINGS names. Raises InvalidSettingsError, with the file's name, for what is no setting or not allowed.
    """
    said = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(given, Settings):
        return _build(given.as_dict() | said, "settings")
    own, source = ({}, "settings") if given is None else _read(given)
    return _build(_environment(own | said) | own | said, source)


def _environment(known: Mapping[str, Any]) -> dict[str, Any]:
    """What it says beside what is `known`."""
    path = os.environ.get(SETTINGS_VARIABLE)
    found = _read(path)[0] if path else {}
    switch = os.environ.get(GROUP_COMMIT_VARIABLE)
    if switch is not None and "group_commit" not in known:
        if switch not in ("0", "1"):
            raise UnsupportedEnvironmentError(f"{GROUP_COMMIT_VARIABLE} is {switch!r}: use 1 (on) or 0 (off)")
        found["group_commit"] = switch == "1"
    return found


def _read(given: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The settings of a file or mapping, each checked, and what to call their source."""
    if isinstance(given, Mapping):
        found, source = dict(given), "settings"
    elif isinstance(given, str | os.PathLike):
        source = os.fsdecode(given)
        found = _parsed(source)
    else:
        raise InvalidSettingsError(
            f"settings are a {type(given).__name__}; pass the path of a TOML file, a mapping or a Settings object"
        )
    try:
        for name, value in found.items():
            _check(name, value)
    except InvalidSettingsError as error:
        raise InvalidSettingsError(f"{source}: {error}") from None
    return found, source


def _parsed(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InvalidSettingsError(f"{path}: the settings can't be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettingsError(f"{path}: this is no TOML ({error})") from error


def _build(found: Mapping[str, Any], source: str) -> Settings:
    try:
        return Settings(**found)
    except InvalidSettingsError as error:
        raise InvalidSettingsError(f"{source}: {error}") from None


def get_default_db_path() -> Path:
    """The path of the queue when none is given: the environment variable, else one fixed place per system."""
    configured = os.environ.get(DEFAULT_DB_PATH_VARIABLE)
    if configured:
        return Path(configured)
    return Path(r"C:\Data\PrismQ\queue\queue.db") if os.name == "nt" else SHARED_DB_PATH


def carries_wal_reset_fix(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite version may be trusted with a WAL shared by several processes."""
    return version >= MINIMUM_SQLITE_OF_LINE.get(version[:2], MINIMUM_SQLITE)


def require_safe_sqlite(version: str | None = None) -> None:
    """Raise UnsupportedEnvironmentError unless APSW's SQLite (or `version`) carries the fix of the WAL-reset bug."""
    found = version or apsw.sqlite_lib_version()
    major, minor, patch = (int(part) for part in [*found.split("."), "0", "0"][:3])
    if not carries_wal_reset_fix((major, minor, patch)):
        raise UnsupportedEnvironmentError(
            f"APSW carries SQLite {found}, in which a WAL reset can corrupt a database shared by several processes; "
            f"needed is {'.'.join(map(str, MINIMUM_SQLITE))} or newer (or 3.50.7, 3.44.6 in their lines): "
            "pip install --upgrade apsw"
        )
