"""A parent that only waits for a parked child is parked, too: without process and lease until the child has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConflictError,
    Kernel,
    Limit,
    Run,
    RunCancelledError,
    RunHandle,
    RunResult,
    RunStatus,
    RunTimeoutError,
    SerializationError,
    Signal,
    Standstill,
    Step,
    StepTimeoutError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
    sleep_until,
    wait_for,
)
from cano_durability.keeper import Keeper

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

CHILD = "p:1/child"
GRANDCHILD = "p:1/middle:1/child"


class Twice:
    """A retry strategy: a second attempt, 3 s after the first one."""

    def __init__(self) -> None:
        self.elapsed: list[float] = []

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return 3 s, once."""
        self.elapsed.append(elapsed)
        return 3.0 if attempt == 1 else None


class Family:
    """A child that waits for a signal or a time, and then does as it is told; and its parent, or a grandparent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.generations = 2
        self.sleeps = False
        self.does = "end"
        self.did: Counter[str] = Counter()
        self.retry = Twice()

    async def ask(self, store: Any) -> Any:
        """The child's first step."""
        self.did["ask"] += 1
        return sleep_until(self.world.clock.time() + 100, then="work") if self.sleeps else wait_for("go", then="work")

    async def work(self, store: Any) -> Any:
        """The child's second step."""
        self.did["work"] += 1
        if self.does == "hang":
            await asyncio.Event().wait()
        if self.does == "fail":
            raise ConnectionError
        if self.does == "ask again":
            self.does = "end"
            return "ask"
        store["n"] = store["n"] + 1
        return "end"

    async def after(self, store: Any) -> str:
        """The parent's second step."""
        self.did["after"] += 1
        return "end"

    def child(self) -> Workflow[Any]:
        """The child's workflow."""
        flow: Workflow[Any] = Workflow("ask", name="child", default_config=TaskConfig.minimal())
        return flow.register("ask", self.ask).register("work", self.work).add_exit_state("end")

    def middle(self) -> Workflow[Any]:
        """The workflow of the one between them, if there are three."""
        flow: Workflow[Any] = Workflow("call", name="middle", default_config=TaskConfig.minimal())
        call = SubWorkflow(self.child(), {"n": "n"}, {"n": "n"}, then="end")
        return flow.register("call", call).add_exit_state("end")

    def flow(self, run_limit: Any = None, **options: Any) -> Workflow[Any]:
        """The eldest's workflow; the options are those of its first step's config."""
        child = self.child() if self.generations == 2 else self.middle()
        options = {"retry": "none", **options}
        flow: Workflow[Any] = Workflow("call", name="parent").add_exit_state("end")
        call = SubWorkflow(child, {"n": "n"}, {"n": "n"}, then="after", config=TaskConfig(**options))
        return flow.register("call", call, limit=run_limit).register("after", self.after)

    async def start(self, kernel: Kernel, **options: Any) -> RunHandle:
        """Start the eldest, and let the family come as far as it can."""
        timeout = options.pop("run_timeout", None)
        handle = await kernel.start(self.flow(**options), {"n": 1}, run_id="p", timeout=timeout)
        await self.world.settle()
        return handle

    def ended(self) -> RunResult:
        """The eldest's result."""
        return RunResult("p", "end", {"n": 2}, 2)


@pytest.fixture
def family(world: World) -> Family:
    """A family."""
    return Family(world)


async def statuses(kernel: Kernel) -> dict[str, RunStatus]:
    """The statuses of all runs."""
    return {run.run_id: run.status for run in await kernel.runs()}


# parking and waking


@pytest.mark.parametrize("generations", [2, 3])
async def test_a_family_waits_without_process_and_lease(world: World, family: Family, generations: int) -> None:
    """Closing the kernel takes no time. The result comes to a handle, and to a caller, of the process that waits."""
    family.generations = generations
    kernel = await world.kernel(grace=60)
    handle = await family.start(kernel)
    runs = ["p", CHILD] if generations == 2 else ["p", "p:1/middle", GRANDCHILD]

    assert [(run.status, run.holder) for run in await kernel.runs()] == [(RunStatus.PARKED, None)] * generations
    assert (kernel.active, handle.status().status, handle.status().state) == ({}, RunStatus.PARKED, "call")
    assert (await handle.refresh()).seq == handle.status().seq == 1
    waiting = asyncio.ensure_future(kernel.run(family.flow(), run_id="p"))
    await world.settle()
    await kernel.signal(runs[-1], "go")
    await world.settle()
    assert (await handle.result(), await waiting) == (family.ended(), family.ended())
    assert family.did == {"ask": 1, "work": 1, "after": 1}
    again = await kernel.start(family.flow(), {"n": 1}, run_id="q")
    await world.settle()
    before = world.clock.time()
    await kernel.close()
    assert (world.clock.time() - before, again.status().status) == (0, RunStatus.PARKED)


