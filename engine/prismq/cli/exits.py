"""How a command ends: its exit statuses, and the exception that ends one with a message."""

from __future__ import annotations

from typing import Final

OK: Final = 0
REFUSED: Final = 1
"""Not done: there is no such task, its status does not allow it, an error; `doctor`: unhealthy."""
USAGE: Final = 2
BUSY: Final = 3
"""Somebody else kept the database locked; trying again may help."""
NO_DATABASE: Final = 4
INTERRUPTED: Final = 130

HELP: Final = (
    "exit status: 0 done, 1 refused, not found, failed or unhealthy, 2 wrong usage, 3 database busy,\n"
    "4 no database, 130 interrupted"
)


class Exit(Exception):
    """Ends the command with one line on standard error and this status."""

    def __init__(self, message: str, status: int = REFUSED) -> None:
        super().__init__(message)
        self.status = status
