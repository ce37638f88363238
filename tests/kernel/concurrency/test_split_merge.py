"""What branches write: each to its own view, merged at the join in the order of the branches."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cano import (
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Key,
    KeyNotFoundError,
    MergeConflictError,
    Node,
    StoreUnavailableError,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore
from cano_retry import Fixed

ALL, PARTIAL = JoinStrategy.all(), JoinStrategy.partial(0)
Do = Callable[[Any], Any]


def branch(do: Do) -> Do:
    """A branch that does something to its store, with others in between."""

    async def work(store: Any) -> Any:
        await asyncio.sleep(0)
        result = do(store)
        await asyncio.sleep(0)
        return result

    return work


def split(*does: Do, strategy: JoinStrategy = ALL, reducers: Any = ()) -> Workflow[str]:
    """A workflow of one split."""
    join = JoinConfig(strategy, "end", reducers=reducers)
    return Workflow("split").register_split("split", [branch(do) for do in does], join).add_exit_state("end")


def puts(key: str, value: Any) -> Do:
    """Put one value."""
    return lambda store: store.put(key, value)


def appends(key: str, *items: Any) -> Do:
    """Append some items."""
    return lambda store: [store.append(key, item) for item in items]


def removes(key: str) -> Do:
    """Remove a key."""
    return lambda store: store.remove(key)


def fails(do: Do) -> Do:
    """Do something, and then fail."""

    def work(store: Any) -> None:
        do(store)
        raise OSError

    return work


MERGES = [
    pytest.param([puts("a", 1), puts("b", 2)], {"a": 1, "b": 2}, id="different keys"),
    pytest.param([puts("a", 1), puts("a", 1)], {"a": 1}, id="the same value"),
    pytest.param([puts("a", [1, {"x": 2}]), puts("a", [1, {"x": 2}])], {"a": [1, {"x": 2}]}, id="equal values"),
    pytest.param([puts("old", 5), lambda store: None], {"old": 5}, id="over an old one"),
    pytest.param([appends("log", 1), appends("log", 2, 3)], {"log": [1, 2, 3]}, id="appends to a new list"),
    pytest.param([appends("list", 1), appends("list", 2)], {"list": [0, 1, 2]}, id="appends to an old list"),
    pytest.param([removes("old"), lambda store: None], {"old": None}, id="a removal"),
    pytest.param([removes("old"), removes("old")], {"old": None}, id="the same removal twice"),
    pytest.param([lambda store: store.clear()] * 2, {"old": None, "list": None, "nest": None}, id="clear by all"),
    pytest.param(
        [lambda store: store.clear(), puts("new", 1)],
        {"old": None, "list": None, "nest": None, "new": 1},
        id="clear by one, a new key by another",
    ),
    pytest.param(
        [lambda store: (store.clear(), store.put("old", 2))],
        {"old": 2, "list": None, "nest": None},
        id="clear and put again",
    ),
    pytest.param([lambda store: store["list"].append(9)], {"list": [0, 9]}, id="a change in place"),
    pytest.param(
        [lambda store: store["nest"]["deep"].append(9), lambda store: len(store["nest"])],
        {"nest": {"deep": [9]}},
        id="a change in place, deep down, and a reader",
    ),
    pytest.param(
        [lambda store: store["list"].append(9), lambda store: store["nest"].update(x=1)],
        {"list": [0, 9], "nest": {"deep": [], "x": 1}},
        id="changes in place of two keys",
    ),
    pytest.param([lambda store: (store.remove("old"), store.put("old", 3))], {"old": 3}, id="remove and put again"),
    pytest.param(
        [lambda store: (store.append("new", 1), store.remove("new")), puts("a", 1)], {"a": 1}, id="append and remove"
    ),
    pytest.param(
        [lambda store: (store.put("new", 1), store.remove("new")), puts("new", 2), appends("list", 1)],
        {"new": 2, "list": [0, 1]},
        id="a key that one needs for a moment only",
    ),
    pytest.param(
        [lambda store: (store.clear(), store.append("log", 1)), lambda store: store.clear()],
        {"old": None, "list": None, "nest": None, "log": [1]},
        id="clear and append",
    ),
    pytest.param(
        [lambda store: (store.clear(), store.append("list", 1))],
        {"old": None, "list": [1], "nest": None},
        id="clear and append to what was there",
    ),
    pytest.param(
        [lambda store: (store.remove("list"), store.append("list", 1))], {"list": [1]}, id="remove and append again"
    ),
]


@pytest.mark.parametrize(("does", "changed"), MERGES)
@pytest.mark.parametrize("memory", [False, True], ids=["dict", "MemoryStore"])
async def test_what_merges(kernel: Kernel, does: list[Do], changed: dict[str, Any], memory: bool) -> None:
    """What is done to different keys, or alike, or by `append`, merges by itself. None means that a key is gone."""
    before = {"old": 1, "list": [0], "nest": {"deep": []}}
    expected = {key: value for key, value in {**before, **changed}.items() if value is not None}

    result = await kernel.run(split(*does), MemoryStore(before) if memory else before)

    assert dict(result.data) == expected


CONFLICTS = [
    pytest.param([puts("old", 2), puts("old", 3)], "old", {"0:work": 2, "1:work": 3}, id="two values"),
    pytest.param([puts("a", 1), puts("a", True)], "a", {"0:work": 1, "1:work": True}, id="equal, of other types"),
    pytest.param([puts("a", 1), puts("a", 1.0)], "a", {"0:work": 1, "1:work": 1.0}, id="an int and a float"),
    pytest.param([puts("old", 2), removes("old")], "old", {"0:work": 2, "1:work": "(removed)"}, id="put and remove"),
    pytest.param(
        [appends("list", 1), removes("list")],
        "list",
        {"1:work": "(removed)", "(appended by others)": [1]},
        id="append and remove",
    ),
    pytest.param(
        [puts("list", [5]), appends("list", 1)],
        "list",
        {"0:work": [5], "(appended by others)": [1]},
        id="put and append",
    ),
    pytest.param(
        [lambda store: (store.remove("list"), store.append("list", 1)), appends("list", 2)],
        "list",
        {"0:work": [1], "(appended by others)": [2]},
        id="a new list and an append to the old one",
    ),
    pytest.param(
        [lambda store: store["list"].append(9), appends("list", 1)],
        "list",
        {"0:work": [0, 9], "(appended by others)": [1]},
        id="a change in place and an append",
    ),
    pytest.param(
        [lambda store: store["list"].append(9), lambda store: store["list"].append(8)],
        "list",
        {"0:work": [0, 9], "1:work": [0, 8]},
        id="two changes in place",
    ),
    pytest.param(
        [lambda store: store.clear(), puts("old", 2)], "old", {"0:work": "(removed)", "1:work": 2}, id="clear and put"
    ),
    pytest.param(
        [lambda store: None, puts("a", 1), puts("a", 1), puts("a", 2)],
        "a",
        {"1:work": 1, "2:work": 1, "3:work": 2},
        id="two alike and a third",
    ),
]


@pytest.mark.parametrize(("does", "key", "values"), CONFLICTS)
async def test_what_does_not_merge(kernel: Kernel, does: list[Do], key: str, values: dict[str, Any]) -> None:
    """The error names the key and who did what; nothing of any branch is kept."""
    before = {"old": 1, "list": [0]}
    store = MemoryStore(before)

    with pytest.raises(MergeConflictError, match=f"different values to key '{key}'") as caught:
        await kernel.run(split(*does), store)

    assert (caught.value.key, caught.value.values) == (key, values)
    assert all(name in str(caught.value) for name in values)
    assert "reducer" in str(caught.value)
    assert dict(store.live()) == before


async def test_a_conflict_of_values_that_cannot_be_compared(kernel: Kernel) -> None:
    """Values whose comparison raises are different."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = None  # type: ignore[assignment]  # as a class with __eq__ has it

    odd = Odd()
    assert (await kernel.run(split(puts("a", odd), puts("a", odd)))).data == {"a": odd}
    with pytest.raises(MergeConflictError):
        await kernel.run(split(puts("a", Odd()), puts("a", Odd())))


