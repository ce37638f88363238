"""A user's program and a plugin author's module that use every public name. It is not run, only type-checked.

`assert_type` holds the types that a checker has to infer; `wrong_*.py` holds what it has to refuse.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from io import BytesIO
from typing import Any, Literal, assert_type

from cano import (
    API_VERSION,
    HOOK_NAMESPACE,
    MISSING,
    Appended,
    AttachedRun,
    AttributeRange,
    AttributeStore,
    AuditEntry,
    AuditingStore,
    BatchOutcome,
    BranchOutcome,
    BranchStatus,
    BulkReport,
    Call,
    Cancelled,
    CanoError,
    Capabilities,
    Changes,
    ClaimedRun,
    ClaimingStore,
    Clock,
    Codec,
    CodecLayer,
    CodeVersionError,
    Commit,
    CompatGroup,
    CompatReport,
    ConcurrentWorkflow,
    ConcurrentWorkflowStatus,
    Condition,
    ConfigurationError,
    ConflictError,
    ContextLayer,
    DurableBatch,
    Executor,
    ExecutorError,
    ExecutorUnavailableError,
    Expect,
    Explanation,
    Failed,
    FilterError,
    Finding,
    FunctionTask,
    HeldSlot,
    HistoryDiscardedError,
    HistoryPagingStore,
    InputsChangedError,
    JoinConfig,
    JoinedStore,
    JoinError,
    JoiningStore,
    JoinStrategy,
    Kernel,
    Key,
    KeyNotFoundError,
    KeyValueStore,
    Lane,
    LateRun,
    LayerContext,
    LazyBackend,
    Limit,
    LimitingStore,
    ManagedStore,
    MergeConflictError,
    Node,
    NodeError,
    NotifyingStore,
    Pace,
    PermanentStoreError,
    PluginError,
    PluginInfo,
    Plugins,
    PluginWarning,
    Progress,
    PruningStore,
    QueueStore,
    Rate,
    ReadKey,
    Registration,
    RemoteError,
    Retention,
    RetryExhaustedError,
    RetryStrategy,
    RewritingStore,
    Run,
    RunCancelledError,
    RunEvent,
    RunExistsError,
    RunFileError,
    RunFilter,
    RunHandle,
    RunInfo,
    RunInterruptedError,
    RunListing,
    RunNotFoundError,
    RunPage,
    RunRecord,
    RunResult,
    RunStatus,
    RunTimeoutError,
    RunView,
    SchedulerError,
    ScopedStore,
    SerializationError,
    Signal,
    SignalKey,
    Signals,
    SizeLimitError,
    SizeLimits,
    SlotRequest,
    SlotStore,
    SplitOutcome,
    SplitTask,
    Standstill,
    Step,
    StepKilledError,
    StepTimeoutError,
    StoreBackend,
    StoreError,
    StoreTransaction,
    StoreUnavailableError,
    StoreView,
    StreamChunk,
    StreamingStore,
    StreamItem,
    SubWorkflow,
    Success,
    SystemClock,
    Task,
    TaskConfig,
    TaskError,
    Timer,
    Transaction,
    TransactionalStore,
    TransientStoreError,
    Transition,
    TransitionError,
    TypedStore,
    TypeMismatchError,
    ValidationError,
    VersionMismatchError,
    Wait,
    WaitStrategy,
    WantedSlot,
    WorkerLostError,
    Workflow,
    WorkflowError,
    WorkflowResult,
    apply_changes,
    current_step,
    current_wait,
    default_kernel,
    derived_id,
    edges,
    hookimpl,
    hookspec,
    is_held,
    is_queued,
    isolate,
    not_a_list,
    read_history,
    read_ready,
    sleep_until,
    state_name,
    task,
    undeclared,
    wait_for,
)
from cano.lazy_names import lazy_names
from cano.tracebacks import fold, raised_at, rendered
from cano_memory import MemoryStore
from cano_remote import FuturesExecutor


class State(Enum):
    """The states."""

    FETCH = 1
    PARSE = 2
    ASK = 3
    DONE = 4
    FAILED = 5


PAGES = Key("pages", list[str])
COUNT = Key("count", int, reducer=max)
COUNTS = Key("counts", dict[str, int])
NOTE: Key[str | None] = Key("note", str | None)
ROWS: ReadKey[Sequence[object]] = PAGES


# tasks, in every form


class Fetch(Task[State]):
    """A class, with a narrower result than it has to have."""

    config = TaskConfig(retry="exponential", timeout=5, total_timeout=timedelta(minutes=1), on_exhausted=State.FAILED)

    async def run(self, store: KeyValueStore) -> Literal[State.PARSE]:
        """Typed keys know their values."""
        assert_type(store.get(COUNT), int)
        assert_type(store[COUNT], int)
        assert_type(store.get(COUNT, default=None), int | None)
        assert_type(store.get(PAGES), list[str])
        assert_type(store.get("n", int), int)
        assert_type(store.get("n", int, None), int | None)
        assert_type(store.get("anything"), Any)
        assert_type(store[NOTE], str | None)
        assert_type(store[ROWS], Sequence[object])
        assert_type(sorted(store[PAGES]), list[str])  # what `sorted` expects must not decide the type of the key
        assert_type(sorted(store.get(PAGES)), list[str])
        assert_type(sorted(store.get(PAGES, default=())), list[str])
        assert_type(sum(store[COUNTS].values()), int)
        assert_type(",".join(store[PAGES]), str)
        store.put(COUNT, 3)
        store[COUNT] = store[COUNT] + 1
        store.append(PAGES, "text")
        store.append("anything", 3)
        store["anything"] = object()
        store.put(NOTE, None)
        store.remove(COUNT)
        del store["n"]
        assert_type(store.keys(), list[str])
        for key in store:
            assert_type(key, str)
        if COUNT in store and "n" in store and len(store) > 3:
            store.clear()
        return State.PARSE


class Parse(Node[State, list[str], int]):
    """A node: what one phase gives the next one takes."""

    async def prep(self, store: KeyValueStore) -> list[str]:
        """What exec needs."""
        return store[PAGES]

    async def exec(self, prepared: list[str]) -> int:
        """The work."""
        current_step().progress(1, len(prepared), "counting")
        return len(prepared)

    async def exec_fallback(self, prepared: list[str], error: Exception) -> int:
        """Instead."""
        return 0

    async def post(self, store: KeyValueStore, prepared: list[str], result: int) -> State:
        """The end."""
        store[COUNT] = result
        return State.ASK


@task
async def fetch(store: KeyValueStore) -> Literal[State.PARSE, State.DONE]:
    """An async function."""
    return State.PARSE


@task
def parse(store: KeyValueStore) -> State:
    """A plain function."""
    return State.DONE


@task(config=TaskConfig.minimal(), targets=[State.DONE])
async def configured(store: KeyValueStore) -> State:
    """An async function with a config."""
    return State.DONE


@task(config=TaskConfig(retry="none"))
def plainly_configured(store: dict[str, int]) -> State:
    """A plain function with a config."""
    return State.DONE


async def ask(store: KeyValueStore) -> State:
    """A function without a decorator; it waits."""
    token: str = current_wait().token
    if token == "again":
        return wait_for("approved", then=State.DONE, fresh=True)
    if current_step().payload is None:
        return wait_for("approved", then=State.DONE, timeout=timedelta(hours=1), on_timeout=State.FAILED)
    return sleep_until(datetime.fromisoformat("2026-01-01T00:00:00+00:00"), then=State.DONE)


def plain(store: KeyValueStore) -> Literal[State.DONE]:
    """A plain function without a decorator."""
    return State.DONE


@dataclass
class Record:
    """Any object is a store."""

    count: int = 0


async def on_a_dataclass(store: Record) -> State:
    """Takes an object of its own."""
    store.count += 1
    return State.DONE


async def with_argument(limit: int, store: KeyValueStore) -> State:
    """To be bound with functools.partial."""
    return State.DONE


async def call_tasks_directly(store: KeyValueStore) -> None:
    """A task made of a function is still that function."""
    assert_type(await fetch(store), Literal[State.PARSE, State.DONE])
    assert_type(await fetch.run(store), Literal[State.PARSE, State.DONE])
    assert_type(await configured(store), State)
    assert_type(parse(store), State)
    assert_type(await parse.run(store), State)
    assert_type(plainly_configured({}), State)
    made: FunctionTask[State] = parse
    assert_type(made.name, str)


# workflows

flow = Workflow(State.FETCH, name="pages", version="2", default_config=TaskConfig(retry="fixed"), limit=3)
assert_type(flow, Workflow[State])
assert_type(
    flow.register(State.FETCH, Fetch())
    .register(State.FETCH, Parse(), config=TaskConfig())
    .register(State.FETCH, fetch)
    .register(State.FETCH, parse, limit=[Limit(2, key="customer", scope="store", name="pool"), Rate("5/s", burst=1)])
    .register(State.FETCH, configured)
    .register(State.FETCH, ask)
    .register(State.FETCH, plain)
    .register(State.FETCH, on_a_dataclass)
    .register(State.FETCH, functools.partial(with_argument, 3))
    .register(State.FETCH, lambda store: State.DONE)
    .register(State.FETCH, SubWorkflow(flow, {"pages": PAGES}, {COUNT: "n"}, then=State.DONE))
    .register_split(
        State.FETCH, [fetch, plain, Fetch()], JoinConfig(JoinStrategy.all(), State.DONE, timeout=timedelta(1))
    )
    .register_split(State.FETCH, lambda store: [plain] * 3, JoinConfig(JoinStrategy.quorum(2), State.DONE, limit=2))
    .add_exit_state(State.DONE)
    .add_exit_states([State.DONE, State.FAILED])
    .validate(),
    Workflow[State],
)
text_flow = Workflow("start").register("start", lambda store: "end").add_exit_state("end")
assert_type(text_flow, Workflow[str])
strategies = [JoinStrategy.any(), JoinStrategy.percentage(0.5), JoinStrategy.partial(1)]


@flow.on(State.PARSE)
async def on_async(store: KeyValueStore) -> State:
    """Registered by decorator."""
    return State.DONE


@flow.on(State.ASK, config=TaskConfig(timeout=1))
def on_plain(store: Record) -> Literal[State.DONE]:
    """A plain one, on an object."""
    return State.DONE


@flow.on(State.ASK)
class OnClass(Task[State]):
    """A class that needs no arguments."""

    async def run(self, store: KeyValueStore) -> State:
        """Do it."""
        return State.DONE


@flow.on(State.ASK)
@task(config=TaskConfig())
async def on_task(store: KeyValueStore) -> State:
    """A task."""
    return State.DONE


async def decorated(store: KeyValueStore) -> None:
    """The decorator leaves what it decorates as it was."""
    assert_type(await on_async(store), State)
    assert_type(on_plain(Record()), State)
    assert_type(OnClass(), OnClass)
    assert_type(await on_task.run(store), State)


async def shortest() -> None:
    """The library's shortest way in."""
    assert_type(await flow.orchestrate({"n": 1}), State)
    assert_type(flow.orchestrate_sync(MemoryStore({"n": 1})), State)
    assert_type(await flow.orchestrate(Record()), State)
    assert_type(await text_flow.orchestrate({}), str)


