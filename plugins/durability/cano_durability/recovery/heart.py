"""Renews the leases of a kernel's runs, and stops runs whose lease cannot be renewed in time."""

from __future__ import annotations

import asyncio
import logging
import math

from cano import Run, RunStatus, Timer
from cano.engine.ports import Host

from cano_durability.journal import Journal
from cano_durability.patience import cancelled
from cano_durability.recovery.leases import journal_of
from cano_durability.stored_runs import StoredRuns

_log = logging.getLogger("cano")


class Heart:
    """Renews all leases of one kernel in one call, four times before any of them is no longer safe.

    A run whose lease was not renewed in time is stopped before the lease expires. Therefore this kernel executes no run
    that another one may have taken over, even if the store does not answer or the event loop was blocked.
    """

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._due = math.inf  # the time when the timer fires, by `StoredRuns.elapsed`

    def start(self, run: Run) -> None:
        """Begin to renew the lease of a run that is about to be executed here."""
        if self._stored.durable:  # in any other store, leases do not expire
            if self._task is None or self._task.done():
                self._disarm()  # a timer of an event loop that has ended never fires
                self._task = asyncio.get_running_loop().create_task(self._beat_forever(), name="cano heart")
            self._arm(journal_of(run).safe_until)

    async def close(self) -> None:
        """Stop the renewals."""
        self._disarm()
        await cancelled(self._task)

    async def _beat_forever(self) -> None:
        while True:
            await self._kernel.clock.sleep(self._stored.safe / 5)
            try:
                await self.beat()
            except Exception as error:  # noqa: BLE001  # a store may be unreachable for a while
                _log.warning("the leases could not be renewed: %r; retrying", error)

    async def beat(self) -> None:
        """Renew the leases of all runs that this kernel executes, and stop those that another holder has claimed."""
        # the row of a run with an open transaction is locked, and the transaction ends well before the lease
        held = {run_id: each for run_id, each in self._held().items() if each[1].transaction is None}
        stored = self._stored
        if not held:
            return
        tokens = {run_id: journal.token for run_id, (_, journal) in held.items()}
        sent = stored.elapsed()
        lost = set(await stored.backend.renew(stored.holder, tokens, stored.now() + stored.lease))
        for run_id, (run, journal) in held.items():
            if run_id not in lost:
                journal.safe_until = max(journal.safe_until, sent + stored.safe)
            # unless the run has released its lease in the meantime, or is releasing it
            elif self._kernel.active.get(run_id) is run and run.journal is journal and not journal.releasing:
                run.stop(RunStatus.INTERRUPTED, lost="another holder has claimed it")
        self._arm(min(journal.safe_until for _, journal in held.values()))

    def _held(self) -> dict[str, tuple[Run, Journal]]:
        return {
            run_id: (run, journal)
            for run_id, run in list(self._kernel.active.items())
            if isinstance(journal := run.journal, Journal)
        }

    def _arm(self, due: float) -> None:
        """Let the timer fire at `due`, unless it fires earlier. It then checks which leases are no longer safe."""
        if due < self._due:
            self._disarm()
            clock = self._kernel.clock
            self._due = due
            self._timer = clock.call_at(clock.monotonic() + max(0.0, due - self._stored.elapsed()), self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, math.inf

    def _expire(self) -> None:
        """Stop the runs whose lease could not be renewed in time."""
        self._disarm()
        now = self._stored.elapsed()
        for run, journal in self._held().values():
            if journal.safe_until > now:
                self._arm(journal.safe_until)
            elif not journal.releasing:
                run.stop(RunStatus.INTERRUPTED, lost="it could not be renewed in time")
