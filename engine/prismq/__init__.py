"""A durable task queue in one SQLite file, for many processes on one machine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from prismq.database import QueueDatabase
from prismq.errors import (
    ConfigError,
    Discard,
    HandlerConfigError,
    InvalidSettingsError,
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
    RetryLater,
    TaskCancelledError,
    TaskHandlerAlreadyRegisteredError,
    TaskHandlerNotRegisteredError,
    UnsupportedEnvironmentError,
)
from prismq.models import SchedulingStrategy, Task, TaskLog, TaskReport, Worker
from prismq.queue import TaskQueue
from prismq.retry import RetryConfig
from prismq.schema import SCHEMA_STATEMENTS
from prismq.settings import PRAGMAS, PRODUCTION_PRAGMAS, Settings, get_default_db_path

if TYPE_CHECKING:
    from prismq.backup import QueueBackup
    from prismq.backup_files import BackupInfo
    from prismq.config_files import JSONConfigLoader, TOMLConfigLoader, YAMLConfigLoader
    from prismq.context import TaskContext
    from prismq.handler_config import TaskHandlerConfigLoader, load_handlers, load_handlers_from_config
    from prismq.handlers import (
        TaskHandlerInfo,
        TaskHandlerRegistry,
        get_global_registry,
        handler,
        reset_global_registry,
    )
    from prismq.heartbeat import WorkerHeartbeat
    from prismq.ledger import WorkerCounts
    from prismq.logs import QueueLogger, TaskLogger
    from prismq.maintenance import QueueMaintenance
    from prismq.metrics import QueueMetrics
    from prismq.monitoring import QueueMonitoring
    from prismq.retention import Keep, Pruned, RetentionPolicy, prune, store_policy, stored_policy
    from prismq.supervisor import Supervisor
    from prismq.worker import WorkerEngine
    from prismq.worker_config import WorkerConfig, WorkerConfigurationManager, load_worker_config

__version__ = "0.1.0"

__all__ = [
    "PRAGMAS",
    "PRODUCTION_PRAGMAS",
    "SCHEMA_STATEMENTS",
    "BackupInfo",
    "ConfigError",
    "Discard",
    "HandlerConfigError",
    "InvalidSettingsError",
    "InvalidTaskError",
    "JSONConfigLoader",
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
    "RetryLater",
    "SchedulingStrategy",
    "Settings",
    "Supervisor",
    "TOMLConfigLoader",
    "Task",
    "TaskCancelledError",
    "TaskContext",
    "TaskHandlerAlreadyRegisteredError",
    "TaskHandlerConfigLoader",
    "TaskHandlerInfo",
    "TaskHandlerNotRegisteredError",
    "TaskHandlerRegistry",
    "TaskLog",
    "TaskLogger",
    "TaskQueue",
    "TaskReport",
    "UnsupportedEnvironmentError",
    "Worker",
    "WorkerConfig",
    "WorkerConfigurationManager",
    "WorkerCounts",
    "WorkerEngine",
    "WorkerHeartbeat",
    "YAMLConfigLoader",
    "get_default_db_path",
    "get_global_registry",
    "handler",
    "load_handlers",
    "load_handlers_from_config",
    "load_worker_config",
    "prune",
    "reset_global_registry",
    "store_policy",
    "stored_policy",
]

# Imported when it is asked for: a process that only enqueues, claims and completes has no use for it.
_WHERE: Final = {
    "backup": ("QueueBackup",),
    "backup_files": ("BackupInfo",),
    "config_files": ("JSONConfigLoader", "TOMLConfigLoader", "YAMLConfigLoader"),
    "context": ("TaskContext",),
    "handler_config": ("TaskHandlerConfigLoader", "load_handlers", "load_handlers_from_config"),
    "handlers": ("TaskHandlerInfo", "TaskHandlerRegistry", "get_global_registry", "handler", "reset_global_registry"),
    "heartbeat": ("WorkerHeartbeat",),
    "ledger": ("WorkerCounts",),
    "logs": ("QueueLogger", "TaskLogger"),
    "maintenance": ("QueueMaintenance",),
    "metrics": ("QueueMetrics",),
    "monitoring": ("QueueMonitoring",),
    "retention": ("Keep", "Pruned", "RetentionPolicy", "prune", "store_policy", "stored_policy"),
    "supervisor": ("Supervisor",),
    "worker": ("WorkerEngine",),
    "worker_config": ("WorkerConfig", "WorkerConfigurationManager", "load_worker_config"),
}
_MODULES: Final = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'prismq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"prismq.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
