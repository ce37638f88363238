"""The same in a store that forgets with its process: `memory://`, the default."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunCancelledError,
    RunInterruptedError,
    RunResult,
    RunStatus,
    RunTimeoutError,
    Standstill,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

from tests.waiting import until


@pytest.fixture
def clock() -> VirtualClock:
    """Virtual time that jumps by itself."""
    return VirtualClock()


@pytest.fixture
async def kernel(clock: VirtualClock) -> AsyncIterator[Kernel]:
    """A kernel in memory."""
    before = asyncio.all_tasks()
    async with Kernel(discover=False, plugins=["memory"], clock=clock, grace=0) as kernel:
        yield kernel
    assert asyncio.all_tasks() - before == {asyncio.current_task()}
    assert clock._next_due() is None


async def ask(store: Any) -> Any:
    """Wait."""
    store["asked"] = True
    return wait_for("go", then="work", timeout=1000, on_timeout="late")


async def work(store: Any) -> str:
    """Keep the payload."""
    store["got"] = current_step().payload
    return "end"


def flow() -> Workflow[Any]:
    """A workflow that waits."""
    made: Workflow[Any] = Workflow("ask", name="flow").register("ask", ask).register("work", work)
    return made.add_exit_states(["end", "late"])


async def parked(kernel: Kernel, run_id: str | None = "r", data: Any = None) -> Any:
    """A run that waits."""
    handle = await kernel.start(flow(), data, run_id=run_id)
    await handle._run.ended()
    assert handle.status().status is RunStatus.PARKED
    return handle


async def test_an_id_is_idempotent(kernel: Kernel) -> None:
    """A finished run is known by its id as long as the process lives; a value may be any object."""
    thing = object()

    async def put(store: Any) -> str:
        store["thing"] = thing
        return "end"

    once = Workflow("x", name="once").register("x", put).add_exit_state("end")
    results = [await kernel.run(once, {"n": n}, run_id="r") for n in range(3)]
    assert results == [RunResult("r", "end", {"n": 0, "thing": thing}, 1)] * 3
    assert [run.run_id for run in await kernel.runs()] == ["r"]


async def test_two_at_once(kernel: Kernel) -> None:
    """Of two starts at the same moment one makes the run."""
    both = asyncio.gather(kernel.run(flow(), run_id="r"), kernel.run(flow(), run_id="r"))
    await asyncio.sleep(0)
    await kernel.signal("r", "go", 1)
    first, second = await both
    assert first == second == RunResult("r", "end", {"asked": True, "got": 1}, 2)


@pytest.mark.parametrize("run_id", ["r", None])
async def test_waiting(kernel: Kernel, run_id: str | None) -> None:
    """A run can wait, with an id or without; a payload may be any object, and the run keeps its data."""
    handle = await parked(kernel, run_id, {"x": [1]})
    payload = {"by": object()}
    assert await kernel.signal(handle.run_id, "go", payload) is True
    result = await handle.result()
    assert result == RunResult(handle.run_id, "end", {"x": [1], "asked": True, "got": payload}, 2)
    assert await kernel.signal(handle.run_id, "go") is False


async def test_waiting_in_vain(kernel: Kernel, clock: VirtualClock) -> None:
    """A time limit holds."""
    before = clock.monotonic()
    assert (await kernel.run(flow(), run_id="r")).state == "late"
    assert clock.monotonic() - before == 1000


async def test_sleeping(kernel: Kernel, clock: VirtualClock) -> None:
    """A run can sleep."""

    async def sleeps(store: Any) -> Any:
        return sleep_until(clock.time() + 3600, then="end")

    sleeper = Workflow("x", name="sleeper").register("x", sleeps).add_exit_state("end")
    before = clock.monotonic()
    assert (await kernel.run(sleeper)).state == "end"
    assert clock.monotonic() - before == 3600


async def test_orchestrate_on_a_store_of_the_users_own() -> None:
    """A run that waits writes into the store that it was started on when it ends."""
    store, plain = MemoryStore({"x": 1}), {"x": 1}
    clock = VirtualClock()
    async with Kernel(discover=False, plugins=["memory"], clock=clock) as kernel:
        for target in (store, plain):
            assert await kernel.orchestrate(flow(), target) == "late"
    assert {key: store[key] for key in store} == {"x": 1, "asked": True}
    assert plain == {"x": 1, "asked": True}


async def test_data_that_cannot_be_parked(kernel: Kernel) -> None:
    """A run on an object of the user's own cannot be parked, and says so, instead of losing it."""

    @dataclass
    class Mine:
        asked: bool = False

    async def asks(mine: Mine) -> Any:
        mine.asked = True
        return wait_for("go", then="end")

    made: Workflow[Any] = Workflow("x", name="x").register("x", asks).add_exit_state("end")
    with pytest.raises(ConfigurationError, match="must be a mapping, not of type Mine"):
        await kernel.run(made, Mine())


