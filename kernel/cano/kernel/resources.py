"""The resources of a kernel: its plugins, and the codec, store and executor that they provide."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from cano.errors import ConfigurationError
from cano.plugins.codec_layers import LayeredCodec, Layers, shown, split_codec
from cano.plugins.loading import Plugins
from cano.protocols import Codec, Executor, StoreBackend

if TYPE_CHECKING:
    from cano.engine.ports import Host, RunKeeper

IN_MEMORY = "memory://"
LAYERS = "cano-zstd for zstd, cano-encryption for encrypt, cano-offload for limit and offload"


class Resources:
    """Loads the plugins, and opens and closes codec, store and executor. `Kernel` documents the arguments.

    Attributes:
        plugins: the plugins; `hook` is pluggy's hook relay.
    """

    def __init__(
        self,
        store: str | StoreBackend,
        executor: str | Executor | None,
        plugins: Iterable[Any],
        *,
        discover: bool,
        block: Iterable[str],
        strict: bool,
    ) -> None:
        for name, value, kind, what in (
            ("store", store, StoreBackend, "a URL such as 'memory://' or a StoreBackend"),
            ("executor", executor, Executor | None, "a URL, an Executor or None"),
        ):
            if not isinstance(value, str) and not isinstance(value, kind):
                raise ConfigurationError(f"{name} must be {what}, not {value!r}")
        self.plugins = Plugins(plugins, discover=discover, block=block, strict=strict)
        self.hook: Any = self.plugins.manager.hook
        self._opened: list[Any] = []
        self._store = store
        self._executor = executor

    @property
    def store_name(self) -> str:
        """The store's name in messages: its URL without secrets, or its repr."""
        return repr(shown(self._store) if isinstance(self._store, str) else self._store)

    async def open(self) -> tuple[Codec | None, StoreBackend | None, Executor | None]:
        """Open codec, store and executor, and return them; each may be None.

        Raises:
            ConfigurationError: no plugin opens the store or the executor.
            PluginError: a plugin is broken.
            StoreError: the store cannot be opened.
        """
        codec: Codec | None = self.hook.cano_codec()
        backend, layers = self.store_at(self._store) if isinstance(self._store, str) else (self._store, Layers())
        executor = self._answer("executor", self._executor, lambda url: self.hook.cano_open_executor(url=url))
        if backend is not None and backend.capabilities.encoded and codec is None:
            raise ConfigurationError(
                f"the store {self.store_name} keeps bytes, and no installed plugin has a codec; install cano-msgspec"
            )
        if layers and codec is not None:
            codec = LayeredCodec(codec, layers)
        try:
            for part in (backend, executor):
                if (opener := getattr(part, "open", None)) is not None:
                    await opener()
                self._opened.append(part)
        except BaseException:
            await self.close()
            raise
        return codec, backend, executor

    async def close(self) -> None:
        """Close store and executor, each even if the other raises."""
        async with AsyncExitStack() as stack:
            while self._opened:
                if (closer := getattr(self._opened.pop(0), "close", None)) is not None:
                    stack.push_async_callback(closer)

    def keeper(self, kernel: Host) -> RunKeeper | None:
        """Return a plugin's keeper of the runs in the kernel's store. With the default store, it may be None.

        Raises:
            ConfigurationError: the store is another one, and no plugin keeps runs in it.
        """
        keeper: RunKeeper | None = self.hook.cano_keep_runs(kernel=kernel)
        if keeper is None and self._store != IN_MEMORY:
            raise ConfigurationError(self.no_keeper())
        return keeper

    def no_keeper(self) -> str:
        """Return why no plugin keeps runs in the store, with the remedy."""
        if (problem := self.plugins.inactive("durability")) is None:
            return f"no plugin opens {self.store_name}; install cano-memory"
        return f"the plugin 'durability', which keeps runs in the store {self.store_name}, is {problem}"

    def store_at(self, url: str) -> tuple[StoreBackend | None, Layers]:
        """See `Kernel.store_at`."""
        self.plugins.load()
        address, specs = split_codec(url)
        layers = Layers(
            self._answer("codec layer", spec, lambda spec: self.hook.cano_codec_layer(spec=spec), LAYERS)
            for spec in specs
        )
        backend: StoreBackend | None = self._answer("store", address, lambda url: self.hook.cano_open_store(url=url))
        if layers and (backend is None or not backend.capabilities.encoded):
            raise ConfigurationError(f"{shown(url)!r} has codec=; this store keeps objects, not bytes; leave it out")
        return backend, layers

    def _answer(self, kind: str, given: Any, ask: Callable[[str], Any], known: str | None = None) -> Any:
        """Return the first answer of a plugin for a URL or a name. Objects are returned as they are.

        Raises:
            ConfigurationError: no plugin answers.
        """
        if not isinstance(given, str):
            return given
        answer = ask(given)
        if answer is None and given != IN_MEMORY:
            scheme = shown(given).partition(":")[0]
            failures = self.plugins.failures()
            stores = ", ".join(sorted(itertools.chain(*self.hook.cano_stores()))) if kind == "store" else ""
            raise ConfigurationError(
                f"no installed plugin opens the {kind} {shown(given)!r}; install "
                + (known or f"the one for {scheme!r} (such as cano-{scheme})")
                + (f"; installed are stores for: {stores}" if stores else "")
                + (f". Plugins that were not loaded: {failures}" if failures else "")
            )
        return answer


async def called(hook: Callable[[Any], Any], kernel: Host) -> None:
    """Call a hook that may be async, and await it. With wrappers around it, a hook returns a list."""
    answers = hook(kernel)
    for answer in answers if isinstance(answers, list) else [answers]:
        if inspect.isawaitable(answer):
            await answer
