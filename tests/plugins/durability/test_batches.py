"""Batches in a store: a run with a child for each input, which continues after a crash where it was."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConcurrentWorkflow,
    ConcurrentWorkflowStatus,
    ConfigurationError,
    ConflictError,
    DurableBatch,
    Failed,
    InputsChangedError,
    Kernel,
    Key,
    Retention,
    RunCancelledError,
    RunExistsError,
    RunFilter,
    RunInterruptedError,
    RunStatus,
    Standstill,
    StoreUnavailableError,
    Success,
    WaitStrategy,
    Workflow,
    wait_for,
)
from cano.testing import Faults, FaultyStore, VirtualClock
from cano_durability.batches.digests import BLOCK
from cano_memory import MemoryBackend

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Works:
    """A workflow whose runs double a number, and what they did. Some wait for a gate, fail, or hang."""

    def __init__(self) -> None:
        self.did: Counter[int] = Counter()
        self.peak = self.now = 0
        self.gates: dict[int, asyncio.Event] = {}
        self.bad: set[int] = set()
        self.flow: Workflow[str] = Workflow("work", name="item")
        self.flow.register("work", self.work).add_exit_state("end")

    def gate(self, number: int) -> asyncio.Event:
        """Let the run of a number wait until this is set."""
        return self.gates.setdefault(number, asyncio.Event())

    async def work(self, store: Any) -> str:
        """The only step."""
        number = store["n"]
        self.did[number] += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            if number in self.gates:
                await self.gates[number].wait()
            if number in self.bad:
                raise ConnectionError(number)
        finally:
            self.now -= 1
        store["twice"] = 2 * number
        return "end"

    def batch(self, kernel: Kernel, inputs: Any, wait: WaitStrategy | None = None, **options: Any) -> DurableBatch[str]:
        """The batch "b" of these workflows."""
        concurrent = ConcurrentWorkflow(self.flow, kernel=kernel, **{"limit": 3, **options})
        return concurrent.execute_durable(inputs, "b", wait)


@pytest.fixture
def works() -> Works:
    """A workflow."""
    return Works()


def numbers(last: int) -> list[dict[str, int]]:
    """Inputs with the numbers from 1."""
    return [{"n": number} for number in range(1, last + 1)]


def counted(status: ConcurrentWorkflowStatus) -> tuple[int, int, int, int, str | None]:
    """The status without its seconds."""
    return (status.total_workflows, status.completed, status.failed, status.cancelled, status.ended_by)


async def children(kernel: Kernel) -> dict[str, RunStatus]:
    """The children of the batch."""
    return {run.run_id: run.status for run in await kernel.runs(parent="b")}


async def execute(batch: DurableBatch[str]) -> ConcurrentWorkflowStatus:
    """A coroutine of a batch, for a task."""
    return await batch


class Begun:
    """A batch that executes in the background."""

    def __init__(self, world: World, batch: DurableBatch[str]) -> None:
        self._world = world
        self.task = asyncio.ensure_future(execute(batch))

    async def __aenter__(self) -> asyncio.Task[ConcurrentWorkflowStatus]:
        await self._world.settle()
        return self.task

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


# executing


async def test_each_input_has_a_child(world: World, kernel: Kernel, works: Works) -> None:
    """The batch is a run whose data are the counts; its children have their own records, and are never too many."""
    works.bad = {4}
    gates = [works.gate(number) for number in (1, 2, 3, 4, 5)]
    batch = works.batch(kernel, numbers(10))
    async with Begun(world, batch) as task:
        assert works.peak == 3
        for gate in gates:
            gate.set()
        status = await task

    assert counted(status) == (10, 9, 1, 0, "all")
    assert batch.status is status
    assert works.peak == 3
    view = await kernel.get("b")
    assert (view.status, view.workflow, view.state) == (RunStatus.SUCCEEDED, "item batch", "DONE")
    assert view.data == {"inputs": 10, "succeeded": 9, "failed": 1, "cancelled": 0, "ended_by": "all"}
    known = await children(kernel)
    assert known.pop("b/4") is RunStatus.FAILED
    assert known == {f"b/{number}": RunStatus.SUCCEEDED for number in range(1, 11) if number != 4}
    assert (await kernel.get("b/7")).data == {"n": 7, "twice": 14}


async def test_outcomes_are_streamed(kernel: Kernel, works: Works) -> None:
    """An iteration has an outcome for each input, with the run's data; for one that failed, with the error."""
    works.bad = {2}
    batch = works.batch(kernel, numbers(4))
    outcomes = {outcome.number: outcome async for outcome in batch}

    assert sorted(outcomes) == [1, 2, 3, 4]
    first, second = outcomes[1], outcomes[2]
    assert (first.run_id, first.result) == ("b/1", Success("end"))
    assert first.run is not None
    assert (first.run.data, first.run.steps) == ({"n": 1, "twice": 2}, 1)
    assert isinstance(second.result, Failed)
    assert isinstance(second.result.error.__cause__, ConnectionError)
    assert second.run is None
    assert batch.status is not None
    assert counted(batch.status) == (4, 3, 1, 0, "all")


