"""A step is atomic: what it did to the store is committed as a whole, and a failed attempt leaves no trace."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from cano import (
    CanoError,
    Kernel,
    Node,
    Run,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    TransitionError,
    Workflow,
    current_step,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore


@dataclass
class Address:
    """Part of a value."""

    street: str
    tags: list[str] = field(default_factory=list)


@dataclass
class Person:
    """A value that can be changed in place, at several depths."""

    name: str
    address: Address
    scores: dict[str, list[int]] = field(default_factory=dict)


class Pair(NamedTuple):
    """An immutable shell with something changeable in it."""

    left: list[int]
    right: dict[str, int]


def first_data() -> dict[str, Any]:
    """What every store here holds at first."""
    return {
        "number": 1,
        "text": "text",
        "list": [1, [2, 3], {"four": [4]}],
        "dict": {"a": {"b": {"c": [1]}}},
        "set": {1, 2},
        "bytes": bytearray(b"abc"),
        "queue": deque([1, [2]]),
        "counter": Counter("aab"),
        "groups": defaultdict(list, {"x": [1]}),
        "ordered": OrderedDict(one=[1]),
        "pair": Pair([1], {"x": 1}),
        "tuple": (1, [2], (3, {"four": 4})),
        "person": Person("Ann", Address("Road", ["home"]), {"maths": [1]}),
        "people": [Person("Bob", Address("Lane"))],
    }


def put(store: Any) -> None:
    """Replace values, and add one."""
    store["number"] = 2
    store.put("text", "other")
    store["new"] = [1]


def put_twice(store: Any) -> None:
    """The last value counts."""
    store["number"] = 2
    store["number"] = 3


def remove(store: Any) -> None:
    """Remove values, of every kind."""
    store.remove("number")
    del store["list"]
    store.remove("person")


def remove_and_put(store: Any) -> None:
    """Put back what was removed."""
    store.remove("list")
    store["list"] = ["again"]
    store.remove("number")
    store.append("number", 5)


def put_and_remove(store: Any) -> None:
    """Remove what was just put."""
    store["new"] = 1
    store.remove("new")
    store["number"] = 7
    store.remove("number")


def append(store: Any) -> None:
    """Append to a list, and to none."""
    store.append("list", {"five": 5})
    store.append("list", 6)
    store.append("new", 1)


def append_to_lent(store: Any) -> None:
    """Append before and after looking at the list, and change it in place as well."""
    store.append("list", "before")
    lent = store["list"]
    store.append("list", "after")
    lent.append("in place")


def clear(store: Any) -> None:
    """Remove everything."""
    store.clear()


def clear_and_put(store: Any) -> None:
    """Start over."""
    store["new"] = 0
    store.clear()
    store["number"] = 9
    store.append("list", "only")


def change_lists(store: Any) -> None:
    """Change lists in place, at every depth."""
    store["list"].append("end")
    store["list"][1].insert(0, "deep")
    store["list"][2]["four"].clear()


def change_dicts(store: Any) -> None:
    """Change dicts in place, at every depth."""
    store["dict"]["new"] = 1
    store["dict"]["a"]["b"]["c"].append(2)
    del store["dict"]["a"]["b"]


def change_other_containers(store: Any) -> None:
    """Change the other containers in place."""
    store["set"].add(3)
    store["bytes"].extend(b"def")
    store["queue"].appendleft(0)
    store["queue"][2].append(9)
    store["counter"].update("bb")
    store["groups"]["y"].append(2)
    store["ordered"]["one"].append(2)


def change_in_tuples(store: Any) -> None:
    """Change what immutable values hold."""
    store["pair"].left.append(2)
    store["pair"].right["y"] = 2
    store["tuple"][1].append("deep")
    store["tuple"][2][1]["five"] = 5


def change_dataclasses(store: Any) -> None:
    """Change dataclasses in place, at every depth."""
    store["person"].name = "Eve"
    store["person"].address.tags.append("work")
    store["person"].scores.setdefault("art", []).append(2)
    store["people"][0].address.street = "Square"
    store["people"].append(Person("Cid", Address("Way")))


def change_what_was_put(store: Any) -> None:
    """Change, in place, what this very step has put."""
    value: list[Any] = [1]
    store["new"] = value
    value.append("not the store's")
    store["new"].append(2)
    store["number"] = {"a": []}
    store["number"]["a"].append(1)


def change_through_several_gets(store: Any) -> None:
    """What is got twice in a step is the same object."""
    one, two = store["dict"], store.get("dict")
    assert one is two
    one["x"] = 1
    two["y"] = 2


def everything(store: Any) -> None:
    """A step that does a bit of all that."""
    change_dataclasses(store)
    put(store)
    append(store)
    store.remove("text")
    change_dicts(store)


WRITES: list[Callable[[Any], None]] = [
    put, put_twice, remove, remove_and_put, put_and_remove, append, append_to_lent, clear, clear_and_put,
    change_lists, change_dicts, change_other_containers, change_in_tuples, change_dataclasses, change_what_was_put,
    change_through_several_gets, everything,
]  # fmt: skip

Fate = Callable[[], Awaitable[Any]]


async def raise_error() -> Any:
    """Fail."""
    raise ValueError("broken")


async def hang() -> Any:
    """Run into the limit."""
    await asyncio.Event().wait()


async def swallow() -> Any:
    """Run into the limit, and return a state all the same."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "end"


