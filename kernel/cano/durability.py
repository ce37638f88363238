"""Runs that live in a store: started once, held under a lease, parked, woken, and taken over after a crash."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from cano import errors
from cano.errors import (
    ConfigurationError,
    RunCancelledError,
    RunInterruptedError,
    RunNotFoundError,
    SerializationError,
    TaskError,
    WorkflowError,
)
from cano.journal import DEFINITION, ERROR, RETRY, Journal, StrictView, Values, within_grace
from cano.migration import landing_state
from cano.protocols import (
    Capabilities,
    Clock,
    Commit,
    RunFilter,
    RunRecord,
    RunStatus,
    Signal,
    StoreBackend,
    Timer,
    Wait,
)
from cano.result import RunResult
from cano.run import Run
from cano.split import HIDDEN, OUTCOME, SplitOutcome
from cano.step import Detail
from cano.view import StoreView
from cano.waiting import Parked, Paused

if TYPE_CHECKING:
    from cano.binding import BoundState, Plan
    from cano.kernel import Kernel

CANCEL = HIDDEN + "cancel"  # the signal that asks whoever holds a run to cancel it
_log = logging.getLogger("cano")


class Woken(NamedTuple):
    """What lets a run go on.

    Attributes:
        signal: the signal that it was waiting for.
        late: whether its time has come without one.
    """

    signal: Signal | None = None
    late: bool = False


class Durability:
    """The runs that one kernel keeps in its store.

    Attributes:
        backend, values: the store, and how values reach it.
        holder: who this kernel is, in the leases that it holds.
    """

    def __init__(self, kernel: Kernel, backend: StoreBackend, *, lease: float, poll: float) -> None:
        self.backend = backend
        self.values = Values(backend, kernel.codec)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._kernel = kernel
        self._lease = lease if backend.capabilities.durable else math.inf  # it cannot outlive its holder
        self._poll = poll
        self._last = 0.0
        self._plans: dict[str, Plan] = {}
        self._watched: set[str] = set()  # workflows whose runs this kernel takes over when nobody holds them
        self._news: dict[str, set[asyncio.Future[None]]] = {}  # by run id: who waits here for something to happen
        self._alarms: dict[str, tuple[float, Timer]] = {}
        self._left: set[str] = set()  # runs that were parked here: whoever sends their signal, they go on here too
        self._parked: WeakValueDictionary[str, Run] = WeakValueDictionary()  # as long as a handle shows them
        self._logged: set[tuple[str, str]] = set()
        self._shut = False
        self._caretaker: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises."""
        return self.backend.capabilities

    # starting and ending

    async def begin(
        self, plan: Plan, data: Any, run_id: str, *, timeout: float | None = None, parent_id: str | None = None
    ) -> Run | None:
        """A run to be driven here; None where the id is known already, and the run is not to be driven by us now.

        Raises:
            ConfigurationError: the data is no mapping.
            SerializationError: the data cannot be kept.
            VersionMismatchError: the id is that of a run of another definition.
        """
        self._know(plan)
        if (running := self._kernel.active.get(run_id)) is not None:
            self._same_workflow(plan, run_id, running.workflow)
            return None
        if not isinstance(data, StoreView):
            raise ConfigurationError(f"a durable run needs a mapping as its data, not a {type(data).__name__}")
        record = self._new_record(plan, data, run_id, parent_id)
        there = await self.backend.create(record)
        if (there.holder, there.token, there.created) == (self.holder, record.token, record.created):
            if self._kernel.closed:  # meanwhile: others may have it at once
                await self.backend.release(run_id, record.token)
                return None
            return self._run(plan, there, data, timeout)
        self._same_workflow(plan, run_id, there.workflow)
        return await self._take(plan, self._migrated(there), timeout=timeout)

    def _same_workflow(self, plan: Plan, run_id: str, workflow: str) -> None:
        if workflow != plan.name:
            raise ConfigurationError(
                f"the run id {run_id!r} is that of a run of workflow {workflow!r}, not {plan.name!r}"
            )

    def _new_record(self, plan: Plan, data: StoreView, run_id: str, parent_id: str | None) -> RunRecord:
        now = self.moment()
        return RunRecord(
            run_id=run_id, workflow=plan.name, version=plan.version, fingerprint=plan.fingerprint,
            state=plan.start.name, data={key: self.values.encode(key, value) for key, value in data.base.items()},
            parent=parent_id, created=now, updated=now, holder=self.holder, expires=now + self._lease, token=1,
        )  # fmt: skip

    def moment(self) -> float:
        """The time, but never the same twice: what tells a run that was made just now from one that was there."""
        self._last = max(self._kernel.clock.time(), math.nextafter(self._last, math.inf))
        return self._last

    async def adopt(self, run: Run) -> Journal:
        """Give a run that was not kept so far, because its store is not durable, a place in it to be parked.

        Raises:
            ConfigurationError: the run's data is an object of the user's own, which no store can keep.
        """
        if run.store is not run.view:
            kind = type(run.store).__name__
            raise ConfigurationError(f"a run that waits is parked with its data, which must be a mapping, not a {kind}")
        self._know(run.plan)
        record = self._new_record(run.plan, run.view, run.run_id, run.parent_id)
        await self.backend.create(record)
        journal = Journal(self.backend, self.values, self._kernel.clock, record, False)
        return journal

    def _run(self, plan: Plan, record: RunRecord, view: StoreView, timeout: float | None) -> Run:
        run = Run(self._kernel, plan, record.run_id, view, timeout=timeout, parent_id=record.parent)
        eager = self.capabilities.durable and plan.flow.durability == "step"
        run.journal = Journal(self.backend, self.values, self._kernel.clock, record, eager)
        if (parked := self._parked.pop(run.run_id, None)) is not None:
            parked.successor = run
        self._care()
        return run

    def _know(self, plan: Plan) -> None:
        if self._plans.get(plan.name) is not plan:
            self._plans[plan.name] = plan
            self.values.register(*plan.types())

    def knows(self, workflow: str) -> bool:
        """Whether this kernel has met the workflow, and registered its types."""
        return workflow in self._plans

    # going on

    async def take(self, plan: Plan, run_id: str, *, again: bool = False) -> Run | None:
        """The run, to be driven here, if it can go on and nobody else holds it; else None.

        Args:
            plan: its workflow.
            run_id: its id.
            again: whether a run that failed, or was cancelled with its parent, goes on too, from where it stood.

        Raises:
            RunNotFoundError: there is no such run.
            VersionMismatchError: it belongs to another definition.
        """
        self._know(plan)
        return await self._take(plan, await self.load(run_id), again=again)

    async def _take(
        self, plan: Plan, record: RunRecord, *, again: bool = False, timeout: float | None = None
    ) -> Run | None:
        if await self._woken(plan, record, again) is None:
            return None
        run_id, now = record.run_id, self._kernel.clock.time()
        token = await self.backend.claim(run_id, self.holder, now, now + self._lease)
        if token is None:
            return None
        try:
            record = await self.load(run_id)  # what it was before the claim may be outdated
            woken = await self._woken(plan, record, again)
            if woken is not None:
                asked = await self.backend.take_signal(run_id, CANCEL)
                if asked is not None and not record.status.finished:
                    await self._commit_cancelled(record, (asked.id,))
                    return None
                run = await self._go_on(plan, record, woken, timeout, outdated=asked)
                if not self._kernel.closed:
                    return run
        except BaseException:
            await within_grace(self.backend.release(run_id, token), self._kernel.clock)
            raise
        await self.backend.release(run_id, token)
        return None

    async def _woken(self, plan: Plan, record: RunRecord, again: bool) -> Woken | None:
        """What lets the run go on now; None where it does not, or not here.

        Raises:
            VersionMismatchError: it belongs to another definition.
            SerializationError: its record is damaged.
        """
        if self._kernel.closed or record.run_id in self._kernel.active or _over(record, again):
            return None
        landing_state(plan, record)
        if record.status is not RunStatus.PARKED:
            return Woken()
        wait = record.wait
        if wait is None:
            raise _damaged(record, "it is parked, but does not say what it waits for")
        signal = None if wait.signal is None else await self.backend.take_signal(record.run_id, wait.signal)
        late = signal is None and wait.until is not None and wait.until <= self._kernel.clock.time()
        if signal is None and not late:
            self._set_alarm(record.run_id, wait)
            return None
        return Woken(signal, late)

    async def _go_on(
        self, plan: Plan, record: RunRecord, woken: Woken, timeout: float | None, outdated: Signal | None
    ) -> Run:
        hidden = {key: value for key, value in record.data.items() if key.startswith(HIDDEN)}
        data = {
            key: self.values.decode(key, value, record.run_id)
            for key, value in record.data.items()
            if key not in hidden
        }
        run = self._run(plan, record, self.view(data), timeout)
        journal = run.journal
        assert journal is not None
        run.resumed = True
        run.kept = {key: self.values.decode(key, value, record.run_id) for key, value in hidden.items()}
        seq, state, changed, removed = record.seq, landing_state(plan, record), {}, []
        if woken.late and record.wait is not None and record.wait.on_timeout is not None:
            seq, state = seq + 1, landing_state(plan, record, record.wait.on_timeout)
        payload = record.payload if woken.signal is None else woken.signal.payload
        detail = self._restored(record, run.kept)
        detail.payload = self._payload(payload, record.run_id)
        if record.status.finished and RETRY in hidden:
            detail.attempt = 1  # somebody has seen to it: the attempts begin anew
            removed.append(RETRY)
        if (record.version, record.fingerprint) != (plan.version, plan.fingerprint):
            changed[DEFINITION] = self.values.encode(DEFINITION, [plan.version, plan.fingerprint])
        over = plan.by_name[state].is_exit
        if record.status is not RunStatus.RUNNING or over or changed or state != record.state:
            used = [signal.id for signal in (woken.signal, outdated) if signal is not None]
            await self.backend.commit(
                Commit(
                    run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=seq, state=state,
                    status=RunStatus.SUCCEEDED if over else RunStatus.RUNNING, payload=payload, release=over,
                    changed=changed, removed=removed, consumed=used, at=self._kernel.clock.time(),
                )
            )  # fmt: skip
        journal.seq, journal.state, journal.payload, journal.over = seq, state, payload, over
        run.bound = plan.by_name[state]
        run.step._bound, run.step._seq = run.bound, seq
        run.step._own().following = detail
        self._forget_alarm(record.run_id)
        return run

    def _restored(self, record: RunRecord, kept: Mapping[str, Any]) -> Detail:
        """What the run's present step starts with. Raises SerializationError."""
        detail = Detail()
        try:
            if OUTCOME in kept:
                detail.outcome = SplitOutcome.unpacked(kept[OUTCOME])
            if ERROR in kept:
                detail.error = stored_error(record, kept[ERROR])
            detail.attempt = int(kept.get(RETRY, 0)) + 1
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _damaged(record, f"what it knows of its present step makes no sense: {error!r}") from error
        return detail

    def view(self, data: dict[str, Any]) -> StoreView:
        """The tasks' view of a durable run's data."""
        return StrictView(data, None, self.values.isolate) if self.values.strict else StoreView(data)

    async def load(self, run_id: str) -> RunRecord:
        """The run's record, with the definition that it runs under by now. Raises RunNotFoundError."""
        record = await self.backend.load(run_id)
        if record is None:
            raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
        return self._migrated(record)

    def _migrated(self, record: RunRecord) -> RunRecord:
        if (migrated := record.data.get(DEFINITION)) is None:
            return record
        try:
            version, fingerprint = map(str, self.values.decode(DEFINITION, migrated, record.run_id))
        except (TypeError, ValueError) as error:
            raise _damaged(record, f"the definition that it has migrated to makes no sense: {error!r}") from error
        return replace(record, version=version, fingerprint=fingerprint)

    # waiting

    async def pause(self, run: Run, paused: Paused) -> BoundState:
        """Park the run; or, where what it waits for is there already, the state that follows.

        Raises:
            Parked: the run is parked.
        """
        if run.journal is None:
            run.journal = await self.adopt(run)
        pause, journal, now = paused.pause, run.journal, self._kernel.clock.time()
        until = now + pause.timeout if pause.timeout is not None else pause.until
        then: BoundState = paused.then
        if pause.signal is not None:
            signal = await self.backend.take_signal(run.run_id, pause.signal)
            if signal is not None:
                journal.consumed, journal.next_payload = (signal.id,), signal.payload
                run.step._hand_on(payload=self._payload(signal.payload, run.run_id))
                return then
        elif until is not None and until <= now:
            return then
        timeout = None if paused.on_timeout is None else paused.on_timeout.name
        run.wait = Wait(signal=pause.signal, then=then.name, until=until, on_timeout=timeout)
        await journal.commit(run.view, then.name, RunStatus.PARKED, run.step.seq, wait=run.wait, release=True)
        raise Parked

    def _payload(self, payload: Any, run_id: str) -> Any:
        return None if payload is None else self.values.decode("the signal's payload", payload, run_id)

    def left(self, run: Run) -> None:
        """A run was left here: it has ended, or is parked. What that one waits for may have come meanwhile."""
        self.tell(run.run_id)
        self._left.discard(run.run_id)
        if run.status is RunStatus.PARKED and not self._kernel.closed:
            self._left.add(run.run_id)
            self._parked[run.run_id] = run
            self._care()
            self._kernel.spawn(self._wake(run.run_id))

    def now(self) -> float:
        """Wall-clock seconds."""
        return self._kernel.clock.time()

    async def seen(self, plan: Plan, run_id: str) -> Run:
        """A run that is driven elsewhere, or has ended, as an object to look at: its end is in the store."""
        self._know(plan)
        if (parked := self._parked.get(run_id)) is not None:
            return parked
        run = self._parked[run_id] = Run(self._kernel, plan, run_id, self.view({}))
        run.status = RunStatus.PARKED
        run.mark_over()
        return run

    def _set_alarm(self, run_id: str, wait: Wait) -> None:
        known = self._alarms.get(run_id)
        if known is not None and known[0] == wait.until:
            return
        self._forget_alarm(run_id)
        if wait.until is None:
            return

        def ring() -> None:
            self._alarms.pop(run_id, None)
            self._kernel.spawn(self._wake(run_id))

        clock = self._kernel.clock
        timer = clock.call_at(clock.monotonic() + max(0.0, wait.until - clock.time()), ring)
        self._alarms[run_id] = wait.until, timer

    def _forget_alarm(self, run_id: str) -> None:
        _, timer = self._alarms.pop(run_id, (0.0, None))
        if timer is not None:
            timer.cancel()

    async def _wake(self, run_id: str) -> None:
        """Drive a parked run if it can go on, and its workflow is known here; or cancel it, if that was asked for."""
        try:
            record = await self.backend.load(run_id)
            if record is None or record.status is not RunStatus.PARKED:
                self._left.discard(run_id)
                return
            if await self.backend.take_signal(run_id, CANCEL):
                await self._cancel_free(run_id)
            elif (plan := self._plans.get(record.workflow)) is not None:
                await self._take_and_drive(plan, run_id)
        except Exception as error:  # noqa: BLE001  # nobody waits for this
            self._cannot_go_on(run_id, error)

    async def _take_and_drive(self, plan: Plan, run_id: str) -> Run | None:
        run = await self._take(plan, await self.load(run_id))
        if run is not None:
            self._kernel.drive(run)
        return run

    def _cannot_go_on(self, run_id: str, error: Exception) -> None:
        """Say so, once."""
        if (run_id, str(error)) not in self._logged:
            self._logged.add((run_id, str(error)))
            _log.error("run %s cannot go on: %s", run_id, error, exc_info=not isinstance(error, errors.CanoError))

    async def signal(self, run_id: str, name: str, payload: Any, id: str | None) -> bool:
        """Keep a signal for a run, and let it go on if it waits for it here. False where the run has ended."""
        if run_id not in self._kernel.active:
            record = await self.load(run_id)
            if _over(record, again=True):
                return False
        encoded = None if payload is None else self.values.encode(f"the payload of signal {name!r}", payload)
        await self.backend.put_signal(run_id, Signal(id or uuid.uuid4().hex, name, encoded))
        if run_id not in self._kernel.active:
            await self._wake(run_id)
        return True

    async def cancel(self, run_id: str) -> bool:
        """End a run as cancelled, whoever holds it. False where it has ended already."""
        if (run := self._kernel.active.get(run_id)) is not None:
            run.stop(RunStatus.CANCELLED)
            return True
        record = await self.load(run_id)
        if record.status.finished:
            return False
        # whoever holds it looks for this when it renews its leases, and when it lets go of a run that has not ended
        await self.backend.put_signal(run_id, Signal(f"{CANCEL} {record.token}", CANCEL))
        await self._cancel_free(run_id)
        return True

    async def _cancel_free(self, run_id: str) -> None:
        """End a run as cancelled that nobody drives, with its children."""
        now = self._kernel.clock.time()
        token = await self.backend.claim(run_id, self.holder, now, now + self._lease)
        if token is None:
            return
        try:
            record, asked = await self.load(run_id), await self.backend.take_signal(run_id, CANCEL)
            if not record.status.finished:
                await self._commit_cancelled(record, () if asked is None else (asked.id,))
                return
        except BaseException:
            await within_grace(self.backend.release(run_id, token), self._kernel.clock)
            raise
        await self.backend.release(run_id, token)

    async def _commit_cancelled(self, record: RunRecord, consumed: Sequence[str]) -> None:
        await self.backend.commit(
            Commit(
                run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.CANCELLED, consumed=consumed, release=True, at=self._kernel.clock.time(),
            )
        )  # fmt: skip
        self._forget_alarm(record.run_id)
        self._left.discard(record.run_id)
        self.tell(record.run_id)
        for child in await self.backend.runs(RunFilter(parent=record.run_id)):
            await self.cancel(child.run_id)

    async def forget(self, run_id: str) -> bool:
        """Delete a finished run, unless somebody resumes it just now, or it is damaged: `check` tells of that."""
        now = self._kernel.clock.time()
        token = await self.backend.claim(run_id, self.holder, now, now + self._lease)
        if token is None:
            return False
        with suppress(SerializationError):
            record = await self.backend.load(run_id)
            if record is not None and record.status.finished:
                return await self.backend.delete(run_id)
        await self.backend.release(run_id, token)
        return False

    # results

    async def settled(self, plan: Plan, run_id: str) -> RunResult:
        """Wait for the run's end, whoever drives it; drive it here if nobody does.

        Raises:
            WorkflowError: it failed, was cancelled, or interrupted here.
        """
        while True:
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._news.setdefault(run_id, set())
            waiting.add(news)
            try:
                if (run := self._kernel.active.get(run_id)) is not None:
                    await run.ended()
                    if run.error is not None:
                        raise run.error
                    if run.status is RunStatus.SUCCEEDED:
                        return run.result(run.bound.state)
                if self._shut:
                    message = f"run {run_id} goes on elsewhere, or later: the kernel closed"
                    raise RunInterruptedError(message, run_id=run_id, workflow=plan.name)
                record = await self.load(run_id)
                if record.status.finished:
                    return self.result(plan, record)
                if (again := await self._take(plan, record)) is not None:
                    self._kernel.drive(again)
                elif run_id not in self._kernel.active:
                    await first_of(news, self._kernel.clock, self._poll if self.capabilities.durable else None)
            finally:
                waiting.discard(news)
                if not waiting and self._news.get(run_id) is waiting:
                    del self._news[run_id]

    def tell(self, run_id: str) -> None:
        """Wake who waits for the run here."""
        for news in self._news.get(run_id, ()):
            if not news.done():
                news.set_result(None)

    def result(self, plan: Plan, record: RunRecord) -> RunResult:
        """What a finished run has come to. Raises its error, if it failed."""
        if record.status is RunStatus.CANCELLED:
            raise RunCancelledError(f"run {record.run_id} was cancelled", run_id=record.run_id, workflow=plan.name)
        if record.status is RunStatus.FAILED:
            raise stored_error(record, record.error or {})
        data = {
            key: self.values.decode(key, value, record.run_id)
            for key, value in record.data.items()
            if not key.startswith(HIDDEN)
        }
        name = record.state if record.state in plan.by_name else landing_state(plan, record)
        return RunResult(record.run_id, plan.by_name[name].state, data, record.seq)

    # taking care

    async def recover(self, plans: list[Plan]) -> list[Run]:
        """Every run of these workflows that can go on and that nobody holds; from now on watch for more."""
        for plan in plans:
            self._know(plan)
            self._watched.add(plan.name)
        self._care()
        return await self._take_ready()

    async def _take_ready(self) -> list[Run]:
        taken = []
        for record in await self.backend.ready(self._kernel.clock.time()):
            plan = self._plans.get(record.workflow)
            if plan is None or not (record.workflow in self._watched or record.run_id in self._left):
                continue
            try:
                run = await self._take_and_drive(plan, record.run_id)
            except Exception as error:  # noqa: BLE001  # others can go on all the same
                self._cannot_go_on(record.run_id, error)
            else:
                taken += [] if run is None else [run]
        return taken

    def _care(self) -> None:
        if self.capabilities.durable and (self._caretaker is None or self._caretaker.done()):
            self._caretaker = asyncio.get_running_loop().create_task(self._take_care(), name="cano caretaker")

    async def _take_care(self) -> None:
        """Renew leases, look for runs to take over, and wake who waits, as long as there is anything to do."""
        clock = self._kernel.clock
        renewed = clock.monotonic()
        while True:
            await clock.sleep(min(self._poll, self._lease / 3))
            try:
                if clock.monotonic() - renewed >= self._lease / 3:
                    renewed = clock.monotonic()
                    await self._renew()
                if self._watched or self._left:
                    await self._take_ready()
            except Exception as error:  # noqa: BLE001  # a store may be out of reach for a while
                _log.warning("the store could not be asked: %r; trying again", error)

    async def _renew(self) -> None:
        held = {run.run_id: run.journal for run in self._kernel.active.values() if run.journal is not None}
        if not held:
            return
        tokens = {run_id: journal.token for run_id, journal in held.items()}
        lost = await self.backend.renew(self.holder, tokens, self._kernel.clock.time() + self._lease)
        for run_id in lost:
            run = self._kernel.active.get(run_id)
            # unless it gave the lease back meanwhile, or does so right now
            if run is not None and run.journal is held[run_id] and not run.journal.leaving:
                run.lose()
        for run_id, journal in held.items():
            asked = await self.backend.take_signal(run_id, CANCEL)
            run = self._kernel.active.get(run_id)
            if asked is not None and run is not None and run.journal is journal:
                journal.consumed = (*journal.consumed, asked.id)
                run.stop(RunStatus.CANCELLED)

    async def close(self) -> None:
        """Take care no longer, and tell who waits."""
        self._shut = True
        for run_id in tuple(self._alarms):
            self._forget_alarm(run_id)
        for run_id in self._news:
            self.tell(run_id)
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.gather(self._caretaker, return_exceptions=True)


