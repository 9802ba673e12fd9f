"""A durable task queue in one SQLite file, for many processes on one machine."""

from prismq.database import QueueDatabase
from prismq.errors import (
    InvalidTaskError,
    LeaseLostError,
    QueueBusyError,
    QueueDatabaseError,
    QueueDataError,
    QueueFileError,
    QueueIntegrityError,
    QueueInterfaceError,
    QueueInternalError,
    QueueOperationalError,
    QueueProgrammingError,
    QueueSchemaError,
    UnsupportedEnvironmentError,
)
from prismq.logs import QueueLogger, TaskLogger
from prismq.metrics import QueueMetrics
from prismq.models import SchedulingStrategy, Task, TaskLog, Worker
from prismq.monitoring import QueueMonitoring
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig
from prismq.schema import SCHEMA_STATEMENTS
from prismq.settings import PRAGMAS, PRODUCTION_PRAGMAS, get_default_db_path
from prismq.workers import WorkerHeartbeat

__version__ = "0.1.0"

__all__ = [
    "PRAGMAS",
    "PRODUCTION_PRAGMAS",
    "SCHEMA_STATEMENTS",
    "InvalidTaskError",
    "LeaseLostError",
    "QueueBusyError",
    "QueueDataError",
    "QueueDatabase",
    "QueueDatabaseError",
    "QueueFileError",
    "QueueIntegrityError",
    "QueueInterfaceError",
    "QueueInternalError",
    "QueueLogger",
    "QueueMetrics",
    "QueueMonitoring",
    "QueueOperationalError",
    "QueueProgrammingError",
    "QueueSchemaError",
    "RetryConfig",
    "SchedulingStrategy",
    "Task",
    "TaskLog",
    "TaskLogger",
    "TaskQueue",
    "UnsupportedEnvironmentError",
    "Worker",
    "WorkerHeartbeat",
    "get_default_db_path",
]
