"""Runs that were submitted and have not begun, as their records show them."""

from __future__ import annotations

from cano import RunFilter, RunRecord, RunStatus, StoreBackend, is_queued

COUNTED = 100
"""The most queued runs that an explanation counts."""


def is_delayed(record: RunRecord) -> bool:
    """Return whether a run is parked because it was submitted with a delay, and has not begun."""
    parked = record.status is RunStatus.PARKED and record.wait is not None and record.wait.signal is None
    return parked and is_queued(record._replace(status=RunStatus.RUNNING))


async def queued_before(backend: StoreBackend, record: RunRecord) -> str:
    """Return how many runs of its workflow were queued before a queued run, in words; "" if that takes long."""
    if not backend.capabilities.filters:
        return ""
    older = RunFilter(record.workflow, RunStatus.RUNNING, limit=COUNTED + 1, created_before=record.created)
    number = sum(is_queued(each) for each in await backend.runs(older))
    count = f"more than {COUNTED}" if number > COUNTED else f"{number}"
    return f"{count} run{'' if number == 1 else 's'} of workflow {record.workflow} queued before it"
