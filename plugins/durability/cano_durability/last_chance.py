"""Tells the step that kills its processes from the steps that are executed beside it."""

from __future__ import annotations

from cano import RunRecord, RunStatus
from cano.engine.ports import BoundWorkflow, Host

from cano_durability.recovery.leases import journal_of


class LastChance:
    """The only run of a kernel that is executed although the next killed process would end it as the killer.

    Each run that a killed process executed counts, since nothing tells which one killed it. So those that have used up
    their takeovers are executed one at a time, until their step is committed: then only the killer is counted again.
    """

    def __init__(self, kernel: Host) -> None:
        self._kernel = kernel
        self._run_id: str | None = None
        self._claiming = False

    def denied(self, plan: BoundWorkflow, record: RunRecord, kills: int) -> bool:
        """Return whether a run whose step has killed that many processes has to wait for another one.

        A child of a run that is executed here never has to: its parent would wait for it.
        """
        if not _is_last(plan, record, kills) or record.parent in self._kernel.active:
            return False
        run = None if self._run_id is None else self._kernel.active.get(self._run_id)
        executing = run is not None and run.journal is not None and journal_of(run).blamed
        return self._run_id != record.run_id and (self._claiming or executing)

    def begin(self, plan: BoundWorkflow, record: RunRecord, kills: int) -> None:
        """Reserve this kernel for a run that is about to be restored, if it is its last chance."""
        if _is_last(plan, record, kills) and record.parent not in self._kernel.active:
            self._run_id, self._claiming = record.run_id, True

    def end(self, record: RunRecord) -> None:
        """Note that the run is executed now, or that it could not be restored."""
        if self._run_id == record.run_id:
            self._claiming = False


def _is_last(plan: BoundWorkflow, record: RunRecord, kills: int) -> bool:
    return record.status is RunStatus.RUNNING and kills > 0 and kills == plan.flow.max_takeovers
