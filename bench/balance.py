"""Whether every task is still there, counted: as little memory for a long run as for a short one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import apsw
import numpy as np

from bench.journal import Operation, Outcome, Records


@dataclass(frozen=True, slots=True)
class Balance:
    """Tasks: acknowledged as enqueued, as completed, and either twice; `rows` are those of the file by status."""

    enqueued: int
    completed: int
    repeated: int
    rows: dict[str, int]

    @classmethod
    def of(cls, records: Records, database: Path) -> Self:
        """From the journals and the file."""
        done = records[records["outcome"] == Outcome.DONE]
        enqueued, completed = (
            done["task_id"][done["operation"] == operation] for operation in (Operation.ENQUEUE, Operation.COMPLETE)
        )
        repeated = sum(len(ids) - len(np.unique(ids)) for ids in (enqueued, completed))
        # Past the queue, whose rules about waiting may be what a run has found wanting.
        reader = apsw.Connection(str(database))
        rows: list[Any] = reader.execute("SELECT status, count(*) FROM task_queue GROUP BY status").fetchall()
        reader.close()
        return cls(len(enqueued), len(completed), repeated, dict(rows))

    @property
    def left(self) -> int:
        """Tasks of the file that are not completed."""
        return sum(self.rows.values()) - self.rows.get("completed", 0)

    @property
    def holds(self) -> bool:
        """True when the file has what was acknowledged, once, and nothing else."""
        kept = self.rows.get("completed", 0) == self.completed and self.enqueued == self.completed + self.left
        return kept and not self.repeated
