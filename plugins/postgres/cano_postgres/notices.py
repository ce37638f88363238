"""What backends tell each other: who may go on with which run. Told in the transaction of what brought it about."""

from __future__ import annotations

from collections.abc import Sequence

from cano_postgres.work import Statement

_TELL = "SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"
_LONGEST = 7_900
"""Bytes of a notice; PostgreSQL takes less than 8,000."""


def sender(key: int) -> str:
    """What notices of the backend with this key begin with."""
    return f"{key & 0xFFFFFFFFFFFFFFFF:016x}"


def telling(schema: str, sender: str, run_ids: Sequence[str]) -> Statement:
    """The statement that tells others of news about runs, once what goes with it is committed."""
    notices = [sender + run_id if len(run_id.encode()) < _LONGEST else sender for run_id in run_ids]
    return _TELL, (schema, notices)


def told(notice: str, sender: str) -> tuple[bool, str | None]:
    """Whether a notice comes from somebody else, and the run that it is about; None where it does not say which."""
    return not notice.startswith(sender), notice[len(sender) :] or None
