"""A folder of a run's own."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path | None, keep: bool = False) -> Iterator[Path]:
    """A new folder inside `parent` (by default the system's temporary folder), removed at the end unless kept."""
    folder = Path(tempfile.mkdtemp(prefix="prismq-bench-", dir=parent))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
