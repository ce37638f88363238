"""Merges the changes of a split's branches into the run's view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any

from cano.data.changes import Changes
from cano.data.view import StoreView
from cano.errors import MergeConflictError
from cano.safe_text import safe_repr

Reducer = Callable[[Any, Any], Any]
SHOWN = 20  # branches named in an error message


Written = tuple[str, Changes, Collection[str]]


def merge(view: StoreView, written: Sequence[Written], reducer_of: Callable[[str], Reducer | None]) -> None:
    """Write the changes of several branches into one view.

    Args:
        view: the run's view.
        written: each branch's name and changes, in the order of the branches; and the keys whose values it had read.
        reducer_of: returns the reducer of a key, or None.

    Raises:
        MergeConflictError: two branches changed one key that has no reducer, and the values differ, or one of the
            branches had read the key before, so that it does not know what the other one did.
    """
    puts: dict[str, dict[str, Any]] = {}
    removals: dict[str, list[str]] = {}
    appends: dict[str, list[Any]] = {}
    existing = frozenset(view.keys())
    readers: dict[str, list[str]] = {}
    for name, (cleared, removed, changed, appended), reads in written:
        removed = existing if cleared else removed and removed & existing
        for key, value in changed.items():
            puts.setdefault(key, {})[name] = value
            if key in reads:
                readers.setdefault(key, []).append(name)
        for key, items in appended.items():
            if key in removed:  # replaced by a new list
                puts.setdefault(key, {})[name] = items
            else:
                appends.setdefault(key, []).extend(items)
        for key in sorted(removed.difference(changed, appended)) if removed else ():
            removals.setdefault(key, []).append(name)
    for key, values in puts.items():
        first = next(iter(values.values()))
        reducer = reducer_of(key) if len(values) > 1 else None
        different = reducer is None and any(not _alike(value, first) for value in values.values())
        lost = readers.get(key, []) if reducer is None and len(values) > 1 else []
        if key in removals or key in appends or different or lost:
            raise _conflict(key, values, removals.get(key, []), appends.get(key), [] if different else lost)
        view.put(key, first if reducer is None else reduce(reducer, values.values()))
    for key, names in removals.items():
        if key in appends:
            raise _conflict(key, {}, names, appends[key])
        view.remove(key)
    view.merge(Changes(False, frozenset(), {}, appends))


def _conflict(
    key: str, values: Mapping[str, Any], removers: list[str], appended: Any, readers: Sequence[str] = ()
) -> MergeConflictError:
    did = {**values, **dict.fromkeys(removers, "(removed)")}
    if appended is not None:
        did["(appended by others)"] = appended
    shown = "; ".join(f"{name} wrote {safe_repr(value):.80}" for name, value in list(did.items())[:SHOWN])
    what = f"branches wrote different values to key {key!r}"
    if readers:
        what = f"branches wrote key {key!r}, which {', '.join(readers[:SHOWN])} had read before"
    return MergeConflictError(
        f"{what}: {shown}. Give the key a reducer, or let them append",
        key=key,
        values=did,
    )


def _alike(one: Any, other: Any) -> bool:
    try:
        return one is other or (type(one) is type(other) and bool(one == other))
    except Exception:  # noqa: BLE001  # a user's __eq__ may raise; the values then count as different
        return False