async def test_inputs_are_read_as_runs_start(kernel: Kernel, world: World, works: Works) -> None:
    """An iterator is read only up to the limit; a loop whose body is slow holds it up as well."""
    read: list[int] = []

    def inputs() -> Iterator[dict[str, int]]:
        for number in range(1, 100):
            read.append(number)
            yield {"n": number}

    batch = works.batch(kernel, inputs())
    iterator = batch.__aiter__()
    await iterator.__anext__()
    await world.settle()

    assert len(read) < 12
    await iterator.aclose()  # type: ignore[attr-defined]  # it is a generator
    explanation = await kernel.explain("b")
    assert explanation.reason is Standstill.WAITING_FOR_INPUTS


async def test_async_iterators_and_keys(kernel: Kernel, works: Works) -> None:
    """Inputs may come from an async iterator, and name their keys by `Key`s."""
    number = Key("n", int)

    async def inputs() -> AsyncIterator[dict[Any, int]]:
        for each in (1, 2, 3):
            yield {number: each}

    assert counted(await works.batch(kernel, inputs())) == (3, 3, 0, 0, "all")
    assert works.did == {1: 1, 2: 1, 3: 1}


async def test_an_unreadable_input_counts_as_failed(kernel: Kernel, works: Works) -> None:
    """A `Failed` in place of an input needs no run; nor does one that cannot be stored."""
    inputs: list[Any] = [{"n": 1}, Failed(ValueError("line 2")), {"n": object()}]
    outcomes = {outcome.number: outcome.result async for outcome in works.batch(kernel, inputs)}

    assert outcomes[2] == inputs[1]
    assert isinstance(outcomes[3], Failed)
    assert "key 'n'" in str(outcomes[3].error)
    assert await children(kernel) == {"b/1": RunStatus.SUCCEEDED}


async def test_progress_is_stored(kernel: Kernel, world: World, works: Works) -> None:
    """Other processes see how many of how many runs have ended; a callback gets the status."""
    works.bad, gate = {1}, works.gate(4)
    seen: list[ConcurrentWorkflowStatus] = []
    async with Begun(world, works.batch(kernel, numbers(5), limit=1, progress=seen.append)):
        await world.clock.advance(2)
        other = await world.kernel()
        view = await other.get("b")
        assert view.progress is not None
        assert tuple(view.progress) == (3, 5, "runs, 1 failed")
        explanation = await other.explain("b")
        assert explanation.reason is Standstill.RUNNING_ELSEWHERE
        assert explanation.detail.endswith("; 3 runs have ended")
        gate.set()
        await world.settle()
    assert [(status.completed, status.failed) for status in seen] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]


# continuing


