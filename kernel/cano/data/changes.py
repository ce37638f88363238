"""What one step changed, and stores that apply it at once, so that steps are atomic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cano.data.store import MISSING, not_a_list


class Changes(NamedTuple):
    """What one step did to a store. Apply in the order of the fields."""

    cleared: bool
    """Whether everything that was there is gone."""
    removed: frozenset[str]
    changed: Mapping[str, Any]
    appended: Mapping[str, list[Any]]
    """Items to add to the list at each key; the list is made where there is none."""


@runtime_checkable
class ManagedStore(Protocol):
    """A store whose steps the kernel makes atomic, because it lets the kernel apply a step's changes at once.

    It may also have `put_many(changed: Mapping[str, Any]) -> None`, which sets several keys at once: a step that only
    put is then committed without a `Changes`.
    """

    def live(self) -> Mapping[str, Any]:
        """The current data, for reading only; always the same object."""
        ...

    def apply(self, changes: Changes) -> None:
        """Make all of a step's changes visible at once."""
        ...


def apply_changes(data: Any, changes: Changes) -> None:
    """Write a step's changes into a dict, to the effect that `Changes` states.

    Each key goes from its old value to its new one at once, whoever reads meanwhile in another thread.

    Raises:
        TypeMismatchError: an item is to be added to what is no list any more. Nothing is written.
    """
    cleared, removed, changed, appended = changes
    if not (cleared or removed or appended):
        data.update(changed)
        return
    lists = {}
    for key in appended:
        gone = (cleared or key in removed) and key not in changed
        lists[key] = held = MISSING if gone else changed.get(key, data.get(key, MISSING))
        if held is not MISSING and not isinstance(held, list):
            not_a_list(key, held)
    data.update(changed)
    for key, items in appended.items():
        if lists[key] is MISSING:
            data[key] = [*items]
        else:
            lists[key].extend(items)
    for key in list(data) if cleared else removed:
        if key not in changed and key not in appended:
            data.pop(key, None)