async def return_nonsense() -> Any:
    """Return what is no state."""
    return "nowhere"


async def exit_hard() -> Any:
    """Raise what is no `Exception`."""
    raise SystemExit(3)


async def cancel_itself() -> Any:
    """Be cancelled from outside."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def cancel_caller() -> Any:
    """Swallow a cancellation from outside, then fail."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        raise ConnectionError("cancelled") from None


FATES: dict[str, tuple[Fate, TaskConfig, type[BaseException]]] = {
    "error": (raise_error, TaskConfig(), TaskError),
    "timeout": (hang, TaskConfig(timeout=5), StepTimeoutError),
    "total timeout": (hang, TaskConfig(total_timeout=5), StepTimeoutError),
    "swallowed timeout": (swallow, TaskConfig(timeout=5), StepTimeoutError),
    "no state": (return_nonsense, TaskConfig(), TransitionError),
    "base exception": (exit_hard, TaskConfig(), SystemExit),
    "cancellation": (cancel_itself, TaskConfig(), asyncio.CancelledError),
    "cancellation within limits": (cancel_itself, TaskConfig(timeout=5), asyncio.CancelledError),
    "changed cancellation": (cancel_caller, TaskConfig(), asyncio.CancelledError),
}


def flow_of(write: Callable[[Any], None], fate: Fate, config: TaskConfig) -> Workflow[str]:
    """A step that writes and then meets its fate."""

    async def work(store: Any) -> str:
        write(store)
        return str(await fate())

    return Workflow("start").register("start", work, config=config).add_exit_state("end")


def plain(store: Any) -> dict[str, Any]:
    """Everything in a store."""
    return {key: store[key] for key in store}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two stores hold the same, in the same order, down to the types."""
    return list(one) == list(other) and one == other and repr(one) == repr(other)


class Keeps:
    """An observer that keeps the last run."""

    run: Run

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Keep it."""
        self.run = run


# nothing of a failed attempt

PLACES = ("dict", "MemoryStore", "data of a run")
"""Where a step writes. A run has a copy of the data that it was started with."""


# pairwise: every write with every fate, and each of the two at least once in each place
FAILED = [
    (write, fate, PLACES[(row + column) % len(PLACES)])
    for row, write in enumerate(WRITES)
    for column, fate in enumerate(FATES)
]


def test_every_pair_is_covered() -> None:
    """The cases below have each pair of a write, a fate and a place."""
    assert {(write, fate) for write, fate, _ in FAILED} == {*itertools.product(WRITES, FATES)}
    assert {(write, place) for write, _, place in FAILED} == {*itertools.product(WRITES, PLACES)}
    assert {(fate, place) for _, fate, place in FAILED} == {*itertools.product(FATES, PLACES)}


