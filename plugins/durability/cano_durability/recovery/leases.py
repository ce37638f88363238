"""Claims runs that no live process holds, and releases their leases."""

from __future__ import annotations

import math

from cano import Run, RunRecord, RunStatus, is_held, is_queued
from cano.engine.ports import Host, lives

from cano_durability.journal import Journal
from cano_durability.keys import IMPORTED
from cano_durability.patience import despite_cancellation
from cano_durability.stored_runs import StoredRuns

_OBSERVED = 10_000
"""Expired leases above which old observations of leases are dropped."""


class Leases:
    """Claims and releases the leases of one kernel."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored
        self._observed: dict[str, tuple[object, float]] = {}  # expired leases of live processes on this machine

    async def claim(self, record: RunRecord, *, imported: bool = False) -> int | None:
        """Claim a run; return the new fencing token, or None if a live process holds the run.

        With `imported`, also a run that was imported, and that no process is to execute by itself.
        """
        stored, now = self._stored, self._stored.now()
        run_id = record.run_id
        alive = None if record.holder is None else lives(record.holder)
        if alive and self._may_be_late(record, now):
            return None
        token = await stored.claim(run_id, now)
        if token is None and (expired := after_lease(record, imported=imported)) is not None:
            token = await stored.claim(run_id, max(now, expired))
        if token is not None:
            self._observed.pop(run_id, None)
        return token

    def _may_be_late(self, record: RunRecord, now: float) -> bool:
        """Return whether the holder, which is alive on this machine, may still renew its expired lease.

        It may only be late, or the clock was changed. So it gets the duration of one more lease, by a monotonic clock.
        """
        if record.holder == self._stored.holder or record.expires is None or record.expires >= now:
            return False
        lease, elapsed = (record.token, record.expires), self._stored.elapsed()
        observed, since = self._observed.get(record.run_id, (None, elapsed))
        if len(self._observed) > _OBSERVED:  # other processes have continued most of these runs
            recent = elapsed - 2 * self._stored.lease
            self._observed = {key: item for key, item in self._observed.items() if item[1] > recent}
        if observed != lease:
            self._observed[record.run_id], since = (lease, elapsed), elapsed
        return elapsed - since < self._stored.lease

    async def release(self, run_id: str, token: int) -> None:
        """Release a lease, even if this call is cancelled."""
        await despite_cancellation(self._stored.backend.release(run_id, token), self._kernel.clock)


def after_lease(record: RunRecord, *, imported: bool = False) -> float | None:
    """Return the time at which the lease of a dead holder has expired, for a claim before that; otherwise None.

    With `imported`, that of an imported run, too, which has no process.
    """
    if record.holder is None or record.expires is None:
        return None
    if lives(record.holder) is not False and not (imported and record.holder == IMPORTED):
        return None
    return math.nextafter(record.expires, math.inf)


def with_status_at(record: RunRecord, now: float) -> RunRecord:
    """Return `record` as INTERRUPTED if it says RUNNING, but no live process holds it at `now`; or as QUEUED."""
    if is_queued(record):
        return record._replace(status=RunStatus.QUEUED)
    interrupted = record.status is RunStatus.RUNNING and (record.holder == IMPORTED or not is_held(record, now))
    return record._replace(status=RunStatus.INTERRUPTED) if interrupted else record


def journal_of(run: Run) -> Journal:
    """Return the journal of a run that this plugin keeps."""
    assert isinstance(run.journal, Journal)
    return run.journal
