"""Children that are cancelled by themselves stay cancelled; and each child that a step starts is a run of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Commit,
    ConcurrentWorkflow,
    ConfigurationError,
    Explanation,
    Failed,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Node,
    RunCancelledError,
    RunHandle,
    RunRecord,
    RunResult,
    RunStatus,
    Standstill,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)
from cano.testing import VirtualClock

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Always:
    """A retry strategy that never gives up, unless it has a most. It counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.most: int | None = None

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return 3 s."""
        self.asked += 1
        return 3.0 if self.most is None or self.asked <= self.most else None


class Family:
    """A parent and its child, which may wait, and then hangs, fails or ends as it is told."""

    def __init__(self) -> None:
        self.waits = False
        self.does = "hang"
        self.did: Counter[str] = Counter()
        self.retry = Always()

    async def ask(self, store: Any) -> Any:
        """The child's first step."""
        return wait_for("go", then="work") if self.waits else "work"

    async def work(self, store: Any) -> str:
        """The child's second step."""
        self.did["work"] += 1
        if self.does == "hang":
            await asyncio.Event().wait()
        if self.does == "fail":
            raise ConnectionError
        return "end"

    def child(self) -> Workflow[Any]:
        """The child's workflow."""
        flow: Workflow[Any] = Workflow("ask", name="child")
        return flow.register("ask", self.ask).register("work", self.work).add_exit_state("end")

    def call(self, **options: Any) -> SubWorkflow[str]:
        """The task that executes it."""
        return SubWorkflow(self.child(), then="end", config=TaskConfig(retry=self.retry, **options))

    def parent(self, **options: Any) -> Workflow[str]:
        """The parent's workflow."""
        flow = Workflow("call", name="parent").register("call", self.call(**options))
        return flow.add_exit_states(["end", *filter(None, [options.get("on_exhausted")])])


@pytest.fixture
def family() -> Family:
    """A family."""
    return Family()


CHILD = "p:1/child"
BOTH_ENDED = {"p": RunStatus.FAILED, CHILD: RunStatus.CANCELLED}


async def statuses(kernel: Kernel) -> dict[str, RunStatus]:
    """The statuses of all runs."""
    return {run.run_id: run.status for run in await kernel.runs()}


async def start(kernel: Kernel, world: World, flow: Workflow[str]) -> RunHandle:
    """Start a parent, and let it come as far as it can."""
    handle = await kernel.start(flow, run_id="p")
    await world.settle()
    return handle


# cancelling a child


@pytest.mark.parametrize("child", ["running here", "parked", "running elsewhere"])
@pytest.mark.parametrize("cancelled", ["here", "elsewhere"])
async def test_no_retry_resumes_a_cancelled_child(
    kernel: Kernel, world: World, family: Family, child: str, cancelled: str
) -> None:
    """The parent fails at once, with an error that names the child, wherever that is executed and cancelled."""
    family.waits = child != "running here"
    handle, other = await start(kernel, world, family.parent()), await world.kernel()
    if child == "running elsewhere":
        await other.recover(family.child())
        await other.signal(CHILD, "go")
        await world.settle()
        assert CHILD in other.active
    assert await (kernel if cancelled == "here" else other).cancel(CHILD)
    await world.clock.advance(20)

    with pytest.raises(TaskError, match="RunCancelledError: run p:1/child was cancelled") as caught:
        await handle.result()
    assert isinstance(caught.value.__cause__, RunCancelledError)
    assert caught.value.__cause__.run_id == CHILD
    assert await statuses(other) == BOTH_ENDED
    assert family.retry.asked == 0
    assert family.did["work"] == (child != "parked")


async def test_a_cancelled_child_leads_to_on_exhausted(kernel: Kernel, world: World, family: Family) -> None:
    """The parent takes the way that its config names for failures."""
    handle = await start(kernel, world, family.parent(on_exhausted="instead"))
    await kernel.cancel(CHILD)

    assert (await handle.result()).state == "instead"
    assert await statuses(kernel) == {"p": RunStatus.SUCCEEDED, CHILD: RunStatus.CANCELLED}


