"""Splits and sub-workflows resume individually: what is finished is not done again."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    BranchStatus,
    ConflictError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Key,
    RunCancelledError,
    RunHandle,
    RunResult,
    RunStatus,
    SplitOutcome,
    StepTimeoutError,
    StoreUnavailableError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


@dataclass
class Page:
    """What a branch returns."""

    number: int


PAGE = Key("page", Page)


class Split:
    """Three branches and a state after them; a branch may fail or hang."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self.keys: list[str] = []
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.outcomes: list[SplitOutcome] = []

    def branch(self, number: int) -> Any:
        """A branch."""
        name = f"b{number}"

        async def work(store: Any) -> Page:
            self.did[name] += 1
            self.keys.append(current_step().idempotency_key)
            store[name] = store["seed"] * number
            store.append("log", number)
            if name in self.fails:
                await current_step().run.kernel.clock.sleep(1)  # by then the others are done
                raise ValueError(name)
            if name in self.hangs:
                await asyncio.Event().wait()
            return Page(number)

        work.__name__ = name
        return work

    async def after(self, store: Any) -> str:
        """Keep the outcome."""
        self.did["after"] += 1
        outcome = current_step().outcome
        self.outcomes.append(outcome)
        store["pages"] = outcome.results
        return "end"

    def flow(self, strategy: JoinStrategy | None = None, *, made: bool = False, **options: Any) -> Workflow[str]:
        """Its workflow."""
        branches = [self.branch(number) for number in (1, 2, 3)]
        flow = Workflow("split", name="split", types=[Page], **options)
        join = JoinConfig(strategy or JoinStrategy.all(), "after")
        flow.register_split("split", (lambda store: branches) if made else branches, join)
        return flow.register("after", self.after).add_exit_state("end")


@pytest.fixture
def split() -> Split:
    """A split."""
    return Split()


DATA = {"seed": 10, "log": [0]}
END = {"seed": 10, "log": [0, 1, 2, 3], "b1": 10, "b2": 20, "b3": 30, "pages": [Page(1), Page(2), Page(3)]}


@pytest.mark.parametrize("made", [False, True], ids=["known", "made at run time"])
async def test_finished_branches_are_not_run_again(kernel: Kernel, world: World, split: Split, made: bool) -> None:
    """A crash in the middle of a split costs the branches that were not done, and no other."""
    split.hangs = {"b2"}
    flow = split.flow(made=made)
    await kernel.start(flow, DATA, run_id="r")
    await world.settle()
    assert (await world.look("r")).seq == 0
    await world.crash(kernel)
    await world.lapse()
    split.hangs.clear()
    other = await world.kernel()
    assert await other.resume(split.flow(made=made), "r") == RunResult("r", "end", END, 2)
    assert split.did == {"b1": 1, "b2": 2, "b3": 1, "after": 1}
    assert sorted(set(split.keys)) == ["r:1:0:b1", "r:1:1:b2", "r:1:2:b3"]
    assert [line.seq for line in await other.history("r")] == [0, 1, 2]


async def test_a_failed_split_resumes_its_failed_branches(kernel: Kernel, world: World, split: Split) -> None:
    """A repaired branch is run again, those that were ok are not."""
    split.fails = {"b3"}
    handle = await kernel.start(split.flow(), DATA, run_id="r")
    await world.clock.advance(1)
    with pytest.raises(JoinError, match="2:b3: failed"):
        await handle.result()
    split.fails.clear()
    assert (await kernel.resume(split.flow(), "r")).data == END
    assert split.did == {"b1": 1, "b2": 1, "b3": 2, "after": 1}


async def test_branches_see_the_data_of_the_splits_beginning(kernel: Kernel, world: World, split: Split) -> None:
    """While branches are done one after the other, nothing of them is in the run's data before the join."""
    split.hangs = {"b2"}
    await kernel.start(split.flow(), DATA, run_id="r")
    await world.settle()
    record = await world.look("r")
    assert [*record.data] == ["seed", "log"]
    assert (await kernel.history("r"))[-1].seq == 0


async def test_nothing_is_left_of_the_branches(kernel: Kernel, world: World, split: Split) -> None:
    """What the store kept of branches and outcome is gone when the run has moved on."""
    await kernel.run(split.flow(), DATA, run_id="r")
    record = await world.look("r")
    assert ([*record.data], record.own) == ([*END], {})
    assert all((line.own, line.own_removed) == ({}, ()) for line in await kernel.history("r"))


