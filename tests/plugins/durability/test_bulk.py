"""Actions on many runs: what is done, what is refused and why, how fast, and what a second call finds left to do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    BulkReport,
    ConfigurationError,
    FilterError,
    Kernel,
    Pace,
    RunFilter,
    RunStatus,
    StoreUnavailableError,
    TaskConfig,
    Workflow,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Trip:
    """Runs that end, fail, wait or hang in state PAY, as their data says, unless it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.gate = asyncio.Event()
        self.does_after_hang: Exception | None = None
        self.paid: list[str] = []

    async def pay(self, store: Any) -> Any:
        """Do what the data says."""
        does = store["does"]
        if does == "hang":
            await self.gate.wait()
            if self.does_after_hang is not None:
                raise self.does_after_hang
        if does == "wait":
            return wait_for("go", then="END")
        if does == "broken" or (does == "fail" and not self.mended):
            raise OSError("the bank is down")
        self.paid.append(does)
        return "END"

    def flow(self, name: str = "trip") -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("PAY", name=name, default_config=TaskConfig.minimal())
        return flow.register("PAY", self.pay).add_exit_state("END")

    async def start(self, kernel: Kernel, world: World, name: str = "trip", **runs: str) -> None:
        """Start runs, a second after each other, and let them come as far as they can."""
        for run_id, does in runs.items():
            await kernel.start(self.flow(name), {"does": does}, run_id=run_id)
            await world.settle()
            await world.clock.advance(1)


@pytest.fixture
def trip() -> Trip:
    """The runs' workflow."""
    return Trip()


async def statuses(kernel: Kernel) -> dict[str, RunStatus]:
    """The status of each run."""
    return {run.run_id: run.status for run in await kernel.runs()}


async def audited(kernel: Kernel, action: str) -> list[str | None]:
    """The runs that the audit has this action of; none if the store keeps no audit."""
    assert kernel.backend is not None
    entries = await kernel.audit() if kernel.backend.capabilities.audit else []
    return [entry.run_id for entry in entries if entry.action == action]


async def test_all_that_failed_continue(kernel: Kernel, world: World, trip: Trip, caplog: Any) -> None:
    """Failed runs continue from where they failed; those that fail again are reported, not logged as unasked."""
    caplog.set_level(logging.WARNING, "cano")
    await trip.start(kernel, world, a="fail", b="broken", c="", d="fail")
    await trip.start(kernel, world, "other", e="fail")
    caplog.clear()
    trip.mended = True
    found = await kernel.resume_many(trip.flow(), "status = failed and error = OSError", dry_run=True)
    reason = "it is a run of workflow 'other', not 'trip'"
    assert found == BulkReport(4, 3, {"e": reason}, {})
    assert [run.run_id for run in await kernel.runs(status="failed")] == ["e", "d", "b", "a"]

    report = await kernel.resume_many(trip.flow(), "status = failed and error = OSError")
    assert report[:3] == (4, 3, {"e": reason})
    assert list(report.failed) == ["b"]
    assert "OSError: the bank is down" in report.failed["b"]
    assert [record.message for record in caplog.records if "no caller asks" in record.message] == []
    assert {run_id for run_id, status in (await statuses(kernel)).items() if status is RunStatus.SUCCEEDED} == {*"acd"}
    assert await audited(kernel, "resume") in ([], ["d", "b", "a"])
    assert (await kernel.resume_many(trip.flow(), "workflow = trip and status = failed"))[:3] == (1, 1, {})


async def test_what_cannot_be_resumed_is_refused(kernel: Kernel, world: World, trip: Trip) -> None:
    """Ended, cancelled, live, parked runs, and those of a changed definition are named, each with its reason."""
    other = await world.kernel()
    await trip.start(kernel, world, done="", parked="wait", cancelled="wait", changed="fail")
    await kernel.cancel("cancelled")
    await trip.start(other, world, live="hang")
    changed = Workflow("PAY", name="trip").register("PAY", trip.pay).add_exit_states(["END", "LOST"])
    report = await kernel.resume_many(changed, RunFilter())
    holder = (await world.look("live")).holder
    assert report.matched == 5
    assert report.done == 0
    assert report.refused["live"] == f"it is executed by {holder}"
    assert report.refused["done"] == "it has ended: succeeded"
    assert report.refused["cancelled"] == "it has ended: cancelled"
    assert "definition" in report.refused["changed"]
    report = await kernel.resume_many(trip.flow(), "status = parked")
    assert report == BulkReport(1, 0, {"parked": "it is parked, and what it waits for has not come"}, {})
    trip.gate.set()
    await world.settle()


async def test_runs_are_acted_on_at_a_rate(kernel: Kernel, world: World, trip: Trip, monkeypatch: Any) -> None:
    """`rate` is by the kernel's clock; each run is reported; refused ones take no time; pages leave out none."""
    monkeypatch.setattr("cano.run_filter.PAGE", 2)
    await trip.start(kernel, world, a="wait", b="wait", c="", d="wait", e="wait", f="wait")
    begun, told = world.clock.monotonic(), list[tuple[float, int, int]]()

    def progress(report: BulkReport) -> None:
        told.append((world.clock.monotonic() - begun, report.matched, report.done))

    cancelling = asyncio.ensure_future(kernel.cancel_many("workflow = trip", rate=0.5, progress=progress))
    for _ in range(9):
        await world.clock.advance(1)
    assert await cancelling == BulkReport(6, 5, {"c": "it has ended: succeeded"}, {})
    assert told == [(0, 1, 1), (2, 2, 2), (4, 3, 3), (4, 4, 3), (6, 5, 4), (8, 6, 5)]
    assert {status for run_id, status in (await statuses(kernel)).items() if run_id != "c"} == {RunStatus.CANCELLED}
    assert await audited(kernel, "cancel") in ([], [*"fedba"])


