"""Notifications between backends: this run may continue. Each is sent in the transaction of its cause."""

from __future__ import annotations

from collections.abc import Sequence

from cano_postgres.work import Statement

_TELL = "SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"
_LONGEST = 7_900
"""The most bytes of a notification; PostgreSQL allows less than 8,000."""


def sender(key: int) -> str:
    """Return the prefix of the notifications of the backend with this key."""
    return f"{key & 0xFFFFFFFFFFFFFFFF:016x}"


def telling(schema: str, sender: str, run_ids: Sequence[str]) -> Statement:
    """Return the statement that notifies other backends of runs when its transaction commits."""
    notices = [sender + run_id if len(run_id.encode()) < _LONGEST else sender for run_id in run_ids]
    return _TELL, (schema, notices)


def told(notice: str, sender: str) -> tuple[bool, str | None]:
    """Return whether a notification comes from another backend, and the run's id, or None for any run."""
    return not notice.startswith(sender), notice[len(sender) :] or None
