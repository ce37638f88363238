"""What a store keeps of one run, with its layers taken off; and what differs between two such things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cano import (
    CodecLayer,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    StoreBackend,
    Transition,
)

FIXED = ("workflow", "version", "fingerprint", "parent", "created")
"""Fields that no commit changes."""
CHANGING = ("state", "seq", "status", "error", "wait", "payload", "updated")


class Contents(NamedTuple):
    """A run as the codec has made it: what layers have put around its values is taken off.

    Attributes:
        record: the run with its data.
        history: its lines; empty where they are not to be compared.
        signals: all that were ever put for it.
    """

    record: RunRecord
    history: Sequence[Transition]
    signals: Signals


class Place:
    """A store, and the layers through which values go into it.

    Args:
        backend: the store.
        layers: what wraps and unwraps; None takes the bytes as they are.
        history: whether lines of history are read.
    """

    def __init__(self, backend: StoreBackend, layers: CodecLayer | None = None, *, history: bool = True) -> None:
        self.backend = backend
        self.history = history
        self._layers = layers

    async def read(self, run_id: str) -> Contents | None:
        """All that there is of the run, or None.

        Raises:
            SerializationError: it is damaged.
        """
        record = await self.record(run_id)
        if record is None:
            return None
        history = await self.backend.history(run_id) if self.history else ()
        lines = [line._replace(changed=self._plain(line.changed)) for line in history]
        return Contents(record, lines, await self.signals(run_id))

    async def record(self, run_id: str) -> RunRecord | None:
        """The run with its data, or None. Raises SerializationError."""
        record = await self.backend.load(run_id)
        if record is None:
            return None
        return record._replace(data=self._plain(record.data), payload=self._opened("the payload", record.payload))

    async def listed(self) -> Sequence[RunRecord]:
        """All runs, without their data."""
        return await self.backend.runs(RunFilter())

    async def signals(self, run_id: str) -> Signals:
        """All signals of an id. Raises SerializationError."""
        found = await self.backend.signals(run_id)
        waiting = [
            each._replace(payload=self._opened(f"the payload of the signal {each.id!r}", each.payload))
            for each in found.waiting
        ]
        return Signals(waiting, found.consumed)

    def wrapped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values as this store keeps them. Raises SerializationError."""
        return {key: self.closed(f"the key {key!r}", value) for key, value in values.items()}

    def closed(self, what: str, value: Any) -> Any:
        """One plain value, or None, as this store keeps it. Raises SerializationError, which begins with `what`."""
        if value is None or self._layers is None:
            return value
        try:
            return self._layers.wrap(value)
        except SerializationError as error:
            raise SerializationError(f"{what}: {error}") from error

    def _plain(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._opened(f"the key {key!r}", value) for key, value in values.items()}

    def _opened(self, what: str, value: Any) -> Any:
        if value is None or self._layers is None:
            return value
        try:
            return self._layers.unwrap(value)
        except SerializationError as error:
            raise SerializationError(f"{what}: {error}") from error


class Missing(Place):
    """A store that is not there yet, for whoever only looks: it keeps nothing. To open it would make it."""

    async def record(self, run_id: str) -> RunRecord | None:
        """None."""
        return None

    async def listed(self) -> Sequence[RunRecord]:
        """None."""
        return ()

    async def signals(self, run_id: str) -> Signals:
        """None."""
        return Signals((), ())


def differences(wanted: Contents, found: Contents) -> list[str]:
    """What of `found` is not as in `wanted`, leases and tokens aside."""
    return [
        *_in_record(wanted.record, found.record),
        *_in_history(wanted.history, found.history),
        *in_signals(wanted.signals, found.signals),
    ]


def _in_record(wanted: RunRecord, found: RunRecord) -> list[str]:
    different = [
        f"its {name} is {_shown(getattr(found, name))}, not {_shown(getattr(wanted, name))}"
        for name in (*FIXED, *CHANGING)
        if name != "payload" and getattr(wanted, name) != getattr(found, name)
    ]
    if wanted.payload != found.payload:
        different.append("its payload is another")
    data, other = dict(wanted.data), dict(found.data)
    keys = [key for key in {**data, **other} if key not in data or key not in other or data[key] != other[key]]
    if keys:
        different.append(f"its data: {', '.join(map(repr, keys))}")
    elif list(data) != list(other):
        different.append("the order of its keys")
    return different


