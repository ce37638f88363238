"""The ports of the engine: the protocols of a kernel, of a plugin that keeps runs, and of one that executes a state.

Plugins import from here; `cano_bind_state` and `cano_keep_runs` are their hooks. No object needs to inherit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from cano.data.copying import IMMUTABLE
from cano.data.store import check_key, check_type, unpack_key
from cano.data.view import StoreView
from cano.engine.attempts import failed_attempts
from cano.engine.binding import BoundState, BoundWorkflow, Listener
from cano.engine.calls import Caller, call_of, enter_step
from cano.engine.control import Parked, ParkedForChild, Paused, Refused, StoreFailed
from cano.engine.inputs import Feed, Inputs
from cano.engine.limiter import callers, wake
from cano.engine.run import Run
from cano.engine.step import Detail
from cano.engine.stopping import lease_lost, refuse_inside
from cano.engine.strand import Strand
from cano.holders import is_stopped, lives, new_holder
from cano.model.code_reading import declared_keys
from cano.model.task import function_name
from cano.notices import Announcer, Notice
from cano.records import child_signal, wait_token
from cano.run_filter import in_pages
from cano.runtime.teardown import reap
from cano.safe_text import error_text, safe_repr, safe_str
from cano.streams import NOTHING, Emitter
from cano.submission import Submission
from cano.tracebacks import raised_at, rendered

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from weakref import WeakValueDictionary

    from cano.bulk import BulkReport, Pace
    from cano.compatibility import CompatReport
    from cano.engine.limiter import Limiter, StoreLimiter
    from cano.engine.run_view import RunInfo, RunView
    from cano.engine.step import Step
    from cano.errors import WorkflowError
    from cano.executors import Executor
    from cano.model.limits import Limit
    from cano.model.result import RunResult
    from cano.model.workflow import Workflow
    from cano.protocols import Clock, Codec, StoreBackend
    from cano.records import AuditEntry, Explanation, Finding, Retention, RunRecord, Transition
    from cano.run_filter import RunFilter, RunPage
    from cano.runtime.threads import Threads
    from cano.size_limits import SizeLimits
    from cano.streams import RunEvent, StreamItem
    from cano.transactions import Transaction

__all__ = [
    "Announcer", "BoundState", "BoundWorkflow", "Caller", "Detail", "Emitter", "Feed", "Host", "IMMUTABLE", "Inputs",
    "Journal", "Listener", "NOTHING", "Notice", "Parked", "ParkedForChild", "Paused", "Refused", "RestorePoint",
    "RunKeeper", "StoreFailed", "Strand", "Submission", "Work", "call_of", "callers", "check_key", "check_type",
    "child_signal", "declared_keys", "enter_step", "error_text", "failed_attempts", "function_name", "in_pages",
    "is_stopped", "lease_lost", "lives", "new_holder", "raised_at", "reap", "refuse_inside", "rendered", "safe_repr",
    "safe_str", "unpack_key", "wait_token", "wake",
]  # fmt: skip

Work: TypeAlias = Callable[[Run, BoundState], Awaitable[Any]]
"""A function that executes a state in place of its task: `await work(run, state)` is the next state."""


class Host(Protocol):
    """The parts of a kernel that the engine, and the plugins that extend it, use.

    Attributes:
        clock, threads: the source of time, and the worker threads of plain functions.
        hook: pluggy's hook relay.
        active, bound: the runs that this kernel executes now, by run id, and its workflows, by name.
        keeper: keeps runs in the store; None without a store or without a plugin that keeps runs.
        closed: whether the kernel was closed, or is about to be.
        backend, codec: the open store, and the codec with its layers; or None.
        lease: seconds without a renewal after which another process may take over a run.
        poll: seconds between two looks into the store for changes by other processes.
        limits: the largest sizes of ids, names, errors and runs.
        store_name: the store's name in messages; it contains no secret.
        observer_errors: the number of exceptions of each observer, by its name.
    """

    clock: Clock
    threads: Threads
    active: dict[str, Run]
    bound: WeakValueDictionary[str, BoundWorkflow]
    backend: StoreBackend | None
    codec: Codec | None
    keeper: RunKeeper | None
    closed: bool
    lease: float
    poll: float
    limits: SizeLimits

    @property
    def hook(self) -> Any: ...
    @property
    def store_name(self) -> str: ...
    @property
    def executors(self) -> Mapping[str, Executor | None]: ...
    @property
    def observer_errors(self) -> Mapping[str, int]: ...

    def listeners(self, hook: str) -> tuple[Listener, ...]:
        """Return the implementations of a lifecycle hook, in calling order."""

    def limiter(self, limit: Limit) -> Limiter:
        """Return the slots of `limit` in this kernel."""

    def observer_failed(self, listener: Listener, error: BaseException) -> None:
        """Count an observer's exception; log its first one."""

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Return the first answer of a plugin to a provider hook, or None. Raises PluginError if it is wrong."""

    def provided(self, kind: str, given: str) -> Any:
        """See `Kernel.provided`."""

    def inactive(self, plugin: str) -> str | None:
        """Return why a plugin is not active, and what to do, in a few words; None if it is."""

    def audited(self, run_id: str | None, action: str, detail: str = "") -> tuple[AuditEntry, ...]:
        """See `Kernel.audited`."""

    def required_keeper(self, need: str = "this") -> RunKeeper:
        """Return the keeper of runs. Raises ConfigurationError if there is none, naming the `need` for it."""

    def codec_for(self, plan: BoundWorkflow | None) -> Codec | None:
        """Return the codec for data of a workflow's runs: it encodes only values of the types that the workflow names.

        For None, a workflow that is not known, these are Python's own types. It decodes what `codec` decodes. Returns
        None if the kernel has no codec.
        """

    def bind(self, flow: Workflow[Any]) -> BoundWorkflow:
        """See `Kernel.bind`."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a background task, which closing the kernel awaits."""

    def drive(self, run: Run) -> None:
        """Execute `run` in the background."""

    async def run_child(self, flow: Any, data: Mapping[str, Any], parent: Step, run_id: str | None = None) -> RunResult:
        """Execute `flow` as a child run of the step `parent`, and return its result. See `Kernel.run_child`."""


