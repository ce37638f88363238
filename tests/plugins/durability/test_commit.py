"""What a step commits: the keys that it changed, with their types, all or nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from cano import (
    Appended,
    Kernel,
    Key,
    RunStatus,
    SerializationError,
    StoreUnavailableError,
    TaskConfig,
    TaskError,
    Transition,
    Workflow,
    current_step,
    wait_for,
)
from cano_durability.keeper import Keeper

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

Work = Callable[[Any], Awaitable[object]]


def chain(*steps: Work, **options: Any) -> Workflow[str]:
    """A workflow that takes these steps one after the other: states "1", "2" and so on, then "end"."""
    flow = Workflow("1", name="chain", **options)
    names = [*(str(number) for number in range(1, len(steps) + 1)), "end"]
    for name, following, step in zip(names, names[1:], steps, strict=False):

        async def task(store: Any, step: Work = step, following: str = following) -> str:
            result = await step(store)
            return following if result is None else result  # type: ignore[return-value]  # a pause

        flow.register(name, task)
    return flow.add_exit_state("end")


def made(history: list[Transition]) -> list[tuple[int, str, dict[str, Any], list[str]]]:
    """What each transition says, but for its time."""
    return [(line.seq, line.state, dict(line.changed), list(line.removed)) for line in history]


async def test_each_step_commits_the_keys_that_it_changed(kernel: Kernel) -> None:
    """The history has a line for each step, with the keys that it put, changed in place or removed, and no other."""

    async def puts(store: Any) -> None:
        store["new"] = 1
        store["list"].append(2)  # in place
        store.get("kept")

    async def appends(store: Any) -> None:
        store.append("list", 3)
        store["same"] = store["same"]
        _ = store["dict"]  # lent out, and not changed

    async def removes(store: Any) -> None:
        store.remove("new")
        store["dict"]["deep"]["x"] = [1]

    async def clears(store: Any) -> None:
        store.clear()
        store["last"] = True

    async def nothing(store: Any) -> None:
        pass

    data = {"list": [1], "kept": "k", "same": 0, "dict": {"deep": {}}}
    result = await kernel.run(chain(puts, appends, removes, clears, nothing), data, run_id="r")

    assert result.data == {"last": True}
    assert made(await kernel.history("r")) == [
        (0, "1", data, []),
        (1, "2", {"new": 1, "list": [1, 2]}, []),
        (2, "3", {"same": 0, "list": Appended((3,))}, []),
        (3, "4", {"dict": {"deep": {"x": [1]}}}, ["new"]),
        (4, "5", {"last": True}, ["dict", "kept", "list", "same"]),
        (5, "end", {}, []),
    ]
    assert [line.status for line in await kernel.history("r")] == [RunStatus.RUNNING] * 5 + [RunStatus.SUCCEEDED]


async def test_a_step_is_in_the_store_before_the_next_one_begins(kernel: Kernel, world: World) -> None:
    """What a step has written is durable when the next state's task is called."""
    seen: list[Any] = []

    async def write(store: Any) -> None:
        store["x"] = len(seen)

    async def look(store: Any) -> None:
        line = (await kernel.history("r"))[-1]
        seen.append((line.seq, line.changed, (await world.look("r")).state))
        store["x"] = -1

    await kernel.run(chain(write, look, write, look), run_id="r")
    assert seen == [(1, {"x": 0}, "2"), (3, {"x": 1}, "4")]


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float


@dataclass
class Order:
    """A dataclass with others in it."""

    id: UUID
    lines: list[tuple[str, Decimal]]
    colour: Colour = Colour.RED
    points: dict[str, Point] = field(default_factory=dict)


ORDER = Key("order", Order)
VALUES: dict[str, Any] = {
    "order": Order(UUID(int=7), [("a", Decimal("1.10"))], points={"p": Point(1, 2.0)}),
    "enum": Colour.RED,
    "named tuple": Point(1, math.inf),
    "datetime": dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "date": dt.date(2024, 2, 29),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": Decimal("1.00"),
    "bytes": b"\0\xff",
    "tuple": (1, (2, [3])),
    "set": {1, "a"},
    "frozenset": frozenset({1}),
    "deque": deque([1, 2], maxlen=5),
    "big": 2**80,
    "bool": True,
    "one": 1,
    "float": 1.0,
    "none": None,
    "": "an empty key",
    "schlüssel ☃": "unicode",
}


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and of one type all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return list(map(type, one)) == list(map(type, other)) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple | deque):
        return all(map(same, one, other))
    return True


