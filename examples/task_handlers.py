"""Handlers that a configuration file names: see config/task_handlers.json.

From the folder above: prismq worker --handlers examples/config/task_handlers.json
"""

from typing import Any

from prismq import Task


def handle_send_email(task: Task) -> None:
    mail = task.get_payload_dict()
    print(f"mail to {mail['to']}: {mail['subject']}")


def handle_generate_report(task: Task) -> dict[str, Any]:
    report = task.get_payload_dict()
    print(f"{report['report_type']} report as {report['format']}, filters {report.get('filters', {})}")
    return {"report_type": report["report_type"], "rows": 42}


def handle_backup_database(task: Task) -> None:
    backup = task.get_payload_dict()
    packed = "compressed" if backup.get("compress") else "as it is"
    print(f"backup of {backup['database_name']} to {backup['backup_path']}, {packed}")


def handle_process_payment(task: Task) -> None:
    payment = task.get_payload_dict()
    print(f"{payment['amount']} {payment['currency']} from customer {payment['customer_id']}")
