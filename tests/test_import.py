"""What `import prismq` brings, and what it leaves until it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import prismq

# What others' code already imports.
PROMISED = [
    "QueueDatabase",
    "Task",
    "Worker",
    "TaskLog",
    "QueueDatabaseError",
    "QueueBusyError",
    "QueueSchemaError",
    "SchedulingStrategy",
    "WorkerConfig",
    "SCHEMA_STATEMENTS",
    "PRAGMAS",
    "PRODUCTION_PRAGMAS",
    "get_default_db_path",
    "TaskLogger",
    "QueueLogger",
    "QueueMetrics",
    "WorkerHeartbeat",
    "QueueMonitoring",
    "QueueBackup",
    "QueueMaintenance",
    "BackupInfo",
    "QueueBackupError",
    "QueueMaintenanceError",
    "WorkerConfigurationManager",
    "load_worker_config",
    "JSONConfigLoader",
    "YAMLConfigLoader",
    "TOMLConfigLoader",
    "RetryConfig",
    "WorkerEngine",
    "TaskHandlerRegistry",
    "TaskHandlerInfo",
    "TaskHandlerNotRegisteredError",
    "TaskHandlerAlreadyRegisteredError",
    "get_global_registry",
    "reset_global_registry",
    "TaskHandlerConfigLoader",
    "HandlerConfigError",
    "load_handlers_from_config",
]


def test_every_public_name_is_there() -> None:
    assert set(PROMISED) - set(prismq.__all__) == set()
    for name in prismq.__all__:
        assert getattr(prismq, name).__class__ is not None
    assert set(prismq.__all__) <= set(dir(prismq))


def test_every_promised_method_takes_the_promised_arguments() -> None:
    promised = {
        prismq.QueueDatabase: """get_connection() initialize_schema() execute(sql,params) execute_many(sql,param_list)
            transaction() connection() close()""",
        prismq.Task: "to_dict() from_dict(values) get_payload_dict() get_compatibility_dict()",
        prismq.Worker: "to_dict() from_dict(values) get_capabilities_dict()",
        prismq.TaskLog: "to_dict() from_dict(values)",
        prismq.TaskLogger: """log(task_id,level,message,details) get_task_logs(task_id,level,limit)
            get_recent_logs(limit,level) delete_old_logs(days)""",
        prismq.QueueLogger: """log_task_event(task_id,level,message,details)
            log_task_transition(task_id,from_status,to_status,details) log_task_error(task_id,error,details)
            log_task_retry(task_id,attempt,max_attempts,next_run_after,details)""",
        prismq.QueueMetrics: """get_queue_depth(task_type,status) get_queue_depth_by_status() get_queue_depth_by_type()
            get_oldest_queued_task_age() get_success_failure_rates(hours) get_worker_activity()
            get_throughput_metrics(hours) get_retry_metrics(hours) get_processing_time_percentiles(hours,task_type)
            get_queue_health_summary()""",
        prismq.WorkerHeartbeat: """update_heartbeat(worker_id,capabilities) get_active_workers() get_stale_workers()
            cleanup_stale_workers(force) get_worker_stats(worker_id) get_all_workers_summary()
            reclaim_stale_worker_tasks()""",
        prismq.QueueMonitoring: """register_worker(worker_id,capabilities) update_heartbeat(worker_id)
            get_worker(worker_id) get_all_workers() get_stale_workers(stale_threshold_seconds)
            get_active_workers(active_threshold_seconds) remove_worker(worker_id) get_queue_metrics()
            get_worker_activity()""",
        prismq.QueueBackup: """create_backup(name) verify_backup(path) restore_backup(path,target_path) list_backups()
            cleanup_old_backups(keep_count) get_latest_backup()""",
        prismq.BackupInfo: "from_path(path)",
        prismq.QueueMaintenance: """checkpoint(mode) vacuum() analyze(table) integrity_check()
            cleanup_stale_leases(timeout_seconds) get_database_stats() optimize(full)""",
    }
    for owner, methods in promised.items():
        for method in methods.split():
            name, _, arguments = method[:-1].partition("(")
            parameters = inspect.signature(getattr(owner, name)).parameters.values()
            by_place = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"]
            assert by_place == [name for name in arguments.split(",") if name], (owner, method)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Queue'"):
        _ = prismq.Queue


def test_a_process_that_only_uses_the_queue_imports_no_workers() -> None:
    script = "import sys, prismq; print(*sorted(name for name in sys.modules if name.startswith('prismq.')))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "prismq.queue" in loaded
    assert not loaded & {
        f"prismq.{name}" for name in ("supervisor", "worker", "backup", "metrics", "prometheus", "cli")
    }
