"""`SubWorkflow`: a workflow as a task of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Key,
    KeyNotFoundError,
    RetryExhaustedError,
    Run,
    RunStatus,
    Step,
    SubWorkflow,
    TaskConfig,
    TaskError,
    ValidationError,
    Workflow,
    current_step,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore


class Runs:
    """An observer that notes the runs."""

    def __init__(self) -> None:
        self.started: list[Run] = []
        self.finished: list[Run] = []
        self.steps: list[tuple[str, Any]] = []

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """See the hook."""
        self.started.append(run)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """See the hook."""
        self.finished.append(run)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """See the hook."""
        self.steps.append((step.workflow, step.state))


@pytest.fixture
def runs() -> Runs:
    """An observer."""
    return Runs()


@pytest.fixture
async def kernel(clock: VirtualClock, runs: Runs) -> AsyncIterator[Kernel]:
    """A kernel with that observer."""
    async with Kernel(discover=False, clock=clock, grace=0, plugins=[runs]) as kernel:
        yield kernel
        assert kernel.active == {}
    assert sorted(run.run_id for run in runs.started) == sorted(run.run_id for run in runs.finished)


class Pay(Enum):
    """States of a child."""

    ASK = auto()
    PAID = auto()
    REFUSED = auto()


class Order(Enum):
    """States of a parent."""

    PAY = auto()
    SHIP = auto()
    SHIPPED = auto()
    DROPPED = auto()


def payment(limit: int = 100) -> Workflow[Pay]:
    """A child that pays up to a limit."""

    async def ask(store: Any) -> Pay:
        store["seen"] = sorted(store.keys())
        if store["amount"] > limit:
            return Pay.REFUSED
        store["receipt"] = f"receipt for {store['amount']}"
        return Pay.PAID

    return Workflow(Pay.ASK, name="payment").register(Pay.ASK, ask).add_exit_states([Pay.PAID, Pay.REFUSED])


def order(pay: SubWorkflow[Order]) -> Workflow[Order]:
    """A parent."""

    async def ship(store: Any) -> Order:
        store["shipped"] = True
        return Order.SHIPPED

    flow = Workflow(Order.PAY, name="order").register(Order.PAY, pay).register(Order.SHIP, ship)
    return flow.add_exit_states([Order.SHIPPED, Order.DROPPED])


def one(work: Any, name: str = "one", config: TaskConfig | None = None) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start", name=name).register("start", work, config=config).add_exit_state("end")


# data


async def test_inputs_and_outputs(kernel: Kernel) -> None:
    """The child has only what `inputs` gives it, under its own keys; the parent gets only what `outputs` names."""
    pay = SubWorkflow[Order](
        payment(), inputs={"total": "amount"}, outputs={"receipt": "paid with", "seen": "child saw"}, then=Order.SHIP
    )

    result = await kernel.run(order(pay), {"total": 30, "secret": 1})

    assert result.state is Order.SHIPPED
    assert result.data == {
        "total": 30,
        "secret": 1,
        "paid with": "receipt for 30",
        "child saw": ["amount"],
        "shipped": True,
    }


async def test_keys_may_be_typed(kernel: Kernel) -> None:
    """A `Key` stands wherever a string does."""
    total, receipt = Key("total", int), Key("receipt", str)
    pay = SubWorkflow[Order](payment(), inputs={total: Key("amount", int)}, outputs={receipt: receipt}, then=Order.SHIP)

    assert (await kernel.run(order(pay), {total: 5})).data["receipt"] == "receipt for 5"


async def test_without_data(kernel: Kernel) -> None:
    """A child may need nothing and give nothing."""

    async def work(store: Any) -> str:
        assert len(store) == 0
        store["x"] = 1
        return "end"

    assert (await kernel.run(one(SubWorkflow(one(work), then="end")), {"y": 2})).data == {"y": 2}


async def test_the_childs_data_is_its_own(kernel: Kernel) -> None:
    """What it changes in place in its input is not changed in the parent."""

    async def work(store: Any) -> str:
        store["items"].append(2)
        return "end"

    child = one(work, "child")
    alone = one(SubWorkflow(child, inputs={"list": "items"}, then="end"))
    back = one(SubWorkflow(child, inputs={"list": "items"}, outputs={"items": "list"}, then="end"))

    assert (await kernel.run(alone, {"list": [1]})).data == {"list": [1]}
    assert (await kernel.run(back, {"list": [1]})).data == {"list": [1, 2]}


@dataclass
class Basket:
    """A store of the user's own."""

    total: int
    receipt: str = ""


