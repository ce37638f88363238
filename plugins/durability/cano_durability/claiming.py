"""Starts runs in the store; claims runs that can continue, and restores them from their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cano import (
    AuditEntry,
    ClaimedRun,
    Clock,
    Commit,
    Run,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    SplitOutcome,
    StepKilledError,
    StoreBackend,
    Wait,
    is_held,
)
from cano.engine.ports import BoundWorkflow, Detail, Host, RestorePoint, failed_attempts, is_stopped

from cano_durability.answers import Answer, answer, last_answer
from cano_durability.cancelling import Canceller, is_final
from cano_durability.failures import corrupt, ended_with_parent, stored_error
from cano_durability.families.lineage import announce_end, only_waits
from cano_durability.keys import (
    BATCH,
    CARRIED,
    DEADLINE,
    DEFINITION,
    ERROR,
    OUTCOME,
    PHASES,
    PROGRESS,
    RETRY,
    STREAMS,
    TAKEOVERS,
    TRACEBACK,
    WAIT,
)
from cano_durability.last_chance import LastChance
from cano_durability.lateness.expectations import uncapped
from cano_durability.lateness.watching import LateRuns
from cano_durability.migration import landing_state
from cano_durability.recovery.leases import Leases
from cano_durability.recovery.waiting import Alarms
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.restating import restated
from cano_durability.stored_runs import StoredRuns
from cano_durability.streaming.streams import Streams
from cano_durability.waits import KeptWait, older_wait


class Woken(NamedTuple):
    """The reason why a run can continue.

    Attributes:
        signal: the signal that it waited for, or None.
        wait: the wait whose time has come, or None. A signal may have come before.
        again: the wait that it ended in, and has to begin again; or None.
        late: whether it does not continue yet, and woke only to be reported as late.
    """

    signal: Signal | None = None
    wait: Wait | None = None
    again: KeptWait | None = None
    late: bool = False


class Claim(NamedTuple):
    """A run that this kernel has claimed.

    Attributes:
        plan: its workflow.
        record: its record, as it was loaded after the claim.
        since: when it was claimed, by `StoredRuns.elapsed`.
        new: whether it has never begun.
        left: whether its last process was killed in its present step.
        signals: whether it may have unconsumed signals.
        resume_ended, timeout, audit: see `Claimer.claim`.
    """

    plan: BoundWorkflow
    record: RunRecord
    since: float
    new: bool
    left: bool = False
    signals: bool = True
    resume_ended: bool = False
    timeout: float | None = None
    audit: tuple[AuditEntry, ...] = ()


class Claimer:
    """Claims the runs in the store that can continue."""

    def __init__(
        self,
        kernel: Host,
        stored: StoredRuns,
        leases: Leases,
        watchlist: Watchlist,
        alarms: Alarms,
        canceller: Canceller,
        late: LateRuns,
        streams: Streams,
        look_after: Callable[[Run], object],
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._leases = leases
        self._watchlist = watchlist
        self._alarms = alarms
        self._canceller = canceller
        self._late = late
        self._look_after = look_after
        self._streams = streams
        self._last_chance = LastChance(kernel)

    async def claim(
        self,
        plan: BoundWorkflow,
        record: RunRecord,
        *,
        resume_ended: bool = False,
        timeout: float | None = None,
        audit: tuple[AuditEntry, ...] = (),
    ) -> Run | None:
        """Claim the run and restore it, if it can continue and no live process holds it; otherwise return None.

        Args:
            plan: its workflow.
            record: its record, as it was loaded.
            resume_ended: whether a run that failed, or was cancelled with its parent, continues from its last commit.
            timeout: timeout in seconds for a run that has none, and from now on with `resume_ended`.
            audit: the entry of the caller's action for the store's audit, if it keeps one.

        Raises:
            RunNotFoundError: the run was deleted in the meantime.
            VersionMismatchError: it belongs to another definition.
            SerializationError: its record is corrupt.
        """
        if await self._woken(plan, record, resume_ended) is None:
            return None
        if self._last_chance.denied(plan, record, self._kills(record)):
            return None
        with self._stored.holding:
            run_id, since = record.run_id, self._stored.elapsed()
            token = await self._leases.claim(record, imported=resume_ended)
            if token is None:
                return None
            try:
                left = await self.was_left(plan, record, token)
                new = record.holder is None and record.updated <= record.created
                record = await self._stored.load(run_id)  # it may have changed before the claim
                return await self._continued(Claim(plan, record, since, new, left, True, resume_ended, timeout, audit))
            except BaseException:
                await self._leases.release(run_id, token)
                raise

    async def continued(self, claimed: ClaimedRun, since: float) -> Run | None:
        """Restore a run that was claimed in a group at `since`. Release it and return None if it cannot continue.

        Raises:
            VersionMismatchError: it has migrated to another definition.
            SerializationError: its record is corrupt.
        """
        try:
            if claimed.record is None:
                raise SerializationError(f"the record of run {claimed.run_id} is corrupt", run_id=claimed.run_id)
            record = uncapped(self._stored.values, self._stored.migrated(claimed.record))
            plan = self._stored.plan_of(claimed.record.workflow)
            assert plan is not None  # its definition was one of those asked for
            new = record.updated <= record.created
            return await self._continued(Claim(plan, record, since, new, signals=claimed.signals))
        except BaseException:
            await self._leases.release(claimed.run_id, claimed.token)
            raise

    async def _continued(self, claim: Claim) -> Run | None:
        """Restore a run that this kernel holds; or, if it cannot continue now, release it and return None."""
        if claim.resume_ended and claim.timeout is not None:
            own = {name: value for name, value in claim.record.own.items() if name != DEADLINE}
            claim = claim._replace(record=claim.record._replace(own=own))
        plan, record = claim.plan, claim.record
        woken = await self._woken(plan, record, claim.resume_ended, signals=claim.signals)
        if woken is not None:
            request = await self._canceller.request(record.run_id) if claim.signals else None
            if request is not None and (not record.status.finished or is_final(request, record)):
                await self._canceller.commit(record, request)
                return None
            if woken.late:
                if (wait := await self._late.report_unheld(plan, record, record.status, {})) is not None:
                    self._alarms.set(record.run_id, wait)
                return None
            if woken.again is not None:
                await self._wait_again(claim, woken.again, request)
                return None
            kills = self._kills(record) + claim.left
            if self._last_chance.denied(plan, record, kills):
                await self._leave(record, kills)
                return None
            self._last_chance.begin(plan, record, kills)
            try:
                run = await self._restore(claim, woken, request)
            finally:
                self._last_chance.end(record)
            if not self._kernel.closed:
                self._watchlist.continued(run)
                self._look_after(run)
                return run
            await self._stored.backend.release(record.run_id, record.token)
        else:
            await self._stored.put_back(record)
        return None

    def _kills(self, record: RunRecord) -> int:
        """Return how many processes did not survive the step of a run that has not ended."""
        return self._stored.takeovers(record) if record.status is RunStatus.RUNNING else 0

    async def _leave(self, record: RunRecord, kills: int) -> None:
        """Store how many processes did not survive the run's step, and release it for a later claim."""
        own = self._stored.values.encode_own({TAKEOVERS: kills}, record.run_id)
        if RETRY not in record.own:
            own |= self._stored.values.encode_own({RETRY: [0, record.updated]}, record.run_id)  # when the step began
        commit = restated(record, record.token, self._stored.now())
        await self._stored.backend.commit(commit._replace(own=own, release=True))

    async def _woken(
        self, plan: BoundWorkflow, record: RunRecord, resume_ended: bool, *, signals: bool = True
    ) -> Woken | None:
        """Return why the run can continue now; None if it cannot, or not in this kernel.

        Raises:
            VersionMismatchError: it belongs to another definition.
            SerializationError: its record is corrupt.
        """
        if self._kernel.closed or record.run_id in self._kernel.active or has_ended(record, resume_ended):
            return None
        landing_state(plan, record)
        again = None
        if record.status is RunStatus.PARKED:
            if (wait := record.wait) is None:
                raise corrupt(record, "it is parked, but its record has no wait")
        elif record.status is RunStatus.RUNNING or (again := self._stored.wait(record)) is None:
            return Woken()
        else:
            wait = again.wait
        if wait.until is not None and wait.until <= self._stored.now():
            return Woken(wait=wait)  # or by a signal that came before: see `last_answer`
        signal = await answer(self._stored.backend, record.run_id, wait, record.seq) if signals else None
        if signal is not None:
            return Woken(signal)
        if again is None:
            if self._late.is_due(plan, record):
                return Woken(late=True)
            self._alarms.set(record.run_id, self._late.capped(plan, record, wait)[0])
            return None
        return Woken(again=again)

    async def _wait_again(self, claim: Claim, again: KeptWait, outdated: Signal | None) -> None:
        """Park a run again that failed, or was cancelled with its parent, while it waited. See `_restore`."""
        record, consumed = claim.record, () if outdated is None else (outdated.id,)
        limit, own = self._limit(record, claim.timeout)
        wait, capped = self._late.capped(claim.plan, record, again.before(None if limit is None else limit[1]))
        await self._stored.backend.commit(
            Commit(
                run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.PARKED, own=own | capped, wait=wait, own_consumed=consumed, release=True,
                at=self._stored.now(),
            ),
            *claim.audit,
        )  # fmt: skip
        self._watchlist.park(record.run_id, claim.plan.name)
        self._alarms.set(record.run_id, wait)

    def _limit(self, record: RunRecord, timeout: float | None) -> tuple[tuple[float, float] | None, dict[str, Any]]:
        """Return the run's timeout and deadline, and the value to store if they are new: `timeout` if it had none."""
        if (limit := self._stored.limit(record)) is not None:
            timeout = limit[0]
        if timeout is None or (limit is not None and not record.status.finished):
            return limit, {}
        limit = float(timeout), self._stored.now() + timeout  # an ended run's timeout starts again
        return limit, self._stored.values.encode_own({DEADLINE: limit}, record.run_id)

    async def _restore(self, claim: Claim, woken: Woken, outdated: Signal | None) -> Run:
        """Return the run that continues.

        If needed, one commit stores the payload that woke the run, its new deadline, its new definition, that its last
        process left it, and the entry for the store's audit. It consumes the signal that woke the run, and a request
        to cancel it that came after its end, `outdated`. A step began with the last commit, but that of a new run
        begins now.
        """
        plan, record, audit = claim.plan, claim.record, claim.audit
        stored, readable = self._stored, self._stored.register(plan)
        data = await readable.all_data(record, stored.clock)
        values = stored.own_values(record)
        journal = stored.journal(plan, record, claim.since)
        seq, state, removed = record.seq, landing_state(plan, record), []
        limit, own = self._limit(record, claim.timeout)
        encode = stored.values.encode_own
        timeout, due = (None, None) if limit is None else limit
        overdue = due is not None and due <= stored.now()
        if overdue:  # it fails in its wait, which `resume` begins again
            woken = Woken()
            if (older := older_wait(record, due)) is not None:
                own |= encode({WAIT: older.packed()}, record.run_id)
        elif WAIT in record.own:
            removed.append(WAIT)
        child = None if record.wait is None or record.status is not RunStatus.PARKED else record.wait.child
        end = Answer.of(woken.signal)
        if child is None and woken.wait is not None:
            end = await last_answer(stored.backend, record.run_id, woken.wait, record.seq)
            woken = woken if end.signal is None else Woken(end.signal)
        if woken.wait is not None and woken.wait.on_timeout is not None:
            seq, state = seq + 1, landing_state(plan, record, woken.wait.on_timeout)
        payload = record.payload if woken.signal is None or child is not None else woken.signal.payload
        kills = 0
        if record.status.finished:  # it is resumed on request: its attempts and the killed processes start again
            for name in record.own:
                if name in (TAKEOVERS, PHASES, PROGRESS, TRACEBACK) or name.startswith(RETRY):
                    removed.append(name)
                    values.pop(name, None)
        else:
            kills = stored.takeovers(record) + claim.left
            if claim.left:
                own |= encode({TAKEOVERS: kills}, record.run_id)
        definition = [plan.version, plan.fingerprint]
        if (record.version, record.fingerprint) != (plan.version, plan.fingerprint):
            own |= encode({DEFINITION: definition}, record.run_id)
            values.pop(PHASES, None)  # of another definition's node
        if DEFINITION in own or DEFINITION in record.own:  # this commit makes no entry in the history
            journal.remember(DEFINITION, definition)
        if record.status is RunStatus.RUNNING and RETRY not in record.own:
            values[RETRY] = began = [0, stored.now() if claim.new else record.updated]
            begins = claim.new and (record.updated < record.created or plan.by_name[state].total_timeout is not None)
            if audit or own or state != record.state or begins:
                own |= encode({RETRY: began}, record.run_id)  # since this commit is not when it began
        outcome, error, failed, began_at = _step_values(record, values, self._kernel.clock)
        ended = plan.by_name[state].is_exit and not overdue
        decoded = readable.payload(payload, record.run_id)
        moves = record.status is not RunStatus.RUNNING or ended or state != record.state
        if audit or own or (moves and not overdue):
            if ended and journal.parent is not None:
                await announce_end(stored.backend, journal.parent, record.run_id, record.token)
            await stored.backend.commit(
                Commit(
                    run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=seq, state=state,
                    status=RunStatus.SUCCEEDED if ended else record.status if overdue else RunStatus.RUNNING,
                    wait=record.wait if overdue else None, payload=payload, release=ended, own=own,
                    own_removed=removed, consumed=end.used, answered=end.answered,
                    own_consumed=end.own_used if outdated is None else (*end.own_used, outdated.id), at=stored.now(),
                ),
                *audit,
            )  # fmt: skip
        journal.seq, journal.state, journal.payload, journal.ended = seq, state, payload, ended
        journal.holds(own, removed)
        if child is not None:
            journal.child = values["child"] = child
        deadline = None
        if child is not None and record.wait is not None and record.wait.until is not None:
            remaining = record.wait.until - stored.now()
            if woken.signal is None or remaining > 0:  # otherwise the child ended in time, and this process is late
                deadline = self._kernel.clock.monotonic() + remaining
        self._alarms.cancel(record.run_id)
        carried = values.get(CARRIED)
        run = Run.restored(
            self._kernel, plan,
            RestorePoint(
                run_id=record.run_id, parent_id=record.parent, view=readable.view(data), journal=journal,
                state=state, seq=seq, timeout=timeout, due=due, values=values,
                carried=carried if isinstance(carried, Mapping) else {},
                detail=Detail(error, decoded, outcome, failed + 1, began_at, deadline),
                failure=_killed(plan, record, state, kills),
            ),
        )  # fmt: skip
        if STREAMS in record.own:
            await self._streams.resume(run, record, values)
        return run

    async def was_left(self, plan: BoundWorkflow, record: RunRecord, token: int) -> bool:
        """Return whether the run's last process was killed in its present step, or hangs, as far as the machine shows.

        A process of another machine may only have been stopped. A step with a running child is not to blame: the
        child is counted, and fails its parent. Nor is one that only waits for a parked child.
        """
        holder = record.holder
        if holder is None or record.status is not RunStatus.RUNNING or token != record.token + 1:
            return False
        if holder == self._stored.holder or is_stopped(holder) or BATCH in record.own:  # no limit for batches
            return False
        if is_held(record, self._stored.now()):  # it has released the lease since the record was loaded
            return False
        waits = only_waits(plan, record.state) is not None
        excuses = (RunStatus.RUNNING, RunStatus.PARKED) if waits else (RunStatus.RUNNING,)
        for status in excuses:
            if await self._stored.backend.runs(RunFilter(parent=record.run_id, status=status, limit=1)):
                return False
        return True


