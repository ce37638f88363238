"""The audit: entries that stay when their runs are deleted."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from cano import AuditEntry
from cano_msgspec.packing import audit_entry

from cano_sqlite.job import Job
from cano_sqlite.snapshot import fetch

_ADD = "INSERT INTO audit (run_id, action, actor, at, detail) VALUES (?, ?, ?, ?, ?)"
_PRUNE = "DELETE FROM audit WHERE at NOT BETWEEN ? AND 1e300"  # also those whose time is corrupt
_COLUMNS = "SELECT run_id, action, actor, at, detail FROM audit"
_ORDER = " ORDER BY at DESC, id DESC LIMIT ?"
LISTED = _COLUMNS + _ORDER
OF_RUN = f"{_COLUMNS} WHERE run_id = ?{_ORDER}"


class Audited(Job):
    """The job of an action and its entry, which is added only if the action has an effect.

    Args:
        action: the job.
        entry: its entry.
        effective: whether the action had an effect, from its result.
    """

    def __init__(self, action: Job, entry: AuditEntry, effective: Callable[[Any], bool]) -> None:
        self._action = action
        self._entry = entry
        self._effective = effective
        self.run_id = action.run_id
        self.size = action.size

    def do(self, connection: sqlite3.Connection) -> Any:
        """Do the action, add its entry, and return the action's result."""
        result = self._action.do(connection)
        if self._effective(result):
            add(connection, [self._entry])
        return result


def add(connection: sqlite3.Connection, entries: Iterable[AuditEntry]) -> None:
    """Add entries."""
    connection.executemany(_ADD, entries)


def listed(connection: sqlite3.Connection, run_id: str | None, limit: int | None) -> list[AuditEntry]:
    """Return the newest `limit` entries of a run, or of all, oldest first."""
    most = -1 if limit is None else limit
    rows = fetch(connection, LISTED, (most,)) if run_id is None else fetch(connection, OF_RUN, (run_id, most))
    return [_entry(*row) for row in reversed(rows)]


def prune(connection: sqlite3.Connection, before: float, entry: AuditEntry) -> int:
    """Delete the entries before `before`, add one, and return how many were deleted."""
    deleted = connection.execute(_PRUNE, (before,)).rowcount
    add(connection, [entry])
    return deleted


def _entry(run_id: Any, action: Any, actor: Any, at: Any, detail: Any) -> AuditEntry:
    """Return the entry of a row, whatever is in it."""
    texts = [text if isinstance(text, str) else "corrupt" for text in (action, actor, detail)]
    time = float(at) if isinstance(at, int | float) else math.nan
    return audit_entry(run_id if isinstance(run_id, str | None) else "corrupt", texts[0], texts[1], time, texts[2])
