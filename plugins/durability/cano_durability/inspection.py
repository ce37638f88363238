"""Inspects stored runs: lists, histories, forks, why a run is not progressing, and the problems in a store."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cano import (
    ConfigurationError,
    ConflictError,
    Explanation,
    Finding,
    Retention,
    RunFilter,
    RunNotFoundError,
    RunRecord,
    RunStatus,
    SerializationError,
    Standstill,
    Transition,
    VersionMismatchError,
    state_name,
)
from cano.engine.ports import Host

from cano_durability.answers import answer
from cano_durability.claiming import ended_parent, ended_with_parent, has_ended
from cano_durability.keys import DEADLINE, DEFINITION, LASTING, ORIGIN, PAYLOAD, PREFIX, WAIT
from cano_durability.migration import landing_state
from cano_durability.patience import despite_cancellation
from cano_durability.recovery.leases import with_status_at
from cano_durability.stored_runs import StoredRuns
from cano_durability.waits import kept_wait

_LACKS = {
    "history": "keeps no history of its runs, so none can be shown, and no run can be forked",
    "retention": "keeps everything, so no run can be deleted",
}


class Inspector:
    """Answers questions about the stored runs of one kernel. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored

    async def runs(self, filter: RunFilter) -> list[RunRecord]:
        """See `Kernel.runs`."""
        derived = filter.status in (RunStatus.INTERRUPTED, RunStatus.RUNNING)
        ask = filter._replace(status=RunStatus.RUNNING, limit=None) if derived else filter
        records = [with_status_at(record, self._stored.now()) for record in await self._stored.backend.runs(ask)]
        found = [record for record in records if filter.status is None or record.status is filter.status]
        return found[: filter.limit]

    async def history(self, run_id: str) -> list[Transition]:
        """See `Kernel.history`."""
        self._require("history")
        entries = await self._stored.backend.history(run_id)
        if not entries:
            raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
        origin = self._stored.origin(run_id, entries[0].changed)
        entries = [entries[0]._replace(origin=origin), *entries[1:]]
        return [
            entry._replace(
                changed=self._stored.values.data(entry.changed, run_id),
                removed=[key for key in entry.removed if not key.startswith(PREFIX)],
            )
            for entry in entries
        ]

    async def fork(self, run_id: str, seq: int, new_run_id: str) -> str:
        """See `Kernel.fork`."""
        self._require("history")
        stored, values = self._stored, self._stored.values
        record = await stored.record(run_id)
        entries = await stored.backend.history(run_id)
        point = next((entry for entry in entries if entry.seq == seq), None)
        if point is None:
            numbers = [entry.seq for entry in entries]
            whole = len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1  # or some commits made several
            known = f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers)) or "none"
            raise ConfigurationError(f"run {run_id} has no transition {seq!r}; there are: {known}")
        data: dict[str, Any] = {}
        passing: list[str] = []  # the plugin's values that the next transition dropped
        for entry in entries[: entries.index(point) + 1]:
            for key in (*entry.removed, *passing):
                data.pop(key, None)
            data.update(entry.changed)
            passing = [key for key in entry.changed if key.startswith(PREFIX) and key not in LASTING]
        payload, kept = data.pop(PAYLOAD, None), kept_wait(values, record, data)
        if record.seq == seq and record.status is not RunStatus.SUCCEEDED:  # a signal may have ended its wait
            payload, kept = record.payload, stored.wait(record)
            point = point._replace(state=record.state)  # it may have migrated to another definition there
            data |= {key: record.data[key] for key in (DEFINITION,) if key in record.data}
        elif point.status is RunStatus.PARKED and kept is None:
            raise ConfigurationError(
                f"an earlier version parked run {run_id} at transition {seq} and kept no wait in the history; fork an "
                "earlier transition, so that it waits again"
            )
        created, now, due = stored.unique_now(), stored.now(), None
        if (limit := stored.limit(record)) is not None:
            due = now + limit[0]
            data[DEADLINE] = values.encode(DEADLINE, (limit[0], due))
        data[ORIGIN] = values.encode(ORIGIN, (run_id, seq))
        data.pop(WAIT, None)
        if kept is not None:
            kept = kept.begun_at(now)
            data[WAIT] = values.encode(WAIT, kept.packed())
        elif payload is not None:
            data[PAYLOAD] = payload
        forked = RunRecord(
            run_id=new_run_id, workflow=record.workflow, version=record.version, fingerprint=record.fingerprint,
            state=point.state, seq=seq, data=data, status=RunStatus.RUNNING if kept is None else RunStatus.PARKED,
            wait=None if kept is None else kept.before(due), payload=payload if kept is None else None,
            created=created, updated=created, holder=stored.holder, expires=created, token=1,
        )  # fmt: skip
        with stored.holding:
            try:
                if new_run_id in self._kernel.active or await stored.create(forked) is not None:
                    raise ConfigurationError(f"the run id {new_run_id!r} is in use; fork to another")
                await stored.backend.release(new_run_id, 1)
            except BaseException:
                await stored.let_go(new_run_id, created)
                raise
        return new_run_id

    async def explain(self, run_id: str) -> Explanation:
        """See `Kernel.explain`."""
        if (run := self._kernel.active.get(run_id)) is not None:
            if run.waits_for is not None:
                return Explanation(Standstill.WAITING_FOR_LIMIT, str(run.waits_for))
            detail = f"in state {state_name(run.state)}" + await self._parked_children(run_id)
            for other in self._kernel.active.values():
                if other.waits_for is not None and run in (other.parent, other.caller):
                    detail += f"; it waits for run {other.run_id}, which waits for a slot of {other.waits_for}"
                    break
            return Explanation(Standstill.RUNNING_HERE, detail)
        record = None
        try:
            record = with_status_at(await self._stored.record(run_id), self._stored.now())
            return await self._explanation(record)
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
            detail = f"{record.holder}; its lease expires in {_duration((record.expires or 0) - stored.now())}"
            return Explanation(Standstill.RUNNING_ELSEWHERE, detail + await self._parked_children(run_id))
        origin = stored.origin(run_id, record.data)
        forked = "" if origin is None else f", forked from run {origin[0]} after transition {origin[1]}"
        if status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED):
            if status is RunStatus.CANCELLED and record.parent is not None:
                forked = f", with its parent {record.parent}" if ended_with_parent(record) else ", by itself"
            return Explanation(Standstill[status.name], f"in state {record.state}{forked}")
        stored.check(record)
        if status is RunStatus.PARKED and wait is None:  # a record that a plugin keeps for its own use
            return Explanation(Standstill.WAITING_FOR_SIGNAL, "from the plugin that parked it")
        if status is RunStatus.PARKED and wait is not None:
            signal = None
            if wait.signal is not None:
                signal, _ = await answer(stored.backend, run_id, wait.signal, record.seq)
            limit = stored.limit(record)
            overdue = limit is not None and limit[1] <= stored.now()
            by_time = signal is None and wait.until is not None and wait.until <= stored.now()
            if not (signal is not None or by_time or overdue):
                until = "" if wait.until is None else f"for {_duration(wait.until - stored.now())} more"
                kept = [each.name for each in (await stored.backend.signals(run_id)).waiting]
                others = sorted({repr(name) for name in kept if name != wait.signal and not name.startswith(PREFIX)})
                forked += f"; for later waits, it keeps {', '.join(others)}" if others else ""
                if wait.signal is None:
                    return Explanation(Standstill.WAITING_FOR_TIME, f"{until}, then {wait.then}{forked}")
                detail = f"{wait.signal!r}" + (until and f", {until}") + f", then {wait.then}{forked}"
                return Explanation(Standstill.WAITING_FOR_SIGNAL, detail)
            self._check_continues(record, record.payload if signal is None else signal.payload)
            if limit is not None and overdue:
                return Explanation(Standstill.READY, f"it exceeded its timeout of {limit[0]:g} s and will fail")
            following = wait.on_timeout if by_time and wait.on_timeout is not None else wait.then
            return Explanation(Standstill.READY, f"next state {following}")
        self._check_continues(record, record.payload)
        if status is RunStatus.FAILED:
            if (child := await self._cancelled_child(record)) is not None:
                return Explanation(Standstill.CHILD_CANCELLED, f"child {child}, after transition {record.seq}")
            if (ended := await ended_parent(self._kernel, stored.backend, record)) is not None:
                parent = f"parent {record.parent}, which has ended ({ended})"
                return Explanation(Standstill.CHILD_FAILED, f"{parent}; it failed {_failure(record)}")
            again = "" if stored.wait(record) is None else "; resumed, it waits again"
            return Explanation(Standstill.FAILED, _failure(record) + again)
        kills = stored.takeovers(record)
        taken = f", which {kills} processes did not survive" if kills else ""
        return Explanation(Standstill.INTERRUPTED, f"in state {record.state}{taken}{forked}")

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

    async def _parked_children(self, run_id: str) -> str:
        """Return the part of an explanation that names the children that wait, and that the run waits for."""
        children = await self._stored.backend.runs(RunFilter(parent=run_id))
        parked = [child.run_id for child in reversed(children) if child.status is RunStatus.PARKED]
        more = f" and {len(parked) - 1} more" if len(parked) > 1 else ""
        return f"; it waits for its child {parked[0]}{more}, which is parked" if parked else ""

    async def check(self) -> list[Finding]:
        """See `Kernel.check`. Values are decoded only if the run's workflow, and therefore its classes, are known."""
        findings, stored = [], self._stored
        records = {record.run_id: record for record in await stored.backend.runs(RunFilter())}
        for run_id, record in records.items():
            try:
                stored.check(loaded := await stored.record(run_id))
                if (kills := stored.takeovers(loaded)) > 1 and loaded.status is not RunStatus.CANCELLED:
                    findings.append(Finding("killed processes", run_id, f"state {loaded.state} killed {kills}"))
            except SerializationError as error:
                findings.append(Finding("corrupt", run_id, str(error)))
            except RunNotFoundError:  # it was deleted in the meantime, or its id cannot be read
                if record.error is not None and not record.fingerprint:
                    findings.append(Finding("corrupt", run_id, str(record.error.get("message"))))
                continue
            if record.parent is not None and not record.status.finished:
                parent = records.get(record.parent)
                if parent is None or parent.status.finished:
                    fate = "does not exist" if parent is None else f"has {parent.status.value}"
                    findings.append(Finding("orphan", run_id, f"its parent {record.parent} {fate}"))
            if record.holder is not None and with_status_at(record, stored.now()).status is RunStatus.INTERRUPTED:
                ago = stored.now() - (record.expires or 0)
                problem = f"expired {_duration(ago)} ago" if ago > 0 else "which is dead"
                findings.append(Finding("stale lease", run_id, f"held by {record.holder}, {problem}"))
        return findings

    async def prune(self, retention: Retention) -> list[str]:
        """See `Kernel.prune`. A child is kept with a parent that can continue or be resumed, and needs its result."""
        self._require("retention")
        expired, newer, deleted = set[str](), dict[str, int](), list[str]()
        records = await self._stored.backend.runs(RunFilter())
        for record in records:
            if record.status.finished:
                count = newer[record.workflow] = newer.get(record.workflow, 0) + 1
                if retention.expired(count - 1, self._stored.now() - record.updated):
                    expired.add(record.run_id)
        needing = {run.run_id for run in records if run.run_id not in expired and not has_ended(run, resume_ended=True)}
        for record in reversed(records):  # parents first
            if record.run_id in expired:
                if record.parent not in needing and await self._delete(record.run_id):
                    deleted.append(record.run_id)
                elif not has_ended(record, resume_ended=True):
                    needing.add(record.run_id)
        return deleted[::-1]

    async def delete(self, run_id: str) -> None:
        """See `Kernel.delete`."""
        self._require("retention")
        if run_id in self._kernel.active:
            raise ConflictError(_unfinished(run_id, "this kernel executes it", run_id), run_id=run_id)
        with suppress(SerializationError):
            record = with_status_at(await self._stored.record(run_id), self._stored.now())
            if not record.status.finished:
                raise ConflictError(_unfinished(run_id, f"it is {record.status.value}", run_id), run_id=run_id)
            parent = None if record.parent is None else await self._stored.backend.load(record.parent)
            if parent is not None and not has_ended(parent, resume_ended=True):
                problem = f"its parent {parent.run_id} may still need its result"
                call = "delete" if parent.status.finished else "cancel"
                raise ConflictError(_unfinished(run_id, problem, parent.run_id, call), run_id=run_id)
        if not await self._delete(run_id):
            raise ConflictError(f"run {run_id} is not deleted: it is being resumed", run_id=run_id)

    async def _delete(self, run_id: str) -> bool:
        """Delete a finished run, unless it is being resumed. A run that cannot be read cannot be resumed, either."""
        backend, token = self._stored.backend, None
        with self._stored.holding:
            try:
                token = await self._stored.claim(run_id, self._stored.now())
                record = await backend.load(run_id)
                if token is not None and record is not None and record.status.finished:
                    return await backend.delete(run_id)
            except SerializationError:
                return await backend.delete(run_id)
            except BaseException:
                if token is not None:
                    await despite_cancellation(backend.release(run_id, token), self._kernel.clock)
                raise
            if token is not None:
                await backend.release(run_id, token)
        return False

    def _require(self, promise: str) -> None:
        """Raise ConfigurationError unless the store promises `history` or `retention`."""
        if not getattr(self._stored.backend.capabilities, promise):
            name = self._kernel.store_name
            raise ConfigurationError(f"the store {name} {_LACKS[promise]}; use one with {promise}, see `cano plugins`")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s"


def _failure(record: RunRecord) -> str:
    error = record.error or {}
    return f"in state {error.get('state')}: {error.get('message')}"


def _unfinished(run_id: str, problem: str, other: str, call: str = "cancel") -> str:
    return f"run {run_id} is not deleted: {problem}; {call} first: kernel.{call}({other!r})"