def has_ended(record: RunRecord, resume_ended: bool) -> bool:
    """Return whether the run cannot continue. With `resume_ended`, a run that failed, or ended with its parent, can."""
    resumable = record.status is RunStatus.FAILED or ended_with_parent(record)
    return record.status.finished and not (resume_ended and resumable)


async def is_over(kernel: Host, backend: StoreBackend, record: RunRecord) -> bool:
    """Return whether a run can never continue: neither `resume` nor its parent continues it."""
    if not record.status.finished or record.parent is None or has_ended(record, resume_ended=True):
        return has_ended(record, resume_ended=True)
    if record.parent in kernel.active:  # in memory, the store does not have it
        return False
    parent = await backend.load(record.parent)
    if parent is not None and BATCH in parent.own:  # its children are runs by themselves, but do not outlive a decision
        return record.status is RunStatus.CANCELLED
    return parent is None or await is_over(kernel, backend, parent)


async def ended_parent(kernel: Host, backend: StoreBackend, record: RunRecord) -> str | None:
    """Return how the parent of a run ended; None if it has not ended, there is none, or the run can do without it."""
    if record.parent is None or record.parent in kernel.active:
        return None
    parent = await backend.load(record.parent)
    if parent is not None and BATCH in parent.own and record.status is RunStatus.FAILED:
        return None
    return "deleted" if parent is None else parent.status.value if parent.status.finished else None


def _killed(plan: BoundWorkflow, record: RunRecord, state: str, kills: int) -> StepKilledError | None:
    """Return the error of a step that has killed too many processes."""
    most = plan.flow.max_takeovers
    if most is None or kills <= most or plan.by_name[state].is_exit:
        return None
    return StepKilledError(
        f"the step in state {state} killed {kills} processes, or they lost its lease; to try it again, call "
        f"kernel.resume(flow, {record.run_id!r}); Workflow(max_takeovers=) is {most}",
        kills=kills, run_id=record.run_id, workflow=record.workflow, state=plan.by_name[state].state,
    )  # fmt: skip


def _step_values(
    record: RunRecord, values: Mapping[str, Any], clock: Clock
) -> tuple[Any, BaseException | None, int, float | None]:
    """Return what the run's present step starts with: the split's outcome, the error, its attempts, when it began."""
    outcome, error, attempts = (values.get(name) for name in (OUTCOME, ERROR, RETRY))
    try:
        return (
            None if outcome is None else SplitOutcome.unpacked(outcome),
            None if error is None else stored_error(record, error),
            *failed_attempts(attempts, clock),
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        raise corrupt(record, f"the values of its present step cannot be read: {problem!r}") from problem