async def test_values_keep_value_and_type(kernel: Kernel, world: World) -> None:
    """What comes out of the store is equal to what went in, and of the same type: after a crash, in another kernel."""

    async def put(store: Any) -> None:
        for key, value in VALUES.items():
            store[key] = value

    async def check(store: Any) -> None:
        assert store.keys() == list(VALUES)
        for key, value in VALUES.items():
            assert same(store[key], value), key
        assert store[ORDER].points["p"].y == 2.0

    flow = chain(put, check, check, types=[Order, Point])
    world.faults(kernel).at_call("commit", 2).hang()
    await kernel.start(flow, run_id="r")
    await world.settle()
    await world.crash(kernel)
    other = await world.kernel()
    await world.lapse()
    result = await other.run(flow, run_id="r")
    assert same(result.data, VALUES)
    assert same(dict((await other.history("r"))[1].changed), VALUES)
    assert same((await (await world.kernel()).run(flow, run_id="r")).data, VALUES)


async def test_nan(kernel: Kernel) -> None:
    """A NaN comes back as one."""

    async def put(store: Any) -> None:
        store["nan"] = math.nan

    await kernel.run(chain(put), run_id="r")
    assert math.isnan((await kernel.history("r"))[-1].changed["nan"])


class Stranger:
    """A class that no codec can keep."""


class Odd(dict[str, int]):
    """A dict that would come back as no more than a dict."""


@pytest.mark.parametrize("value", [Stranger(), [1, Stranger()], len, Odd(a=1)], ids=lambda v: type(v).__name__)
async def test_what_cannot_be_kept_is_refused_at_put(kernel: Kernel, value: Any) -> None:
    """In a strict store a task hears at once that a value cannot be kept; the error names key, type and place."""
    seen: list[SerializationError] = []

    async def put(store: Any) -> None:
        with pytest.raises(SerializationError) as caught:
            store["key"] = value
        seen.append(caught.value)
        with pytest.raises(SerializationError, match="key 'list'"):
            store.append("list", value)
        assert store.keys() == []
        store["key"] = "something else"

    assert (await kernel.run(chain(put), run_id="r")).data == {"key": "something else"}
    assert seen[0].key == "key"
    assert str(seen[0]).startswith("key 'key': ")
    assert seen[0].actual in (type(value), Stranger)
    assert seen[0].actual.__name__ in str(seen[0])


async def test_what_cannot_be_kept_is_refused_at_the_commit(world: World) -> None:
    """Where the store is not strict, the commit refuses it: the step fails, and nothing of it is kept."""
    kernel = await world.kernel()
    assert isinstance(kernel.keeper, Keeper)
    kernel.keeper.stored.values.strict = False

    async def good(store: Any) -> None:
        store["good"] = 1

    async def bad(store: Any) -> None:
        store["also good"] = 2
        store["bad"] = {"deep": [Stranger()]}

    with pytest.raises(SerializationError, match=r"key 'bad': .*Stranger") as caught:
        await kernel.run(chain(good, bad), run_id="r")
    assert caught.value.key == "bad"
    assert caught.value.actual is Stranger
    record = await world.look("r")
    assert (record.status, record.seq, record.state, list(record.data)) == (RunStatus.FAILED, 1, "2", ["good"])
    assert record.error is not None
    assert "key 'bad'" in record.error["message"]


