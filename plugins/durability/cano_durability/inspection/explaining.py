"""Explains why a run is not progressing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cano import (
    Explanation,
    Run,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Standstill,
    VersionMismatchError,
    state_name,
)
from cano.engine.ports import Host

from cano_durability.admission.explaining import no_slot
from cano_durability.answers import answer
from cano_durability.claiming import ended_parent
from cano_durability.failures import ended_with_parent
from cano_durability.inspection.durations import duration
from cano_durability.keys import BATCH, IMPORTED
from cano_durability.lateness.watching import LateRuns
from cano_durability.migration import landing_state
from cano_durability.recovery.leases import with_status_at
from cano_durability.stored_runs import StoredRuns
from cano_durability.submitting.queued import is_delayed, queued_before


class Explainer:
    """Explains the runs of one kernel. `Kernel` documents the method."""

    def __init__(self, kernel: Host, stored: StoredRuns, late: LateRuns) -> None:
        self._kernel = kernel
        self._late = late
        self._stored = stored

    async def explain(self, run_id: str) -> Explanation:
        """See `Kernel.explain`."""
        if (run := self._kernel.active.get(run_id)) is not None and not await self._is_leaving(run):
            if run.waits_for is not None:
                names, now = getattr(run.waits_for, "names", None), self._stored.now()
                shared = None if names is None else await no_slot(self._stored.backend, run_id, names, now)
                return shared or Explanation(Standstill.WAITING_FOR_LIMIT, str(run.waits_for))
            detail = f"in state {state_name(run.state)}" + await self._parked_children(run_id)
            for other in self._kernel.active.values():
                if other.waits_for is not None and run in (other.parent, other.caller):
                    detail += f"; it waits for run {other.run_id}, which waits for a slot of {other.waits_for}"
                    break
            return Explanation(Standstill.RUNNING_HERE, detail + self._late.text(run_id))
        record = None
        try:
            record = with_status_at(await self._stored.record(run_id), self._stored.now())
            reason, detail = await self._explanation(record)
            return Explanation(reason, detail + self._late.text(record))
        except (SerializationError, VersionMismatchError) as error:
            reason, detail = Standstill.UNREADABLE, str(error)
            if isinstance(error, VersionMismatchError):
                reason, detail = Standstill.CHANGED, "; ".join(error.differences)
            if record is not None and record.status is RunStatus.FAILED:
                detail += f"; it failed {_failure(record)}"
            return Explanation(reason, detail)

    async def _explanation(self, record: RunRecord) -> Explanation:
        """Explain a run. Raises SerializationError or VersionMismatchError if it could not continue in this kernel."""
        stored, run_id, status, wait = self._stored, record.run_id, record.status, record.wait
        if status is RunStatus.RUNNING:
            if (waits := await no_slot(stored.backend, run_id, None, stored.now())) is not None:
                return waits
            detail = f"{record.holder}; its lease expires in {duration((record.expires or 0) - stored.now())}"
            counted = self._ended_of_batch(record)
            return Explanation(Standstill.RUNNING_ELSEWHERE, detail + (counted or await self._parked_children(run_id)))
        origin = stored.origin(run_id, record.own)
        forked = "" if origin is None else f", forked from run {origin[0]} after transition {origin[1]}"
        if record.holder == IMPORTED:
            forked += "; it was imported, so that only resume() continues it, or a fork does"
        if status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED):
            if status is RunStatus.CANCELLED and record.parent is not None:
                forked = f", with its parent {record.parent}" if ended_with_parent(record) else ", by itself"
            return Explanation(Standstill[status.name], f"in state {record.state}{forked}")
        stored.check(record)
        if status is RunStatus.QUEUED:
            self._check_continues(record, None)
            return Explanation(Standstill.QUEUED, await queued_before(stored.backend, record))
        if is_delayed(record) and wait is not None and wait.until is not None and wait.until > stored.now():
            return Explanation(Standstill.DELAYED, f"for {duration(wait.until - stored.now())} more, in {record.state}")
        if status is RunStatus.PARKED and wait is None:  # a record that a plugin keeps for its own use
            return Explanation(Standstill.WAITING_FOR_SIGNAL, "from the plugin that parked it")
        if status is RunStatus.PARKED and wait is not None:
            signal = await answer(stored.backend, run_id, wait, record.seq)
            limit = stored.limit(record)
            overdue = limit is not None and limit[1] <= stored.now()
            by_time = signal is None and wait.until is not None and wait.until <= stored.now()
            if not (signal is not None or by_time or overdue):
                until = "" if wait.until is None else f"for {duration(wait.until - stored.now())} more"
                kept = {each.name for each in (await stored.backend.signals(run_id)).waiting if not each.own}
                others = sorted(repr(name) for name in kept if wait.own or name != wait.signal)
                forked += f"; for later waits, it keeps {', '.join(others)}" if others else ""
                if wait.child is not None:
                    detail = wait.child + await self._status_of(wait.child) + (until and f", {until}") + forked
                    return Explanation(Standstill.WAITING_FOR_CHILD, detail)
                if wait.signal is None:
                    return Explanation(Standstill.WAITING_FOR_TIME, f"{until}, then {wait.then}{forked}")
                without = f", otherwise {wait.on_timeout}" if until and wait.on_timeout is not None else ""
                detail = f"{wait.signal!r}" + (until and f", {until}") + f", then {wait.then}{without}{forked}"
                return Explanation(Standstill.WAITING_FOR_SIGNAL, detail)
            self._check_continues(record, record.payload if signal is None else signal.payload)
            if limit is not None and overdue:
                return Explanation(Standstill.READY, f"it exceeded its timeout of {limit[0]:g} s and will fail{forked}")
            following = wait.on_timeout if by_time and wait.on_timeout is not None else wait.then
            return Explanation(Standstill.READY, f"next state {following}{forked}")
        self._check_continues(record, record.payload)
        if status is RunStatus.FAILED:
            if (child := await self._cancelled_child(record)) is not None:
                return Explanation(Standstill.CHILD_CANCELLED, f"child {child}, after transition {record.seq}")
            if (ended := await ended_parent(self._kernel, stored.backend, record)) is not None:
                parent = f"parent {record.parent} ({ended})"
                return Explanation(Standstill.CHILD_FAILED, f"{parent}; it failed {_failure(record)}")
            again = "" if stored.wait(record) is None else "; resumed, it waits again"
            return Explanation(Standstill.FAILED, _failure(record) + again)
        kills = stored.takeovers(record)
        taken = f", which {kills} processes did not survive" if kills else ""
        if counted := self._ended_of_batch(record):
            return Explanation(Standstill.WAITING_FOR_INPUTS, counted[2:] + taken + forked)
        return Explanation(Standstill.INTERRUPTED, f"in state {record.state}{taken}{forked}")

    async def _is_leaving(self, run: Run) -> bool:
        """Return whether the store has the commit that parks or ends an active run: another reader has seen it."""
        with suppress(SerializationError):
            record = None if run.journal is None else await self._stored.backend.load(run.run_id)
            return record is not None and record.status is not RunStatus.RUNNING
        return False

    async def _status_of(self, run_id: str) -> str:
        """Return the part of an explanation that says how a child is doing; its own explanation says more."""
        with suppress(SerializationError):
            if (record := await self._stored.backend.load(run_id)) is not None:
                return f", which is {with_status_at(record, self._stored.now()).status.value}"
            return ", which does not exist; only cancelling this run can end the wait"
        return ""

    def _check_continues(self, record: RunRecord, payload: Any) -> None:
        """Raise the error with which a takeover would refuse the run, if its workflow is known here."""
        plan = self._stored.plan_of(record.workflow) or self._kernel.bound.get(record.workflow)
        if plan is not None:
            landing_state(plan, self._stored.migrated(record))
            self._stored.values_of(record.workflow).payload(payload, record.run_id)

    async def _cancelled_child(self, record: RunRecord) -> str | None:
        """Return the child or grandchild whose cancellation, by itself, is why the run failed; otherwise None."""
        error = record.error or {}
        for child in await self._stored.backend.runs(RunFilter(parent=record.run_id)):
            if child.status is RunStatus.FAILED and (found := await self._cancelled_child(child)) is not None:
                child = child._replace(run_id=found)
            elif child.status is not RunStatus.CANCELLED or ended_with_parent(child):
                continue
            if f"run {child.run_id} was cancelled" in f"{error.get('message')} {error.get('cause')}":
                return child.run_id
        return None

    def _ended_of_batch(self, record: RunRecord) -> str:
        """Return the part of an explanation that counts the children of a batch that have ended; "" for other runs."""
        position = self._stored.values.own(BATCH, record.own, record.run_id)
        return "" if position is None else f"; {sum(position[3:6])} runs have ended"

    async def _parked_children(self, run_id: str) -> str:
        """Return the part of an explanation that names the children that wait, and that the run waits for."""
        children = await self._stored.backend.runs(RunFilter(parent=run_id, status=RunStatus.PARKED))
        parked = [child.run_id for child in reversed(children)]
        more = f" and {len(parked) - 1} more" if len(parked) > 1 else ""
        return f"; it waits for its child {parked[0]}{more}, which is parked" if parked else ""


def _failure(record: RunRecord) -> str:
    error = record.error or {}
    place = f"; at {error['place']}" if error.get("place") else ""
    return f"in state {error.get('state')}: {error.get('message')}{place}"
