"""Limits whose holders wait for runs that need the same limit: the waiting run lends its slot."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from cano import (
    Commit,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    Limit,
    RunHandle,
    Standstill,
    SubWorkflow,
    TaskConfig,
    ValidationError,
    Workflow,
    current_step,
    wait_for,
)
from cano.model import validation
from cano.testing import VirtualClock
from cano_memory import MemoryBackend

from tests.waiting import until

HANG = 30.0
"""Seconds after which a test has failed: its runs wait for each other."""


def flow_of(name: str, task: Any, **limits: Any) -> Workflow[str]:
    """A workflow of one task, with limits on its runs."""
    return Workflow("start", name=name, **limits).register("start", task).add_exit_state("end")


async def at_once(store: Any) -> str:
    """End."""
    return "end"


@pytest.mark.parametrize("store", [None, MemoryBackend, partial(MemoryBackend, strict=True)])
async def test_a_child_borrows_the_slot_of_its_parent(store: Any, clock: VirtualClock) -> None:
    """Parent, child and grandchild under one limit of 1 end, one family after the other, stored or not."""
    limit = Limit(1)
    grandchild = flow_of("grandchild", at_once, limit=limit)
    child = flow_of("child", SubWorkflow(grandchild, then="end"), limit=limit)
    parent = flow_of("parent", SubWorkflow(child, then="end"), limit=limit)
    kernel = Kernel(discover=False, clock=clock) if store is None else Kernel(store=store(), clock=clock)

    async with kernel, asyncio.timeout(HANG):
        results = await asyncio.gather(*(kernel.run(parent) for _ in range(5)))

    assert [result.state for result in results] == ["end"] * 5


def crossing(one: Limit, two: Limit) -> Workflow[str]:
    """A workflow whose first state calls a child of the other limit, and whose second state does so the other way."""
    flow = Workflow("left", name="crossing").add_exit_state("end")
    flow.register("left", SubWorkflow(flow_of("two", at_once, limit=two), then="right"), limit=one)
    return flow.register("right", SubWorkflow(flow_of("one", at_once, limit=one), then="end"), limit=two)


async def test_limits_that_are_taken_in_two_orders_are_refused(kernel: Kernel) -> None:
    """A run that holds the first limit and waits for the second, and one the other way round, would wait for ever."""
    one, two = Limit(1), Limit(2)

    with pytest.raises(ValidationError) as refused:
        await kernel.run(crossing(one, two))

    assert refused.value.problems == (
        "runs can wait for each other's limits for ever: "
        "workflow 'two' waits for Limit(2) while the run, or one that called it, holds Limit(1); "
        "workflow 'one' waits for Limit(1) while the run, or one that called it, holds Limit(2)",
    )


class SecondRequest(Limit):
    """A limit of 1, and an event: two runs have requested its slot, so the second one waits."""

    def __init__(self) -> None:
        super().__init__(1)
        self.requests, self.happened = 0, asyncio.Event()

    def value(self, store: Any) -> Any:
        """Return the value, as the request begins. It comes before the run next lets others run."""
        self.requests += 1
        if self.requests == 2:
            self.happened.set()
        return super().value(store)


async def test_without_that_check_they_would_wait_for_ever(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that hold one limit each, and whose children need the other one, do not end: lending does not help."""
    monkeypatch.setattr(validation, "_limits", lambda flow: ())
    one, two = SecondRequest(), SecondRequest()
    both, flow = asyncio.Barrier(2), Workflow("wait", name="crossing").add_exit_state("end")
    for name, mine, other in (("left", one, two), ("right", two, one)):
        child = flow_of("child", at_once, limit=other)

        class Together(SubWorkflow[str]):
            async def run(self, store: Any) -> str:
                await both.wait()
                return await super().run(store)

        flow.register(name, Together(child, then="end"), limit=mine)
    flow.register("wait", lambda store: store["to"])

    handles = [await kernel.start(flow, {"to": to}, run_id=to) for to in ("left", "right")]
    async with asyncio.timeout(HANG):
        await one.happened.wait()
        await two.happened.wait()
    assert [run.waits_for is not None for run in kernel.active.values() if run.parent_id] == [True, True]
    for handle in handles:
        await handle.cancel()


