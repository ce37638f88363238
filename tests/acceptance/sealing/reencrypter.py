"""A process that encrypts a store again, and is killed at one of its writes: `reencrypter.py URL NUMBER SECONDS`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any

from cano import Kernel
from cano.engine.ports import new_holder
from cano_durability.sealing import renewing

WRITES = ("claim", "renew", "commit", "rewrite", "rewrite_signals", "rewrite_stream", "release")


class Killed:
    """A store whose process is killed some seconds after its write number `number` began."""

    def __init__(self, store: Any, number: int, seconds: float) -> None:
        self._store, self._left, self._seconds = store, number, seconds

    def __getattr__(self, name: str) -> Any:
        if name in WRITES:
            self._left -= 1
            if self._left == 0:
                threading.Timer(self._seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return getattr(self._store, name)


async def main(url: str, number: int, seconds: float) -> None:
    """Encrypt all values again, and print what was left out."""
    renewing.FEW = 2
    async with Kernel(store=url) as kernel:
        backend: Any = kernel.backend
        backend.inner = Killed(backend.inner, number, seconds)
        async for each in backend.reencrypted(new_holder(), kernel.clock.time, "Ada"):
            if each.problem is not None or each.left:
                print(each)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