@pytest.mark.parametrize(("write", "fate", "place"), FAILED)
async def test_a_failed_step_leaves_no_trace(
    clock: VirtualClock, write: Callable[[Any], None], fate: str, place: str
) -> None:
    """Whatever it wrote, and however it failed: the store is as it was, down to the order of its keys."""
    meet, config, error = FATES[fate]
    flow, keeps = flow_of(write, meet, config), Keeps()
    given = MemoryStore(first_data()) if place == "MemoryStore" else first_data()
    async with Kernel(discover=False, plugins=[keeps], clock=clock, grace=0) as kernel:
        with pytest.raises(error):
            await (kernel.run if place == "data of a run" else kernel.orchestrate)(flow, given)
        uncancel()

    assert same(plain(given), first_data())
    if place == "data of a run":
        assert same(plain(keeps.run.store), first_data())


def uncancel() -> None:
    """Take back the cancellation that a fate was."""
    task = asyncio.current_task()
    assert task is not None
    while task.cancelling():
        task.uncancel()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_the_next_attempt_starts_from_the_last_commit(
    kernel: Kernel, make: Callable[[Any], Any], write: Callable[[Any], None]
) -> None:
    """Each attempt sees the store as it was, and only the last one's writes are kept, once."""
    seen: list[bool] = []

    async def work(store: Any) -> str:
        seen.append(same(plain(store), first_data()))
        write(store)
        if current_step().attempt < 3:
            raise OSError
        return "end"

    class Twice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1.0

    store, once = make(first_data()), first_data()
    await kernel.orchestrate(
        Workflow("a").register("a", work, config=TaskConfig(retry=Twice())).add_exit_state("end"), store
    )
    await kernel.orchestrate(flow_of(write, ended, TaskConfig()), once)

    assert seen == [True] * 3
    assert same(plain(store), once)


async def ended() -> str:
    """Succeed."""
    return "end"


@pytest.mark.parametrize("write", WRITES)
async def test_on_exhausted_starts_from_the_last_commit(kernel: Kernel, write: Callable[[Any], None]) -> None:
    """The state that a failed step leads to sees nothing of it."""

    async def look(store: Any) -> str:
        assert same(plain(store), first_data())
        return "end"

    flow = flow_of(write, raise_error, TaskConfig(on_exhausted="look")).register("look", look)

    assert same((await kernel.run(flow, first_data())).data, first_data())


async def test_earlier_steps_stay_committed(kernel: Kernel) -> None:
    """A step that fails takes nothing of the steps before it with it."""

    async def first(store: Any) -> str:
        store["first"] = [1]
        return "second"

    async def second(store: Any) -> str:
        store["first"].append(2)
        store["second"] = True
        raise OSError

    store = MemoryStore()
    flow = Workflow("first").register("first", first).register("second", second).add_exit_state("end")

    with pytest.raises(TaskError):
        await kernel.orchestrate(flow, store)
    assert plain(store) == {"first": [1]}


# all of one that succeeds


@pytest.mark.parametrize(
    ("write", "changed", "removed"),
    [
        (put, {"number": 2, "text": "other", "new": [1]}, set()),
        (put_twice, {"number": 3}, set()),
        (remove, {}, {"number", "list", "person"}),
        (remove_and_put, {"list": ["again"], "number": [5]}, set()),
        (put_and_remove, {}, {"number"}),
        (append, {"list": [1, [2, 3], {"four": [4]}, {"five": 5}, 6], "new": [1]}, set()),
        (append_to_lent, {"list": [1, [2, 3], {"four": [4]}, "before", "after", "in place"]}, set()),
        (clear, {}, set(first_data())),
        (clear_and_put, {"number": 9, "list": ["only"]}, set(first_data()) - {"number", "list"}),
        (change_lists, {"list": [1, ["deep", 2, 3], {"four": []}, "end"]}, set()),
        (change_dicts, {"dict": {"a": {}, "new": 1}}, set()),
        (
            change_other_containers,
            {
                "set": {1, 2, 3},
                "bytes": bytearray(b"abcdef"),
                "queue": deque([0, 1, [2, 9]]),
                "counter": Counter("aabbb"),
                "groups": defaultdict(list, {"x": [1], "y": [2]}),
                "ordered": OrderedDict(one=[1, 2]),
            },
            set(),
        ),
        (
            change_in_tuples,
            {"pair": Pair([1, 2], {"x": 1, "y": 2}), "tuple": (1, [2, "deep"], (3, {"four": 4, "five": 5}))},
            set(),
        ),
        (
            change_dataclasses,
            {
                "person": Person("Eve", Address("Road", ["home", "work"]), {"maths": [1], "art": [2]}),
                "people": [Person("Bob", Address("Square")), Person("Cid", Address("Way"))],
            },
            set(),
        ),
        (change_what_was_put, {"new": [1, 2], "number": {"a": [1]}}, set()),
        (change_through_several_gets, {"dict": {"a": {"b": {"c": [1]}}, "x": 1, "y": 2}}, set()),
    ],
)
@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_a_successful_step_is_committed_as_a_whole(
    kernel: Kernel,
    make: Callable[[Any], Any],
    write: Callable[[Any], None],
    changed: dict[str, Any],
    removed: set[str],
) -> None:
    """All that it did is there, changes in place included, and nothing else has changed."""
    store = make(first_data())

    await kernel.orchestrate(flow_of(write, ended, TaskConfig()), store)

    expected = {key: value for key, value in first_data().items() if key not in removed} | changed
    assert plain(store) == expected
    assert {key: type(store[key]) for key in store} == {key: type(value) for key, value in expected.items()}