async def test_a_crash_before_the_parent_has_failed(kernel: Kernel, world: World, family: Family) -> None:
    """The process that takes over the parent finds that the child was cancelled by itself."""
    await start(kernel, world, family.parent())
    fault = world.faults(kernel).at_call("commit", 2).hang()  # the child's end, then the parent's
    await kernel.cancel(CHILD)
    await fault.reached()
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    (handle,) = await other.recover(family.parent(), family.child())

    with pytest.raises(TaskError, match="run p:1/child was cancelled"):
        await handle.result()
    assert await statuses(other) == BOTH_ENDED
    assert family.did["work"] == 1


async def test_resuming_the_parent_of_a_cancelled_child(kernel: Kernel, world: World, family: Family) -> None:
    """It fails again, and neither resuming the child revives that; a fork of the parent has a child of its own."""
    handle = await start(kernel, world, family.parent())
    await kernel.cancel(CHILD)
    with pytest.raises(TaskError):
        await handle.result()
    family.does = "end"

    with pytest.raises(TaskError, match="run p:1/child was cancelled"):
        await kernel.resume(family.parent(), "p")
    with pytest.raises(RunCancelledError, match="run p:1/child was cancelled"):
        await kernel.resume(family.child(), CHILD)
    assert await statuses(kernel) == BOTH_ENDED
    assert await kernel.explain("p") == (Standstill.CHILD_CANCELLED, f"child {CHILD}, after transition 0")
    assert await kernel.explain(CHILD) == (Standstill.CANCELLED, "in state work, by itself")
    await kernel.fork("p", 0, "f")
    assert (await kernel.resume(family.parent(), "f")).state == "end"


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize("ended", ["cancelled", "succeeded", "deleted"])
async def test_no_child_outlives_a_parent_that_has_ended(
    kernel: Kernel, world: World, family: Family, ended: str, generations: int
) -> None:
    """Neither a signal nor `resume` continues a child whose parent or grandparent can never continue."""
    flow, child = family.parent(on_exhausted="instead"), CHILD
    if generations == 2:
        flow, child = Workflow("call", name="outer").add_exit_states(["end", "instead"]), "p:1/parent:1/child"
        config = TaskConfig(retry="none", on_exhausted="instead")
        flow.register("call", SubWorkflow(family.parent(), then="end", config=config))
    family.waits = ended != "succeeded"
    family.does, family.retry.most = "fail", 0
    handle = await start(kernel, world, flow)
    if ended == "succeeded":
        assert (await handle.result()).state == "instead"
    else:
        assert await kernel.cancel("p")
        await world.settle()
        with pytest.raises(RunCancelledError):
            await handle.result()
    if ended == "deleted":
        await kernel.delete("p")
    before, family.does = await statuses(kernel), "end"

    assert not await kernel.signal(child, "go")
    with pytest.raises(ConfigurationError, match="only its parent can continue it"):
        await kernel.resume(family.child(), child)
    assert await statuses(kernel) == before
    why = await kernel.explain(child)
    if ended == "succeeded":
        assert why.reason is Standstill.CHILD_FAILED
    else:
        assert why == (Standstill.CANCELLED, f"in state work, with its parent {child.rpartition(':')[0]}")


async def test_a_failed_child_is_resumed_by_its_parent(kernel: Kernel, world: World, family: Family) -> None:
    """Its parent has failed with it: `explain` names the parent, which resumes the child."""
    family.does, family.retry.most = "fail", 0
    handle = await start(kernel, world, family.parent())
    with pytest.raises(TaskError):
        await handle.result()
    family.does = "end"

    why = await kernel.explain(CHILD)
    assert (why.reason, "parent p (failed)" in why.detail) == (Standstill.CHILD_FAILED, True)
    assert (await kernel.explain("p")).reason is Standstill.FAILED
    assert await kernel.signal(CHILD, "go")  # the parent could still resume it
    assert (await kernel.resume(family.parent(), "p")).state == "end"
    assert await statuses(kernel) == {"p": RunStatus.SUCCEEDED, CHILD: RunStatus.SUCCEEDED}