@pytest.mark.parametrize("generations", [2, 3])
@pytest.mark.parametrize("sleeps", [False, True], ids=["signal", "time"])
@pytest.mark.parametrize("known", ["recover the eldest", "run the eldest", "resume the eldest", "recover all apart"])
async def test_another_process_continues(
    kernel: Kernel, world: World, family: Family, generations: int, sleeps: bool, known: str
) -> None:
    """One that knows only the eldest's workflow executes its children, too; so do processes that know one each."""
    family.generations, family.sleeps = generations, sleeps
    await family.start(kernel)
    await world.crash(kernel)
    other, waiting = await world.kernel(), None
    child = CHILD if generations == 2 else GRANDCHILD
    if known == "recover the eldest":
        assert await other.recover(family.flow()) == []
    elif known == "recover all apart":
        for flow in (family.flow(), family.middle(), family.child()):
            assert await (await world.kernel()).recover(flow) == []
    else:
        call = other.run(family.flow(), run_id="p") if known.startswith("run") else other.resume(family.flow(), "p")
        waiting = asyncio.ensure_future(call)
    await world.clock.advance(2)
    if not sleeps:
        await other.signal(child, "go")
    await world.clock.advance(110)

    assert set((await statuses(other)).values()) == {RunStatus.SUCCEEDED}
    assert await (waiting or other.run(family.flow(), run_id="p")) == family.ended()
    assert family.did == {"ask": 1, "work": 1, "after": 1}


async def test_only_children_of_its_runs_are_taken_over(kernel: Kernel, world: World, family: Family) -> None:
    """A process that recovers the parents' workflow leaves other runs of the child's workflow to others."""
    await family.start(kernel)
    await kernel.start(family.child(), {"n": 1}, run_id="alone")
    await world.settle()
    await world.crash(kernel)
    other, sender = await world.kernel(), await world.kernel()
    await other.recover(family.flow())
    for run_id in ("alone", CHILD):
        await sender.signal(run_id, "go")
    await world.clock.advance(5)

    assert await statuses(other) == {
        "p": RunStatus.SUCCEEDED, CHILD: RunStatus.SUCCEEDED, "alone": RunStatus.PARKED,
    }  # fmt: skip


async def test_a_child_that_waits_twice(kernel: Kernel, world: World, family: Family) -> None:
    """The parent waits once, until the child has ended."""
    family.does = "ask again"
    handle = await family.start(kernel)
    for _ in range(2):
        await kernel.signal(CHILD, "go")
        await world.settle()

    assert await handle.result() == family.ended()
    assert family.did == {"ask": 2, "work": 2, "after": 1}


async def test_a_child_that_another_process_wakes_and_leaves(kernel: Kernel, world: World, family: Family) -> None:
    """A kernel that parked both runs continues the child, if the process that woke it has died."""
    family.does = "hang"
    handle, other = await family.start(kernel), await world.kernel()
    await other.recover(family.child())
    await other.signal(CHILD, "go")
    await world.settle()
    assert CHILD in other.active
    await world.crash(other)
    family.does = "end"
    await world.lapse()

    assert await handle.result() == family.ended()


async def test_a_parent_under_a_limit(kernel: Kernel, world: World, family: Family) -> None:
    """While it is parked, other runs get its slot."""
    limit = Limit(1)
    handles = [await kernel.start(family.flow(limit), {"n": 1}, run_id=run_id) for run_id in ("a", "b")]
    await world.settle()
    assert set((await statuses(kernel)).values()) == {RunStatus.PARKED}
    for run_id in ("a", "b"):
        await kernel.signal(f"{run_id}:1/child", "go")

    assert [(await handle.result()).data for handle in handles] == [{"n": 2}] * 2


async def test_a_child_that_does_not_wait_costs_nothing(kernel: Kernel, world: World, family: Family) -> None:
    """Only the end of a child that has waited is announced."""
    flow = family.flow()
    await world.store(kernel).backend.put_signal(CHILD, Signal("1", "go"))
    assert await kernel.run(flow, {"n": 1}, run_id="p") == family.ended()

    calls = world.faults(kernel).calls
    assert (calls["create"], calls["commit"], calls["put_signal"], calls["claim"]) == (2, 4, 0, 0)


