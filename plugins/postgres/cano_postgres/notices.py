"""Notifications between backends: these runs may continue, or have ended.

PostgreSQL commits transactions with notifications one after the other, and wakes all listeners for each. So a batch has
one notification for many runs, and that of a run's end is sent apart from its commit: only callers that wait for the
run need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from cano_msgspec.ends import pack_ids, unpack_ids

from cano_postgres.arrays import texts
from cano_postgres.connection import Connection

_TELL = "SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"
_LONGEST = 7_900
"""The most bytes of a notification; PostgreSQL allows less than 8,000."""


def sender(key: int) -> str:
    """Return the prefix of the notifications of the backend with this key."""
    return f"{key & 0xFFFFFFFFFFFFFFFF:016x}"


def telling(schema: str, sender: str, run_ids: Sequence[str]) -> tuple[LiteralString, Sequence[Any]]:
    """Return the statement that notifies other backends of runs when its transaction commits."""
    groups: list[list[str]] = []
    size = _LONGEST
    for run_id in run_ids:
        length = len(pack_ids([run_id]).encode()) if run_id else _LONGEST  # "" stands for any run
        if size + length > _LONGEST - len(sender):
            groups.append([])
            size = 0
        if length <= _LONGEST - len(sender):  # otherwise the group stays empty, which means any run
            groups[-1].append(run_id)
        size += length
    return _TELL, (schema, texts([sender + pack_ids(group) for group in groups]))


def told(notice: str, sender: str) -> Sequence[str | None]:
    """Return the ids of the runs in a notification of another backend, None for any run; empty for this backend's."""
    return () if notice.startswith(sender) else unpack_ids(notice[len(sender) :])


async def tell(connection: Connection, schema: str, sender: str, run_ids: Sequence[str]) -> None:
    """Notify other backends now."""
    await connection.execute(*telling(schema, sender, run_ids))