def looking() -> None:
    """What a workflow tells of itself."""
    registration: Registration = flow.tasks[State.FETCH]
    name: str = state_name(registration.state) + flow.mermaid() + flow.fingerprint()
    pairs: list[tuple[Any, Any]] = list(edges(flow))
    assert_type(flow.exit_states, tuple[State, ...])
    print(name, pairs, undeclared(flow))


# kernels and runs


async def kernels() -> None:
    """Everything that a kernel does for its user."""
    async with Kernel(store="memory://", plugins=["retry"], block=["otel"], clock=SystemClock(), grace=1) as kernel:
        result: RunResult = await kernel.run(flow, {"n": 1}, run_id="one", timeout=timedelta(seconds=10))
        handle: RunHandle = await kernel.start(flow, MemoryStore())
        info: RunInfo = handle.status()
        info = await handle.refresh()
        as_of: float = info.as_of
        progress: Progress | None = info.progress
        cancelled: Awaitable[None] = handle.cancel()
        await cancelled
        await kernel.signal(result.run_id, "approved", {"by": "me"})
        answered: bool = await kernel.signal("one", "approved", id="mine", wait=f"{result.run_id}:1")
        submitted: AttachedRun = await kernel.submit(flow, {"n": 1}, run_id="r", delay=1.5, on_existing="reject")
        rows: int = await kernel.submit_many(flow, ({"n": n} for n in range(3)), run_id="r", delay=timedelta(1))
        print(submitted, rows)
        handles: list[RunHandle] = await kernel.recover(flow)
        view: RunView = await kernel.get("one")
        print(view.data["n"], view.error and view.error.traceback, view.wait_token, view.children)
        attached: AttachedRun = await kernel.attach("one")
        async for happened in attached.events(after=0):
            event: RunEvent = happened
            print(event.kind, event.position, event.at, event.state, event.seq, event.attempt, event.status)
        async for emitted in attached.stream("words", 3, follow=False):
            item: StreamItem = emitted
            print(item.offset, item.value, item.superseded)
        result = await attached.result()
        done: Progress | None = await handle.progress()
        print(done, view.progress, await attached.progress())
        print(await attached.cancel(), await attached.signal("approved", 1, id="mine"), (await attached.view()).holder)
        print(progress, as_of, handles, await kernel.resume(flow, "one", timeout=timedelta(minutes=5)))
        listing: RunListing = kernel.runs(status=RunStatus.FAILED, limit=3)
        part: RunPage = await kernel.runs(status=RunStatus.FAILED, order="-updated", after=(await listing)[-1]).page()
        print(kernel.runs(after=part.cursor), part.runs[0].run_id, RunFilter(order="created").place_of(part.runs[0]))
        listing = kernel.runs(where="updated > 2h ago", state="PAY", created_after=datetime.now(UTC), error="OSError")
        pace: Pace = {"rate": 50, "dry_run": True, "progress": lambda report: print(report.done)}
        bulk: BulkReport = await kernel.resume_many(flow, "status = failed and updated > 2h ago", **pace)
        bulk = await kernel.cancel_many(RunFilter(state="PAY"), rate=2.5)
        bulk = await kernel.signal_many("state = ASK", "approved", {"by": "Ada"}, id="monday", dry_run=True)
        bulk = await kernel.fork_many("status = failed", "-again", changes={"name": "Ada"}, removed=["coupon"], rate=9)
        print(bulk.matched, bulk.refused["one"], bulk.failed, bulk.outcomes["parked"] + 1)
        print(RunFilter(updated_before=3.0, state="PAY").matches((await listing)[0]))
        print(RunFilter(others=(("status", Condition("!=", RunStatus.FAILED)),)).others[0][1].sign)
        records: Sequence[RunRecord] = await listing
        records = await read_ready(pager, 0.0, {"flow"})
        tokens: list[str | None] = [record.wait_token for record in records]
        compat: CompatReport = await kernel.compat(flow, only_given=True)
        group: CompatGroup = compat.groups[0]
        print(compat.stranded, compat.unfinished, group.runs, group.problem, group.differences, group.remedy)
        history: Sequence[Transition] = await kernel.history("one", after=3, limit=10)
        history = await read_history(pager, "one", after=3, limit=10)
        forked: str = await kernel.fork("one", 2, "two")
        forked = await kernel.fork("one", 2, "three", changes={COUNT: 3, "name": "Ada"}, removed=["coupon", COUNT])
        parts: list[bytes] = [part async for part in kernel.export_run("one", plain=True)]
        imported: str = await kernel.import_run(parts, "three")
        imported = await kernel.import_run(kernel.export_run("one", redact=["pin"]))
        try:
            print(await kernel.import_run(BytesIO(b"".join(parts))), imported)
        except RunFileError as refused:
            print(refused.problem.upper(), refused.offset + 1)
        why: Explanation = await kernel.explain(forked)
        findings: Sequence[Finding] = await kernel.check()
        await kernel.prune(Retention(keep_last=3, max_age=timedelta(days=7)), workflow="one", dry_run=True)
        print(records, history, why.reason is Standstill.FAILED, findings, answered, tokens)
        entries: list[AuditEntry] = await kernel.audit("run-1", limit=9)
        print([entry.actor for entry in entries], await kernel.prune_audit(timedelta(days=90)))
    infos: list[PluginInfo] = default_kernel().load()
    infos += Plugins(["retry"], discover=False, block=[], strict=True).infos
    print(infos, kernel.observer_errors)


