"""`ConcurrentWorkflow`: results and status, and when the wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cano import (
    Cancelled,
    ConcurrentWorkflow,
    ConcurrentWorkflowStatus,
    ConfigurationError,
    Failed,
    Kernel,
    RunInterruptedError,
    Success,
    TaskError,
    ValidationError,
    WaitStrategy,
    Workflow,
    WorkflowResult,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

Outcome = tuple[list[WorkflowResult[str]], ConcurrentWorkflowStatus]


def flow_of(work: Callable[[Any], Any]) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start", name="one").register("start", work).add_exit_states(["end", "other"])


@pytest.fixture
def flow(clock: VirtualClock) -> Workflow[str]:
    """Runs that last as long as their store says, then fail if it says so."""

    async def work(store: Any) -> str:
        await clock.sleep(store["lasts"])
        if store.get("fails", default=False):
            raise OSError(f"after {store['lasts']}")
        store["done"] = True
        return "end"

    return flow_of(work)


def stores(*lasts: float) -> list[dict[str, Any]]:
    """One store per run, a negative number for one that fails."""
    return [{"lasts": abs(seconds), "fails": seconds < 0} for seconds in lasts]


def shown(results: list[WorkflowResult[str]]) -> str:
    """One letter per result: s(uccess), f(ailed), c(ancelled)."""
    return "".join(type(result).__name__[0].lower() for result in results)


# waiting


@pytest.mark.parametrize(
    ("wait", "lasts", "expected", "seconds", "ended_by"),
    [
        (WaitStrategy.forever(), (3, 1, 2), "sss", 3, "all"),
        (WaitStrategy.forever(), (3, -1, 2), "sfs", 3, "all"),
        (WaitStrategy.forever(), (-1, -1), "ff", 1, "all"),
        (WaitStrategy.forever(), (), "", 0, "all"),
        (None, (1, 2), "ss", 2, "all"),
        (WaitStrategy.quota(1), (3, 1, 2), "csc", 1, "quota"),
        (WaitStrategy.quota(2), (3, 1, -2, 4, 5), "ssfcc", 3, "quota"),
        (WaitStrategy.quota(3), (3, 1, 2), "sss", 3, "quota"),
        (WaitStrategy.quota(1), (-1, -2, 3), "ffs", 3, "quota"),
        (WaitStrategy.quota(3), (3, -1, 2), "cfc", 1, "quota unreachable"),
        (WaitStrategy.quota(2), (-1, -2, 3), "ffc", 2, "quota unreachable"),
        (WaitStrategy.quota(1), (-1, -1), "ff", 1, "quota unreachable"),
        (WaitStrategy.duration(2.5), (3, 1, 2), "css", 2.5, "duration"),
        (WaitStrategy.duration(2.5), (-3, -1, 2), "cfs", 2.5, "duration"),
        (WaitStrategy.duration(9), (3, 1, 2), "sss", 3, "all"),
        (WaitStrategy.duration(0.5), (3, 1), "cc", 0.5, "duration"),
        (WaitStrategy.quota_or_duration(2, 9), (3, 1, 2), "css", 2, "quota"),
        (WaitStrategy.quota_or_duration(2, 1.5), (3, 1, 2), "csc", 1.5, "duration"),
        (WaitStrategy.quota_or_duration(2, 9), (-3, -1, 2), "ffs", 3, "quota unreachable"),
        (WaitStrategy.quota_or_duration(3, 9), (3, -1, 2), "cfc", 1, "quota unreachable"),
    ],
)
async def test_when_the_wait_ends(
    kernel: Kernel,
    clock: VirtualClock,
    flow: Workflow[str],
    wait: WaitStrategy | None,
    lasts: tuple[float, ...],
    expected: str,
    seconds: float,
    ended_by: str,
) -> None:
    """Each strategy ends the wait as soon as it is decided, and tells what decided it."""
    results, status = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(stores(*lasts), wait)

    assert shown(results) == expected
    assert clock.monotonic() == seconds
    assert status == ConcurrentWorkflowStatus(
        total_workflows=len(lasts),
        completed=expected.count("s"),
        failed=expected.count("f"),
        cancelled=expected.count("c"),
        duration=seconds,
        ended_by=ended_by,
    )
    assert status.is_complete
    assert status.running == 0


async def test_results_carry_what_became_of_the_runs(kernel: Kernel, flow: Workflow[str]) -> None:
    """A success has its exit state, a failure the error with the user's exception as cause."""
    results, _ = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(
        stores(1, -2, 9), WaitStrategy.duration(5)
    )

    assert results[0] == Success("end")
    assert isinstance(results[1], Failed)
    assert isinstance(results[1].error, TaskError)
    assert repr(results[1].error.__cause__) == "OSError('after 2')"
    assert results[2] == Cancelled()