@pytest.mark.parametrize("stored", [True, False])
async def test_a_killed_batch_continues(world: World, kernel: Kernel, works: Works, stored: bool) -> None:
    """Runs that have ended are not repeated, whether the last position counts them or not; the others begin again."""
    works.bad, gate = {2}, works.gate(6)
    async with Begun(world, works.batch(kernel, numbers(9))):
        await world.clock.advance(2 if stored else 0)
        assert works.did.keys() == set(range(1, 10))
        await world.crash(kernel)
    await world.lapse()
    gate.set()
    other = await world.kernel()
    explanation = await other.explain("b")
    status = await works.batch(other, numbers(9))

    assert explanation.reason is Standstill.WAITING_FOR_INPUTS
    assert counted(status) == (9, 8, 1, 0, "all")
    assert works.did == {**dict.fromkeys(range(1, 10), 1), 6: 2}


async def test_known_inputs_are_skipped_without_the_store(world: World, kernel: Kernel, works: Works) -> None:
    """A batch that continues makes no call for the inputs that its position counts: only for those in between."""
    works.gate(1)
    async with Begun(world, works.batch(kernel, numbers(60))):
        await world.clock.advance(2)  # the position is stored at least once a second
    works.gates.clear()
    created: list[str] = []
    backend = world.store(kernel).backend
    create = type(backend).create

    async def counting(self: Any, run: Any, *audit: Any) -> Any:
        created.append(run.run_id)
        return await create(self, run, *audit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(backend), "create", counting)
        assert counted(await works.batch(kernel, numbers(60))) == (60, 60, 0, 0, "all")
    assert created == ["b", "b/1"]


async def test_a_batch_that_has_ended_is_not_fed(kernel: Kernel, works: Works) -> None:
    """The same call again has the status, and reads no input."""
    first = await works.batch(kernel, numbers(3))

    def never() -> Iterator[dict[str, int]]:
        raise AssertionError
        yield {}

    again = works.batch(kernel, never())
    assert [outcome async for outcome in again] == []
    assert again.status is not None
    assert counted(again.status) == counted(first)
    assert sum(works.did.values()) == 3


async def test_more_inputs_may_follow(world: World, kernel: Kernel, works: Works) -> None:
    """While a batch has not ended, inputs may be added at the end, as lines to a file."""
    gate = works.gate(3)
    async with Begun(world, works.batch(kernel, numbers(3))):
        pass
    gate.set()
    assert counted(await works.batch(kernel, numbers(5))) == (5, 5, 0, 0, "all")


async def test_two_callers_share_a_batch(world: World, kernel: Kernel, works: Works) -> None:
    """A second process with the same inputs waits for the first, and continues the batch if that dies."""
    gate = works.gate(2)
    other = await world.kernel()
    async with Begun(world, works.batch(kernel, numbers(4))), Begun(world, works.batch(other, numbers(4))) as second:
        await world.crash(kernel)
        gate.set()
        await world.lapse()
        await world.clock.advance(5)
        assert counted(await second) == (4, 4, 0, 0, "all")
    assert works.did[1] == works.did[3] == 1


async def test_another_process_recovers_the_children(world: World, kernel: Kernel, works: Works) -> None:
    """A worker without the inputs executes the children that were begun, but not the batch itself."""
    gate = works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(8), limit=2)):
        await world.clock.advance(2)
        works.gate(1)
        await world.crash(kernel)
    await world.lapse()
    gate.set()
    worker = await world.kernel()
    handles = await worker.recover(works.flow)
    for handle in handles:
        await handle.result()

    assert [handle.run_id for handle in handles] == ["b/2"]
    assert str(await worker.explain("b")) == (
        "no process feeds this batch; run it again with the same id and the same inputs: 7 runs have ended"
    )
    assert counted(await works.batch(worker, numbers(8))) == (8, 8, 0, 0, "all")
    assert works.did == {**dict.fromkeys(range(1, 9), 1), 2: 2}


