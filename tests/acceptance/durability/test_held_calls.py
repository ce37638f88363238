"""Calls that are cancelled while the store holds them leave no lease behind, on every durable store."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from cano import (
    Kernel,
    RunCancelledError,
    RunInterruptedError,
    RunRecord,
    RunStatus,
    StoreBackend,
    SubWorkflow,
    Workflow,
    current_step,
    wait_for,
)
from cano.testing import Fault, FaultyStore

from tests.acceptance.durability.shared import Shared

(_CODEC,) = entry_points(group="cano", name="msgspec")
CODEC = _CODEC.load()

RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # no test here loses what is not on disk

LEASE = 1000.0
"""Seconds: more than any test takes, so that no lease expires in one."""


class Place:
    """One store, and kernels on it."""

    def __init__(self, open_backend: Callable[[], StoreBackend]) -> None:
        self._open = open_backend

    def kernel(self) -> Kernel:
        """A kernel on the store, whose calls can be held."""
        store = FaultyStore(self._open())
        return Kernel(store=store, discover=False, plugins=[CODEC], lease=LEASE, poll=0.05, grace=0)

    async def look(self, run_id: str) -> RunRecord | None:
        """The run as the store has it."""
        backend = self._open()
        await backend.open()
        try:
            return await backend.load(run_id)
        finally:
            await backend.close()


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
async def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A durable store without runs. After the test no exception may be left that nothing has looked at."""
    monkeypatch.delenv("CANO_BLOCK", raising=False)  # to look whether such plugins exist takes longer than most tests
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    if request.param == "memory":
        memory = Shared(strict=True)
        yield Place(lambda: memory)
    else:
        server = None if request.param == "sqlite" else request.getfixturevalue(request.param)
        with tempfile.TemporaryDirectory(dir=RAM) as folder:
            url = f"sqlite:///{folder}/runs.db" if server is None else server.new_url()
            yield Place(lambda: _opened(url))
    assert unseen == []


def _opened(url: str) -> StoreBackend:
    backend, _ = Kernel(store=url).store_at(url)
    assert backend is not None
    return backend


def faults(kernel: Kernel, call: str, nth: int = 1, *, after: bool) -> Fault:
    """Hold a call of the kernel's store."""
    assert isinstance(kernel.backend, FaultyStore)
    return kernel.backend.faults.at_call(call, nth, after=after).hang()


async def cut(call: Awaitable[Any], fault: Fault) -> None:
    """Cancel a call that a fault holds."""
    task = asyncio.ensure_future(call)
    await fault.reached()
    task.cancel()
    with suppress(asyncio.CancelledError, RunCancelledError):
        await task


async def work(store: Any) -> str:
    """End at once."""
    return "END"


def flow() -> Workflow[str]:
    """A workflow of one step."""
    return Workflow("WORK", name="flow").register("WORK", work).add_exit_state("END")


def parent() -> Workflow[str]:
    """A workflow with a child."""
    return Workflow("CALL", name="parent").register("CALL", SubWorkflow(flow(), then="END")).add_exit_state("END")


# starting


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_start_that_is_cancelled(place: Place, after: bool) -> None:
    """No run is left, or one that another process takes at once."""
    for start in ("run", "run in time", "start"):
        async with place.kernel() as kernel:
            fault = faults(kernel, "create", after=after)
            timeout = 100.0 if start == "run in time" else None
            begin = kernel.start if start == "start" else kernel.run
            await cut(begin(flow(), run_id=start, timeout=timeout), fault)
            assert kernel.active == {}
            record = await place.look(start)
            if after:
                assert record is not None
                assert (record.status, record.holder) == (RunStatus.RUNNING, None)
            else:
                assert record is None
            async with place.kernel() as other:
                assert (await other.run(flow(), run_id=start)).state == "END"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_child_whose_start_is_cancelled(place: Place, after: bool) -> None:
    """A child ends with its parent: cancelled with a cancelled one, to be resumed with an interrupted one."""
    async with place.kernel() as kernel:
        fault = faults(kernel, "create", 2, after=after)
        handle = await kernel.start(parent(), run_id="cancelled")
        await fault.reached()
        await handle.cancel()
        fault = faults(kernel, "create", 2, after=after)
        await cut(kernel.run(parent(), run_id="interrupted"), fault)
        async with place.kernel() as other:
            assert {run.run_id: (run.status, run.holder) for run in await other.runs()} == {
                "cancelled": (RunStatus.CANCELLED, None),
                "interrupted": (RunStatus.INTERRUPTED, None),
                **({"cancelled:1/flow": (RunStatus.CANCELLED, None)} if after else {}),
                **({"interrupted:1/flow": (RunStatus.INTERRUPTED, None)} if after else {}),
            }
            assert (await other.resume(parent(), "interrupted")).state == "END"