async def test_results_come_in_the_order_of_the_stores(kernel: Kernel, clock: VirtualClock) -> None:
    """However the runs overtake each other, also with a limit."""

    async def work(store: Any) -> str:
        await clock.sleep(store["number"] * 7 % 11)
        return "end" if store["number"] % 2 else "other"

    expected = [Success("end" if number % 2 else "other") for number in range(50)]
    for limit in (None, 1, 3):
        batch = ConcurrentWorkflow(flow_of(work), limit=limit, kernel=kernel)
        results, _ = await batch.execute_concurrent([{"number": number} for number in range(50)])
        assert results == expected


async def test_a_run_cancelled_by_itself_is_cancelled(kernel: Kernel) -> None:
    """A run whose own task cancels it has not failed."""

    async def work(store: Any) -> str:
        if store["n"] == 1:
            run = asyncio.current_task()
            assert run is not None
            run.cancel()
            await asyncio.sleep(0)
        return "end"

    batch = ConcurrentWorkflow(flow_of(work), kernel=kernel)
    results, status = await batch.execute_concurrent([{"n": n} for n in range(3)])

    assert shown(results) == "scs"
    assert (status.cancelled, status.ended_by) == (1, "all")


async def test_the_rest_is_cancelled_and_awaited(kernel: Kernel, clock: VirtualClock) -> None:
    """What still runs when the quota is met has cleaned up before the call returns."""
    cleaned: list[int] = []

    async def work(store: Any) -> str:
        try:
            await clock.sleep(store["lasts"])
        finally:
            await clock.sleep(0.25)
            cleaned.append(store["lasts"])
        return "end"

    results, status = await ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent(
        stores(1, 50, 60), WaitStrategy.quota(1)
    )

    assert shown(results) == "scc"
    assert cleaned == [1, 50, 60]
    assert status.duration == clock.monotonic() == 1.5


async def test_a_run_that_swallows_its_cancellation_cannot_hold_up_the_batch(
    kernel: Kernel, clock: VirtualClock
) -> None:
    """It is cancelled again after a second, as often as it takes, and has not succeeded."""
    swallowed: list[float] = []

    async def stubborn(store: Any) -> str:
        while len(swallowed) < 3:
            try:
                await clock.sleep(1000)
            except asyncio.CancelledError:
                swallowed.append(clock.monotonic())
        await clock.sleep(1000)
        return "end"

    results, _ = await ConcurrentWorkflow(flow_of(stubborn), kernel=kernel).execute_concurrent(
        [{}], WaitStrategy.duration(10)
    )

    assert results == [Cancelled()]
    assert swallowed == [10, 11, 12]
    assert clock.monotonic() == 13


async def test_steps_that_were_cut_off_leave_no_trace(kernel: Kernel, clock: VirtualClock) -> None:
    """A cancelled run's store has what its finished steps wrote, and nothing of the one that was cut off."""

    async def first(store: Any) -> str:
        store["first"] = True
        return "second"

    async def second(store: Any) -> str:
        store["half"] = True
        await clock.sleep(store["lasts"])
        store["whole"] = True
        return "end"

    flow = Workflow("first").register("first", first).register("second", second).add_exit_state("end")
    data: list[Any] = [{"lasts": 1}, {"lasts": 9}, MemoryStore({"lasts": 9})]
    await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(data, WaitStrategy.quota(1))

    assert data[0] == {"lasts": 1, "first": True, "half": True, "whole": True}
    assert data[1] == {"lasts": 9, "first": True}
    assert dict(data[2].live()) == {"lasts": 9, "first": True}


async def test_cancelling_the_caller_cancels_the_batch(
    kernel: Kernel, clock: VirtualClock, flow: Workflow[str]
) -> None:
    """All runs have ended, and no more are begun, when the cancellation arrives where the batch is awaited."""
    begun: list[int] = []

    def source() -> Any:
        for number in range(100):
            begun.append(number)
            yield {"lasts": 10}

    batch = ConcurrentWorkflow(flow, limit=3, kernel=kernel)
    caller = asyncio.create_task(batch.execute_concurrent(source()))
    await clock.sleep(15)
    assert len(kernel.active) == 3
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert kernel.active == {}
    assert len(begun) == 6
    assert clock.monotonic() == 15