async def test_a_parent_on_a_store_of_the_users_own(kernel: Kernel) -> None:
    """Inputs are its attributes, and so are outputs."""
    pay = SubWorkflow[Order](payment(), inputs={"total": "amount"}, outputs={"receipt": "receipt"}, then=Order.SHIPPED)
    basket = Basket(7)

    await kernel.run(order(pay), basket)

    assert basket == Basket(7, "receipt for 7")


async def test_a_missing_input(kernel: Kernel, runs: Runs) -> None:
    """The step fails before the child begins."""
    with pytest.raises(TaskError, match="total") as caught:
        await kernel.run(order(SubWorkflow(payment(), inputs={"total": "amount"}, then=Order.SHIP)))
    assert isinstance(caught.value.__cause__, KeyNotFoundError)
    assert len(runs.started) == 1


async def test_a_missing_output(kernel: Kernel) -> None:
    """The step fails, says which key, and nothing of the child is kept."""
    pay = SubWorkflow[Order](
        payment(0), inputs={"total": "amount"}, outputs={"seen": "seen", "receipt": "receipt"}, then=Order.SHIP
    )
    store = MemoryStore({"total": 5})

    with pytest.raises(TaskError, match="ended without its output key 'receipt'"):
        await kernel.run(order(pay), store)
    assert dict(store.live()) == {"total": 5}


async def test_outputs_are_committed_with_the_parents_step(kernel: Kernel, clock: VirtualClock) -> None:
    """While the child runs the parent's store is as it was."""

    async def first(store: Any) -> str:
        store["result"] = 1
        return "second"

    async def second(store: Any) -> str:
        await clock.sleep(10)
        return "end"

    child = Workflow("first").register("first", first).register("second", second).add_exit_state("end")
    store = MemoryStore()
    handle = await kernel.start(one(SubWorkflow(child, outputs={"result": "result"}, then="end")), store)
    await clock.sleep(5)
    assert len(store) == 0
    await handle.result()
    assert store["result"] == 1


# states


@pytest.mark.parametrize(("amount", "state"), [(5, Order.SHIPPED), (500, Order.DROPPED)])
async def test_what_follows_is_mapped(kernel: Kernel, amount: int, state: Order) -> None:
    """From the child's exit states to the parent's states."""
    pay = SubWorkflow[Order](
        payment(), inputs={"total": "amount"}, then={Pay.PAID: Order.SHIP, Pay.REFUSED: Order.DROPPED}
    )

    assert (await kernel.run(order(pay), {"total": amount})).state is state


async def test_one_state_follows_whatever_the_exit(kernel: Kernel) -> None:
    """Without a mapping."""
    pay = SubWorkflow[Order](payment(0), inputs={"total": "amount"}, then=Order.SHIP)

    assert (await kernel.run(order(pay), {"total": 5})).state is Order.SHIPPED


async def test_its_targets_are_declared() -> None:
    """They are drawn and validated like those of any task."""
    pay = SubWorkflow[Order](payment(), then={Pay.PAID: Order.SHIP, Pay.REFUSED: Order.DROPPED})

    assert set(order(pay).tasks[Order.PAY].targets or ()) == {Order.SHIP, Order.DROPPED}
    assert pay.name == "workflow payment"
    wrong: Any = SubWorkflow(payment(), then="nowhere")
    with pytest.raises(ValidationError, match="nowhere"):
        order(wrong).validate()


# what is wrong


