"""Limits on how much happens at once: per workflow, per state, per key, and composed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Key,
    KeyNotFoundError,
    Limit,
    Node,
    RunTimeoutError,
    Success,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore


class Gauge:
    """Counts how many are at work at once: in all, and by a key of the data."""

    def __init__(self, clock: VirtualClock, key: str = "key") -> None:
        self.clock = clock
        self.key = key
        self.now: Counter[Any] = Counter()
        self.peak: Counter[Any] = Counter()
        self.done = 0
        self.order: list[Any] = []

    async def work(self, store: Any) -> str:
        """Be one more for a second, or as long as the data says."""
        key = store.get(self.key, default=None)
        self.order.append(key)
        for counted in ("all", key):
            self.now[counted] += 1
            self.peak[counted] = max(self.peak[counted], self.now[counted])
        try:
            await self.clock.sleep(store.get("lasts", default=1))
        finally:
            for counted in ("all", key):
                self.now[counted] -= 1
        self.done += 1
        return "end"


@pytest.fixture
def gauge(clock: VirtualClock) -> Gauge:
    """Counts."""
    return Gauge(clock)


async def run_all(kernel: Kernel, flow: Workflow[str], data: list[dict[str, Any]]) -> None:
    """Run the flow on all data at once, to the end."""
    results = await asyncio.gather(*(kernel.run(flow, item) for item in data))
    assert [result.state for result in results] == ["end"] * len(data)


def by_workflow(work: Any, **limits: Any) -> Workflow[str]:
    """A workflow with limits on its runs."""
    return Workflow("start", **limits).register("start", work).add_exit_state("end")


def by_state(work: Any, **limits: Any) -> Workflow[str]:
    """A workflow with limits on a state's steps."""
    return Workflow("start").register("start", work, **limits).add_exit_state("end")


Make = Callable[..., Workflow[str]]
EITHER = pytest.mark.parametrize("make", [by_workflow, by_state])


@EITHER
@pytest.mark.parametrize("limit", [1, 2, 5, 50])
async def test_the_measured_peak_is_the_limit(
    kernel: Kernel, clock: VirtualClock, gauge: Gauge, make: Make, limit: int
) -> None:
    """Exactly, and all are done: at limit 1 as well."""
    await run_all(kernel, make(gauge.work, limit=limit), [{"lasts": 1 + n % 3} for n in range(60)])

    assert gauge.peak["all"] == limit
    assert gauge.done == 60


@EITHER
async def test_first_come_first_served(kernel: Kernel, gauge: Gauge, make: Make) -> None:
    """Places are taken in the order in which they were asked for."""
    await run_all(kernel, make(gauge.work, limit=2), [{"key": n, "lasts": 1 + n % 2} for n in range(20)])

    assert gauge.order == list(range(20))


