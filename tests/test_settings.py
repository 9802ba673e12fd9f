"""The connection's settings, the default path and the SQLite that is good enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prismq import settings
from prismq.errors import QueueDatabaseError, UnsupportedEnvironmentError


def test_the_pragmas_are_the_promised_ones_in_the_promised_order():
    assert list(settings.PRAGMAS.items()) == [
        ("journal_mode", "WAL"),
        ("synchronous", "NORMAL"),
        ("busy_timeout", 5000),
        ("wal_autocheckpoint", 1000),
        ("foreign_keys", "ON"),
        ("temp_store", "MEMORY"),
        ("mmap_size", 134217728),
        ("page_size", 4096),
        ("cache_size", -20000),
    ]


def test_production_pragmas_are_the_same_thing():
    assert settings.PRODUCTION_PRAGMAS is settings.PRAGMAS


def test_the_busy_timeout_has_one_home():
    assert settings.BUSY_TIMEOUT_SECONDS == 5.0


def test_the_environment_variable_names_the_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", str(tmp_path / "mine.db"))
    assert settings.get_default_db_path() == tmp_path / "mine.db"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_the_path_is_fixed_for_each_system(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("PRISMQ_QUEUE_DB_PATH", raising=False)
    else:
        monkeypatch.setenv("PRISMQ_QUEUE_DB_PATH", value)
    expected = r"C:\Data\PrismQ\queue\queue.db" if os.name == "nt" else "/tmp/prismq/queue/queue.db"
    assert settings.get_default_db_path() == Path(expected)


@pytest.mark.parametrize("version", ["3.51.3", "3.51.10", "3.52.0", "3.54.1", "4.0.0", "3.50.7", "3.50.9", "3.44.6"])
def test_an_sqlite_with_the_fix_is_accepted(version):
    settings.require_safe_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.2", "3.51.0", "3.50.6", "3.49.1", "3.45.0", "3.44.5", "3.7.17", "3.51"])
def test_an_sqlite_without_the_fix_is_refused_with_the_way_out(version):
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        settings.require_safe_sqlite(version)
    assert isinstance(caught.value, QueueDatabaseError)
    assert version in str(caught.value)
    assert "corrupt" in str(caught.value)
    assert "pip install --upgrade apsw" in str(caught.value)


def test_the_sqlite_in_use_carries_the_fix():
    settings.require_safe_sqlite()