async def test_a_long_conflict_is_readable(kernel: Kernel) -> None:
    """The message is cut, the attribute is not."""
    with pytest.raises(MergeConflictError) as caught:
        await kernel.run(split(*(puts("a", f"{number}" * 1000) for number in range(100))))
    assert len(str(caught.value)) < 3000
    assert len(caught.value.values) == 100


# the order of the branches


async def test_appends_come_in_the_order_of_the_branches(kernel: Kernel, clock: VirtualClock) -> None:
    """Not in that in which they were made: the result is the same every time."""

    def appending(number: int) -> Do:
        async def work(store: Any) -> None:
            store.append("log", (number, "begin"))
            await clock.sleep(10 - number)
            store.append("log", (number, "end"))

        return work

    flow = Workflow("split").register_split("split", [appending(n) for n in range(5)], JoinConfig(ALL, "end"))
    result = await kernel.run(flow.add_exit_state("end"))

    assert result.data["log"] == [(number, at) for number in range(5) for at in ("begin", "end")]


async def test_failed_and_cut_off_branches_write_nothing(kernel: Kernel, clock: VirtualClock) -> None:
    """Only those that are ok merge, and so they cannot be in conflict with the others."""

    async def slow(store: Any) -> None:
        store["a"] = "slow"
        store.append("log", "slow")
        await clock.sleep(100)

    branches: list[Any] = [branch(fails(puts("a", "failed"))), slow, branch(puts("a", "ok")), branch(appends("log", 1))]
    flow = Workflow("split").register_split("split", branches, JoinConfig(PARTIAL, "end", timeout=5))
    result = await kernel.run(flow.add_exit_state("end"))

    assert result.data == {"a": "ok", "log": [1]}


