"""`MemoryStore`: a thread-safe dict of typed data."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from cano import MISSING, Changes, ConfigurationError, TypedStore, apply_changes, not_a_list


class MemoryStore(TypedStore):
    """A thread-safe `KeyValueStore` in memory, for runs that need not survive the process.

    Every method is atomic. A run changes the store only when a step succeeds. Outside a run values are stored and
    returned without a copy.

    Args:
        data: the initial data; the store takes a shallow copy.

    Raises:
        ConfigurationError: `data` is not a mapping.
    """

    __slots__ = ("_data", "_lock")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._data: dict[str, Any] = {}
        if data is not None and not isinstance(data, Mapping):
            raise ConfigurationError(f"the data of a MemoryStore must be a mapping, not {data!r}")
        for key, value in (data or {}).items():
            self.put(key, value)

    def _find(self, key: str) -> Any:
        return self._data.get(key, MISSING)  # one dict lookup is atomic

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
        """Return all keys, in the order in which they were first put."""
        with self._lock:
            return list(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def clear(self) -> None:
        """Remove every key."""
        with self._lock:
            self._data.clear()

    # the kernel calls these, to make steps atomic

    def live(self) -> Mapping[str, Any]:
        """Return the current data. It is read-only for the caller and shows later changes."""
        return self._data

    def apply(self, changes: Changes) -> None:
        """Apply all of a step's changes atomically."""
        with self._lock:
            apply_changes(self._data, changes)

    def put_many(self, changed: Mapping[str, Any]) -> None:
        """Set several keys atomically. Most steps need nothing else."""
        with self._lock:
            self._data.update(changed)
