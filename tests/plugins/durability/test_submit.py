"""Submitted runs are stored and not executed; a worker begins them, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunExistsError,
    RunFilter,
    RunStatus,
    Standstill,
    Workflow,
    WorkflowError,
    current_step,
)

from tests.plugins.durability.conftest import POLL, World

BEGUN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_begun() -> None:
    """Forget the steps of earlier tests."""
    BEGUN.clear()


async def work(store: Any) -> str:
    """Note that the step was begun."""
    BEGUN.append(current_step().run_id)
    store["twice"] = store.get("n", int, 0) * 2
    return "end"


flow: Workflow[Any] = Workflow("work", name="work").register("work", work).add_exit_state("end")


async def test_a_submitted_run_is_queued_until_a_worker_begins_it(world: World, kernel: Kernel) -> None:
    """The caller does not execute it, not even later; its status is queued; a worker begins it and all see its end."""
    attached = await kernel.submit(flow, {"n": 4}, run_id="a")
    await world.clock.advance(10 * POLL)
    record = await world.look("a")
    assert (record.status, record.seq, record.token, record.holder) == (RunStatus.RUNNING, 0, 0, None)
    assert (await kernel.get("a")).status is RunStatus.QUEUED
    assert [run.run_id for run in await kernel.runs(status="queued")] == ["a"]
    assert await kernel.runs(status="queued").count() == 1
    assert await kernel.runs(where="status in (running, interrupted)") == await kernel.runs(status="interrupted") == []
    assert await kernel.check() == []
    assert BEGUN == []

    worker = await world.kernel()
    await worker.recover(flow)
    await world.settle()
    result = await attached.result()
    assert (result.state, result.data) == ("end", {"n": 4, "twice": 8})
    assert await kernel.runs(status="queued") == []
    assert BEGUN == ["a"]


async def test_a_worker_that_waits_begins_what_is_submitted(world: World, kernel: Kernel) -> None:
    """A worker that had nothing to do begins a run that another kernel submits, at its next poll at the latest."""
    worker = await world.kernel()
    await worker.recover(flow, concurrency=1)
    await kernel.submit(flow, run_id="a")
    await world.clock.advance(POLL)
    assert (await kernel.get("a")).status is RunStatus.SUCCEEDED
    await worker.submit(flow, run_id="b")  # the worker's own
    await world.settle()
    assert (await kernel.get("b")).status is RunStatus.SUCCEEDED


async def test_a_submitted_run_can_be_run(world: World, kernel: Kernel) -> None:
    """`run` with its id executes it here, and repeats nothing."""
    await kernel.submit(flow, {"n": 1}, run_id="a")
    assert (await kernel.run(flow, run_id="a")).data == {"n": 1, "twice": 2}
    assert BEGUN == ["a"]


async def test_submitting_again_makes_no_second_run(world: World, kernel: Kernel) -> None:
    """The same id with the same data is the same run, also after its end; other data and `reject` are refused."""
    other = await world.kernel()
    for each in (kernel, other):
        await each.submit(flow, {"n": 1}, run_id="a")
    with pytest.raises(RunExistsError, match="it began with other data"):
        await other.submit(flow, {"n": 2}, run_id="a")
    with pytest.raises(RunExistsError, match="a run with it exists"):
        await other.submit(flow, {"n": 1}, run_id="a", on_existing="reject")
    assert (await other.submit(flow, run_id="a")).run_id == "a"  # no data: whatever it began with
    await other.submit(flow, {"n": 2}, run_id="a", on_existing="return")
    await kernel.run(flow, run_id="a")
    await kernel.submit(flow, {"n": 1}, run_id="a")
    assert BEGUN == ["a"]
    assert len(await kernel.runs()) == 1


async def test_a_delayed_run_begins_after_its_delay(world: World, kernel: Kernel) -> None:
    """No worker begins it before; `explain` says how long it takes; it begins then, in one transition."""
    worker = await world.kernel()
    await worker.recover(flow)
    await kernel.submit(flow, {"n": 3}, run_id="a", delay=timedelta(seconds=50))
    await world.clock.advance(49)
    assert BEGUN == []
    found = await kernel.explain("a")
    assert (found.reason, found.detail) == (Standstill.DELAYED, "for 1.0 s more, in work")
    assert (await kernel.get("a")).status is RunStatus.PARKED
    await world.clock.advance(1 + POLL)
    assert BEGUN == ["a"]
    assert (await kernel.get("a")).data == {"n": 3, "twice": 6}
    assert [entry.seq for entry in await kernel.history("a")] == [0, 1]


async def test_explain_says_how_many_are_queued_before(world: World, kernel: Kernel) -> None:
    """It counts those of the same workflow that are older."""
    other: Workflow[Any] = Workflow("work", name="other").register("work", work).add_exit_state("end")
    for run_id, one in (("a", flow), ("b", other), ("c", flow), ("d", flow)):
        await kernel.submit(one, run_id=run_id)
    await kernel.run(flow, run_id="a")
    found = await kernel.explain("d")
    assert (found.reason, found.detail) == (
        Standstill.QUEUED,
        "in queue default; 1 run of its lane or a larger priority before it",
    )


async def test_queued_and_delayed_runs_can_be_cancelled(world: World, kernel: Kernel) -> None:
    """A cancelled run never begins."""
    await kernel.submit(flow, run_id="a")
    await kernel.submit(flow, run_id="b", delay=5)
    await kernel.submit(flow, run_id="c")
    assert await kernel.cancel("a")
    assert await kernel.cancel("b")
    assert (await kernel.cancel_many("status = queued")).done == 1
    worker = await world.kernel()
    await worker.recover(flow)
    await world.clock.advance(10)
    assert BEGUN == []
    assert {run.status for run in await kernel.runs()} == {RunStatus.CANCELLED}


async def test_a_fork_is_not_queued(world: World, kernel: Kernel) -> None:
    """`resume` executes a fork, as before, so its status is interrupted; the fork of a delayed run waits anew."""
    await kernel.submit(flow, {"n": 1}, run_id="a")
    await kernel.submit(flow, {"n": 1}, run_id="b", delay=5)
    await kernel.fork("a", 0, "c")
    await kernel.fork("b", 0, "d")
    assert (await kernel.get("c")).status is RunStatus.INTERRUPTED
    assert (await kernel.explain("d")).reason is Standstill.WAITING_FOR_TIME
    assert (await kernel.resume(flow, "c")).data == {"n": 1, "twice": 2}


async def test_a_signal_before_the_beginning_is_kept(world: World, kernel: Kernel) -> None:
    """A queued run takes signals, for the wait that it will come to."""
    await kernel.submit(flow, run_id="a")
    await kernel.submit(flow, run_id="b", delay=5)
    assert await kernel.signal("a", "go")
    assert await kernel.signal("b", "go")
    assert ((await kernel.get("a")).status, BEGUN) == (RunStatus.QUEUED, [])
    assert (await kernel.explain("b")).reason is Standstill.DELAYED


async def test_many_are_read_in_groups(world: World, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of an iterator are read as they are stored: no more than a group are in memory."""
    ahead = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal ahead
        for number in range(250):
            ahead = max(ahead, number - len(submitted))
            yield {"n": number}

    submitted: list[object] = []
    faults = world.faults(kernel)
    before = faults.calls["create"]
    backend = kernel.backend
    assert backend is not None
    honest = backend.create

    async def create(*given: Any) -> Any:
        submitted.append(given)
        return await honest(*given)

    monkeypatch.setattr(backend, "create", create)
    assert await kernel.submit_many(flow, rows(), run_id="order") == 250
    assert ahead == 99
    assert faults.calls["create"] - before == 250
    assert {run.run_id for run in await kernel.runs(status="queued")} == {f"order-{n}" for n in range(1, 251)}
    assert (await kernel.get("order-250")).data == {"n": 249}
    assert await kernel.submit_many(flow, rows(), run_id="order") == 250  # what is there stays
    assert len(await kernel.runs()) == 250


