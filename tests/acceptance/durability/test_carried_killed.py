"""Imports of runs that are cut off: by SIGKILL on each store, by errors, and by another import of the same run."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    ConflictError,
    Kernel,
    RunNotFoundError,
    StoreBackend,
    StoreUnavailableError,
    Workflow,
    wait_for,
)
from cano.testing import Faults, FaultyStore

from tests.acceptance.durability import importer
from tests.acceptance.durability.shared import ONLY, Shared

flow: Workflow[str] = Workflow("A", name="order").add_exit_state("END")


@flow.on("A")
async def first(store: Any) -> str:
    store["log"] = ["a"]
    return "B"


@flow.on("B")
async def second(store: Any) -> Any:
    store.append("log", "b")
    return wait_for("paid", then="C")


@flow.on("C")
async def third(store: Any) -> str:
    return "END"


async def make(kernel: Kernel, run_id: str = "one") -> bytes:
    """The file of a run that waits, and has signals."""
    await (await kernel.start(flow, {"n": 1}, run_id=run_id))._run.ended()
    await kernel.signal(run_id, "later", 1)
    return b"".join([part async for part in kernel.export_run(run_id)])


async def look(kernel: Kernel, run_id: str = "one") -> Any:
    """What all calls that show runs say of the run: nothing, or the whole of it."""
    listed = [run.run_id for run in await kernel.runs()]
    paged = [run.run_id for run in await kernel.runs(limit=1)]
    assert await kernel.recover(flow) == []
    assert [run.run_id async for run in kernel.runs()] == listed == paged
    if not listed:
        for call in (kernel.get, kernel.history, kernel.explain, kernel.cancel):
            with pytest.raises(RunNotFoundError):
                await call(run_id)
        with pytest.raises(RunNotFoundError):
            await kernel.signal(run_id, "paid")
        return None
    view = await kernel.get(run_id)
    return view.status, view.state, view.data, view.signals, [entry.seq for entry in await kernel.history(run_id)]


POINTS = [
    ("sqlite", "create", 1, "before"), ("sqlite", "create", 1, "after"), ("sqlite", "commit", 2, "before"),
    ("sqlite", "claim", 1, "before"), ("sqlite", "claim", 1, "after"), ("postgres", "commit", 2, "after"),
    ("postgres", "claim", 1, "before"), ("redis", "put_signal", 1, "after"), ("redis", "claim", 1, "before"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "nth", "when"), POINTS)
async def test_a_killed_import_leaves_nothing_or_the_whole_run(
    url_of: Callable[[str], str], kind: str, call: str, nth: int, when: str
) -> None:
    """No call shows a part of the run, no worker executes it; and the same import, repeated, completes it."""
    async with Kernel(store=Shared(strict=True), **ONLY) as kernel:
        file = await make(kernel)
        whole = await look(kernel)
    url = url_of(kind)
    async with Kernel(store=url, **ONLY):
        pass
    arguments = [sys.executable, importer.__file__, url, call, str(nth), when]
    process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE)
    await process.communicate(file)
    assert process.returncode == -signal.SIGKILL
    async with Kernel(store=url, **ONLY) as kernel:
        done = (call, when) == ("claim", "after")
        assert await look(kernel) == (whole if done else None)
        left = [] if done or (call, when) == ("create", "before") else ["incomplete import"]
        assert [finding.kind for finding in await kernel.check()] == left
        assert await kernel.import_run(file) == "one"
        assert await look(kernel) == whole
        assert await kernel.check() == []
        assert {entry.action for entry in await kernel.audit("one")} == {"import"}


@pytest.mark.parametrize("call", ["create", "commit", "put_signal", "claim"])
async def test_an_import_that_fails_leaves_nothing(call: str) -> None:
    """A store that fails in the middle, even if its answer is lost, and a cancelled caller leave no part of the run."""
    store = Shared(strict=True)
    async with Kernel(store=store, **ONLY) as kernel:
        file = await make(kernel)
    for after in (False, True):
        empty: StoreBackend = Shared(strict=True)
        faults = Faults()
        faults.at_call(call, after=after).fail(StoreUnavailableError("no network"))
        async with Kernel(store=FaultyStore(empty, faults), **ONLY) as kernel:
            with pytest.raises(StoreUnavailableError):
                await kernel.import_run(file)
            if not (call == "claim" and after):
                assert (await empty.load("one"), [*(await empty.signals("one")).waiting]) == (None, [])
                assert await kernel.import_run(file) == "one"
    hanging = Faults()
    hung = hanging.at_call(call).hang()
    empty = Shared(strict=True)
    async with Kernel(store=FaultyStore(empty, hanging), **ONLY) as kernel:
        importing = asyncio.create_task(kernel.import_run(file))
        await hung.reached()
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        assert await empty.load("one") is None


async def test_two_imports_of_one_run() -> None:
    """While a process imports a run, no other one touches it; if it is gone, the run can be deleted."""
    store = Shared(strict=True)
    async with Kernel(store=Shared(strict=True), **ONLY) as kernel:
        file = await make(kernel)
    faults = Faults()
    hung = faults.at_call("commit", 2).hang()
    async with Kernel(store=FaultyStore(store, faults), **ONLY) as one, Kernel(store=store, **ONLY) as two:
        importing = asyncio.create_task(one.import_run(file))
        await hung.reached()
        with pytest.raises(ConflictError, match=r"run one is being imported by .*; if that process is gone, call"):
            await two.import_run(file)
        assert await look(two) is None
        for call in (two.run(flow, run_id="one"), two.start(flow, run_id="one")):
            with pytest.raises(ConfigurationError, match="a run is being imported under the id 'one'"):
                await call
        await two.delete("one")
        hung.release()
        with pytest.raises(ConflictError):
            await importing
        assert await two.import_run(file) == "one"
