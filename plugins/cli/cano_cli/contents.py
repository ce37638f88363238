"""Reading and comparing one run's contents in two stores, with the codec layers removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cano import (
    Appended,
    CodecLayer,
    Lane,
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
"""Fields that a commit may change."""


class Contents(NamedTuple):
    """A stored run with its values as the codec encoded them, without layers.

    Attributes:
        record: the run with its data.
        history: its journal entries; empty if history is not compared.
        signals: all signals ever put for it.
    """

    record: RunRecord
    history: Sequence[Transition]
    signals: Signals

    @property
    def cut(self) -> bool:
        """Whether the oldest history entries were discarded. The creation has the time of `record.created`."""
        return bool(self.history) and self.history[0].seq > 0 and self.history[0].at != self.record.created


class LayeredStore:
    """A store and its codec layers.

    Args:
        backend: the store.
        layers: wraps and unwraps values; None copies the stored bytes unchanged.
        history: whether the history is read.
    """

    def __init__(self, backend: StoreBackend, layers: CodecLayer | None = None, *, history: bool = True) -> None:
        self.backend = backend
        self.history = history
        self._layers = layers

    async def read(self, run_id: str) -> Contents | None:
        """Return the contents of the run, or None if it does not exist.

        Raises:
            SerializationError: the run is corrupt.
        """
        record = await self.record(run_id)
        if record is None:
            return None
        history = await self.backend.history(run_id) if self.history else ()
        unwrap = self._unwrap_values
        entries = [entry._replace(changed=unwrap(entry.changed), own=unwrap(entry.own)) for entry in history]
        return Contents(record, entries, await self.signals(run_id))

    async def record(self, run_id: str) -> RunRecord | None:
        """Return the run with its data, or None. Raises SerializationError."""
        record = await self.backend.load(run_id)
        if record is None:
            return None
        return record._replace(
            data=self._unwrap_values(record.data), payload=self.unwrap_value("the payload", record.payload),
            own=self._unwrap_values(record.own),
        )  # fmt: skip

    async def runs(self) -> Sequence[RunRecord]:
        """Return all runs, without their data, the newest first."""
        return await self.backend.runs(RunFilter())

    async def signals(self, run_id: str) -> Signals:
        """Return all signals of a run id. Raises SerializationError."""
        found = await self.backend.signals(run_id)
        waiting = [
            each._replace(payload=self.unwrap_value(f"the payload of the signal {each.id!r}", each.payload))
            for each in found.waiting
        ]
        return found._replace(waiting=waiting)

    def wrap_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Wrap values in this store's layers. Raises SerializationError."""
        return {key: self.wrap_value(f"the key {key!r}", value) for key, value in values.items()}

    def wrap_value(self, label: str, value: Any) -> Any:
        """Wrap a value, or None, in this store's layers. Raises SerializationError; its message begins with `label`."""
        if value is None or self._layers is None:
            return value
        try:
            return Appended.mapped(value, self._layers.wrap)
        except SerializationError as error:
            raise SerializationError(f"{label}: {error}") from error

    def _unwrap_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self.unwrap_value(f"the key {key!r}", value) for key, value in values.items()}

    def unwrap_value(self, label: str, value: Any) -> Any:
        """Return a value, or None, without this store's layers. Raises SerializationError as `wrap_value` does."""
        if value is None or self._layers is None:
            return value
        try:
            return Appended.mapped(value, self._layers.unwrap)
        except SerializationError as error:
            raise SerializationError(f"{label}: {error}") from error


class MissingStore(LayeredStore):
    """The target of a dry run that does not exist yet. It is treated as empty, because opening it would create it."""

    async def record(self, run_id: str) -> RunRecord | None:
        """Return None."""
        return None

    async def runs(self) -> Sequence[RunRecord]:
        """Return no runs."""
        return ()

    async def signals(self, run_id: str) -> Signals:
        """Return no signals."""
        return Signals((), ())


def differences(wanted: Contents, found: Contents) -> list[str]:
    """Describe how `found` differs from `wanted`. Leases and tokens are not compared."""
    return [
        *_in_record(wanted.record, found.record),
        *_in_history(*shared_history(wanted, found)),
        *in_signals(wanted.signals, found.signals),
    ]


def _in_record(wanted: RunRecord, found: RunRecord) -> list[str]:
    different = [
        f"its {name} is {_shown(getattr(found, name))}, not {_shown(getattr(wanted, name))}"
        for name in (*FIXED, *CHANGING)
        if name != "payload" and getattr(wanted, name) != getattr(found, name)
    ]
    if (mine := wanted.lane or Lane()) != (its := found.lane or Lane()):
        different.append(f"its place in queues is {tuple(its)}, not {tuple(mine)}")
    if wanted.payload != found.payload:
        different.append("its payload")
    data, other = dict(wanted.data), dict(found.data)
    keys = [key for key in {**data, **other} if key not in data or key not in other or data[key] != other[key]]
    if keys:
        different.append(f"its data: {', '.join(map(repr, keys))}")
    elif list(data) != list(other):
        different.append("the order of its keys")
    names = sorted({name for name, _ in wanted.own.items() ^ found.own.items()})
    if names:
        different.append(f"the engine's values: {', '.join(names)}")
    return different


def _shown(value: object) -> str:
    return value.value if isinstance(value, RunStatus) else repr(value)


def _in_history(wanted: Sequence[Transition], found: Sequence[Transition]) -> list[str]:
    for one, other in zip(wanted, found, strict=False):
        if not same_entry(one, other):
            return [f"its history, from seq {one.seq}"]
    return [] if len(wanted) == len(found) else [f"its history: {len(found)} entries, not {len(wanted)}"]