async def test_many_of_an_asynchronous_iterator(world: World, kernel: Kernel) -> None:
    """Rows may come from an asynchronous iterator; without an id, each call makes new runs."""

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            yield {"n": number}

    assert [await kernel.submit_many(flow, rows()) for _ in range(2)] == [3, 3]
    assert len(await kernel.runs(status="queued")) == 6


async def test_an_error_ends_a_submission(world: World, kernel: Kernel) -> None:
    """The error of a row is raised after its group, and the groups before it are submitted."""
    rows: list[Any] = [{"n": number} for number in range(150)]
    rows[120] = object()
    with pytest.raises(ConfigurationError, match="must be a mapping, not of type object"):
        await kernel.submit_many(flow, rows, run_id="order")
    assert len(await kernel.runs()) == 149
    with pytest.raises(ConfigurationError, match="rows"):
        await kernel.submit_many(flow, 3)  # type: ignore[arg-type]


async def test_a_store_that_dies_with_its_process_is_refused() -> None:
    """No worker could find the run: the refusal names the store."""
    async with Kernel() as kernel:
        with pytest.raises(ConfigurationError, match=r"the store 'memory://' .*no worker could find"):
            await kernel.submit(flow)
    async with Kernel(discover=False) as kernel:
        with pytest.raises(ConfigurationError, match="needs runs in a store"):
            await kernel.submit(flow)


