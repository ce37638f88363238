"""Real time. Tests use `cano.testing.VirtualClock` instead."""

from __future__ import annotations

import asyncio
import time as _time
from collections.abc import Callable
from functools import partial

from cano.protocols import Timer


class SystemClock:
    """The `Clock` of the operating system and the running event loop."""

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)
    sleep = staticmethod(asyncio.sleep)
    # on Linux, `monotonic` does not count the time while the machine is suspended; leases expire all the same
    elapsed = staticmethod(partial(_time.clock_gettime, getattr(_time, "CLOCK_BOOTTIME", _time.CLOCK_MONOTONIC)))

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """See `Clock.call_at`."""
        return asyncio.get_running_loop().call_later(max(0.0, when - _time.monotonic()), callback)