@pytest.mark.parametrize("first", ["the user", "the timeout"])
async def test_cancelled_by_itself_and_with_the_attempt(
    kernel: Kernel, world: World, family: Family, first: str
) -> None:
    """A child that another process executes gets both requests: that of the user counts, whichever comes first."""
    family.waits = True
    handle, other = await start(kernel, world, family.parent(timeout=5)), await world.kernel()
    await other.recover(family.child())
    await other.signal(CHILD, "go")
    if first == "the user":
        assert await kernel.cancel(CHILD)
    await world.clock.advance(5)  # the parent's attempt ends; `other` looks for requests every 10 s
    assert (await world.look(CHILD)).status is RunStatus.RUNNING
    if first == "the timeout":
        assert await kernel.cancel(CHILD)
    await world.clock.advance(30)

    with pytest.raises(TaskError, match="run p:1/child was cancelled"):
        await handle.result()
    assert await statuses(other) == BOTH_ENDED
    assert family.did["work"] == 1


async def in_own_task(call: SubWorkflow[str], store: Any) -> None:
    """Execute the child in an asyncio task of its own."""
    async with asyncio.TaskGroup() as group:
        child = group.create_task(call.run(store))
        await asyncio.Event().wait()
        await child


@pytest.mark.parametrize("child", ["running", "parked", "woken"])
@pytest.mark.parametrize("of", ["the step", "a task of its own", "a task that it awaits"])
async def test_a_child_that_the_parents_code_times_out(
    kernel: Kernel, world: World, family: Family, child: str, of: str
) -> None:
    """The parent sees its own timeout and goes on. The child is cancelled, so no process continues it behind its back.

    A timeout of `asyncio` cancels the asyncio task that awaits the child: that of the run, or another one.
    """
    family.waits, limits = child != "running", list[asyncio.Timeout]()

    async def call(store: Any) -> str:
        calling = family.call()
        work = in_own_task(calling, store) if of == "a task of its own" else calling.run(store)
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await (asyncio.ensure_future(work) if of == "a task that it awaits" else work)
        except TimeoutError:
            return "end"
        raise AssertionError

    flow: Workflow[Any] = Workflow("call", name="parent", default_config=TaskConfig.minimal()).add_exit_state("end")
    handle = await start(kernel, world, flow.register("call", call))
    if child == "woken":
        await kernel.signal(CHILD, "go")
        await world.settle()
        assert CHILD in kernel.active
    limits[0].reschedule(0)

    assert (await handle.result()).state == "end"
    assert await statuses(kernel) == {"p": RunStatus.SUCCEEDED, CHILD: RunStatus.CANCELLED}
    assert await kernel.check() == []


async def test_a_parents_asyncio_task_is_cancelled(kernel: Kernel, world: World, family: Family) -> None:
    """The parent is interrupted, as when `asyncio.run` ends; once it is resumed, so is the child."""
    before = asyncio.all_tasks()
    handle = await start(kernel, world, family.parent())
    (driver,) = [task for task in asyncio.all_tasks() - before if "drive_quietly" in repr(task)]
    driver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle.result()
    assert (await statuses(kernel))["p"] is RunStatus.INTERRUPTED
    family.does = "end"

    assert (await kernel.resume(family.parent(), "p")).state == "end"
    assert set((await statuses(kernel)).values()) == {RunStatus.SUCCEEDED}


