"""Counts CPU instructions with valgrind's callgrind, of a process part by part: exactly, and without a clock."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.costs import ROOT, CostError

PROFILE = "callgrind"


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of one part: all of them, and those within the functions of interest and what they called."""

    total: int
    inside: int


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What the command prints."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise CostError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def run_counted(
    command: Sequence[str], environment: Mapping[str, str], mark: str, prefix: str, folder: Path
) -> tuple[str, list[Instructions]]:
    """What the command prints, and its instructions, a new part begun whenever it entered the function `mark`.

    Of interest are the functions whose name begins with `prefix`. What came after the last mark is left out.
    """
    options = [f"--callgrind-out-file={folder / PROFILE}", f"--dump-before={mark}", "--dump-line=no"]
    plain = ["--compress-strings=no", "--compress-pos=no"]
    printed = run(["valgrind", "--tool=callgrind", *options, *plain, *command], environment)
    parts = sorted(folder.glob(f"{PROFILE}.*"), key=lambda path: int(path.suffix[1:]))
    return printed, [read_part(path.read_text(encoding="utf-8", errors="replace"), prefix) for path in parts]


def read_part(profile: str, prefix: str) -> Instructions:
    """The sums of a profile: below "fn=" a function's own cost, below "calls=" that of a call to "cfn="."""
    total = inside = 0
    caller = callee = ""
    is_call = False
    for line in profile.splitlines():
        if is_call:
            if callee.startswith(prefix) and not caller.startswith(prefix):
                inside += int(line.split()[1])
            is_call = False
        elif line.startswith("calls="):
            is_call = True
        elif line.startswith("fn="):
            caller = line.removeprefix("fn=")
        elif line.startswith("cfn="):
            callee = line.removeprefix("cfn=")
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    return Instructions(total, inside)
