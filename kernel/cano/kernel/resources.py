"""The resources of a kernel: its plugins, and the codec, store and executor that they provide."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from cano.checks import text
from cano.engine.calls import DEFAULT
from cano.errors import ConfigurationError
from cano.executors import Executor
from cano.lazy_backend import check_contract
from cano.plugins.advice import nearest
from cano.plugins.codec_layers import LayeredCodec, Layers, check_order, shown, split_codec
from cano.plugins.loading import Plugins
from cano.protocols import Codec, StoreBackend

if TYPE_CHECKING:
    from cano.engine.ports import Host, RunKeeper

IN_MEMORY = "memory://"
_NO_NAMESPACES = (
    "has no namespaces; name another store, or give each namespace one of its own. If the store is yours, implement "
    "cano.ScopedStore: scoped(namespace), and namespaces=True in its capabilities"
)
_OUTSIDE = "keeps values outside the store, and has no method scoped(namespace); leave it out of codec="
_log = logging.getLogger("cano")


class Resources:
    """Opens and closes codec, store and executors. `Kernel` documents the arguments.

    Attributes:
        plugins: the plugins; `hook` is pluggy's hook relay.
    """

    def __init__(
        self,
        plugins: Plugins,
        store: str | StoreBackend,
        executor: str | Executor | Mapping[str, str | Executor | None] | None,
        namespace: str | None,
    ) -> None:
        named = executor if isinstance(executor, Mapping) else {} if executor is None else {DEFAULT: executor}
        self._executors: dict[str, Any] = {}
        for name, given in named.items():
            self._executors[text("the name of an executor", name)] = given
        kinds = ("a URL, an Executor, a mapping to them or None", Executor | None)
        for name, value, what, kind in (
            ("store", store, "a URL such as 'memory://' or a StoreBackend", StoreBackend),
            *(("executor", one, *kinds) for one in named.values()),
        ):
            if not isinstance(value, str) and (not isinstance(value, kind) or isinstance(value, type)):
                hint = f"; write {nearest(name, str(value), ())!r}" if isinstance(value, os.PathLike) else ""
                raise ConfigurationError(f"{name} must be {what}, not {value!r}{hint}")
        self.plugins = plugins
        self.hook: Any = self.plugins.manager.hook
        self._opened: list[Any] = []
        self._warned = False
        self._store = store
        self._namespace = namespace

    @property
    def store_name(self) -> str:
        """The store's name in messages: its URL without secrets, or its repr; and the namespace."""
        name = repr(shown(self._store) if isinstance(self._store, str) else self._store)
        return name if self._namespace is None else f"{name} in the namespace {self._namespace!r}"

    def executors(self) -> Mapping[str, Executor | None]:
        """Return the executors by name. The first call makes them, since a workflow may be bound before they are open.

        Raises:
            ConfigurationError: no plugin opens an executor's URL.
            PluginError: a plugin is broken.
        """
        for name, given in self._executors.items():
            if isinstance(given, str):
                self._executors[name] = self.plugins.provided("executor", given)
        return self._executors

    async def open(self) -> tuple[Codec | None, StoreBackend | None]:
        """Open codec, store and executors. Return the codec and the store, which may be None.

        Raises:
            ConfigurationError: no plugin opens the store or an executor.
            PluginError: a plugin is broken.
            StoreError: the store cannot be opened.
        """
        codec: Codec | None = self.plugins.ask("cano_codec")
        given = self._store
        backend, layers = self.store_at(given) if isinstance(given, str) else (self._scoped(given), Layers())
        executors = self.executors()
        if backend is not None and backend.capabilities.encoded and codec is None:
            raise ConfigurationError(
                f"the store {self.store_name} keeps bytes, and no plugin has a codec: the plugin 'msgspec' is "
                f"{self.plugins.inactive('msgspec')}"
            )
        if self._store != IN_MEMORY and not self.hook.cano_keep_runs.get_hookimpls():
            raise ConfigurationError(self.no_keeper())  # now, since opening makes the store
        check_order(layers)
        if backend is not None:
            check_contract(backend, self.store_name)
        if layers and codec is not None:
            codec = LayeredCodec(codec, layers)
        try:
            for part in (backend, *executors.values()):
                if (opener := getattr(part, "open", None)) is not None:
                    await opener()
                self._opened.append(part)
        except BaseException:
            await self.close()
            raise
        return codec, backend

    async def close(self) -> None:
        """Close store and executors, each even if another raises."""
        async with AsyncExitStack() as stack:
            while self._opened:
                if (closer := getattr(self._opened.pop(0), "close", None)) is not None:
                    stack.push_async_callback(closer)

    def keeper(self, kernel: Host) -> RunKeeper | None:
        """Return a plugin's keeper of the runs in the kernel's store. With the default store, it may be None.

        Raises:
            ConfigurationError: the store is another one, and no plugin keeps runs in it.
        """
        keeper: RunKeeper | None = self.plugins.ask("cano_keep_runs", kernel=kernel)
        if keeper is None and self._store != IN_MEMORY:
            raise ConfigurationError(self.no_keeper())
        return keeper

    def no_keeper(self) -> str:
        """Return why no plugin keeps runs in the store, with the remedy."""
        if (problem := self.plugins.inactive("durability")) is None:
            return f"the plugin 'memory', which opens the store {IN_MEMORY!r}, is {self.plugins.inactive('memory')}"
        return f"the plugin 'durability', which keeps runs in the store {self.store_name}, is {problem}"

    def warn_unkept(self, run_id: str) -> None:
        """Log, once, that the `run_id` of a call has no effect, since no plugin keeps runs."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "run %r is not kept: the next call with its run_id executes it again; %s", run_id, self.no_keeper()
            )

    def store_at(self, url: str) -> tuple[StoreBackend | None, Layers]:
        """See `Kernel.store_at`."""
        self.plugins.load()
        address, specs = split_codec(url)
        layers = Layers(self.plugins.provided("codec layer", spec) for spec in specs)
        layers = Layers(
            self._scoped(each, _OUTSIDE) if getattr(each, "keeps_outside", False) else each for each in layers
        )
        backend: StoreBackend | None = self.plugins.provided("store", address)
        if layers and (backend is None or not backend.capabilities.encoded):
            raise ConfigurationError(f"{shown(url)!r} has codec=; this store keeps objects, not bytes; leave it out")
        layers = layers.split()
        if layers.bound is not None:
            names = [spec.partition(":")[0] for spec in specs]
            backend = self.plugins.ask("cano_seal_store", store=backend, layer=layers.bound, names=names)
            if backend is None:
                raise ConfigurationError(self.no_keeper())
        return None if backend is None else self._scoped(backend), layers

    def whole_store(self) -> StoreBackend | None:
        """See `Kernel.whole_store`."""
        if self._namespace is None or not isinstance(self._store, str):
            return None
        whole: StoreBackend | None = self.plugins.provided("store", split_codec(self._store)[0])
        return whole

    def _scoped(self, part: Any, reason: str = _NO_NAMESPACES) -> Any:
        """Return the namespace's part of a store, or of a layer that keeps values outside it.

        Raises:
            ConfigurationError: it has none, for this reason.
        """
        if self._namespace is None:
            return part
        if not hasattr(part, "scoped"):
            kind = type(part).__name__
            raise ConfigurationError(f"namespace={self._namespace!r} cannot be kept apart: {kind} {reason}")
        return part.scoped(self._namespace)


async def called(hook: Callable[[Any], Any], kernel: Host) -> None:
    """Call a hook that may be async, and await it. With wrappers around it, a hook returns a list."""
    answers = hook(kernel)
    for answer in answers if isinstance(answers, list) else [answers]:
        if inspect.isawaitable(answer):
            await answer