@pytest.mark.parametrize("child", ["running", "parked", "woken", "woken elsewhere"])
async def test_a_child_that_ended_with_an_attempt(kernel: Kernel, world: World, family: Family, child: str) -> None:
    """The next attempt resumes it, wherever it was executed when the attempt took too long."""
    family.waits = child != "running"
    handle, other = await start(kernel, world, family.parent(timeout=5)), await world.kernel(lease=6)
    if child == "woken elsewhere":
        await other.recover(family.child())
    if child.startswith("woken"):
        await (kernel if child == "woken" else other).signal(CHILD, "go")
        await world.settle()
        assert CHILD in (kernel if child == "woken" else other).active
    await world.clock.advance(5)
    if child == "woken elsewhere":
        await world.clock.advance(2)  # the other process looks for requests three times per lease
    assert (await world.look(CHILD)).status is RunStatus.CANCELLED
    family.does = "end"
    await world.clock.advance(3)
    if child == "parked":  # it waits again
        await kernel.signal(CHILD, "go")
    await world.clock.advance(3)

    assert (await handle.result()).state == "end"
    assert family.retry.asked == 1


async def test_a_crash_while_a_family_is_cancelled(kernel: Kernel, world: World, family: Family) -> None:
    """The children come first, so that no child is left without a parent that the next process would cancel."""
    await start(kernel, world, family.parent())
    await kernel.close()
    canceller = await world.kernel()
    fault = world.faults(canceller).at_call("put_signal", 2).hang()  # the request for the child
    cancelled = asyncio.ensure_future(canceller.cancel("p"))
    await fault.reached()
    await world.crash(canceller)
    fault.release()
    await asyncio.gather(cancelled, return_exceptions=True)
    await world.lapse()
    other = await world.kernel()

    assert await other.recover(family.parent()) == []
    assert await statuses(other) == {"p": RunStatus.CANCELLED, CHILD: RunStatus.CANCELLED}
    assert await other.check() == []
    assert family.did["work"] == 1


async def test_a_cancelled_grandchild(kernel: Kernel, world: World, family: Family) -> None:
    """Neither the child's retries nor the parent's start it again; each of them fails."""
    outer = Workflow("call", name="outer").add_exit_state("end")
    outer.register("call", SubWorkflow(family.parent(), then="end", config=TaskConfig(retry=family.retry)))
    handle = await start(kernel, world, outer)
    grandchild = "p:1/parent:1/child"
    await kernel.cancel(grandchild)
    await world.clock.advance(30)

    with pytest.raises(TaskError, match=f"run {grandchild} was cancelled"):
        await handle.result()
    assert await kernel.explain("p") == (Standstill.CHILD_CANCELLED, f"child {grandchild}, after transition 0")
    assert await statuses(kernel) == {
        "p": RunStatus.FAILED, "p:1/parent": RunStatus.FAILED, grandchild: RunStatus.CANCELLED,
    }  # fmt: skip
    assert (family.retry.asked, family.did["work"]) == (0, 1)


async def test_a_child_cancelled_in_a_branch(kernel: Kernel, world: World, family: Family) -> None:
    """The branch has failed, without a retry, and its join decides what that means."""
    branches = [family.call(), family.call()]
    flow = Workflow("split", name="split").add_exit_state("end")
    flow.register_split("split", branches, JoinConfig(JoinStrategy.quorum(1), "end"))
    handle = await start(kernel, world, flow)
    first, second = (f"p:1:{n}:workflow child/child" for n in (0, 1))
    await kernel.cancel(first)
    await world.clock.advance(30)

    assert await statuses(kernel) == {"p": RunStatus.RUNNING, first: RunStatus.CANCELLED, second: RunStatus.RUNNING}
    await kernel.cancel(second)
    with pytest.raises(Exception, match="run p:1:0:workflow child/child was cancelled"):
        await handle.result()
    assert (family.retry.asked, family.did["work"]) == (0, 2)


