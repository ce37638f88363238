"""Finds the problems in a store."""

from __future__ import annotations

from cano import Finding, RunFilter, RunNotFoundError, RunStatus, SerializationError

from cano_durability.failures import is_unreadable
from cano_durability.inspection.durations import duration
from cano_durability.keys import BATCH, IMPORTED
from cano_durability.recovery.leases import with_status_at
from cano_durability.stored_runs import StoredRuns, is_incomplete


async def check(stored: StoredRuns) -> list[Finding]:
    """See `Kernel.check`. Values are decoded only if the run's workflow, and therefore its classes, are known."""
    findings = []
    records = {record.run_id: record for record in await stored.backend.runs(RunFilter())}
    for run_id, record in records.items():
        try:
            stored.check(loaded := await stored.record(run_id))
            await stored.backend.signals(run_id)
            if (kills := stored.takeovers(loaded)) > 1 and loaded.status is not RunStatus.CANCELLED:
                findings.append(Finding("killed processes", run_id, f"state {loaded.state} killed {kills}"))
        except SerializationError as error:
            findings.append(Finding("corrupt", run_id, str(error)))
        except RunNotFoundError:  # it was deleted in the meantime, or its id cannot be read
            if is_incomplete(record):
                problem = f"held by {record.holder}; import the run again, or delete it"
                findings.append(Finding("incomplete import", run_id, problem))
            if is_unreadable(record) and record.error is not None:
                findings.append(Finding("corrupt", run_id, str(record.error.get("message"))))
            continue
        if record.parent is not None and not record.status.finished:
            parent = records.get(record.parent)
            if parent is None or (parent.status.finished and not await _is_batch(stored, parent.run_id)):
                fate = "does not exist" if parent is None else f"has {parent.status.value}"
                findings.append(Finding("orphan", run_id, f"its parent {record.parent} {fate}"))
        child = None if record.wait is None else record.wait.child
        if child is not None and child not in records and await stored.backend.load(child) is None:
            findings.append(Finding("orphan", run_id, f"its child {child}, whose end it waits for, does not exist"))
        if (
            record.holder not in (None, IMPORTED)
            and with_status_at(record, stored.now()).status is RunStatus.INTERRUPTED
        ):
            ago = stored.now() - (record.expires or 0)
            problem = f"expired {duration(ago)} ago" if ago > 0 else "which is dead"
            findings.append(Finding("stale lease", run_id, f"held by {record.holder}, {problem}"))
    return findings


async def _is_batch(stored: StoredRuns, run_id: str) -> bool:
    """Return whether a run is a batch, whose failed children may be resumed after its end."""
    record = await stored.backend.load(run_id)
    return record is not None and BATCH in record.own
