"""Parks the runs that wait for a parked child."""

from __future__ import annotations

from collections.abc import Callable

from cano import Run, RunRecord, RunStatus, Step, Wait, is_held, state_name
from cano.engine.ports import Host, ParkedForChild
from cano.records import CHILD

from cano_durability.cancelling import Canceller
from cano_durability.families.lineage import only_waits
from cano_durability.keys import AWAITED, RETRY
from cano_durability.recovery.leases import Leases, journal_of
from cano_durability.stored_runs import StoredRuns


class Parents:
    """Parks the runs of one kernel that wait for a parked child."""

    def __init__(
        self,
        kernel: Host,
        stored: StoredRuns,
        leases: Leases,
        canceller: Canceller,
        look_after: Callable[[Run], object],
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._leases = leases
        self._canceller = canceller
        self._look_after = look_after

    async def park(self, step: Step, child: RunRecord) -> None:
        """Park the run of `step`, if the step does nothing but wait for this child, which is parked.

        Return if the run cannot be parked, or not yet. A child that an earlier version has parked does not announce its
        end, so its parent stays.

        Raises:
            ParkedForChild: the run is parked.
        """
        stored, run, now = self._stored, step.run, self._kernel.clock.monotonic()
        if not stored.durable or child.status is not RunStatus.PARKED or AWAITED not in child.own:
            return
        state, deadline = state_name(run.step.state), step.deadline
        if run.store is not run.view or only_waits(run.plan, state) is None:
            return
        if deadline is not None and deadline <= now:  # its timeout is about to cancel it
            return
        if child.holder is not None:
            if not is_held(child, stored.now()):
                await self._fence_off(child)
            return
        if run.journal is None:
            run.journal = await stored.adopt(run)
            self._look_after(run)
        if run.watch is not None:
            run.watch.arm(run.deadline)  # from here on, only the run's own timeout ends the attempt
        until = None if deadline in (None, run.deadline) else stored.now() + deadline - now
        began = stored.now() - (now - step.began(now))
        values = {RETRY: [step.attempt - 1, began]}
        await journal_of(run).park(run, Wait(state, CHILD + child.run_id, until, own=True), run.steps, values)
        raise ParkedForChild

    async def _fence_off(self, child: RunRecord) -> None:
        """Keep a holder that lost its lease from committing the child's end, which it may have announced before.

        If it was cancelling the child, do that in its place.
        """
        if await self._canceller.request(child.run_id) is not None:
            await self._canceller.cancel_unheld(child)
        elif (token := await self._leases.claim(child)) is not None:
            await self._leases.release(child.run_id, token)
