"""`MemoryStore`, on its own and as the store of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from threading import Barrier
from typing import Any

import pytest
from cano import (
    Changes,
    ConfigurationError,
    Kernel,
    Key,
    KeyNotFoundError,
    KeyValueStore,
    ManagedStore,
    StoreError,
    TaskError,
    TypeMismatchError,
    Workflow,
)
from cano_memory import MemoryStore

COUNT = Key("count", int)
NAMES = Key("names", list[str])
THREADS = 8
TIMES = 500


class State(Enum):
    """The states of the workflows below."""

    WORK = 1
    DONE = 2


# on its own


def test_it_is_a_store() -> None:
    """It implements `KeyValueStore` and the methods that the kernel needs to make steps atomic."""
    store = MemoryStore()

    assert isinstance(store, KeyValueStore)
    assert isinstance(store, ManagedStore)
    assert repr(store) == "<MemoryStore of 0 key(s)>"


def test_it_starts_with_what_it_is_given() -> None:
    """The mapping is copied, and its keys may be typed ones."""
    data: dict[Any, Any] = {"a": 1, COUNT: 2}
    store = MemoryStore(data)
    data["b"] = 3

    assert store.keys() == ["a", "count"]
    assert store[COUNT] == 2
    assert MemoryStore().keys() == MemoryStore(None).keys() == MemoryStore({}).keys() == []


@pytest.mark.parametrize("data", [3, "text", [("a", 1)], [], object(), MemoryStore()])
def test_it_is_made_from_a_mapping(data: Any) -> None:
    """Data that is not a mapping is refused with an error that shows it."""
    with pytest.raises(ConfigurationError, match="must be a mapping") as caught:
        MemoryStore(data)

    assert repr(data) in str(caught.value)


def test_what_it_starts_with_is_checked() -> None:
    """Keys are strings or keys, and a typed key's value is of its type."""
    with pytest.raises(ConfigurationError, match="a key must be a string or a Key"):
        MemoryStore({1: 2})  # type: ignore[dict-item]
    with pytest.raises(TypeMismatchError):
        MemoryStore({COUNT: "x"})  # type: ignore[dict-item]


def test_get_put_and_remove() -> None:
    """The very object that was put is found until it is removed."""
    store = MemoryStore()
    value = [1]
    store.put("list", value)
    store["name"] = "Ada"
    store[COUNT] = 3

    assert store.get("list") is value
    assert store.get("name", str) == store["name"] == "Ada"
    assert store.get(COUNT) == store[COUNT] == store.get("count", int) == 3
    assert store.get("none", default=None) is None
    assert store.get("none", int, 7) == 7
    assert store.keys() == list(store) == ["list", "name", "count"]
    assert ("name" in store, COUNT in store, "none" in store, 3 in store) == (True, True, False, False)
    store.remove("list")
    del store[COUNT]
    assert (store.keys(), len(store)) == (["name"], 1)
    store.clear()
    assert (store.keys(), len(store)) == ([], 0)


def test_append() -> None:
    """The first `append` creates the list."""
    store = MemoryStore({"old": [1]})
    store.append("old", 2)
    store.append(NAMES, "Ada")
    store.append(NAMES, "Grace")

    assert (store["old"], store[NAMES]) == ([1, 2], ["Ada", "Grace"])


def test_a_missing_key() -> None:
    """The error about a missing key is a KeyError and names the key and the expected type."""
    store = MemoryStore({"a": 1})
    uses: list[tuple[Callable[[], object], type | None]] = [
        (lambda: store.get("count"), None),
        (lambda: store.get("count", int), int),
        (lambda: store[COUNT], int),
        (lambda: store.remove("count"), None),
        (lambda: store.remove(COUNT), None),
        (lambda: store.__delitem__("count"), None),
    ]
    for use, expected in uses:
        with pytest.raises(KeyNotFoundError, match=r"^no key 'count' in the store; there are: a$") as caught:
            use()

        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("count", expected, None)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, StoreError)
    assert store.keys() == ["a"]


def test_a_wrong_type() -> None:
    """The error about a wrong type is a TypeError and names the key and both types; nothing changes."""
    store = MemoryStore({"count": "three", "list": {1}})
    uses: list[tuple[Callable[[], object], str, object, type]] = [
        (lambda: store.get("count", int), "count", int, str),
        (lambda: store[COUNT], "count", int, str),
        (lambda: store.put(COUNT, 0.5), "count", int, float),  # type: ignore[misc]
        (lambda: store.append("list", 1), "list", list, set),
        (lambda: store.append(COUNT, 1), "count", list, int),  # type: ignore[arg-type]
    ]
    for use, key, expected, actual in uses:
        with pytest.raises(TypeMismatchError, match=f"key '{key}'") as caught:
            use()

        assert (caught.value.key, caught.value.expected, caught.value.actual) == (key, expected, actual)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, StoreError)
    assert dict(store.live()) == {"count": "three", "list": {1}}


# shared by threads


@pytest.fixture
def hurry() -> Iterator[None]:
    """Make threads switch as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """Return the results of `work(number)` in several threads that start at the same moment."""
    gate = Barrier(THREADS)

    def start(number: int) -> Any:
        gate.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


@pytest.mark.usefixtures("hurry")
def test_no_append_is_lost() -> None:
    """Many threads that append to one list leave each item in it once, each thread's in its order."""
    store = MemoryStore()

    def work(number: int) -> None:
        for time in range(TIMES):
            store.append("all", (number, time))

    in_threads(work)
    items = store.get("all", list)
    assert len(items) == THREADS * TIMES
    for number in range(THREADS):
        assert [time for thread, time in items if thread == number] == list(range(TIMES))