async def test_a_parked_child_keeps_its_slot(world: World, kernel: Kernel) -> None:
    """Children may wait for a signal; the batch waits for them, and keeps no signal of their ends."""
    flow: Workflow[Any] = Workflow("ask", name="asking").add_exit_state("end")
    flow.register("ask", lambda store: wait_for("go", then="end"))
    batch = ConcurrentWorkflow(flow, kernel=kernel, limit=2).execute_durable(numbers(3), "b")
    async with Begun(world, batch) as task:
        await world.clock.advance(1)
        assert await children(kernel) == {"b/1": RunStatus.PARKED, "b/2": RunStatus.PARKED}
        for number in (1, 2, 3):
            await kernel.signal(f"b/{number}", "go")
            await world.clock.advance(2)
        assert counted(await task) == (3, 3, 0, 0, "all")
    assert kernel.backend is not None
    assert not (await kernel.backend.signals("b")).waiting


async def test_a_child_that_another_process_parks(world: World, kernel: Kernel) -> None:
    """Its end is not announced to the batch, which is never parked and would keep the signal for ever."""
    gate = asyncio.Event()

    async def ask(store: Any) -> Any:
        await gate.wait()
        return wait_for("go", then="end")

    flow: Workflow[Any] = Workflow("ask", name="asking").register("ask", ask).add_exit_state("end")
    async with Begun(world, ConcurrentWorkflow(flow, kernel=kernel).execute_durable(numbers(1), "b")):
        await world.crash(kernel)
    await world.lapse()
    gate.set()
    worker = await world.kernel()
    await worker.recover(flow)
    await world.settle()
    assert (await worker.get("b/1")).status is RunStatus.PARKED
    await worker.signal("b/1", "go")
    await world.settle()

    assert (await worker.get("b/1")).status is RunStatus.SUCCEEDED
    assert not (await world.store(worker).backend.signals("b")).waiting


# other inputs, other runs


async def test_a_changed_input_is_refused(world: World, kernel: Kernel, works: Works) -> None:
    """An input is refused by its place, before anything else is executed; the batch stays as it was."""
    works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(4), limit=1)):
        await world.clock.advance(2)
    for place, changed in ((1, [{"n": 10}, {"n": 2}, {"n": 3}]), (2, [{"n": 1}, {"n": 20}, {"n": 3}])):
        with pytest.raises(InputsChangedError) as caught:
            await works.batch(kernel, changed)

        assert str(caught.value) == (
            f"input {place} is not what the batch 'b' has read before; give it the same inputs in the same order, "
            "or start another batch with another id"
        )
        assert (caught.value.first, caught.value.last, caught.value.run_id) == (place, place, "b")
    with pytest.raises(InputsChangedError, match="input 2 is missing, which the batch 'b' has read before"):
        await works.batch(kernel, numbers(1))
    assert works.did == {1: 1, 2: 1}
    works.gates.clear()
    assert counted(await works.batch(kernel, numbers(4))) == (4, 4, 0, 0, "all")


@pytest.mark.parametrize("place", [1, BLOCK, BLOCK + 5])
async def test_each_block_of_inputs_is_compared(world: World, kernel: Kernel, works: Works, place: int) -> None:
    """Inputs share digests; of those that differ, the runs tell which one was changed, unless it was deleted."""
    last = BLOCK + 20
    works.gate(last)
    async with Begun(world, works.batch(kernel, numbers(last), limit=50)):
        await world.clock.advance(2)
    changed = numbers(last)
    changed[place - 1] = {"n": 0}
    with pytest.raises(InputsChangedError) as caught:
        await works.batch(kernel, changed)
    assert caught.value.first == caught.value.last == place
    assert kernel.backend is not None
    await kernel.backend.delete(f"b/{place}")
    with pytest.raises(InputsChangedError) as caught:
        await works.batch(kernel, changed)
    assert (caught.value.first, caught.value.last) == ((1, BLOCK) if place <= BLOCK else (BLOCK + 1, last))