@EITHER
@pytest.mark.parametrize("by", ["key", Key("key", str), lambda store: store["key"]], ids=["str", "Key", "function"])
@pytest.mark.parametrize("limit", [1, 3])
async def test_each_key_counts_on_its_own(
    kernel: Kernel, clock: VirtualClock, gauge: Gauge, make: Make, by: Any, limit: int
) -> None:
    """Ten runs of each of three customers: each has its own places, and none waits for the others."""
    await run_all(kernel, make(gauge.work, limit=limit, limit_key=by), [{"key": name} for name in "abc" * 10])

    assert gauge.peak == {"all": 3 * limit, "a": limit, "b": limit, "c": limit}
    assert gauge.done == 30
    assert clock.monotonic() == -(-10 // limit)


@EITHER
async def test_keys_of_stores_of_all_kinds(kernel: Kernel, clock: VirtualClock, make: Make) -> None:
    """A dict's key, a `MemoryStore`'s, and an attribute: equal values are one customer, in whatever they come."""

    @dataclass
    class Job:
        key: str

    now = peak = 0

    async def work(store: Any) -> str:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await clock.sleep(1)
        now -= 1
        return "end"

    flow = make(work, limit=1, limit_key="key")
    stores: list[Any] = [{"key": "a"}, MemoryStore({"key": "a"}), Job("a")]
    results, _ = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(stores)

    assert results == [Success("end")] * 3
    assert (peak, clock.monotonic()) == (1, 3)


async def test_nothing_is_kept_for_a_key_that_nobody_uses(kernel: Kernel, gauge: Gauge) -> None:
    """A million customers are no million semaphores, once they have gone."""
    limit = Limit(1, key="key")
    flow = by_state(gauge.work, limit=limit)

    await run_all(kernel, flow, [{"key": n} for n in range(50)])

    assert kernel.limiter(limit)._buckets == {}


async def test_limits_compose(kernel: Kernel, clock: VirtualClock, gauge: Gauge) -> None:
    """Five at once in all, two of them of one customer, and one in the second state.

    Who waits for a place of its customer does not sit on one of the five meanwhile, in whatever order they are given.
    """
    second = Gauge(clock)
    flow = Workflow("start", limit=[Limit(5), Limit(2, key="key")])
    flow.register("start", lambda_to("second", gauge)).register("second", second.work, limit=1).add_exit_state("end")

    await run_all(kernel, flow, [{"key": name} for name in "aaaabbbbcccc" * 2])

    assert gauge.peak["all"] == 5
    assert max(gauge.peak[name] for name in "abc") == 2
    assert second.peak["all"] == 1
    assert gauge.done == second.done == 24


def lambda_to(following: str, gauge: Gauge) -> Callable[[Any], Any]:
    """The gauge's work, with another state to follow."""

    async def work(store: Any) -> str:
        await gauge.work(store)
        return following

    return work


async def test_two_limits_of_one_state(kernel: Kernel, gauge: Gauge) -> None:
    """Each holds."""
    flow = by_state(gauge.work, limit=(Limit(4), Limit(1, key="key")))

    await run_all(kernel, flow, [{"key": name} for name in "abcdefaaaa"])

    assert gauge.peak["all"] == 4
    assert gauge.peak["a"] == 1


async def test_one_limit_shared_by_states_and_workflows(kernel: Kernel, clock: VirtualClock, gauge: Gauge) -> None:
    """The same `Limit` object in several places is one limit: a database takes so many callers, whoever they are."""
    shared = Limit(3)
    one = by_state(gauge.work, limit=shared)
    two = by_state(gauge.work, limit=[shared])
    three = by_workflow(gauge.work, limit=shared)

    await asyncio.gather(*(run_all(kernel, flow, [{}] * 5) for flow in (one, two, three)))

    assert gauge.peak["all"] == 3
    assert clock.monotonic() == 5


async def test_shared_limits_cannot_block_each_other(kernel: Kernel, clock: VirtualClock, gauge: Gauge) -> None:
    """Two states that need places of the same two limits, given in opposite orders, do not wait for each other."""
    one, two = Limit(1), Limit(1)
    flow = Workflow("start").register("start", lambda_to("second", gauge), limit=[one, two])
    flow.register("second", gauge.work, limit=[two, one]).add_exit_state("end")

    await run_all(kernel, flow, [{}] * 5)

    assert gauge.peak["all"] == 1
    assert clock.monotonic() == 10


async def test_equal_limits_are_not_one(kernel: Kernel, gauge: Gauge) -> None:
    """Two objects are two limits, however alike."""
    one, two = by_state(gauge.work, limit=Limit(2)), by_state(gauge.work, limit=Limit(2))

    await asyncio.gather(run_all(kernel, one, [{}] * 5), run_all(kernel, two, [{}] * 5))

    assert gauge.peak["all"] == 4


async def test_each_kernel_counts_for_itself(clock: VirtualClock, gauge: Gauge) -> None:
    """A limit is one of a kernel's."""
    flow = by_state(gauge.work, limit=1)

    async with Kernel(discover=False, clock=clock) as one, Kernel(discover=False, clock=clock) as two:
        await asyncio.gather(run_all(one, flow, [{}] * 2), run_all(two, flow, [{}] * 2))

    assert gauge.peak["all"] == 2


async def test_a_state_limit_is_held_for_a_step_only(kernel: Kernel, clock: VirtualClock) -> None:
    """A run that has gone on to the next state has left its place to others; one of the workflow it keeps."""
    first, second = Gauge(clock), Gauge(clock)
    flow = Workflow("start").register("start", lambda_to("second", first), limit=1).register("second", second.work)
    whole = Workflow("start", limit=1).register("start", lambda_to("second", first)).register("second", second.work)

    await run_all(kernel, flow.add_exit_state("end"), [{}] * 3)
    assert (first.peak["all"], clock.monotonic()) == (1, 4)
    await run_all(kernel, whole.add_exit_state("end"), [{}] * 3)
    assert clock.monotonic() == 10


async def test_the_key_is_that_of_the_moment(kernel: Kernel, clock: VirtualClock, gauge: Gauge) -> None:
    """A state's limit looks at the data as it is then: what an earlier state has found out counts."""

    async def look_up(store: Any) -> str:
        store["key"] = store["number"] % 2
        return "work"

    flow = Workflow("look up").register("look up", look_up)
    flow.register("work", gauge.work, limit=1, limit_key="key").add_exit_state("end")

    await run_all(kernel, flow, [{"number": n} for n in range(10)])

    assert gauge.peak == {"all": 2, 0: 1, 1: 1}


@EITHER
async def test_a_failed_run_frees_its_place(kernel: Kernel, clock: VirtualClock, make: Make) -> None:
    """However it ends."""

    async def bad(store: Any) -> str:
        await clock.sleep(1)
        raise OSError

    flow = make(bad, limit=1)
    results = await asyncio.gather(*(kernel.run(flow) for _ in range(3)), return_exceptions=True)

    assert [type(result) for result in results] == [TaskError] * 3
    assert clock.monotonic() == 3


async def test_retries_keep_the_place(kernel: Kernel, clock: VirtualClock) -> None:
    """The pause between two attempts is part of the step."""
    times: list[tuple[int, float]] = []

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 5 if attempt == 1 else None

    async def flaky(store: Any) -> str:
        times.append((store["n"], clock.monotonic()))
        if current_step().attempt == 1:
            raise OSError
        return "end"

    flow = by_state(flaky, limit=1, config=TaskConfig(retry=Once()))
    await run_all(kernel, flow, [{"n": 1}, {"n": 2}])

    assert times == [(1, 0), (1, 5), (2, 5), (2, 10)]


async def test_the_wait_is_not_in_the_steps_time(kernel: Kernel, clock: VirtualClock, gauge: Gauge) -> None:
    """A step's limits count from when it has its place; a run's from its start."""
    flow = by_state(gauge.work, limit=1, config=TaskConfig(timeout=2, total_timeout=2))

    await run_all(kernel, flow, [{}] * 5)
    assert clock.monotonic() == 5
    results = await asyncio.gather(*(kernel.run(flow, timeout=2.5) for _ in range(5)), return_exceptions=True)
    assert [isinstance(result, RunTimeoutError) for result in results] == [False, False, True, True, True]


async def test_a_node_is_limited_as_a_whole(kernel: Kernel, clock: VirtualClock) -> None:
    """All three phases within one place."""
    now = peak = 0

    class Work(Node[str, None, None]):
        async def prep(self, store: Any) -> None:
            nonlocal now, peak
            now += 1
            peak = max(peak, now)
            await clock.sleep(1)

        async def exec(self, prepared: None) -> None:
            await clock.sleep(1)

        async def post(self, store: Any, prepared: None, result: None) -> str:
            nonlocal now
            await clock.sleep(1)
            now -= 1
            return "end"

    await run_all(kernel, by_state(Work(), limit=2), [{}] * 6)

    assert peak == 2
    assert clock.monotonic() == 9


async def test_threads_are_limited_too(kernel: Kernel) -> None:
    """A plain function, in a worker thread."""
    now = peak = 0

    def work(store: Any) -> str:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        sum(range(2000))
        now -= 1
        return "end"

    await run_all(kernel, by_state(work, limit=1), [{}] * 30)

    assert (now, peak) == (0, 1)


async def test_a_limit_by_decorator(kernel: Kernel, gauge: Gauge) -> None:
    """`register` is what takes limits; a state with a split limits its branches by its join instead."""
    flow = Workflow("start").register_split("start", [gauge.work] * 6, JoinConfig(JoinStrategy.all(), "end", limit=2))
    await kernel.run(flow.add_exit_state("end"))

    assert gauge.peak["all"] == 2


# keys that cannot be had


@EITHER
@pytest.mark.parametrize(
    ("by", "cause"),
    [
        ("missing", KeyNotFoundError),
        (Key("missing", str), KeyNotFoundError),
        (lambda store: 1 / 0, ZeroDivisionError),
        (lambda store: store["nested"]["key"], KeyError),
        ("list", TypeError),
        (lambda store: [1], TypeError),
    ],
    ids=["missing", "missing Key", "raises", "nested", "unhashable", "unhashable result"],
)
async def test_a_key_that_cannot_be_had(
    kernel: Kernel, gauge: Gauge, make: Make, by: Any, cause: type[Exception]
) -> None:
    """The run fails with an error that knows the place, and with the user's exception as its cause."""
    flow = make(gauge.work, limit=1, limit_key=by)

    with pytest.raises(TaskError, match="limit_key") as caught:
        await kernel.run(flow, {"list": [1], "nested": {}}, run_id="r1")
    assert isinstance(caught.value.__cause__, cause)
    assert (caught.value.run_id, caught.value.state) == ("r1", "start")
    assert gauge.done == 0


async def test_a_key_that_an_object_does_not_have(kernel: Kernel, gauge: Gauge) -> None:
    """The same on a store of the user's own."""
    with pytest.raises(TaskError, match="limit_key 'missing'") as caught:
        await kernel.run(by_state(gauge.work, limit=1, limit_key="missing"), object())
    assert isinstance(caught.value.__cause__, AttributeError)


async def test_a_key_that_cannot_be_had_leads_on(kernel: Kernel, gauge: Gauge) -> None:
    """It is the step's failure: `on_exhausted` catches it."""
    flow = by_state(gauge.work, limit=1, limit_key="missing", config=TaskConfig(on_exhausted="end"))

    assert (await kernel.run(flow)).state == "end"
    assert gauge.done == 0


async def test_none_is_a_value_like_others(kernel: Kernel, gauge: Gauge) -> None:
    """Runs without a customer are one customer."""
    await run_all(kernel, by_state(gauge.work, limit=1, limit_key=lambda store: None), [{}] * 3)

    assert gauge.peak["all"] == 1


# what is refused


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3", [3], [Limit(2), 3], [Limit(2)] * 2, object()])
@EITHER
def test_a_limit_must_be_a_positive_number(make: Make, limit: Any) -> None:
    """Or a `Limit`, or several."""
    with pytest.raises(ConfigurationError, match=r"limit must be|the same Limit twice"):
        make(lambda store: "end", limit=limit)


@pytest.mark.parametrize("key", [5, ["key"], 1.5, b"key"])
@EITHER
def test_a_limit_key_must_be_a_key_or_a_function(make: Make, key: Any) -> None:
    """Nothing else says what counts on its own."""
    with pytest.raises(ConfigurationError, match="limit_key must be"):
        make(lambda store: "end", limit=1, limit_key=key)
    with pytest.raises(ConfigurationError, match="limit_key must be"):
        Limit(1, key=key)


@EITHER
def test_options_that_do_not_go_together(make: Make) -> None:
    """A key without a number, and a key beside a `Limit`, which has its own, are mistakes."""
    with pytest.raises(ConfigurationError, match="limit_key without a limit"):
        make(lambda store: "end", limit_key="key")
    with pytest.raises(ConfigurationError, match="limit_key needs a number"):
        make(lambda store: "end", limit=Limit(2), limit_key="key")


def test_unknown_options_raise() -> None:
    """A misspelled limit is no limit: it must not pass."""
    unknown: dict[str, Any] = {"limits": 3}
    with pytest.raises(TypeError, match="limits"):
        Workflow("start", **unknown)
    with pytest.raises(TypeError, match="limits"):
        Workflow("start").register("start", lambda store: "end", **unknown)
    with pytest.raises(TypeError, match="limits"):
        Workflow("start").register_split("start", [], JoinConfig(JoinStrategy.all(), "end"), **unknown)
    with pytest.raises(TypeError, match="limit_key"):
        Limit(3, limit_key="key")  # type: ignore[call-arg]  # that is the point


def test_a_limit_says_what_it_is() -> None:
    """In errors and logs."""
    assert repr(Limit(3)) == "Limit(3)"
    assert repr(Limit(3, key="customer")) == "Limit(3, key='customer')"
