"""The store that tasks get: typed keys, the `KeyValueStore` protocol, and a base class that implements it."""

from __future__ import annotations

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload, runtime_checkable

from cano.errors import ConfigurationError, KeyNotFoundError, TypeMismatchError
from cano.safe_text import safe_str

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


class _Missing:
    """The type of `MISSING`, which stands for a missing value, since None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class ReadKey(Generic[T_co]):
    """A typed key for reading. The store's reading methods take it, so they also take every `Key`.

    A `ReadKey[list[str]]` is a `ReadKey[Iterable[str]]` for type checkers, which may not be true of keys to write to.

    Args:
        name: the key's name in the store.
        type: the type of its value, checked by each get.

    Raises:
        ConfigurationError: `name` is not a string, or values cannot be tested for `type`.
    """

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: type[T_co] | types.UnionType) -> None:
        if not isinstance(name, str):
            raise ConfigurationError(f"a key's name must be a string, not {name!r}")
        check_key(name)
        _concrete(name, type)
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, {getattr(self.type, '__name__', self.type)})"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadKey) and (self.name, self.type) == (other.name, other.type)

    def __hash__(self) -> int:
        return hash(self.name)


class Key(ReadKey[T]):
    """A typed key. It is accepted wherever a string key is, and type checkers know the type of its value.

    Args:
        name: the key's name in the store.
        type: the type of its value, checked by each get and put.
        reducer: a function `(old, new) -> merged`, which merges the values that branches of a split wrote.

    Raises:
        ConfigurationError: `name` is not a string, or values cannot be tested for `type`.

    Example:
        COUNT = Key("count", int)
        store[COUNT] = store.get(COUNT, default=0) + 1
    """

    __slots__ = ("reducer",)

    def __init__(
        self, name: str, type: type[T] | types.UnionType, *, reducer: Callable[[T, T], T] | None = None
    ) -> None:
        ReadKey.__init__(self, name, type)
        self.reducer = reducer


AnyKey = str | Key[Any]


@runtime_checkable
class KeyValueStore(Protocol):
    """The typed key-value data that tasks get. It is synchronous, for it works on the run's own data.

    Each method takes a string or a `Key`. Values are any objects that the store can keep.
    """

    @overload
    def get(self, key: ReadKey[T]) -> T: ...
    @overload
    def get(self, key: ReadKey[T], *, default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: type[T]) -> T: ...
    @overload
    def get(self, key: str, type: type[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, type: None = None, default: Any = ...) -> Any: ...
    def get(self, key: Any, type: Any = None, default: Any = MISSING) -> Any:
        """Return the value of `key`.

        Args:
            key: a string or a `Key`.
            type: the type that the value must be an instance of; by default that of the `Key`.
            default: the value to return if the key is missing.

        Raises:
            KeyNotFoundError: the key is missing, and there is no default.
            TypeMismatchError: the value has another type.
        """
        ...

    @overload
    def peek(self, key: ReadKey[T]) -> T: ...
    @overload
    def peek(self, key: str, type: type[T]) -> T: ...
    @overload
    def peek(self, key: str, type: None = None) -> Any: ...
    def peek(self, key: Any, type: Any = None) -> Any:
        """Return the value of `key` itself, to look at a large one; `get` copies a list or dict, and `peek` does not.

        Do not change it, or keep it beyond the step: a change is neither rolled back nor committed. The arguments and
        errors are those of `get`.
        """
        ...

    @overload
    def put(self, key: Key[T], value: T) -> None: ...
    @overload
    def put(self, key: str, value: Any) -> None: ...
    def put(self, key: Any, value: Any) -> None:
        """Set `key` to `value`. Raises TypeMismatchError if the `Key` has another type."""
        ...

    @overload
    def append(self, key: Key[list[T]], item: T) -> None: ...
    @overload
    def append(self, key: str, item: Any) -> None: ...
    def append(self, key: Any, item: Any) -> None:
        """Append `item` to the list at `key`. Create the list if the key is missing.

        Raises:
            TypeMismatchError: the value is not a list.
        """
        ...

    def remove(self, key: AnyKey) -> None:
        """Remove `key`. Raises KeyNotFoundError if it is missing."""
        ...

    def keys(self) -> list[str]:
        """Return all keys as strings, in the order in which they were first put."""
        ...

    def clear(self) -> None:
        """Remove every key."""
        ...

    @overload
    def __getitem__(self, key: ReadKey[T]) -> T: ...
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
    """A base class that implements `KeyValueStore` on six primitives, for store classes of your own."""

    __slots__ = ()

    @abstractmethod
    def _find(self, key: str) -> Any:
        """Return the value of `key`, or `MISSING`."""

    @abstractmethod
    def _set(self, key: str, value: Any) -> None:
        """Set `key` to `value`."""

    @abstractmethod
    def _append(self, key: str, item: Any) -> None:
        """Append `item` to the list at `key`. If the value is not a list, call `not_a_list`, which raises."""

    @abstractmethod
    def _discard(self, key: str) -> bool:
        """Remove `key`. Return whether it existed."""

    @abstractmethod
    def keys(self) -> list[str]:
        """Return all keys, in the order in which they were first put."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every key."""

    @overload
    def get(self, key: ReadKey[T]) -> T: ...
    @overload
    def get(self, key: ReadKey[T], *, default: D) -> T | D: ...
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
    def peek(self, key: ReadKey[T]) -> T: ...
    @overload
    def peek(self, key: str, type: type[T]) -> T: ...
    @overload
    def peek(self, key: str, type: None = None) -> Any: ...
    def peek(self, key: Any, type: Any = None) -> Any:
        """See `KeyValueStore.peek`."""
        key, type = unpack_key(key, type)
        value = self._look(key)
        if value is MISSING:
            raise self._missing(key, type)
        if type is not None:
            check_type(key, value, type)
        return value

    def _look(self, key: str) -> Any:
        """Return the value of `key` itself, or `MISSING`; differs from `_find` in a store that returns copies."""
        return self._find(key)

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
        if key < "\1":
            check_key(key)
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
                    f"cannot append to key {key!r}: it is declared as {_show(type)}, not as a list",
                    key=key, expected=list, actual=type,
                )  # fmt: skip
        if key < "\1":
            check_key(key)
        self._append(key, item)

    def remove(self, key: AnyKey) -> None:
        """See `KeyValueStore.remove`."""
        name = key if key.__class__ is str else unpack_key(key, None)[0]
        if not self._discard(name):
            raise self._missing(name, None)

    @overload
    def __getitem__(self, key: ReadKey[T]) -> T: ...
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
        return isinstance(key, str | ReadKey) and self._find(unpack_key(key, None)[0]) is not MISSING

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} key(s)>"

    def _missing(self, key: str, expected: Any) -> KeyNotFoundError:
        known = ", ".join(sorted(map(safe_str, self.keys()))[:20]) or "none"
        return KeyNotFoundError(f"no key {key!r} in the store; there are: {known}", key=key, expected=expected)


