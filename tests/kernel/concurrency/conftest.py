"""What these tests share: virtual time, a kernel without plugins, and the promise that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cano import Kernel
from cano.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Virtual time that jumps by itself."""
    return VirtualClock()


@pytest.fixture(autouse=True)
async def nothing_left(clock: VirtualClock) -> AsyncIterator[None]:
    """After each test no task is left and no timer is pending, and nothing went wrong unseen."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert clock._next_due() is None
    gc.collect()  # an exception that nobody has looked at is reported when its task is collected
    assert unseen == []


@pytest.fixture
async def kernel(clock: VirtualClock) -> AsyncIterator[Kernel]:
    """A kernel without any plugin, in virtual time. No run and no task may be left when the test ends."""
    before = asyncio.all_tasks()
    async with Kernel(discover=False, clock=clock, grace=0) as kernel:
        yield kernel
        assert kernel.active == {}
        assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