async def test_the_outcome_survives_a_crash(kernel: Kernel, world: World, split: Split) -> None:
    """The state after the join finds the outcome, also in the process that takes over, and not a state later."""
    split.fails = {"b1"}
    flow = split.flow(JoinStrategy.partial(1))
    commits = world.faults(kernel).at_call("commit", 3, after=True).hang()  # two branches, then the join
    await kernel.start(flow, DATA, run_id="r")
    await world.clock.advance(1)
    await commits.reached()
    await world.crash(kernel)
    await world.lapse()
    result = await (await world.kernel()).resume(split.flow(JoinStrategy.partial(1)), "r")
    assert result.data["pages"] == [Page(2), Page(3)]
    (outcome,) = split.outcomes
    assert [(branch.name, branch.status, branch.result) for branch in outcome.branches] == [
        ("0:b1", BranchStatus.FAILED, None),
        ("1:b2", BranchStatus.OK, Page(2)),
        ("2:b3", BranchStatus.OK, Page(3)),
    ]
    assert [str(error) for error in outcome.errors] == ["task 'b1' failed: ValueError: b1"]
    assert split.did == {"b1": 1, "b2": 1, "b3": 1, "after": 1}


async def test_a_split_in_a_loop(kernel: Kernel, world: World, split: Split) -> None:
    """Each pass of a split runs all of its branches, whatever an earlier pass has kept."""

    async def again(store: Any) -> str:
        store["turn"] = store.get("turn", default=0) + 1
        return "split" if store["turn"] < 3 else "end"

    def flow() -> Workflow[str]:
        made = Workflow("split", name="loop", types=[Page])
        made.register_split("split", [split.branch(1), split.branch(2)], JoinConfig(JoinStrategy.all(), "again"))
        return made.register("again", again).add_exit_state("end")

    crash = world.faults(kernel).at_call("commit", 5).hang()  # in the second pass: one branch is done
    await kernel.start(flow(), DATA, run_id="r")
    await crash.reached()
    await world.settle()
    await world.crash(kernel)
    await world.lapse()
    result = await (await world.kernel()).resume(flow(), "r")
    assert result.data["turn"] == 3
    assert sorted(result.data["log"]) == [0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), ConflictError("taken")], ids=lambda e: e.args[0])
async def test_a_store_that_fails_a_branch(kernel: Kernel, world: World, split: Split, error: Exception) -> None:
    """A store that is out of reach, or gave the run to another, is no failure of a branch: it interrupts the run."""
    world.faults(kernel).at_call("commit", 2).fail(error)
    handle = await kernel.start(split.flow(JoinStrategy.partial(0)), DATA, run_id="r")
    with pytest.raises(type(error), match=error.args[0]):
        await handle.result()
    assert handle.status().status is RunStatus.INTERRUPTED
    assert (await world.look("r")).error is None
    assert (await kernel.resume(split.flow(JoinStrategy.partial(0)), "r")).data == END


async def test_a_result_that_cannot_be_kept(kernel: Kernel) -> None:
    """A branch whose result the store cannot keep has failed, by name."""

    async def bad(store: Any) -> object:
        return object()

    flow = Workflow("split", name="bad")
    flow.register_split("split", [bad], JoinConfig(JoinStrategy.all(), "end")).add_exit_state("end")
    with pytest.raises(JoinError, match=r"0:bad: failed .*object"):
        await kernel.run(flow, run_id="r")


# sub-workflows


class Family:
    """A parent with a child of two steps; the child may fail, hang or wait."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self.fails = self.hangs = self.waits = False

    async def first(self, store: Any) -> str:
        """The child's first step."""
        self.did["first"] += 1
        store["n"] = store["n"] + 1
        return "second"

    async def second(self, store: Any) -> Any:
        """The child's second step."""
        self.did["second"] += 1
        if self.fails:
            raise ValueError("child")
        if self.hangs:
            await asyncio.Event().wait()
        if self.waits:
            self.waits = False
            return wait_for("go", then="second")
        store["page"] = Page(store["n"])
        return "done"

    async def before(self, store: Any) -> str:
        """The parent's first step."""
        self.did["before"] += 1
        return "call"

    async def after(self, store: Any) -> str:
        """The parent's last step."""
        self.did["after"] += 1
        return "end"

    def child(self) -> Workflow[Any]:
        """The child's workflow."""
        flow: Workflow[Any] = Workflow("first", name="child", types=[Page])
        return flow.register("first", self.first).register("second", self.second).add_exit_state("done")

    def parent(self, config: TaskConfig | None = None) -> Workflow[str]:
        """The parent's."""
        call = SubWorkflow(self.child(), {"x": "n"}, {"page": "result"}, then="after", config=config)
        flow = Workflow("before", name="parent").register("before", self.before).register("call", call)
        return flow.register("after", self.after).add_exit_state("end")