@pytest.mark.parametrize("shared", ["workflows", "states", "branches", "itself"])
def test_limits_that_a_caller_lends_are_accepted(shared: str) -> None:
    """Equal limits of parent and child, also with others between them, are taken in one order only."""
    one, two = Limit(1), Limit(1)
    if shared == "workflows":
        grandchild = flow_of("grandchild", at_once, limit=one)
        child = flow_of("child", SubWorkflow(grandchild, then="end"), limit=[one, two])
        flow = flow_of("parent", SubWorkflow(child, then="end"), limit=one)
    elif shared == "states":
        child = flow_of("child", at_once, limit=two)
        flow = Workflow("start", name="parent").register("start", SubWorkflow(child, then="next"), limit=one)
        flow.register("next", SubWorkflow(child, then="end"), limit=one).add_exit_state("end")
    elif shared == "branches":
        branch = SubWorkflow(flow_of("child", at_once, limit=two), then="end")
        flow = Workflow("start", name="parent", limit=one).add_exit_state("end")
        flow.register_split("start", [branch, branch], JoinConfig(JoinStrategy.all(), "end"))
    else:
        flow = Workflow("start", name="parent", limit=one).add_exit_state("end")
        flow.register("start", SubWorkflow(flow, then="end"))

    assert flow.validate() is flow


def test_a_branch_and_a_grandchild_are_looked_into() -> None:
    """Limits of sub-workflows within branches and within sub-workflows count, too."""
    one, two, three = Limit(1), Limit(2), Limit(3)
    inner = flow_of("inner", SubWorkflow(flow_of("third", at_once, limit=three), then="end"), limit=two)
    flow = Workflow("a", name="parent").add_exit_state("end")
    flow.register("a", SubWorkflow(inner, then="b"), limit=one)
    flow.register("b", SubWorkflow(flow_of("split", at_once), then="end"), limit=three)
    assert flow.validate() is flow
    back = SubWorkflow(flow_of("back", at_once, limit=one), then="end")
    outer = Workflow("x", name="outer", limit=three).add_exit_state("end")
    outer.register_split("x", [SubWorkflow(flow, then="end"), back], JoinConfig(JoinStrategy.all(), "end"))
    assert outer.validate() is outer  # `three` is held first in all of them
    late = flow_of("late", SubWorkflow(outer, then="end"))
    both = Workflow("p", name="both").add_exit_state("end")
    both.register("p", SubWorkflow(flow, then="q")).register("q", SubWorkflow(late, then="end"))

    with pytest.raises(ValidationError, match=r"waits for Limit\(3\) [^;]* holds Limit\(1\)") as refused:
        both.validate()
    assert "waits for Limit(1) while the run, or one that called it, holds Limit(3)" in str(refused.value)


async def test_a_state_lends_its_slot_to_the_same_limit_of_its_child(kernel: Kernel) -> None:
    """A state and a state of its sub-workflow share a limit of 1."""
    limit = Limit(1)
    child = Workflow("start", name="child").register("start", at_once, limit=limit).add_exit_state("end")
    parent = Workflow("start", name="parent").register("start", SubWorkflow(child, then="end"), limit=limit)
    parent.add_exit_state("end")

    async with asyncio.timeout(HANG):
        results = await asyncio.gather(*(kernel.run(parent) for _ in range(5)))

    assert [result.state for result in results] == ["end"] * 5


@pytest.mark.parametrize("deep", [1, 20])
async def test_a_workflow_that_runs_itself(kernel: Kernel, deep: int) -> None:
    """Under a limit of 1, a task that awaits a run of its own workflow gets its result, at any depth."""

    async def again(store: KeyValueStore) -> str:
        if (left := store.get("left", int)) > 0:
            result = await current_step().run.kernel.run(flow, {"left": left - 1})  # type: ignore[attr-defined]
            store["depth"] = result.data["depth"] + 1
        else:
            store["depth"] = 0
        return "end"

    flow = flow_of("again", again, limit=1)
    async with asyncio.timeout(HANG):
        assert (await kernel.run(flow, {"left": deep})).data["depth"] == deep


async def test_a_slot_is_lent_to_one_run_at_a_time(kernel: Kernel, clock: VirtualClock) -> None:
    """The children of one run work one at a time under its limit of 1, and two at a time under a limit of 2."""
    now = peak = 0

    async def work(store: Any) -> str:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await clock.sleep(1)
        now -= 1
        return "end"

    for limit in (1, 2):
        peak, shared = 0, Limit(limit)
        child = flow_of("child", work, limit=shared)

        async def several(store: Any, child: Workflow[str] = child) -> str:
            await asyncio.gather(*(kernel.run(child) for _ in range(6)))
            return "end"

        async with asyncio.timeout(HANG):
            await asyncio.gather(*(kernel.run(flow_of("parent", several, limit=shared)) for _ in range(2)))
        assert peak == limit


