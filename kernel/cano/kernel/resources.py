"""What a kernel is made of: plugins, store, executor, clock, worker threads; how it is opened and closed."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import WeakValueDictionary

from cano.engine.binding import Plan
from cano.engine.clock import SystemClock
from cano.engine.limiter import Limiter
from cano.engine.run import Run
from cano.engine.teardown import finish
from cano.engine.threads import Threads
from cano.errors import ConfigurationError, StoreUnavailableError
from cano.model.config import positive_seconds
from cano.model.limits import Limit
from cano.model.workflow import Workflow
from cano.plugins.codec_layers import LayeredCodec, Layers, shown, split_codec
from cano.plugins.loading import PluginInfo, Plugins
from cano.protocols import Clock, Codec, Executor, StoreBackend

if TYPE_CHECKING:
    from cano.durability.keeper import Durability
    from cano.kernel.kernel import Kernel

IN_MEMORY = "memory://"
LAYERS = "cano-zstd for zstd, cano-encryption for encrypt, cano-offload for limit and offload"


class Host:
    """The parts of a kernel. Users make a `Kernel`; its docstring explains the arguments."""

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
        if clock is not None and not isinstance(clock, Clock):
            raise ConfigurationError(f"clock must be a Clock, such as cano.testing.VirtualClock(), not {clock!r}")
        for name, seconds in (("lease", lease), ("poll", poll)):
            if seconds is None:
                raise ConfigurationError(f"{name} must be a positive number of seconds, not None")
            positive_seconds(name, seconds)
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
        self._closing: asyncio.Task[None] | None = None
        self._open = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._open else "not started"
        return f"<Kernel on {self.store_name}, {state}, {len(self.active)} active run(s)>"

    @property
    def store_name(self) -> str:
        """What messages call the store: its URL, without what may be secret there, or its repr."""
        store = self._store
        return repr(shown(store) if isinstance(store, str) else store)

    # starting and stopping

    async def __aenter__(self) -> Self:
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
        from cano.durability.keeper import Durability  # late: a program that only imports cano need not pay for it

        self.load()
        self.codec = self.hook.cano_codec()
        self.backend, layers = self.store_at(self._store) if isinstance(self._store, str) else (self._store, Layers())
        self.executor = self._answer("executor", self._executor, lambda url: self.hook.cano_open_executor(url=url))
        if self.backend is not None and self.backend.capabilities.encoded and self.codec is None:
            raise ConfigurationError(
                f"the store {self.store_name} keeps bytes, and no installed plugin has a codec; install cano-msgspec"
            )
        if layers and self.codec is not None:
            self.codec = LayeredCodec(self.codec, layers)
        opened = []
        try:
            for part in (self.backend, self.executor):
                if (opener := getattr(part, "open", None)) is not None:
                    await opener()
                    opened.append(part)
            if self.backend is not None:
                self.durability = Durability(cast("Kernel", self), self.backend, lease=self._lease, poll=self._poll)
            for started in self.listeners("cano_kernel_started"):
                await _called(started, self)
        except BaseException:
            for part in opened:
                await _close(part)
            raise
        self._open = True

    def store_at(self, url: str) -> tuple[StoreBackend | None, Layers]:
        """The store at `url`, not yet opened, and the layers around its codec, which wrap and unwrap what it keeps.

        With these, runs can be copied from store to store without decoding a value. The store is None where `url` is
        memory:// and no plugin opens it.

        Args:
            url: as in `store=`.

        Raises:
            ConfigurationError: no plugin opens the URL or has a layer that it names; or the store keeps no bytes.
        """
        self.load()
        place, specs = split_codec(url)
        layers = Layers(
            self._answer("codec layer", spec, lambda spec: self.hook.cano_codec_layer(spec=spec), LAYERS)
            for spec in specs
        )
        backend: StoreBackend | None = self._answer("store", place, lambda url: self.hook.cano_open_store(url=url))
        if layers and (backend is None or not backend.capabilities.encoded):
            raise ConfigurationError(f"{shown(url)!r} has codec=; this store keeps objects, not bytes: leave it out")
        return backend, layers

    def _answer(self, kind: str, given: Any, ask: Callable[[str], Any], known: str | None = None) -> Any:
        if not isinstance(given, str):
            return given
        answer = ask(given)
        if answer is None and given != IN_MEMORY:
            scheme = shown(given).partition(":")[0]
            failures = self._plugins.failures()
            stores = ", ".join(sorted(itertools.chain(*self.hook.cano_stores()))) if kind == "store" else ""
            raise ConfigurationError(
                f"no installed plugin opens the {kind} {shown(given)!r}; install "
                + (known or f"the one for {scheme!r} (such as cano-{scheme})")
                + (f"; installed are stores for: {stores}" if stores else "")
                + (f". Plugins that were not loaded: {failures}" if failures else "")
            )
        return answer

    async def close(self, grace: float | None = None) -> None:
        """Let active runs finish, then interrupt those that have not, and free everything.

        Cancelling this does not stop the closing; closing again waits for it.

        Args:
            grace: seconds for runs to finish; by default the kernel's.
        """
        if self._closing is None or self._closing.get_loop() is not asyncio.get_running_loop():
            if self._closed:
                return
            opened, self._closed, self._open = self._open, True, False
            work = self._do_close(opened, self.grace if grace is None else grace, asyncio.current_task())
            self._closing = asyncio.get_running_loop().create_task(work)
        await asyncio.shield(self._closing)

    async def _do_close(self, opened: bool, grace: float, caller: asyncio.Task[Any] | None) -> None:
        # a run that closes its own kernel goes on, and is not waited for
        runs = [run for run in self.active.values() if not run.driven_by(caller)]
        await finish(runs, [task for task in self._tasks if task is not caller], grace, self.clock)
        if self.durability is not None:
            await self.durability.close()
        if opened:
            async with AsyncExitStack() as stack:  # each is called, whatever the others raise
                for part in (self.backend, self.executor):
                    stack.push_async_callback(_close, part)
                for stopping in reversed(self.listeners("cano_kernel_stopping")):
                    stack.push_async_callback(_called, stopping, self)
        self.threads.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._closed

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
            plan = flow._plans[self] = Plan(cast("Kernel", self), flow)
        return plan

    def listeners(self, hook: str) -> tuple[Callable[[Any], None], ...]:
        """The implementations of a lifecycle hook, in calling order."""
        return self._plugins.listeners(hook)

    def observer_failed(self, listener: Callable[[Any], None], error: Exception) -> None:
        """Note that an observer raised."""
        self._plugins.observer_failed(listener, error)

    def limiter(self, limit: Limit) -> Limiter:
        """The places of `limit` in this kernel."""
        limiter = self._limiters.get(limit)  # kept by the plans that use it, and by nothing else
        if limiter is None:
            limiter = self._limiters[limit] = Limiter(limit)
        return limiter

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

    @property
    def store_of_runs(self) -> Durability:
        """The runs in the store. Raises ConfigurationError where there is no store."""
        if self.durability is None:
            raise ConfigurationError(f"this needs a store, and no plugin opens {self.store_name}; install cano-memory")
        return self.durability


def _one_of(name: str, value: Any, what: str, protocol: type) -> None:
    if not isinstance(value, str | protocol):
        raise ConfigurationError(f"{name} must be {what}, not {value!r}")


async def _called(hook: Callable[[Any], Any], kernel: Host) -> None:
    """Call a hook that may be async; one with wrappers around it gives a list."""
    answers = hook(kernel)
    for answer in answers if isinstance(answers, list) else [answers]:
        if inspect.isawaitable(answer):
            await answer


async def _close(part: Any) -> None:
    if (closer := getattr(part, "close", None)) is not None:
        await closer()
