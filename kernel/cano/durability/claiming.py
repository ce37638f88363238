"""Starting a run in a store, taking over one that nobody holds, and making it again from its record."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from cano import errors
from cano.durability.holders import is_dead, new_holder
from cano.durability.journal import (
    CARRIED,
    DEADLINE,
    DEFINITION,
    ERROR,
    RETRY,
    Journal,
    StrictView,
    Values,
    within_grace,
)
from cano.durability.migration import landing_state
from cano.engine.run import Run
from cano.engine.step import Detail
from cano.engine.view import StoreView
from cano.errors import (
    ConfigurationError,
    RunNotFoundError,
    SerializationError,
    TaskError,
    WorkflowError,
)
from cano.model.split import HIDDEN, OUTCOME, SplitOutcome
from cano.protocols import Capabilities, StoreBackend, Timer
from cano.records import Commit, RunRecord, RunStatus, Signal, Wait

if TYPE_CHECKING:
    from cano.engine.binding import Plan
    from cano.kernel.kernel import Kernel

P = TypeVar("P")

CANCEL = HIDDEN + "cancel"  # the signal that asks whoever holds a run to cancel it


class Woken(NamedTuple):
    """What lets a run go on.

    Attributes:
        signal: the signal that it was waiting for.
        late: whether its time has come without one.
    """

    signal: Signal | None = None
    late: bool = False


class Taking(ABC):
    """The part of `Durability` that starts runs and takes them over.

    Attributes:
        backend, values: the store, and how values reach it.
        holder: who this kernel is, in the leases that it holds.
    """

    def __init__(self, kernel: Kernel, backend: StoreBackend, *, lease: float, poll: float) -> None:
        self.backend = backend
        self.values = Values(backend, kernel.codec)
        self.holder = new_holder()
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
        limit = None if timeout is None else (float(timeout), self.now() + timeout)
        record = self._new_record(plan, data, run_id, parent_id, limit)
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

    def _new_record(
        self, plan: Plan, data: StoreView, run_id: str, parent_id: str | None, limit: tuple[float, float] | None
    ) -> RunRecord:
        now = self.moment()
        values = {key: self.values.encode(key, value) for key, value in data.base.items()}
        if limit is not None:
            values[DEADLINE] = self.values.encode(DEADLINE, limit)
        return RunRecord(
            run_id=run_id, workflow=plan.name, version=plan.version, fingerprint=plan.fingerprint,
            state=plan.start.name, data=values, parent=parent_id, created=now, updated=now, holder=self.holder,
            expires=now + self._lease, token=1,
        )  # fmt: skip

    def now(self) -> float:
        """Wall-clock seconds."""
        return self._kernel.clock.time()

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
        limit = None if run.timeout is None or run.due is None else (run.timeout, run.due)
        record = self._new_record(run.plan, run.view, run.run_id, run.parent_id, limit)
        await self.backend.create(record)
        journal = Journal(self.backend, self.values, self._kernel.clock, record, False)
        journal.carried = run.carried or None
        return journal

    def _run(self, plan: Plan, record: RunRecord, view: StoreView, timeout: float | None) -> Run:
        run = Run(self._kernel, plan, record.run_id, view, timeout=timeout, parent_id=record.parent)
        eager = self.capabilities.durable and plan.flow.durability == "step"
        run.journal = Journal(self.backend, self.values, self._kernel.clock, record, eager)
        self.care()
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
        run_id = record.run_id
        token = await self._claim(record)
        if token is None:
            return None
        try:
            record = await self.load(run_id)  # what it was before the claim may be outdated
            woken = await self._woken(plan, record, again)
            if woken is not None:
                asked = await self.backend.take_signal(run_id, CANCEL)
                if asked is not None and not record.status.finished:
                    await self.commit_cancelled(record, (asked.id,))
                    return None
                run = await self._go_on(plan, record, woken, timeout, outdated=asked)
                if not self._kernel.closed:
                    if (parked := self._parked.pop(run_id, None)) is not None:
                        parked.successor = run
                    return run
        except BaseException:
            await within_grace(self.backend.release(run_id, token), self._kernel.clock)
            raise
        await self.backend.release(run_id, token)
        return None

    async def _claim(self, record: RunRecord) -> int | None:
        """The new token of a run that nobody holds, or whose holder is dead; else None."""
        now = self._kernel.clock.time()
        token = await self.backend.claim(record.run_id, self.holder, now, now + self._lease)
        if token is not None or record.holder is None or record.expires is None or not is_dead(record.holder):
            return token
        over = math.nextafter(record.expires, math.inf)  # as if its lease had ended: a token that it has is stale now
        return await self.backend.claim(record.run_id, self.holder, max(now, over), now + self._lease)

    async def _woken(self, plan: Plan, record: RunRecord, again: bool) -> Woken | None:
        """What lets the run go on now; None where it does not, or not here.

        Raises:
            VersionMismatchError: it belongs to another definition.
            SerializationError: its record is damaged.
        """
        if self._kernel.closed or record.run_id in self._kernel.active or is_over(record, again):
            return None
        landing_state(plan, record)
        if record.status is not RunStatus.PARKED:
            return Woken()
        wait = record.wait
        if wait is None:
            raise damaged(record, "it is parked, but does not say what it waits for")
        signal = None if wait.signal is None else await self.backend.take_signal(record.run_id, wait.signal)
        late = signal is None and wait.until is not None and wait.until <= self._kernel.clock.time()
        if signal is None and not late:
            self.set_alarm(record.run_id, wait)
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
        run = self._run(plan, record, self.view(data), None)
        journal = run.journal
        assert journal is not None
        run.resumed = True
        run.kept = {key: self.values.decode(key, value, record.run_id) for key, value in hidden.items()}
        if isinstance(carried := run.kept.get(CARRIED), Mapping):
            run.carried = carried
        seq, state, changed, removed = record.seq, landing_state(plan, record), {}, []
        if (limit := self.limit(record)) is not None:
            timeout = limit[0]
        if timeout is not None and (limit is None or record.status.finished):  # of one that has ended it counts anew
            limit = float(timeout), self.now() + timeout
            changed[DEADLINE] = self.values.encode(DEADLINE, limit)
        run.timeout, run.due = (None, None) if limit is None else limit
        overdue = run.due is not None and run.due <= self.now()
        if woken.late and not overdue and record.wait is not None and record.wait.on_timeout is not None:
            seq, state = seq + 1, landing_state(plan, record, record.wait.on_timeout)
        payload = record.payload if woken.signal is None else woken.signal.payload
        detail = self._restored(record, run.kept)
        detail.payload = self.payload(payload, record.run_id)
        if record.status.finished and RETRY in hidden:
            detail.attempt = 1  # somebody has seen to it: the attempts begin anew
            removed.append(RETRY)
        if (record.version, record.fingerprint) != (plan.version, plan.fingerprint):
            changed[DEFINITION] = self.values.encode(DEFINITION, [plan.version, plan.fingerprint])
        over = plan.by_name[state].is_exit and not overdue
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
        self.forget_alarm(record.run_id)
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
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise damaged(record, f"what it knows of its present step makes no sense: {error!r}") from error
        return detail

    def limit(self, record: RunRecord) -> tuple[float, float] | None:
        """How many seconds the run may take, and the wall-clock time of their end. Raises SerializationError."""
        return self._pair(record, DEADLINE, float, "its deadline")

    def _pair(self, record: RunRecord, key: str, kind: Callable[[Any], P], what: str) -> tuple[P, P] | None:
        """Two values of the engine's own that stay with a run. Raises SerializationError saying `what` is damaged."""
        if (kept := record.data.get(key)) is None:
            return None
        try:
            first, second = map(kind, self.values.decode(key, kept, record.run_id))
        except (TypeError, ValueError) as error:
            raise damaged(record, f"{what} makes no sense: {error!r}") from error
        return first, second

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
        migrated = self._pair(record, DEFINITION, str, "the definition that it has migrated to")
        return record if migrated is None else record._replace(version=migrated[0], fingerprint=migrated[1])

    def payload(self, payload: Any, run_id: str) -> Any:
        """What a signal carried, as a task sees it."""
        return None if payload is None else self.values.decode("the signal's payload", payload, run_id)

    @abstractmethod
    async def commit_cancelled(self, record: RunRecord, consumed: tuple[str, ...]) -> None:
        """End a run that was claimed here as cancelled, and its children."""

    @abstractmethod
    def forget_alarm(self, run_id: str) -> None:
        """Do not wake the run any more."""

    @abstractmethod
    def care(self) -> None:
        """See to it that leases are renewed, from now on."""

    @abstractmethod
    def set_alarm(self, run_id: str, wait: Wait) -> None:
        """Wake a parked run when its time has come."""


def is_over(record: RunRecord, again: bool) -> bool:
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
    if hasattr(error, "timeout"):
        error.timeout = said.get("timeout", 0.0)
    if said.get("cause"):
        error.add_note(f"caused by {said['cause']}")
    return error


def damaged(record: RunRecord, problem: str) -> SerializationError:
    error = SerializationError(f"run {record.run_id} is damaged: {problem}")
    error.run_id = record.run_id
    return error
