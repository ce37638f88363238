"""A worker whose bodies have five slots with those of all others. Each body counts how many bodies there are.

A body has a file of its own and locks it, so that the system unlocks it at the body's end or its process's death. The
count is made under a lock that all share.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cano import Kernel, Limit, Workflow, current_step

SLOTS, RUNS = 5, 18


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Return whether a body has locked its file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def begun(folder: Path) -> int:
    """Return how many bodies have begun."""
    return len((folder / "counts").read_text().splitlines())


def count(folder: Path, own: int) -> int:
    """Lock the file of a body, and write down how many bodies there are. Return how many have begun."""
    with locked(folder / "all"):
        fcntl.flock(own, fcntl.LOCK_EX)
        number = sum(map(is_locked, folder.glob("*.body")))
        with (folder / "counts").open("a") as counts:
            counts.write(f"{number}\n")
        return begun(folder)


def flow_in(folder: Path) -> Workflow[str]:
    """Return the workflow, whose bodies count in this folder."""

    async def work(store: Any) -> str:
        mine = folder / f"{uuid.uuid4()}.body"
        with mine.open("a") as own:
            mark = min(count(folder, own.fileno()) + SLOTS - 1, RUNS)
            print(current_step().run_id, flush=True)
            while True:  # until the bodies that fill the slots have begun
                await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", b"x", b"y", 20_000)
                if begun(folder) >= mark:
                    return "rest"

    async def rest(store: Any) -> str:
        return "end"

    flow: Workflow[str] = Workflow("work", name="limited")
    return flow.register("work", work, limit=Limit(SLOTS, scope="store")).register("rest", rest).add_exit_state("end")


async def main(url: str, folder: Path) -> None:
    """Execute runs until the process is killed."""
    async with Kernel(store=url, lease=30, poll=0.05) as kernel:
        await kernel.recover(flow_in(folder), concurrency=8)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