async def test_sets_have_no_order(world: World, kernel: Kernel, works: Works) -> None:
    """Equal inputs may have other digests in another process. They are not refused."""
    words = [f"word {number}" for number in range(20)]
    works.gate(3)
    first = [{"n": number, "words": set(words)} for number in (1, 2, 3)]
    async with Begun(world, works.batch(kernel, [*first, Failed(ValueError("4"))], limit=5)):
        await world.clock.advance(2)
    works.gates.clear()
    again: list[Any] = [{"n": number, "words": {*words, "more"} - {"more"}} for number in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cano_durability.values.Values.digest", lambda self, data: repr(id(data)).encode())
        status = await works.batch(kernel, [*again, Failed(ValueError("4"))])
    assert counted(status) == (4, 3, 1, 0, "all")
    assert works.did == {1: 1, 2: 1, 3: 2}


async def test_an_error_of_the_inputs_interrupts_the_batch(world: World, kernel: Kernel, works: Works) -> None:
    """It reaches the caller as it is. The children are interrupted, too, and all continue in the next call."""
    gate, ended = works.gate(2), asyncio.Event()

    async def inputs() -> AsyncIterator[dict[str, int]]:
        for item in numbers(2):
            yield item
        await ended.wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await works.batch(kernel, inputs(), progress=lambda _: ended.set())
    assert await children(kernel) == {"b/1": RunStatus.SUCCEEDED, "b/2": RunStatus.INTERRUPTED}
    gate.set()
    assert counted(await works.batch(kernel, numbers(3))) == (3, 3, 0, 0, "all")


@pytest.mark.parametrize(("call", "calls"), [("load", 3), ("commit", 8)])
async def test_no_fault_of_the_store_fails_the_batch(works: Works, call: str, calls: int) -> None:
    """Wherever the store fails, also while the rest is cancelled: the caller gets that error, and can continue."""
    for nth in range(1, calls + 1):
        clock = VirtualClock()
        store = FaultyStore(MemoryBackend(strict=True), faults := Faults(clock))
        async with Kernel(store=store, clock=clock) as kernel:
            faults.at_call(call, nth).fail(StoreUnavailableError("away"))
            works.gate(3)
            with suppress(RunInterruptedError, StoreUnavailableError):
                await works.batch(kernel, numbers(4), WaitStrategy.quota(2))
            status = await works.batch(kernel, numbers(4), WaitStrategy.quota(2))
            assert counted(status) == (4, 2, 0, 2, "quota")


async def test_wrong_arguments(kernel: Kernel, works: Works) -> None:
    """They are refused before the batch begins; an input that is no mapping by its place."""
    with pytest.raises(ConfigurationError, match="a quota of 3 over 2"):
        await works.batch(kernel, numbers(2), WaitStrategy.quota(3))
    with pytest.raises(ConfigurationError, match="run_id must be a string"):
        await ConcurrentWorkflow(works.flow, kernel=kernel).execute_durable(numbers(2), None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="wait must be a WaitStrategy"):
        await works.batch(kernel, numbers(2), 3)  # type: ignore[arg-type]
    assert await kernel.runs() == []
    with pytest.raises(ConfigurationError, match="input 2 must be a mapping, or a Failed, not of type int"):
        await works.batch(kernel, [{"n": 1}, 2])


async def test_it_needs_a_durable_store(works: Works) -> None:
    """A store that dies with the process cannot keep a batch."""
    async with Kernel(clock=VirtualClock()) as kernel:
        with pytest.raises(ConfigurationError, match="needs a store that survives the process"):
            await works.batch(kernel, numbers(2))


async def test_ids_of_others_are_refused(kernel: Kernel, works: Works) -> None:
    """Neither the batch nor its children take over a run that only has their id."""
    await kernel.run(works.flow, {"n": 5}, run_id="b")
    with pytest.raises(RunExistsError):
        await works.batch(kernel, numbers(2))
    await kernel.delete("b")
    await kernel.run(works.flow, {"n": 2}, run_id="b/2")
    with pytest.raises(RunExistsError, match="is not a child of run b: another caller chose this id"):
        await works.batch(kernel, numbers(2))
    assert (await kernel.get("b/2")).status is RunStatus.SUCCEEDED


# ends


@pytest.mark.parametrize("ended_by", ["quota", "quota unreachable", "duration"])
@pytest.mark.parametrize("crash", [False, True])
async def test_a_decided_batch_stays_decided(
    world: World, kernel: Kernel, works: Works, ended_by: str, crash: bool
) -> None:
    """What ended the batch is stored before the rest is cancelled; a crash in between changes neither."""
    for number in (3, 4, 5):
        works.gate(number)
    works.bad = {1, 2} if ended_by == "quota unreachable" else set()
    wait = {
        "quota": WaitStrategy.quota(2), "duration": WaitStrategy.duration(5),
        "quota unreachable": WaitStrategy.quota(4),
    }[ended_by]  # fmt: skip
    async with Begun(world, works.batch(kernel, numbers(5), wait, limit=5)) as task:
        if crash:  # before it has stored anything but its begin, or after the decision
            await world.crash(kernel)
            await world.lapse()
            kernel = await world.kernel()
            status = await works.batch(kernel, numbers(5), wait, limit=5)
        else:
            await world.clock.advance(6)
            status = await task
    succeeded, failed = (0, 2) if ended_by == "quota unreachable" else (2, 0)
    assert counted(status) == (5, succeeded, failed, 3, ended_by)
    assert [(await kernel.get(f"b/{number}")).status for number in (3, 4, 5)] == [RunStatus.CANCELLED] * 3
    again = await works.batch(kernel, numbers(5))
    assert counted(again) == counted(status)


async def test_a_rest_that_never_began_is_counted(kernel: Kernel, works: Works) -> None:
    """As in memory, if the number of inputs is known."""
    assert counted(await works.batch(kernel, numbers(9), WaitStrategy.quota(2), limit=1)) == (9, 2, 0, 7, "quota")
    assert len(await children(kernel)) == 2


async def test_the_deadline_counts_from_the_first_call(world: World, kernel: Kernel, works: Works) -> None:
    """Time passes for a batch while no process executes it."""
    works.gate(1)
    wait = WaitStrategy.duration(100)
    async with Begun(world, works.batch(kernel, numbers(1), wait)):
        pass
    await world.clock.advance(101)
    assert counted(await works.batch(kernel, numbers(1), wait)) == (1, 0, 0, 1, "duration")


async def test_a_cancelled_batch_stays_cancelled(world: World, kernel: Kernel, works: Works) -> None:
    """Its unfinished children end with it, from another process, too. It does not continue."""
    works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(4), limit=1)) as task:
        other = await world.kernel()
        assert await other.cancel("b")
        await world.clock.advance(12)
        with pytest.raises(RunCancelledError):
            await task
    assert await children(kernel) == {"b/1": RunStatus.SUCCEEDED, "b/2": RunStatus.CANCELLED}
    with pytest.raises(RunCancelledError):
        await works.batch(kernel, numbers(4))