@pytest.fixture
def family() -> Family:
    """A family."""
    return Family()


CHILD = "p:2/child"
RESULT = RunResult("p", "end", {"x": 1, "result": Page(2)}, 3)


async def start(kernel: Kernel, world: World, family: Family, config: TaskConfig | None = None) -> RunHandle:
    """Start a parent, and let it come as far as it can."""
    handle = await kernel.start(family.parent(config), {"x": 1}, run_id="p")
    await world.settle()
    return handle


async def test_a_child_is_a_run_of_its_own(kernel: Kernel, world: World, family: Family) -> None:
    """A child has an id that follows from its parent's step, a history, and its parent's id."""
    handle = await start(kernel, world, family)
    assert await handle.result() == RESULT
    child = await world.look(CHILD)
    assert (child.parent, child.workflow, child.status) == ("p", "child", RunStatus.SUCCEEDED)
    assert [line.state for line in await kernel.history(CHILD)] == ["first", "second", "done"]
    assert [run.run_id for run in await kernel.runs(parent="p")] == [CHILD]


async def test_a_child_goes_on_with_its_parent(kernel: Kernel, world: World, family: Family) -> None:
    """After a crash the child goes on from its own last commit."""
    family.hangs = True
    await start(kernel, world, family)
    await world.crash(kernel)
    await world.lapse()
    family.hangs = False
    assert await (await world.kernel()).resume(family.parent(), "p") == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


@pytest.mark.parametrize("nth", [2, 3])
async def test_a_store_that_fails_a_child(kernel: Kernel, world: World, family: Family, nth: int) -> None:
    """A store that is out of reach for a child's commit interrupts both; the parent does not take it for a failure."""

    class Never:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            raise AssertionError("there is nothing to retry")

    world.faults(kernel).at_call("commit", nth).fail(StoreUnavailableError("away"))
    handle = await start(kernel, world, family, TaskConfig(retry=Never()))
    with pytest.raises(StoreUnavailableError, match="away"):
        await handle.result()
    assert {run.run_id: run.status for run in await kernel.runs()} == {
        "p": RunStatus.INTERRUPTED, CHILD: RunStatus.INTERRUPTED,
    }  # fmt: skip
    assert await kernel.resume(family.parent(), "p") == RESULT


async def test_a_finished_child_is_not_run_again(kernel: Kernel, world: World, family: Family) -> None:
    """A crash between the child's end and the parent's commit costs nothing: its result is in the store."""
    fault = world.faults(kernel).at_call("commit", 4).hang()  # before, first, second, and then the parent's own
    await kernel.start(family.parent(), {"x": 1}, run_id="p")
    await fault.reached()
    assert (await world.look(CHILD)).status is RunStatus.SUCCEEDED
    await world.crash(kernel)
    await world.lapse()
    assert await (await world.kernel()).resume(family.parent(), "p") == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 1, "after": 1}


async def test_recovering_both(kernel: Kernel, world: World, family: Family) -> None:
    """Whoever recovers parent and child alike drives each of them once."""
    family.hangs = True
    await start(kernel, world, family)
    await kernel.close()
    family.hangs = False
    other = await world.kernel()
    handles = {handle.run_id: handle for handle in await other.recover(family.child(), family.parent())}
    assert await handles.pop("p").result() == RESULT
    for child in handles.values():  # unless the parent was first to take it
        assert (await child.result()).state == "done"
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


async def test_closing_interrupts_both(kernel: Kernel, world: World, family: Family) -> None:
    """A kernel that closes interrupts a child with its parent; neither has failed or was cancelled."""
    family.hangs = True
    await start(kernel, world, family)
    await kernel.close()
    other = await world.kernel()
    assert {run.run_id: run.status for run in await other.runs()} == {
        "p": RunStatus.INTERRUPTED, CHILD: RunStatus.INTERRUPTED,
    }  # fmt: skip
    assert (await world.look(CHILD)).holder is None


async def test_a_child_that_fails(kernel: Kernel, world: World, family: Family) -> None:
    """A child's failure is the step's; resuming the parent resumes the child from the state that failed."""
    family.fails = True
    with pytest.raises(TaskError) as caught:
        await kernel.run(family.parent(), {"x": 1}, run_id="p")
    assert isinstance(caught.value.__cause__, TaskError)
    assert caught.value.__cause__.run_id == CHILD
    assert {run.run_id: run.status for run in await kernel.runs()} == {
        "p": RunStatus.FAILED, CHILD: RunStatus.FAILED,
    }  # fmt: skip
    family.fails = False
    assert await (await world.kernel()).resume(family.parent(), "p") == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