async def test_wrong_arguments() -> None:
    """They are refused when the task is made, and named."""
    flow: Any = payment()
    with pytest.raises(ConfigurationError, match="flow must be a Workflow"):
        SubWorkflow("payment", then=Order.SHIP)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigurationError, match="inputs must map keys to keys"):
        SubWorkflow(flow, inputs=["total"], then=Order.SHIP)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigurationError, match="outputs must map keys to keys; 5 is not a key"):
        SubWorkflow(flow, outputs={"receipt": 5}, then=Order.SHIP)
    with pytest.raises(ConfigurationError, match=r"lacks the exit states Pay\.REFUSED"):
        SubWorkflow(flow, then={Pay.PAID: Order.SHIP})
    with pytest.raises(ConfigurationError, match="config must be a TaskConfig"):
        SubWorkflow(flow, then=Order.SHIP, config=5)
    with pytest.raises(TypeError):
        SubWorkflow(flow)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match="input"):
        SubWorkflow(flow, input={}, then=Order.SHIP)  # type: ignore[call-arg]  # that is the point


async def test_a_child_whose_definition_is_wrong(kernel: Kernel) -> None:
    """The step fails with the child's problems as the cause."""
    child = Workflow("start", name="broken").register("start", lambda store: "end")

    with pytest.raises(TaskError, match="broken") as caught:
        await kernel.run(one(SubWorkflow(child, then="end")))
    assert isinstance(caught.value.__cause__, ValidationError)


# failure


async def test_a_childs_failure_is_the_steps_failure(kernel: Kernel, runs: Runs) -> None:
    """The chain of causes leads from the parent's state through the child's to what the user's task raised."""
    problem = OSError("the bank is closed")

    async def bad(store: Any) -> str:
        store["half"] = True
        raise problem

    store = MemoryStore()
    with pytest.raises(TaskError) as caught:
        await kernel.run(one(SubWorkflow(one(bad, "child"), then="end"), "parent"), store, run_id="p1")
    error, cause = caught.value, caught.value.__cause__

    assert (error.run_id, error.workflow, error.state) == ("p1", "parent", "start")
    assert isinstance(cause, TaskError)
    assert (cause.run_id, cause.workflow, cause.state) == ("p1:1/child", "child", "start")
    assert cause.__cause__ is problem
    assert len(store) == 0
    assert [run.status for run in runs.finished] == [RunStatus.FAILED] * 2


async def test_a_retry_runs_the_whole_child_again(kernel: Kernel, clock: VirtualClock, runs: Runs) -> None:
    """Under the same id, on fresh data."""
    seen: list[tuple[float, str, list[str]]] = []

    class Twice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 10 if attempt < 3 else None

    async def first(store: Any) -> str:
        seen.append((clock.monotonic(), current_step().run_id, store.keys()))
        store["first"] = True
        return "second"

    async def second(store: Any) -> str:
        await clock.sleep(1)
        if len(seen) < 3:
            raise OSError
        return "end"

    child = Workflow("first", name="child").register("first", first).register("second", second).add_exit_state("end")
    task = SubWorkflow[str](child, outputs={"first": "first"}, then="end", config=TaskConfig(retry=Twice()))
    result = await kernel.run(one(task), run_id="p1")

    assert seen == [(0, "p1:1/child", []), (11, "p1:1/child", []), (22, "p1:1/child", [])]
    assert result.data == {"first": True}
    assert len(runs.started) == 4