def check_type(key: str, value: Any, expected: Any) -> None:
    """Raise TypeMismatchError unless `value` is an instance of `expected`; for `list[int]`, of `list`.

    An int is accepted as a float, as by type checkers.
    """
    if expected is float and value.__class__ is int:
        return
    if not isinstance(value, _concrete(key, expected)):
        raise TypeMismatchError(
            f"key {key!r} has a value of type {type(value).__name__}, not {_show(expected)}",
            key=key, expected=expected, actual=type(value),
        )  # fmt: skip


def not_a_list(key: str, value: Any) -> NoReturn:
    """Raise the TypeMismatchError of an `append` to a value that is not a list."""
    raise TypeMismatchError(
        f"cannot append to key {key!r}: it has a value of type {type(value).__name__}, not list",
        key=key, expected=list, actual=type(value),
    )  # fmt: skip


def check_key(key: str) -> None:
    """Raise ConfigurationError if `key` begins with NUL: earlier versions kept values of their own under such keys."""
    if key[:1] == "\0":
        raise ConfigurationError(f"a key must not begin with NUL, but {key!r} does; choose another")


def unpack_key(key: Any, expected: Any) -> tuple[str, Any]:
    """Return the name and the type of a key, which may be a `Key` or an instance of a subclass of `str`."""
    if isinstance(key, ReadKey):
        return key.name, key.type if expected is None else expected
    if isinstance(key, str):
        return str.__str__(key), expected  # for an enum member: its value, which its str() may differ from
    raise ConfigurationError(f"a key must be a string or a Key, not {key!r} ({type(key).__name__})")


def _concrete(key: str, expected: Any) -> Any:
    """Return the class, or tuple of classes, for `isinstance`. Raises ConfigurationError if `expected` has none."""
    if expected is Any:
        return object
    if typing.is_typeddict(expected):
        return dict
    if isinstance(expected, type):
        try:
            isinstance(None, expected)
        except TypeError as error:  # such as a protocol that is not @runtime_checkable
            message = f"key {key!r}: values cannot be tested for {expected!r}: {error}"
            raise ConfigurationError(message, key=key) from None
        return expected
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return tuple(type(None) if part is None else _concrete(key, part) for part in typing.get_args(expected))
    if isinstance(origin, type):
        return origin
    raise ConfigurationError(
        f"key {key!r}: {expected!r} is not a type; a default value is passed as get(key, default=…)", key=key
    )


def _show(expected: Any) -> str:
    return expected.__name__ if type(expected) is type else str(expected)