async def test_a_join_that_is_not_met_writes_nothing(kernel: Kernel) -> None:
    """Not even what the branches did that are ok."""
    store = MemoryStore({"old": 1})

    with pytest.raises(JoinError):
        await kernel.run(split(puts("a", 1), removes("old"), fails(puts("b", 1))), store)
    assert dict(store.live()) == {"old": 1}


# views


async def test_each_branch_sees_its_own_writes_only(kernel: Kernel) -> None:
    """And the data as it was before the split, whatever the others do meanwhile."""
    seen: list[list[Any]] = []

    def watching(number: int) -> Do:
        async def work(store: Any) -> None:
            store[f"key {number}"] = number
            store.append("log", number)
            store["nest"]["by"] = number
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append([sorted(store.keys()), store["log"], dict(store["nest"]), store["old"]])
            store["nest"].pop("by")

        return work

    flow = Workflow("split").register_split("split", [watching(n) for n in range(3)], JoinConfig(ALL, "end"))
    result = await kernel.run(flow.add_exit_state("end"), {"old": 1, "nest": {}})

    assert seen == [
        [sorted(["old", "nest", f"key {number}", "log"]), [number], {"by": number}, 1] for number in range(3)
    ]
    assert result.data == {"old": 1, "nest": {}, "key 0": 0, "key 1": 1, "key 2": 2, "log": [0, 1, 2]}


async def test_nothing_is_seen_outside_before_the_join(kernel: Kernel, clock: VirtualClock) -> None:
    """The store changes once, when all is merged."""
    store = MemoryStore()

    def writing(number: int) -> Do:
        async def work(view: Any) -> None:
            view[f"key {number}"] = number
            await clock.sleep(number)

        return work

    flow = Workflow("split").register_split("split", [writing(n) for n in range(1, 4)], JoinConfig(ALL, "end"))
    handle = await kernel.start(flow.add_exit_state("end"), store)
    for _ in range(3):
        assert len(store) == 0
        await clock.sleep(0.9)
    await handle.result()
    assert store.keys() == ["key 1", "key 2", "key 3"]


async def test_a_value_handed_out_is_nobody_elses(kernel: Kernel) -> None:
    """What a branch has put is in the store as it was put, whatever the branch does to its own object later."""
    kept: list[list[int]] = []

    def work(store: Any) -> None:
        mine = [1]
        store["a"] = mine
        mine.append(2)
        kept.append(mine)

    result = await kernel.run(split(work, work))

    assert result.data == {"a": [1]}
    kept[0].append(3)
    assert result.data == {"a": [1]}