async def test_retries_that_are_used_up(kernel: Kernel) -> None:
    """The parent's step has failed so many times; `on_exhausted` leads on."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1 if attempt == 1 else None

    async def bad(store: Any) -> str:
        raise OSError

    task = SubWorkflow[str](one(bad), then="end")
    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(one(task, config=TaskConfig(retry=Once())))
    assert caught.value.attempts == 2
    assert (await kernel.run(one(task, config=TaskConfig(on_exhausted="end")))).state == "end"


async def test_the_childs_own_retries_are_its_own(kernel: Kernel, runs: Runs) -> None:
    """A child that recovers by itself has not failed: its parent is attempted once."""
    attempts: list[int] = []

    class Often:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1

    async def flaky(store: Any) -> str:
        attempts.append(current_step().attempt)
        if current_step().attempt < 4:
            raise OSError
        return "end"

    child = one(flaky, "child", TaskConfig(retry=Often()))
    await kernel.run(one(SubWorkflow(child, then="end"), config=TaskConfig(retry=Often())))

    assert attempts == [1, 2, 3, 4]
    assert len(runs.started) == 2


# runs


async def test_ids_and_parents(kernel: Kernel, runs: Runs) -> None:
    """A child's id follows from the place of its step; `parent_id` is its parent's id."""

    async def work(store: Any) -> str:
        return "end"

    child = SubWorkflow[str](one(work, "child"), then="second")
    last = SubWorkflow[str](one(work, "child"), then="end")
    flow = Workflow("first", name="parent").register("first", child).register("second", last).add_exit_state("end")
    await kernel.run(flow, run_id="p1")

    assert [(run.run_id, run.parent_id, run.workflow) for run in runs.started] == [
        ("p1", None, "parent"),
        ("p1:1/child", "p1", "child"),
        ("p1:2/child", "p1", "child"),
    ]
    assert [run.status for run in runs.finished] == [RunStatus.SUCCEEDED] * 3


async def test_three_deep(kernel: Kernel, runs: Runs) -> None:
    """Each level has its own run, data and steps, and the running step is that of the innermost."""
    seen: list[tuple[str, int]] = []

    async def work(store: Any) -> str:
        seen.append((current_step().run_id, current_step().seq))
        store["n"] += 1
        return "end"

    async def before(store: Any) -> str:
        store["n"] *= 10
        return "start"

    flow = one(work, "d")
    for name in "cba":
        deeper = SubWorkflow[str](flow, inputs={"n": "n"}, outputs={"n": "n"}, then="end")
        flow = Workflow("before", name=name).register("before", before).register("start", deeper).add_exit_state("end")
    result = await kernel.run(flow, {"n": 1}, run_id="r")

    assert result.data == {"n": 1001}
    assert result.steps == 2
    assert seen == [("r:2/b:2/c:2/d", 1)]
    assert [(run.run_id, run.parent_id) for run in runs.started] == [
        ("r", None),
        ("r:2/b", "r"),
        ("r:2/b:2/c", "r:2/b"),
        ("r:2/b:2/c:2/d", "r:2/b:2/c"),
    ]
    assert current_step_is_gone()


def current_step_is_gone() -> bool:
    """Whether no step is running here."""
    with pytest.raises(ConfigurationError):
        current_step()
    return True


async def test_after_the_child_the_parents_step_is_the_running_one(kernel: Kernel) -> None:
    """Also where the child failed."""
    seen: list[str] = []

    class Wrapped(SubWorkflow[str]):
        async def run(self, store: Any) -> str:
            try:
                return await super().run(store)
            finally:
                seen.append(current_step().run_id)

    async def good(store: Any) -> str:
        return "end"

    async def bad(store: Any) -> str:
        raise OSError

    await kernel.run(one(Wrapped(one(good), then="end")), run_id="r1")
    with pytest.raises(TaskError):
        await kernel.run(one(Wrapped(one(bad), then="end")), run_id="r2")
    assert seen == ["r1", "r2"]


async def test_children_side_by_side_in_a_split(kernel: Kernel, clock: VirtualClock, runs: Runs) -> None:
    """Each branch's child has an id of its own; their outputs merge like all that branches write."""

    async def square(store: Any) -> str:
        await clock.sleep(10 - store["n"])
        store["square"] = store["n"] ** 2
        return "end"

    child = one(square, "square")
    branches = [
        SubWorkflow[str](child, inputs={f"in {n}": "n"}, outputs={"square": f"out {n}"}, then="end") for n in range(4)
    ]
    flow = Workflow("start").register_split("start", branches, JoinConfig(JoinStrategy.all(), "end"))
    result = await kernel.run(flow.add_exit_state("end"), {f"in {n}": n for n in range(4)}, run_id="r")

    assert result.data == {**{f"in {n}": n for n in range(4)}, **{f"out {n}": n**2 for n in range(4)}}
    assert [run.run_id for run in runs.started] == [
        "r",
        *(f"r:1:{n}:workflow square/square" for n in range(4)),
    ]
    assert {run.parent_id for run in runs.started[1:]} == {"r"}
    assert clock.monotonic() == 10


