"""Runs that were submitted and have not begun, as their records show them."""

from __future__ import annotations

from typing import cast

from cano import Lane, QueueStore, RunFilter, RunRecord, RunStatus, StoreBackend, is_queued

COUNTED = 100
"""The most queued runs that an explanation counts."""


def is_delayed(record: RunRecord) -> bool:
    """Return whether a run is parked because it was submitted with a delay, and has not begun."""
    parked = record.status is RunStatus.PARKED and record.wait is not None and record.wait.signal is None
    return parked and is_queued(record._replace(status=RunStatus.RUNNING))


async def queued_before(backend: StoreBackend, record: RunRecord) -> str:
    """Return the place of a queued run in its queue, and how many come before it, in words; "" if that takes long."""
    if backend.capabilities.queues:
        queue, priority, key = record.lane or Lane()
        counts = await cast(QueueStore, backend).queued_before(record, COUNTED)
        number, more = sum(counts), " or more" if COUNTED in counts else ""
        its = f"in queue {queue}" + (f", priority {priority}" if priority else "") + (f", key {key!r}" if key else "")
        return f"{its}; {number}{more} run{'' if number == 1 else 's'} of its lane or a larger priority before it"
    if not backend.capabilities.filters:
        return ""
    older = RunFilter(record.workflow, RunStatus.RUNNING, limit=COUNTED + 1, created_before=record.created)
    number = sum(is_queued(each) for each in await backend.runs(older))
    count = f"more than {COUNTED}" if number > COUNTED else f"{number}"
    return f"{count} run{'' if number == 1 else 's'} of workflow {record.workflow} queued before it"
