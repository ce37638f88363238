"""`LazyBackend`: it keeps the store contract if the backend that it makes does; opening and closing happen once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    LazyBackend,
    NotifyingStore,
    RunRecord,
    Signal,
    StoreBackend,
    StoreUnavailableError,
)
from cano.testing import StoreBackendContract
from cano_memory import MemoryBackend

RUN = RunRecord("run", "flow", "1", "f1", "S0")


class Slow(MemoryBackend):
    """Opens when it is told to, if it does not fail."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.go = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self.closings = 0

    async def open(self) -> None:
        """Wait, then open or fail."""
        self.opening.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        await super().open()

    async def close(self) -> None:
        """Count."""
        self.closings += 1
        await super().close()


class Lazy(LazyBackend[MemoryBackend]):
    """A lazy store in memory.

    Attributes:
        made, making: the backends that it made.
        threads: the threads in which it loaded.
    """

    def __init__(self, kind: type[MemoryBackend] = MemoryBackend) -> None:
        super().__init__(
            "in memory",
            MemoryBackend().capabilities._replace(
                prune=False,
                claims=False,
                history_pages=False,
                namespaces=False,
                signal_limit=False,
                attributes=False,
                streams=False,
                queues=False,
                slots=False,
            ),
        )
        self._kind = kind
        self.made: list[MemoryBackend] = []
        self.making: asyncio.Queue[MemoryBackend] = asyncio.Queue()
        self.threads: list[threading.Thread] = []

    def _load(self) -> Callable[[], MemoryBackend]:
        self.threads.append(threading.current_thread())
        return self._new

    def _new(self) -> MemoryBackend:
        made = self._kind()
        self.made.append(made)
        self.making.put_nowait(made)
        return made


class TestLazy(StoreBackendContract):
    """The whole contract: every call reaches the backend that does the work."""

    def make_url(self, tmp_path: Path) -> str:
        """It has no URL."""
        return "none"

    def open_backend(self, url: str) -> StoreBackend:
        """A new store."""
        return Lazy()


async def slow() -> tuple[Lazy, Slow, asyncio.Task[None]]:
    """A store that is being opened."""
    store = Lazy(Slow)
    opening = asyncio.create_task(store.open())
    made = await store.making.get()
    assert isinstance(made, Slow)
    await made.opening.wait()
    return store, made, opening


def test_a_lazy_store_does_not_notify() -> None:
    """It has the required methods of a store; a subclass adds the optional ones."""
    assert isinstance(Lazy(), StoreBackend)
    assert not isinstance(Lazy(), NotifyingStore)
    with pytest.raises(TypeError, match="_load"):
        LazyBackend("name", MemoryBackend().capabilities)  # type: ignore[abstract]


async def test_the_driver_is_loaded_in_a_thread() -> None:
    """Nothing is loaded before the store is opened; then a worker thread does it."""
    store = Lazy()
    assert (store.made, store.threads) == ([], [])
    await store.open()
    await store.open()

    assert len(store.made) == 1
    assert threading.main_thread() not in store.threads
    await store.close()


async def test_two_who_open_at_once_share_one_backend() -> None:
    """The second waits for the first."""
    store, made, first = await slow()
    second = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    made.go.set()
    await asyncio.gather(first, second)

    assert await store.create(RUN) == RUN
    assert store.made == [made]


async def test_opening_may_be_tried_again() -> None:
    """If opening fails or is cancelled the store is not open, and the next `open` makes another backend."""
    store, made, opening = await slow()
    made.error = StoreUnavailableError("no server")
    made.go.set()
    with pytest.raises(StoreUnavailableError, match="no server"):
        await opening
    with pytest.raises(StoreUnavailableError, match="the store in memory is not open; await its open"):
        await store.load("run")

    store, made, opening = await slow()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    again = asyncio.create_task(store.open())
    other = await store.making.get()
    assert isinstance(other, Slow)
    other.go.set()
    await again
    assert await store.load("run") is None


async def test_closing_waits_for_opening() -> None:
    """A store that is closed while it opens is closed when it is open; no call comes in between."""
    store, made, opening = await slow()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="the store in memory was closed"):
        await store.load("run")
    made.go.set()
    await asyncio.gather(opening, closing)

    assert made.closings == 1


async def test_a_closed_store_stays_closed() -> None:
    """Opened before or not, it is not opened again, and loads nothing."""
    store = Lazy()
    await store.close()
    with pytest.raises(StoreUnavailableError, match="the store in memory was closed; make a new backend"):
        await store.open()

    assert store.threads == []


async def test_it_says_in_what_state_it_is() -> None:
    """Its repr names it, as errors do."""
    store = Lazy()
    said = [repr(store)]
    await store.open()
    said.append(repr(store))
    await store.close()
    said.append(repr(store))

    assert said == [f"<Lazy in memory, {state}>" for state in ("not open", "open", "closed")]


class Earlier(MemoryBackend):
    """A store that was written before stores kept the engine's own values and signals apart."""

    async def next_signal(self, run_id: str, name: str) -> Signal | None:  # type: ignore[override]
        """It knows users' signals only."""
        return await super().next_signal(run_id, name)


async def test_a_store_for_an_earlier_contract_is_refused() -> None:
    """It would drop the engine's own values in silence. The error says what its author has to do; nothing is opened."""
    earlier = Lazy(Earlier)
    with pytest.raises(ConfigurationError, match=r"the store in memory .*Earlier was written for an earlier contract"):
        await earlier.open()
    with pytest.raises(ConfigurationError, match=r"take next_signal\(run_id, name, own\)"):
        await Kernel(store=Earlier()).open()  # type: ignore[arg-type]