async def test_a_submitted_run_that_fails_is_reported_to_who_waits(world: World, kernel: Kernel) -> None:
    """Its handle raises the error that the run ended with in another process."""

    async def fail(store: Any) -> str:
        raise ValueError("no stock")

    failing: Workflow[Any] = Workflow("fail", name="failing").register("fail", fail).add_exit_state("end")
    attached = await kernel.submit(failing)
    worker = await world.kernel()
    await worker.recover(failing)
    await world.settle()
    with pytest.raises(WorkflowError, match="no stock"):
        await attached.result()


async def test_queued_runs_slow_no_list_of_others(world: World, kernel: Kernel) -> None:
    """Lists of running and interrupted runs are right, and read few of the runs that wait for a worker."""
    gate = asyncio.Event()

    async def waits(store: Any) -> str:
        await gate.wait()
        return "end"

    slow: Workflow[Any] = Workflow("work", name="slow").register("work", waits).add_exit_state("end")
    for name, closes in (("killed", False), ("closed", True)):
        worker = await world.kernel()
        for each in (1, 2):
            await worker.start(slow, run_id=f"{name} {each}")
        await (world.close if closes else world.crash)(worker)
        await world.clock.advance(1)
    await world.lapse()
    await kernel.start(slow, run_id="here")
    await kernel.submit_many(flow, ({} for _ in range(350)), run_id="waits")
    backend, read = world.store(kernel).backend, list[str]()
    runs, ready = backend.runs, backend.ready

    async def noted(filter: RunFilter) -> Any:
        found = await runs(filter)
        read.extend(record.run_id for record in found)
        return found

    async def noted_ready(*given: Any) -> Any:
        found = await ready(*given)
        read.extend(record.run_id for record in found)
        return found

    backend.runs, backend.ready = noted, noted_ready  # type: ignore[method-assign,assignment]
    try:
        interrupted = [run.run_id for run in await kernel.runs(status="interrupted")]
        assert interrupted == ["closed 2", "closed 1", "killed 2", "killed 1"]
        oldest = await kernel.runs(status="interrupted", order="created", limit=3)
        assert [run.run_id for run in oldest] == interrupted[:0:-1]
        assert await kernel.runs(where="status = interrupted and workflow = slow").count() == 4
        assert await kernel.runs(status="interrupted", workflow="work") == []
        assert [run.run_id for run in await kernel.runs(status="running")] == ["here"]
        assert len(read) < 5 * 130
        pages = [await kernel.runs(status="interrupted", limit=2)]
        pages.append(await kernel.runs(status="interrupted", limit=2, after=pages[0][-1]))
        assert [run.run_id for page in pages for run in page] == interrupted
    finally:
        del backend.runs, backend.ready
    assert await kernel.runs(status="queued").count() == 350