async def test_an_unfed_batch_can_be_cancelled(world: World, kernel: Kernel, works: Works) -> None:
    """If no process executes the batch, a cancellation by another kernel cancels its children, too."""
    works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(4), limit=1)):
        await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    assert await other.cancel("b")
    assert await children(other) == {"b/1": RunStatus.SUCCEEDED, "b/2": RunStatus.CANCELLED}


async def test_a_child_that_was_cancelled_by_itself(world: World, kernel: Kernel, works: Works) -> None:
    """It counts as cancelled, and the batch goes on."""
    works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(4), limit=1)) as task:
        await kernel.cancel("b/2")
        await world.settle()
        assert counted(await task) == (4, 3, 0, 1, "all")


async def test_closing_the_kernel_interrupts(world: World, kernel: Kernel, works: Works) -> None:
    """Another kernel continues at once, since the leases are released."""
    gate = works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(4), limit=2)) as task:
        await world.close(kernel)
        with pytest.raises(RunInterruptedError):
            await task
    gate.set()
    other = await world.kernel()
    assert counted(await works.batch(other, numbers(4))) == (4, 4, 0, 0, "all")
    assert works.did[1] == 1


async def test_an_input_after_the_close_interrupts(world: World, works: Works) -> None:
    """While a closing kernel waits for its runs, no other run begins. That is no fault of the store."""
    kernel, gate = await world.kernel(grace=5), works.gate(1)
    async with Begun(world, works.batch(kernel, numbers(2), limit=1)) as task:
        closing = asyncio.ensure_future(kernel.close())
        await world.settle()
        gate.set()
        with pytest.raises(RunInterruptedError):
            await task
        await closing
    assert counted(await works.batch(await world.kernel(), numbers(2))) == (2, 2, 0, 0, "all")