async def test_a_lent_slot_is_kept_after_its_lender_has_ended(kernel: Kernel, clock: VirtualClock) -> None:
    """A child that outlives its caller holds the slot until its own end: the limit stays exact."""
    limit, order = Limit(1), list[str]()
    background: list[asyncio.Task[Any]] = []

    async def slow(store: Any) -> str:
        order.append("child begins")
        await clock.sleep(10)
        order.append("child ends")
        return "end"

    async def leave(store: Any) -> str:
        background.append(asyncio.ensure_future(kernel.run(flow_of("child", slow, limit=limit))))
        await clock.sleep(1)
        return "end"

    async def next_one(store: Any) -> str:
        order.append("another begins")
        return "end"

    async with asyncio.timeout(HANG):
        await kernel.run(flow_of("parent", leave, limit=limit))
        await kernel.run(flow_of("another", next_one, limit=limit))
        await asyncio.gather(*background)

    assert order == ["child begins", "child ends", "another begins"]


async def test_a_started_run_borrows_nothing(kernel: Kernel, clock: VirtualClock) -> None:
    """`start` does not wait for the run, so that one takes a slot of its own, after the starting run."""
    limit, order = Limit(1), list[str]()
    handles: list[RunHandle] = []

    async def first(store: Any) -> str:
        handles.append(await kernel.start(flow_of("second", second, limit=limit)))
        await clock.sleep(1)
        order.append("first")
        return "end"

    async def second(store: Any) -> str:
        order.append("second")
        return "end"

    async with asyncio.timeout(HANG):
        await kernel.run(flow_of("first", first, limit=limit))
        await handles[0].result()

    assert order == ["first", "second"]


async def test_a_cancelled_borrower_gives_the_slot_back(kernel: Kernel, clock: VirtualClock) -> None:
    """Children that are cancelled while they wait for the slot, or have it, leave it to the next one."""
    limit = Limit(1)

    async def for_ever(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    async def impatient(store: Any) -> str:
        for turns in range(12):
            calls = [asyncio.ensure_future(kernel.run(flow_of("child", for_ever, limit=limit))) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        result = await kernel.run(flow_of("child", at_once, limit=limit))
        return str(result.state)

    async with asyncio.timeout(HANG):
        for _ in range(2):
            await kernel.run(flow_of("parent", impatient, limit=limit))

    assert kernel.limiter(limit)._buckets == {}


async def test_a_child_that_was_parked_borrows_again(clock: VirtualClock) -> None:
    """A child under its parent's limit waits for a signal, goes on in another task, and gets the slot."""
    limit = Limit(1)

    async def ask(store: Any) -> Any:
        return wait_for("go", then="more")

    child = Workflow("ask", name="child", limit=limit).register("ask", ask).register("more", at_once)
    child.add_exit_state("end")
    parent = flow_of("parent", SubWorkflow(child, then="end"), limit=limit)
    async with Kernel(store=MemoryBackend(), clock=clock) as kernel, asyncio.timeout(HANG):
        handle = await kernel.start(parent, run_id="one")
        while not (parked := [run.run_id for run in await kernel.runs(status="parked")]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await kernel.signal(parked[0], "go")
        assert (await handle.result()).state == "end"


async def test_explain_names_the_limit_and_its_holders(clock: VirtualClock) -> None:
    """A run that waits for a slot says for which limit, and which runs hold it."""
    go = asyncio.Event()

    async def hold(store: Any) -> str:
        await go.wait()
        return "end"

    flow = flow_of("hold", hold, limit=Limit(1, key="customer"))
    async with Kernel(store=MemoryBackend(), clock=clock) as kernel:
        first = await kernel.start(flow, {"customer": "acme"}, run_id="first")
        second = await kernel.start(flow, {"customer": "acme"}, run_id="second")
        await until(lambda: kernel.active["second"].waits_for is not None)

        running, waiting = await kernel.explain("first"), await kernel.explain("second")
        go.set()
        await first.result()
        await second.result()

    assert running.reason is Standstill.RUNNING_HERE
    assert waiting == (Standstill.WAITING_FOR_LIMIT, "Limit(1, key='customer') for 'acme', held by run first")


async def test_a_state_keeps_its_slot_until_its_step_is_committed(clock: VirtualClock) -> None:
    """Under a limit of 1, no task begins before the step of the one before is committed."""
    log: list[str] = []

    class Slow(MemoryBackend):
        """Commits after other tasks have had their turn."""

        async def commit(self, commit: Commit, audit: Any = None) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            await super().commit(commit)
            if commit.seq == commit.expected_seq + 1 == 1:
                log.append("committed")

    async def work(store: Any) -> str:
        log.append("begun")
        return "rest"

    flow = Workflow("start", name="flow", default_config=TaskConfig.minimal()).register("start", work, limit=1)
    flow.register("rest", at_once).add_exit_state("end")
    async with Kernel(store=Slow(strict=True), clock=clock) as kernel:
        await asyncio.gather(*(kernel.run(flow, run_id=str(number)) for number in range(4)))

    assert log == ["begun", "committed"] * 4
