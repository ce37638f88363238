"""Fixtures for tests of workflows, which pytest finds if Cano is installed.

    async def test_order(cano_kernel, cano_clock):
        handle = await cano_kernel.start(flow, {"order": 7}, run_id="7")
        await cano_kernel.signal("7", "paid")
        assert (await handle.result()).state is State.SHIPPED

They need no pytest plugin for async tests, and work with any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cano.kernel.kernel import Kernel
    from cano.testing.clock import VirtualClock
    from cano.testing.faults import Faults


@pytest.fixture
def cano_clock() -> VirtualClock:
    """Return a virtual clock, which jumps to the next timer whenever the event loop is idle."""
    from cano.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def cano_faults(cano_clock: VirtualClock) -> Faults:
    """Return the faults of `cano_kernel`'s store, and of workflows. There are none until a test adds some."""
    from cano.testing.faults import Faults

    return Faults(cano_clock)


@pytest.fixture
def cano_kernel(cano_clock: VirtualClock, cano_faults: Faults) -> Iterator[Kernel]:
    """Provide a kernel with a store in memory, every installed plugin, and virtual time.

    Its first use opens it. A run that is active at the end of the test ends with the test's event loop.
    """
    from cano.kernel.kernel import Kernel
    from cano.testing.contract_base import installed_backend
    from cano.testing.faults import FaultyStore

    kernel = Kernel(store=FaultyStore(installed_backend("memory://"), cano_faults), clock=cano_clock, grace=0)
    yield kernel
    if not kernel.active:
        loop = asyncio.new_event_loop()  # that of the test has ended, or belongs to another plugin
        loop.run_until_complete(kernel.close())
        loop.close()


@pytest.fixture
def cano_store_url(tmp_path: Path) -> str:
    """Return the URL of a new, durable store: an SQLite file. Needs cano-sqlite."""
    pytest.importorskip("cano_sqlite", reason="cano-sqlite is not installed")
    return f"sqlite:///{tmp_path}/cano-runs.db?synchronous=normal"
