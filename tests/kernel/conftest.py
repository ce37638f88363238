"""What the kernel's tests share: virtual time, and kernels that no installed plugin can change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cano import Kernel
from cano.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Virtual time that jumps by itself."""
    return VirtualClock()


@pytest.fixture
async def kernel(clock: VirtualClock) -> AsyncIterator[Kernel]:
    """A kernel without any plugin, in virtual time; what still runs at the end is interrupted."""
    async with Kernel(discover=False, clock=clock, grace=0) as kernel:
        yield kernel
