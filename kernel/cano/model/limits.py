"""Limits of concurrency: per workflow, per state, and per value of a key, in a kernel or over all processes; rates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cano.checks import one_of, refuse, text, text_seconds, whole
from cano.data.store import KeyValueStore, ReadKey
from cano.errors import ConfigurationError

LimitKey = str | ReadKey[Any] | Callable[[Any], Any]
_made = itertools.count()
_PER = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "day": "d", "week": "w"}


class Limit:
    """A limit on the number of runs or steps at once. Workflows and states that use one `Limit` share its slots.

    A step's slot is returned after its commit. A run that awaits a run of the same limit (a sub-workflow, or
    `await kernel.run(…)` in a task) lends it its slot, to one run at a time. A run from `kernel.start` borrows nothing.

    With `scope="store"` the slots are in the store, for all processes that use it. The commit that ends, parks or moves
    on a run frees its slot, and so does the end of its lease: a process that was killed holds no slot for longer. A run
    that waits keeps its lease and the slots that it has, and goes in the order of arrival; a process asks for the run
    that waits there longest. The key's values are str, int or bool, and an encrypted store gets their hash.

    Args:
        limit: the number of slots, 1 or more.
        key: gives each value its own slots: a key of the data, or a function of the store.
        scope: "process" for each kernel, or "store".
        name: with `scope="store"`, limits of the same name share slots. By default each workflow, and each state, has
            slots of its own. A key that is an object without a name, such as a `functools.partial`, needs one.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    interval = 0.0

    def __init__(
        self, limit: int, *, key: LimitKey | None = None, scope: str = "process", name: str | None = None
    ) -> None:
        if key is not None and not isinstance(key, str | ReadKey) and not callable(key):
            raise ConfigurationError(f"limit_key must be a key of the data or a function of the store, not {key!r}")
        self.limit = whole("limit", limit, 1)
        self.key = key
        self.scope = one_of("scope", scope, ("process", "store"))
        if name is not None:
            if scope != "store":
                raise ConfigurationError(f"name={name!r} needs scope='store'; in one kernel, share the Limit itself")
            if not text("name", name).isprintable() or "[" in name or len(name) > 200:
                refuse("name", name, "at most 200 printable characters without '['")
        self.name = name
        self._made = next(_made)

    def __eq__(self, other: object) -> bool:
        """Return whether the two share their slots."""
        if self is other or self.name is None or not isinstance(other, Limit):
            return self is other
        return self.name == other.name and isinstance(self, Rate) == isinstance(other, Rate)

    def __hash__(self) -> int:
        return id(self) if self.name is None else hash(self.name)

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
        scope = "" if self.scope == "process" else f", scope={self.scope!r}"
        return f"Limit({self.limit}{self._key_and_name()}{scope})"

    def _key_and_name(self) -> str:
        key = "" if self.key is None else f", key={self.key!r}"
        return key if self.name is None else f"{key}, name={self.name!r}"


class Rate(Limit):
    """A limit on the number of runs or steps that begin in a time, over all processes of a store.

    Used as a `Limit` is: `Workflow(…, limit=[Rate("100/min"), Limit(5, scope="store")])`. It holds no slot; a run that
    needs a slot, too, waits until both are free. The time is the store's, under a virtual clock the kernel's.

    Args:
        rate: number and time: "100/min", "5/s", "1/10m", "1000/day".
        burst: how many may begin at once after a pause; by default as many as the number says, so that the rate holds
            on average. 1 keeps the same distance between all: `Rate("1/30s")` is a cool-down.
        key: gives each value a rate of its own, as for `Limit`.
        name: rates of the same name are one, as for `Limit`; a `Limit` of that name is another.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self, rate: str, *, burst: int | None = None, key: LimitKey | None = None, name: str | None = None
    ) -> None:
        number, _, per = rate.partition("/") if isinstance(rate, str) else ("", "", "")
        per = per.strip().lower()
        per = _PER.get(per, per)
        seconds = text_seconds(per if per[:1] in "0123456789." else f"1{per}")
        if not number.strip().isdecimal() or not int(number) or not per or not seconds:
            refuse("rate", rate, 'a number and a time, such as "100/min", "5/s" or "1/10m"')
        super().__init__(int(number) if burst is None else whole("burst", burst, 1), key=key, scope="store", name=name)
        self.rate = rate
        self.interval = seconds / int(number)

    def __repr__(self) -> str:
        return f"Rate({self.rate!r}, burst={self.limit}{self._key_and_name()})"


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
    # one global order, so that two runs that need the same two limits cannot deadlock: those of all processes first,
    # which are wider; then keyed ones, so that a run that waits for its key does not hold a slot of a shared limit
    return tuple(sorted(several, key=lambda one: (one.scope != "store", one.key is None, one._made)))