async def test_a_cancelled_call_stops_between_two_runs(kernel: Kernel, world: World, trip: Trip) -> None:
    """What was resumed goes on; a second call does the rest."""
    await trip.start(kernel, world, a="fail", b="fail", c="fail")
    trip.mended = True
    resuming = asyncio.ensure_future(kernel.resume_many(trip.flow(), "status = failed", rate=1))
    await world.clock.advance(1)
    resuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resuming
    await world.settle()
    left = [run.run_id for run in await kernel.runs(status="failed")]
    assert left == ["a"]
    assert (await kernel.resume_many(trip.flow(), "workflow = trip and status = failed")) == BulkReport(
        1, 1, {}, {}, {"succeeded": 1}
    )
    assert trip.paid == ["fail"] * 3


async def test_failures_after_a_cancelled_call_are_logged(
    kernel: Kernel, world: World, trip: Trip, caplog: Any
) -> None:
    """No report has the error of a run that fails again before or after its call was cancelled: the log has it."""
    await trip.start(kernel, world, a="hang", b="broken", c="fail")
    await world.crash(kernel)
    await world.lapse()
    kernel = await world.kernel()
    caplog.clear()
    resuming = asyncio.ensure_future(kernel.resume_many(trip.flow(), "state = PAY", rate=1))
    for _ in range(3):
        await world.clock.advance(1)
    assert "a" in kernel.active
    resuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resuming
    trip.does_after_hang = OSError("late")
    trip.gate.set()
    await world.settle()
    logged = [record.getMessage().split(" failed")[0] for record in caplog.records if "no caller asks" in record.msg]
    assert sorted(logged) == ["run a", "run b", "run c"]


async def test_a_store_that_does_not_answer_ends_the_call(
    kernel: Kernel, world: World, trip: Trip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the runs' fault, so none is refused; the next call does the rest."""
    await trip.start(kernel, world, a="wait", b="wait")
    honest, asked = world.store(kernel).load, list[str]()

    async def load(run_id: str) -> Any:
        asked.append(run_id)
        if run_id == "a":
            raise StoreUnavailableError("no answer")
        return await honest(run_id)

    monkeypatch.setattr(world.store(kernel), "load", load)
    with pytest.raises(StoreUnavailableError, match="no answer"):
        await kernel.cancel_many("status = parked")
    monkeypatch.undo()
    assert (await statuses(kernel))["b"] is RunStatus.CANCELLED
    assert await kernel.cancel_many("status = parked") == BulkReport(1, 1, {}, {})


async def test_a_run_that_changed_is_left_alone(kernel: Kernel, world: World, trip: Trip) -> None:
    """Each run is looked at again: one that went on since it was listed is not cancelled."""
    await trip.start(kernel, world, a="wait", b="wait")
    cancelling = asyncio.ensure_future(kernel.cancel_many("status = parked", rate=1))
    await world.settle()
    await kernel.signal("a", "go")
    await world.settle()
    await world.clock.advance(1)
    assert await cancelling == BulkReport(2, 1, {"a": "it no longer matches: it is succeeded in END"}, {})


async def test_signals_and_forks(kernel: Kernel, world: World, trip: Trip) -> None:
    """With an id a run gets one signal only; forks of forks are not made, and an id in use is refused."""
    await trip.start(kernel, world, a="wait", b="wait", c="")
    forked = await kernel.fork_many("state = END and status = parked", "-2")
    assert forked == BulkReport(2, 2, {}, {})
    again = await kernel.fork_many(RunFilter(workflow="trip", limit=4), "-2")
    assert (again.matched, again.done) == (4, 3)  # two forks and c
    assert "the run id 'b-2' is in use" in again.refused["b"]
    assert sorted(map(str, await audited(kernel, "fork"))) in ([], ["a-2", "a-2-2", "b-2", "b-2-2", "c-2"])

    sent = await kernel.signal_many("created < 0s ago", "go", id="once")
    assert sent.refused["c"] == "it has ended: succeeded"
    await world.settle()
    assert (await statuses(kernel))["a"] is (await statuses(kernel))["b"] is RunStatus.SUCCEEDED


async def test_wrong_arguments_are_refused(kernel: Kernel, trip: Trip) -> None:
    """Nothing stands for all runs but a filter without fields; a rate is positive."""
    wrong: Any = None
    with pytest.raises(FilterError, match="a condition is missing"):
        await kernel.cancel_many("")
    with pytest.raises(ConfigurationError, match="where must be a text or a RunFilter, not None"):
        await kernel.cancel_many(wrong)
    paces: list[Pace] = [{"rate": 0}, {"rate": -1}, {"rate": float("nan")}]
    for pace in paces:
        with pytest.raises(ConfigurationError, match="rate must be a positive number of runs per second"):
            await kernel.resume_many(trip.flow(), "state = PAY", **pace)
    with pytest.raises(ConfigurationError, match="suffix must be a string that is not empty"):
        await kernel.fork_many(RunFilter(), "")
