"""The Kernel: loads plugins, binds workflows, drives runs."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from cano.binding import Plan
from cano.clock import SystemClock
from cano.config import TaskConfig, positive_seconds
from cano.errors import ConfigurationError, PluginError, StoreUnavailableError
from cano.handle import RunHandle
from cano.limits import Limit, Limiter
from cano.plugins import PluginInfo, Plugins
from cano.protocols import Clock, Codec, Executor, RetryStrategy, RunStatus, StoreBackend
from cano.result import RunResult
from cano.run import Run
from cano.step import Step
from cano.store import Key
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
        grace: float = 10.0,
    ) -> None:
        _one_of("store", store, "a URL such as 'memory://' or a StoreBackend", StoreBackend)
        if executor is not None:
            _one_of("executor", executor, "a URL, an Executor or None", Executor)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
            raise ConfigurationError(f"grace must be a number of seconds, 0 or more, not {grace!r}")
        self.clock: Clock = SystemClock() if clock is None else clock
        self.threads = Threads(self.clock)
        self.active: dict[str, Run] = {}
        self.executor: Executor | None = None
        self.backend: StoreBackend | None = None
        self.codec: Codec | None = None
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
        opened = []
        try:
            for part in (self.backend, self.executor):
                if (opener := getattr(part, "open", None)) is not None:
                    await opener()
                    opened.append(part)
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
        run = self._new(flow, data, run_id, timeout)
        state = await run.drive()
        return run.result(state)

    async def start(
        self, flow: Workflow[Any], data: Any = None, *, run_id: str | None = None, timeout: float | None = None
    ) -> RunHandle:
        """Start `flow` in the background. Arguments and errors are those of `run`."""
        if not self._open:
            await self.open()
        run = self._new(flow, data, run_id, timeout)
        return RunHandle(run, self._spawn(run))

    async def orchestrate(self, flow: Workflow[Any], store: Any) -> Any:
        """Run `flow` on `store` itself, and return the exit state. See `Workflow.orchestrate`."""
        if not self._open:
            await self.open()
        plan = self.bind(flow)
        if store.__class__ is dict:
            store = StoreView(store)
        elif hasattr(store, "live") and hasattr(store, "apply"):
            store = StoreView(store.live(), store.apply)
        return await Run(self, plan, self._new_id(), store).drive()

    async def run_child(self, flow: Workflow[Any], data: Mapping[str, Any], parent: Step) -> RunResult:
        """Run `flow` as a child of the step `parent`, in its task. What `SubWorkflow` does."""
        run = self._new(flow, data, f"{parent.idempotency_key}/{flow.name}", None)
        run.parent_id = parent.run_id
        return run.result(await run.drive())

    def _new(self, flow: Workflow[Any], data: Any, run_id: str | None, timeout: float | None) -> Run:
        plan = self.bind(flow)
        if timeout is not None:
            positive_seconds("timeout", timeout)
        if run_id is None:
            run_id = self._new_id()
        elif not isinstance(run_id, str) or not run_id:
            raise ConfigurationError(f"run_id must be a non-empty string, not {run_id!r}")
        return Run(self, plan, run_id, _store_of(data), timeout=timeout)

    def _new_id(self) -> str:
        # ids sort by time; one prefix per kernel is far cheaper than a UUID per run
        return f"{self._prefix}-{next(self._ids):06x}"

    def _spawn(self, run: Run) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(run.drive_quietly(), name=f"cano run {run.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _store_of(data: Any) -> Any:
    """What tasks get for the data that a run was started with."""
    if data is None:
        return StoreView({})
    if data.__class__ is dict or isinstance(data, Mapping):
        for key in data:
            if not isinstance(key, str | Key):
                raise ConfigurationError(f"the keys of a run's data must be strings, not {key!r}")
        return StoreView({str(key): isolate(value) for key, value in data.items()})
    if hasattr(data, "live") and hasattr(data, "apply"):
        return StoreView(data.live(), data.apply)
    return data


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