async def test_removing_what_is_not_there(kernel: Kernel) -> None:
    """It fails in the branch that does it; what another one put is not there for it."""
    with pytest.raises(JoinError) as caught:
        await kernel.run(split(puts("a", 1), removes("a")))
    errors = caught.value.outcome.errors
    assert [type(error.__cause__) for error in errors] == [KeyNotFoundError]


async def test_what_the_maker_removed(kernel: Kernel) -> None:
    """Branches that remove it too do no harm."""

    def make(store: Any) -> Any:
        store.remove("items")
        return [branch(removes("items"))] * 2

    flow = Workflow("split").register_split("split", make, JoinConfig(ALL, "end")).add_exit_state("end")

    assert (await kernel.run(flow, {"items": [1, 2]})).data == {}


# reducers

TOTAL = Key("total", int, reducer=operator.add)
NAMES: Key[set[str]] = Key("names", set, reducer=operator.or_)


async def test_a_reducer_merges_different_values(kernel: Kernel) -> None:
    """It is applied to what the branches wrote, in their order."""
    flow = split(*(puts("text", letter) for letter in "abcd"), reducers={"text": lambda one, other: f"({one}{other})"})

    assert (await kernel.run(flow, {"text": "old"})).data == {"text": "(((ab)c)d)"}


async def test_reducers_by_key(kernel: Kernel) -> None:
    """A `Key` with a reducer, listed, brings its own; as a key of the mapping it is given another."""

    def count(number: int) -> Do:
        def work(store: Any) -> None:
            store[TOTAL] = number
            store[NAMES] = {f"name {number}"}

        return work

    does = [count(1), count(2), count(30)]

    assert (await kernel.run(split(*does, reducers=[TOTAL, NAMES]))).data == {
        "total": 33,
        "names": {"name 1", "name 2", "name 30"},
    }
    assert (await kernel.run(split(*does, reducers={TOTAL: max, "names": lambda one, other: set()}))).data == {
        "total": 30,
        "names": set(),
    }


async def test_a_reducer_is_asked_for_equal_values_too(kernel: Kernel) -> None:
    """Three branches that found two things each have found six, not two."""
    assert (await kernel.run(split(*[puts("total", 2)] * 3, reducers=[TOTAL]))).data == {"total": 6}


async def test_a_reducer_of_one_value(kernel: Kernel) -> None:
    """There is nothing to merge then, and nothing where nobody wrote."""

    def never(one: Any, other: Any) -> Any:
        raise AssertionError

    assert (await kernel.run(split(puts("a", 1), reducers={"a": never, "b": never}))).data == {"a": 1}


async def test_a_reducer_does_not_merge_a_removal(kernel: Kernel) -> None:
    """A value and its absence are no two values."""
    with pytest.raises(MergeConflictError):
        await kernel.run(split(puts("total", 1), removes("total"), reducers=[TOTAL]), {"total": 5})


async def test_a_reducer_that_raises(kernel: Kernel) -> None:
    """The run fails with its exception as the cause, and nothing is kept."""
    store = MemoryStore()
    flow = split(puts("a", 1), puts("a", "x"), reducers={"a": operator.add})

    with pytest.raises(TaskError, match="TypeError: unsupported operand") as caught:
        await kernel.run(flow, store, run_id="r1")
    assert isinstance(caught.value.__cause__, TypeError)
    assert (caught.value.run_id, caught.value.state) == ("r1", "split")
    assert len(store) == 0


