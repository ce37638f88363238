"""Search attributes of runs: what sets them, when they change, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

import pytest
from cano import (
    Commit,
    Condition,
    ConfigurationError,
    FilterError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Node,
    RunFilter,
    RunRecord,
    RunStatus,
    SizeLimitError,
    SizeLimits,
    TaskConfig,
    TypeMismatchError,
    WorkflowError,
    current_step,
    wait_for,
)
from cano import Workflow as Flow
from cano.search_attributes import encoded
from cano_memory import MemoryBackend
from cano_retry import Fixed


class Plan(Enum):
    """A plan."""

    FREE = "free"
    PAID = "paid"


class Watched(MemoryBackend):
    """A store in memory that outlives its kernels, and keeps what it was given.

    Attributes:
        commits: all commits.
        created: all new runs.
        listed: the status of each list.
        parked: set once a run was parked.
    """

    def __init__(self, strict: bool = True) -> None:
        super().__init__(strict=strict)
        self.commits: list[Commit] = []
        self.created: list[RunRecord] = []
        self.listed: list[RunStatus | None] = []
        self.parked = asyncio.Event()

    async def close(self) -> None:
        """Keep everything."""

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Note the list."""
        self.listed.append(filter.status)
        return await super().runs(filter)

    async def create(self, run: RunRecord, audit: Any = None) -> RunRecord:
        """Note the run."""
        self.created.append(run)
        return await super().create(run, audit)

    async def commit(self, commit: Commit, audit: Any = None) -> None:
        """Note the commit."""
        await super().commit(commit, audit)
        self.commits.append(commit)
        if commit.status is RunStatus.PARKED:
            self.parked.set()


def flow_of(*steps: Callable[[Any], Any], **options: Any) -> Flow[str]:
    """A workflow whose states execute these functions one after the other."""
    attributes = {"tenant": str, "amount": Decimal, "plan": Plan, "n": int}
    flow = Flow("S0", **{"name": "order", "attributes": attributes, **options}).add_exit_state("END")
    for number, body in enumerate(steps):
        last = number + 1 == len(steps)

        async def run(store: Any, body: Any = body, after: str = "END" if last else f"S{number + 1}") -> Any:
            return body(store) or after

        flow.register(f"S{number}", run)
    return flow


def put(key: str, value: Any, data: Any) -> None:
    """Put a value."""
    data[key] = value


async def attributes(kernel: Kernel, run_id: str = "r") -> Any:
    """The attributes of a run."""
    return (await kernel.get(run_id)).attributes


@pytest.mark.parametrize("strict", [True, False])
async def test_they_follow_keys(strict: bool) -> None:
    """From the data at the creation, and from what each step puts or removes, in its commit; of an enum, the value."""
    store = Watched(strict)

    def third(data: Any) -> None:
        data["amount"] = None
        data.remove("plan")

    flow = flow_of(lambda data: data.put("amount", Decimal("2.50")), lambda data: data.put("other", 1), third)
    async with Kernel(store=store) as kernel:
        await kernel.run(flow, {"tenant": "acme", "plan": Plan.PAID, "n": 1}, run_id="r")
        assert await attributes(kernel) == {"tenant": "acme", "n": 1}
    assert [*store.created[0].attributes] == ["tenant", "plan", "n"]
    written = [None if commit.attributes is None else sorted(commit.attributes) for commit in store.commits]
    steps = [["amount", "n", "plan", "tenant"], None, ["n", "tenant"]]
    assert written == (steps if strict else steps[2:]), "a store that does not survive gets the end alone"


async def test_a_run_that_is_stored_when_it_waits_has_them() -> None:
    """Also what earlier steps have set, unless they failed; and what they let follow its key again."""
    store, failed = Watched(), list[int]()

    def first(data: Any) -> None:
        current_step().attributes["tenant"] = "set"
        current_step().attributes["plan"] = Plan.PAID
        current_step().attributes["amount"] = Decimal(1)
        data["tenant"], data["plan"] = "key", Plan.FREE

    def second(data: Any) -> str:
        del current_step().attributes["plan"]
        current_step().attributes["amount"] = None
        return "again"

    async def again(data: Any) -> str:
        if not failed:
            failed.append(1)
            current_step().attributes["n"] = 9
            raise ValueError
        return wait_for("go", then="END")

    flow = flow_of(first, second)
    flow.register("again", again, config=TaskConfig(retry=Fixed(1, 0)))
    async with Kernel(store=store) as kernel:
        handle = await kernel.start(flow, run_id="r", keep=False)
        await store.parked.wait()
        assert await attributes(kernel) == {"tenant": "set", "plan": "free"}
        assert store.created[0].attributes == {"tenant": encoded("set"), "plan": encoded("free")}
        await kernel.signal("r", "go")
        await handle.result()
        assert await attributes(kernel) == {"tenant": "set", "plan": "free"}


