"""The Kernel: binds workflows and executes runs. Its methods are the library's API."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self, Unpack
from weakref import WeakValueDictionary, ref

from cano.checks import (
    listed,
    one_of,
    positive_seconds,
    refuse,
    seconds,
    switch,
    text,
    time_limit,
    whole,
    whole_or_none,
)
from cano.data.changes import Changes
from cano.data.copying import copied
from cano.data.store import AnyKey, ReadKey, check_key, unpack_key
from cano.data.view import StoreView
from cano.engine.binding import BoundWorkflow
from cano.engine.closing import finish_all
from cano.engine.control import StoreFailed
from cano.engine.limiter import Limiter
from cano.engine.run import PARKED, Run
from cano.engine.step import current_run
from cano.engine.stopping import refuse_inside
from cano.engine.strand import UNMANAGED
from cano.errors import (
    ConfigurationError,
    ConflictError,
    RunCancelledError,
    RunTimeoutError,
    StepKilledError,
    StoreUnavailableError,
    TransientStoreError,
)
from cano.executors import Executor
from cano.kernel.actor import LONGEST, checked_actor, checked_namespace, process_owner
from cano.kernel.handles import AttachedRun, RunHandle, RunListing
from cano.kernel.resources import IN_MEMORY, Resources, called
from cano.lanes import Lane
from cano.model.limits import Limit
from cano.model.result import RunResult
from cano.model.workflow import Workflow
from cano.options import instant, optional
from cano.plugins.codec_layers import restricted
from cano.plugins.loading import PluginInfo, Plugins
from cano.protocols import Capabilities, Clock, Codec, StoreBackend
from cano.records import AuditEntry, Explanation, Finding, Retention, RunRecord, RunStatus, Transition
from cano.run_filter import ORDERS, RunFilter
from cano.runtime.clock import SystemClock
from cano.runtime.teardown import run_in, with_timeout
from cano.runtime.threads import Threads
from cano.size_limits import SizeLimits, derived_id
from cano.submission import Submission

if TYPE_CHECKING:
    from datetime import datetime

    from cano.bulk import BulkReport, Pace
    from cano.checks import Duration, Seconds
    from cano.compatibility import CompatReport
    from cano.engine.ports import RunKeeper
    from cano.engine.run_view import RunView
    from cano.engine.step import Step
    from cano.plugins.codec_layers import Layers


class Kernel:
    """Executes workflows. Use it as an async context manager; otherwise the first call opens it.

    Args:
        store: URL of the store that keeps the runs, opened by a plugin; or a `StoreBackend`.
        executor: URL of an executor for the `exec` phase of nodes, or an `Executor`; or a mapping from names, which
            `TaskConfig(executor=…)` uses, to several of them: the one named "default" gets the `exec` phases whose
            config names none. None, also in a mapping, for the event loop itself.
        plugins: objects with hook implementations, or names of installed plugins.
        discover: whether to load every installed plugin. The plugin `durability` is loaded even if this is False,
            unless it is blocked.
        block: names of plugins that are never imported, or a mapping from them to the reasons, for messages; the
            environment variable CANO_BLOCK adds to them, and CANO_PLUGINS all installed ones that it does not name, but
            durability.
        strict: whether a broken plugin is an error; otherwise it is skipped with a warning.
        clock: the source of time.
        lease: seconds, or a timedelta, without a renewal after which another process may take over a run.
        poll: seconds, or a timedelta, between two polls of a durable store for changes by other processes.
        grace: seconds, or a timedelta, for which a closing kernel lets runs finish before it interrupts them.
        actor: the person or service on whose behalf the kernel acts, for the store's audit: at most 512 bytes. By
            default CANO_ACTOR, or else the user and host of the process. It is recorded, not checked.
        limits: the largest sizes of ids, names, errors and runs.
        namespace: the part of the store that this kernel works in, and outside of which it sees and changes nothing;
            None for the store itself. 1 to 512 bytes of printable text.

    Attributes:
        clock, threads: the source of time, and the worker threads of plain functions.
        limits: the largest sizes of ids, names, errors and runs.
        namespace: the part of the store that this kernel works in, or None.
        active: the runs that this kernel executes now, by run id.
        bound: the workflows that are bound to this kernel, by name; of several with one name the last.
        codec: the codec with the layers of the store's URL, or None.
        backend: the open store, or None.
        keeper: keeps runs in the store; None without a store or without a plugin that keeps runs.
        closed: whether the kernel was closed, or is about to be.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        *,
        store: str | StoreBackend = IN_MEMORY,
        executor: str | Executor | Mapping[str, str | Executor | None] | None = None,
        plugins: Iterable[Any] = (),
        discover: bool = True,
        block: Iterable[str] = (),
        strict: bool = False,
        clock: Clock | None = None,
        lease: Seconds = 30.0,
        poll: Seconds = 1.0,
        grace: Seconds = 10.0,
        actor: str | None = None,
        limits: SizeLimits | None = None,
        namespace: str | None = None,
    ) -> None:
        self.namespace = checked_namespace(namespace)
        self._plugins = Plugins(plugins, discover=discover, block=block, strict=strict)
        self._resources = Resources(self._plugins, store, executor, self.namespace)
        if clock is not None and not isinstance(clock, Clock):
            raise ConfigurationError(f"clock must be a Clock, such as cano.testing.VirtualClock(), not {clock!r}")
        self.lease, self.poll = positive_seconds("lease", lease), positive_seconds("poll", poll)
        self.grace = seconds("grace", grace)
        self._actor = checked_actor(actor)
        if not isinstance(limits, SizeLimits | None):
            refuse("limits", limits, "a SizeLimits, or None")
        self.limits = limits or SizeLimits()
        self.clock: Clock = SystemClock() if clock is None else clock
        self.threads = Threads(self.clock)
        self.active: dict[str, Run] = {}
        self.bound: WeakValueDictionary[str, BoundWorkflow] = WeakValueDictionary()
        self.codec: Codec | None = None
        self.backend: StoreBackend | None = None
        self.keeper: RunKeeper | None = None
        self._limiters: WeakValueDictionary[Limit, Limiter] = WeakValueDictionary()
        self._ref = ref(self)
        self._ids = itertools.count(100_000_000)
        self._prefix = f"{int(time.time() * 1000):012x}{os.urandom(4).hex()}-"
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opening: tuple[Future[None], asyncio.Task[None]] | None = None
        self._closing: Future[None] | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._open = False
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._open else "not started"
        return f"<Kernel on {self.store_name}, {state}, {len(self.active)} active run(s)>"

    @property
    def executors(self) -> Mapping[str, Executor | None]:
        """The executors by name; a single one is "default". Raises ConfigurationError if no plugin opens its URL."""
        return self._resources.executors()

    # opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Load the plugins, and open store and executor. Does nothing if the kernel is open.

        Raises:
            ConfigurationError: no plugin opens the store or the executor, or keeps runs in the store.
            PluginError: a plugin is broken.
            StoreError: the store cannot be opened, or this kernel was closed.
        """
        if self.closed:
            raise StoreUnavailableError("this kernel was closed; make a new one")
        while not self._open:  # again, if the event loop that was opening it ended
            self.load()  # not in a task, so that a warning points at the caller's line
            await asyncio.shield(asyncio.wrap_future(self._opened_once()))
            if self.closed:
                raise StoreUnavailableError("this kernel was closed; make a new one")

    def _opened_once(self) -> Future[None]:
        """Open the kernel in this event loop, unless another one is opening it; the future is done afterwards."""
        with self._lock:
            if self._opening is not None and not self._opening[1].get_loop().is_closed():
                return self._opening[0]
            opened: Future[None] = Future()
            opened.set_running_or_notify_cancel()  # a cancelled waiter must not cancel the future
            if self._open:  # by another thread, just now
                opened.set_result(None)
                return opened
            task = asyncio.get_running_loop().create_task(self._do_open())
            self._opening = opened, task

        def done(task: asyncio.Task[None]) -> None:
            self._opening = None
            error = None if task.cancelled() else task.exception()
            if error is None:
                opened.set_result(None)
            else:
                opened.set_exception(error)

        task.add_done_callback(done)
        return opened

    async def _do_open(self) -> None:
        self._home = asyncio.get_running_loop()
        self.codec, self.backend = await self._resources.open()
        try:
            self.keeper = self._resources.keeper(self)
            for started in self.listeners("cano_kernel_started"):
                await called(started, self)
            if self.closed:
                raise StoreUnavailableError("this kernel was closed; make a new one")
        except BaseException:
            await self._resources.close()
            raise
        self._open = True

    async def close(self, grace: Duration = None) -> None:
        """Wait for active runs to finish, interrupt the others, and close store and executor.

        Cancelling this call does not stop the closing. Another call waits for it, in any thread. A task of a run that
        no store keeps may call this: its run continues, and is not waited for.

        Args:
            grace: seconds, or a timedelta, for which runs may finish; by default the kernel's `grace`.

        Raises:
            ConfigurationError: a task of a run that the store keeps calls this; the run's end could not be stored.
        """
        grace = self.grace if grace is None else seconds("grace", grace)
        kept = [run for run in list(self.active.values()) if run.journal is not None]
        refuse_inside(kept, "close its kernel")
        with self._lock:
            if self._closing is None:
                opened, self.closed, self._open = self._open, True, False
                work = self._do_close(opened, grace, asyncio.current_task())
                self._closing = asyncio.run_coroutine_threadsafe(work, asyncio.get_running_loop())
        await asyncio.shield(asyncio.wrap_future(self._closing))

    async def _do_close(self, opened: bool, grace: float, caller: asyncio.Task[Any] | None) -> None:
        # a run that closes its own kernel continues, and is not waited for
        runs = [run for run in list(self.active.values()) if not run.driven_by(caller)]
        await finish_all(runs, [task for task in list(self._tasks) if task is not caller], grace, self.clock)
        await run_in(self._home, partial(self._release, opened))
        self.threads.close()

    async def _release(self, opened: bool) -> None:
        if self.keeper is not None:
            await self.keeper.close()
        if opened:
            async with AsyncExitStack() as stack:  # each is called, even if others raise
                stack.push_async_callback(self._resources.close)
                for stopping in reversed(self.listeners("cano_kernel_stopping")):
                    stack.push_async_callback(called, stopping, self)

    # store and plugins

    @property
    def store_name(self) -> str:
        """The store's name in messages: its URL without secrets, or its repr; and the namespace."""
        return self._resources.store_name

    @property
    def actor(self) -> str:
        """The person or service on whose behalf this kernel acts."""
        if self._actor is None:
            self._actor = process_owner()
        return self._actor

    @property
    def hook(self) -> Any:
        """pluggy's hook relay, for plugins that call hooks of their own."""
        return self._resources.hook

    @property
    def observer_errors(self) -> Mapping[str, int]:
        """The number of exceptions of each observer, by its name."""
        return dict(self._plugins.observer_errors)

    def load(self) -> list[PluginInfo]:
        """Import the plugins, unless they are imported, and return a list of them.

        Raises:
            PluginError: two plugins have the same name; or, if `strict`, one is broken.
            ConfigurationError: a plugin that was given by name is not installed.
        """
        self._plugins.load()
        return self._plugins.infos

    def store_at(self, url: str) -> tuple[StoreBackend | None, Layers]:
        """Return the store at `url`, not yet opened, and the codec layers, which wrap and unwrap its values.

        With these, runs can be copied from store to store without decoding a value. The store is None if `url` is
        memory:// and no plugin opens it. With a namespace, it is that part of the store.

        Args:
            url: the URL of a store, as for the argument `store`.

        Raises:
            ConfigurationError: no plugin opens the URL, or has a layer that it names; or the URL names a layer for a
                store that keeps objects; or the store has no namespaces.
        """
        return self._resources.store_at(text("url", url))

    def whole_store(self) -> StoreBackend | None:
        """Return the store of which the kernel's namespace is a part: a new object, not yet opened, without layers.

        None without a namespace, or if the kernel's store is not a URL.
        """
        return self._resources.whole_store()

    def inactive(self, plugin: str) -> str | None:
        """Return why a plugin is not active, and what to do, in a few words; None if it is."""
        return self._plugins.inactive(plugin)

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Return the first answer of a plugin to a provider hook, or None. Raises PluginError if it is wrong."""
        return self._plugins.ask(hook, **arguments)

    def provided(self, kind: str, given: str) -> Any:
        """Return what a plugin provides for a URL or a name.

        Args:
            kind: "store", "executor", "codec layer" or "retry strategy".
            given: the URL or the name.

        Raises:
            ConfigurationError: no plugin answers; the error says why, and what to do.
            PluginError: the answer is wrong.
        """
        return self._plugins.provided(kind, given)

    def stores(self) -> dict[str, Mapping[str, Capabilities]]:
        """Return the capabilities of the stores of each active plugin, by URL scheme.

        Raises:
            PluginError: a plugin's answer is wrong.
        """
        return self._plugins.stores()

    def required_keeper(self, need: str = "this") -> RunKeeper:
        """Return the keeper of runs. Raises ConfigurationError if there is none, naming the `need` for it."""
        if self.keeper is None:
            raise ConfigurationError(f"{need} needs runs in a store: {self._resources.no_keeper()}")
        return self.keeper

    async def opened_keeper(self) -> RunKeeper:
        """Open the kernel and return its keeper of runs. Raises ConfigurationError if there is none."""
        await self.open()
        return self.required_keeper()

    # executing workflows

    async def _asked(self, **texts: str | None) -> RunKeeper:
        """Return the keeper of runs for a call with these arguments. Raises ConfigurationError if one is not a text."""
        for name, value in texts.items():
            if value is not None or name not in ("id", "wait"):
                text(name, value)
        return await self.opened_keeper()

    async def run(
        self,
        flow: Workflow[Any],
        data: Any = None,
        *,
        run_id: str | None = None,
        timeout: Duration = None,
        on_existing: str = "return",
        connection: None = None,
    ) -> RunResult:
        """Execute `flow` to its end.

        Args:
            flow: the workflow.
            data: a mapping with the run's first data, which is copied; or an object that the tasks get as it is.
            run_id: the run's id; by default a new one. The same id again returns the result of that run, if a plugin
                keeps runs; otherwise the kernel logs a warning, once.
            timeout: seconds, or a timedelta, for the whole run in wall-clock time, including the time while it is
                parked or its process is down; None for no timeout. An existing run keeps its timeout. If a
                failed run is resumed, its timeout starts again.
            on_existing: what to do if a plugin keeps a run with this id: "return" its result; "same-data": only if it
                began with the same data, or `data` is None; or "reject" the call. Another workflow's run is always
                rejected.
            connection: refused: the run would begin before your transaction is committed. `submit` takes one.

        Raises:
            ConfigurationError: an argument is of the wrong kind.
            RunExistsError: `run_id` belongs to another workflow's run, or `on_existing` rejects the run that has it.
            ConflictError: a run with this id is executing without a store.
            ValidationError: the definition is wrong.
            VersionMismatchError: `run_id` belongs to a run of another definition.
            WorkflowError: the run failed; its cause is the exception of a task.
        """
        if connection is not None:
            raise _no_connection("run")
        plan, run_id, run, stored = await self._begin(flow, data, run_id, timeout, on_existing)
        if run is not None:
            run.caller = current_run()
            run.askers += 1
        if not stored:
            assert run is not None
            state = await run.drive()
            if run.status is not PARKED:
                return run.result(state)
        elif run is not None:
            self.drive(run)
        try:
            return await self.required_keeper().settled(plan, run_id)
        except asyncio.CancelledError:
            if run is not None:
                run = self.active.get(run_id, run)  # another object, if the run was parked in between
                run.askers -= 1
                if stored:
                    run.stop(RunStatus.INTERRUPTED)
                    await run.ended()
            raise

    async def start(
        self,
        flow: Workflow[Any],
        data: Any = None,
        *,
        run_id: str | None = None,
        timeout: Duration = None,
        keep: bool = True,
        on_existing: str = "return",
        origin: str | None = None,
        connection: None = None,
    ) -> RunHandle:
        """Start `flow` in the background. The other arguments and the errors are those of `run`.

        Args:
            keep: False keeps the run out of the store, unless it is parked. Without it, every run is stored
                in a durable store, and every run with a `run_id` in any store.
            origin: for plugins: who starts the run, such as a schedule. It is kept with the run, apart from its data.
                An existing run with another origin is rejected; the data of one with this origin is not compared.
        """
        if connection is not None:
            raise _no_connection("start")
        keep = switch("keep", keep)
        plan, run_id, run, _ = await self._begin(flow, data, run_id, timeout, on_existing, keep, origin)
        if run is None:
            if (active := self.active.get(run_id)) is not None:
                return RunHandle(self, plan, active)
            keeper = self.required_keeper()
            return RunHandle(self, plan, keeper.followed(plan, run_id), await keeper.info(plan, run_id))
        self.drive(run)
        return RunHandle(self, plan, run)

    async def submit(
        self,
        flow: Workflow[Any],
        data: Any = None,
        *,
        run_id: str | None = None,
        queue: str = "default",
        priority: int = 0,
        key: str | None = None,
        delay: Duration = None,
        on_existing: str = "same-data",
        connection: Any = None,
    ) -> AttachedRun:
        """Put a run of `flow` into the store, for any worker: `cano worker`, or a kernel that has called `recover`.

            await kernel.submit(flow, {"order": 17}, run_id="order-17")

        This call does not execute the run. Until a worker begins it, its status is QUEUED. The arguments and errors
        that are not here are those of `run`. Another queue, priority or key needs a store with `queues`.

        Args:
            queue: the run's queue, for life. A worker that serves some queues claims only their runs.
            priority: of runs that have not begun, those with the larger numbers begin first, from -32,000 to 32,000.
            key: the name of a group of runs, such as a tenant: of one priority, one run of each key begins in turn,
                however many it has. Runs without a key have one in common.
            delay: seconds, or a timedelta, before which no worker begins the run; until then it is parked.
            on_existing: what to do if the store has a run with this id: "same-data", "return" or "reject", as in `run`.
                No existing run changes.
            connection: your connection to the store's database: of psycopg, sqlite3 or SQLAlchemy, or a session of
                that. The run is stored in its open transaction: it is there if, and as soon as, you commit.

        Raises:
            ConfigurationError: the store does not survive this process, so that no worker could find the run; it keeps
                no queues, and another queue, priority or key is given; or the connection is not one to the store's
                database in which a transaction can be open.
        """
        id = self._new_id() if run_id is None else run_id
        lane = Lane.checked(queue, priority, key)
        await self._submit(flow, [data], run_id, lambda _: id, lane, delay, on_existing, connection)
        return AttachedRun(self, id)

    async def submit_many(
        self,
        flow: Workflow[Any],
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        run_id: str | None = None,
        queue: str = "default",
        priority: int = 0,
        key: str | None = None,
        delay: Duration = None,
        on_existing: str = "same-data",
        connection: Any = None,
    ) -> int:
        """Submit one run for each of `rows`, the data of each, as `submit` does. Return their number.

        The rows are read in groups, so that few are in memory; the runs of a group are stored together. An error ends
        the call, and the groups before it are submitted.

        Args:
            flow: the workflow.
            rows: an iterable, or an asynchronous one.
            run_id: the first part of the ids: those of `orders` are `orders-1`, `orders-2` and so on. With it, a
                repeated call submits only the runs that are missing. By default the ids are new.
            queue, priority, key, delay, on_existing, connection: as for `submit`, for each run.
        """

        def id_of(number: int) -> str:
            return self._new_id() if run_id is None else f"{run_id}-{number}"

        lane = Lane.checked(queue, priority, key)
        return await self._submit(flow, rows, run_id, id_of, lane, delay, on_existing, connection)

    async def _submit(
        self,
        flow: Workflow[Any],
        rows: Iterable[Any] | AsyncIterable[Any],
        run_id: str | None,
        id_of: Callable[[int], str],
        lane: Lane,
        delay: Duration,
        on_existing: str,
        connection: Any,
    ) -> int:
        keeper, plan = await self.opened_keeper(), self.bind(flow)
        one_of("on_existing", on_existing, ("return", "same-data", "reject"))
        if run_id is not None:
            self.limits.check("ids", "the run id", text("run_id", run_id))
        if not isinstance(rows, Iterable | AsyncIterable):
            refuse("rows", rows, "an iterable of the data of runs")
        existing, view_of = None if run_id is None else on_existing, partial(self._view_of, plan=plan)
        delay = time_limit("delay", delay)
        return await keeper.submit(plan, Submission(rows, id_of, view_of, delay, existing, lane, connection))

    async def orchestrate(self, flow: Workflow[Any], store: Any) -> Any:
        """Execute `flow` on `store` itself, and return the exit state. See `Workflow.orchestrate`."""
        if not self._open:
            await self.open()
        store = StoreView(store) if isinstance(store, dict) else _managed(store)
        run = Run(self, self.bind(flow), self._new_id(), store)
        run.caller = current_run()
        try:
            state = await run.drive()
            return state if run.status is not PARKED else await self._settled_into(run)
        finally:
            # run and step refer to each other, so they would keep the store until the next garbage collection
            run.store = run.view = UNMANAGED
            run.caller = None

    async def _settled_into(self, run: Run) -> Any:
        """Wait for the end of a parked run, copy its data into the store that it began on, and return its state."""
        result = await self.required_keeper().settled(run.plan, run.run_id)
        run.view.merge(Changes(True, frozenset(), result.data, {}))
        run.view.commit()
        return result.state

    async def run_child(
        self, flow: Workflow[Any], data: Mapping[str, Any], parent: Step, run_id: str | None = None
    ) -> RunResult:
        """Execute `flow` as a child run of the step `parent`, in its task. `SubWorkflow` calls this.

        With a `run_id`, for batches: the child is refused if it began with other data, and not resumed if it failed.
        """
        on_existing = "return" if run_id is None else "same-data"
        run_id = run_id or await self._child_id(parent.child_id(flow.name))
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # of this call
        before = task.cancelling()
        parent.began(self.clock.monotonic())
        try:
            plan, run_id, run, _ = await self._begin(flow, data, run_id, None, on_existing, parent=parent)
            if run is not None:
                run.parent, run.parent_id = parent.run, parent.run_id
                state = await run.drive()
                if run.status is not PARKED:
                    return run.result(state)
            return await self.required_keeper().settled(plan, run_id, parent)
        except asyncio.CancelledError:
            if (active := self.active.get(run_id)) is not None:
                status = RunStatus.INTERRUPTED if parent.run.interrupted() else RunStatus.CANCELLED
                active.stop(status, with_parent=True)
                await active.ended()
            elif self.keeper is not None:
                await self.keeper.end_child(run_id, parent.run)
            raise
        except RunCancelledError as error:
            if error.with_parent and task.cancelling() > before:
                raise asyncio.CancelledError from error  # as `asyncio.timeout` and others expect it
            raise
        # the task has not failed, the store has; or the child would only kill more processes
        except (TransientStoreError, StepKilledError) as error:
            raise StoreFailed(error) from error

    async def _child_id(self, run_id: str) -> str:
        """Return the id of a child: too long a one ends in a hash, unless an earlier version has stored the child."""
        short = derived_id(run_id)
        if short == run_id or (self.backend is not None and await self.backend.load(run_id) is not None):
            return run_id
        return short

    async def _begin(
        self,
        flow: Workflow[Any],
        data: Any,
        run_id: str | None,
        timeout: Duration,
        on_existing: str,
        keep: bool = True,
        origin: str | None = None,
        parent: Step | None = None,
    ) -> tuple[BoundWorkflow, str, Run | None, bool]:
        """Make a new run, or find the one with that id. `run`, `start` and `run_child` all begin here.

        Returns:
            The bound workflow; the run's id; the run, or None if it cannot be executed here now; and whether a store
            keeps it.
        """
        if not self._open:  # or it was closed, which `open` refuses
            await self.open()
        plan, keeper = self.bind(flow), self.keeper
        timeout = time_limit("timeout", timeout)
        if on_existing != "return":
            one_of("on_existing", on_existing, ("return", "same-data", "reject"))
        if origin is not None:
            text("origin", origin)
        if run_id is not None:
            self.limits.check("ids", "the run id", text("run_id", run_id) if parent is None else None)
        view = self._view_of(data, plan)
        if parent is not None:
            keep = parent.run.journal is not None and parent.run.journal.commits_steps
            keep = keep or parent.run.restored_values.get("child") == run_id
        if keeper is not None and keep and keeper.keeps(run_id):
            existing = None if run_id is None else "return" if data is None and on_existing != "reject" else on_existing
            run_id = run_id or self._new_id()
            beginning = keeper.begin(
                plan, view, run_id, timeout=timeout, parent=parent, on_existing=existing, origin=origin
            )
            try:
                run = await (beginning if timeout is None else with_timeout(beginning, self.clock, timeout))
            except TimeoutError:
                if timeout is None:
                    raise
                message = f"run {run_id} took longer than {timeout:g} s: its store did not answer"
                raise RunTimeoutError(message, timeout=timeout, run_id=run_id, workflow=plan.name) from None
            return plan, run_id, run, True
        if run_id is not None and keeper is None and keep and parent is None:
            self._resources.warn_unkept(run_id)
        active = None if run_id is None else self.active.get(run_id)
        if active is not None and (parent is None or active.parent_id != parent.run_id):
            message = f"run {run_id} is already running, and no store keeps both; use another run_id"
            raise ConflictError(message, run_id=run_id)
        run_id = run_id or self._new_id()
        return plan, run_id, Run(self, plan, run_id, view, timeout), False

    def _view_of(self, data: Any, plan: BoundWorkflow) -> Any:
        """Return the object that tasks get for the data that a run was started with."""
        if data is not None and data.__class__ is not dict and not isinstance(data, Mapping):
            return _managed(data)
        values = {}
        for key, value in (data or {}).items():
            check_key(name := unpack_key(key, None)[0])
            self.limits.check("names", "the key", name)
            values[name] = copied(name, value)
        return StoreView(values) if self.keeper is None else self.keeper.view(values, plan)

    def bind(self, flow: Workflow[Any]) -> BoundWorkflow:
        """Resolve everything that executing `flow` needs, once per workflow and kernel.

        Raises:
            ValidationError: the definition is wrong.
            ConfigurationError: no plugin answers a retry strategy's name, or a plugin that a task needs is missing.
        """
        if not isinstance(flow, Workflow):
            raise ConfigurationError(f"expected a Workflow, not {flow!r}")
        plan: BoundWorkflow | None = flow.bindings.get(self._ref)
        if plan is None:
            self.load()
            plan = BoundWorkflow(self, flow)
            for kind, name in (("workflow", plan.name), *(("state", name) for name in plan.by_name)):
                self.limits.check("names", f"the name of the {kind}", name)
            flow.bindings[ref(self, flow.bindings.pop)] = self.bound[flow.name] = plan
        return plan

    def codec_for(self, plan: BoundWorkflow | None) -> Codec | None:
        """Return the codec for data of a workflow's runs: it encodes only values of the types that the workflow names.

        For None, a workflow that is not known, these are Python's own types. It decodes what `codec` decodes. Returns
        None if the kernel has no codec.
        """
        return None if self.codec is None else restricted(self.codec, () if plan is None else plan.types())

    # stored runs

    async def resume(self, flow: Workflow[Any], run_id: str, *, timeout: Duration = None) -> RunResult:
        """Continue an interrupted or failed run from its last commit, and wait for its end.

        A run that failed by its timeout while it waited for a signal or a time waits again.

        A cancelled run does not continue. If the run failed because a child was cancelled by itself, it fails again:
        fork it before that step, so that the fork starts a child of its own.

        Args:
            flow: the workflow.
            run_id: the run's id.
            timeout: seconds, or a timedelta, from now on, in place of the run's own timeout. None keeps that: an ended
                run's timeout starts again.

        Raises:
            RunNotFoundError: there is no such run.
            ConflictError: it is already executed, by this process or another; nothing changes.
            ConfigurationError: it is a child that failed or was cancelled with its parent, which has ended.
            VersionMismatchError: it belongs to another definition, and `migrate` does not say how to continue.
            WorkflowError: it failed again.
        """
        keeper = await self._asked(run_id=run_id)
        return await keeper.resume(self.bind(flow), run_id, time_limit("timeout", timeout))

    async def recover(
        self, *flows: Workflow[Any], concurrency: int | None = None, queues: Iterable[str] | None = None
    ) -> list[RunHandle]:
        """Take over every run of `flows` that can continue and that no process executes. Then watch for more.

        These are runs whose process died or closed its kernel, and parked runs whose signal or time has come. A child
        that one of them is parked for is continued, too, without a handle. If a run cannot continue (a changed
        definition, a corrupt row), the error is logged, and the other runs continue. Of runs of other definitions, the
        first one of each difference is logged; they are left to programs that can continue them.

        Args:
            concurrency: maximum number of them that this kernel executes at once. It takes over the others when these
                end. None for no limit. A later call for the same workflow replaces it.
            queues: take over only the runs of these queues, and the children that these are parked for. Runs that were
                not submitted are in the queue "default". None for all.

        Returns:
            A handle for each run that was taken over at once.

        Raises:
            ConfigurationError: no workflow is given, or two of them have the same name.
        """
        whole_or_none("concurrency", concurrency, 1)
        names = None if queues is None else frozenset(Lane.checked(queue).queue for queue in listed("queues", queues))
        if names == frozenset():
            refuse("queues", queues, "at least one queue, or None for all")
        keeper = await self.opened_keeper()
        taken = await keeper.recover([self.bind(flow) for flow in flows], concurrency, names)
        return [RunHandle(self, run.plan, run) for run in taken]

    async def signal(
        self,
        run_id: str,
        name: str,
        payload: Any = None,
        *,
        id: str | None = None,
        wait: str | None = None,
        connection: Any = None,
    ) -> bool:
        """Send a signal to a run, which may already wait for it or not.

        Return False if the run has ended and neither `resume` nor its parent can continue it. Return False, too, if
        `wait` is over, or another signal has answered it.

        Args:
            run_id: the run.
            name: the signal's name, as in `wait_for(name, …)`.
            payload: becomes `current_step().payload` in the next state.
            id: the signal's id, by default a new one; a second signal with the same id is ignored.
            wait: the token of the only wait that the signal may end; None for the first wait for that name.
            connection: your connection, in whose open transaction the signal is stored, as for `submit`. What is
                returned is true as the transaction sees it.

        Raises:
            ConfigurationError: `wait` is not a token of this run, or its wait is for another signal; or the connection
                is not one to the store's database in which a transaction can be open.
            RunNotFoundError: there is no such run.
            SerializationError: the payload cannot be stored.
        """
        keeper = await self._asked(run_id=run_id, name=name, id=id, wait=wait)
        self.limits.check("names", "the signal's name", name, run_id)
        self.limits.check("ids", "the signal's id", id, run_id)
        return await keeper.signal(run_id, name, payload, id, wait, connection)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run in any process. Return False if it has already ended.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: its record is corrupt and no process executes it, so that only `delete` ends it.
        """
        return await (await self._asked(run_id=run_id)).cancel(run_id)

    def runs(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | str | None = None,
        parent: str | None = None,
        limit: int | None = None,
        after: RunRecord | str | None = None,
        state: str | None = None,
        error: str | None = None,
        created_after: datetime | float | None = None,
        created_before: datetime | float | None = None,
        updated_after: datetime | float | None = None,
        updated_before: datetime | float | None = None,
        attributes: Mapping[str, Any] | None = None,
        where: str | None = None,
        order: str = "-created",
    ) -> RunListing:
        """Return the matching runs: `await` it for a list, or iterate over it with `async for`.

        Args:
            workflow: name of the workflow; None for all, as in the other arguments.
            status: the status; INTERRUPTED for running runs that no process executes, QUEUED for those not begun.
            parent: id of the parent run.
            limit: maximum number of runs.
            after: a listed run, such as the last one of a page, for the next page, or the `cursor` of a `RunPage`. The
                run may be deleted by now.
            state: name of the state that is next, or of the exit state.
            error: name of the class of a failed run's error, or of its cause.
            created_after, created_before: aware datetimes, or seconds since the Unix epoch, between which it began.
            updated_after, updated_before: the same for its last commit: of a run that has ended, its end.
            attributes: search attributes by name: a value, a `Condition`, or a list of conditions.
            where: more conditions as text, such as `state = PAY and updated > 2h ago`. See `cano runs --help`.
            order: `-created` for the newest runs first, `created` for the oldest. Runs that have ended, whose `status`
                must be given, can also be sorted by their end: `-updated` or `updated`.

        Raises:
            FilterError: `after` is not a cursor of a list in this order; or `where` cannot be read, or the runs cannot
                be sorted so, which awaiting them raises.
            ConfigurationError: the store has no such order. Awaiting the runs raises it.
        """
        texts = {"workflow": workflow, "parent": parent, "state": state, "error": error, "where": where}
        for name, value in texts.items():
            optional(text)(name, value)
        times = {
            "created_after": created_after, "created_before": created_before,
            "updated_after": updated_after, "updated_before": updated_before,
        }  # fmt: skip
        seconds = {name: optional(instant)(name, value) for name, value in times.items()}
        whole_or_none("limit", limit, 0)
        if not isinstance(status, RunStatus | None):
            status = RunStatus(one_of("status", status, [known.value for known in RunStatus]))
        if not isinstance(after, RunRecord | str | None):
            refuse("after", after, "a listed run, the cursor of a page, or None")
        if not isinstance(attributes, Mapping | None):
            refuse("attributes", attributes, "a mapping of names to values or conditions, or None")
        order = one_of("order", order, ORDERS)
        filter = RunFilter(
            workflow, status, parent, limit, None, state, error=error, attributes=attributes, order=order, **seconds
        )
        if after is not None:
            place = filter.place_at(after) if isinstance(after, str) else filter.place_of(after)
            filter = filter._replace(after=place)
        return RunListing(self, filter, where)

    async def history(self, run_id: str, *, after: int | None = None, limit: int | None = None) -> list[Transition]:
        """Return the committed transitions of a run with the data that they changed, oldest first.

        A run that does not commit each step, in `memory://` or with `durability="exit"`, has one entry for several
        transitions: the seq of the last one, and all changes.

        Args:
            run_id: the run.
            after: the `seq` of the last transition of a page, for the next page; None begins with the creation.
            limit: maximum number of transitions; None for all.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: the store keeps no history.
        """
        whole_or_none("after", after, 0)
        whole_or_none("limit", limit, 0)
        return await (await self._asked(run_id=run_id)).history(run_id, after, limit)

    async def fork(
        self,
        run_id: str,
        seq: int,
        new_run_id: str,
        *,
        changes: Mapping[Any, Any] | None = None,
        removed: Iterable[AnyKey] = (),
    ) -> str:
        """Create a run with the state and data of `run_id` after transition `seq`; `resume` executes it.

        After a transition that parked the run, the fork waits, too, for a signal of its own. But if the run has not
        left that state, and its wait is over, the fork continues with the same payload. All timeouts start again.

        Args:
            run_id, seq: the run, and the number of one of its transitions.
            new_run_id: the fork's id.
            changes: values to set in the fork's data, by key: a string or a `Key`.
            removed: keys to remove from it.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: it has no such transition or no such key to remove, `new_run_id` is in use, or the store
                keeps no history.
            HistoryDiscardedError: the oldest entries of its history were discarded.
            TypeMismatchError: a value is not of the type of its `Key`, or of one with that name in the run's workflow,
                if that is bound to this kernel.
            SerializationError: a value cannot be stored.
        """
        keeper = await self._asked(run_id=run_id, new_run_id=new_run_id)
        self.limits.check("ids", "the run id", new_run_id)
        return await keeper.fork(run_id, whole("seq", seq), new_run_id, *_edits(changes, removed))

    async def resume_many(self, flow: Workflow[Any], where: str | RunFilter, **pace: Unpack[Pace]) -> BulkReport:
        """Resume all runs of `flow` that match, as `resume` does, and wait until this kernel executes none of them.

            await kernel.resume_many(flow, "status = failed and updated > 2h ago", rate=20)

        This and the other actions on many runs refuse a run that they cannot be applied to, and continue with the next.
        So a repeated call does what is left. Cancelling the call stops it between two runs.

        Args:
            flow: the workflow. Runs of others are refused.
            where: the runs: a text as for `runs`, or a RunFilter. `RunFilter()` means all.
            pace: `rate`, `dry_run` and `progress`, see `Pace`.

        Raises:
            FilterError: the text cannot be read.
            StoreUnavailableError: the store does not answer; the runs before that are done.
        """
        plan = self.bind(flow)
        return await (await self.opened_keeper()).act_on_many("resume", where, pace, plan)

    async def cancel_many(self, where: str | RunFilter, **pace: Unpack[Pace]) -> BulkReport:
        """Cancel all runs that match, as `cancel` does. See `resume_many`."""
        return await (await self.opened_keeper()).act_on_many("cancel", where, pace)

    async def signal_many(
        self, where: str | RunFilter, name: str, payload: Any = None, *, id: str | None = None, **pace: Unpack[Pace]
    ) -> BulkReport:
        """Send a signal to all runs that match, as `signal` does. See `resume_many`.

        With `id`, a repeated call sends it only to the runs that have not got it.
        """
        keeper = await self._asked(name=name, id=id)
        self.limits.check("names", "the signal's name", name)
        self.limits.check("ids", "the signal's id", id)
        return await keeper.act_on_many("signal", where, pace, name, payload, id)

    async def fork_many(
        self,
        where: str | RunFilter,
        suffix: str,
        *,
        changes: Mapping[Any, Any] | None = None,
        removed: Iterable[AnyKey] = (),
        seq: int | None = None,
        **pace: Unpack[Pace],
    ) -> BulkReport:
        """Fork all runs that match after transition `seq`, or with None after their last one. See `resume_many`.

        The id of each fork is that of its run, with `suffix` at the end. All get the same changes.
        """
        whole_or_none("seq", seq, 0)
        keeper = await self._asked(suffix=suffix)
        return await keeper.act_on_many("fork", where, pace, suffix, *_edits(changes, removed), seq)

    async def export_run(
        self, run_id: str, *, plain: bool = False, redact: bool | Iterable[str] = False
    ) -> AsyncIterator[bytes]:
        """Export a run: yield the parts of a file with its record, data, history and signals, for `import_run`.

            with open("run.cano", "wb") as file:
                async for part in kernel.export_run("order-17"):
                    file.write(part)

        The file of an encrypted store is encrypted, so that only a kernel with the store's keys can import it.

        Args:
            run_id: the run. It may be executed meanwhile; the file has one moment of it.
            plain: whether the file of an encrypted store is not encrypted.
            redact: whether "[redacted]" stands in the file for secrets, as logs hide them; or further names of keys
                and fields to hide. Such a file is not encrypted.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: the store keeps objects, or has a layer that may hide values and binds them to no place.
            ConflictError: the run was deleted meanwhile, or changes all the time.
            SerializationError: it is corrupt.
        """
        keeper = await self._asked(run_id=run_id)
        also = [] if isinstance(redact, bool) else [redact] if isinstance(redact, str) else list(redact)
        async for part in keeper.export_run(run_id, switch("plain", plain), also if redact is not False else None):
            yield part

    async def import_run(
        self, source: bytes | BinaryIO | Iterable[bytes] | AsyncIterable[bytes], new_run_id: str | None = None
    ) -> str:
        """Store the run that `export_run` has made a file of, and return its id. No workflow is needed for that.

        A run that has not ended is not executed, neither by `recover` nor by workers, since it may still be executed
        where it comes from: `resume` lets it continue here, and a fork of it is a run of its own. It has no parent. The
        times of waits and deadlines stay. A repeated import of the same file under the same id does nothing. The whole
        file is checked first, and a process that is killed leaves no part of the run.

        Args:
            source: the file, or its bytes in parts.
            new_run_id: the run's id here; None for the one that it had.

        Raises:
            RunFileError: the file is corrupt, cut off, forged, encrypted, or of a newer version.
            RunExistsError: another run has the id.
            ConfigurationError: the store keeps objects.
            ConflictError: another process is importing it.
        """
        keeper = await (self.opened_keeper() if new_run_id is None else self._asked(new_run_id=new_run_id))
        self.limits.check("ids", "the run id", new_run_id)
        return await keeper.import_run(source, new_run_id)

    async def get(self, run_id: str) -> RunView:
        """Return all that the store knows of a run, in whatever process it is executed. Nothing changes by it.

        Values are decoded as far as this process knows their classes: those of the workflows that are bound to this
        kernel, for example by `bind`, and Python's own.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: its record is corrupt.
        """
        return await (await self._asked(run_id=run_id)).get(run_id)

    async def attach(self, run_id: str) -> AttachedRun:
        """Return a handle to a stored run of any process. Neither this call nor the handle executes the run.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: its record is corrupt.
        """
        await self.get(run_id)
        return AttachedRun(self, run_id)

    async def explain(self, run_id: str) -> Explanation:
        """Explain why a run is not progressing: one reason out of a closed list. Raises RunNotFoundError."""
        return await (await self._asked(run_id=run_id)).explain(run_id)

    async def check(self) -> list[Finding]:
        """Find the problems in the store: corrupt rows, orphans, stale leases, and steps that kill processes."""
        return await (await self.opened_keeper()).check()

    async def compat(self, *flows: Workflow[Any], only_given: bool = False) -> CompatReport:
        """Find the unfinished runs in the store that a program with these workflows could not continue.

        These are the running, parked, interrupted, queued and delayed runs. Nothing is claimed or changed. Call this
        before a deployment, with the program that is to be deployed.

            report = await kernel.compat(flow)
            print(report.stranded, [group.differences for group in report.groups if group.problem])

        Args:
            flows: all workflows of the program. Those of their sub-workflows need not be named. Names that begin with
                `cano.` are those of plugins' own runs, which are left out.
            only_given: whether runs of other workflows are left out, since other programs execute them.

        Raises:
            ConfigurationError: no workflow is given, or two of them have the same name.
        """
        only_given = switch("only_given", only_given)
        keeper = await self.opened_keeper()
        return await keeper.compat([self.bind(flow) for flow in flows], only_given)

    async def delete(self, run_id: str) -> None:
        """Delete a finished run, or one that cannot be read, with its history and signals.

        Raises:
            RunNotFoundError: there is no such run.
            ConflictError: it has not ended; or its parent has not, or can be resumed, and may still need its result.
            ConfigurationError: the store cannot delete runs.
        """
        await (await self._asked(run_id=run_id)).delete(run_id)

    async def prune(
        self, retention: Retention, *, workflow: str | None = None, where: str | None = None, dry_run: bool = False
    ) -> list[str]:
        """Delete the finished runs that `retention` does not keep. Return their ids.

        A child is kept with a parent that can continue or be resumed, for example after a failure. A run whose record
        cannot be read, so that its age is not known, is kept unless `on_terminal` is "delete"; `check` names it.

        Args:
            retention: what to keep.
            workflow: the name of the only workflow whose runs are deleted; None for all.
            where: conditions as text, as for `runs`: only matching runs are deleted; None for all.
            dry_run: whether to delete nothing, and only return what would be deleted now.

        Raises:
            ConfigurationError: the store cannot delete runs, or `where` cannot be read.
        """
        if not isinstance(retention, Retention):
            refuse("retention", retention, "a Retention")
        optional(text)("where", where)
        return await (await self.opened_keeper()).prune(retention, workflow, where, dry_run)

    async def audit(self, run_id: str | None = None, *, limit: int | None = None) -> list[AuditEntry]:
        """Return who acted on a run from outside and when, oldest first. A deleted run keeps its entries.

        Args:
            run_id: the run, even if it does not exist; None for the whole store.
            limit: the most entries, the newest ones; None for all.

        Raises:
            ConfigurationError: the store keeps no audit.
        """
        keeper = await self.opened_keeper() if run_id is None else await self._asked(run_id=run_id)
        return await keeper.audit(run_id, whole_or_none("limit", limit, 0))

    async def prune_audit(self, max_age: Seconds) -> int:
        """Delete the entries of the store's audit that are older than `max_age`. Return how many.

        `prune` and `delete` leave all entries. This call adds one, which says how many it deleted.

        Args:
            max_age: seconds, or a timedelta.

        Raises:
            ConfigurationError: the store keeps no audit.
        """
        age = positive_seconds("max_age", max_age)
        return await (await self.opened_keeper()).prune_audit(age)

    # for the engine and plugins

    def audited(self, run_id: str | None, action: str, detail: str = "") -> tuple[AuditEntry, ...]:
        """Return the entry for an action of this kernel's actor, now, as arguments for a method of `AuditingStore`.

        For a store without an audit, there are none.
        """
        if self.backend is None or not self.backend.capabilities.audit:
            return ()
        if len(detail) > LONGEST:
            detail = detail[:LONGEST] + " …"
        return (AuditEntry(run_id, action, self.actor, self.clock.time(), detail),)

    def listeners(self, hook: str) -> tuple[Callable[[Any], None], ...]:
        """Return the implementations of a lifecycle hook, in calling order."""
        return self._plugins.listeners(hook)

    def observer_failed(self, listener: Callable[[Any], None], error: BaseException) -> None:
        """Count an observer's exception; log its first one."""
        self._plugins.observer_failed(listener, error)

    def limiter(self, limit: Limit) -> Limiter:
        """Return the slots of `limit` in this kernel."""
        with self._lock:  # only the bound workflows that use it keep it alive
            return self._limiters.setdefault(limit, Limiter(limit))

    def drive(self, run: Run) -> None:
        """Execute `run` in the background."""
        self.active[run.run_id] = run
        self.spawn(run.drive_quietly())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a background task, which closing the kernel awaits."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it; an interrupt has already left the loop

    def _new_id(self) -> str:
        # ids sort by time; one prefix per kernel is far cheaper than a UUID per run
        return self._prefix + str(next(self._ids))  # a format takes longer


def _edits(changes: Mapping[Any, Any] | None, removed: Iterable[AnyKey]) -> tuple[Mapping[Any, Any], list[AnyKey]]:
    """Return the arguments of a fork, if they are of the right kinds."""
    if not isinstance(changes, Mapping | None):
        refuse("changes", changes, "a mapping from keys to values, or None")
    if isinstance(removed, str | ReadKey) or not isinstance(removed, Iterable):
        refuse("removed", removed, "a list of keys")
    return changes or {}, list(removed)


def _no_connection(call: str) -> ConfigurationError:
    problem = "it executes the run at once, before your transaction is committed"
    remedy = "kernel.submit(flow, data, connection=…) stores it in the transaction, for a worker"
    return ConfigurationError(f"{call} takes no connection, since {problem}; {remedy}")


def _managed(store: Any) -> Any:
    """Return a view of `store` if it is a `ManagedStore`; any other object as it is."""
    if hasattr(store, "live") and hasattr(store, "apply"):
        return StoreView(store.live(), store.apply, owner=store)
    return store
