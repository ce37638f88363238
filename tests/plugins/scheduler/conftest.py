"""What the scheduler's tests share: virtual time, kernels on it, and workflows that tell what they did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from cano import Kernel, KeyValueStore, TaskConfig, Workflow, current_step
from cano.testing import VirtualClock
from cano_memory import MemoryBackend
from cano_scheduler import nominal_time

PLUGINS = ("memory", "msgspec", "scheduler")

MakeKernel = Callable[..., Kernel]


class Diary:
    """Workflows, and what their runs have written down: which run, for which time, and its data."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.runs: list[tuple[str, datetime | None, dict[str, Any]]] = []
        self.active = self.peak = self.cancelled = 0

    @property
    def ids(self) -> list[str]:
        """Ids of the runs, in the order in which they began."""
        return [run_id for run_id, _, _ in self.runs]

    def flow(
        self, name: str = "flow", *, takes: float = 0, fails: int = 0, types: Sequence[type] = ()
    ) -> Workflow[str]:
        """A workflow whose runs take so many seconds, and of which the first so many fail."""
        left = [fails]

        async def work(store: KeyValueStore) -> str:
            data = {key: store[key] for key in store.keys()}  # noqa: SIM118  # a store is no mapping
            self.runs.append((current_step().run_id, nominal_time(), data))
            self.active += 1
            self.peak = max(self.peak, self.active)
            try:
                if takes:
                    await self.clock.sleep(takes)
            except BaseException:
                self.cancelled += 1
                raise
            finally:
                self.active -= 1
            if left[0] > 0:
                left[0] -= 1
                raise ValueError("as it was told to")
            return "done"

        flow: Workflow[str] = Workflow("work", name=name, default_config=TaskConfig.minimal(), types=types)
        return flow.add_exit_state("done").register("work", work)


@pytest.fixture
def clock() -> VirtualClock:
    """Virtual time that jumps by itself."""
    return VirtualClock()


@pytest.fixture
def diary(clock: VirtualClock) -> Diary:
    """What the workflows that it makes have done."""
    return Diary(clock)


@pytest.fixture
async def kernel(clock: VirtualClock) -> AsyncIterator[Kernel]:
    """A kernel whose store is not durable."""
    async with Kernel(discover=False, plugins=PLUGINS, clock=clock, grace=0) as kernel:
        yield kernel


@pytest.fixture
def store() -> MemoryBackend:
    """A store that is to the scheduler what a durable one is."""
    return _NeverClosed(strict=True)


@pytest.fixture
def make_kernel(clock: VirtualClock, store: MemoryBackend) -> MakeKernel:
    """Makes kernels on `store`: what several processes are to one file."""

    def make(*plugins: Any) -> Kernel:
        return Kernel(
            store=store, discover=False, plugins=(*PLUGINS, *plugins), clock=clock, grace=0, lease=5.0,
        )  # fmt: skip

    return make


class _NeverClosed(MemoryBackend):
    """A store that outlives the kernels on it."""

    def __repr__(self) -> str:
        return f"<_NeverClosed {super().__repr__()}>"

    async def close(self) -> None:
        """Keep everything."""
