"""What these tests share: one store, any number of kernels on it, and virtual time that the test moves."""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, RunRecord, StoreBackend
from cano.testing import Faults, FaultyStore, VirtualClock
from cano_durability.keeper import Keeper
from cano_memory import MemoryBackend
from cano_sqlite import SqliteBackend

LEASE = 30.0
POLL = 1.0

(_CODEC,) = entry_points(group="cano", name="msgspec")
CODEC = _CODEC.load()  # once: to look for it takes longer than most of these tests


RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # no disk need be waited for: crashes are tested elsewhere


class Surviving(MemoryBackend):
    """A store in memory that outlives the kernels on it."""

    async def close(self) -> None:
        """Keep everything."""


class World:
    """One store, and the kernels on it, which come and go like processes.

    Attributes:
        clock: the time of all of them. It moves only when a test says so.
        path: the store's file, where it is one.
        kernels: those that were made.
    """

    def __init__(self, path: Path | None) -> None:
        self.clock = VirtualClock(auto=False)
        self.kernels: list[Kernel] = []
        self.path = path
        self._memory = Surviving(strict=True)

    def backend(self) -> StoreBackend:
        """The store as a process of its own would open it."""
        if self.path is None:
            return self._memory
        return SqliteBackend(self.path, synchronous="normal", strict=True)

    async def kernel(self, **options: Any) -> Kernel:
        """A new kernel on the store. Whatever is still running at the end of the test is interrupted."""
        kind = options.pop("kind", FaultyStore)
        store = kind(self.backend(), Faults(self.clock))
        plugins = [CODEC, *options.pop("plugins", ())]
        given = {"lease": LEASE, "poll": POLL, "grace": 0, **options}
        kernel = Kernel(store=store, discover=False, plugins=plugins, clock=self.clock, **given)
        await kernel.open()
        assert isinstance(kernel.keeper, Keeper)
        # each is on a machine of its own, where no other can see whether its process is alive
        kernel.keeper.stored.holder = f"host{len(self.kernels)}:1@:{uuid.uuid4().hex}"
        self.kernels.append(kernel)
        return kernel

    async def crash(self, kernel: Kernel) -> None:
        """Let a kernel die on the spot: nothing that it does from now on reaches the store."""
        self.store(kernel).crash()
        await self.close(kernel)

    async def close(self, kernel: Kernel) -> None:
        """Close a kernel; where something hangs, let time pass until it gives that up."""
        closing = asyncio.ensure_future(kernel.close())
        await self.settle()
        while not closing.done():
            await self.clock.advance(1)
        await closing

    async def lapse(self) -> None:
        """Let the leases of the dead lapse."""
        await self.clock.advance(LEASE + 1)

    async def settle(self) -> None:
        """Let all happen that happens without time passing."""
        await self.clock.advance(0)

    def store(self, kernel: Kernel) -> FaultyStore:
        """The store of a kernel."""
        store = kernel.backend
        assert isinstance(store, FaultyStore)
        return store

    def faults(self, kernel: Kernel) -> Faults:
        """What can go wrong in it."""
        return self.store(kernel).faults

    async def look(self, run_id: str) -> RunRecord:
        """The run as the store has it."""
        record = await self.find(run_id)
        assert record is not None
        return record

    async def find(self, run_id: str) -> RunRecord | None:
        """The same, or None where there is no such run."""
        kernel = next((kernel for kernel in self.kernels if not kernel.closed), None) or await self.kernel()
        with self.faults(kernel).holding():
            return await self.store(kernel).backend.load(run_id)


@pytest.fixture
def quick_switching() -> Iterator[None]:
    """Let the store's threads have their turn at once, though the virtual clock spins while it waits for them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, quick_switching: None) -> AsyncIterator[World]:
    """A durable store without runs. After the test nothing may be left: no task, no timer, no unseen error."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    before = asyncio.all_tasks()
    with tempfile.TemporaryDirectory(dir=RAM or tmp_path) as folder:
        world = World(Path(folder) / "runs.db" if request.param == "sqlite" else None)
        yield world
        for kernel in world.kernels:
            await world.close(kernel)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert world.clock._next_due() is None
    gc.collect()  # an exception that nobody has looked at is reported when its task is collected
    assert unseen == []


@pytest.fixture
async def kernel(world: World) -> Kernel:
    """A kernel on the store."""
    return await world.kernel()