async def test_cancelling_the_caller_twice(kernel: Kernel, clock: VirtualClock) -> None:
    """An impatient caller still gets a batch that has ended whole."""
    cleaned: list[str] = []

    async def work(store: Any) -> str:
        try:
            await clock.sleep(100)
        finally:
            await clock.sleep(0.5)
            cleaned.append("yes")
        return "end"

    caller = asyncio.create_task(ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent([{}, {}]))
    await clock.sleep(1)
    caller.cancel()
    await clock.sleep(0.25)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert cleaned == ["yes", "yes"]


async def test_a_timeout_around_the_batch(kernel: Kernel, clock: VirtualClock, flow: Workflow[str]) -> None:
    """`asyncio.timeout` works as around anything else."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0) as limit:
            await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(stores(5, 6))

    assert limit.expired()
    assert kernel.active == {}


async def test_the_kernel_closes_under_a_batch(clock: VirtualClock, flow: Workflow[str]) -> None:
    """Its runs are interrupted, and the batch ends with that as their error."""
    kernel = Kernel(discover=False, clock=clock, grace=2)
    caller = asyncio.create_task(ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(stores(2, 50)))
    await clock.sleep(1)
    await kernel.close()
    results, status = await caller

    assert results[0] == Success("end")
    assert isinstance(results[1], Failed)
    assert isinstance(results[1].error, RunInterruptedError)
    assert (status.completed, status.failed, status.ended_by) == (1, 1, "all")
    assert clock.monotonic() == 3


class Stop(BaseException):
    """A user's own exception that is no `Exception`."""


async def test_a_base_exception_ends_the_batch(kernel: Kernel, clock: VirtualClock) -> None:
    """It is no result of a run: it is raised as itself, after the other runs were cancelled and awaited."""
    stop, ended = Stop("now"), []

    async def work(store: Any) -> str:
        try:
            await clock.sleep(store["lasts"])
            raise stop
        finally:
            ended.append(store["lasts"])

    with pytest.raises(Stop) as caught:
        await ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent(stores(5, 2, 9))

    assert caught.value is stop
    assert ended == [2, 5, 9]
    assert clock.monotonic() == 2


# stores


@dataclass
class Order:
    """A store of the user's own."""

    amount: int
    note: str = ""


async def test_stores_of_all_kinds_in_one_batch(kernel: Kernel) -> None:
    """Dicts, `MemoryStore`s and objects are each handed over, and changed, as `orchestrate` does it."""

    async def work(store: Any) -> str:
        if isinstance(store, Order):
            store.note = f"{store.amount} paid"
        else:
            store["note"] = f"{store['amount']} paid"
        return "end"

    memory, plain, order = MemoryStore({"amount": 1}), {"amount": 2}, Order(3)
    results, _ = await ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent([memory, plain, order])

    assert shown(results) == "sss"
    assert memory["note"] == "1 paid"
    assert plain == {"amount": 2, "note": "2 paid"}
    assert order == Order(3, "3 paid")


async def test_a_tuple_and_a_set_of_stores(kernel: Kernel) -> None:
    """Any collection will do."""

    async def work(store: Any) -> str:
        return "end"

    for stores in ((Order(1), Order(2)), {MemoryStore(), MemoryStore()}):
        results, status = await ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent(stores)
        assert results == [Success("end")] * 2
        assert status.total_workflows == 2


async def test_one_batch_object_serves_many_batches_at_once(
    kernel: Kernel, clock: VirtualClock, flow: Workflow[str]
) -> None:
    """It holds nothing of a batch."""
    batch = ConcurrentWorkflow(flow, limit=1, kernel=kernel)

    (first, one), (second, two) = await asyncio.gather(
        batch.execute_concurrent(stores(1, 2)), batch.execute_concurrent(stores(2, -2, 2))
    )

    assert (shown(first), shown(second)) == ("ss", "sfs")
    assert (one.duration, two.duration) == (3, 6)


