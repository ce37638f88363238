"""Limits of concurrency: per workflow, per state, and per value of a key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cano.checks import whole
from cano.data.store import KeyValueStore, ReadKey
from cano.errors import ConfigurationError

LimitKey = str | ReadKey[Any] | Callable[[Any], Any]
_made = itertools.count()


class Limit:
    """A limit on the number of runs or steps at once. Workflows and states that use one `Limit` share its slots.

    A step's slot is returned after its commit. A run that awaits a run of the same limit (a sub-workflow, or
    `await kernel.run(…)` in a task) lends it its slot, to one run at a time. A run from `kernel.start` borrows nothing.

    Args:
        limit: the number of slots, 1 or more.
        key: gives each value its own slots: a key of the data, or a function of the store.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(self, limit: int, *, key: LimitKey | None = None) -> None:
        if key is not None and not isinstance(key, str | ReadKey) and not callable(key):
            raise ConfigurationError(f"limit_key must be a key of the data or a function of the store, not {key!r}")
        self.limit = whole("limit", limit, 1)
        self.key = key
        self._made = next(_made)

    def value(self, store: Any) -> Any:
        """Return the value whose slots a run on `store` uses; None without a key."""
        if self.key is None:
            return None
        if not isinstance(self.key, str | ReadKey):
            return self.key(store)
        if isinstance(store, Mapping | KeyValueStore):
            return store[self.key if isinstance(store, KeyValueStore) else str(self.key)]
        return getattr(store, str(self.key))

    def __repr__(self) -> str:
        return f"Limit({self.limit}{'' if self.key is None else f', key={self.key!r}'})"


def limits(limit: int | Limit | Iterable[Limit] | None, limit_key: LimitKey | None) -> tuple[Limit, ...]:
    """Return the limits that the arguments `limit` and `limit_key` mean, in the order to acquire them.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """
    if limit is None:
        if limit_key is not None:
            raise ConfigurationError("limit_key without a limit; add limit=")
        return ()
    if isinstance(limit, int):
        return (Limit(limit, key=limit_key),)
    if limit_key is not None:
        raise ConfigurationError("limit_key needs a number as limit; for a Limit, use Limit(…, key=…)")
    several = (limit,) if isinstance(limit, Limit) else tuple(limit) if isinstance(limit, Iterable) else (limit,)
    for one in several:
        if not isinstance(one, Limit):
            raise ConfigurationError(f"limit must be a whole number, a Limit or a list of Limits, not {limit!r}")
    if len(set(several)) < len(several):
        raise ConfigurationError(f"limit has the same Limit twice, which would wait for itself: {limit!r}")
    # one global order, so that two runs that need the same two limits cannot deadlock; keyed limits first, so that a
    # run that waits for its key does not hold a slot of a shared limit
    return tuple(sorted(several, key=lambda one: (one.key is None, one._made)))
