"""What `import prismq` brings, and what it leaves until it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import prismq


def test_every_public_name_is_there() -> None:
    for name in prismq.__all__:
        assert getattr(prismq, name).__class__ is not None
    assert set(prismq.__all__) <= set(dir(prismq))


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Queue'"):
        _ = prismq.Queue


def test_a_process_that_only_uses_the_queue_imports_no_workers() -> None:
    script = "import sys, prismq; print(*sorted(name for name in sys.modules if name.startswith('prismq.')))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "prismq.queue" in loaded
    assert not loaded & {
        f"prismq.{name}" for name in ("supervisor", "worker", "backup", "metrics", "prometheus", "cli")
    }