class Late:
    """A retry strategy: a second attempt, hours after the first one."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return two hours, once."""
        return 7200.0 if attempt == 1 else None


@pytest.mark.parametrize("kept", ["each step", "at its exit", "only while it is parked"])
async def test_other_waits_and_other_parents(kernel: Kernel, world: World, kept: str) -> None:
    """A child that waits for its next attempt, and then for a time that leads to its exit, wakes any stored parent."""
    tries = Counter[str]()

    async def fail(store: Any) -> Any:
        tries["fail"] += 1
        if tries["fail"] == 1:
            raise ConnectionError
        return sleep_until(world.clock.time() + 100, then="end")

    child = Workflow("fail", name="child").register("fail", fail, config=TaskConfig(retry=Late())).add_exit_state("end")
    flow = Workflow("call", name="parent", durability="exit" if kept == "at its exit" else "step")
    flow.register("call", SubWorkflow(child, then="end")).add_exit_state("end")
    handle = await kernel.start(flow, {"n": 1}, run_id="p", keep=kept != "only while it is parked")
    await world.settle()
    if kept == "each step":
        assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
    await world.clock.advance(7201)
    assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
    await world.clock.advance(101)

    assert (await handle.result()).data == {"n": 1}
    assert tries["fail"] == 2


# ends of children


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_child_that_fails(kernel: Kernel, world: World, family: Family, where: str) -> None:
    """The woken parent gets the failure, and does not resume the child. Its next attempt does, as always."""
    family.does = "fail"
    handle = await family.start(kernel, retry=family.retry)
    if where == "elsewhere":
        await world.crash(kernel)
        kernel = await world.kernel()
        await kernel.recover(family.flow(retry=family.retry))
    await world.clock.advance(2)
    await kernel.signal(CHILD, "go")
    await world.clock.advance(1)
    assert (family.did["work"], len(family.retry.elapsed)) == (1, 1)
    assert 2 <= family.retry.elapsed[0] <= 4  # since the first process began the step
    family.does = "end"
    await world.clock.advance(3)

    assert await kernel.run(family.flow(), run_id="p") == family.ended()
    assert family.did == {"ask": 1, "work": 2, "after": 1}
    assert handle.run_id == "p"


@pytest.mark.parametrize("generations", [2, 3])
async def test_a_child_that_is_cancelled_elsewhere(
    kernel: Kernel, world: World, family: Family, generations: int
) -> None:
    """It wakes its parent, which fails; and so on."""
    family.generations = generations
    handle, other = await family.start(kernel), await world.kernel()
    child = CHILD if generations == 2 else GRANDCHILD
    assert await other.cancel(child)
    await world.clock.advance(2)

    with pytest.raises(TaskError, match=f"run {child} was cancelled"):
        await handle.result()
    assert set((await statuses(kernel)).values()) == {RunStatus.FAILED, RunStatus.CANCELLED}


@pytest.mark.parametrize("child", ["parked", "running"])
async def test_cancelling_a_parked_parent(kernel: Kernel, world: World, family: Family, child: str) -> None:
    """All of its descendants end with it, those that continue without it included."""
    family.generations, family.does = 3, "hang"
    handle = await family.start(kernel)
    if child == "running":
        await kernel.signal(GRANDCHILD, "go")
        await world.settle()
        assert list(kernel.active) == [GRANDCHILD]
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert set((await statuses(kernel)).values()) == {RunStatus.CANCELLED}
    assert await kernel.check() == []


async def test_a_corrupt_child_that_is_deleted(kernel: Kernel, world: World, family: Family) -> None:
    """The parent is woken, and fails, since it cannot have a result any more."""
    handle, deleter = await family.start(kernel), await world.kernel()
    world.faults(deleter).at_call("load", None).fail(SerializationError("it is corrupt", run_id=CHILD))
    await deleter.delete(CHILD)
    await world.clock.advance(2)

    with pytest.raises(TaskError, match=f"the store has no run '{CHILD}'"):
        await handle.result()
    assert await statuses(kernel) == {"p": RunStatus.FAILED}


# timeouts