def shared_history(wanted: Contents, found: Contents) -> tuple[Sequence[Transition], Sequence[Transition]]:
    """Return the part of both histories that can be compared: all, or what follows the entries that one has not.

    A creation has all data of its time, so only what follows it is compared with the other's entries.
    """
    if not (wanted.cut or found.cut) or not (wanted.history and found.history):
        return wanted.history, found.history
    both = wanted, found
    start = max(each.history[0].seq for each in both)
    if any(each.history[0].seq == start and not each.cut for each in both):
        start += 1
    mine, its = ([entry for entry in each.history if entry.seq >= start] for each in both)
    return mine, its


def in_signals(wanted: Signals, found: Signals) -> list[str]:
    """Describe how the signals `found` differ from `wanted`."""
    different = []
    if list(wanted.waiting) != list(found.waiting):
        different.append(f"its waiting signals: {_ids(found.waiting)}, not {_ids(wanted.waiting)}")
    for what, ids in (
        ("its consumed signals", {*wanted.consumed} ^ {*found.consumed}),
        ("its consumed signals of the engine", {*wanted.own_consumed} ^ {*found.own_consumed}),
        ("its consumed signals to one wait", {id for _, id in {*wanted.answered} ^ {*found.answered}}),
    ):
        if ids:
            different.append(f"{what}: {', '.join(map(repr, sorted(ids)))}")
    return different


def _ids(signals: Sequence[Signal]) -> str:
    return ", ".join(repr(signal.id) for signal in signals) or "none"


def same_entry(one: Transition, other: Transition) -> bool:
    """Return whether two history entries are equal, apart from the order of their keys."""
    return one[:4] == other[:4] and all(
        dict(mine) == dict(its) and list(gone) == list(its_gone)
        for mine, its, gone, its_gone in (
            (one.changed, other.changed, one.removed, other.removed),
            (one.own, other.own, one.own_removed, other.own_removed),
        )
    )


def conflict_in(wanted: Contents, found: Contents, *, unfinished: bool) -> str | None:
    """Explain why more commits and signals must not or cannot turn `found` into `wanted`; None if they can.

    Args:
        wanted: the run in the source.
        found: the run with the same id in the target.
        unfinished: whether `found` is an incomplete copy.
    """
    mine, its = wanted.record, found.record
    for name in FIXED:
        if getattr(mine, name) != getattr(its, name):
            theirs, ours = getattr(its, name), getattr(mine, name)
            return f"another run has this id in DST: its {name} is {theirs!r}, not {ours!r}"
    if wanted.cut and wanted.history[0].seq > its.seq + 1:
        return (f"SRC has discarded its history after seq {its.seq}, which DST does not have; delete the run in DST, "
                "and repeat the command")  # fmt: skip
    history, its_history = shared_history(wanted, found)
    for number, entry in enumerate(its_history):
        if number == len(history):
            return f"it is at seq {its.seq} in DST, but at seq {mine.seq} in SRC"
        if not same_entry(entry, history[number]):
            return f"its history in DST differs from seq {entry.seq}"
    if (problem := signal_conflict(wanted.signals, found.signals)) is not None or unfinished:
        return problem
    if its.seq > mine.seq:
        return f"it is at seq {its.seq} in DST, but at seq {mine.seq} in SRC"
    changed = _in_record(mine, its)
    rest = history[len(its_history) :]
    newest = rest[0].at if rest else mine.updated
    untouched = bool(found.history) and its.updated == found.history[-1].at  # no commit since its last entry
    same_time = not rest and its.seq == mine.seq and its.updated == mine.updated
    if changed and (same_time or (its.updated > newest and not (rest and untouched))):
        return f"it was changed in DST: {changed[0]}"
    return None


def signal_conflict(wanted: Signals, found: Signals) -> str | None:
    """Explain why more signals cannot turn `found` into `wanted`; None if they can."""
    waiting, consumed = {signal.key: signal for signal in wanted.waiting}, {*wanted.consumed_keys}
    for signal in found.waiting:
        key = signal.key
        if key not in waiting and key not in consumed:
            return f"it has a signal {signal.id!r} in DST, but not in SRC"
        if key in waiting and waiting[key] != signal:
            return f"its signal {signal.id!r} differs in DST"
    for key in found.consumed_keys:
        if key not in consumed:
            source = "it still waits" if key in waiting else "it does not exist"
            return f"its signal {key[2]!r} is consumed in DST; in SRC {source}"
    present = [signal.key for signal in found.waiting if signal.key in waiting]
    if present != list(waiting)[: len(present)]:
        return "its signals wait in a different order in DST"
    return None


def appended_key(contents: Contents) -> str | None:
    """Return a key of the run's data, now or in its history, to which commits have appended; None if there is none."""
    all_values = (contents.record.data, *(entry.changed for entry in contents.history))
    return next((key for some in all_values for key, value in some.items() if value.__class__ is Appended), None)


def reserved_key(contents: Contents) -> str | None:
    """Return a key of the run's data, now or in its history, that begins with NUL; None if there is none."""
    entries = (key for entry in contents.history for key in (*entry.changed, *entry.removed))
    return next((key for key in (*contents.record.data, *entries) if key.startswith("\0")), None)


def data_changes(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys to set and the keys to remove that turn `present` into `wanted`, in the same order of keys.

    The longest prefix of `wanted` that `present` has in order stays. The other keys are removed and set again, which
    moves them to the end. So do values in parts that differ, since stores would append the parts.
    """
    keys, count = list(wanted), 0
    for key in present:
        if count < len(keys) and key == keys[count]:
            if wanted[key].__class__ is Appended and wanted[key] != present[key]:
                break
            count += 1
    staying = set(keys[:count])
    removed = [key for key in present if key not in staying]
    changed = {key: wanted[key] for key in keys if key not in staying or present[key] != wanted[key]}
    return changed, removed