async def test_a_failed_attempt_leaves_no_trace(kernel: Kernel, world: World) -> None:
    """What a failed attempt has written reaches neither the next attempt nor the store."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1.0 if attempt < 2 else None

    attempts: list[list[str]] = []

    async def flaky(store: Any) -> None:
        attempts.append(store.keys())
        store["trace"] = 1
        store["list"].append(1)
        if len(attempts) < 2:
            raise ValueError

    flow = chain(flaky, default_config=TaskConfig(retry=Once()))
    handle = await kernel.start(flow, {"list": []}, run_id="r")
    await world.clock.advance(1)
    assert (await handle.result()).data == {"list": [1], "trace": 1}
    assert attempts == [["list"], ["list"]]
    assert made(await kernel.history("r")) == [(0, "1", {"list": []}, []), (1, "end", {"list": [1], "trace": 1}, [])]


async def test_a_commit_that_fails_ends_the_run_undecided(kernel: Kernel, world: World) -> None:
    """A store that is out of reach interrupts the run: it has neither failed nor succeeded, and goes on later."""
    world.faults(kernel).at_call("commit").fail(StoreUnavailableError("gone for a moment"))
    times: list[int] = []

    async def work(store: Any) -> None:
        times.append(1)
        store["n"] = store.get("n", default=0) + 1

    flow = chain(work)
    with pytest.raises(StoreUnavailableError, match="gone for a moment"):
        await kernel.run(flow, run_id="r")
    assert [run.status for run in await kernel.runs()] == [RunStatus.INTERRUPTED]
    assert (await kernel.resume(flow, "r")).data == {"n": 1}
    assert len(times) == 2


async def test_a_commit_whose_answer_is_lost(kernel: Kernel, world: World) -> None:
    """Where the store has made a commit and only its answer was lost, the run goes on from there, and loses nothing."""
    world.faults(kernel).at_call("commit", after=True).fail(StoreUnavailableError("the line went dead"))

    async def work(store: Any) -> None:
        store["n"] = store.get("n", default=0) + 1

    flow = chain(work, work)
    with pytest.raises(StoreUnavailableError):
        await kernel.run(flow, run_id="r")
    assert (await kernel.resume(flow, "r")).data == {"n": 2}
    assert [line.seq for line in await kernel.history("r")] == [0, 1, 2]


@pytest.mark.parametrize("exit_state", [False, True], ids=["step", "last step"])
@pytest.mark.parametrize("made_it", [False, True], ids=["before", "after"])
async def test_cancelled_in_mid_commit(kernel: Kernel, world: World, exit_state: bool, made_it: bool) -> None:
    """A run that is cancelled while it commits stands where the store says, and a success in there stays one."""
    fault = world.faults(kernel).at_call("commit", 1, after=made_it).hang()

    async def work(store: Any) -> None:
        store["n"] = store.get("n", default=0) + 1

    handle = await kernel.start(chain(*[work] * (1 if exit_state else 2)), run_id="r")
    await fault.reached()
    await handle.cancel()

    record = await world.look("r")
    if made_it and exit_state:
        assert (record.status, record.state, record.seq) == (RunStatus.SUCCEEDED, "end", 1)
        assert (await handle.result()).data == {"n": 1}
        assert handle.status().status is RunStatus.SUCCEEDED
    else:
        assert record.status is RunStatus.CANCELLED
        assert (record.state, record.seq) == (("2", 1) if made_it else ("1", 0))
    assert record.holder is None


async def test_a_run_that_times_out_in_mid_commit_goes_on_after_it(kernel: Kernel, world: World) -> None:
    """A timed out run whose last commit was made does not make it again when it is resumed."""
    fault = world.faults(kernel).at_call("commit", 1, after=True).hang()

    async def work(store: Any) -> None:
        store["n"] = store.get("n", default=0) + 1

    flow = chain(work, work)
    handle = await kernel.start(flow, run_id="r", timeout=5)
    await fault.reached()
    await world.clock.advance(5)
    with pytest.raises(TimeoutError):
        await handle.result()
    record = await world.look("r")
    assert (record.status, record.state, record.seq) == (RunStatus.FAILED, "2", 1)
    assert (await kernel.resume(flow, "r")).data == {"n": 2}
    assert [line.state for line in await kernel.history("r")] == ["1", "2", "end"]


async def test_a_cancelled_signal_commit_keeps_its_payload(kernel: Kernel, world: World) -> None:
    """A payload that was committed survives that its run timed out in that very commit."""
    payloads: list[Any] = []

    async def waits(store: Any) -> Any:
        return wait_for("go", then="2")

    async def looks(store: Any) -> None:
        payloads.append(current_step().payload)

    flow = chain(waits, looks)
    start = world.faults(kernel).at_call("create", after=True).hang()
    commit = world.faults(kernel).at_call("commit", after=True).hang()
    starting = asyncio.ensure_future(kernel.start(flow, run_id="r", timeout=5))
    await start.reached()
    await kernel.signal("r", "go", {"by": "me"})
    start.release()
    handle = await starting
    await commit.reached()
    await world.clock.advance(6)
    with pytest.raises(TimeoutError):
        await handle.result()
    await kernel.resume(flow, "r")
    assert payloads == [{"by": "me"}]


# durability="exit"


async def test_exit_commits_at_the_end_alone(kernel: Kernel, world: World) -> None:
    """With durability="exit" the store hears of a run's end alone, and of all that changed on the way."""
    seen: list[int] = []

    async def first(store: Any) -> None:
        store["a"], store["b"] = 1, [1]
        del store["old"]

    async def second(store: Any) -> None:
        seen.append((await world.look("r")).seq)
        store["b"].append(2)
        store["c"] = 3

    async def third(store: Any) -> None:
        seen.append(world.faults(kernel).calls["commit"])
        del store["c"]

    await kernel.run(chain(first, second, third, durability="exit"), {"old": 0, "x": 0}, run_id="r")
    assert seen == [0, 0]
    assert made(await kernel.history("r")) == [
        (0, "1", {"old": 0, "x": 0}, []),
        (3, "end", {"a": 1, "b": [1, 2]}, ["c", "old"]),
    ]
    assert (await kernel.run(chain(first, second, third, durability="exit"), run_id="r")).steps == 3


