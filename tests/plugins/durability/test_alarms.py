"""Alarms of parked runs: in order, few bytes each, and no more than the nearest ones."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest
from cano import Kernel, RunStatus, Wait, Workflow, sleep_until
from cano.testing import VirtualClock
from cano_durability.recovery.waiting import Alarms
from cano_durability.recovery.watchlist import Watchlist

from tests.plugins.durability.conftest import POLL, World


async def test_alarms_ring_in_order() -> None:
    """Each run is woken at its time; a new time replaces the old one, and none wakes a run whose alarm is cancelled."""
    clock, woken = VirtualClock(auto=False), list[tuple[float, str]]()
    begin = clock.time()
    alarms = Alarms(clock, lambda run_id: woken.append((clock.time() - begin, run_id)))
    for number in (5, 3, 9, 1, 7):
        alarms.set(f"r{number}", Wait(then="x", until=begin + number))
    alarms.set("r9", Wait(then="x", until=begin + 2))
    alarms.set("r5", Wait(then="x", until=begin + 6))
    alarms.set("r3", Wait(then="x", signal="go"))
    alarms.cancel("r7")
    await clock.advance(4)
    assert woken == [(1, "r1"), (2, "r9")]
    await clock.advance(4)
    assert woken[2:] == [(6, "r5")]
    alarms.set("late", Wait(then="x", until=begin))
    await clock.advance(0)
    assert woken[3:] == [(8, "late")]
    alarms.set("never", Wait(then="x", until=begin + 9))
    alarms.close()
    await clock.advance(4)
    assert len(woken) == 4


async def test_an_alarm_costs_few_bytes() -> None:
    """An alarm costs at most 150 bytes beside its id; beyond the nearest 10,000, none."""
    clock = VirtualClock(auto=False)
    ids = [f"run {number}" for number in range(40_000)]
    waits = [Wait(then="x", until=clock.time() + 1000 + number) for number in range(40_000)]
    for most, limit in ((None, 150 * 40_000), (10_000, 150 * 11_000)):
        alarms = Alarms(clock, ids.index, most)
        gc.collect()
        tracemalloc.start()
        for run_id, wait in zip(ids, waits, strict=True):
            alarms.set(run_id, wait)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < limit
        alarms.close()


async def test_a_parked_run_beyond_the_nearest_costs_few_bytes() -> None:
    """Its place in the list of those to take over costs at most 60 bytes beside its id."""
    ids = [f"run {number}" for number in range(25_000)]
    plan = Kernel(discover=False).bind(Workflow("a", name="flow").register("a", nap).add_exit_state("b"))
    watchlist = Watchlist()
    gc.collect()
    tracemalloc.start()
    for run_id in ids:
        watchlist.watch(plan, run_id)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 60 * len(ids)


async def nap(store: Any) -> Any:
    """Sleep."""
    return sleep_until(1e9, then="b")


async def test_cancelled_alarms_are_forgotten() -> None:
    """Alarms that are set and cancelled again and again do not pile up."""
    clock = VirtualClock(auto=False)
    alarms = Alarms(clock, str)
    for number in range(10_000):
        alarms.set("r", Wait(then="x", until=clock.time() + 1000 + number))
    assert len(alarms._heap) < 200
    alarms.close()


def test_an_event_loop_that_has_ended_holds_no_alarm_back() -> None:
    """A timer of an event loop that has ended never fires: the next alarm gets one in its own loop."""
    clock, woken = VirtualClock(), list[str]()
    alarms = Alarms(clock, woken.append)

    async def set_alarm(run_id: str, seconds: float) -> None:
        alarms.set(run_id, Wait(then="x", until=clock.time() + seconds))

    async def later() -> None:
        await set_alarm("second", 20)
        await clock.sleep(30)

    asyncio.run(set_alarm("first", 10))
    asyncio.run(later())
    assert woken == ["first", "second"]


async def test_the_store_knows_the_other_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs beyond the nearest ones are found by a poll of the store, when their time has come."""
    monkeypatch.setattr("cano_durability.keeper.NEAREST", 2)
    kernel = await world.kernel()

    async def nap(store: Any) -> Any:
        return sleep_until(world.clock.time() + 100 + len(await kernel.runs()), then="end")

    flow = Workflow("nap", name="flow").register("nap", nap).add_exit_state("end")
    for number in range(6):
        await kernel.start(flow, run_id=f"r{number}")
        await world.settle()
    assert {run.status for run in await kernel.runs()} == {RunStatus.PARKED}
    await world.clock.advance(110 + POLL)
    await world.settle()
    assert {run.status for run in await kernel.runs()} == {RunStatus.SUCCEEDED}
