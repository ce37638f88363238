"""Closing: what is finished first, and what remains, also if the store is never closed."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cano import Kernel, RunFilter, StoreUnavailableError, Workflow
from cano.testing.contract_base import new_run, step
from cano_sqlite import SqliteBackend

from tests.waiting import until


def threads() -> list[str]:
    """Return the names of the stores' live threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cano-sqlite")]


async def test_closed_for_good(path: Path) -> None:
    """A closed store cannot be opened again, whether it was ever open or not."""
    store = SqliteBackend(path)
    await store.close()
    await store.close()

    with pytest.raises(StoreUnavailableError, match="was closed"):
        await store.open()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        await store.load("run")
    assert sorted(os.listdir(path.parent)) == []


async def test_closing_leaves_one_file(path: Path) -> None:
    """After the last store on a file has closed, no log remains."""
    async with asyncio.timeout(60):
        first, second = SqliteBackend(path), SqliteBackend(path)
        await first.open()
        await second.open()
        await first.create(new_run())
        await first.close()
        assert (await second.load("run")) == new_run()
        await second.close()

    assert sorted(os.listdir(path.parent)) == ["runs.db"]


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    """`close` finishes all commits that are under way."""
    store = SqliteBackend(path)
    await store.open()
    for number in range(50):
        await store.create(new_run(str(number)))
    commits = [asyncio.ensure_future(store.commit(step(1, str(number)))) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()

    assert await asyncio.gather(*commits) == [None] * 50
    assert threads() == []


async def test_a_forgotten_store_ends_its_threads(path: Path) -> None:
    """A store that is never closed ends its threads and releases the file when it is garbage collected."""
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("cano-sqlite")]
    assert len(workers) == 3
    del store
    gc.collect()
    for worker in workers:
        worker.join(60)

    assert threads() == []


def test_a_forgotten_kernel_ends_its_threads(path: Path) -> None:
    """So does the store of a kernel that was never closed: neither its event loop nor its notifications keep it."""

    async def use() -> None:
        kernel = Kernel(store=f"sqlite:///{path}")
        await kernel.open()
        flow = Workflow("one", name="one").register("one", lambda store: "end").add_exit_state("end")
        await kernel.run(flow, run_id="r")

    asyncio.run(use())
    (watcher,) = (thread for thread in threading.enumerate() if thread.name == "cano-sqlite news")
    watcher.join(60)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("cano-sqlite")]
    gc.collect()
    for worker in workers:
        worker.join(60)

    assert threads() == []


async def test_notifications_keep_no_forgotten_store(path: Path) -> None:
    """A forgotten store ends its threads in an event loop that goes on, even if its watcher refers to it."""
    store = SqliteBackend(path)
    await store.open()
    store.watch(lambda run_id, kept=store: None)  # type: ignore[misc]
    assert len(threads()) == 4
    del store

    def collected() -> bool:
        gc.collect()  # not once: the thread may just be about to notify
        return threads() == []

    await until(collected)


@pytest.mark.parametrize("ending", ["pass", "sys.exit()", "1 / 0", "asyncio.get_running_loop().stop()"])
def test_a_store_does_not_keep_the_process_alive(path: Path, ending: str) -> None:
    """A process that never closes its store exits without a warning; its commits are there."""
    program = f"""
import asyncio, sys, threading
from cano.testing.contract_base import new_run
from cano_sqlite import SqliteBackend
store = SqliteBackend({str(path)!r})
async def main():
    await store.open()
    await store.create(new_run())
    print("created", flush=True)
    {ending}
try:
    asyncio.run(main())
except (ZeroDivisionError, RuntimeError):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.stderr, done.stdout, done.returncode) == ("", "created\n", 0)

    async def check() -> None:
        store = SqliteBackend(path)
        await store.open()
        assert [run.run_id for run in await store.runs(RunFilter())] == ["run"]
        await store.close()

    asyncio.run(check())
