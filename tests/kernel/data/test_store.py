"""What tasks see of a store: the same for a minimal store class of one's own and for a step's view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest
from cano import (
    MISSING,
    CanoError,
    ConfigurationError,
    Key,
    KeyNotFoundError,
    KeyValueStore,
    StoreError,
    StoreView,
    TypedStore,
    TypeMismatchError,
    not_a_list,
)

COUNT = Key("count", int)
NAMES = Key("names", list[str])


class Plain(TypedStore):
    """The least that a store class has to say for itself."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)

    def _find(self, key: str) -> Any:
        return self.data.get(key, MISSING)

    def _set(self, key: str, value: Any) -> None:
        self.data[key] = value

    def _append(self, key: str, item: Any) -> None:
        held = self.data.setdefault(key, [])
        if not isinstance(held, list):
            not_a_list(key, held)
        held.append(item)

    def _discard(self, key: str) -> bool:
        return self.data.pop(key, MISSING) is not MISSING

    def keys(self) -> list[str]:
        """All keys."""
        return list(self.data)

    def clear(self) -> None:
        """Remove every key."""
        self.data.clear()


Make = Callable[[Mapping[str, Any]], TypedStore]


@pytest.fixture(params=[Plain, StoreView])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a store with some data in it."""
    kind: Make = request.param
    return kind


def test_six_primitives_make_a_store() -> None:
    """A store class has to implement exactly these."""
    assert sorted(TypedStore.__abstractmethods__) == ["_append", "_discard", "_find", "_set", "clear", "keys"]
    with pytest.raises(TypeError, match="abstract"):
        TypedStore()  # type: ignore[abstract]


def test_it_is_a_key_value_store(make: Make) -> None:
    """The protocol that tasks are annotated with can be tested for."""
    assert isinstance(make({}), KeyValueStore)
    assert not isinstance({}, KeyValueStore)


def test_what_is_put_is_found(make: Make) -> None:
    """Every way to read finds what any way to write has put, whether by string or by key."""
    store = make({"first": 1})
    store.put("name", "Ada")
    store["count"] = 2
    store.put(COUNT, 3)

    assert store.get("first") == 1
    assert store.get("name", str) == "Ada"
    assert store["name"] == "Ada"
    assert store[COUNT] == store.get(COUNT) == store["count"] == 3
    store[COUNT] = 4
    assert store.get("count") == 4


def test_a_missing_key_is_an_error(make: Make) -> None:
    """It is a KeyError that says which key, which type was asked for, and which keys there are."""
    store = make({"b": 1, "a": 2})
    for arguments in (("count", int), (COUNT,)):
        with pytest.raises(KeyNotFoundError) as caught:
            TypedStore.get(store, *arguments)

        assert str(caught.value) == "no key 'count' in the store; there are: a, b"
        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("count", int, None)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, StoreError)
    with pytest.raises(KeyNotFoundError, match="there are: none"):
        make({})["count"]


def test_a_default_stands_in_for_a_missing_key_only(make: Make) -> None:
    """A default is returned as it is where there is no value, and never hides a value, None included."""
    store = make({"none": None, "text": "x"})

    assert store.get("count", default=7) == 7
    assert store.get("count", int, None) is None
    assert store.get(COUNT, default="no number") == "no number"
    assert store.get("none", default=7) is None
    with pytest.raises(TypeMismatchError):
        store.get("text", int, 7)


def test_a_wrong_type_is_an_error(make: Make) -> None:
    """It is a TypeError that says key, expected and actual type."""
    store = make({"count": "three"})
    with pytest.raises(TypeMismatchError) as caught:
        store.get("count", int)

    assert str(caught.value) == "key 'count' has a value of type str, not int"
    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("count", int, str)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, CanoError)


def test_a_type_given_with_a_key_goes_before_its_own(make: Make) -> None:
    """Asking for a key as another type is answered for that type."""
    store = make({"count": "three"})

    assert TypedStore.get(store, COUNT, str) == "three"  # type: ignore[call-overload]


@pytest.mark.parametrize("data", [{}, {"count": 3}])
def test_a_default_in_the_place_of_the_type_is_refused(make: Make, data: Mapping[str, Any]) -> None:
    """`get(key, 0)`, a habit from dicts, is an error whether the key is there or not; the message knows better."""
    with pytest.raises(ConfigurationError, match=r"get\(key, default="):
        make(data).get("count", 0)  # type: ignore[call-overload]


def test_a_wrong_value_for_a_key_is_not_kept(make: Make) -> None:
    """A put that is refused leaves the old value in place."""
    store = make({"count": 3})
    with pytest.raises(TypeMismatchError) as caught:
        store.put(COUNT, "four")  # type: ignore[misc]
    with pytest.raises(TypeMismatchError):
        store[COUNT] = None  # type: ignore[misc]

    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("count", int, str)
    assert store["count"] == 3


@pytest.mark.parametrize("key", [None, 1, b"count", ("count",), int])
def test_a_key_is_a_string_or_a_key(make: Make, key: Any) -> None:
    """Nothing else is taken as a key, by any method; and nothing else is in a store."""
    store = make({"count": 3})
    for use in (
        lambda: store.get(key),
        lambda: store.put(key, 1),
        lambda: store.append(key, 1),
        lambda: store.remove(key),
        lambda: store[key],
    ):
        with pytest.raises(ConfigurationError, match="a key must be a string or a Key") as caught:
            use()

        assert repr(key) in str(caught.value)
    assert key not in store
    assert store.keys() == ["count"]


class Name(str, Enum):  # noqa: UP042  # its str() is not its value, unlike that of a StrEnum
    """Keys as an enum of strings."""

    COUNT = "count"


class Named:
    """An object with a name, which does not make it a key."""

    name = "count"


def test_a_string_enum_is_its_value(make: Make) -> None:
    """A member of an enum of strings is the key that it equals, by every method."""
    store = make({})
    store[Name.COUNT] = 3

    assert store.keys() == ["count"]
    assert type(store.keys()[0]) is str
    assert store["count"] == store[Name.COUNT] == store.get(Name.COUNT, int) == 3
    assert Name.COUNT in store
    store.remove(Name.COUNT)
    assert "count" not in store
    store.append(Name.COUNT, 1)
    assert store["count"] == [1]
    del store[Name.COUNT]
    assert store.keys() == []


def test_an_object_with_a_name_is_no_key(make: Make) -> None:
    """Only strings and keys are ever in a store."""
    store = make({"count": 3})

    assert COUNT in store
    assert "count" in store
    assert Named() not in store
    assert object() not in store


def test_append_makes_or_extends_a_list(make: Make) -> None:
    """The first item makes the list, the next ones go to its end; by string or by key."""
    store = make({"old": ["a"]})
    store.append("old", "b")
    store.append("names", "c")
    store.append(NAMES, "d")

    assert store["old"] == ["a", "b"]
    assert store[NAMES] == ["c", "d"]


@pytest.mark.parametrize("value", ["text", (1,), {"a": 1}, None, 3])
def test_append_to_something_else_is_an_error(make: Make, value: Any) -> None:
    """A value that is no list is not appended to, not even a string or None; it stays as it was."""
    store = make({"key": value})
    with pytest.raises(TypeMismatchError) as caught:
        store.append("key", 1)

    assert str(caught.value) == f"cannot append to key 'key': it has a value of type {type(value).__name__}, not list"
    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("key", list, type(value))
    assert store["key"] == value


def test_append_by_a_key_of_another_type_is_an_error(make: Make) -> None:
    """A key that is declared as something else than a list is refused, even where there is nothing yet."""
    store = make({})
    with pytest.raises(TypeMismatchError) as caught:
        store.append(COUNT, 1)  # type: ignore[arg-type]

    assert str(caught.value) == "cannot append to key 'count': it is declared as int, not as a list"
    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("count", list, int)
    assert "count" not in store


def test_remove(make: Make) -> None:
    """What is removed is gone, by string, by key and by `del`; the rest stays."""
    store = make({"a": 1, "b": 2, "count": 3, "d": 4})
    store.remove("a")
    store.remove(COUNT)
    del store["d"]

    assert store.keys() == ["b"]


@pytest.mark.parametrize("key", ["count", COUNT])
def test_removing_what_is_not_there_is_an_error(make: Make, key: Any) -> None:
    """It is a KeyNotFoundError that names the key."""
    store = make({"a": 1})
    with pytest.raises(KeyNotFoundError, match="no key 'count'") as caught:
        store.remove(key)
    with pytest.raises(KeyNotFoundError):
        del store[key]

    assert caught.value.key == "count"
    assert store.keys() == ["a"]


def test_keys_are_in_order(make: Make) -> None:
    """Keys come in the order of their first put; one that was removed and put again comes last."""
    store = make({"b": 1, "a": 2})
    store["c"] = 3
    store["b"] = 4
    assert store.keys() == list(store) == ["b", "a", "c"]

    store.remove("b")
    store["b"] = 5
    assert store.keys() == list(store) == ["a", "c", "b"]


def test_keys_are_a_list_of_their_own(make: Make) -> None:
    """Changing the list, or the store while going through it, does no harm."""
    store = make({"a": 1, "b": 2})
    store.keys().clear()
    for key in store:
        store.remove(key)

    assert store.keys() == []


def test_clear_and_len(make: Make) -> None:
    """`len` counts the keys, and `clear` leaves none."""
    store = make({"a": 1})
    store["b"] = 2
    assert len(store) == 2

    store.clear()
    assert (len(store), store.keys(), "a" in store) == (0, [], False)
    store["c"] = 3
    assert (len(store), store.keys()) == (1, ["c"])


def test_repr_tells_how_much_there_is(make: Make) -> None:
    """The repr names the class and the number of keys, and shows no data."""
    store = make({"secret": "x"})

    assert repr(store) == f"<{type(store).__name__} of 1 key(s)>"


def test_the_message_about_a_missing_key_stays_short(make: Make) -> None:
    """Of very many keys it names some."""
    store = make({f"key{number:03}": 1 for number in range(1000)})
    with pytest.raises(KeyNotFoundError) as caught:
        store["count"]

    assert "key000" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_peek_returns_the_value_itself(make: Make) -> None:
    """It takes no copy of a value that can be changed, committed or put in this step; a step is not touched by it."""
    names, later = ["Ada"], ["Eve"]
    store = make({"names": names})

    assert store.peek("names") is store.peek("names", list) is store.peek(NAMES) is names
    assert not getattr(store, "touched", False)
    store.put("later", later)
    assert store.peek("later") == later
    for key in ("missing", COUNT):
        with pytest.raises(KeyNotFoundError):
            store.peek(key)
    for arguments in (("names", int), (Key("names", int),)):
        with pytest.raises(TypeMismatchError):
            store.peek(*arguments)
    with pytest.raises(ConfigurationError):
        store.peek(1)  # type: ignore[call-overload]


def test_peek_sees_what_the_step_has_done(make: Make) -> None:
    """It agrees with `get` after every way to change a value."""
    store = make({"changed": [1], "appended": [1], "removed": [1], "cleared": [1]})
    store.get("changed").append(2)
    store.append("appended", 2)
    store.append("new", 2)
    store.remove("removed")

    assert [store.peek(key) for key in ("changed", "appended", "new", "cleared")] == [[1, 2], [1, 2], [2], [1]]
    assert [store.get(key) for key in ("changed", "appended", "new", "cleared")] == [[1, 2], [1, 2], [2], [1]]
    with pytest.raises(KeyNotFoundError):
        store.peek("removed")
    store.clear()
    with pytest.raises(KeyNotFoundError):
        store.peek("cleared")
