"""A process that dies by SIGKILL while it offloads a value: `victim.py URL MOMENT`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from cano import AuditEntry, Commit, Kernel
from cano_sqlite import SqliteBackend

from tests.acceptance.layers.flows import SECRET, flow


def die(*_: Any) -> NoReturn:
    """Kill this process without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("still alive")


def prepare(moment: str) -> None:
    """Patch the process so that it dies at that moment of offloading its first value."""
    replace = Path.replace

    def replaced(self: Path, target: Any) -> Path:
        if moment == "before the file has its name":
            die()
        done = replace(self, target)
        if moment == "before the name is on disk":
            die()
        return done

    async def commit(self: Any, commit: Commit, audit: AuditEntry | None = None) -> None:
        die()

    Path.replace = replaced  # type: ignore[method-assign, assignment]
    if moment == "before the commit":
        SqliteBackend.commit = commit  # type: ignore[method-assign]


async def main(url: str, moment: str) -> None:
    """Execute the run until the process dies."""
    async with Kernel(store=url) as kernel:
        prepare(moment)
        await kernel.run(flow, {"given": SECRET}, run_id="one")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
