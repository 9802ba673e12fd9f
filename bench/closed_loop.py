"""The lightest record of calls: when each ended, and what it returned."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from bench.journal import RECORD, Operation, Outcome, Records


def records_of(begin: float, ended: array[float], task_ids: array[int], busy: array[float]) -> Records:
    """Enqueues, each of which began as the one before ended, the first at `begin`; then moments of SQLITE_BUSY."""
    moments: npt.NDArray[np.float64] = np.concatenate([[begin], ended])
    done, refused = np.zeros(len(ended), RECORD), np.zeros(len(busy), RECORD)
    done["operation"], done["outcome"], done["task_id"] = Operation.ENQUEUE, Outcome.DONE, task_ids
    done["intended"] = done["started"] = moments[:-1]
    done["ended"] = moments[1:]
    refused["operation"], refused["outcome"] = Operation.ENQUEUE, Outcome.BUSY
    refused["intended"] = refused["started"] = refused["ended"] = busy
    return np.concatenate([done, refused])