async def many() -> None:
    """Many runs of one workflow."""
    runs = ConcurrentWorkflow(flow, limit=3)
    results, status = await runs.execute_concurrent([{"n": 1}, MemoryStore()], WaitStrategy.quota_or_duration(1, 3.0))
    assert_type(status, ConcurrentWorkflowStatus)
    for result in results:
        only: WorkflowResult[State] = result
        match only:
            case Success(state):
                assert_type(state, State)
            case Failed(error):
                assert_type(error, Exception)
            case Cancelled():
                pass
    batch = runs.execute_durable(({"n": number} for number in range(9)), "numbers", WaitStrategy.quota(3))
    assert_type(batch, DurableBatch[State])
    async for outcome in batch:
        assert_type(outcome, BatchOutcome)
        print(outcome.number, outcome.run_id, outcome.result, outcome.run)
    try:
        assert_type(await batch, ConcurrentWorkflowStatus)
    except InputsChangedError as changed:
        print(changed.first, changed.last)
    waits = [WaitStrategy.forever(), WaitStrategy.quota(3), WaitStrategy.duration(1)]
    print(status.running, status.is_complete, waits)


def outcomes() -> None:
    """What the state after a split finds."""
    outcome: SplitOutcome = current_step().outcome
    branches: tuple[BranchOutcome, ...] = outcome.branches
    split: Task[Any] = SplitTask([], JoinConfig(JoinStrategy.all(), State.DONE))
    print(branches, split.name, outcome.count(BranchStatus.OK), outcome.results)