# afterwards


async def test_failed_children_can_be_resumed(kernel: Kernel, works: Works) -> None:
    """One by one or by a filter, after the end of the batch, which then counts those that succeed; its data stay."""
    works.bad = {2, 3}
    first = await works.batch(kernel, numbers(4))
    explanation = await kernel.explain("b/2")
    works.bad = set()
    report = await kernel.resume_many(works.flow, RunFilter(parent="b", status=RunStatus.FAILED))

    assert explanation.reason is Standstill.FAILED
    assert (report.matched, report.done, dict(report.refused)) == (2, 2, {})
    assert set((await children(kernel)).values()) == {RunStatus.SUCCEEDED}
    assert counted(first) == (4, 2, 2, 0, "all")
    assert counted(await works.batch(kernel, numbers(4))) == (4, 4, 0, 0, "all")
    assert (await kernel.get("b")).data["failed"] == 2
    for place in (1, 2, 3, 4):
        await kernel.delete(f"b/{place}")
    assert counted(await works.batch(kernel, numbers(4))) == counted(first)  # nothing tells otherwise


async def test_cancelled_children_cannot_be_resumed(kernel: Kernel, works: Works) -> None:
    """The rest of a decided batch stays cancelled."""
    works.gate(2)
    await works.batch(kernel, numbers(2), WaitStrategy.quota(1))
    with pytest.raises(ConfigurationError, match="run b/2 is a child of run b, which has ended"):
        await kernel.resume(works.flow, "b/2")


async def test_a_fork_of_a_batch_has_done_nothing(world: World, kernel: Kernel, works: Works) -> None:
    """Fed with the same inputs, it has children of its own."""
    await works.batch(kernel, numbers(3))
    await kernel.fork("b", 0, "c")
    status = await ConcurrentWorkflow(works.flow, kernel=kernel).execute_durable(numbers(3), "c")
    assert counted(status) == (3, 3, 0, 0, "all")
    assert {run.run_id for run in await kernel.runs(parent="c")} == {"c/1", "c/2", "c/3"}


async def test_children_are_deleted_with_their_batch(kernel: Kernel, works: Works) -> None:
    """By `delete`, and by `prune`, which keeps those of a batch that has not ended."""
    await works.batch(kernel, numbers(3))
    await kernel.delete("b")
    assert await kernel.runs() == []

    await works.batch(kernel, numbers(3))
    everything = Retention(on_terminal="delete")
    only = {"b", "b/1", "b/2", "b/3"}
    assert set(await kernel.prune(everything, workflow="item batch", dry_run=True)) == only
    assert set(await kernel.prune(everything, workflow="item batch")) == only
    assert await kernel.runs() == []


async def test_children_of_an_unfinished_batch_are_kept(world: World, kernel: Kernel, works: Works) -> None:
    """It may not have counted them. And a child that was resumed keeps its batch."""
    works.gate(2)
    async with Begun(world, works.batch(kernel, numbers(3), limit=1)):
        pass
    everything = Retention(on_terminal="delete")
    assert await kernel.prune(everything) == []
    with pytest.raises(ConflictError, match="its parent b may still need its result"):
        await kernel.delete("b/1")
    works.gates.clear()
    works.bad = {3}
    await works.batch(kernel, numbers(3))
    works.bad, gate = set(), works.gate(3)
    resumed = asyncio.ensure_future(kernel.resume(works.flow, "b/3"))
    await world.settle()

    assert await kernel.check() == []
    assert "b" not in await kernel.prune(everything, workflow="item batch", dry_run=True)
    with pytest.raises(ConflictError, match="its child b/3 has not ended; cancel first"):
        await kernel.delete("b")
    assert "b" not in await kernel.prune(everything)
    gate.set()
    await resumed
    assert set(await kernel.prune(everything)) == {"b", "b/3"}
