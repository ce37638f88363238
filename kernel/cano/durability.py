"""Runs that live in a store: started once, held under a lease, parked, woken, and taken over after a crash."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cano import errors
from cano.errors import (
    CanoError,
    ConfigurationError,
    RunCancelledError,
    RunInterruptedError,
    RunNotFoundError,
    TaskError,
    WorkflowError,
)
from cano.journal import RETRY, Journal, Values
from cano.migration import landing_state
from cano.protocols import Capabilities, Clock, Commit, RunRecord, RunStatus, Signal, StoreBackend, Timer, Wait
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
        self._lease = lease
        self._poll = poll
        self._plans: dict[str, Plan] = {}
        self._watched: set[str] = set()  # workflows whose runs this kernel takes over when nobody holds them
        self._news: dict[str, set[asyncio.Future[None]]] = {}  # by run id: who waits here for something to happen
        self._alarms: dict[str, Timer] = {}
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
        if there.holder == self.holder and there.token == record.token and there.created == record.created:
            return self._run(plan, there, data, timeout)
        self._same_workflow(plan, run_id, there.workflow)
        return await self._take(plan, there, timeout=timeout)

    def _same_workflow(self, plan: Plan, run_id: str, workflow: str) -> None:
        if workflow != plan.name:
            raise ConfigurationError(
                f"the run id {run_id!r} is that of a run of workflow {workflow!r}, not {plan.name!r}"
            )

    def _new_record(self, plan: Plan, data: StoreView, run_id: str, parent_id: str | None) -> RunRecord:
        now = self._kernel.clock.time()
        return RunRecord(
            run_id=run_id, workflow=plan.name, version=plan.version, fingerprint=plan.fingerprint,
            state=plan.start.name, data={key: self.values.encode(key, value) for key, value in data.base.items()},
            parent=parent_id, created=now, updated=now, holder=self.holder, expires=now + self._lease, token=1,
        )  # fmt: skip

    async def adopt(self, run: Run) -> Journal:
        """Give a run that was not kept so far, because its store is not durable, a place in it to be parked."""
        self._know(run.plan)
        record = self._new_record(run.plan, run.view, run.run_id, run.parent_id)
        await self.backend.create(record)
        journal = Journal(self.backend, self.values, self._kernel.clock, record, False)
        return journal

    def _run(self, plan: Plan, record: RunRecord, view: StoreView, timeout: float | None) -> Run:
        run = Run(self._kernel, plan, record.run_id, view, timeout=timeout, parent_id=record.parent)
        eager = self.capabilities.durable and plan.flow.durability == "step"
        run.journal = Journal(self.backend, self.values, self._kernel.clock, record, eager)
        self._care()
        return run

    def _know(self, plan: Plan) -> None:
        if self._plans.get(plan.name) is not plan:
            self._plans[plan.name] = plan
            self.values.register(*plan.types())

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
        if self._kernel.closed or record.run_id in self._kernel.active or _over(record, again):
            return None
        state = landing_state(plan, record)
        now = self._kernel.clock.time()
        signal, until = await self._reason_to_wake(record)
        if record.status is RunStatus.PARKED and signal is None and (until is None or until > now):
            self._set_alarm(record)
            return None
        token = await self.backend.claim(record.run_id, self.holder, now, now + self._lease)
        if token is None:
            return None
        record = await self.load(record.run_id)  # what it was before the claim may be outdated
        if _over(record, again):
            await self.backend.release(record.run_id, token)
            return None
        try:
            return await self._go_on(plan, record, state, timeout)
        except BaseException:
            await self.backend.release(record.run_id, token)
            raise

    async def _reason_to_wake(self, record: RunRecord) -> tuple[Signal | None, float | None]:
        """The signal that a parked run waits for, if it is there, and the time at which it goes on without."""
        wait = record.wait
        if wait is None or record.status is not RunStatus.PARKED:
            return None, None
        signal = None if wait.signal is None else await self.backend.take_signal(record.run_id, wait.signal)
        return signal, wait.until

    async def _go_on(self, plan: Plan, record: RunRecord, state: str, timeout: float | None) -> Run:
        signal, until = await self._reason_to_wake(record)
        hidden = {key: value for key, value in record.data.items() if key.startswith(HIDDEN)}
        data = {
            key: self.values.decode(key, value, record.run_id)
            for key, value in record.data.items()
            if key not in hidden
        }
        run = self._run(plan, record, self.view(data), timeout)
        assert run.journal is not None
        run.resumed = True
        seq = record.seq
        late = record.status is RunStatus.PARKED and signal is None and until is not None
        if late and record.wait is not None and record.wait.on_timeout is not None:
            seq, state = seq + 1, landing_state(plan, record, record.wait.on_timeout)
        payload = record.payload if signal is None else signal.payload
        if record.status is not RunStatus.RUNNING or state != record.state:
            over = plan.by_name[state].is_exit
            await self.backend.commit(
                Commit(
                    run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=seq, state=state,
                    status=RunStatus.SUCCEEDED if over else RunStatus.RUNNING, payload=payload, release=over,
                    consumed=() if signal is None else (signal.id,), at=self._kernel.clock.time(),
                )
            )  # fmt: skip
        run.journal.seq, run.journal.state, run.journal.payload = seq, state, payload
        run.bound = plan.by_name[state]
        run.step._bound, run.step._seq = run.bound, seq
        said = None if payload is None else self.values.decode("the signal's payload", payload, record.run_id)
        run.kept = {key: self.values.decode(key, value, record.run_id) for key, value in hidden.items()}
        detail = Detail(payload=said)
        if OUTCOME in run.kept:
            detail.outcome = SplitOutcome.unpacked(run.kept[OUTCOME])
        detail.attempt = run.kept.get(RETRY, 0) + 1
        run.step._own().following = detail
        return run

    def view(self, data: dict[str, Any]) -> StoreView:
        """The tasks' view of a durable run's data."""
        return StoreView(data, None, self.values.isolate)

    async def load(self, run_id: str) -> RunRecord:
        """The run's record. Raises RunNotFoundError."""
        record = await self.backend.load(run_id)
        if record is None:
            raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
        return record

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
                run.step._hand_on(payload=self.values.decode("the signal's payload", signal.payload, run.run_id))
                return then
        elif until is not None and until <= now:
            return then
        timeout = None if paused.on_timeout is None else paused.on_timeout.name
        run.wait = Wait(signal=pause.signal, then=then.name, until=until, on_timeout=timeout)
        await journal.commit(run.view, then.name, RunStatus.PARKED, run.step.seq, wait=run.wait, release=True)
        raise Parked

    def left(self, run: Run) -> None:
        """A run was left here: it has ended, or is parked. What that one waits for may have come meanwhile."""
        self.tell(run.run_id)
        if run.status is RunStatus.PARKED and not self._kernel.closed:
            self._care()
            self._kernel.spawn(self._wake(run.run_id))

    def now(self) -> float:
        """Wall-clock seconds."""
        return self._kernel.clock.time()

    async def seen(self, plan: Plan, run_id: str) -> Run:
        """A run that is driven elsewhere, or has ended, as an object to look at: its end is in the store."""
        self._know(plan)
        run = Run(self._kernel, plan, run_id, self.view({}))
        run.status = RunStatus.PARKED
        run.mark_over()
        return run

    def _set_alarm(self, record: RunRecord) -> None:
        wait, clock = record.wait, self._kernel.clock
        if wait is None or wait.until is None or record.run_id in self._alarms:
            return

        def ring() -> None:
            self._alarms.pop(record.run_id, None)
            self._kernel.spawn(self._wake(record.run_id))

        self._alarms[record.run_id] = clock.call_at(clock.monotonic() + max(0.0, wait.until - clock.time()), ring)

    async def _wake(self, run_id: str) -> None:
        """Drive a parked run if it can go on, and its workflow is known here."""
        record = await self.backend.load(run_id)
        if (
            record is None
            or record.status is not RunStatus.PARKED
            or (plan := self._plans.get(record.workflow)) is None
        ):
            return
        try:
            run = await self._take(plan, record)
        except CanoError as error:
            _log.error("run %s of workflow %s cannot go on: %s", run_id, record.workflow, error)
        else:
            if run is not None:
                self._kernel.drive(run)

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
        record, now = await self.load(run_id), self._kernel.clock.time()
        if record.status.finished:
            return False
        token = await self.backend.claim(run_id, self.holder, now, now + self._lease)
        if token is None:  # its holder looks for this signal when it renews its leases
            await self.backend.put_signal(run_id, Signal(CANCEL, CANCEL))
            return True
        record = await self.load(run_id)
        await self.backend.commit(
            Commit(
                run_id=run_id, token=token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.CANCELLED, release=True, at=now,
            )
        )  # fmt: skip
        self.tell(run_id)
        return True

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
                record = await self.load(run_id)
                if record.status.finished:
                    return self.result(plan, record)
                if (again := await self._take(plan, record)) is not None:
                    self._kernel.drive(again)
                elif self._kernel.closed:
                    message = f"run {run_id} goes on elsewhere, or later: the kernel closed"
                    raise RunInterruptedError(message, run_id=run_id, workflow=plan.name)
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

    def tell_all(self) -> None:
        """Wake everybody who waits: the kernel closes."""
        for run_id in self._news:
            self.tell(run_id)

    def result(self, plan: Plan, record: RunRecord) -> RunResult:
        """What a finished run has come to. Raises its error, if it failed."""
        if record.status is RunStatus.CANCELLED:
            raise RunCancelledError(f"run {record.run_id} was cancelled", run_id=record.run_id, workflow=plan.name)
        if record.status is RunStatus.FAILED:
            raise stored_error(record)
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
            if plan is None or record.workflow not in self._watched:
                continue
            try:
                run = await self._take(plan, await self.load(record.run_id))
            except CanoError as error:
                _log.error("run %s of workflow %s cannot go on: %s", record.run_id, record.workflow, error)
                continue
            if run is not None:
                self._kernel.drive(run)
                taken.append(run)
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
                if self._watched:
                    await self._take_ready()
            except Exception as error:  # noqa: BLE001  # a store may be out of reach for a while
                _log.warning("the store could not be asked: %r; trying again", error)

    async def _renew(self) -> None:
        held = {run.run_id: run.journal.token for run in self._kernel.active.values() if run.journal is not None}
        if not held:
            return
        lost = await self.backend.renew(self.holder, held, self._kernel.clock.time() + self._lease)
        for run_id in lost:
            if (run := self._kernel.active.get(run_id)) is not None:
                run.lose()
        for run_id in held:
            if await self.backend.take_signal(run_id, CANCEL) and (run := self._kernel.active.get(run_id)) is not None:
                run.stop(RunStatus.CANCELLED)

    async def close(self) -> None:
        """Take care no longer."""
        for timer in self._alarms.values():
            timer.cancel()
        self._alarms.clear()
        self.tell_all()
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


def stored_error(record: RunRecord) -> WorkflowError:
    """The error of a failed run, made again from its record."""
    said: Mapping[str, Any] = record.error or {}
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