def errors() -> list[type[CanoError]]:
    """Every error is one of Cano's, and has its attributes."""
    try:
        flow.orchestrate_sync({})
    except KeyNotFoundError as error:
        print(error.key, error.expected, error.actual)
    except RetryExhaustedError as error:
        assert_type(error.attempts, int)
        print(error.run_id, error.workflow, error.state, error.attempt, error.__cause__)
    except ValidationError as error:
        assert_type(error.problems, tuple[str, ...])
    return [
        ConfigurationError,
        SizeLimitError,
        FilterError,
        HistoryDiscardedError,
        ConflictError,
        JoinError,
        MergeConflictError,
        NodeError,
        PermanentStoreError,
        PluginError,
        RunCancelledError,
        RunExistsError,
        RunInterruptedError,
        RunNotFoundError,
        RunTimeoutError,
        SchedulerError,
        SerializationError,
        StepKilledError,
        StepTimeoutError,
        StoreError,
        StoreUnavailableError,
        TaskError,
        TransientStoreError,
        TransitionError,
        TypeMismatchError,
        VersionMismatchError,
        WorkflowError,
    ]


# a plugin


class Patient:
    """A retry strategy."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Wait longer each time."""
        return attempt if attempt < 3 else None


class Here:
    """An executor."""

    async def submit(self, call: Call) -> Any:
        """Do it here."""
        return await call()


