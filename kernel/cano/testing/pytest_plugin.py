"""Fixtures for tests of workflows. pytest finds them by itself where Cano is installed.

    async def test_order(cano_kernel, cano_clock):
        handle = await cano_kernel.start(flow, {"order": 7}, run_id="7")
        await cano_kernel.signal("7", "paid")
        assert (await handle.result()).state is State.SHIPPED

They need no pytest plugin for async tests, and get on with any.
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
    """Virtual time, which jumps to what is due next whenever there is nothing else to do."""
    from cano.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def cano_faults(cano_clock: VirtualClock) -> Faults:
    """What is to go wrong in `cano_kernel`'s store, and in workflows: nothing, until a test says so."""
    from cano.testing.faults import Faults

    return Faults(cano_clock)


@pytest.fixture
def cano_kernel(cano_clock: VirtualClock, cano_faults: Faults) -> Iterator[Kernel]:
    """A kernel on a store in memory, with every installed plugin, in virtual time.

    It opens by itself when it is used. A run that is still active when the test ends is ended with its event loop.
    """
    from cano.kernel.kernel import Kernel
    from cano.testing.contract_base import installed_backend
    from cano.testing.faults import FaultyStore

    kernel = Kernel(store=FaultyStore(installed_backend("memory://"), cano_faults), clock=cano_clock, grace=0)
    yield kernel
    if not kernel.active:
        loop = asyncio.new_event_loop()  # the test's own has ended, or is not ours to run
        loop.run_until_complete(kernel.close())
        loop.close()


@pytest.fixture
def cano_store_url(tmp_path: Path) -> str:
    """URL of a durable store that nobody uses yet: an SQLite file. Needs cano-sqlite."""
    pytest.importorskip("cano_sqlite", reason="cano-sqlite is not installed")
    return f"sqlite:///{tmp_path}/cano-runs.db?synchronous=normal"