def _shown(value: object) -> str:
    return value.value if isinstance(value, RunStatus) else repr(value)


def _in_history(wanted: Sequence[Transition], found: Sequence[Transition]) -> list[str]:
    for one, other in zip(wanted, found, strict=False):
        if not same_line(one, other):
            return [f"its history, from seq {one.seq} on"]
    return [] if len(wanted) == len(found) else [f"its history: {len(found)} lines, not {len(wanted)}"]


def in_signals(wanted: Signals, found: Signals) -> list[str]:
    """What of the signals `found` is not as in `wanted`."""
    different = []
    if list(wanted.waiting) != list(found.waiting):
        different.append(f"its waiting signals: {_ids(found.waiting)}, not {_ids(wanted.waiting)}")
    if ids := set(wanted.consumed) ^ set(found.consumed):
        different.append(f"its consumed signals: {', '.join(map(repr, sorted(ids)))}")
    return different


def _ids(signals: Sequence[Signal]) -> str:
    return ", ".join(repr(signal.id) for signal in signals) or "none"


def same_line(one: Transition, other: Transition) -> bool:
    """Whether two lines of history say the same; the order of the keys in them is no part of it."""
    return (
        one[:4] == other[:4] and dict(one.changed) == dict(other.changed) and list(one.removed) == list(other.removed)
    )


def obstacle(wanted: Contents, found: Contents, *, unfinished: bool) -> str | None:
    """Why `found` cannot become `wanted` by more commits and signals, or should not; None where it can.

    Args:
        wanted: the run in the store that is copied from.
        found: the run of the same id in the other store.
        unfinished: whether that one is a copy that was begun and is still held for that.
    """
    mine, its = wanted.record, found.record
    for name in FIXED:
        if getattr(mine, name) != getattr(its, name):
            what, instead = getattr(its, name), getattr(mine, name)
            return f"another run has this id there: its {name} is {what!r}, not {instead!r}"
    for number, line in enumerate(found.history):
        if number == len(wanted.history):
            return f"it has gone on there, to seq {its.seq}; the source is at seq {mine.seq}"
        if not same_line(line, wanted.history[number]):
            return f"its history there is another, from seq {line.seq} on"
    if (problem := signals_obstacle(wanted.signals, found.signals)) is not None or unfinished:
        return problem
    if its.seq > mine.seq:
        return f"it has gone on there, to seq {its.seq}; the source is at seq {mine.seq}"
    changed = _in_record(mine, its)
    rest = wanted.history[len(found.history) :]
    newest = rest[0].at if rest else mine.updated
    untouched = bool(found.history) and its.updated == found.history[-1].at  # no commit since its last line
    same_moment = not rest and its.seq == mine.seq and its.updated == mine.updated
    if changed and (same_moment or (its.updated > newest and not (rest and untouched))):
        return f"it was changed there: {changed[0]}"
    return None


def signals_obstacle(wanted: Signals, found: Signals) -> str | None:
    """Why the signals that an id has cannot become `wanted` by more of them; None where they can."""
    waiting, consumed = {signal.id: signal for signal in wanted.waiting}, set(wanted.consumed)
    for signal in found.waiting:
        if signal.id not in waiting and signal.id not in consumed:
            return f"it has got the signal {signal.id!r} there, which the source has not"
        if signal.id in waiting and waiting[signal.id] != signal:
            return f"its signal {signal.id!r} is another there"
    for id in found.consumed:
        if id not in consumed:
            return f"it has consumed the signal {id!r} there" + ("" if id in waiting else ", which the source has not")
    there = [signal.id for signal in found.waiting if signal.id in waiting]
    if there != list(waiting)[: len(there)]:
        return "its signals wait in another order there"
    return None


def reshaping(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The keys to set and those to remove that make `wanted` of the data `there`, the order of its keys included.

    A key that is set anew comes last. So those stay that are there in the order wanted, up to the first that is not.
    """
    keys, stay = list(wanted), 0
    for key in there:
        if stay < len(keys) and key == keys[stay]:
            stay += 1
    staying = set(keys[:stay])
    removed = [key for key in there if key not in staying]
    changed = {key: wanted[key] for key in keys if key not in staying or there[key] != wanted[key]}
    return changed, removed