@pytest.mark.parametrize("process", ["the same", "another"])
async def test_an_attempts_timeout_keeps_counting(kernel: Kernel, world: World, family: Family, process: str) -> None:
    """The attempt ends in time, and the child with it. The next one has the whole timeout, and resumes the child."""
    await family.start(kernel, retry=family.retry, timeout=10)
    if process == "another":
        await world.crash(kernel)
        kernel = await world.kernel()
        await kernel.recover(family.flow(retry=family.retry, timeout=10))
    await world.clock.advance(9)
    assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
    await world.clock.advance(2)
    assert (await world.look(CHILD)).status is RunStatus.CANCELLED
    await world.clock.advance(3)
    assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
    await kernel.signal(CHILD, "go")
    await world.clock.advance(2)

    assert await kernel.run(family.flow(), run_id="p") == family.ended()
    assert family.did == {"ask": 1, "work": 1, "after": 1}


@pytest.mark.parametrize("limit", ["step", "run"])
async def test_the_limits_of_step_and_run_keep_counting(
    kernel: Kernel, world: World, family: Family, limit: str
) -> None:
    """The parent fails in time, and its child ends with it."""
    options = {"run_timeout": 10} if limit == "run" else {"total_timeout": 10}
    handle = await family.start(kernel, **options)
    await world.clock.advance(9)
    assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
    await world.clock.advance(1)

    with pytest.raises(RunTimeoutError if limit == "run" else StepTimeoutError):
        await handle.result()
    assert await statuses(kernel) == {"p": RunStatus.FAILED, CHILD: RunStatus.CANCELLED}
    if limit == "run":
        resumed = asyncio.ensure_future(kernel.resume(family.flow(), "p"))
        await world.settle()
        assert await statuses(kernel) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}
        await kernel.signal(CHILD, "go")
        assert await resumed == family.ended()


# crashes


@pytest.mark.parametrize("world", ["memory"], indirect=True)  # SIGKILL on the others: test_crashes.py, acceptance
@pytest.mark.parametrize("end", ["end", "cancelled"])
@pytest.mark.parametrize(
    ("call", "nth"), [*(("commit", nth) for nth in range(1, 9)), *(("put_signal", nth) for nth in (1, 2, 3))]
)
async def test_a_crash_at_any_write(world: World, family: Family, call: str, nth: int, end: str) -> None:
    """Whichever write is the last one of its process, another one that knows the eldest finishes the family."""
    family.generations = 3
    kernel = await world.kernel()
    fault = world.faults(kernel).at_call(call, nth).hang()
    handle = await family.start(kernel)
    work = asyncio.ensure_future(kernel.signal(GRANDCHILD, "go") if end == "end" else kernel.cancel(GRANDCHILD))
    await world.settle()
    await fault.reached()
    await world.crash(kernel)
    fault.release()
    await asyncio.gather(work, return_exceptions=True)
    other = await world.kernel()
    await other.recover(family.flow())
    await world.lapse()
    if (await world.find(GRANDCHILD)) is not None and (await world.look(GRANDCHILD)).status is RunStatus.PARKED:
        await (other.signal(GRANDCHILD, "go") if end == "end" else other.cancel(GRANDCHILD))
    await world.clock.advance(5)

    found = await statuses(other)
    assert handle.run_id == "p"
    if end == "end":
        assert set(found.values()) == {RunStatus.SUCCEEDED}
        assert (await world.look("p")).seq == 2
    else:
        assert found == {
            "p": RunStatus.FAILED, "p:1/middle": RunStatus.FAILED, GRANDCHILD: RunStatus.CANCELLED,
        }  # fmt: skip


async def test_a_stopped_process_cancels_a_child_too_late(kernel: Kernel, world: World, family: Family) -> None:
    """One that announced the child's end before it lost its lease cannot commit it: the parent does, which it woke."""
    handle, other = await family.start(kernel), await world.kernel()
    fault = world.faults(other).at_call("commit", 1).hang()
    cancelled = asyncio.ensure_future(other.cancel(CHILD))
    await fault.reached()
    await world.clock.advance(2)
    assert (await world.look("p")).status is RunStatus.RUNNING  # it was woken, and waits for the holder
    await world.clock.advance(32)
    with pytest.raises(TaskError, match=f"run {CHILD} was cancelled"):
        await handle.result()
    fault.release()
    with pytest.raises(ConflictError):
        await cancelled