async def test_the_default_kernel(clock: VirtualClock) -> None:
    """Without a kernel the default one runs the batch, with no further ado."""

    async def work(store: Any) -> str:
        store["done"] = True
        return "end"

    stores: list[dict[str, Any]] = [{}, {}]
    results, _ = await ConcurrentWorkflow(flow_of(work)).execute_concurrent(stores, WaitStrategy.forever())

    assert results == [Success("end")] * 2
    assert stores == [{"done": True}] * 2


# progress


async def test_progress_is_told_after_every_run(kernel: Kernel, clock: VirtualClock, flow: Workflow[str]) -> None:
    """The status then has the run's result in it; the last one is complete."""
    seen: list[ConcurrentWorkflowStatus] = []
    batch = ConcurrentWorkflow(flow, kernel=kernel, progress=seen.append)

    _, status = await batch.execute_concurrent(stores(1, -2, 3, 9), WaitStrategy.duration(5))

    counts = [(s.completed, s.failed, s.cancelled, s.running, s.duration) for s in seen]
    assert counts == [(1, 0, 0, 3, 1), (1, 1, 0, 2, 2), (2, 1, 0, 1, 3), (2, 1, 1, 0, 5)]
    assert [s.ended_by for s in seen] == [None, None, None, "duration"]
    assert seen[-1] == status


async def test_progress_that_raises_stops_nothing(kernel: Kernel, flow: Workflow[str]) -> None:
    """It is reported once, and counted."""
    calls: list[int] = []

    def broken(status: ConcurrentWorkflowStatus) -> None:
        calls.append(status.completed)
        raise ZeroDivisionError

    results, _ = await ConcurrentWorkflow(flow, kernel=kernel, progress=broken).execute_concurrent(stores(1, 2, 3))

    assert shown(results) == "sss"
    assert calls == [1, 2, 3]
    assert list(kernel.observer_errors.values()) == [3]


# what is refused


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3", None])
def test_a_quota_must_be_a_positive_number(n: Any) -> None:
    """What can be known without the stores is refused without them."""
    with pytest.raises(ConfigurationError, match="quota"):
        WaitStrategy.quota(n)
    with pytest.raises(ConfigurationError, match="quota"):
        WaitStrategy.quota_or_duration(n, 5)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "3", None])
def test_a_duration_must_be_positive(seconds: Any) -> None:
    """A batch that may last no time is a mistake."""
    with pytest.raises(ConfigurationError, match="duration"):
        WaitStrategy.duration(seconds)
    with pytest.raises(ConfigurationError, match="duration"):
        WaitStrategy.quota_or_duration(1, seconds)


@pytest.mark.parametrize("wait", [WaitStrategy.quota(3), WaitStrategy.quota_or_duration(3, 60)])
async def test_a_quota_above_the_number_of_stores_is_refused(
    kernel: Kernel, flow: Workflow[str], wait: WaitStrategy
) -> None:
    """Where the number is known, before any run begins."""
    data = stores(1, 1)

    with pytest.raises(ConfigurationError, match="a quota of 3 over 2 store"):
        await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(data, wait)
    assert not any("done" in store for store in data)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_a_limit_must_be_a_positive_number(flow: Workflow[str], limit: Any) -> None:
    """Or None."""
    with pytest.raises(ConfigurationError, match="limit must be a whole number, 1 or more, or None"):
        ConcurrentWorkflow(flow, limit=limit)


async def test_other_wrong_arguments(kernel: Kernel, flow: Workflow[str]) -> None:
    """What is no workflow, no wait, no collection, or unknown, raises."""
    wrong: Any = "flow"
    with pytest.raises(ConfigurationError, match="flow must be a Workflow"):
        ConcurrentWorkflow(wrong)
    with pytest.raises(ConfigurationError, match="wait must be a WaitStrategy"):
        await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent([{}], wrong)
    one_store: list[Any] = [5, "abc", {"lasts": 1}, MemoryStore({"lasts": 1}), Order(1)]
    for unusable in one_store:
        with pytest.raises(ConfigurationError, match="stores must be a list or an"):
            await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(unusable)
    unknown: dict[str, Any] = {"limits": 5}
    with pytest.raises(TypeError, match="limits"):
        ConcurrentWorkflow(flow, **unknown)


async def test_a_wrong_workflow_is_refused_before_any_run(kernel: Kernel) -> None:
    """The definition is the batch's mistake, not that of each run."""
    with pytest.raises(ValidationError):
        await ConcurrentWorkflow(Workflow("start"), kernel=kernel).execute_concurrent([{}])
