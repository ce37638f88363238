"""The records of a kernel's runs: makes new ones, loads them, and reads the values beside their data."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from cano import (
    AuditEntry,
    ClaimedRun,
    ClaimingStore,
    ConfigurationError,
    ConflictError,
    Run,
    RunFilter,
    RunNotFoundError,
    RunRecord,
    RunStatus,
    SerializationError,
    StoreBackend,
    StoreError,
    StoreView,
    Wait,
    Workflow,
    WorkflowError,
    state_name,
)
from cano.engine.ports import BoundWorkflow, Host, failed_attempts, new_holder

from cano_durability.bounds import off_loop
from cano_durability.failures import corrupt, error_of
from cano_durability.journal import Journal
from cano_durability.keys import (
    ATTRIBUTES,
    DEADLINE,
    DEFINITION,
    IMPORTING,
    MARK,
    ORIGIN,
    PHASES,
    PROGRESS,
    RETRY,
    TAKEOVERS,
    TRACEBACK,
)
from cano_durability.lateness.expectations import uncapped
from cano_durability.patience import Holding, despite_cancellation
from cano_durability.restating import is_unbegun, put_back
from cano_durability.streaming.emitting import Emitter
from cano_durability.values import Values
from cano_durability.waits import KeptWait, kept_wait, older_wait

if TYPE_CHECKING:
    from cano_durability.searching.attributes import Attributes, Kept

P = TypeVar("P")
_NOTHING: Mapping[str, Any] = {}


class StoredRuns:
    """The records of one kernel's runs.

    Attributes:
        backend, values: the store, and how values reach it.
        clock: the source of time.
        elapsed: returns seconds since an arbitrary origin, including the time while the machine was suspended.
        holder: the kernel's name in the leases that it holds.
        lease: seconds after which a lease expires unless it is renewed. Infinite if the store dies with its process.
        safe: seconds after a renewal for which the kernel relies on the lease. If the next renewal fails, it stops the
            run in the remaining seconds.
        durable: whether the store survives its process.
        audited: makes the entries of the store's audit, see `Kernel.audited`.
        parking: see `LateRuns.parking`.
        followed: for the runs whose events are read, by id, what a commit of a run calls.
        announce: see `Outbox.announce`; None if no plugin announces anything.
        report_progress: see `ProgressWriter.report`; it does nothing if the store does not survive its process.
        holding: the work under way that closing the kernel waits for, so that it releases its leases.
    """

    def __init__(self, kernel: Host, backend: StoreBackend) -> None:
        self.backend = backend
        self._kernel = kernel
        self.values = Values(backend, kernel.codec, kernel.limits.run)
        self.holder = new_holder()
        self.durable = backend.capabilities.durable
        self.lease = kernel.lease if self.durable else math.inf
        self.safe = self.lease - min(max(self.lease / 5, 1.0), self.lease / 2) if self.durable else math.inf
        self.elapsed: Callable[[], float] = getattr(kernel.clock, "elapsed", kernel.clock.monotonic)
        self.clock = kernel.clock
        self.audited = kernel.audited
        self.holding = Holding()
        self.report_progress: Callable[[Run], None] = lambda _: None
        self.announce: Callable[..., Awaitable[dict[str, Any]]] | None = None
        self.parking: Callable[[Run, Wait, int], tuple[Wait, dict[str, Any]]] = lambda run, wait, seq: (wait, {})
        self.followed: dict[str, Callable[[], None]] = {}
        self._last_time = 0.0
        self._plans: dict[str, tuple[BoundWorkflow, Values]] = {}

    def now(self) -> float:
        """Return the wall-clock time in seconds."""
        return self.clock.time()

    def unique_now(self) -> float:
        """Return the wall-clock time in seconds, nudged so that it is unique in this kernel. See `create`."""
        self._last_time = max(self.clock.time(), math.nextafter(self._last_time, math.inf))
        return self._last_time

    # workflows

    def register(self, plan: BoundWorkflow) -> Values:
        """Register a workflow, and return the values of its runs: only the types that it names can be stored."""
        known = self._plans.get(plan.name)
        if known is None or known[0] is not plan:
            self._check_attributes(plan.flow)
            known = self._plans[plan.name] = plan, self._values(plan)
        return known[1]

    def values_of(self, workflow: str) -> Values:
        """Return the values of the runs of a workflow, which this kernel may not know."""
        if workflow in self._plans:
            return self._plans[workflow][1]
        return self._values(self._kernel.bound.get(workflow))

    def _values(self, plan: BoundWorkflow | None) -> Values:
        return Values(self.backend, self._kernel.codec_for(plan), self._kernel.limits.run)

    def knows(self, workflow: str) -> bool:
        """Return whether this kernel has bound a workflow of that name."""
        return workflow in self._plans or workflow in self._kernel.bound

    def plan_of(self, workflow: str) -> BoundWorkflow | None:
        """Return the workflow of that name, if this kernel has registered it."""
        return self._plans[workflow][0] if workflow in self._plans else None

    # records

    async def new_record(
        self,
        plan: BoundWorkflow,
        data: StoreView,
        run_id: str,
        parent_id: str | None,
        limit: tuple[float, float] | None,
        kept: Mapping[str, Any] = _NOTHING,
        given: Mapping[str, tuple[bool, Any]] = _NOTHING,
    ) -> RunRecord:
        """Return the record of a new run, with these values of the engine's own, and attributes that steps have set.

        This kernel holds it. But a run that starts in an exit state has ended, and nothing holds it.

        Raises:
            SerializationError: its data cannot be stored.
        """
        now, encode = self.unique_now(), self.register(plan).encode
        base = data.base
        values = await off_loop(len(base), lambda: {key: encode(key, base[key], run_id) for key in base}, self.clock)
        own, found = dict(kept) if limit is None else {**kept, DEADLINE: limit}, None
        if plan.flow.attributes:
            tracked = self.tracked(plan, run_id)
            tracked.given.update(given)
            if (found := tracked.next(base.get)) is not None:
                own[ATTRIBUTES] = found.packed()
        new = RunRecord(
            run_id=run_id, workflow=plan.name, version=plan.version, fingerprint=plan.fingerprint,
            state=plan.start.name, data=values, parent=parent_id, created=now, updated=now, holder=self.holder,
            expires=now + self.lease, token=1, own=own and self.values.encode_own(own, run_id),
            attributes={} if found is None else found.encoded(),
        )  # fmt: skip
        if plan.start.is_exit:
            return new._replace(status=RunStatus.SUCCEEDED, holder=None, expires=None, token=0)
        return new

    async def create(self, record: RunRecord, *audit: AuditEntry) -> RunRecord | None:
        """Store a new run, created at a `unique_now`, and return None; or return the record that already has its id.

        Raises:
            ConfigurationError: the id is that of an encrypted store's own record.
        """
        if record.run_id == MARK:
            raise ConfigurationError(f"the run id {MARK!r} is kept for encrypted stores; choose another", run_id=MARK)
        found = await self.backend.create(record, *audit)
        if is_incomplete(found) and found.holder != record.holder:
            problem = f"a run is being imported under the id {record.run_id!r}; if no process does that, call "
            raise ConfigurationError(f"{problem}kernel.delete({record.run_id!r})", run_id=record.run_id)
        # after a lost answer, a store may find the record that this very call has stored
        ours = (found.holder, found.token, found.created) == (record.holder, record.token, record.created)
        return None if ours else found

    async def claim(self, run_id: str, now: float) -> int | None:
        """Claim a run that can be claimed at `now`. See `StoreBackend.claim`."""
        expires = self.unique_now() + self.lease
        try:
            return await self.backend.claim(run_id, self.holder, now, expires)
        except BaseException:
            await self.let_go(run_id, expires)
            raise

    async def claim_ready(
        self,
        store: ClaimingStore,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        skip: Sequence[str],
        queues: Collection[str] | None,
    ) -> Sequence[ClaimedRun]:
        """Claim runs of these definitions and queues that are ready. See `QueueStore.claim_ready`."""
        now, expires = self.now(), self.unique_now() + self.lease
        try:
            more = () if queues is None else (queues,)
            return await store.claim_ready(definitions, limit, self.holder, now, expires, skip, *more)
        except BaseException:
            await self._let_all_go(expires)
            raise

    async def _let_all_go(self, expires: float) -> None:
        """Release the leases that a failed or cancelled call of `claim_ready` may have got."""

        async def release() -> None:
            held = True if self.backend.capabilities.queues else None
            for status in (RunStatus.RUNNING, RunStatus.PARKED):
                for found in await self.backend.runs(RunFilter(status=status, held=held)):
                    if (found.holder, found.expires) == (self.holder, expires):
                        await self.put_back(found)

        with suppress(StoreError):  # the leases then expire by themselves
            if self.durable:
                await despite_cancellation(release(), self.clock)

    async def put_back(self, record: RunRecord) -> None:
        """Release a run that this kernel has just claimed. One that had not begun waits for a worker again."""
        if record.status is RunStatus.RUNNING and is_unbegun(record):
            with suppress(ConflictError):  # the lease has expired, and another process has claimed the run
                await self.backend.commit(put_back(record))
        else:
            await self.backend.release(record.run_id, record.token)

    async def let_go(self, run_id: str, expires: float | None) -> bool:
        """Release the lease of a run that a failed or cancelled call may have got. Return whether it had.

        Args:
            run_id: the run.
            expires: when that lease expires. The time is unique in this kernel, so it tells the lease from others.
        """
        got = False

        async def release() -> None:
            nonlocal got
            found = await self.backend.load(run_id)
            if found is not None and (found.holder, found.expires) == (self.holder, expires):
                got = True
                await self.backend.release(run_id, found.token)

        with suppress(StoreError):  # the lease then expires by itself
            await despite_cancellation(release(), self.clock)
        return got

    async def load(self, run_id: str) -> RunRecord:
        """Return the run's record, with the definition that it has migrated to. Raises RunNotFoundError."""
        return self.migrated(await self.record(run_id))

    async def record(self, run_id: str) -> RunRecord:
        """Return the run's record as it is stored, with its real wait. Raises RunNotFoundError."""
        record = await self.backend.load(run_id)
        if record is None or is_incomplete(record):
            raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
        return uncapped(self.values, record)

    async def head(self, run_id: str) -> tuple[RunRecord, SerializationError | None]:
        """Return the run's record, and None; or, if it is corrupt, the record as lists show it, and the error.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: it is not even listed.
        """
        try:
            return await self.record(run_id), None
        except SerializationError as error:
            for listed in await self.backend.runs(RunFilter()):
                if listed.run_id == run_id:
                    return listed, error
            raise

    def check(self, record: RunRecord) -> None:
        """Raise SerializationError if a value of the run cannot be decoded.

        The data is decoded only if the run's workflow, and so its classes, are known here.
        """
        self.migrated(record)
        self.limit(record)
        self.takeovers(record)
        self.wait(record)
        if self.plan_of(record.workflow) is not None:
            self.own_values(record)
            self.values_of(record.workflow).data(record.data, record.run_id)

    def own_values(self, record: RunRecord) -> dict[str, Any]:
        """Return the plugin's and the engine's values in a record, decoded, by name. Raises SerializationError.

        The results of phases are left out if they cannot be read: the phases are then executed again. So are a
        traceback and progress.
        """
        values, decode = {}, self.values_of(record.workflow).decode
        for name, value in record.own.items():
            try:
                values[name] = decode(name, value, record.run_id, own=True)
            except SerializationError:
                if name not in (PHASES, PROGRESS, TRACEBACK):
                    raise
        return values

    def migrated(self, record: RunRecord) -> RunRecord:
        """Return `record` with the definition that it has migrated to. Raises SerializationError."""
        definition = self._pair(record, DEFINITION, str, "the definition that it has migrated to")
        return record if definition is None else record._replace(version=definition[0], fingerprint=definition[1])

    def limit(self, record: RunRecord) -> tuple[float, float] | None:
        """Return the run's timeout in seconds and its deadline in wall-clock seconds; None without a timeout.

        Raises:
            SerializationError: the stored values cannot be read.
        """
        return self._pair(record, DEADLINE, float, "its deadline")

    def wait(self, record: RunRecord) -> KeptWait | None:
        """Return the wait of the run, or the wait that it ended in; otherwise None. Raises SerializationError."""
        limit = self.limit(record)
        older = older_wait(record, None if limit is None else limit[1])
        return older or kept_wait(self.values, record, record.own)

    def origin(self, run_id: str, own: Mapping[str, Any]) -> tuple[str, int] | None:
        """Return the run and the transition that a run with these values was forked from; None if it is not a fork."""
        if (stored := self.values.own(ORIGIN, own, run_id)) is None:
            return None
        origin, seq = stored
        return str(origin), int(seq)

    def takeovers(self, record: RunRecord) -> int:
        """Return how many processes were killed, or lost their lease, in the run's present step."""
        kills = self.values.own(TAKEOVERS, record.own, record.run_id)
        if not isinstance(kills, int | None):
            raise corrupt(record, f"its number of takeovers cannot be read: {kills!r}")
        return kills or 0

    def error(self, record: RunRecord) -> WorkflowError | None:
        """Return the error that a run ended with, or None. It has no traceback if that cannot be read."""
        traceback = None
        with suppress(SerializationError):
            traceback = self.values.own(TRACEBACK, record.own, record.run_id)
        return error_of(record, traceback)

    def failed_attempts(self, record: RunRecord) -> int:
        """Return how many attempts of the run's present step have failed, as far as they are stored."""
        value = self.values.own(RETRY, record.own, record.run_id)
        try:
            return failed_attempts(value, self.clock)[0]
        except (TypeError, ValueError) as error:
            raise corrupt(record, f"its number of failed attempts cannot be read: {value!r}") from error

    def _pair(self, record: RunRecord, key: str, kind: Callable[..., P], what: str) -> tuple[P, P] | None:
        if (stored := self.values.own(key, record.own, record.run_id)) is None:
            return None
        try:
            first, second = map(kind, stored)
        except (TypeError, ValueError) as error:
            raise corrupt(record, f"{what} cannot be read: {error!r}") from error
        return first, second

    # search attributes

    def _check_attributes(self, flow: Workflow[Any]) -> None:
        """Raise ConfigurationError if the store is encrypted, and would keep search attributes in clear unasked."""
        if flow.attributes and not flow.clear_attributes and getattr(self.backend, "is_sealed", False):
            raise ConfigurationError(
                f"workflow {flow.name!r} has search attributes, which the encrypted store {self._kernel.store_name} "
                "would keep in clear; allow that with Workflow(clear_attributes=True), or leave the attributes out"
            )

    def tracked(self, plan: BoundWorkflow, run_id: str, kept: Kept | None = None) -> Attributes:
        """Return the search attributes of a run whose workflow declares some, as its next commit changes them."""
        from cano_durability.searching.attributes import Attributes, Kept  # late: few workflows have attributes

        return Attributes(plan.flow, run_id, kept or Kept(), self._kernel.limits)

    def attributes(self, record: RunRecord) -> Kept:
        """Return the search attributes of a run. Raises SerializationError."""
        from cano_durability.searching.attributes import Kept  # late: few workflows have attributes

        try:
            return Kept.unpacked(self.values.own(ATTRIBUTES, record.own, record.run_id))
        except (TypeError, ValueError, AttributeError) as error:
            raise corrupt(record, f"its search attributes cannot be read: {error!r}") from error

    def findable(self, record: RunRecord) -> Mapping[str, bytes]:
        """Return the encoded attributes of a run that comes from elsewhere: none that an encrypted store must hide."""
        plan = self.plan_of(record.workflow) or self._kernel.bound.get(record.workflow)
        allowed = plan is not None and plan.flow.clear_attributes
        if getattr(self.backend, "is_sealed", False) and not allowed:
            return _NOTHING
        return self.attributes(record).encoded()

    def searchable(self, record: RunRecord, filter: RunFilter) -> RunRecord:
        """Return a record as `filter` compares it: with its search attributes, if they matter."""
        if filter.attributes is None:
            return record
        return record._replace(attributes=self.attributes(record).encoded())

    # journals

    def journal(self, plan: BoundWorkflow, record: RunRecord, since: float) -> Journal:
        """Return the journal of a run that this kernel holds, and claimed at `since`, by `elapsed`."""
        flow: Workflow[object] = plan.flow
        steps = self.durable and flow.durability == "step"
        return Journal(
            self, self.register(plan), record, commits_steps=steps, safe_until=since + self.safe,
            attributes=self._attributes_of(plan, record),
        )  # fmt: skip

    def _attributes_of(self, plan: BoundWorkflow, record: RunRecord) -> Attributes | None:
        """Return the search attributes that commits of a run may change; None if its workflow declares none."""
        if not plan.flow.attributes:
            return None
        return self.tracked(plan, record.run_id, self.attributes(record))

    async def adopt(self, run: Run) -> Journal:
        """Store a run that has lived in memory so far, so that it can be parked.

        Raises:
            ConfigurationError: the run's data is an object of the user's own, which cannot be stored.
            ConflictError: the store has another run with this id.
        """
        if run.store is not run.view:
            kind = type(run.store).__name__
            message = f"the data of a run that waits must be a mapping, not of type {kind}"
            raise ConfigurationError(message, run_id=run.run_id, state=run.step.state)
        limit = None if run.timeout is None or run.due is None else (run.timeout, run.due)
        since = self.elapsed()
        record = await self.new_record(run.plan, run.view, run.run_id, run.parent_id, limit, given=run.attributes)
        record = record._replace(state=state_name(run.step.state), seq=run.steps)
        journal = Journal(
            self, self.register(run.plan), record, commits_steps=False, safe_until=since + self.safe,
            attributes=self._attributes_of(run.plan, record),
        )  # fmt: skip
        journal.carry(run.carried)
        try:
            found = await self.create(record)
        except BaseException:
            if await self.let_go(run.run_id, record.expires):
                run.journal = journal  # the store has the run, so its end is stored, too
            raise
        if found is not None:
            message = f"the store has another run {run.run_id}; start the run that waits under another run_id"
            raise ConflictError(message, run_id=run.run_id)
        if isinstance(run.emitter, Emitter):
            run.emitter.adopt(journal)
            journal.emitter = run.emitter
        return journal


def is_incomplete(record: RunRecord) -> bool:
    """Return whether a run is being imported, or its import was cut off. It counts as not there."""
    return record.holder is not None and record.holder.startswith(IMPORTING)
