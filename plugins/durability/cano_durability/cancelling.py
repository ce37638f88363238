"""Cancels runs in any process, with their children."""

from __future__ import annotations

from cano import Commit, RunFilter, RunRecord, RunStatus, Signal
from cano.engine.ports import Host

from cano_durability.keys import CANCEL
from cano_durability.recovery.leases import Leases, journal_of
from cano_durability.recovery.waiting import Alarms, Waiters
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.stored_runs import StoredRuns


class Canceller:
    """Cancels runs: those of this kernel at once, those of others by a signal to their holders."""

    def __init__(
        self,
        kernel: Host,
        stored: StoredRuns,
        leases: Leases,
        watchlist: Watchlist,
        alarms: Alarms,
        waiters: Waiters,
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._leases = leases
        self._watchlist = watchlist
        self._alarms = alarms
        self._waiters = waiters

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run in any process. Return False if it has already ended. Raises RunNotFoundError."""
        if (run := self._kernel.active.get(run_id)) is not None:
            run.stop(RunStatus.CANCELLED)
            return True
        record = await self._stored.head(run_id)  # an unreadable run can be cancelled, too
        if record.status.finished:
            return False
        # the holder checks for this signal when it renews leases or releases an unfinished run
        await self._stored.backend.put_signal(run_id, Signal(f"{CANCEL} {record.token}", CANCEL))
        await self.cancel_unheld(record)
        return True

    async def request(self, run_id: str) -> Signal | None:
        """Return the signal that requests the run's cancellation, or None if there is none."""
        return await self._stored.backend.next_signal(run_id, CANCEL)

    async def cancel_unheld(self, record: RunRecord) -> None:
        """Cancel a run that no live process holds. Do nothing if one does: the holder cancels it."""
        run_id = record.run_id
        token = await self._leases.claim(record)
        if token is None:
            return
        try:
            record, request = await self._stored.head(run_id), await self.request(run_id)
            if not record.status.finished:
                await self.commit(record, () if request is None else (request.id,))
                return
        except BaseException:
            await self._leases.release(run_id, token)
            raise
        await self._stored.backend.release(run_id, token)

    async def commit(self, record: RunRecord, consumed: tuple[str, ...]) -> None:
        """Commit that a run, which this kernel has just claimed, is cancelled. Cancel its children, too."""
        await self._stored.backend.commit(
            Commit(
                run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.CANCELLED, consumed=consumed, release=True, at=self._stored.now(),
            )
        )  # fmt: skip
        self._alarms.cancel(record.run_id)
        self._watchlist.parked.discard(record.run_id)
        self._waiters.notify(record.run_id)
        await self.cancel_children(record.run_id)

    async def cancel_children(self, run_id: str) -> None:
        """Cancel the unfinished children of a run."""
        for child in await self._stored.backend.runs(RunFilter(parent=run_id)):
            await self.cancel(child.run_id)

    def stop(self, run_id: str, signal: Signal) -> None:
        """Stop a run that this kernel executes. Another process has requested that with `signal`."""
        run = self._kernel.active[run_id]
        journal = journal_of(run)
        journal.consumed = (*journal.consumed, signal.id)
        run.stop(RunStatus.CANCELLED)