async def test_a_child_cancelled_in_a_batch(kernel: Kernel, world: World, family: Family) -> None:
    """The run of the batch has failed, without a retry; the others continue."""
    batch = ConcurrentWorkflow(family.parent(), kernel=kernel)
    ended = asyncio.ensure_future(batch.execute_concurrent([{}, {}]))
    await world.settle()
    cancelled = next(run_id for run_id in kernel.active if run_id.endswith("/child"))
    family.does = "end"
    await kernel.cancel(cancelled)
    await world.clock.advance(30)
    for run_id in [run_id for run_id in kernel.active if run_id.endswith("/child")]:
        await kernel.cancel(run_id)
    results, _ = await ended

    assert all(isinstance(result, Failed) and "was cancelled" in str(result.error) for result in results)
    assert (family.retry.asked, family.did["work"]) == (0, 2)


@pytest.mark.parametrize("run_id", ["p", None], ids=["stored", "not stored"])
async def test_children_in_memory(family: Family, run_id: str | None) -> None:
    """Without a durable store no record tells of the cancellation; no attempt starts a second run all the same."""
    clock = VirtualClock()
    async with Kernel(discover=False, plugins=["memory"], clock=clock, grace=0) as kernel:
        outer = Workflow("call", name="outer").add_exit_state("end")
        outer.register("call", SubWorkflow(family.parent(), then="end", config=TaskConfig(retry=family.retry)))
        handle = await kernel.start(outer, run_id=run_id)
        await clock.advance(0)
        await kernel.cancel(f"{handle.run_id}:1/parent:1/child")

        with pytest.raises(TaskError, match="child was cancelled"):
            await handle.result()
    assert (family.retry.asked, family.did["work"]) == (0, 1)


async def test_a_child_that_an_earlier_version_cancelled(kernel: Kernel, world: World, family: Family) -> None:
    """Its record does not say whether its parent was the reason, so that a retry resumes it, as it did then."""
    family.does = "fail"
    handle = await start(kernel, world, family.parent())
    ended = await world.look(CHILD)
    assert ended.status is RunStatus.FAILED
    backend = world.store(kernel).backend
    token = await backend.claim(CHILD, "earlier", world.clock.time(), world.clock.time() + 1)
    assert token is not None
    await backend.commit(cancelled_record(ended, token))
    family.does = "end"
    await world.clock.advance(3)

    assert (await handle.result()).state == "end"


async def test_why_a_parent_of_a_parked_child_does_not_progress(kernel: Kernel, world: World, family: Family) -> None:
    """Its branch waits for the child, whichever kernel is asked, and whose explanation is the child's."""
    family.waits = True
    flow = Workflow("split", name="split").add_exit_state("end")
    flow.register_split("split", [family.call()], JoinConfig(JoinStrategy.all(), "end"))
    await start(kernel, world, flow)
    other, child = await world.kernel(), "p:1:0:workflow child/child"
    waits = f"; it waits for its child {child}, which is parked"

    assert await kernel.explain("p") == Explanation(Standstill.RUNNING_HERE, f"in state split{waits}")
    elsewhere = await other.explain("p")
    assert (elsewhere.reason, elsewhere.detail.endswith(waits)) == (Standstill.RUNNING_ELSEWHERE, True)
    assert await kernel.explain(child) == Explanation(Standstill.WAITING_FOR_SIGNAL, "'go', then work")
    await kernel.signal(child, "go")
    await world.settle()
    assert await kernel.explain("p") == Explanation(Standstill.RUNNING_HERE, "in state split")


# several children in one step


class Leaves:
    """Children that note what they were given; one of them may hang or fail."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails: set[int] = set()
        self.hangs: set[int] = set()

    async def leaf(self, store: Any) -> str:
        """The child's step."""
        number = store["number"]
        self.did.append(f"{current_step().run_id}: {number}")
        if number in self.hangs:
            await asyncio.Event().wait()
        if number in self.fails:
            raise ConnectionError
        store["square"] = number**2
        return "end"

    def child(self, name: str = "child") -> Workflow[str]:
        """The child's workflow."""
        return Workflow("leaf", name=name).register("leaf", self.leaf).add_exit_state("end")

    async def square(self, number: int, name: str = "child") -> int:
        """Execute a child of the present step, and return its output."""
        step = current_step()
        result = await step.run.kernel.run_child(self.child(name), {"number": number}, step)
        square: int = result.data["square"]
        return square