@pytest.mark.parametrize("write", WRITES)
async def test_data_and_stores_come_to_the_same(kernel: Kernel, write: Callable[[Any], None]) -> None:
    """A dict, a `MemoryStore` and a run's data hold the same after the same step."""
    flow = flow_of(write, ended, TaskConfig())
    as_dict, as_store = first_data(), MemoryStore(first_data())
    await kernel.orchestrate(flow, as_dict)
    await kernel.orchestrate(flow, as_store)
    data = (await kernel.run(flow, first_data())).data

    assert as_dict == plain(as_store) == data
    assert list(as_dict) == list(as_store) == list(data)


@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_others_see_a_step_at_once_or_not_at_all(kernel: Kernel, make: Callable[[Any], Any]) -> None:
    """While a step is under way the store is as it was; with its commit everything is there."""
    store, writing, go = make(first_data()), asyncio.Event(), asyncio.Event()

    async def work(view: Any) -> str:
        everything(view)
        writing.set()
        await go.wait()
        return "end"

    flow = Workflow("a").register("a", work).add_exit_state("end")
    running = asyncio.create_task(kernel.orchestrate(flow, store))
    await writing.wait()
    assert same(plain(store), first_data())
    go.set()
    await running

    assert store["number"] == 2
    assert "text" not in store
    assert store["new"] == [1, 1]
    assert store["person"].name == "Eve"


async def test_two_runs_on_one_store_see_each_others_commits(kernel: Kernel) -> None:
    """A shared store is read through until a step writes; appends of both are kept."""
    store = MemoryStore({"log": []})

    async def work(view: Any) -> str:
        for _ in range(3):
            view.append("log", current_step().run_id)
            await asyncio.sleep(0)
        view["count"] = len(view["log"])
        return "a" if current_step().seq < 4 else "end"

    flow = Workflow("a").register("a", work).add_exit_state("end")
    await asyncio.gather(*(kernel.orchestrate(flow, store) for _ in range(2)))

    assert len(store["log"]) == 24
    assert sorted(Counter(store["log"]).values()) == [12, 12]


# nothing is shared with the store behind its back


async def test_data_of_a_run_is_a_copy(kernel: Kernel) -> None:
    """What a run was started with is not changed by it, nor the other way round."""
    data = first_data()
    inner = data["list"]

    async def work(store: Any) -> str:
        inner.append("behind its back")
        everything(store)
        return "end"

    flow = Workflow("a").register("a", work).add_exit_state("end")
    result = await kernel.run(flow, data)

    assert data["number"] == 1
    assert data["person"] == first_data()["person"]
    assert "behind its back" not in result.data["list"]


async def test_what_was_put_is_the_stores_own(kernel: Kernel) -> None:
    """An object that a task keeps for itself is no way into the store."""
    kept: list[Any] = []

    async def first(store: Any) -> str:
        value = {"items": [1]}
        store["value"] = value
        kept.append(value)
        kept.append(store["value"])
        return "second"

    async def second(store: Any) -> str:
        for value in kept:
            value["items"].append("later")
        assert store["value"] == {"items": [1]}
        return "end"

    flow = Workflow("first").register("first", first).register("second", second).add_exit_state("end")

    assert (await kernel.run(flow)).data == {"value": {"items": [1]}}