async def test_without_any_store() -> None:
    """A kernel without a store cannot park a run, and says what to install."""
    async with Kernel(discover=False) as kernel:
        with pytest.raises(
            ConfigurationError, match="the plugin 'memory', which opens the store 'memory://', is installed, but"
        ):
            await kernel.run(flow())


async def test_cancelling(kernel: Kernel) -> None:
    """A parked run can be cancelled."""
    handle = await parked(kernel)
    waiting = asyncio.ensure_future(handle.result())
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await waiting
    assert (await kernel.explain("r")).reason is Standstill.CANCELLED


async def test_a_run_in_memory_is_never_interrupted(kernel: Kernel, clock: VirtualClock) -> None:
    """Nobody can take over a run in memory: it is running for as long as it runs, without any lease to renew."""
    gate = asyncio.Event()

    async def hangs(store: Any) -> str:
        await clock.sleep(100_000)
        gate.set()
        return "end"

    long = Workflow("x", name="long").register("x", hangs).add_exit_state("end")
    handle = await kernel.start(long, run_id="r")
    await clock.sleep(50_000)
    assert [run.status for run in await kernel.runs()] == [RunStatus.RUNNING]
    assert await kernel.check() == []
    assert (await handle.result()).state == "end"


async def test_closing(clock: VirtualClock) -> None:
    """A kernel that closes tells who waits for a parked run."""
    async with Kernel(discover=False, plugins=["memory"], clock=clock, grace=0) as kernel:

        async def asks(store: Any) -> Any:
            return wait_for("go", then="end")

        made: Workflow[Any] = Workflow("x", name="x").register("x", asks).add_exit_state("end")
        handle = await kernel.start(made, run_id="r")
        waiting = asyncio.ensure_future(handle.result())
        await until(lambda: handle.status().status is RunStatus.PARKED)
    with pytest.raises(RunInterruptedError, match="the kernel closed"):
        await waiting


@pytest.mark.parametrize("run_id", [None, "r"])
async def test_a_timeout_counts_while_a_run_waits(kernel: Kernel, clock: VirtualClock, run_id: str | None) -> None:
    """The time of a whole run is over while it is parked, though its wait were longer."""
    begun = clock.time()
    with pytest.raises(RunTimeoutError, match="longer than 60 s"):
        await kernel.run(flow(), run_id=run_id, timeout=60)
    assert clock.time() == begun + 60


async def test_the_history_has_an_entry_for_each_commit(kernel: Kernel) -> None:
    """A run that commits only its end has two entries, and all changes are in the last one; a fork says which."""
    made: Workflow[Any] = Workflow("1", name="steps").add_exit_state("4")

    def register(state: str, following: str) -> None:
        async def task(store: Any) -> str:
            store[state] = True
            store["last"] = state
            return following

        made.register(state, task)

    for state, following in ("12", "23", "34"):
        register(state, following)
    assert (await kernel.run(made, {"first": 0}, run_id="r")).steps == 3
    entries = [(entry.seq, entry.state, dict(entry.changed)) for entry in await kernel.history("r")]
    assert entries == [(0, "1", {"first": 0}), (3, "4", {"1": True, "2": True, "3": True, "last": "3"})]
    with pytest.raises(ConfigurationError, match=r"run r has no transition 2; there are: 0, 3$"):
        await kernel.fork("r", 2, "forked")
