"""A program that imports a run, and is killed before or after a call of its store.

python importer.py URL CALL NTH after|before < FILE
"""

from __future__ import annotations

import asyncio
import sys

from cano import Kernel
from cano.testing import Faults, FaultyStore


async def main(url: str, call: str, nth: str, when: str) -> None:
    """Import the run."""
    plugins = {"plugins": ["sqlite", "postgres", "redis", "msgspec"], "discover": False}
    backend, _ = Kernel(**plugins).store_at(url)  # type: ignore[arg-type]
    assert backend is not None
    faults = Faults()
    faults.at_call(call, int(nth), after=when == "after").kill()
    async with Kernel(store=FaultyStore(backend, faults), **plugins) as kernel:  # type: ignore[arg-type]
        await kernel.import_run(sys.stdin.buffer)
        print("imported")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
