"""Parks the runs that wait for a parked child."""

from __future__ import annotations

from collections.abc import Callable

from cano import Run, RunRecord, RunStatus, Step, Wait, is_held, state_name
from cano.engine.ports import Host, ParkedForChild, child_signal

from cano_durability.cancelling import Canceller
from cano_durability.families.lineage import only_waits
from cano_durability.keys import AWAITED, RETRY
from cano_durability.recovery.leases import Leases, journal_of
from cano_durability.restating import restated
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

    async def park(self, step: Step, child: RunRecord) -> bool:
        """Park the run of `step`, if the step does nothing but wait for this child, which is parked.

        Otherwise return whether the child's record has just been changed, so that another look may find it parkable.

        Raises:
            ParkedForChild: the run is parked.
        """
        stored, run, now = self._stored, step.run, self._kernel.clock.monotonic()
        if not stored.durable or child.status is not RunStatus.PARKED:
            return False
        state, deadline = state_name(run.step.state), step.deadline
        if run.store is not run.view or only_waits(run.plan, state) is None:
            return False
        if deadline is not None and deadline <= now:  # its timeout is about to cancel it
            return False
        if child.holder is not None or AWAITED not in child.own:
            return not is_held(child, stored.now()) and await self._prepare(child)
        if run.journal is None:
            run.journal = await stored.adopt(run)
            self._look_after(run)
        if run.watch is not None:
            run.watch.arm(run.deadline)  # from here on, only the run's own timeout ends the attempt
        until = None if deadline in (None, run.deadline) else stored.now() + deadline - now
        began = stored.now() - (now - step.began(now))
        values = {RETRY: [step.attempt - 1, began]}
        await journal_of(run).park(run, Wait(state, child_signal(child.run_id), until, own=True), run.steps, values)
        raise ParkedForChild

    async def _prepare(self, child: RunRecord) -> bool:
        """Claim the child for a moment, so that whatever ends it from now on announces that; return success.

        A holder that lost its lease may have announced the end before: it cannot commit that any more. If it was
        cancelling the child, this does so in its place. A child that an earlier version parked announces its end, too.
        """
        stored = self._stored
        if await self._canceller.request(child.run_id) is not None:
            return await self._canceller.cancel_unheld(child)
        with stored.holding:
            if (token := await self._leases.claim(child)) is None:
                return False
            try:
                child = await stored.backend.load(child.run_id) or child  # with the wait as it is stored
                if child.status is RunStatus.PARKED and AWAITED not in child.own:
                    own = stored.values.encode_own({AWAITED: True}, child.run_id)
                    await stored.backend.commit(restated(child, token, stored.now())._replace(own=own))
            finally:
                await self._leases.release(child.run_id, token)
        return True
