"""`MemoryStore`: typed data in a dict, safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from cano import MISSING, Changes, ConfigurationError, TypedStore, apply_changes, not_a_list


class MemoryStore(TypedStore):
    """A `KeyValueStore` in memory: all that a run without durability needs.

    Every method is atomic, whatever other threads do. A run on it changes it only when a step succeeds. Outside
    a run values are kept and handed out as they are, without a copy.

    Args:
        data: what it holds at first; a shallow copy is taken.
    """

    __slots__ = ("_data", "_lock")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._data: dict[str, Any] = {}
        if data is not None and not isinstance(data, Mapping):
            raise ConfigurationError(f"a MemoryStore is made from a mapping, not from {data!r}")
        for key, value in (data or {}).items():
            self.put(key, value)

    def _find(self, key: str) -> Any:
        return self._data.get(key, MISSING)  # one look into a dict is atomic

    def _set(self, key: str, value: Any) -> None:
        with self._lock:
            self._data[key] = value

    def _append(self, key: str, item: Any) -> None:
        with self._lock:
            held = self._data.setdefault(key, [])
            if not isinstance(held, list):
                not_a_list(key, held)
            held.append(item)

    def _discard(self, key: str) -> bool:
        with self._lock:
            return self._data.pop(key, MISSING) is not MISSING

    def keys(self) -> list[str]:
        """All keys, in the order in which they were first put."""
        with self._lock:
            return list(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def clear(self) -> None:
        """Remove every key."""
        with self._lock:
            self._data.clear()

    # what the kernel asks, to make steps atomic

    def live(self) -> Mapping[str, Any]:
        """The current data, for reading only."""
        return self._data

    def apply(self, changes: Changes) -> None:
        """Make all of a step's changes visible at once."""
        with self._lock:
            apply_changes(self._data, changes)

    def put_many(self, changed: Mapping[str, Any]) -> None:
        """Set several keys at once: what most steps come to."""
        with self._lock:
            self._data.update(changed)
