"""Numbers that both drivers must agree on are stated once in C and once in Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prismq import Settings, housekeeping, sql

NATIVE = Path(__file__).resolve().parents[2] / "native"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ID_BLOCK", Settings().id_block),
        ("PROMOTE_LIMIT", housekeeping.PROMOTE_LIMIT),
        ("BLOCK_ROWS", sql.BLOCK_ROWS),
        ("INLINE_CHECKPOINT_PAGES", Settings().inline_checkpoint_bytes / Settings().page_size),
        ("SHORTEST_WAIT_US", housekeeping.SHORTEST_WAIT_SECONDS * 1_000_000),
        ("LONGEST_WAIT_US", housekeeping.LONGEST_WAIT_SECONDS * 1_000_000),
    ],
)
def test_a_number_is_the_same_in_both_drivers(name: str, value: float) -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in [*NATIVE.glob("*.c"), *NATIVE.glob("*.h")])
    assert [int(found) for found in re.findall(rf"\b{name} = (\d+)", sources)] == [round(value)]