async def test_exit_goes_back_to_the_last_commit_after_a_crash(kernel: Kernel, world: World) -> None:
    """With durability="exit" a crash takes a run back to its start, and its data with it."""
    did: list[int] = []

    async def work(store: Any) -> None:
        store["n"] = store.get("n", default=0) + 1
        did.append(store["n"])

    flow = chain(work, work, durability="exit")
    world.faults(kernel).at_call("commit").hang()
    await kernel.start(flow, run_id="r")
    await world.settle()
    await world.crash(kernel)
    other = await world.kernel()
    await world.lapse()
    assert (await other.run(flow, run_id="r")).data == {"n": 2}
    assert did == [1, 2, 1, 2]


async def test_exit_commits_a_failure_where_it_happened(kernel: Kernel, world: World) -> None:
    """With durability="exit" a run that fails keeps what its earlier steps have done, and goes on from there."""
    fails = [True]

    async def work(store: Any) -> None:
        store["n"] = store.get("n", default=0) + 1

    async def breaks(store: Any) -> None:
        store["n"] = 99
        if fails:
            raise ValueError

    flow = chain(work, work, breaks, durability="exit")
    with pytest.raises(TaskError):
        await kernel.run(flow, run_id="r")
    record = await world.look("r")
    assert (record.status, record.state, record.seq) == (RunStatus.FAILED, "3", 2)
    assert made(await kernel.history("r"))[-1] == (2, "3", {"n": 2}, [])
    fails.clear()
    assert (await kernel.resume(flow, "r")).data == {"n": 99}


async def test_exit_with_a_value_that_cannot_be_kept(kernel: Kernel, world: World) -> None:
    """With durability="exit" a value that only the last commit refuses fails the run all the same, for all to see."""
    assert isinstance(kernel.keeper, Keeper)
    kernel.keeper.stored.values.strict = False

    async def bad(store: Any) -> None:
        store["bad"] = Stranger()

    async def nothing(store: Any) -> None:
        pass

    with pytest.raises(SerializationError, match="key 'bad'"):
        await kernel.run(chain(bad, nothing, durability="exit"), run_id="r")
    record = await world.look("r")
    assert (record.status, record.holder) == (RunStatus.FAILED, None)


async def test_exit_commits_its_waits(kernel: Kernel, world: World) -> None:
    """With durability="exit" each signal is consumed once, though several are there before the run waits for them."""
    payloads: list[Any] = []

    async def waits(store: Any) -> Any:
        return wait_for("go", then="2")

    async def waits_again(store: Any) -> Any:
        payloads.append(current_step().payload)
        return wait_for("go", then="3")

    async def ends(store: Any) -> None:
        payloads.append(current_step().payload)

    hold = world.faults(kernel).at_call("create", after=True).hang()
    starting = asyncio.ensure_future(kernel.start(chain(waits, waits_again, ends, durability="exit"), run_id="r"))
    await hold.reached()
    await kernel.signal("r", "go", 1)
    await kernel.signal("r", "go", 2)
    hold.release()
    await (await starting).result()
    assert payloads == [1, 2]