async def test_a_start_that_is_cancelled_at_any_moment(place: Place) -> None:
    """After any number of turns of the event loop, the kernel executes the run, or holds no lease of it."""
    gate = asyncio.Event()

    async def held(store: Any) -> str:
        await gate.wait()
        return "END"

    hung = Workflow("WORK", name="hung").register("WORK", held).add_exit_state("END")
    async with place.kernel() as kernel:
        for turns in (*range(24), 32, 48, 64, 96, 128, 256):
            for timeout in (None, 100.0):
                run_id = f"{turns} {timeout}"
                task = asyncio.ensure_future(kernel.start(hung, run_id=run_id, timeout=timeout))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        assert kernel.backend is not None
        for run in await kernel.runs():
            assert (run.holder is not None) == (run.run_id in kernel.active)
        gate.set()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_start_in_a_kernel_that_closes(place: Place, after: bool) -> None:
    """Closing waits for the store's answer, so that the run's lease is released before the store is closed."""
    kernel = place.kernel()
    await kernel.open()
    fault = faults(kernel, "create", after=after)
    run = asyncio.ensure_future(kernel.run(flow(), run_id="r"))
    await fault.reached()
    closing = asyncio.ensure_future(kernel.close())
    closed = faults(kernel, "close", after=False)
    closed.release()
    for _ in range(200):
        await asyncio.sleep(0)
    assert kernel.closed
    assert not closed.met
    fault.release()
    await closing
    with pytest.raises(RunInterruptedError, match="the kernel closed before run r ended"):
        await run
    async with place.kernel() as other:
        assert (await other.run(flow(), run_id="r")).state == "END"


async def test_a_run_that_is_cancelled_as_it_first_waits(place: Place) -> None:
    """A run that the store gets only when it waits ends as cancelled there, too, so that no process resumes it."""

    async def ask(store: Any) -> Any:
        return wait_for("go", then="END")

    asking: Workflow[Any] = Workflow("ASK", name="asking").register("ASK", ask).add_exit_state("END")
    async with place.kernel() as kernel:
        fault = faults(kernel, "create", after=True)
        handle = await kernel.start(asking, run_id="r", keep=False)
        await fault.reached()
        await handle.cancel()
        record = await place.look("r")
        assert record is not None
        assert (record.status, record.holder) == (RunStatus.CANCELLED, None)


async def test_a_crash_as_a_run_first_waits(place: Place) -> None:
    """A run that the store gets only when it waits is resumed in the state that waits, not from its beginning."""
    states: list[Any] = []

    async def begin(store: Any) -> str:
        states.append(current_step().state)
        store["n"] = store.get("n", default=0) + 1
        return "ASK"

    async def ask(store: Any) -> Any:
        states.append(current_step().state)
        return wait_for("go", then="END")

    asking: Workflow[Any] = Workflow("BEGIN", name="asking").register("BEGIN", begin).register("ASK", ask)
    asking.add_exit_state("END")
    kernel = place.kernel()
    await kernel.open()
    fault = faults(kernel, "commit", after=False)
    await kernel.start(asking, run_id="r", keep=False)
    await fault.reached()
    await kernel.close()
    async with place.kernel() as other:
        ended = asyncio.ensure_future(other.resume(asking, "r"))
        await other.signal("r", "go")
        result = await ended

    assert states == ["BEGIN", "ASK", "ASK"]
    assert (result.state, result.steps, result.data) == ("END", 2, {"n": 1})


# continuing


@pytest.mark.parametrize(
    ("call", "nth", "after"),
    [("claim", 1, False), ("claim", 1, True), ("load", 2, False), ("next_signal", 1, True)],
    ids=["before the claim", "after the claim", "before the second look", "after the request to cancel"],
)
async def test_a_claim_that_is_cancelled(place: Place, call: str, nth: int, after: bool) -> None:
    """The run is unclaimed, or its lease is released: another process continues it at once."""
    async with place.kernel() as kernel:
        fault = faults(kernel, "create", after=True)
        await cut(kernel.run(flow(), run_id="r"), fault)
        fault = faults(kernel, call, nth, after=after)
        await cut(kernel.resume(flow(), "r"), fault)
        record = await place.look("r")
        assert record is not None
        assert record.holder is None
        async with place.kernel() as other:
            assert (await other.resume(flow(), "r")).state == "END"


async def test_a_cancelled_claim_does_not_release_the_lease_of_another_one(place: Place) -> None:
    """Of two calls in one kernel that claim a run, one has it; the other one, when cancelled, does not take it away."""
    gate, began = asyncio.Event(), asyncio.Event()

    async def held(store: Any) -> str:
        began.set()
        await gate.wait()
        return "END"

    hung = Workflow("WORK", name="hung").register("WORK", held).add_exit_state("END")
    async with place.kernel() as kernel:
        fault = faults(kernel, "create", after=True)
        await cut(kernel.run(hung, run_id="r"), fault)
        fault = faults(kernel, "claim", after=False)
        late = asyncio.ensure_future(kernel.resume(hung, "r"))
        await fault.reached()
        resumed = asyncio.ensure_future(kernel.resume(hung, "r"))
        await began.wait()
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        record = await place.look("r")
        assert record is not None
        assert record.holder is not None
        gate.set()
        assert (await resumed).state == "END"


@pytest.mark.parametrize(
    ("call", "after"), [("create", False), ("create", True), ("release", False), ("release", True)],
)  # fmt: skip
async def test_a_fork_that_is_cancelled(place: Place, call: str, after: bool) -> None:
    """There is no fork, or one that can be resumed at once."""
    async with place.kernel() as kernel:
        await kernel.run(flow(), run_id="r")
        fault = faults(kernel, call, after=after)
        await cut(kernel.fork("r", 0, "fork"), fault)
        record = await place.look("fork")
        assert record is None or record.holder is None
        async with place.kernel() as other:
            if record is None:
                await other.fork("r", 0, "fork")
            assert (await other.resume(flow(), "fork")).state == "END"


async def test_a_deletion_that_is_cancelled(place: Place) -> None:
    """The run is not held, so that it can be deleted again."""
    async with place.kernel() as kernel:
        await kernel.run(flow(), run_id="r")
        fault = faults(kernel, "delete", after=False)
        await cut(kernel.delete("r"), fault)
        await kernel.delete("r")
        assert await place.look("r") is None