class There(FuturesExecutor):
    """An executor whose calls leave the process."""

    async def submit(self, call: Call) -> Any:
        """Say what became of a call that another process did not execute."""
        try:
            print(call.function, call.args, call.branch, call.deadline, call.resources, call.priority)
            return await super().submit(call)
        except (ExecutorUnavailableError, CodeVersionError, RemoteError) as error:
            kind: type[ExecutorError] = type(error)
            raise WorkerLostError(f"{kind.__name__}", losses=2) from error


class Small(TypedStore):
    """A store of one's own, that a kernel can make steps on atomic."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def _find(self, key: str) -> Any:
        return self.data.get(key, MISSING)

    def _set(self, key: str, value: Any) -> None:
        self.data[key] = isolate(value)

    def _append(self, key: str, item: Any) -> None:
        held = self.data.setdefault(key, [])
        if not isinstance(held, list):
            not_a_list(key, held)
        held.append(item)

    def _discard(self, key: str) -> bool:
        return self.data.pop(key, MISSING) is not MISSING

    def keys(self) -> list[str]:
        """All keys."""
        return list(self.data)

    def clear(self) -> None:
        """Nothing left."""
        self.data.clear()

    def live(self) -> Mapping[str, Any]:
        """The data."""
        return self.data

    def apply(self, changes: Changes) -> None:
        """At once."""
        apply_changes(self.data, changes)


class Backend:
    """A store of runs."""

    capabilities = Capabilities(durable=False, encoded=False)

    async def open(self) -> None:
        """Make ready."""

    async def close(self) -> None:
        """Free everything."""

    async def create(self, run: RunRecord) -> RunRecord:
        """A new run."""
        return run if is_held(run, 0.0) or is_queued(run) else run._replace(holder="me")

    async def load(self, run_id: str) -> RunRecord | None:
        """A run."""
        return None

    async def commit(self, commit: Commit) -> None:
        """A change."""
        raise ConflictError(f"{commit.run_id} is somebody else's")

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """A lease."""
        return None

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Leases."""
        return []

    async def release(self, run_id: str, token: int) -> None:
        """No lease."""

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Runs."""
        return []

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Commits."""
        return []

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """A signal."""

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """A signal."""
        return None

    async def signals(self, run_id: str) -> Signals:
        """Signals."""
        gone: list[SignalKey] = [(False, None, "2"), (False, 3, "2")]
        return Signals.of([Signal("1", "go", to=3)], gone)

    async def missing_recipients(self) -> Sequence[str]:
        """Ids."""
        return []

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """Runs."""
        return []

    async def delete(self, run_id: str) -> bool:
        """No run."""
        return False


