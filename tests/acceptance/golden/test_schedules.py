"""Schedules in golden data continue."""

from __future__ import annotations

from typing import Any

from cano import Workflow
from cano.testing import VirtualClock
from cano_scheduler import FlowInfo, Scheduler, Tick

from tests.acceptance.golden import flows
from tests.acceptance.golden.copies import Golden
from tests.acceptance.golden.expected import COUNTS, FURTHER_TICKS, SCHEDULED, SCHEDULES, TICKS
from tests.acceptance.golden.observers import Ended, Parked, Witness
from tests.acceptance.golden.schedules import scheduler_on
from tests.acceptance.golden.times import READ


async def test_schedules(golden: Golden) -> None:
    """A scheduler finds its schedules as they were left, ends the runs that they had started, and catches up."""
    ended, parked, witness = Ended(*SCHEDULED), Parked(), Witness()
    async with golden.at(READ, ended, parked, witness) as kernel:
        scheduler = scheduler_on(kernel)
        infos = {info.id: info for info in await scheduler.list()}
        assert {id: (info.state, info.running, info.queued) for id, info in infos.items()} == SCHEDULES
        assert {id: await _told(scheduler, id) for id in SCHEDULES} == TICKS
        assert infos["paid"].last_error == "TaskError: task 'pay' failed: ConnectionError: the bank is closed"

        await kernel.signal("asked@ask:one", "approved", "yes")
        await scheduler.start()
        assert isinstance(kernel.clock, VirtualClock)
        await kernel.clock.advance(1.0)  # after that it looks for runs that other processes have left
        await parked.event.wait()  # by the run of the second event, which was queued
        await kernel.signal("asked@ask:two", "approved", "no")
        await ended.event.wait()
        await scheduler.stop()

        infos = {info.id: info for info in await scheduler.list()}
        assert {id: _counts(info) for id, info in infos.items()} == COUNTS
        assert {id: await _told(scheduler, id) for id in SCHEDULES} == {
            id: [*TICKS[id], *FURTHER_TICKS[id]] for id in SCHEDULES
        }
        for id, info in infos.items():
            assert (info.running, info.queued) == ((), ()), id
        flow_of: dict[str, Workflow[Any]] = {"asked": flows.approval, "written": flows.report, "hourly": flows.report}
        for run_id, data in SCHEDULED.items():
            flow = flow_of.get(run_id.partition("@")[0])
            if flow is not None:
                assert repr((await kernel.run(flow, {}, run_id=run_id)).data) == repr(data)
        assert (await kernel.history("batch@write many:one"))[-1].changed == {
            "batch": SCHEDULED["batch@write many:one"]["batch"]
        }
    assert witness.steps["written@write:one"] == ["WRITE"]


async def _told(scheduler: Scheduler, id: str) -> list[str]:
    """Return the history of a schedule in words."""
    return [_in_words(tick) for tick in await scheduler.history(id)]


def _in_words(tick: Tick) -> str:
    words = " ".join(word for word in (tick.kind, tick.outcome, tick.reason) if word is not None)
    if tick.run_id is not None:
        return words + ("" if tick.nominal is None else f", {tick.nominal:%d %H:%M}") + f": {tick.run_id}"
    return f"{words}, {tick.times} from {tick.nominal:%d %H:%M} to {tick.last:%d %H:%M}"


def _counts(info: FlowInfo) -> tuple[str, int, int, int, int, int]:
    return info.state, info.run_count, info.fired, info.late, info.skipped, info.failures
