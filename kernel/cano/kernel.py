"""The Kernel: loads plugins, binds workflows, drives runs."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from cano import inspection
from cano.binding import Plan
from cano.clock import SystemClock
from cano.config import TaskConfig, positive_seconds
from cano.durability import Durability
from cano.errors import ConfigurationError, ConflictError, PluginError, RunTimeoutError, StoreUnavailableError
from cano.handle import RunHandle
from cano.inspection import Explanation, Finding, Retention, RunListing, seen_at
from cano.limits import Limit, Limiter
from cano.plugins import PluginInfo, Plugins
from cano.protocols import Clock, Codec, Executor, RetryStrategy, RunFilter, RunStatus, StoreBackend, Transition
from cano.result import RunResult
from cano.run import Run
from cano.step import Step
from cano.store import Key
from cano.strand import UNMANAGED
from cano.teardown import within
from cano.threads import Threads
from cano.view import StoreView, isolate
from cano.workflow import Workflow

IN_MEMORY = "memory://"


class Kernel:
    """Runs workflows. An async context manager; used without `async with` it starts by itself.

    Args:
        store: URL of the store that keeps the runs, answered by a plugin; or a `StoreBackend`.
        executor: URL of an executor for the `exec` phase of nodes, or an `Executor`; None runs it right here.
        plugins: objects with hook implementations, or names of installed plugins.
        discover: whether to load every installed plugin.
        block: names of plugins never to import; the environment variable CANO_BLOCK adds to them.
        strict: whether a broken plugin is an error, rather than skipped with a warning.
        clock: where time comes from.
        lease: seconds for which a silent holder keeps a run: how soon others take over after a crash.
        poll: seconds between two looks into a durable store for what other processes did.
        grace: seconds that runs get to finish when the kernel closes, before they are interrupted.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        *,
        store: str | StoreBackend = IN_MEMORY,
        executor: str | Executor | None = None,
        plugins: Iterable[Any] = (),
        discover: bool = True,
        block: Iterable[str] = (),
        strict: bool = False,
        clock: Clock | None = None,
        lease: float = 30.0,
        poll: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        _one_of("store", store, "a URL such as 'memory://' or a StoreBackend", StoreBackend)
        if executor is not None:
            _one_of("executor", executor, "a URL, an Executor or None", Executor)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
            raise ConfigurationError(f"grace must be a number of seconds, 0 or more, not {grace!r}")
        positive_seconds("lease", lease)
        positive_seconds("poll", poll)
        self._lease, self._poll = lease, poll
        self.clock: Clock = SystemClock() if clock is None else clock
        self.threads = Threads(self.clock)
        self.active: dict[str, Run] = {}
        self.executor: Executor | None = None
        self.backend: StoreBackend | None = None
        self.codec: Codec | None = None
        self.durability: Durability | None = None
        self.grace = grace
        self._plugins = Plugins(plugins, discover=discover, block=block, strict=strict)
        self._store = store
        self._executor = executor
        self._limiters: WeakValueDictionary[Limit, Limiter] = WeakValueDictionary()
        self._ids = itertools.count(1)
        self._prefix = f"{int(time.time() * 1000):012x}{os.urandom(4).hex()}"
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._open = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._open else "not started"
        return f"<Kernel on {self._store!r}, {state}, {len(self.active)} active run(s)>"

    # starting and stopping

    async def __aenter__(self) -> Kernel:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def load(self) -> list[PluginInfo]:
        """Import the plugins, if that is still to be done, and tell which there are.

        Raises:
            PluginError: two plugins have one name, or, when strict, one is broken.
        """
        with self._lock:
            self._plugins.load()
        return self._plugins.infos

    @property
    def hook(self) -> Any:
        """pluggy's hook relay, for plugins that call hooks of their own."""
        return self._plugins.manager.hook

    @property
    def observer_errors(self) -> Mapping[str, int]:
        """How often each observer has raised."""
        return dict(self._plugins.observer_errors)

    async def open(self) -> None:
        """Load the plugins and open store and executor. Does nothing when that is done.

        Raises:
            ConfigurationError: no plugin answers the store's or the executor's URL.
            PluginError: a plugin is broken.
            StoreError: the store cannot be opened.
        """
        if self._closed:
            raise StoreUnavailableError("this kernel was closed; make a new one")
        if self._open:
            return
        if self._opening is None or self._opening.get_loop() is not asyncio.get_running_loop():
            self._opening = asyncio.get_running_loop().create_task(self._do_open())
        try:
            await asyncio.shield(self._opening)
        finally:
            if self._opening is not None and self._opening.done():
                self._opening = None

    async def _do_open(self) -> None:
        self.load()
        self.codec = self.hook.cano_codec()
        self.executor = self._answer("executor", self._executor, lambda url: self.hook.cano_open_executor(url=url))
        self.backend = self._answer("store", self._store, lambda url: self.hook.cano_open_store(url=url))
        if self.backend is not None and self.backend.capabilities.encoded and self.codec is None:
            raise ConfigurationError(
                f"the store {self._store!r} keeps bytes, and no installed plugin has a codec; install cano-msgspec"
            )
        opened = []
        try:
            for part in (self.backend, self.executor):
                if (opener := getattr(part, "open", None)) is not None:
                    await opener()
                    opened.append(part)
            if self.backend is not None:
                self.durability = Durability(self, self.backend, lease=self._lease, poll=self._poll)
            for awaitable in self.hook.cano_kernel_started(kernel=self):
                if inspect.isawaitable(awaitable):
                    await awaitable
        except BaseException:
            for part in opened:
                await _close(part)
            raise
        self._open = True

    def _answer(self, kind: str, given: Any, ask: Callable[[str], Any]) -> Any:
        if not isinstance(given, str):
            return given
        answer = ask(given)
        if answer is None and given != IN_MEMORY:
            scheme = given.split(":", 1)[0]
            failures = self._plugins.failures()
            raise ConfigurationError(
                f"no installed plugin opens the {kind} {given!r}; install the one for {scheme!r} "
                f"(such as cano-{scheme})" + (f". Plugins that were not loaded: {failures}" if failures else "")
            )
        return answer

    async def close(self, grace: float | None = None) -> None:
        """Let active runs finish, then interrupt those that have not, and free everything.

        Args:
            grace: seconds for runs to finish; by default the kernel's.
        """
        if self._closed:
            return
        self._closed = True
        await self._finish_runs(self.grace if grace is None else grace)
        if self.durability is not None:
            await self.durability.close()
        if self._open:
            self._open = False
            try:
                for awaitable in self.hook.cano_kernel_stopping(kernel=self):
                    if inspect.isawaitable(awaitable):
                        await awaitable
            finally:
                for part in (self.executor, self.backend):
                    await _close(part)
        self.threads.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._closed

    async def _finish_runs(self, grace: float) -> None:
        runs = [run for run in self.active.values() if not run.in_current_task()]
        ended = asyncio.ensure_future(_all_ended(runs))
        patience = asyncio.ensure_future(self.clock.sleep(grace))
        try:
            await asyncio.wait({ended, patience}, return_when=asyncio.FIRST_COMPLETED)
            for run in runs:
                run.stop(RunStatus.INTERRUPTED)
            await ended
        finally:
            ended.cancel()
            patience.cancel()
            await asyncio.gather(ended, patience, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks)

    # binding

    def bind(self, flow: Workflow[Any]) -> Plan:
        """Resolve everything that running `flow` needs; done once per workflow and kernel.

        Raises:
            ValidationError: the definition is wrong.
            ConfigurationError: no plugin answers a retry strategy's name.
        """
        try:
            plan: Plan | None = flow._plans.get(self)
        except AttributeError:
            raise ConfigurationError(f"expected a Workflow, not {flow!r}") from None
        if plan is None:
            self.load()
            plan = flow._plans[self] = Plan(self, flow)
        return plan

    def listeners(self, hook: str) -> tuple[Callable[[Any], None], ...]:
        """The implementations of a lifecycle hook, in calling order."""
        return self._plugins.listeners(hook)

    def observer_failed(self, listener: Callable[[Any], None], error: Exception) -> None:
        """Note that an observer raised."""
        self._plugins.observer_failed(listener, error)

    def default_config(self) -> TaskConfig:
        """The config of tasks that have none, in workflows that have no default."""
        config = self.hook.cano_default_config()
        return TaskConfig.minimal() if config is None else config

    def retry_strategy(self, spec: RetryStrategy | str | None) -> RetryStrategy | None:
        """The strategy that `spec` names. "none" is known without any plugin.

        Raises:
            ConfigurationError: no plugin answers the name.
        """
        if spec is None or not isinstance(spec, str):
            return spec
        strategy = self.hook.cano_retry_strategy(spec=spec)
        if strategy is None and spec != "none":
            raise ConfigurationError(
                f"no installed plugin has a retry strategy named {spec!r}; cano-retry has 'fixed' and 'exponential'"
            )
        if strategy is not None and not isinstance(strategy, RetryStrategy):
            raise PluginError(f"a plugin answered {strategy!r} as the retry strategy {spec!r}: it has no delay()")
        return strategy

    def limiter(self, limit: Limit) -> Limiter:
        """The places of `limit` in this kernel."""
        limiter = self._limiters.get(limit)  # kept by the plans that use it, and by nothing else
        if limiter is None:
            limiter = self._limiters[limit] = Limiter(limit)
        return limiter

    # running

    async def run(
        self, flow: Workflow[Any], data: Any = None, *, run_id: str | None = None, timeout: float | None = None
    ) -> RunResult:
        """Run `flow` to its end.

        Args:
            flow: the workflow.
            data: a mapping with the run's first data, which is copied; or an object that the tasks get as it is.
            run_id: the run's id; by default a new one.
            timeout: seconds for the whole run; None is no limit.

        Raises:
            ValidationError: the definition is wrong.
            WorkflowError: the run failed; the cause is what a task raised.
        """
        if not self._open:
            await self.open()
        plan, store = self._prepared(flow, data, run_id, timeout)
        if self._kept(run_id):
            return await self._run_kept(plan, store, run_id or self._new_id(), timeout)
        run = Run(self, plan, run_id or self._new_id(), store, timeout=timeout)
        state = await run.drive()
        if run.status is RunStatus.PARKED:
            return await self.store_of_runs.settled(plan, run.run_id)
        return run.result(state)

    async def _run_kept(self, plan: Plan, store: Any, run_id: str, timeout: float | None) -> RunResult:
        durability = self.store_of_runs
        run = await self._begin(plan, store, run_id, timeout)
        if run is not None:
            self.drive(run)
        try:
            return await durability.settled(plan, run_id)
        except asyncio.CancelledError:
            if run is not None:
                run.stop(RunStatus.INTERRUPTED)
                await run.ended()
            raise

    async def _begin(self, plan: Plan, store: Any, run_id: str, timeout: float | None) -> Run | None:
        beginning = self.store_of_runs.begin(plan, store, run_id, timeout=timeout)
        if timeout is None:
            return await beginning
        try:
            return await within(beginning, self.clock, timeout)
        except TimeoutError:
            message = f"run {run_id} took longer than {timeout:g} s: its store did not answer"
            raise RunTimeoutError(message, timeout=timeout, run_id=run_id, workflow=plan.name) from None

    async def start(
        self, flow: Workflow[Any], data: Any = None, *, run_id: str | None = None, timeout: float | None = None
    ) -> RunHandle:
        """Start `flow` in the background. Arguments and errors are those of `run`."""
        if not self._open:
            await self.open()
        plan, store = self._prepared(flow, data, run_id, timeout)
        kept, run_id = self._kept(run_id), run_id or self._new_id()
        run: Run | None = None
        if kept:
            run = await self._begin(plan, store, run_id, timeout)
            if run is None:
                return RunHandle(self, plan, self.active.get(run_id) or await self.store_of_runs.seen(plan, run_id))
        run = run or Run(self, plan, run_id, store, timeout=timeout)
        self.drive(run)
        return RunHandle(self, plan, run)

    async def orchestrate(self, flow: Workflow[Any], store: Any) -> Any:
        """Run `flow` on `store` itself, and return the exit state. See `Workflow.orchestrate`."""
        if not self._open:
            await self.open()
        plan = self.bind(flow)
        if store.__class__ is dict:
            store = StoreView(store)
        elif hasattr(store, "live") and hasattr(store, "apply"):
            store = StoreView(store.live(), store.apply)
        run = Run(self, plan, self._new_id(), store)
        try:
            state = await run.drive()
            if run.status is not RunStatus.PARKED:
                return state
            result = await self.store_of_runs.settled(plan, run.run_id)
            run.view.clear()
            for key, value in result.data.items():
                run.view.put(key, value)
            run.view.commit()
            return result.state
        finally:
            # a run and its step refer to each other: they would keep the store until the next garbage collection
            run.store = run.view = UNMANAGED

    async def run_child(self, flow: Workflow[Any], data: Mapping[str, Any], parent: Step) -> RunResult:
        """Run `flow` as a child of the step `parent`, in its task. What `SubWorkflow` does."""
        plan, store = self._prepared(flow, data, None, None)
        run_id = f"{parent.idempotency_key}/{flow.name}"
        journal = parent.run.journal
        if journal is None or not journal.eager:
            run: Run | None = Run(self, plan, run_id, store, parent_id=parent.run_id)
        else:
            run = await self.store_of_runs.begin(plan, store, run_id, parent_id=parent.run_id)
            if run is None and (parent.attempt > 1 or parent.run.resumed):
                run = await self.store_of_runs.take(plan, run_id, again=True)
        if run is not None:
            run.parent = parent.run
        state = None if run is None else await run.drive()
        if run is None or run.status is RunStatus.PARKED:
            return await self.store_of_runs.settled(plan, run_id)
        return run.result(state)

    def _prepared(self, flow: Workflow[Any], data: Any, run_id: str | None, timeout: float | None) -> tuple[Plan, Any]:
        plan = self.bind(flow)
        if timeout is not None:
            positive_seconds("timeout", timeout)
        if run_id is not None and (not isinstance(run_id, str) or not run_id):
            raise ConfigurationError(f"run_id must be a non-empty string, not {run_id!r}")
        return plan, self._view_of(data)

    def _view_of(self, data: Any) -> Any:
        """What tasks get for the data that a run was started with."""
        if data is None:
            data = {}
        if data.__class__ is dict or isinstance(data, Mapping):
            for key in data:
                if not isinstance(key, str | Key):
                    raise ConfigurationError(f"the keys of a run's data must be strings, not {key!r}")
            values = {str(key): isolate(value) for key, value in data.items()}
            return StoreView(values) if self.durability is None else self.durability.view(values)
        if hasattr(data, "live") and hasattr(data, "apply"):
            return StoreView(data.live(), data.apply)
        return data

    def _kept(self, run_id: str | None) -> bool:
        """Whether a run is kept in the store from its start: always in a durable one, else where it has a name."""
        durability = self.durability
        return durability is not None and (run_id is not None or durability.capabilities.durable)

    # runs that live in the store

    @property
    def store_of_runs(self) -> Durability:
        """The runs in the store. Raises ConfigurationError where there is no store."""
        if self.durability is None:
            raise ConfigurationError(f"this needs a store, and no plugin opens {self._store!r}; install cano-memory")
        return self.durability

    async def resume(self, flow: Workflow[Any], run_id: str) -> RunResult:
        """Let an interrupted or failed run go on from its last commit, and wait for its end.

        Raises:
            RunNotFoundError: there is no such run.
            ConflictError: somebody else is driving it; nothing is changed.
            VersionMismatchError: it belongs to another definition, and `migrate` does not say how to go on.
        """
        await self.open()
        plan, durability = self.bind(flow), self.store_of_runs
        run = await durability.take(plan, run_id, again=True)
        if run is not None:
            self.drive(run)
        elif run_id not in self.active:
            record = seen_at(await durability.load(run_id), durability.now())
            if record.status is RunStatus.RUNNING:
                raise ConflictError(f"run {run_id} is being driven by {record.holder}", run_id=run_id)
        else:
            raise ConflictError(f"run {run_id} is being driven by this kernel", run_id=run_id)
        return await durability.settled(plan, run_id)

    async def recover(self, *flows: Workflow[Any]) -> list[RunHandle]:
        """Take over every run of `flows` that can go on and that nobody drives; from now on watch for more.

        That is: runs whose process died, or was closed; parked runs whose signal or time has come. A run that
        cannot go on (a changed definition, a damaged row) is logged and left; the others go on.
        """
        await self.open()
        taken = await self.store_of_runs.recover([self.bind(flow) for flow in flows])
        return [RunHandle(self, run.plan, run) for run in taken]

    async def signal(self, run_id: str, name: str, payload: Any = None, *, id: str | None = None) -> bool:
        """Send a signal to a run that waits for it, or will. False where the run has ended already.

        Args:
            run_id: the run.
            name: the signal's name, as in `wait_for(name, …)`.
            payload: what the state that follows finds in `current_step().payload`.
            id: a signal sent twice under one id counts once.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: the payload cannot be kept.
        """
        await self.open()
        return await self.store_of_runs.signal(run_id, name, payload, id)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run, wherever it is driven. False where it has ended already. Raises RunNotFoundError."""
        await self.open()
        return await self.store_of_runs.cancel(run_id)

    def runs(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | str | None = None,
        parent: str | None = None,
        limit: int | None = None,
    ) -> RunListing:
        """The runs that match, newest first: `await` it for a list, or go through it with `async for`."""
        wanted = None if status is None else RunStatus(status)
        filter = RunFilter(workflow=workflow, status=wanted, parent=parent, limit=limit)
        return RunListing(self, filter)

    async def history(self, run_id: str) -> list[Transition]:
        """Every transition of a run with what it changed, oldest first. Raises RunNotFoundError."""
        await self.open()
        return await inspection.history(self.store_of_runs, run_id)

    async def fork(self, run_id: str, seq: int, new_run_id: str) -> str:
        """Make a run that stands where `run_id` stood after transition `seq`; `resume` lets it go on.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: it has no such transition, or `new_run_id` is taken.
        """
        await self.open()
        return await inspection.fork(self.store_of_runs, run_id, seq, new_run_id)

    async def explain(self, run_id: str) -> Explanation:
        """Why a run does not move: one reason out of a closed list. Raises RunNotFoundError."""
        await self.open()
        return await inspection.explain(self.store_of_runs, run_id, run_id in self.active)

    async def check(self) -> list[Finding]:
        """What is wrong in the store: corrupt rows, orphans, stale leases."""
        await self.open()
        return await inspection.check(self.store_of_runs)

    async def prune(self, retention: Retention) -> list[str]:
        """Forget the finished runs that `retention` does not keep; returns their ids."""
        await self.open()
        return await inspection.prune(self.store_of_runs, retention)

    # owning

    def drive(self, run: Run) -> None:
        """Drive `run` in the background."""
        self.active[run.run_id] = run
        self.spawn(run.drive_quietly())

    def left(self, run: Run) -> None:
        """A run that is kept in the store was left: it has ended, or is parked."""
        if self.durability is not None:
            self.durability.left(run)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do `work` in the background; closing the kernel awaits it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # an interrupt has gone through the event loop already: it is nobody's to retrieve

    def _new_id(self) -> str:
        # ids sort by time; one prefix per kernel is far cheaper than a UUID per run
        return f"{self._prefix}-{next(self._ids):06x}"


def _one_of(name: str, value: Any, what: str, protocol: type) -> None:
    if not isinstance(value, str | protocol):
        raise ConfigurationError(f"{name} must be {what}, not {value!r}")


async def _all_ended(runs: Iterable[Run]) -> None:
    for run in runs:
        await run.ended()


async def _close(part: Any) -> None:
    if (closer := getattr(part, "close", None)) is not None:
        await closer()


_default: Kernel | None = None
_default_lock = threading.Lock()


def default_kernel() -> Kernel:
    """The kernel that `Workflow.orchestrate` uses: in memory, with every installed plugin."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Kernel()
        return _default