async def first_of(news: asyncio.Future[None], clock: Clock, seconds: float | None) -> None:
    """Wait for `news`, but no longer than `seconds`."""
    timer = None
    if seconds is not None:
        timer = clock.call_at(clock.monotonic() + seconds, lambda: None if news.done() else news.set_result(None))
    try:
        await news
    finally:
        if timer is not None:
            timer.cancel()


def _over(record: RunRecord, again: bool) -> bool:
    """Whether a run has ended for good; `again` lets one go on that failed, or was cancelled with its parent."""
    resumable = record.status is RunStatus.FAILED or (
        record.status is RunStatus.CANCELLED and record.parent is not None
    )
    return record.status.finished and not (again and resumable)


def stored_error(record: RunRecord, said: Mapping[str, Any]) -> WorkflowError:
    """An error of a run, made again from what its record says."""
    kind = getattr(errors, str(said.get("type")), TaskError)
    if not (isinstance(kind, type) and issubclass(kind, WorkflowError)):
        kind = TaskError
    error = kind(
        str(said.get("message", "the run failed")), run_id=record.run_id, workflow=record.workflow,
        state=said.get("state"), attempt=said.get("attempt"),
    )  # fmt: skip
    if said.get("cause"):
        error.add_note(f"caused by {said['cause']}")
    return error


def _damaged(record: RunRecord, problem: str) -> SerializationError:
    error = SerializationError(f"run {record.run_id} is damaged: {problem}")
    error.run_id = record.run_id
    return error
