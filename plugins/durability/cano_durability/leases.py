"""Leases: claiming a run that no live process holds, and renewing the leases of this kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cano import Run, RunRecord, RunStatus
from cano.engine.ports import Host, is_dead, is_held

from cano_durability.journal import Journal
from cano_durability.patience import despite_cancellation
from cano_durability.stored_runs import StoredRuns


class Leases:
    """The leases that one kernel holds."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored

    async def claim(self, record: RunRecord) -> int | None:
        """Claim a run; return the new fencing token, or None if a live process holds the run."""
        stored, now = self._stored, self._stored.now()
        token = await stored.backend.claim(record.run_id, stored.holder, now, now + stored.lease)
        if token is not None or record.holder is None or record.expires is None or not is_dead(record.holder):
            return token
        over = math.nextafter(record.expires, math.inf)  # as if the dead holder's lease had expired
        return await stored.backend.claim(record.run_id, stored.holder, max(now, over), now + stored.lease)

    async def release(self, run_id: str, token: int) -> None:
        """Release a lease, even if this is cancelled meanwhile."""
        await despite_cancellation(self._stored.backend.release(run_id, token), self._kernel.clock)

    async def renew(self) -> Sequence[str]:
        """Renew the leases of all runs that this kernel executes, and stop those that were lost. Return their ids."""
        held: dict[str, Journal] = {
            run.run_id: journal for run in self._kernel.active.values() if isinstance(journal := run.journal, Journal)
        }
        if not held:
            return ()
        tokens = {run_id: journal.token for run_id, journal in held.items()}
        stored = self._stored
        for run_id in await stored.backend.renew(stored.holder, tokens, stored.now() + stored.lease):
            run = self._kernel.active.get(run_id)
            # unless the run has released its lease meanwhile, or is doing so
            if run is not None and run.journal is held[run_id] and not held[run_id].releasing:
                run.stop(RunStatus.INTERRUPTED, lost=True)
        return tuple(held)


def seen_at(record: RunRecord, now: float) -> RunRecord:
    """Return `record` as INTERRUPTED if it says RUNNING, but no live process holds it at `now`."""
    interrupted = record.status is RunStatus.RUNNING and not is_held(record, now)
    return record._replace(status=RunStatus.INTERRUPTED) if interrupted else record


def journal_of(run: Run) -> Journal:
    """The journal of a run that this plugin keeps."""
    assert isinstance(run.journal, Journal)
    return run.journal
