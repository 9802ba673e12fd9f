"""A durable task queue in one SQLite file, for many processes on one machine."""

from prismq.database import QueueDatabase
from prismq.errors import (
    ConfigError,
    HandlerConfigError,
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
    TaskHandlerAlreadyRegisteredError,
    TaskHandlerNotRegisteredError,
    UnsupportedEnvironmentError,
)
from prismq.handlers import (
    TaskHandlerInfo,
    TaskHandlerRegistry,
    get_global_registry,
    handler,
    reset_global_registry,
)
from prismq.models import SchedulingStrategy, Task, TaskLog, Worker
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig
from prismq.schema import SCHEMA_STATEMENTS
from prismq.settings import PRAGMAS, PRODUCTION_PRAGMAS, get_default_db_path

__version__ = "0.1.0"

__all__ = [
    "PRAGMAS",
    "PRODUCTION_PRAGMAS",
    "SCHEMA_STATEMENTS",
    "ConfigError",
    "HandlerConfigError",
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
    "QueueOperationalError",
    "QueueProgrammingError",
    "QueueSchemaError",
    "RetryConfig",
    "SchedulingStrategy",
    "Task",
    "TaskHandlerAlreadyRegisteredError",
    "TaskHandlerInfo",
    "TaskHandlerNotRegisteredError",
    "TaskHandlerRegistry",
    "TaskLog",
    "TaskQueue",
    "UnsupportedEnvironmentError",
    "Worker",
    "get_default_db_path",
    "get_global_registry",
    "handler",
    "reset_global_registry",
]