@pytest.mark.usefixtures("hurry")
def test_no_put_is_lost() -> None:
    """Many threads that put keys of their own, and look at all of them meanwhile, leave every key."""
    store = MemoryStore()

    def work(number: int) -> int:
        most = 0
        for time in range(TIMES):
            store.put(f"{number}:{time}", time)
            most = max(most, len(store), len(store.keys()), sum(1 for _ in store))
        return most

    assert max(in_threads(work)) <= THREADS * TIMES
    assert sorted(store.keys()) == sorted(f"{number}:{time}" for number in range(THREADS) for time in range(TIMES))


@pytest.mark.usefixtures("hurry")
def test_a_key_is_removed_once() -> None:
    """If many threads remove the same keys, exactly one succeeds for each key; the others get an error."""
    store = MemoryStore({str(number): number for number in range(TIMES)})

    def work(number: int) -> int:
        removed = 0
        for key in range(TIMES):
            try:
                store.remove(str(key))
                removed += 1
            except KeyNotFoundError:
                pass
        return removed

    assert sum(in_threads(work)) == TIMES
    assert len(store) == 0


@pytest.mark.usefixtures("hurry")
def test_changes_are_applied_whole() -> None:
    """Changes applied by threads do not mix: both keys always have values of the same thread."""
    store = MemoryStore({"a": -1, "b": -1, "list": []})

    def work(number: int) -> bool:
        whole = True
        for time in range(TIMES):
            store.apply(Changes(time % 7 == 0, frozenset(), {"a": number, "b": number}, {"list": [number]}))
            whole = whole and isinstance(store.get("a", int), int) and bool(store.get("list", list))
        return whole

    assert all(in_threads(work))
    assert store["a"] == store["b"]
    assert set(store.keys()) == {"a", "b", "list"}


@pytest.mark.usefixtures("hurry")
async def test_runs_in_threads_lose_nothing() -> None:
    """Plain functions, which run in threads, append to one store from many runs at once: every item is there."""
    store = MemoryStore()

    def work(view: KeyValueStore) -> State:
        for item in range(20):
            view.append("all", item)
        return State.DONE

    async with Kernel(discover=False) as kernel:
        flow = Workflow(State.WORK).register(State.WORK, work).add_exit_state(State.DONE)
        handles = [await kernel.start(flow, store) for _ in range(50)]
        for handle in handles:
            await handle.result()
    assert sorted(store.get("all", list)) == sorted(list(range(20)) * 50)


# what the kernel asks


def test_live_is_always_the_same_object() -> None:
    """The mapping from `live` shows every later change."""
    store = MemoryStore({"a": 1})
    live = store.live()
    store["b"] = 2
    store.apply(Changes(False, frozenset({"a"}), {"c": 3}, {"d": [4]}))
    assert store.live() is live
    assert dict(live) == {"b": 2, "c": 3, "d": [4]}

    store.apply(Changes(True, frozenset(), {}, {}))
    store.append("e", 5)
    assert dict(live) == {"e": [5]}


def test_changes_that_do_not_fit_change_nothing() -> None:
    """Appending to a value that is not a list raises an error that names the key, and changes nothing."""
    store = MemoryStore({"a": 1, "b": 2})
    with pytest.raises(TypeMismatchError, match="'b'") as caught:
        store.apply(Changes(False, frozenset({"a"}), {"c": 3}, {"b": [4]}))

    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("b", list, int)
    assert dict(store.live()) == {"a": 1, "b": 2}


async def test_a_step_is_atomic() -> None:
    """A run on it changes it when a step succeeds, and leaves no trace in it when the step fails."""
    store = MemoryStore({"list": [1], "gone": 1})

    async def succeed(view: KeyValueStore) -> State:
        view["seen"] = True
        view.get("list").append(2)
        view.append("log", "x")
        view.remove("gone")
        assert store.keys() == ["list", "gone"]
        assert store["list"] == [1]
        return State.DONE

    async def fail(view: KeyValueStore) -> State:
        view["list"].append(3)
        view.clear()
        view["seen"] = False
        raise OSError("down")

    async with Kernel(discover=False) as kernel:
        good = Workflow(State.WORK).register(State.WORK, succeed).add_exit_state(State.DONE)
        await kernel.run(good, store)
        assert dict(store.live()) == {"list": [1, 2], "seen": True, "log": ["x"]}

        bad = Workflow(State.WORK).register(State.WORK, fail).add_exit_state(State.DONE)
        with pytest.raises(TaskError, match="down"):
            await kernel.run(bad, store)
        assert dict(store.live()) == {"list": [1, 2], "seen": True, "log": ["x"]}


async def test_orchestrate_runs_on_the_store_itself() -> None:
    """`orchestrate` works on a MemoryStore as on a dict."""
    store = MemoryStore({"count": 1})

    async def work(view: KeyValueStore) -> State:
        view[COUNT] = view[COUNT] + 1
        return State.DONE

    flow = Workflow(State.WORK).register(State.WORK, work).add_exit_state(State.DONE)
    assert await flow.orchestrate(store) is State.DONE
    assert await flow.orchestrate(store) is State.DONE
    assert store[COUNT] == 3
