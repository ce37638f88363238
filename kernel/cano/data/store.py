"""What tasks see of a store: typed keys, the `KeyValueStore` protocol, and a base class that implements it."""

from __future__ import annotations

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload, runtime_checkable

from cano.errors import ConfigurationError, KeyNotFoundError, TypeMismatchError

T = TypeVar("T")
D = TypeVar("D")


class _Missing:
    """The absence of a value, where None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class Key(Generic[T]):
    """A typed key: accepted wherever a string key is, so that a type checker knows the value's type.

    Args:
        name: the key's name in the store.
        type: the type of its value, checked on every get and put.
        reducer: how the branches of a split merge what they wrote: `(old, new) -> merged`.

    Example:
        COUNT = Key("count", int)
        store[COUNT] = store.get(COUNT, default=0) + 1
    """

    __slots__ = ("name", "reducer", "type")

    def __init__(
        self, name: str, type: type[T] | types.UnionType, *, reducer: Callable[[T, T], T] | None = None
    ) -> None:
        if not isinstance(name, str):
            raise ConfigurationError(f"a key's name must be a string, not {name!r}")
        _concrete(name, type)
        self.name = name
        self.type = type
        self.reducer = reducer

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {getattr(self.type, '__name__', self.type)})"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and (self.name, self.type) == (other.name, other.type)

    def __hash__(self) -> int:
        return hash(self.name)


AnyKey = str | Key[Any]


@runtime_checkable
class KeyValueStore(Protocol):
    """Typed key-value data, as tasks see it. Synchronous: it works on the run's own data.

    A string key may stand wherever a `Key` may; values are any objects that the store can keep.
    """

    @overload
    def get(self, key: Key[T]) -> T: ...
    @overload
    def get(self, key: Key[T], *, default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, type: type[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: None = None, default: Any = ...) -> Any: ...
    def get(self, key: Any, type: Any = None, default: Any = MISSING) -> Any:
        """The value of `key`.

        Args:
            key: a string or a `Key`.
            type: the type that the value must be an instance of; a `Key` brings its own.
            default: returned where the key is missing; without one that is an error.

        Raises:
            KeyNotFoundError: there is no such key, and no default.
            TypeMismatchError: the value is of another type.
        """
        ...

    @overload
    def put(self, key: Key[T], value: T) -> None: ...
    @overload
    def put(self, key: str, value: Any) -> None: ...
    def put(self, key: Any, value: Any) -> None:
        """Set `key` to `value`. Raises TypeMismatchError where a `Key` says another type."""
        ...

    @overload
    def append(self, key: Key[list[T]], item: T) -> None: ...
    @overload
    def append(self, key: str, item: Any) -> None: ...
    def append(self, key: Any, item: Any) -> None:
        """Add `item` to the list at `key`, making the list where there is none.

        Raises TypeMismatchError where the value is no list.
        """
        ...

    def remove(self, key: AnyKey) -> None:
        """Remove `key`. Raises KeyNotFoundError where it is missing."""
        ...

    def keys(self) -> list[str]:
        """All keys, as strings, in the order in which they were first put."""
        ...

    def clear(self) -> None:
        """Remove every key."""
        ...

    @overload
    def __getitem__(self, key: Key[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Any) -> Any: ...

    @overload
    def __setitem__(self, key: Key[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __delitem__(self, key: AnyKey) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...


class TypedStore(ABC):
    """A whole `KeyValueStore` on top of six primitives: what a store class of your own starts from."""

    __slots__ = ()

    @abstractmethod
    def _find(self, key: str) -> Any:
        """The value of `key`, or `MISSING`."""

    @abstractmethod
    def _set(self, key: str, value: Any) -> None:
        """Set `key` to `value`."""

    @abstractmethod
    def _append(self, key: str, item: Any) -> None:
        """Add `item` to the list at `key`; `not_a_list` raises where it is none."""

    @abstractmethod
    def _discard(self, key: str) -> bool:
        """Remove `key`; whether it was there."""

    @abstractmethod
    def keys(self) -> list[str]:
        """All keys, in the order in which they were first put."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every key."""

    @overload
    def get(self, key: Key[T]) -> T: ...
    @overload
    def get(self, key: Key[T], *, default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, type: type[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: None = None, default: Any = ...) -> Any: ...
    def get(self, key: Any, type: Any = None, default: Any = MISSING) -> Any:
        """See `KeyValueStore.get`."""
        if key.__class__ is not str:
            key, type = unpack_key(key, type)
        value = self._find(key)
        if value is MISSING:
            if type is not None:
                _concrete(key, type)
            if default is MISSING:
                raise self._missing(key, type)
            return default
        if type is not None and value.__class__ is not type:
            check_type(key, value, type)
        return value

    @overload
    def put(self, key: Key[T], value: T) -> None: ...
    @overload
    def put(self, key: str, value: Any) -> None: ...
    def put(self, key: Any, value: Any) -> None:
        """See `KeyValueStore.put`."""
        if key.__class__ is not str:
            key, type = unpack_key(key, None)
            if type is not None and value.__class__ is not type:
                check_type(key, value, type)
        self._set(key, value)

    @overload
    def append(self, key: Key[list[T]], item: T) -> None: ...
    @overload
    def append(self, key: str, item: Any) -> None: ...
    def append(self, key: Any, item: Any) -> None:
        """See `KeyValueStore.append`."""
        if key.__class__ is not str:
            key, type = unpack_key(key, None)
            if type is not None and _concrete(key, type) is not list:
                raise TypeMismatchError(
                    f"append to key {key!r}, which is declared as {_show(type)}, not as a list",
                    key=key, expected=list, actual=type,
                )  # fmt: skip
        self._append(key, item)

    def remove(self, key: AnyKey) -> None:
        """See `KeyValueStore.remove`."""
        name = key if key.__class__ is str else unpack_key(key, None)[0]
        if not self._discard(name):
            raise self._missing(name, None)

    @overload
    def __getitem__(self, key: Key[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    @overload
    def __setitem__(self, key: Key[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: AnyKey) -> None:
        self.remove(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str | Key) and self._find(unpack_key(key, None)[0]) is not MISSING

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} key(s)>"

    def _missing(self, key: str, expected: Any) -> KeyNotFoundError:
        there = ", ".join(sorted(self.keys())[:20]) or "none"
        return KeyNotFoundError(f"no key {key!r} in the store; there are: {there}", key=key, expected=expected)


def check_type(key: str, value: Any, expected: Any) -> None:
    """Raise TypeMismatchError unless `value` is an instance of `expected` (of its origin: `list` for `list[int]`).

    An int will do for a float, as it does for type checkers.
    """
    if expected is float and value.__class__ is int:
        return
    if not isinstance(value, _concrete(key, expected)):
        raise TypeMismatchError(
            f"key {key!r} holds a {type(value).__name__}, not a {_show(expected)}",
            key=key, expected=expected, actual=type(value),
        )  # fmt: skip


def not_a_list(key: str, value: Any) -> NoReturn:
    """Raise the TypeMismatchError of an `append` to something that is no list."""
    raise TypeMismatchError(
        f"append to key {key!r}, which holds a {type(value).__name__}, not a list",
        key=key, expected=list, actual=type(value),
    )  # fmt: skip


def unpack_key(key: Any, expected: Any) -> tuple[str, Any]:
    """Name and type of a key that is not simply a string."""
    if isinstance(key, Key):
        return key.name, key.type if expected is None else expected
    if isinstance(key, str):
        return str.__str__(key), expected  # of an enum's member the value, which its own str() may not be
    raise ConfigurationError(f"a key must be a string or a Key, not {key!r} ({type(key).__name__})")


def _concrete(key: str, expected: Any) -> Any:
    """The class (or union of classes) to test instances against."""
    if expected is Any:
        return object
    if typing.is_typeddict(expected):
        return dict
    if isinstance(expected, type):
        try:
            isinstance(None, expected)
        except TypeError as error:  # such as a protocol that is not @runtime_checkable
            raise ConfigurationError(f"key {key!r}: values cannot be tested for {expected!r}: {error}") from None
        return expected
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return tuple(type(None) if part is None else _concrete(key, part) for part in typing.get_args(expected))
    if isinstance(origin, type):
        return origin
    raise ConfigurationError(
        f"key {key!r}: {expected!r} is not a type; a default value is passed as get(key, default=…)"
    )


def _show(expected: Any) -> str:
    return expected.__name__ if type(expected) is type else str(expected)