async def test_what_a_failed_attempt_was_lent_is_no_way_into_the_store(kernel: Kernel) -> None:
    """Objects that a failed attempt got hold of are of no consequence to the next one."""
    lent: list[Any] = []

    async def work(store: Any) -> str:
        if current_step().attempt == 1:
            lent.append(store["list"])
            raise OSError
        lent[0].append("late")
        store.append("list", "in time")
        return "end"

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 0 if attempt == 1 else None

    flow = Workflow("a").register("a", work, config=TaskConfig(retry=Once())).add_exit_state("end")

    assert (await kernel.run(flow, {"list": []})).data == {"list": ["in time"]}


async def test_what_cannot_be_copied_is_shared(kernel: Kernel) -> None:
    """Clients, locks and other objects are passed by reference, in memory."""
    lock = threading.Lock()

    @dataclass
    class Holder:
        lock: Any

    holder = Holder(lock)

    async def work(store: Any) -> str:
        assert store["lock"] is lock
        store["same"] = store["holder"].lock is lock
        return "end"

    flow = Workflow("a").register("a", work).add_exit_state("end")

    assert (await kernel.run(flow, {"lock": lock, "holder": holder})).data["same"] is True


async def test_reading_changes_nothing(kernel: Kernel) -> None:
    """Values that were only looked at stay the very objects that they were."""
    data = first_data()
    before = {key: id(value) for key, value in data.items()}

    async def work(store: Any) -> str:
        for key in store:
            store.get(key)
        return "end"

    await kernel.orchestrate(Workflow("a").register("a", work).add_exit_state("end"), data)

    assert {key: id(value) for key, value in data.items()} == before


# nodes


class Writes(Node[str, None, None]):
    """A node that writes in `prep` and again in `post`, where it fails as often as told."""

    def __init__(self, write: Callable[[Any], None], failures: int) -> None:
        self.write = write
        self.failures = failures
        self.seen: list[dict[str, Any]] = []

    async def prep(self, store: Any) -> None:
        """Write."""
        self.write(store)

    async def exec(self, prepared: None) -> None:
        """Nothing."""

    async def post(self, store: Any, prepared: None, result: None) -> str:
        """Look, write again, and fail or not."""
        self.seen.append(copy.deepcopy(plain(store)))
        store.clear()
        store["post"] = True
        if self.failures:
            self.failures -= 1
            raise OSError
        return "end"


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_a_node_keeps_its_finished_phases(
    kernel: Kernel, make: Callable[[Any], Any], write: Callable[[Any], None]
) -> None:
    """Every attempt of `post` sees what `prep` wrote, whatever that was; the store is untouched until the end."""
    node, store, once = Writes(write, 2), make(first_data()), first_data()

    class Retry:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            assert same(plain(store), first_data())
            return 1.0

    flow = Workflow("a").register("a", node, config=TaskConfig(retry=Retry())).add_exit_state("end")
    await kernel.orchestrate(flow, store)
    await kernel.orchestrate(flow_of(write, ended, TaskConfig()), once)

    assert node.seen == [once] * 3
    assert plain(store) == {"post": True}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_a_node_that_fails_leaves_no_trace(
    kernel: Kernel, make: Callable[[Any], Any], write: Callable[[Any], None]
) -> None:
    """The finished phases of a failed node are undone with it."""
    store = make(first_data())
    flow = Workflow("a").register("a", Writes(write, 1), config=TaskConfig()).add_exit_state("end")

    with pytest.raises(CanoError):
        await kernel.orchestrate(flow, store)
    assert same(plain(store), first_data())


# stores that the kernel does not manage


async def test_an_object_of_the_users_own_is_changed_as_it_is() -> None:
    """A dataclass as a store is handed over: the kernel neither copies it nor undoes what a task did to it."""
    person = Person("Ann", Address("Road"))

    async def work(store: Person) -> str:
        assert store is person
        store.name = "Eve"
        raise OSError

    flow = Workflow("a").register("a", work).add_exit_state("end")
    async with Kernel(discover=False, grace=0) as kernel:
        with pytest.raises(TaskError):
            await kernel.orchestrate(flow, person)
        with pytest.raises(TaskError):
            await kernel.run(flow, person)
    assert person.name == "Eve"