class Journal(Protocol):
    """One run's entries in a store. `run.journal` is None for a run that no store keeps.

    The values that `remember` and `save` take are the engine's, apart from the run's data. A restored run finds them
    in `run.restored_values`.

    Attributes:
        commits_steps: whether each step is committed by itself, so that a crash loses only the current one.
        ended: whether the run has ended in the store.
        state: name of the state that the last committed transition led to.
    """

    commits_steps: bool
    ended: bool
    state: str

    async def transition(self, run: Run, target: BoundState) -> None:
        """Commit what the step wrote, and the transition to `target`.

        Raises:
            ConflictError: another holder has claimed the run.
            SerializationError: a value cannot be stored.
        """

    def check_lease(self) -> None:
        """Raise ConflictError if the run's lease may have expired. The engine calls it before each body and attempt."""

    async def wait_to_retry(self, run: Run, delay: float) -> None:
        """Park the run if the next attempt is far away; otherwise return at once. Raises Parked."""

    def remember(self, name: str, value: Any) -> None:
        """Store a value with the next transition, for the state that it leads to."""

    def remember_error(self, run: Run, error: BaseException) -> None:
        """Store the error that leads to an `on_exhausted` state with the next transition."""

    async def save(self, values: Mapping[str, Any]) -> None:
        """Commit values now; they are kept until the next transition."""

    def carry(self, texts: Mapping[str, str]) -> None:
        """Store texts of observers with the next commit, for the life of the run."""

    async def end(self, run: Run) -> None:
        """Commit how a run ended that did not reach an exit state, and release its lease. Never raises."""


