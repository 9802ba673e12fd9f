"""Results on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(file: Path, content: dict[str, Any]) -> None:
    """Write JSON at once or not at all, so that an interrupt leaves what was there before."""
    beside = file.with_name(file.name + ".new")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)