async def test_a_splits_losers_are_children(kernel: Kernel, clock: VirtualClock, runs: Runs) -> None:
    """They are cancelled with their branch, and are runs that were cancelled."""

    def lasting(seconds: float) -> SubWorkflow[str]:
        async def work(store: Any) -> str:
            await clock.sleep(seconds)
            return "end"

        return SubWorkflow(one(work, f"child {seconds}"), then="end")

    flow = Workflow("start").register_split(
        "start", [lasting(3), lasting(1), lasting(2)], JoinConfig(JoinStrategy.any(), "end")
    )
    await kernel.run(flow.add_exit_state("end"))

    statuses = {run.workflow: run.status for run in runs.finished}
    assert statuses == {
        "child 1": RunStatus.SUCCEEDED,
        "child 2": RunStatus.CANCELLED,
        "child 3": RunStatus.CANCELLED,
        "workflow": RunStatus.SUCCEEDED,
    }
    assert clock.monotonic() == 1


async def test_a_split_in_a_child_in_a_split(kernel: Kernel, clock: VirtualClock) -> None:
    """An inner join that is not met is the outer branch's failure; its error names every branch of its own."""

    async def good(store: Any) -> str:
        return "end"

    async def bad(store: Any) -> str:
        await clock.sleep(1)
        raise OSError("deep down")

    inner = Workflow("start", name="inner").register_split(
        "start", [good, bad, good], JoinConfig(JoinStrategy.all(), "end")
    )
    outer = Workflow("start").register_split(
        "start", [good, SubWorkflow(inner.add_exit_state("end"), then="end")], JoinConfig(JoinStrategy.all(), "end")
    )
    with pytest.raises(JoinError) as caught:
        await kernel.run(outer.add_exit_state("end"))

    branch_error = caught.value.outcome.branches[1].error
    assert isinstance(branch_error, TaskError)
    inner_error = branch_error.__cause__
    assert isinstance(inner_error, JoinError)
    assert [branch.status.value for branch in inner_error.outcome.branches] == ["ok", "failed", "ok"]
    assert "deep down" in str(inner_error)


async def test_one_child_in_many_parents_at_once(kernel: Kernel, clock: VirtualClock) -> None:
    """A workflow is a value: its runs do not meet."""

    async def double(store: Any) -> str:
        await clock.sleep(store["n"] % 5)
        store["n"] *= 2
        return "end"

    flow = one(SubWorkflow(one(double, "child"), inputs={"n": "n"}, outputs={"n": "n"}, then="end"))
    results = await asyncio.gather(*(kernel.run(flow, {"n": n}) for n in range(100)))

    assert [result.data["n"] for result in results] == [2 * n for n in range(100)]


async def test_a_child_that_calls_itself(kernel: Kernel) -> None:
    """A workflow may be its own child: each level is a run."""
    flow: Workflow[str] = Workflow("count", name="count")

    async def count(store: Any) -> str:
        store["depth"] = 1
        if store["n"] == 0:
            return "end"
        store["n"] -= 1
        return "deeper"

    async def add(store: Any) -> str:
        store["depth"] = store["below"] + 1
        return "end"

    deeper = SubWorkflow[str](flow, inputs={"n": "n"}, outputs={"depth": "below"}, then="add")
    flow.register("count", count).register("deeper", deeper).register("add", add).add_exit_state("end")

    assert (await kernel.run(flow, {"n": 5})).data["depth"] == 6


async def test_a_childs_limits_hold_across_its_parents(kernel: Kernel, clock: VirtualClock) -> None:
    """A limit of the child's workflow counts all of its runs, whoever started them."""
    now = peak = 0

    async def work(store: Any) -> str:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await clock.sleep(1)
        now -= 1
        return "end"

    child = Workflow("start", name="child", limit=2).register("start", work).add_exit_state("end")
    flow = one(SubWorkflow(child, then="end"))
    await asyncio.gather(*(kernel.run(flow) for _ in range(7)))

    assert peak == 2
    assert clock.monotonic() == 4


async def test_two_children_of_one_workflow_in_one_step(kernel: Kernel) -> None:
    """A task that runs a workflow twice at once has two children."""

    async def leaf(store: Any) -> str:
        store["done"] = store["number"]
        return "end"

    child = Workflow("leaf", name="child").register("leaf", leaf).add_exit_state("end")
    twice = SubWorkflow(child, {"number": "number"}, {"done": "done"}, then="end")

    async def both(store: Any) -> str:
        await asyncio.gather(twice.run(store), twice.run(store))
        return "end"

    parent = Workflow("both", name="parent").register("both", both).add_exit_state("end")
    assert (await kernel.run(parent, {"number": 7})).data == {"number": 7, "done": 7}
