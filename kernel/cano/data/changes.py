"""The changes of one step, and stores that apply them at once, so that steps are atomic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cano.data.store import MISSING, not_a_list


class Changes(NamedTuple):
    """The changes of one step to a store, to be applied in the order of the fields."""

    cleared: bool
    """Whether to remove all keys first."""
    removed: frozenset[str]
    """Keys to remove."""
    changed: Mapping[str, Any]
    """Values to set, by key."""
    appended: Mapping[str, list[Any]]
    """Items to append to the list at each key; a missing list is created."""

    def packed(self) -> list[Any]:
        """Return plain values, from which `unpacked` makes the changes."""
        return [self.cleared, sorted(self.removed), dict(self.changed), dict(self.appended)]

    @classmethod
    def unpacked(cls, packed: Any) -> Changes:
        """Return the changes of which `packed` has made plain values.

        Raises:
            TypeError, ValueError: it did not.
        """
        cleared, removed, changed, appended = packed
        return cls(cleared, frozenset(removed), changed, appended)


new_changes: Callable[[tuple[Any, ...]], Changes] = partial(tuple.__new__, Changes)
"""Return the changes with these fields. The constructor of a named tuple is a Python function, so it is slower."""


@runtime_checkable
class ManagedStore(Protocol):
    """A store whose steps the kernel makes atomic, because it applies all changes of a step at once.

    It may also have a method `put_many(changed: Mapping[str, Any]) -> None`, which sets several keys at once. The
    kernel then commits a step that only put values without a `Changes`.
    """

    def live(self) -> Mapping[str, Any]:
        """Return the current data, read-only; always the same object."""
        ...

    def apply(self, changes: Changes) -> None:
        """Make all changes of a step visible at once."""
        ...


def apply_changes(data: Any, changes: Changes) -> None:
    """Write a step's changes into a dict.

    Another thread that reads a key gets its old value or its new one, never an intermediate one.

    Raises:
        TypeMismatchError: an item is to be appended to a value that is not a list. Nothing is written.
    """
    cleared, removed, changed, appended = changes
    if not (cleared or removed or appended):
        data.update(changed)
        return
    lists = {}
    for key in appended:
        dropped = (cleared or key in removed) and key not in changed
        lists[key] = current = MISSING if dropped else changed.get(key, data.get(key, MISSING))
        if current is not MISSING and not isinstance(current, list):
            not_a_list(key, current)
    data.update(changed)
    for key, items in appended.items():
        if lists[key] is MISSING:
            data[key] = [*items]
        else:
            lists[key].extend(items)
    for key in list(data) if cleared else removed:
        if key not in changed and key not in appended:
            data.pop(key, None)
