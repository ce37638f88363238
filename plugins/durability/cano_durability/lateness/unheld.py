"""Finds the late runs that wait for a worker, or whose process was killed, while no kernel has a place for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cano import Condition, ConflictError, RunFilter, RunNotFoundError, RunRecord, RunStatus, SerializationError
from cano.engine.ports import BoundWorkflow, Host
from cano.safe_text import escaped

from cano_durability.claiming import Claimer
from cano_durability.keys import TAKEOVERS
from cano_durability.lateness.watching import LateRuns
from cano_durability.recovery.leases import Leases, with_status_at
from cano_durability.selecting.listing import Lister
from cano_durability.stored_runs import StoredRuns

_log = logging.getLogger("cano")
_UNHELD = (("status", Condition("in", (RunStatus.INTERRUPTED, RunStatus.QUEUED))),)


class UnheldRuns:
    """Looks for late runs that no process executes. It reads those that became late since its last look, no others."""

    def __init__(
        self, kernel: Host, stored: StoredRuns, leases: Leases, claimer: Claimer, lister: Lister, late: LateRuns
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._leases = leases
        self._claimer = claimer
        self._lister = lister
        self._late = late
        self._looked: dict[tuple[str, str | None], float] = {}  # creation of the youngest runs, by workflow and state

    async def look(self, workflows: Iterable[str]) -> None:
        """Report the late runs of these workflows."""
        for plan in map(self._stored.plan_of, list(workflows)):
            if plan is None or plan.flow.expect is None:
                continue
            if (within := plan.flow.expect.seconds) is not None:
                await self._look(plan, within, None)
            if (within := plan.step_within.get(plan.start.name)) is not None:
                await self._look(plan, within, plan.start.name)

    async def _look(self, plan: BoundWorkflow, within: float, state: str | None) -> None:
        key, before = (plan.name, state), self._stored.now() - within
        after = self._looked.get(key)
        since = None if after is None else after - self._stored.lease  # clocks differ a little
        wanted = RunFilter(plan.name, others=_UNHELD, state=state, created_before=before, created_after=since)
        found = await self._lister.runs(wanted)
        for record in found:
            if record.run_id not in self._kernel.active:
                try:
                    await self._report(plan, record)
                except (ConflictError, RunNotFoundError):
                    pass  # it has continued, or was deleted, meanwhile
                except SerializationError as error:  # the other runs can be reported all the same
                    texts = map(escaped, (record.run_id, str(error)))
                    _log.warning("whether run %s is late cannot be read: %s", *texts)
        self._looked[key] = before

    async def _report(self, plan: BoundWorkflow, record: RunRecord) -> None:
        """Claim a run for the moment that it takes to report that it is late, unless that was done."""
        stored, run_id = self._stored, record.run_id
        record = await stored.record(run_id)
        if not self._late.is_due(plan, record) or record.status is not RunStatus.RUNNING:
            return
        status = with_status_at(record, stored.now()).status
        with stored.holding:
            if (token := await self._leases.claim(record)) is None:
                return
            try:
                left = await self._claimer.was_left(plan, record, token)
                record = await stored.record(run_id)
                own = {TAKEOVERS: stored.takeovers(record) + 1} if left else {}
                await self._late.report_unheld(plan, record, status, own)
            except BaseException:
                await self._leases.release(run_id, token)
                raise
