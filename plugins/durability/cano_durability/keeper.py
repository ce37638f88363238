"""The keeper of a kernel's runs: the port through which kernel and engine use this plugin."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano import (
    AuditEntry,
    BulkReport,
    CompatReport,
    ConfigurationError,
    ConflictError,
    Explanation,
    Finding,
    Pace,
    Retention,
    Run,
    RunCancelledError,
    RunEvent,
    RunFilter,
    RunInfo,
    RunInterruptedError,
    RunPage,
    RunRecord,
    RunResult,
    RunStatus,
    RunView,
    Signal,
    Step,
    StoreError,
    StoreView,
    StreamItem,
    Transition,
    Wait,
)
from cano.engine.ports import Announcer, BoundState, BoundWorkflow, Host, Inputs, Parked, Paused, Submission

from cano_durability.answers import accepted, early_answer, seq_of, verdict
from cano_durability.bounds import WaitingSignals
from cano_durability.bulk.acting import Bulk
from cano_durability.cancelling import Canceller
from cano_durability.claiming import Claimer, ended_parent, has_ended, is_over
from cano_durability.families.parking import Parents
from cano_durability.identity import Identity
from cano_durability.inspection.auditing import Auditor
from cano_durability.inspection.checking import check
from cano_durability.inspection.deleting import Deleter
from cano_durability.inspection.explaining import Explainer
from cano_durability.inspection.forking import fork
from cano_durability.keys import IMPORTED, PAYLOAD, WAIT
from cano_durability.lateness.unheld import UnheldRuns
from cano_durability.lateness.watching import LateRuns
from cano_durability.looking.progress import ProgressWriter, progress_of
from cano_durability.looking.viewing import Viewer
from cano_durability.migration import landing_state
from cano_durability.outbox.announcing import Outbox
from cano_durability.patience import despite_cancellation
from cano_durability.recovery.caretaker import Caretaker
from cano_durability.recovery.heart import Heart
from cano_durability.recovery.leases import Leases, journal_of, with_status_at
from cano_durability.recovery.waiting import Alarms, Waiters
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.selecting.listing import Lister
from cano_durability.stored_runs import StoredRuns
from cano_durability.streaming.emitting import Emitter
from cano_durability.streaming.events import Follower
from cano_durability.streaming.streams import Streams
from cano_durability.waits import KeptWait

if TYPE_CHECKING:
    from cano_durability.admission.slots import Admission
    from cano_durability.batches.feeding import Feed
    from cano_durability.transacting.step_transaction import StepTransaction

NEAREST = 10_000
"""The most parked runs that a kernel wakes to the moment; a poll of the store finds others."""


class Keeper:
    """Keeps the runs of one kernel in its store. It implements `cano.engine.ports.RunKeeper`, which documents it."""

    def __init__(self, kernel: Host) -> None:
        assert kernel.backend is not None
        self._kernel = kernel
        self._closed = False
        self._submitting: StoredRuns | None = None
        self._admission: Admission | None = None
        self.stored = stored = StoredRuns(kernel, kernel.backend)
        self.late = late = LateRuns(kernel, stored)
        stored.parking = late.parking
        self._watchlist = watchlist = Watchlist()
        self._waiting = WaitingSignals(kernel.backend, kernel.limits)
        self._waiters = waiters = Waiters(kernel.clock)
        self._alarms = alarms = Alarms(
            kernel.clock,
            lambda run_id: kernel.spawn(self._caretaker.wake(run_id)),
            NEAREST if stored.durable else None,
        )
        leases = Leases(kernel, stored)
        self._follower = Follower(kernel, stored, waiters, late, lambda: self._caretaker.start())
        self._streams = streams = Streams(kernel, stored, waiters, lambda: self._caretaker.start())
        self._canceller = canceller = Canceller(kernel, stored, leases, watchlist, alarms, waiters, streams)
        self._claimer = claimer = Claimer(
            kernel,
            stored,
            leases,
            watchlist,
            alarms,
            canceller,
            late,
            streams,
            lambda run: self._caretaker.look_after(run),
        )
        heart = Heart(kernel, stored)
        self._outbox = Outbox(kernel, stored, lambda: self._caretaker.refill())
        late.sends = self._outbox.committed
        self._lister = lister = Lister(kernel, stored)
        unheld = UnheldRuns(kernel, stored, leases, claimer, lister, late)
        self._caretaker = Caretaker(kernel, stored, heart, watchlist, waiters, claimer, canceller, unheld)
        self._parents = Parents(kernel, stored, leases, canceller, self._caretaker.look_after)
        self._explainer = Explainer(kernel, stored, late)
        self._viewer = Viewer(kernel, stored, waiters, self._caretaker.start)
        self._progress = ProgressWriter(kernel, stored)
        if stored.durable:
            stored.report_progress = self._progress.report
        self._deleter, self._auditor = Deleter(kernel, stored, lister), Auditor(kernel, stored)
        self._bulk = Bulk(kernel, stored, self._lister, self)

    async def close(self) -> None:
        """See `RunKeeper.close`."""
        self._closed = True
        self._alarms.close()
        self.late.close()
        for run_id in self._waiters.run_ids:
            self._waiters.notify(run_id)
        await self._progress.close()
        await self._caretaker.close()
        await self.stored.holding.ended(self._kernel.clock)

    # starting and ending

    def keeps(self, run_id: str | None) -> bool:
        """See `RunKeeper.keeps`."""
        return run_id is not None or self.stored.durable

    def view(self, data: dict[str, Any], plan: BoundWorkflow) -> StoreView:
        """See `RunKeeper.view`."""
        return self.stored.register(plan).view(data) if self.stored.values.strict else StoreView(data)

    async def begin(
        self,
        plan: BoundWorkflow,
        view: Any,
        run_id: str,
        *,
        timeout: float | None = None,
        parent: Step | None = None,
        on_existing: str | None = None,
        origin: str | None = None,
    ) -> Run | None:
        """See `RunKeeper.begin`."""
        stored = self.stored
        stored.register(plan)
        journal = None if parent is None else journal_of(parent.run)
        woken = journal is not None and journal.child == run_id
        if woken and journal is not None:
            journal.child = None  # this attempt gets the child's outcome; a later one resumes a failure
        if not isinstance(view, StoreView):
            message = f"the data of a durable run must be a mapping, not of type {type(view).__name__}"
            raise ConfigurationError(message, run_id=run_id)
        identity = Identity(stored, plan, run_id, view, journal, on_existing, origin)
        if (running := self._kernel.active.get(run_id)) is not None:
            await identity.check_running(running)
            return None
        if woken:
            ended = await stored.load(run_id)
            await identity.check(ended)
            return await self._claimer.claim(plan, ended)
        limit = None if timeout is None else (float(timeout), stored.now() + timeout)
        since = stored.elapsed()
        record = await stored.new_record(plan, view, run_id, identity.parent, limit, await identity.kept())
        with stored.holding:
            try:
                found = await stored.create(record)
            except BaseException:
                await stored.let_go(run_id, record.expires)
                raise
            if found is None:
                if self._kernel.closed:  # since the call began: other kernels can then claim the run at once
                    await stored.let_go(run_id, record.expires)
                    return None
                run = Run(self._kernel, plan, run_id, view, timeout=timeout, parent_id=record.parent)
                run.journal = stored.journal(plan, record, since)
                self._caretaker.look_after(run)
                return run
        await identity.check(found)
        if found.holder == IMPORTED:
            message = f"run {run_id} was imported, so that nothing executes it by itself; to continue it, call "
            raise ConfigurationError(f"{message}kernel.resume(flow, {run_id!r})", run_id=run_id)
        repeated = parent is not None and on_existing == "return" and (parent.attempt > 1 or parent.run.resumed)
        return await self._claimer.claim(plan, stored.migrated(found), resume_ended=repeated, timeout=timeout)

    def stopped_driving(self, run: Run) -> None:
        """See `RunKeeper.stopped_driving`. A parked run is checked once more: its signal may just have arrived."""
        run.askers += run.error is not None and run.run_id in self._waiters.run_ids  # who waits gets the error
        self._streams.stopped(run.run_id)
        self._waiters.notify(run.run_id)
        self._watchlist.parked.pop(run.run_id, None)
        self._caretaker.stopped_driving(run)
        if self._kernel.closed:
            return
        if self.stored.announce is not None and run.status in (RunStatus.FAILED, RunStatus.PARKED):
            self._outbox.committed()
        if isinstance(run.error, RunCancelledError) and not run.error.with_parent and journal_of(run).refused:
            self._kernel.spawn(self._cancel_again(run.run_id))
        if run.status.finished and (parent := journal_of(run).parent) is not None:
            self._alarms.wake(parent)
        if run.status is RunStatus.PARKED:
            self._watchlist.watch(run.plan, run.run_id)
            self._watchlist.objects[run.run_id] = run
            self._caretaker.start()
            self._kernel.spawn(self._caretaker.wake(run.run_id))

    def followed(self, plan: BoundWorkflow, run_id: str) -> Run:
        """See `RunKeeper.followed`."""
        values = self.stored.register(plan)
        if (parked := self._watchlist.objects.get(run_id)) is not None:
            return parked
        run = self._watchlist.objects[run_id] = Run(self._kernel, plan, run_id, values.view({}))
        run.status = RunStatus.PARKED  # a handle then asks `settled` for the outcome
        run.mark_stopped()
        return run

    async def info(self, plan: BoundWorkflow, run_id: str) -> RunInfo:
        """See `RunKeeper.info`."""
        self.stored.register(plan)
        record, now = await self.stored.record(run_id), self.stored.now()
        record, failed = with_status_at(record, now), self.stored.failed_attempts(record)
        error, parked = self.stored.error(record), record.status is RunStatus.PARKED
        again = failed or (record.wait is not None and record.wait.child is not None)  # the present step begins again
        last = record.status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED) or (parked and not again)
        bound = plan.by_name.get(record.state)
        return RunInfo(
            run_id, record.workflow, record.status, record.state if bound is None else bound.state,
            record.seq if last else record.seq + 1,
            getattr(error, "attempt", None) or max(failed if parked else failed + 1, 1),
            progress_of(self._kernel, self.stored, record), error, now,
        )  # fmt: skip

    async def settled(self, plan: BoundWorkflow, run_id: str, parent: Step | None = None) -> RunResult:
        """See `RunKeeper.settled`."""
        while True:
            with self._waiters.waiter(run_id) as changed:
                if (run := self._kernel.active.get(run_id)) is not None:
                    await run.ended()
                    if run.error is not None:
                        raise run.error
                    if run.status is RunStatus.SUCCEEDED:
                        return run.result(run.bound.state)
                if self._closed:
                    message = f"the kernel closed before run {run_id} ended; ask another kernel for its result"
                    raise RunInterruptedError(message, run_id=run_id, workflow=plan.name)
                record = await self.stored.load(run_id)
                if record.status.finished and run_id not in self._kernel.active:  # otherwise it is about to leave
                    return await self._result(plan, record)
                if (claimed := await self._claimer.claim(plan, record)) is not None:
                    self._kernel.drive(claimed)
                elif run_id not in self._kernel.active:
                    if parent is not None and await self._parents.park(parent, record):
                        continue
                    if record.wait is not None and record.wait.child is not None:
                        self._watchlist.watch(plan, run_id)
                    if not self._caretaker.start():
                        await self._waiters.change(changed, self._kernel.poll if self.stored.durable else None)

    async def _result(self, plan: BoundWorkflow, record: RunRecord) -> RunResult:
        """Return the result of a finished run. Raises its error, if it failed."""
        if (error := self.stored.error(record)) is not None:
            raise error
        data = await self.stored.register(plan).all_data(record, self._kernel.clock)
        name = record.state if record.state in plan.by_name else landing_state(plan, record)
        return RunResult(record.run_id, plan.by_name[name].state, data, record.seq)

    # notices

    def announce(self, announcer: Announcer) -> None:
        """See `RunKeeper.announce`."""
        self._outbox.add(announcer)

    async def is_committed(self, id: str, run_id: str, created: float, token: int) -> bool | None:
        """See `RunKeeper.is_committed`."""
        return await self._outbox.is_committed(id, run_id, created, token)

    # waiting

    async def park(self, run: Run, paused: Paused) -> BoundState:
        """See `RunKeeper.park`."""
        if run.journal is None:
            run.journal = await self.stored.adopt(run)
            self._caretaker.look_after(run)
        pause, journal, now = paused.pause, journal_of(run), self.stored.now()
        until = now + pause.timeout if pause.timeout is not None else pause.until
        if pause.signal is not None:
            self._kernel.limits.check("names", "the signal's name", pause.signal, run.run_id)
            signal, *journal.answers = await early_answer(
                self.stored.backend, run.run_id, pause.signal, run.step.seq, fresh=pause.fresh,
                known=run.step.token_known,
            )  # fmt: skip
            if signal is not None:
                journal.next_payload = signal.payload
                if signal.payload is not None:
                    payload = self.stored.register(run.plan).payload(signal.payload, run.run_id)
                    journal.remember(PAYLOAD, payload)
                    run.step.hand_on(payload=payload)
                return paused.then
        elif until is not None and until <= now:
            return paused.then
        on_timeout = None if paused.on_timeout is None else paused.on_timeout.name
        kept = KeptWait(Wait(paused.then.name, pause.signal, until, on_timeout), pause.timeout)
        journal.remember(WAIT, kept.packed())
        await journal.park(run, kept.wait, run.step.seq)
        raise Parked

    async def take_slots(self, run: Run, limiter: Any, values: Mapping[str, Any]) -> Any:
        """See `RunKeeper.take_slots`."""
        if self._admission is None:
            from cano_durability.admission.slots import Admission  # late: few workflows have such limits

            self._admission = Admission(self._kernel, self.stored, self._waiters)
        if run.journal is None:
            run.journal = await self.stored.adopt(run)
            self._caretaker.look_after(run)
        return await self._admission.take(run, limiter, values)

    def give_slots(self, slots: Any) -> None:
        """See `RunKeeper.give_slots`."""
        if self._admission is not None:
            self._admission.give(slots)

    async def signal(
        self, run_id: str, name: str, payload: Any, id: str | None, wait: str | None, connection: Any = None
    ) -> bool:
        """See `Kernel.signal`."""
        stored, waiting = self.stored, self._waiting
        if connection is not None:
            stored = await self._joined(connection)
            waiting = WaitingSignals(stored.backend, self._kernel.limits)
        audit = stored.audited(run_id, "signal", name if id is None else f"{name}, id {id}")
        id, seq = id or uuid.uuid4().hex, None
        if wait is None:
            workflow, _ = await self._awaiting(stored, run_id, name, None)
        else:
            seq = seq_of(run_id, wait)
            answered, workflow = await self._verdict(stored, run_id, name, seq, id)
            if answered is not None:
                return answered
        if workflow is None:
            return False
        encode, what = self.stored.values_of(workflow).encode, f"the payload of signal {name!r}"
        if not self.stored.knows(workflow):
            what += f", whose workflow {workflow!r} this kernel knows only after kernel.bind(flow)"
        encoded = None if payload is None else encode(what, payload, run_id, own=True)
        await waiting.put(run_id, Signal(id, name, encoded, to=seq), *audit)
        if connection is None and run_id not in self._kernel.active:
            await self._caretaker.wake(run_id)
        return seq is None or (await self._verdict(stored, run_id, name, seq, id))[0] is True

    async def _joined(self, connection: Any) -> StoredRuns:
        """Return the runs of the store as they are in the open transaction of a user's connection."""
        from cano_durability.transacting.joining import joined  # late: few programs use it

        return StoredRuns(self._kernel, await joined(self._kernel, connection))

    async def _verdict(
        self, stored: StoredRuns, run_id: str, name: str, seq: int, id: str
    ) -> tuple[bool | None, str | None]:
        """Return whether a signal answers the wait that it is sent to, None if none does yet; and the run's workflow.

        Raises:
            ConfigurationError: that wait is for another signal.
            RunNotFoundError: there is no such run.
        """
        signals = await stored.backend.signals(run_id)  # before the run: its wait was not over then, if it is not
        workflow, begun = await self._awaiting(stored, run_id, name, seq)
        if workflow is None:
            return accepted(await stored.backend.signals(run_id), seq, id), None
        return verdict(signals, name, seq, id, begun=begun), workflow

    async def _awaiting(self, stored: StoredRuns, run_id: str, name: str, seq: int | None) -> tuple[str | None, bool]:
        """Return the run's workflow if the run can still take a signal; with `seq`, in the wait that this one begins.

        The second value says whether that wait has begun.

        Raises:
            ConfigurationError: that wait is for another signal.
            RunNotFoundError: there is no such run.
        """
        run = self._kernel.active.get(run_id)
        committed = -1 if run is None or run.journal is None else journal_of(run).seq
        if run is not None and (run.wait is None or committed != run.step.seq):  # otherwise it has just been parked
            return run.workflow if seq is None or committed < seq >= run.step.seq else None, False
        record = await stored.load(run_id)
        if await is_over(self._kernel, stored.backend, record):
            return None, False
        if seq is None:
            return record.workflow, False
        if (kept := stored.wait(record)) is None:
            return record.workflow if record.seq < seq else None, False  # its step is executing, or will be
        if seq != record.seq:
            return None, False
        if kept.wait.signal != name:
            raise ConfigurationError(
                f"run {run_id} waits for signal {kept.wait.signal!r}, not {name!r}, in the wait that was named",
                run_id=run_id, state=record.state,
            )  # fmt: skip
        return record.workflow, True

    async def submit(self, plan: BoundWorkflow, asked: Submission) -> int:
        """See `Kernel.submit_many`."""
        from cano_durability.submitting.submitter import Submitter  # late: most programs submit no run

        if asked.connection is not None:  # workers are notified when the user commits
            return await Submitter(self._kernel, await self._joined(asked.connection), plan, asked).submit()
        try:
            if self._submitting is None:  # of its own, so that `signal` does not execute here what is submitted here
                self._submitting = StoredRuns(self._kernel, self.stored.backend)
            return await Submitter(self._kernel, self._submitting, plan, asked).submit()
        finally:
            if plan.name in self._watchlist.workflows:
                self._caretaker.refill()

    # continuing and cancelling

    def claims(self) -> Mapping[str, int]:
        """See `RunKeeper.claims`."""
        return self._caretaker.claims

    def feed(self, inputs: Inputs) -> Feed:
        """See `RunKeeper.feed`."""
        from cano_durability.batches.feeding import Feed  # late: most programs have no batch

        return Feed(self.stored, inputs)

    async def resume(self, plan: BoundWorkflow, run_id: str, timeout: float | None) -> RunResult:
        """See `Kernel.resume`."""
        await self.take_up(plan, run_id, timeout)
        return await self.settled(plan, run_id)

    async def take_up(self, plan: BoundWorkflow, run_id: str, timeout: float | None) -> Run | None:
        """Resume a run, and return it if it is executed here now. See `Kernel.resume`."""
        record = await self.stored.load(run_id)
        over = record.status.finished and await is_over(self._kernel, self.stored.backend, record)
        if over and not has_ended(record, resume_ended=True):
            ended = await ended_parent(self._kernel, self.stored.backend, record)
            raise ConfigurationError(
                f"run {run_id} is a child of run {record.parent}, which has ended ({ended}), and only its parent can "
                "continue it; to do its work again, start another run, or fork the parent before that step",
                run_id=run_id, state=record.state,
            )  # fmt: skip
        audit = self.stored.audited(run_id, "resume")
        run = await self._caretaker.take_over(plan, run_id, resume_ended=True, timeout=timeout, audit=audit)
        if run is None:
            if record.holder == IMPORTED:  # it still waits, from now on as any other
                await self.stored.backend.release(run_id, record.token)
            if run_id in self._kernel.active:
                raise ConflictError(f"run {run_id} is already executed by this kernel", run_id=run_id)
            record = with_status_at(await self.stored.load(run_id), self.stored.now())
            if record.status is RunStatus.RUNNING:
                message = f"run {run_id} is held by {record.holder}; to wait for its result, call "
                raise ConflictError(message + f"kernel.run(flow, run_id={run_id!r})", run_id=run_id)
        return run

    async def recover(
        self, plans: Sequence[BoundWorkflow], concurrency: int | None, queues: Collection[str] | None
    ) -> list[Run]:
        """See `Kernel.recover`."""
        _check_given(plans, "name those whose runs to take over: kernel.recover(flow)")
        if queues is not None:
            from cano_durability.inspection.promises import require  # late: most kernels serve all queues

            require(self._kernel, "queues")
        return await self._caretaker.recover(plans, concurrency, queues)

    async def queue_sizes(self) -> Mapping[str, int]:
        """Return how many runs wait in each queue that this kernel serves. See `Caretaker`."""
        return await self._caretaker.queue_sizes()

    async def cancel(self, run_id: str) -> bool:
        """See `Kernel.cancel`."""
        return await self._canceller.cancel(run_id)

    async def _cancel_again(self, run_id: str) -> None:
        """Cancel a run in the store that was cancelled here, and that another process has claimed before its end."""
        with suppress(StoreError):
            await self._canceller.cancel(run_id)

    async def cancel_children(self, run_id: str) -> None:
        """See `RunKeeper.cancel_children`."""
        await self._canceller.cancel_children(run_id)

    async def end_child(self, run_id: str, parent: Run) -> None:
        """See `RunKeeper.end_child`."""
        if not parent.interrupted():
            with suppress(StoreError):
                await despite_cancellation(self._canceller.cancel(run_id, with_parent=True), self._kernel.clock)

    # inspecting

    async def get(self, run_id: str) -> RunView:
        """See `Kernel.get`."""
        return await self._viewer.get(run_id)

    async def ended(self, run_id: str) -> RunView:
        """See `RunKeeper.ended`."""
        return await self._viewer.ended(run_id)

    def emitter(self, run: Run) -> Emitter:
        """See `RunKeeper.emitter`."""
        return self._streams.emitter(run)

    def transaction(self, step: Step) -> StepTransaction:
        """See `Step.transaction`."""
        from cano_durability.transacting.step_transaction import StepTransaction  # late: few steps have one

        return StepTransaction(self.stored.backend, self.stored.elapsed, step)

    def events(self, run_id: str, after: int | None, follow: bool, run: Run | None) -> AsyncIterator[RunEvent]:
        """See `RunHandle.events`."""
        return self._follower.events(run_id, after, follow, run)

    def stream(self, run_id: str, channel: str, after: int, run: Run | None, follow: bool) -> AsyncIterator[StreamItem]:
        """See `RunHandle.stream`."""
        return self._streams.stream(run_id, channel, after, run, follow)

    async def channels(self, run_id: str) -> Sequence[str]:
        """See `AttachedRun.channels`."""
        return await self._streams.channels(run_id)

    async def selected(self, filter: RunFilter, where: str | None) -> RunFilter:
        """See `RunKeeper.selected`."""
        return await self._lister.selected(filter, where)

    async def count(self, filter: RunFilter) -> int:
        """See `RunKeeper.count`."""
        return await self._lister.count(filter)

    async def act_on_many(self, action: str, where: str | RunFilter, pace: Pace, *given: Any) -> BulkReport:
        """See `RunKeeper.act_on_many`."""
        return await self._bulk.act(action, where, pace, *given)

    async def runs(self, filter: RunFilter) -> list[RunRecord]:
        """See `Kernel.runs`."""
        return await self._lister.runs(filter)

    async def page(self, filter: RunFilter) -> RunPage:
        """See `RunKeeper.page`."""
        return await self._lister.page(filter)

    async def history(self, run_id: str, after: int | None, limit: int | None) -> list[Transition]:
        """See `Kernel.history`."""
        return await self._lister.history(run_id, after, limit)

    async def fork(
        self, run_id: str, seq: int, new_run_id: str, changes: Mapping[Any, Any], removed: Sequence[Any]
    ) -> str:
        """See `Kernel.fork`."""
        return await fork(self._kernel, self.stored, self.late, run_id, seq, new_run_id, changes, removed)

    def export_run(self, run_id: str, plain: bool, redact: Collection[str] | None) -> AsyncIterator[bytes]:
        """See `Kernel.export_run`."""
        from cano_durability.carrying.exporting import export  # late: most programs carry no run

        return export(self._kernel, self.stored, run_id, plain, redact)

    async def import_run(self, source: Any, new_run_id: str | None) -> str:
        """See `Kernel.import_run`."""
        from cano_durability.carrying.importing import import_run  # late, as above

        return await import_run(self._kernel, self.stored, source, new_run_id)

    async def explain(self, run_id: str) -> Explanation:
        """See `Kernel.explain`."""
        return await self._explainer.explain(run_id)

    async def check(self) -> list[Finding]:
        """See `Kernel.check`."""
        return await check(self.stored)

    async def compat(self, plans: Sequence[BoundWorkflow], only_given: bool) -> CompatReport:
        """See `Kernel.compat`."""
        from cano_durability.deploying.compat import Compat  # late: no program that executes runs needs it

        _check_given(plans, "name those of the program: kernel.compat(flow)")
        # of its own, so that `signal` does not execute here what is only looked at
        stored = StoredRuns(self._kernel, self.stored.backend)
        return await Compat(self._kernel, stored, plans, only_given).report()

    async def delete(self, run_id: str) -> None:
        """See `Kernel.delete`."""
        await self._deleter.delete(run_id)

    async def prune(self, retention: Retention, workflow: str | None, where: str | None, dry_run: bool) -> list[str]:
        """See `Kernel.prune`."""
        filter = None if where is None else await self._lister.selected(RunFilter(workflow=workflow), where)
        return await self._deleter.prune(retention, workflow, dry_run, filter)

    async def audit(self, run_id: str | None, limit: int | None) -> list[AuditEntry]:
        """See `Kernel.audit`."""
        return await self._auditor.audit(run_id, limit)

    async def prune_audit(self, max_age: float) -> int:
        """See `Kernel.prune_audit`."""
        return await self._auditor.prune_audit(max_age)


def _check_given(plans: Sequence[BoundWorkflow], remedy: str) -> None:
    """Raise ConfigurationError unless there are workflows, each with a name of its own."""
    if not plans:
        raise ConfigurationError(f"no workflow is given; {remedy}")
    names = [plan.name for plan in dict.fromkeys(plans)]
    if twice := {name for name in names if names.count(name) > 1}:
        problem = f"two of these workflows have the name {min(twice)!r}, so a run could belong to either"
        raise ConfigurationError(f"{problem}; give each its own: Workflow(…, name=…)")