class Telling(Backend):
    """A store that tells of news."""

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """News."""
        tell(None)


teller: NotifyingStore = Telling()


class Auditing(Backend):
    """A store with an audit."""

    capabilities = Capabilities(audit=True)

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """A new run."""
        return run

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """A transition."""

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """A signal."""

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """No run."""
        return False

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Entries."""

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        """Entries."""
        return []

    async def prune_audit(self, before: float, audit: AuditEntry) -> int:
        """None."""
        return 0


auditor: AuditingStore = Auditing()


class Pruning(Backend):
    """A store that prunes."""

    capabilities = Capabilities(prune=True)

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        """No run."""
        return []

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, audit: AuditEntry | None = None
    ) -> Sequence[str]:
        """No run."""
        return []


pruner: PruningStore = Pruning()


class Searching(Backend):
    """A store that finds runs by their search attributes."""

    capabilities = Capabilities(filters=True, attributes=True)

    async def count(self, filter: RunFilter) -> int:
        """None, of this range."""
        wanted: Mapping[str, Sequence[AttributeRange]] = filter.attributes or {}
        return sum(low < high for ranges in wanted.values() for low, high in ranges)

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        """The tenant, a text."""
        return [("tenant", b"s")]


finder: AttributeStore = Searching()


class Claiming(Backend):
    """A store that claims in groups."""

    capabilities = Capabilities(claims=True)

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
    ) -> Sequence[ClaimedRun]:
        """A corrupt run."""
        return [ClaimedRun("run", 1, None, signals=False)]


claimer: ClaimingStore = Claiming()


class Queueing(Claiming):
    """A store with queues."""

    capabilities = Capabilities(claims=True, queues=True)

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        queues: Collection[str] | None = None,
    ) -> Sequence[ClaimedRun]:
        """None."""
        return []

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        """One run in each of two queues."""
        return {Lane().queue: 1, Lane("mail", priority=3, key="tenant").queue: 1}

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        """None, and one if it waits."""
        return 0, int(run.in_queue and run.queue == "mail")


queues: QueueStore = Queueing()

appended: Appended = Appended([b"1"])
gathered: dict[str, Any] = {"log": b"0"}
Appended.gather(gathered, {"log": appended}, removed=["other"])
whole: dict[str, Any] = Appended.gathered(gathered)
lengths: Any = Appended.mapped(appended, len)


class Paging(Backend):
    """A store that returns parts of histories."""

    capabilities = Capabilities(history_pages=True)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """No entry."""
        return []


pager: HistoryPagingStore = Paging()


class Rewriting(Backend):
    """A store that replaces values where they are."""

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        """Replace values of a history."""

    async def rewrite_signals(self, run_id: str, signals: Sequence[Signal]) -> None:
        """Replace payloads."""


rewriter: RewritingStore = Rewriting()


class Scoped(Backend):
    """A store with namespaces."""

    capabilities = Capabilities(namespaces=True)

    def scoped(self, namespace: str) -> Backend:
        """Another store."""
        return Backend()


scoped: ScopedStore = Scoped()


class Limiting(Backend):
    """A store that limits signals."""

    capabilities = Capabilities(signal_limit=True)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """Refused."""
        return False


class Streaming(Backend):
    """A store that keeps streams."""

    capabilities = Capabilities(streams=True)

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        """Nothing."""

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """One."""
        return [StreamChunk(channel, after + 1, after + 1, b"")]

    async def channels(self, run_id: str) -> Sequence[str]:
        """Nothing."""
        return ()


class Admitting(Backend):
    """A store with slots."""

    capabilities = Capabilities(slots=True)

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        """Taken."""
        return now if request.wanted == [WantedSlot("one", 5)] else 0.0

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        """Nothing."""

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        """One."""
        return [HeldSlot("one", 5, "run", 0.0)]


class Opened:
    """A transaction of a store."""

    connection = None

    async def execute(self, statement: str, parameters: Any = ()) -> Sequence[tuple[Any, ...]]:
        """Nothing."""
        return ()

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Nothing."""

    async def commit(self, commit: Commit) -> None:
        """Nothing."""

    async def rollback(self) -> None:
        """Nothing."""


