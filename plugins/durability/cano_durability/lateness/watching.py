"""Finds the runs of one kernel that are late, and reports each once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cano import ConflictError, LateRun, Run, RunRecord, RunStatus, Step, StoreError, Wait, state_name
from cano.engine.ports import BoundWorkflow, Host
from cano.safe_text import escaped

from cano_durability.keys import LATE, NOTICES, RETRY, VISIT
from cano_durability.lateness.expectations import Lateness, known_lateness, lateness_of
from cano_durability.outbox.known import read_notices
from cano_durability.recovery.leases import journal_of
from cano_durability.recovery.waiting import Alarms
from cano_durability.restating import put_back
from cano_durability.stored_runs import StoredRuns

_log = logging.getLogger("cano")


class LateRuns:
    """Watches the runs of workflows with an `Expect`. It has the methods of an observer, see `cano_watch_lateness`.

    That a run is late is committed before it is reported, with the lease of the run: so one process reports it, once.
    """

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored
        self._alarms = Alarms(kernel.clock, lambda run_id: kernel.spawn(self._ring(run_id)))
        self.sends: Callable[[], object] = lambda: None  # the notices of what was reported
        self._watched: dict[str, Lateness] = {}  # the runs that this kernel executes

    def close(self) -> None:
        """Report no more runs."""
        self._alarms.close()

    # the runs that this kernel executes

    def run_started(self, run: Run) -> None:
        """Watch a run that begins, or continues."""
        now, values, seq, created = self._stored.now(), run.restored_values, 0, self._stored.now()
        if run.journal is not None:
            journal = journal_of(run)
            seq, created = journal.seq, journal.created
        elif (known := self._watched.get(run.run_id)) is not None:
            created = known.created
        tried = values.get(RETRY)  # when the present step began, if it was running
        began = created if seq == 0 else tried[1] if isinstance(tried, list | tuple) and len(tried) > 1 else now
        self._watch(known_lateness(run.run_id, run.workflow, created, run.bound.name, seq, began, values), run.plan)

    def step_finished(self, step: Step) -> None:
        """Store when the next visit began with its transition, if that is expected to end in time."""
        if (journal := step.run.journal) is not None and step.branch is None:
            name = "" if step.next_state is None else state_name(step.next_state)
            if name in step.run.plan.step_within:
                journal.remember(VISIT, [step.seq, self._stored.now()])

    def transition_committed(self, step: Step) -> None:
        """Watch the next visit."""
        if (known := self._watched.get(step.run_id)) is not None and step.next_state is not None:
            plan = step.run.plan
            self._watch(known.visiting(state_name(step.next_state), step.seq, self._stored.now()), plan)

    def run_parked(self, run: Run) -> None:
        """Leave the run to its alarm in the store."""
        self._leave(run)

    def run_finished(self, run: Run) -> None:
        """Leave the run."""
        self._leave(run)

    def _watch(self, known: Lateness, plan: BoundWorkflow) -> None:
        self._watched[known.run_id] = known
        self._alarms.set(known.run_id, Wait("", until=known.due(plan)))

    def _leave(self, run: Run) -> None:
        if self._kernel.active.get(run.run_id) in (None, run):
            self._watched.pop(run.run_id, None)
            self._alarms.cancel(run.run_id)

    async def _ring(self, run_id: str) -> None:
        """Find what is late of a run that this kernel executes, and report it."""
        run, known, now = self._kernel.active.get(run_id), self._watched.get(run_id), self._stored.now()
        if run is None or known is None:
            return
        for late in [each for each in known.pending(run.plan, now) if each.due <= now]:
            noted = known.noting(late)
            try:
                if run.journal is not None and not await self._save(run, noted, late):
                    return  # it is leaving: a parked run has an alarm in the store
            except ConflictError:
                return  # the run has moved on, and is watched again; or another process has it
            except StoreError as error:
                _log.warning("the store failed: %r; retrying", error)
                self._alarms.set(run_id, Wait("", until=now + self._kernel.poll))
                return
            self.report(run.plan, late)
            if (known := self._watched.get(run_id)) is None:
                return
            self._watched[run_id] = known = known.noting(late)
        self._watch(known, run.plan)

    async def _save(self, run: Run, known: Lateness, late: LateRun) -> bool:
        journal = journal_of(run)
        notices = await journal.announced("late", run, late.state, late.seq, late=late)
        return await journal.save_beside({**known.values(late), **notices})

    # the runs in the store

    def parking(self, run: Run, wait: Wait, seq: int) -> tuple[Wait, dict[str, Any]]:
        """Return the wait to park a run with, and the values to store with it."""
        now = self._stored.now()
        known = self._watched.get(run.run_id)
        if known is None:
            return wait, {}
        known = known.visiting(wait.then, seq, now)
        wait, values = known.capped(run.plan, wait)
        if wait.then in run.plan.step_within:
            values[VISIT] = known.visit.packed()
        return wait, values | ({} if known.late is None else {LATE: list(known.late)})

    def is_due(self, plan: BoundWorkflow, record: RunRecord) -> bool:
        """Return whether there is something to report of a run in the store."""
        if plan.flow.expect is None:
            return False
        due = lateness_of(self._stored.values, record).due(plan)
        return due is not None and due <= self._stored.now()

    def capped(self, plan: BoundWorkflow, record: RunRecord, wait: Wait) -> tuple[Wait, dict[str, Any]]:
        """Return the wait that a parked run's record has, and the encoded values beside it."""
        if plan.flow.expect is None:
            return wait, {}
        wait, values = lateness_of(self._stored.values, record).capped(plan, wait)
        return wait, self._stored.values.encode_own(values, record.run_id)

    async def report_unheld(
        self, plan: BoundWorkflow, record: RunRecord, status: RunStatus, own: dict[str, Any]
    ) -> Wait | None:
        """Commit what is late of a run whose lease this kernel has just claimed, and `own`; release it, and report it.

        `status` is the run's before the claim. Return the wait that its record then has. The record's `updated` stays,
        since the step may have begun then, and so does the status of a run that waits for a worker.
        """
        values, now = self._stored.values, self._stored.now()
        known = lateness_of(values, record)
        found = [late for late in known.pending(plan, now, status) if late.due <= now]
        for late in found:
            known = known.noting(late)
            own = own | known.values(late)
            if self._stored.announce is not None:
                notices = own.get(NOTICES) or read_notices(values, record)
                own = own | await self._stored.announce("late", record, notices, late=late)
        wait = record.wait
        if wait is not None:
            wait, capped = known.capped(plan, wait)
            own = own | capped
        encoded = values.encode_own(own, record.run_id)
        await self._stored.backend.commit(put_back(record)._replace(own=encoded, wait=wait))
        for late in found:
            self.report(plan, late)
        return wait

    def known(self, run_id: str) -> Lateness | None:
        """Return the lateness of a run that this kernel executes; None if its workflow expects nothing."""
        return self._watched.get(run_id)

    def text(self, run: str | RunRecord) -> str:
        """Return the part of an explanation that says what is late of a run: executed here, or as the store has it."""
        known = self.known(run) if isinstance(run, str) else lateness_of(self._stored.values, run)
        if known is None or (isinstance(run, RunRecord) and run.status.finished):
            return ""
        return "".join(f"; late: {late}" for late in known.found(RunStatus.RUNNING))

    def report(self, plan: BoundWorkflow, late: LateRun) -> None:
        """Call the hook, and log that a run is late, unless a plugin has done so."""
        if self._stored.announce is not None:
            self.sends()
        logged = False
        for listener in plan.run_late:
            try:
                logged |= listener(late) is True
            except Exception as error:  # noqa: BLE001  # observers fail no run
                self._kernel.observer_failed(listener, error)
        if not logged:
            texts = late.run_id, late.workflow, str(late)
            _log.warning("run %s of workflow %s is late: %s", *map(escaped, texts))