async def test_counting_words_by_reducer(kernel: Kernel) -> None:
    """A map-reduce: each branch counts its own text, the reducer adds the counts."""
    texts = ["to be or not to be", "be that as it may", "to and fro"]

    def add(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
        return {word: one.get(word, 0) + other.get(word, 0) for word in [*one, *(set(other) - set(one))]}

    def count(text: str) -> Do:
        words = text.split()
        return puts("counts", {word: words.count(word) for word in words})

    counts = (await kernel.run(split(*map(count, texts), reducers={"counts": add}))).data["counts"]

    everything = " ".join(texts).split()
    assert counts == {word: everything.count(word) for word in everything}


# dataclasses as values


@dataclass
class Point:
    """A value that can be changed in place."""

    x: int
    tags: list[str] = field(default_factory=list)


async def test_objects_changed_in_place(kernel: Kernel) -> None:
    """They are copied like containers: one branch's change is merged, two different ones are a conflict."""

    def move(x: int) -> Do:
        def work(store: Any) -> None:
            store["point"].x = x
            store["point"].tags.append("moved")

        return work

    point = Point(1)
    assert (await kernel.run(split(move(5), lambda store: store["point"].x), {"point": point})).data == {
        "point": Point(5, ["moved"])
    }
    assert point == Point(1)
    for x in (5, 6):  # also the same change: each branch has read the point before
        with pytest.raises(MergeConflictError):
            await kernel.run(split(move(5), move(x)), {"point": point})


async def test_errors_of_the_store_keep_their_kind(kernel: Kernel) -> None:
    """What a store says while branches merge is not taken for a reducer's mistake."""

    class Refusing(MemoryStore):
        def put_many(self, changed: Any) -> None:
            raise StoreUnavailableError("full")

    with pytest.raises(StoreUnavailableError, match="full"):
        await kernel.run(split(puts("a", 1)), Refusing())


# keys that a branch had read before it wrote them


def adds_one(store: Any) -> None:
    """The update that two branches would lose."""
    store["k"] += 1


@pytest.mark.parametrize("make", [dict, MemoryStore])
@pytest.mark.parametrize(
    "does",
    [
        [adds_one, adds_one],
        [adds_one, puts("k", 2)],
        [puts("k", 2), adds_one],
        [lambda store: store.put("k", store.get("k", int) + 1)] * 2,
        [lambda store: store.put("new", store.get("new", default=0) + 1)] * 2,
        [lambda store: store["list"].append(9)] * 2,
    ],
    ids=["both", "the first", "the second", "get", "a missing key", "in place"],
)
async def test_a_value_derived_from_the_key_conflicts(kernel: Kernel, make: Any, does: list[Do]) -> None:
    """Even if the values are equal: one branch does not know what the other one did."""
    with pytest.raises(MergeConflictError, match="had read before"):
        await kernel.run(split(*does), make({"k": 1, "list": [0]}))


@pytest.mark.parametrize(
    "do",
    [
        puts("k", 2),
        lambda store: "k" in store and store.put("k", 2),
        lambda store: store.keys() and store.put("k", 2),
        lambda store: (store.put("k", 1), store.put("k", store["k"] + 1)),
        lambda store: store.put("k", store["other"] + 1),
    ],
    ids=["a constant", "in", "keys", "its own value", "another key"],
)
async def test_equal_values_that_are_not_derived_from_the_key_merge(kernel: Kernel, do: Do) -> None:
    """As before."""
    assert (await kernel.run(split(do, do), {"k": 1, "other": 1})).data == {"k": 2, "other": 1}


async def test_a_reducer_settles_derived_values(kernel: Kernel) -> None:
    """Like different ones."""
    assert (await kernel.run(split(adds_one, adds_one, reducers={"k": operator.add}), {"k": 1})).data == {"k": 4}


async def test_one_branch_may_derive(kernel: Kernel) -> None:
    """The others only read the key, or fail."""
    result = await kernel.run(split(adds_one, lambda store: store["k"]), {"k": 1})
    assert result.data == {"k": 2}


async def test_what_was_read_counts_in_every_phase_and_attempt(kernel: Kernel) -> None:
    """`prep` reads, `exec` fails once, `post` writes; and the other branch has the same value without reading."""

    class Adds(Node[Any, int, int]):
        async def prep(self, store: Any) -> int:
            return int(store["k"])

        async def exec(self, prepared: int) -> int:
            if current_step().attempt == 1:
                raise ConnectionError
            return prepared + 1

        async def post(self, store: Any, prepared: int, result: int) -> None:
            store["k"] = result

    flow = Workflow("split", default_config=TaskConfig(retry=Fixed(1, 0))).add_exit_state("end")
    flow.register_split("split", [Adds(), puts("k", 2)], JoinConfig(ALL, "end"))
    with pytest.raises(MergeConflictError, match="0:Adds had read before"):
        await kernel.run(flow, {"k": 1})