class RunKeeper(Protocol):
    """Keeps the runs of one kernel in its store."""

    def keeps(self, run_id: str | None) -> bool:
        """Return whether a run with that id is stored from its start; None stands for a new id."""

    def view(self, data: dict[str, Any], plan: BoundWorkflow) -> StoreView:
        """Return the tasks' view of the data of a run of `plan`."""

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
        """Store a new run and return it, to be executed here.

        If the id is in use, return its run if that can continue here; None if it is elsewhere, waits, or has ended.

        Args:
            plan: its workflow.
            view: its data.
            run_id: its id.
            timeout: its timeout in seconds, or None.
            parent: the step that starts it as a child, or None.
            on_existing: "return", "same-data" or "reject", as for `Kernel.run`; None for a new id, and for a child.
            origin: as for `Kernel.start`.

        Raises:
            ConfigurationError: the data is not a mapping.
            RunExistsError: the id belongs to another workflow's run, to one that is not a child of `parent`, or to one
                that `on_existing` or `origin` rejects.
            SerializationError: the data cannot be stored.
            VersionMismatchError: the id belongs to a run of another definition.
        """

    async def park(self, run: Run, paused: Paused) -> BoundState:
        """Park the run; or, if its signal or time has already come, return the next state. Raises Parked."""

    async def take_slots(self, run: Run, limiter: StoreLimiter, values: Mapping[str, Any]) -> Any:
        """Take a slot of each limit, for the value of its key, and return what holds them. Wait until there are.

        `run.waits_for` is set meanwhile; its text names the limits. A run that no store keeps yet is kept from now on.

        Raises:
            ConfigurationError: the store has no slots, or the run cannot be stored.
            ConflictError: another holder has claimed the run.
            TaskError: a value is not a text, a whole number or a bool.
        """

    def give_slots(self, slots: Any) -> None:
        """Give back what `take_slots` has returned, in the background; a commit has freed most of it."""

    async def settled(self, plan: BoundWorkflow, run_id: str, parent: Step | None = None) -> RunResult:
        """Wait for the run's end, in any process; execute it here if no other process does.

        Args:
            plan, run_id: the run.
            parent: the step that started it as a child. Its run may be parked while the child is.

        Raises:
            ParkedForChild: the parent is parked; its step begins again after the child's end.
            WorkflowError: it failed, was cancelled, or was interrupted here.
        """

    def followed(self, plan: BoundWorkflow, run_id: str) -> Run:
        """Return an object for a run that this kernel does not execute. If it does later, that sets `successor`.

        It counts as parked, and nothing else in it is known.
        """

    async def info(self, plan: BoundWorkflow, run_id: str) -> RunInfo:
        """Read the progress of a run that this kernel does not execute. Raises RunNotFoundError, SerializationError."""

    def stopped_driving(self, run: Run) -> None:
        """Called when this kernel stops executing a run, because it ended or was parked."""

    async def end_child(self, run_id: str, parent: Run) -> None:
        """Cancel a child that its parent no longer waits for, unless the parent will be resumed."""

    async def cancel_children(self, run_id: str) -> None:
        """Cancel the unfinished children of a run."""

    def announce(self, announcer: Announcer) -> None:
        """Let `announcer` make a run of each notice from now on. It is stored before the commit that it is about."""

    async def is_committed(self, id: str, run_id: str, created: float, token: int) -> bool | None:
        """Return whether the commit that a notice is about was made; None if it may still be made."""

    async def close(self) -> None:
        """Stop all background work, and wake all callers that wait for a run."""

    # `Kernel` has a method of the same name for each of these, and documents it

    def feed(self, inputs: Inputs) -> Feed:
        """Return the workflow of a batch with these inputs. Raises ConfigurationError if the store is not durable."""

    def claims(self) -> Mapping[str, int]:
        """Return the number of "calls" to claim runs for a takeover, of "runs" claimed, and of runs "refused" here."""

    async def submit(self, plan: BoundWorkflow, asked: Submission) -> int: ...
    async def resume(self, plan: BoundWorkflow, run_id: str, timeout: float | None) -> RunResult: ...
    async def recover(
        self, plans: Sequence[BoundWorkflow], concurrency: int | None, queues: Collection[str] | None
    ) -> list[Run]: ...
    async def queue_sizes(self) -> Mapping[str, int]: ...
    async def signal(
        self, run_id: str, name: str, payload: Any, id: str | None, wait: str | None, connection: Any = None
    ) -> bool: ...
    async def cancel(self, run_id: str) -> bool: ...
    async def get(self, run_id: str) -> RunView: ...
    async def ended(self, run_id: str) -> RunView:
        """Wait for the run's end, in any process, without executing it. Raises RunNotFoundError."""

    def emitter(self, run: Run) -> Emitter:
        """Return what writes the items of a run. Any thread may call this. Raises ConfigurationError."""

    def transaction(self, step: Step) -> AbstractAsyncContextManager[Transaction]: ...
    def events(self, run_id: str, after: int | None, follow: bool, run: Run | None) -> AsyncIterator[RunEvent]: ...
    def stream(self, run_id: str, channel: str, after: int, run: Run | None, follow: bool) -> AsyncIterator[StreamItem]:
        """See `RunHandle.stream`. `run` is the run's object, if there is one."""

    async def selected(self, filter: RunFilter, where: str | None) -> RunFilter:
        """Return `filter` with the conditions that a text describes, for `runs` and `count`. Raises FilterError."""

    async def act_on_many(self, action: str, where: str | RunFilter, pace: Pace, *given: Any) -> BulkReport:
        """Do what `Kernel` has a method for: "resume", "cancel", "signal" or "fork", with what only that is given."""

    async def channels(self, run_id: str) -> Sequence[str]: ...
    async def count(self, filter: RunFilter) -> int: ...
    async def runs(self, filter: RunFilter) -> list[RunRecord]: ...
    async def page(self, filter: RunFilter) -> RunPage: ...
    async def history(self, run_id: str, after: int | None, limit: int | None) -> list[Transition]: ...
    async def fork(
        self, run_id: str, seq: int, new_run_id: str, changes: Mapping[Any, Any], removed: Sequence[Any]
    ) -> str: ...
    def export_run(self, run_id: str, plain: bool, redact: Collection[str] | None) -> AsyncIterator[bytes]: ...
    async def import_run(self, source: Any, new_run_id: str | None) -> str: ...
    async def explain(self, run_id: str) -> Explanation: ...
    async def check(self) -> list[Finding]: ...
    async def compat(self, plans: Sequence[BoundWorkflow], only_given: bool) -> CompatReport: ...
    async def delete(self, run_id: str) -> None: ...
    async def prune(
        self, retention: Retention, workflow: str | None, where: str | None, dry_run: bool
    ) -> list[str]: ...
    async def audit(self, run_id: str | None, limit: int | None) -> list[AuditEntry]: ...
    async def prune_audit(self, max_age: float) -> int: ...


class RestorePoint(NamedTuple):
    """The point from which a stored run continues. `Run.restored` makes the run from it.

    Attributes:
        run_id, parent_id: its id, and the id of its parent run, if any.
        view: the tasks' view of its data.
        journal: its entries in the store.
        state: name of the state that is next.
        seq: number of transitions committed.
        timeout, due: its timeout in seconds, and its deadline in wall-clock seconds; None without a timeout.
        values: the engine's values, stored with `Journal.remember` and `Journal.save`; and as `child`, the id of the
            child that the run was parked for.
        carried: texts of observers.
        detail: the detail of the present step: its next attempt, and the payload, outcome or error that led to it.
        failure: the error that the run ends with, before it makes a step; None to continue.
    """

    run_id: str
    parent_id: str | None
    view: StoreView
    journal: Journal
    state: str
    seq: int
    timeout: float | None
    due: float | None
    values: Mapping[str, Any]
    carried: Mapping[str, str]
    detail: Detail
    failure: WorkflowError | None = None