async def test_a_child_that_is_cancelled_as_it_parks(kernel: Kernel, world: World, family: Family) -> None:
    """It is parked in the store, and its own process has no answer yet; the parent, parked elsewhere, is woken."""
    first = world.faults(kernel).at_call("commit", 1).hang()
    starting = asyncio.ensure_future(kernel.run(family.flow(), {"n": 1}, run_id="p"))
    await first.reached()
    await world.crash(kernel)
    starting.cancel()
    await world.lapse()
    other, third = await world.kernel(), await world.kernel()
    parked = world.faults(other).at_call("commit", 2, after=True).hang()
    executing = asyncio.ensure_future(other.run(family.child(), run_id=CHILD))
    await parked.reached()
    (handle,) = await third.recover(family.flow())
    await world.settle()
    assert await statuses(third) == {"p": RunStatus.PARKED, CHILD: RunStatus.PARKED}

    await other.cancel(CHILD)
    await world.clock.advance(2)
    with pytest.raises(RunCancelledError):
        await executing
    assert await statuses(third) == {"p": RunStatus.FAILED, CHILD: RunStatus.CANCELLED}
    with pytest.raises(TaskError, match=f"run {CHILD} was cancelled"):
        await handle.result()


# what is seen


async def test_a_child_that_another_program_removed(kernel: Kernel, family: Family) -> None:
    """Nothing announces its end: `explain` and `check` say so, and the parent can be cancelled."""
    await family.start(kernel)
    assert kernel.backend is not None
    await kernel.backend.delete(CHILD)  # as a program that knows nothing of parents

    why, detail = await kernel.explain("p")
    assert (why, detail) == (
        Standstill.WAITING_FOR_CHILD, f"{CHILD}, which does not exist; only cancelling this run can end the wait",
    )  # fmt: skip
    (finding,) = await kernel.check()
    assert (finding.kind, finding.run_id) == ("orphan", "p")
    assert f"its child {CHILD}, whose end it waits for, does not exist" in str(finding)
    assert await kernel.cancel("p")
    assert await statuses(kernel) == {"p": RunStatus.CANCELLED}


async def test_a_parked_parent_is_explained(kernel: Kernel, world: World, family: Family) -> None:
    """`explain` names the child, whose own explanation says more."""
    await family.start(kernel, timeout=60)
    other = await world.kernel()

    for each in (kernel, other):
        assert await each.explain("p") == (Standstill.WAITING_FOR_CHILD, f"{CHILD}, which is parked, for 60.0 s more")
        assert await each.explain(CHILD) == (Standstill.WAITING_FOR_SIGNAL, "'go', then work")
    record = await world.look("p")
    assert record.wait is not None
    assert (record.wait.child, record.wait_token) == (CHILD, None)
    assert await kernel.check() == []


async def test_a_fork_of_a_parked_parent(kernel: Kernel, world: World, family: Family) -> None:
    """It has a child of its own, which waits."""
    await family.start(kernel)
    await kernel.fork("p", 0, "f")
    forked = asyncio.ensure_future(kernel.resume(family.flow(), "f"))
    await world.settle()
    await kernel.signal("f:1/child", "go")

    assert (await forked).data == {"n": 2}
    assert (await statuses(kernel))["p"] is RunStatus.PARKED


class Watching:
    """Notes what observers are told of the parent."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, what: str, run: Run) -> None:
        """Note it, if it is about the parent."""
        if run.run_id == "p":
            self.seen.append(what)

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """A segment begins."""
        self.note("started", run)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """A step begins."""
        self.note(f"step {step.seq}", step.run)

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """It ends."""
        self.note(f"step {step.seq} to {step.next_state}", step.run)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """It fails."""
        self.note(f"step {step.seq} failed", step.run)

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """It is committed."""
        self.note(f"committed {step.seq}", step.run)

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """A segment ends."""
        assert run.wait is not None
        self.note(f"parked for {run.wait.child}", run)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """The last segment ends."""
        self.note(run.status.value, run)


async def test_what_observers_see(world: World, family: Family) -> None:
    """The step ends with its segment, and begins again; the wait is not a failure, and only its end is a transition."""
    watching = Watching()
    kernel = await world.kernel(plugins=[watching])
    handle = await family.start(kernel)
    await kernel.signal(CHILD, "go")
    await handle.result()

    assert watching.seen == [
        "started", "step 1", "step 1 to call", f"parked for {CHILD}",
        "started", "step 1", "step 1 to after", "committed 1", "step 2", "step 2 to end", "committed 2", "succeeded",
    ]  # fmt: skip
    assert isinstance(kernel.keeper, Keeper)
