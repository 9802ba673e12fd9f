"""A durable task queue in one SQLite file, for many processes on one machine."""

from prismq.backup import BackupInfo, QueueBackup
from prismq.database import QueueDatabase
from prismq.errors import (
    InvalidTaskError,
    LeaseLostError,
    QueueBackupBusyError,
    QueueBackupError,
    QueueBusyError,
    QueueDatabaseError,
    QueueDataError,
    QueueFileError,
    QueueIntegrityError,
    QueueInterfaceError,
    QueueInternalError,
    QueueMaintenanceBusyError,
    QueueMaintenanceError,
    QueueOperationalError,
    QueueProgrammingError,
    QueueSchemaError,
    UnsupportedEnvironmentError,
)
from prismq.maintenance import QueueMaintenance
from prismq.models import SchedulingStrategy, Task, TaskLog, Worker
from prismq.queue import TaskQueue
from prismq.retention import Keep, Pruned, RetentionPolicy, prune, store_policy, stored_policy
from prismq.retry import RetryConfig
from prismq.schema import SCHEMA_STATEMENTS
from prismq.settings import PRAGMAS, PRODUCTION_PRAGMAS, get_default_db_path

__version__ = "0.1.0"

__all__ = [
    "PRAGMAS",
    "PRODUCTION_PRAGMAS",
    "SCHEMA_STATEMENTS",
    "BackupInfo",
    "InvalidTaskError",
    "Keep",
    "LeaseLostError",
    "Pruned",
    "QueueBackup",
    "QueueBackupBusyError",
    "QueueBackupError",
    "QueueBusyError",
    "QueueDataError",
    "QueueDatabase",
    "QueueDatabaseError",
    "QueueFileError",
    "QueueIntegrityError",
    "QueueInterfaceError",
    "QueueInternalError",
    "QueueMaintenance",
    "QueueMaintenanceBusyError",
    "QueueMaintenanceError",
    "QueueOperationalError",
    "QueueProgrammingError",
    "QueueSchemaError",
    "RetentionPolicy",
    "RetryConfig",
    "SchedulingStrategy",
    "Task",
    "TaskLog",
    "TaskQueue",
    "UnsupportedEnvironmentError",
    "Worker",
    "get_default_db_path",
    "prune",
    "store_policy",
    "stored_policy",
]