@pytest.fixture
def leaves() -> Leaves:
    """The children."""
    return Leaves()


def one(task: Any, config: TaskConfig | None = None) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("do", name="parent").register("do", task, config=config).add_exit_state("end")


async def test_each_child_of_a_step_has_an_id_and_a_result_of_its_own(kernel: Kernel, leaves: Leaves) -> None:
    """Children of one workflow, in turn and at once, are counted; the first keeps the id without a number."""

    async def do(store: Any) -> str:
        store["first"] = await leaves.square(1)
        store["others"] = await asyncio.gather(leaves.square(2), leaves.square(3), leaves.square(4, "other"))
        return "end"

    assert (await kernel.run(one(do), run_id="p")).data == {"first": 1, "others": [4, 9, 16]}
    assert leaves.did == ["p:1/child: 1", "p:1.2/child: 2", "p:1.3/child: 3", "p:1/other: 4"]


async def test_children_keep_their_ids_over_retries_and_crashes(kernel: Kernel, world: World, leaves: Leaves) -> None:
    """An attempt counts from the beginning: finished children are not executed again, and the others are resumed."""

    async def do(store: Any) -> str:
        store["squares"] = [await leaves.square(1), await leaves.square(2), await leaves.square(3)]
        return "end"

    leaves.fails, leaves.hangs = {2}, {3}
    await start(kernel, world, one(do, TaskConfig(retry=Always())))
    leaves.fails.clear()
    await world.clock.advance(3)
    await world.crash(kernel)
    await world.lapse()
    leaves.hangs.clear()
    result = await (await world.kernel()).resume(one(do), "p")

    assert result == RunResult("p", "end", {"squares": [1, 4, 9]}, 1)
    assert leaves.did == ["p:1/child: 1", *["p:1.2/child: 2"] * 2, *["p:1.3/child: 3"] * 2]


async def test_the_children_of_a_nodes_phases(kernel: Kernel, world: World, leaves: Leaves) -> None:
    """An attempt that begins with a later phase counts on from the phases before, so that none shares a child."""

    class Phases(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            return await leaves.square(1)

        async def exec(self, prepared: int) -> int:
            return await leaves.square(2) + await leaves.square(3)

        async def post(self, store: Any, prepared: int, result: int) -> str:
            store["all"] = [prepared, result, await leaves.square(4)]
            return "end"

    leaves.fails = {3}
    handle = await start(kernel, world, one(Phases(), TaskConfig(retry=Always())))
    leaves.fails = {4}
    await world.clock.advance(3)
    leaves.fails.clear()
    await world.clock.advance(3)

    assert (await handle.result()).data == {"all": [1, 13, 16]}
    assert leaves.did == [
        "p:1/child: 1", "p:1.2/child: 2", *["p:1.3/child: 3"] * 2, *["p:1.4/child: 4"] * 2,
    ]  # fmt: skip


async def test_branches_count_their_own_children(kernel: Kernel, leaves: Leaves) -> None:
    """Two branches of one function start two children each, under the branches' names."""

    async def branch(store: Any) -> int:
        return await leaves.square(1) + await leaves.square(2)

    flow = Workflow("do", name="parent").add_exit_state("end")
    flow.register_split("do", [branch, branch], JoinConfig(JoinStrategy.all(), "end"))
    await kernel.run(flow, run_id="p")

    assert sorted(leaves.did) == sorted(
        f"p:1:{n}:branch{number}/child: {value}" for n in (0, 1) for number, value in (("", 1), (".2", 2))
    )


def cancelled_record(record: RunRecord, token: int) -> Commit:
    """The commit with which version 0.1.0 cancelled a run."""
    return Commit(
        run_id=record.run_id, token=token, expected_seq=record.seq, seq=record.seq, state=record.state,
        status=RunStatus.CANCELLED, release=True, at=record.updated,
    )  # fmt: skip