async def test_steps_set_them() -> None:
    """What a step sets no longer follows its key, until the attribute is deleted; None is no value."""

    def first(data: Any) -> None:
        current_step().attributes["tenant"] = "set"
        current_step().attributes["plan"] = Plan.FREE
        current_step().attributes["n"] = None
        data["tenant"], data["n"] = "key", 5

    def third(data: Any) -> None:
        del current_step().attributes["tenant"]

    store = Watched()
    async with Kernel(store=store) as kernel:
        await kernel.run(flow_of(first, lambda data: data.put("tenant", "later"), third), {}, run_id="r")
        assert await attributes(kernel) == {"tenant": "later", "plan": "free"}
        assert [run.run_id for run in await kernel.runs(where="tenant = later")] == ["r"]
        await kernel.fork("r", 2, "f")
        assert await attributes(kernel, "f") == {"tenant": "set", "plan": "free"}
        assert [run.run_id for run in await kernel.runs(where="tenant = set and plan = free")] == ["f"]
    assert [commit.attributes is None for commit in store.commits[:3]] == [False, True, False]


async def test_failed_attempts_set_nothing() -> None:
    """A failed attempt leaves no attribute; a node's `prep` that is not executed again does; a branch is refused."""

    class Work(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            current_step().attributes["tenant"] = "prep"
            return 1

        async def exec(self, prepared: int) -> int:
            current_step().attributes["amount"] = Decimal(current_step().attempt)
            if current_step().attempt < 3:
                current_step().attributes["plan"] = Plan.PAID
                raise ValueError
            return 1

        async def post(self, store: Any, prepared: int, result: int) -> str:
            return "FAIL"

    class Fails(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            current_step().attributes["tenant"] = "failed"
            return 1

        async def exec(self, prepared: int) -> int:
            raise ValueError

        async def post(self, store: Any, prepared: int, result: int) -> str:
            return "END"

    async def fail(store: Any) -> str:
        current_step().attributes["tenant"] = "failed"
        raise ValueError

    async def branch(store: Any) -> None:
        current_step().attributes["tenant"] = "branch"

    config = TaskConfig(retry=Fixed(2, 0))
    flow = flow_of(attributes={"tenant": str, "amount": Decimal, "plan": Plan})
    flow.register("S0", Work(config=config)).register("FAIL", fail, config=TaskConfig(on_exhausted="NODE"))
    flow.register("NODE", Fails(config=TaskConfig(on_exhausted="SPLIT")))
    flow.register_split("SPLIT", [branch], JoinConfig(JoinStrategy.all(), "END"))
    async with Kernel(store=Watched()) as kernel:
        with pytest.raises(WorkflowError) as caught:
            await kernel.run(flow, {}, run_id="r")
        assert "attribute 'tenant' was set in branch" in str(caught.value)
        assert await attributes(kernel) == {"tenant": "prep", "amount": 3}


async def test_wrong_values_fail_the_run() -> None:
    """The error names run, workflow, attribute, value and types, and the run has the attributes of its last commit."""
    store = Watched()
    async with Kernel(store=store, limits=SizeLimits(attributes=12)) as kernel:
        cases: list[tuple[dict[str, Any], Any, str]] = [
            ({"n": "x"}, TypeMismatchError, "run r0 of workflow 'order': attribute 'n' is 'x', of type str, not int"),
            ({"tenant": ["a"]}, TypeMismatchError, r"attribute 'tenant' is \['a'\], of type list, not s"),
            ({"tenant": "longer than 12"}, SizeLimitError, "attribute 'tenant' has 14 bytes, more than SizeLimits.at"),
        ]  # fmt: skip
        for number, (data, error, problem) in enumerate(cases):
            ((key, value),) = data.items()
            flow = flow_of(lambda data: data.put("tenant", "right"), partial(put, key, value))
            with pytest.raises(error, match=problem):
                await kernel.run(flow, {"n": 1}, run_id=f"r{number}")
            assert await attributes(kernel, f"r{number}") == {"n": 1, "tenant": "right"}
            assert (await kernel.get(f"r{number}")).status is RunStatus.FAILED
            with pytest.raises(error, match=problem.replace("r0", "new")):
                await kernel.run(flow_of(lambda data: None), data, run_id="new")
        flow = flow_of(lambda data: current_step().attributes.__setitem__("n", 1.5))
        with pytest.raises(WorkflowError, match=r"attribute 'n' is 1\.5, of type float, not int"):
            await kernel.run(flow, {}, run_id="set")
        flow = flow_of(lambda data: current_step().attributes.__setitem__("tenannt", "a"))
        with pytest.raises(WorkflowError, match=r"'order' declares no attribute 'tenannt' \(did you mean 'tenant'\?\)"):
            await kernel.run(flow, {}, run_id="misspelt")
        flow = flow_of(lambda data: data.put("n", "x"), durability="exit")
        with pytest.raises(TypeMismatchError, match="attribute 'n' is 'x'"):
            await kernel.run(flow, {"n": 2}, run_id="exit")
        assert (await kernel.get("exit")).status is RunStatus.FAILED
        assert await attributes(kernel, "exit") == {"n": 2}


async def test_they_survive_the_process() -> None:
    """Another kernel continues with what was set, after failures; a workflow that declares more sets it."""
    fails = [True, True]

    def first(data: Any) -> None:
        current_step().attributes["tenant"] = "a"

    def second(data: Any) -> None:
        data["amount"] = Decimal(1)
        if fails.pop():
            raise ValueError

    def flow(**options: Any) -> Flow[str]:
        return flow_of(first, second, lambda data: data.put("n", 1), **options)

    store = Watched()
    async with Kernel(store=store) as kernel:
        with suppress(WorkflowError):
            await kernel.run(flow(), {"tenant": "key"}, run_id="r")
    async with Kernel(store=store) as kernel:
        with suppress(WorkflowError):
            await kernel.resume(flow(), "r")
        assert await attributes(kernel) == {"tenant": "a"}
    fails.append(False)
    async with Kernel(store=store) as kernel:
        more = flow(attributes={"tenant": str, "amount": Decimal, "region": str})
        await kernel.resume(more, "r")
        assert await attributes(kernel) == {"tenant": "a", "amount": 1}
        assert [run.run_id for run in await kernel.runs(attributes={"amount": 1, "tenant": "a"})] == ["r"]


async def test_who_declares_none_pays_nothing() -> None:
    """No commit has any, no run has a value for it, and a step's attributes are refused."""
    store = Watched()
    async with Kernel(store=store) as kernel:
        await kernel.run(
            flow_of(lambda data: data.put("n", 1), lambda data: None, attributes=None), {"n": 0}, run_id="r"
        )
        record = await store.load("r")
        assert record is not None
        assert "attributes" not in record.own
        assert await attributes(kernel) == {}
    assert [commit.attributes for commit in store.commits] == [None, None]
    assert store.created[0].attributes == {}


async def test_a_count_by_conditions_that_stores_do_not_know_is_a_sum_of_counts() -> None:
    """No run is listed for `!=` and `in (…)`, but those whose status their lease says; many values are listed."""
    store = Watched()
    async with Kernel(store=store) as kernel:
        flows = [flow_of(lambda data: data["fails"] and 1 / 0, name=f"flow {number}") for number in range(2)]
        for number in range(4):
            with suppress(WorkflowError):
                await kernel.run(flows[number % 2], {"fails": number == 3}, run_id=f"{number}")
        store.listed.clear()
        for where, expected in (
            ("status != failed", 3), ("status in (failed, succeeded)", 4), ("workflow != 'flow 1'", 2),
            ("status != failed and workflow in ('flow 1', other)", 1), ("state in (S0) and status != succeeded", 1),
        ):  # fmt: skip
            assert await kernel.runs(where=where).count() == expected
        assert store.listed == []
        assert await kernel.runs(where="status != running").count() == 4
        assert store.listed == [RunStatus.RUNNING]
        many = ", ".join(f"w{number}" for number in range(40))
        assert await kernel.runs(where=f"workflow in ({many}, 'flow 0')").count() == 2
        assert store.listed == [RunStatus.RUNNING, None]


async def test_filters() -> None:
    """Values, conditions and texts find the same runs; the count is right; bulk actions take them; errors are named."""
    async with Kernel(store=Watched()) as kernel:
        flow = flow_of(lambda data: data["fails"] and 1 / 0)
        for number in range(12):
            data = {"tenant": ("acme", "zoo")[number % 2], "n": number, "plan": Plan.PAID, "fails": number % 3 == 0}
            with suppress(WorkflowError):
                await kernel.run(flow, data, run_id=f"{number}")
        for given, where, expected in (
            ({"tenant": "acme"}, "tenant = 'acme'", "10 8 6 4 2 0"),
            ({"tenant": "acme", "n": Condition(">=", 6)}, "tenant = acme and n >= 6", "10 8 6"),
            ({"n": [Condition(">", 2), Condition("<=", 4)]}, "n > 2 and n <= 4.0", "4 3"),
            ({"n": Condition("in", [1, 2, 99])}, "n in (1, 2, 99)", "2 1"),
            ({"tenant": Condition("!=", "acme"), "n": Condition("<", 4)}, "tenant != acme and n < 4", "3 1"),
            ({"plan": Plan.PAID, "n": 7}, "plan = paid and n = 7", "7"),
        ):  # fmt: skip
            assert [run.run_id for run in await kernel.runs(attributes=given)] == expected.split()
            assert [run.run_id for run in await kernel.runs(where=where)] == expected.split()
            assert await kernel.runs(where=where).count() == len(expected.split())
        assert await kernel.runs(where="tenant = acme and status != failed").count() == 4
        assert await kernel.runs(where="tenant = acme and error = ZeroDivisionError").count() == 2
        assert await kernel.runs(where="tenant = acme and status in (running, parked)").count() == 0
        report = await kernel.fork_many("tenant = acme and status = failed", "-again")
        assert (report.matched, report.done, report.refused) == (2, 2, {})
        assert await kernel.runs(where="tenant = acme and n = 6").count() == 2
        for wrong, problem in (
            ({"where": "tennant = a"}, r"column 1, 'tennant': there is no field .* \(did you mean 'tenant'\?\)"),
            ({"where": "n = many"}, "column 5, 'many': the attribute is a number"),
            ({"where": "n in (1, '2')"}, "column 10, \"'2'\": the attribute is a number"),
            ({"attributes": {"n": "1"}}, "attribute 'n' is a number; it cannot be compared with '1'"),
            ({"attributes": {"n": Condition("like", 1)}}, "attribute 'n' cannot be compared by 'like'; known are ="),
            ({"attributes": {"n": [1, float("nan")]}}, "attribute 'n' cannot be compared with nan: NaN is not"),
            ({"attributes": {"n": Condition("in", 1)}}, "attribute 'n' is compared by 'in' with a list of values, not"),
            ({"attributes": {"tenant": Condition("in", "acme")}}, "with a list of values, not with 'acme'"),
            ({"attributes": {"n": Condition("in", iter([1]))}}, "with a list of values, not with <list_iter"),
            ({"attributes": {None: 1}}, "the name of an attribute must be a string, not None"),
            ({"attributes": {"x": 1}}, "there is no field or search attribute 'x'; known are workflow, status,"),
        ):  # fmt: skip
            with pytest.raises(FilterError, match=problem):
                await kernel.runs(**wrong)
        with pytest.raises(ConfigurationError, match="both attributes= and where= give a condition"):
            await kernel.runs(attributes={"n": 1}, where="n = 2")


async def test_filters_without_the_workflow() -> None:
    """Another process knows names and kinds from the store; a text is compared as what values there are."""
    store = Watched()
    async with Kernel(store=store) as kernel:
        for number, (kind, value) in enumerate([(str, "10"), (int, 10), (bool, True), (str, "true")]):
            flow = Flow("A", name=f"flow{number}", attributes={"x": kind}).add_exit_state("A")
            await kernel.run(flow, {"x": value}, run_id=f"{number}")
    async with Kernel(store=store) as kernel:
        for where, expected in (
            ("x = 10", "1 0"), ("x = '10'", "0"), ("x = true", "3 2"), ("x > 9", "3 1"), ("x != 10", "3 2"),
        ):  # fmt: skip
            assert [run.run_id for run in await kernel.runs(where=where)] == expected.split(), where
        with pytest.raises(FilterError, match=r"known are workflow, .*, parent, created, updated, x$"):
            await kernel.runs(where="y = 10")


async def test_a_store_without_them() -> None:
    """They are kept with the run, and a filter says that the store cannot find runs by them."""
    store = Watched()
    store.capabilities = store.capabilities._replace(attributes=False)
    async with Kernel(store=store) as kernel:
        await kernel.run(flow_of(lambda data: data.put("n", 1)), {"tenant": "a"}, run_id="r")
        assert await attributes(kernel) == {"tenant": "a", "n": 1}
        with pytest.raises(ConfigurationError, match="keeps no search attributes, so no run can be found by them"):
            await kernel.runs(where="tenant = a")
        assert await kernel.runs(where="status = succeeded").count() == 1


async def test_edited_forks() -> None:
    """Where the data of a fork is changed, its attributes follow, but for those that were set."""

    def first(data: Any) -> None:
        current_step().attributes["plan"] = Plan.PAID

    store, flow = Watched(), flow_of(first, lambda data: None)
    async with Kernel(store=store) as kernel:
        await kernel.run(flow, {"tenant": "a", "n": 1, "plan": Plan.FREE}, run_id="r")
        await kernel.fork("r", 1, "f", changes={"tenant": "b", "amount": Decimal(2), "plan": Plan.FREE}, removed=["n"])
        assert await attributes(kernel, "f") == {"tenant": "b", "amount": 2, "plan": "paid"}
    async with Kernel(store=store) as kernel:
        await kernel.fork("r", 1, "g", changes={"tenant": "c"}, removed=["n"])
        assert await attributes(kernel, "g") == {"tenant": "c", "plan": "paid"}
        assert [run.run_id for run in await kernel.runs(where="tenant = c")] == ["g"]
