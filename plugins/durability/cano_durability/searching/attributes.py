"""The search attributes of one run, as its commits change them.

Their values are one of the engine's own values, so they are in the run's history, forks and copies, and encrypted and
sealed with it. What a store finds runs by is made from them, and is written only when one changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cano import SizeLimits, Workflow
from cano.search_attributes import checked, encoded

NOTHING: Mapping[str, Any] = {}


class Kept(NamedTuple):
    """The attributes of a run.

    Attributes:
        values: the values by name, without classes of enums. An attribute without a value has none.
        set: names of the attributes that steps have set. The others follow the keys of their names.
    """

    values: Mapping[str, Any] = NOTHING
    set: tuple[str, ...] = ()

    @classmethod
    def unpacked(cls, stored: Any) -> Kept:
        """Return what `packed` has packed; of None, no attributes. Raises TypeError or ValueError."""
        if stored is None:
            return cls()
        values, names = stored
        for value in values.values():
            encoded(value)
        return cls(dict(values), tuple(map(str, names)))

    def packed(self) -> list[Any]:
        """Return the value of the engine's."""
        return [dict(self.values), list(self.set)]

    def encoded(self) -> dict[str, bytes]:
        """Return the values as stores compare them."""
        return {name: encoded(value) for name, value in self.values.items()}


class Attributes:
    """The attributes of one run whose workflow declares some.

    Attributes:
        kept: the attributes as they are stored.
        given: what steps have changed since, by name: whether they have set an attribute, and its value.
    """

    def __init__(self, flow: Workflow[Any], run_id: str, kept: Kept, limits: SizeLimits) -> None:
        self._flow = flow
        self._run_id = run_id
        self._limits = limits
        self.kept = kept
        self.given: dict[str, tuple[bool, Any]] = {}

    def next(self, find: Callable[[str], Any]) -> Kept | None:
        """Return the attributes after a commit; None if none changes.

        Args:
            find: returns the value that a key has after the commit, or None.

        Raises:
            TypeMismatchError: the value of a key is not of the type that its attribute declares.
            SizeLimitError: a value is too long.
        """
        before, values, set = self.kept, dict[str, Any](), list[str]()
        for name, kind in self._flow.attributes.items():
            was_set, value = self.given.get(name, (name in before.set, before.values.get(name)))
            if was_set:
                set.append(name)
            else:
                value = find(name)
            if value is None:
                continue
            old = before.values.get(name)
            if type(value) is not type(old) or value != old:
                value = value if was_set else checked(name, kind, value, self._run_id, self._flow.name)
                if (size := len(encoded(value)) - 1) > self._limits.attributes:
                    problem = f"run {self._run_id}: attribute {name!r} has {size} bytes"
                    raise self._limits.exceeded("attributes", problem, size, self._run_id)
            values[name] = value
        now = Kept(values, tuple(set))
        return None if now.set == before.set and _same(now.values, before.values) else now

    def settle(self, kept: Kept | None) -> None:
        """Note that a commit was applied after which the attributes are these."""
        self.given.clear()
        self.kept = self.kept if kept is None else kept


def is_value(value: Any) -> bool:
    """Return whether a value can be that of a search attribute."""
    with suppress(TypeError, ValueError):
        return bool(encoded(value))
    return False


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether values are equal, and of the same types: True is not 1."""
    return one == other and all(type(one[name]) is type(other[name]) for name in one)