class Transacting(Backend):
    """A store with transactions."""

    capabilities = Capabilities(transactions=True)

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """One."""
        return Opened()


class Joined:
    """A store in a transaction of a user's."""

    capabilities = Capabilities(connections=True)

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """The run."""
        return run

    async def load(self, run_id: str) -> RunRecord | None:
        """Nothing."""
        return None

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Nothing."""
        return ()

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """Nothing."""

    async def signals(self, run_id: str) -> Signals:
        """None."""
        return Signals()


class Joining(Backend):
    """A store that joins transactions."""

    capabilities = Capabilities(connections=True)

    async def joined(self, connection: Any) -> JoinedStore:
        """One."""
        return Joined()


async def order(kernel: Kernel, flow: Workflow[State], connection: sqlite3.Connection) -> bool:
    """A run and a signal in a transaction."""
    attached = await kernel.submit(flow, {"n": 1}, connection=connection)
    await attached.signal("go", connection=connection)
    count: int = await kernel.submit_many(flow, [{"n": 1}], connection=connection)
    return await kernel.signal("run", "go", count, connection=connection)


async def pay(store: KeyValueStore) -> State:
    """A task with a transaction."""
    async with current_step().transaction() as tx:
        opened: Transaction = tx
        rows: Sequence[tuple[Any, ...]] = await opened.execute("SELECT ?", (len(store),))
        await tx.execute("SELECT :n", {"n": len(rows)})
    return State.PARSE


transactional: TransactionalStore = Transacting()
joining: JoiningStore = Joining()
streaming: StreamingStore = Streaming()
admitting: SlotStore = Admitting()
limiter: LimitingStore = Limiting()
part: StoreBackend = scoped.scoped("acme")
in_a_namespace: Kernel = Kernel(store=scoped, namespace="acme")


class Binding:
    """A layer that binds values to their place."""

    def wrap(self, data: bytes) -> bytes:
        """The bytes."""
        return data

    def unwrap(self, data: bytes) -> bytes:
        """The bytes."""
        return data

    def wrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """The bytes, after their place."""
        return f"{context.store} {context.run_id} {context.key} {context.seq} ".encode() + data

    def unwrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """The bytes."""
        return data

    def is_current(self, data: bytes) -> bool:
        """Always."""
        return True


binding: ContextLayer = Binding()


class Text:
    """A codec."""

    def register(self, *types: Any) -> None:
        """Types."""

    def encode(self, value: Any) -> bytes:
        """Bytes."""
        return str(value).encode()

    def decode(self, data: bytes, type: Any = None) -> Any:
        """A value."""
        return data.decode()


class Still:
    """A clock that stands still."""

    def time(self) -> float:
        """Now."""
        return 0.0

    def monotonic(self) -> float:
        """Now."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """No time."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Never."""
        raise NotImplementedError