async def test_a_child_that_was_repaired_by_itself(kernel: Kernel, family: Family) -> None:
    """A child may be resumed by its own id; its parent then finds it done."""
    family.fails = True
    with pytest.raises(TaskError):
        await kernel.run(family.parent(), {"x": 1}, run_id="p")
    family.fails = False
    assert (await kernel.resume(family.child(), CHILD)).state == "done"
    assert await kernel.resume(family.parent(), "p") == RESULT
    assert family.did["second"] == 2


async def test_a_retry_resumes_the_child(kernel: Kernel, world: World, family: Family) -> None:
    """A parent's next attempt lets its failed child go on."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            family.fails = False
            return 1.0

    family.fails = True
    handle = await start(kernel, world, family, TaskConfig(retry=Once()))
    await world.clock.advance(1)
    assert await handle.result() == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


@pytest.mark.parametrize("child", ["running", "parked", "woken"])
async def test_cancelling_a_parent_cancels_its_child(kernel: Kernel, world: World, family: Family, child: str) -> None:
    """A child ends with its parent, whether it runs, waits, or goes on after it has waited."""
    family.hangs, family.waits = child == "running", child != "running"
    handle = await start(kernel, world, family)
    if child == "woken":
        family.hangs = True
        await kernel.signal(CHILD, "go")
        await world.settle()
        assert CHILD in kernel.active
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result()
    assert {run.run_id: run.status for run in await kernel.runs()} == {
        "p": RunStatus.CANCELLED, CHILD: RunStatus.CANCELLED,
    }  # fmt: skip
    assert kernel.active == {}
    assert await kernel.check() == []


async def test_cancelling_an_interrupted_parent(kernel: Kernel, world: World, family: Family) -> None:
    """A parent that nobody drives takes its child along when it is cancelled."""
    family.hangs = True
    await start(kernel, world, family)
    await kernel.close()
    other = await world.kernel()
    assert await other.cancel("p") is True
    assert {run.status for run in await other.runs()} == {RunStatus.CANCELLED}
    assert await other.recover(family.parent(), family.child()) == []


async def test_a_step_timeout_ends_the_child_and_a_retry_lets_it_go_on(
    kernel: Kernel, world: World, family: Family
) -> None:
    """A child that took too long is stopped with the attempt, and goes on in the next one."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            assert isinstance(error, StepTimeoutError)
            family.hangs = False
            return 1.0

    family.hangs = True
    handle = await start(kernel, world, family, TaskConfig(timeout=5, retry=Once()))
    await world.clock.advance(5)
    assert (await world.look(CHILD)).status is RunStatus.CANCELLED
    await world.clock.advance(1)
    assert await handle.result() == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


async def test_a_child_that_waits(kernel: Kernel, world: World, family: Family) -> None:
    """A child may be parked; its parent waits for it, across a crash too, and then has its result."""
    family.waits = True
    await start(kernel, world, family)
    assert (await world.look(CHILD)).status is RunStatus.PARKED
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    assert await other.recover(family.parent()) == []  # both are parked
    await world.clock.advance(2)
    await other.signal(CHILD, "go")
    await world.clock.advance(2)
    assert await other.run(family.parent(), run_id="p") == RESULT
    assert family.did == {"before": 1, "first": 1, "second": 2, "after": 1}


async def test_a_parents_data_may_hold_the_childs_types(kernel: Kernel, world: World) -> None:
    """What a child puts out has a type that only the child's tasks name; the parent's data can be read all the same."""

    async def make(store: Any) -> str:
        store[PAGE] = Page(7)
        return "done"

    async def use(store: Any) -> str:
        store["number"] = store["page"].number
        return "end"

    def flow() -> Workflow[str]:
        child = Workflow("make", name="maker").register("make", make).add_exit_state("done")
        parent = Workflow("call", name="user").add_exit_state("end").register("use", use)
        return parent.register("call", SubWorkflow(child, {}, {PAGE: "page"}, then="use"))

    fault = world.faults(kernel).at_call("commit", 2, after=True).hang()
    await kernel.start(flow(), run_id="p")
    await fault.reached()
    await world.crash(kernel)
    await world.lapse()
    assert (await (await world.kernel()).resume(flow(), "p")).data["number"] == 7
