"""A step's view of a store, which buffers the step's writes until they are committed.

Mutable values are copied when a task puts or gets them. Therefore a failed attempt leaves no trace, and a value that a
task changes in place is committed like one that it puts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cano.data.changes import Changes, apply_changes, new_changes
from cano.data.copying import IMMUTABLE, copied, isolate, unchanged
from cano.data.store import MISSING, ReadKey, TypedStore, not_a_list, unpack_key

_NOTHING_REMOVED: frozenset[str] = frozenset()
_NOTHING_APPENDED: Mapping[str, list[Any]] = {}
_NOTHING_PUT: dict[str, Any] = {}  # never written to, so that steps that put nothing share it


class _Mixed:
    """The changes of a step that does more than put values, and the values that it was lent."""

    __slots__ = ("appended", "cleared", "lent", "origins", "removed")

    def __init__(self) -> None:
        self.lent: dict[str, Any] = {}
        self.origins: dict[str, tuple[Any, int]] = {}
        self.removed: set[str] = set()
        self.appended: dict[str, list[Any]] = {}
        self.cleared = False


class StoreView(TypedStore):
    """The `KeyValueStore` that a step works on: it reads from the base, and buffers writes until `commit`.

    Args:
        base: the committed data.
        apply: makes all changes of a step visible in `base` at once; by default they are written into `base`.
        isolate: copies a value when a task puts or gets it.
        owner: the store that `base` belongs to, if it is not a plain dict.
        reads: where to record the keys whose committed values are read; `in` and `keys` do not count.
    """

    __slots__ = (
        "_apply", "_isolate", "_local", "_mixed", "_puts_many", "base", "owner", "reads", "touched",
    )  # fmt: skip

    def __init__(
        self,
        base: Mapping[str, Any],
        apply: Callable[[Changes], None] | None = None,
        isolate: Callable[[Any], Any] = isolate,
        owner: Any = None,
        reads: set[str] | None = None,
    ) -> None:
        self.base = base
        """The committed data, read-only."""
        self.owner = owner
        self._apply = apply
        self._puts_many = owner is not None and hasattr(owner, "put_many")
        self._isolate = isolate
        self._local = _NOTHING_PUT
        self.touched = False
        """Whether, since the last commit, a value was written, or lent to a task that may have changed it."""
        self.reads = reads
        self._mixed: Any = None  # a `_Mixed` if this step did more than put values

    def _mix(self) -> None:
        """Note that this step does more than put values."""
        self.touched = True
        if self._mixed is None:
            self._mixed = _Mixed()

    # reading

    def get(self, key: Any, type: Any = None, default: Any = MISSING) -> Any:
        """See `KeyValueStore.get`."""
        if not self.touched and self.reads is None and key.__class__ is str:
            value = self.base.get(key, MISSING)
            if value.__class__ in IMMUTABLE and (type is None or value.__class__ is type):
                return value
        return TypedStore.get(self, key, type, default)

    def _find(self, key: str) -> Any:
        if (value := self._local.get(key, MISSING)) is not MISSING:
            if value.__class__ not in IMMUTABLE:
                self._mix()
                self._mixed.lent[key] = value
            return value
        if self._mixed and key in self._mixed.lent:
            return self._mixed.lent[key]
        value = self._below(key)
        return value if value.__class__ in IMMUTABLE else self._lend(key, value)

    def _look(self, key: str) -> Any:
        if self._mixed and (key in self._mixed.lent or key in self._mixed.appended):
            return self._find(key)  # the task has a copy already, or the list has new items
        value = self._local.get(key, MISSING)
        return self._below(key) if value is MISSING else value

    def _below(self, key: str) -> Any:
        """Return the committed value, or `MISSING` if this step has removed it."""
        if self._mixed and (self._mixed.cleared or key in self._mixed.removed):
            return MISSING
        if self.reads is not None:
            self.reads.add(key)
        return self.base.get(key, MISSING)

    def _lend(self, key: str, value: Any) -> Any:
        """Return a copy for the task. The commit checks whether the task has changed it."""
        added = self._mixed.appended.get(key) if self._mixed else None
        if value is MISSING and added is None:
            return MISSING
        self._mix()
        lent = [] if value is MISSING else self._copy(key, value)
        if added:
            lent.extend(self._copy(key, added))
        self._mixed.lent[key] = lent
        self._mixed.origins[key] = value, len(value) if isinstance(value, list) else 0
        return lent

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str | ReadKey):
            return False
        name = key if key.__class__ is str else unpack_key(key, None)[0]
        if name in self._local or (self._mixed and name in self._mixed.appended):
            return True
        return name in self.base and not (self._mixed and (self._mixed.cleared or name in self._mixed.removed))

    def keys(self) -> list[str]:
        """Return all keys, those of the base first."""
        if not self._mixed:
            return [*self.base, *(key for key in self._local if key not in self.base)]
        below = {} if self._mixed.cleared else dict.fromkeys(self.base)
        for key in self._mixed.removed:
            below.pop(key, None)
        return list(below | dict.fromkeys(self._local) | dict.fromkeys(self._mixed.appended))

    # writing

    def put(self, key: Any, value: Any) -> None:
        """See `KeyValueStore.put`."""
        if key.__class__ is str and value.__class__ in IMMUTABLE and not self._mixed and key > "\1":
            if not self.touched:
                self._local, self.touched = {}, True
            self._local[key] = value
        else:
            TypedStore.put(self, key, value)

    def _set(self, key: str, value: Any) -> None:
        self.touched = True
        self._local = self._local or {}
        self._local[key] = value if value.__class__ in IMMUTABLE else self._copy(key, value)
        if self._mixed:
            self._mixed.lent.pop(key, None)
            self._mixed.appended.pop(key, None)

    def _append(self, key: str, item: Any) -> None:
        self._extend(key, [self._copy(key, item)])

    def _extend(self, key: str, items: list[Any]) -> None:
        """Append items that are copies already."""
        self._mix()
        own = self._local[key] if key in self._local else self._mixed.lent.get(key, MISSING)
        current = self._below(key) if own is MISSING else own
        if current is not MISSING and not isinstance(current, list):
            not_a_list(key, current)
        if key in self._local:
            own.extend(items)
            return
        if (added := self._mixed.appended.setdefault(key, items)) is not items:
            added.extend(items)
        if own is not MISSING:
            own.extend(self._copy(key, items))  # the list that was lent to the task gets the items, too

    def _copy(self, key: str, value: Any) -> Any:
        """Return a copy of a value of `key`. Raises SerializationError naming it."""
        if value.__class__ in IMMUTABLE and self._isolate is isolate:
            return value
        return copied(key, value, self._isolate)

    def _discard(self, key: str) -> bool:
        exists = key in self
        if exists:
            self._mix()
            self._local.pop(key, None)
            self._mixed.lent.pop(key, None)
            self._mixed.appended.pop(key, None)
            self._mixed.removed.add(key)
        return exists

    def clear(self) -> None:
        """Remove every key."""
        self.rollback()
        self._mix()
        self._mixed.cleared = True

    # the step's end

    def changes(self) -> Changes:
        """Return the changes of this step so far. They share no mutable value with those that were lent."""
        mixed = self._mixed
        if not mixed:
            return new_changes((False, _NOTHING_REMOVED, self._local, _NOTHING_APPENDED))
        for key, lent in mixed.lent.items():
            if key in self._local or not unchanged(lent, self._expected(key)):
                mixed.appended.pop(key, None)
                self._local = self._local or {}
                self._local[key] = self._copy(key, lent)
        mixed.lent.clear()
        removed = frozenset(mixed.removed) if mixed.removed else _NOTHING_REMOVED
        return new_changes((mixed.cleared, removed, self._local, mixed.appended))

    def _expected(self, key: str) -> Any:
        """Return the value that a lent copy equals if the task has not changed it in place."""
        # the base may differ by now: other runs on it may have committed, which replaces values or extends lists
        origin, length = self._mixed.origins[key]
        if isinstance(origin, list) and len(origin) != length:
            origin = origin[:length]
        added = self._mixed.appended.get(key)
        return origin if added is None else [*(() if origin is MISSING else origin), *added]

    def commit(self) -> None:
        """Make all changes of the step visible at once, and begin the next step."""
        if self._mixed:
            self.settle(self.changes())
            return
        local, self._local, self.touched = self._local, _NOTHING_PUT, False
        if self._apply is None:
            self.base.update(local)  # type: ignore[attr-defined]  # without `apply` it is a dict
        elif self._puts_many:
            self.owner.put_many(local)
        else:
            self._apply(new_changes((False, _NOTHING_REMOVED, local, _NOTHING_APPENDED)))

    def settle(self, changes: Changes) -> None:
        """Write `changes`, which this view has returned, into the base, and begin the next step."""
        if self._apply is None:
            apply_changes(self.base, changes)
        else:
            self._apply(changes)
        self.rollback()

    def rollback(self, savepoint: Changes | None = None) -> None:
        """Discard the changes since the last commit, or since `savepoint`."""
        self._local = _NOTHING_PUT
        self.touched, self._mixed = False, None
        if savepoint is not None:
            self.merge(savepoint)

    def merge(self, changes: Changes) -> None:
        """Apply `changes` to this view."""
        if changes.cleared:
            self.clear()
        for key in changes.removed:
            self._discard(key)
        for key, value in changes.changed.items():
            self._set(key, value)
        for key, items in changes.appended.items():
            self._extend(key, self._copy(key, items))

    def savepoint(self) -> Changes | None:
        """Return a point to roll back to: a copy of the changes so far, or None if there are none."""
        if not self.touched:
            return None
        now = self.changes()
        return Changes(now.cleared, now.removed, self._isolate(dict(now.changed)), self._isolate(dict(now.appended)))

    def detached(self, reads: set[str] | None = None) -> StoreView:
        """Return a new view of the same base, without the changes of this one; a thread may still write to this one."""
        return StoreView(self.base, self._apply, self._isolate, self.owner, reads)