class Mirror:
    """A layer."""

    def wrap(self, data: bytes) -> bytes:
        """Backwards."""
        return data[::-1]

    def unwrap(self, data: bytes) -> bytes:
        """Forwards again."""
        return data[::-1]


class Late(LazyBackend[Backend]):
    """A store that imports its driver when it is opened."""

    def _load(self) -> Callable[[], Backend]:
        """The engine."""
        return Backend


class Plugin:
    """Implements hooks of every kind."""

    CANO_API_VERSION = API_VERSION

    @hookimpl
    def cano_open_store(self, url: str) -> StoreBackend | None:
        """Answer."""
        if url.startswith("late:"):
            return Late("late", Capabilities())
        return Backend() if url.startswith("own:") else None

    @hookimpl
    def cano_stores(self) -> Mapping[str, Capabilities]:
        """Answer."""
        return {"own": Backend.capabilities, "other": Capabilities(history=False, retention=False, notify=True)}

    @hookimpl
    def cano_codec(self) -> Codec | None:
        """Answer."""
        return Text()

    @hookimpl
    def cano_codec_layer(self, spec: str) -> CodecLayer | None:
        """Answer."""
        return Mirror() if spec == "mirror" else None

    @hookimpl
    def cano_seal_store(self, store: StoreBackend, layer: ContextLayer, names: Sequence[str]) -> StoreBackend | None:
        """Answer."""
        context = LayerContext("store", derived_id("run"), "key", seq=1)
        return store if layer.unwrap_in(layer.wrap_in(b"", context), context) == b"" else None

    @hookimpl(tryfirst=True)
    def cano_retry_strategy(self, spec: str) -> RetryStrategy | None:
        """Answer."""
        return Patient() if spec == "patient" else None

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Listen."""
        print(step.run_id, step.workflow, step.state, step.seq, step.attempt, step.idempotency_key, step.deadline)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Listen."""
        if run.error is not None:
            fold(run.error)
            assert_type(rendered(run.error), str)
            assert_type(raised_at(run.error), str | None)
        print(run.run_id, run.status, run.error, run.steps, HOOK_NAMESPACE)

    @hookspec
    def cano_own_hook(self, number: int) -> None:
        """A hook of its own."""


executor: Executor = Here()
several: Mapping[str, str | Executor] = {"default": executor, "cpu": "process://?workers=2"}
abroad = TaskConfig(executor="cpu", resources={"GPU": 0.5}, priority=3)
clock: Clock = Still()
managed: ManagedStore = Small()
seen: KeyValueStore = StoreView(managed.live(), managed.apply)
kernel = Kernel(store=Backend(), executor=executor, plugins=[Plugin()], clock=clock, limits=SizeLimits(ids=100))
expected: Workflow[str] = Workflow("A", expect=Expect(within="10m", step_within={"A": timedelta(seconds=30), "B": 5}))
late = LateRun("r", "w", "A", 0, True, 30.0, 1.0, 31.0)
assert_type(late.due, float)
kernel = Kernel(store=Backend(), executor=several, plugins=[Plugin()], clock=clock, limits=SizeLimits(ids=100))
parked = Wait(then="DONE", signal="approved")
warning: type[Warning] = PluginWarning
find, listed = lazy_names(__name__, {"backend": "Backend connect"})
assert_type(find, Callable[[str], Any])
assert_type(listed, Callable[[], list[str]])
