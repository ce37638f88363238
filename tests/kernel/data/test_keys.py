"""Typed keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import pytest
from cano import ConfigurationError, Key, ReadKey, StoreView, TypeMismatchError


class Options(TypedDict):
    """A dict with known keys."""

    depth: int


def test_a_key_says_its_name_and_type() -> None:
    """A key is its name, its type and its reducer, all of which can be read."""
    key = Key("count", int)

    assert (key.name, key.type, key.reducer) == ("count", int, None)
    assert str(key) == "count"
    assert repr(key) == "Key('count', int)"


def test_a_key_has_a_reducer() -> None:
    """The reducer is kept as it was given."""
    key = Key("best", int, reducer=max)

    assert key.reducer is max


def test_keys_are_equal_by_name_and_type() -> None:
    """Two keys of one name and type are one key; another type is another key, and no key is a string."""
    assert Key("n", int) == Key("n", int)
    assert hash(Key("n", int)) == hash(Key("n", int))
    assert Key("n", int) != Key("n", str)
    assert Key("n", int) != Key("m", int)
    assert Key("n", int) != "n"


def test_a_key_to_read_is_a_key() -> None:
    """It names the same value as the `Key` to write it, and its type is checked as well."""
    store, read = StoreView({}), ReadKey("n", int)
    store.put(Key("n", int), 3)

    assert (store[read], store.get(read), read in store) == (3, 3, True)
    assert read == Key("n", int)
    assert hash(read) == hash(Key("n", int))
    assert repr(read) == "ReadKey('n', int)"
    store.put("n", "three")
    with pytest.raises(TypeMismatchError):
        store.get(read)


@pytest.mark.parametrize("name", [None, 1, b"n", ("n",), Key("n", int)])
def test_a_name_is_a_string(name: Any) -> None:
    """Any other name is refused, and shown."""
    with pytest.raises(ConfigurationError, match="name must be a string") as caught:
        Key(name, int)

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("kind", [None, 3, "int", [], Literal["a"]])
def test_a_type_is_a_type(kind: Any) -> None:
    """What values cannot be tested against is refused when the key is made, with the key's name."""
    with pytest.raises(ConfigurationError, match="'n'") as caught:
        Key("n", kind)

    assert "is not a type" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (int, 3, "3"),
        (int, True, 3.0),
        (float, 3.0, True),
        (float, 3, "3"),
        (list[int], [3], (3,)),
        (dict[str, int], {"a": 1}, [("a", 1)]),
        (Sequence, (1,), {1}),
        (Options, {"depth": 1}, [1]),
        (int | None, None, "3"),
        (list[int] | dict[str, int], {}, ()),
    ],
)
def test_the_type_is_checked(kind: Any, right: object, wrong: object) -> None:
    """A value of the key's type passes in and out; any other is refused on its way in and on its way out."""
    key: Key[Any] = Key("n", kind)
    store = StoreView({"old": wrong})
    store.put(key, right)
    assert store.get(key) == right

    with pytest.raises(TypeMismatchError) as caught:
        store.put(key, wrong)
    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("n", kind, type(wrong))
    assert store["n"] == right

    store["n"] = wrong
    with pytest.raises(TypeMismatchError, match="key 'n' has a value of type"):
        store.get(key)


def test_any_takes_everything() -> None:
    """A key of type Any checks nothing."""
    key: Key[Any] = Key("n", Any)
    store = StoreView({})
    for value in (1, "a", None, [1]):
        store[key] = value

        assert store[key] == value


def test_a_protocol_that_cannot_be_checked_is_refused() -> None:
    """A class that isinstance() refuses is refused when the key is made, not when the value is put."""
    from typing import Protocol

    class Shape(Protocol):
        def area(self) -> float: ...

    with pytest.raises(ConfigurationError, match="Shape"):
        Key("shape", Shape)
