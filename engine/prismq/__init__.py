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
from prismq.logs import QueueLogger, TaskLogger
from prismq.maintenance import QueueMaintenance
from prismq.metrics import QueueMetrics
from prismq.models import SchedulingStrategy, Task, TaskLog, Worker
from prismq.monitoring import QueueMonitoring
from prismq.queue import TaskQueue
from prismq.retention import Keep, Pruned, RetentionPolicy, prune, store_policy, stored_policy
from prismq.retry import RetryConfig
from prismq.schema import SCHEMA_STATEMENTS
from prismq.settings import PRAGMAS, PRODUCTION_PRAGMAS, get_default_db_path
from prismq.workers import WorkerHeartbeat

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
    "QueueLogger",
    "QueueMaintenance",
    "QueueMaintenanceBusyError",
    "QueueMaintenanceError",
    "QueueMetrics",
    "QueueMonitoring",
    "QueueOperationalError",
    "QueueProgrammingError",
    "QueueSchemaError",
    "RetentionPolicy",
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
    "prune",
    "store_policy",
    "stored_policy",
]
