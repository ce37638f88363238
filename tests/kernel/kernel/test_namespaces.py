"""`Kernel(namespace=…)`: its names, and the stores and layers that have none."""

from __future__ import annotations

from typing import Any

import pytest
from cano import Capabilities, ConfigurationError, Kernel, RunFilter, StoreBackend, Workflow, hookimpl
from cano.options import place_name
from cano.testing import Faults, FaultyStore
from cano_memory import MemoryBackend

flow = Workflow("A", name="flow").add_exit_state("B")


@flow.on("A")
async def first(store: Any) -> str:
    """End the run."""
    return "B"


class Surviving(MemoryBackend):
    """A store whose parts outlive the kernels on them."""

    def scoped(self, namespace: str) -> MemoryBackend:
        """Return a part that is never closed."""
        with self._lock:
            return self._parts.setdefault(namespace, Surviving(strict=True))

    async def close(self) -> None:
        """Keep everything."""


def without_namespaces() -> StoreBackend:
    """A store that was written before there were namespaces."""

    class Earlier(MemoryBackend):
        scoped: Any = property()

    store = Earlier()
    store.capabilities = store.capabilities._replace(namespaces=False)
    return store


class Outside:
    """A layer that keeps values outside the store, in one place."""

    keeps_outside = True

    def wrap(self, data: bytes) -> bytes:
        """The bytes."""
        return data

    def unwrap(self, data: bytes) -> bytes:
        """The bytes."""
        return data


class WithPlaces(Outside):
    """A layer that has a place for each namespace."""

    def scoped(self, namespace: str) -> WithPlaces:
        """A layer for it."""
        made = WithPlaces()
        made.wrap = lambda data: namespace.encode() + data  # type: ignore[method-assign]
        return made


class Layer:
    """A plugin with one layer."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @hookimpl
    def cano_codec_layer(self, spec: str) -> Any:
        """The layer."""
        return self.layer if spec == "outside" else None


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\x1b[31m", "a\u202eb", "\ud800", "x" * 513, "é" * 257, 7, b"a"])
def test_odd_names_are_refused(name: Any) -> None:
    """A name that is empty, too long, or might be shown as another one is refused, with what is allowed."""
    with pytest.raises(ConfigurationError, match=r"namespace must be printable text of 1 to 512 bytes, or None .*not"):
        Kernel(namespace=name)


@pytest.mark.parametrize("name", ["a", "a b", "x" * 512, "é" * 256, "A/../B", "日本"])
async def test_names(name: str) -> None:
    """Any other text names a namespace, which messages show."""
    async with Kernel(namespace=name) as kernel:
        assert kernel.namespace == name
        assert kernel.store_name == f"'memory://' in the namespace {name!r}"
        assert (await kernel.run(flow, run_id="one")).state == "B"


def test_names_of_places() -> None:
    """A plain name stays; any other is a hash, which also the rest of the place may be part of."""
    plain = "acme-2_b", "x" * 40
    hashed = [place_name(name, parent) for name in ("A", "a b", "x" * 41, "~a", "a.db") for parent in ("", "p", "pA")]
    assert [place_name(name) for name in plain] == [*plain]
    assert len({*hashed, *plain, place_name("a", "p")}) == len(hashed) + 3
    assert place_name("b", "a") != place_name("", "ab")
    assert {len(name) for name in hashed} == {41}
    assert place_name("Acme") == "~df1832492ea3d5cf75e527b070a799b8c712eeaa"  # stored names never change


async def test_kernels_on_one_store() -> None:
    """Kernels with different namespaces share nothing; those with one name share runs, also when it is opened later."""
    store = Surviving(strict=True)
    for _ in range(2):
        for name in ("a", "b", None):
            async with Kernel(store=store, namespace=name) as kernel:
                result = await kernel.run(flow, {"mine": str(name)}, run_id="one")
                assert result.data == {"mine": str(name)}
                assert [run.run_id for run in await kernel.runs()] == ["one"]


async def test_a_store_without_namespaces_is_refused() -> None:
    """The error names the namespace, the store, and what to implement; nothing was stored."""
    for store in (without_namespaces(), FaultyStore(without_namespaces())):
        kernel = Kernel(store=store, namespace="acme")
        with pytest.raises(ConfigurationError, match=rf"'acme' cannot be .*{type(store).__name__} has no.*ScopedStore"):
            await kernel.open()
        await kernel.close()

    class Plugin:
        @hookimpl(tryfirst=True)
        def cano_open_store(self, url: str) -> StoreBackend:
            return without_namespaces()

    with pytest.raises(ConfigurationError, match=r"'acme' .*Earlier has no namespaces"):
        Kernel(plugins=[Plugin()], namespace="acme").store_at("sqlite:///x.db")


async def test_a_layer_without_namespaces_is_refused() -> None:
    """A layer that keeps values outside the store must have a place for each namespace."""
    url = "memory://?strict=1&codec=outside"
    with pytest.raises(ConfigurationError, match=r"'acme' .*: Outside keeps .*scoped\(namespace\)"):
        Kernel(plugins=[Layer(Outside())], namespace="acme").store_at(url)
    Kernel(plugins=[Layer(Outside())]).store_at(url)
    _, layers = Kernel(plugins=[Layer(WithPlaces())], namespace="acme").store_at(url)
    assert layers.wrap(b"1") == b"acme1"


async def test_faults_reach_namespaces() -> None:
    """A part of a store with faults has the same faults."""
    faults = Faults()
    async with Kernel(store=FaultyStore(MemoryBackend(strict=True), faults), namespace="a") as kernel:
        assert isinstance(kernel.backend, FaultyStore)
        fault = faults.at_call("runs").fail(ValueError("faulty"))
        with pytest.raises(ValueError, match="faulty"):
            await kernel.backend.runs(RunFilter())
        assert fault.met == 1
        assert kernel.backend.capabilities == Capabilities(
            **{**MemoryBackend(strict=True).capabilities._asdict(), "notify": False}
        )
