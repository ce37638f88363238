"""The frames of a run: its record, transitions and signals, and back, with every part checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from cano import (
    Appended,
    ConfigurationError,
    Lane,
    RunRecord,
    RunStatus,
    Signal,
    SignalKey,
    Signals,
    SizeLimits,
    Transition,
    Wait,
)

from cano_durability.keys import AWAITED, IMPORT, MARK, OF, STREAMS
from cano_durability.run_files.frames import Frame
from cano_durability.sealing.seals import SEAL

Clean = Callable[[str, Any, bool], Any]
"""Returns an encoded value as it is exported: called with its key, the value, and whether it is the engine's own."""

_ADDRESSED = re.compile(r"\0wait ([0-9]{1,15}) (.*)", re.DOTALL)
IDS = 1000
"""The most ids in a frame."""


class Consumed(NamedTuple):
    """Ids of consumed signals: callers' or, with `own`, the engine's; or `to` and id of those to one wait."""

    ids: list[str]
    own: bool
    answered: list[tuple[int, str]]

    @property
    def keys(self) -> list[SignalKey]:
        """The keys of the signals."""
        return [*((self.own, None, id) for id in self.ids), *((False, to, id) for to, id in self.answered)]


LEFT_OUT = {
    RunRecord: {"parent", "holder", "expires", "attributes"},  # of another store, as are the values in `FOREIGN`
    Transition: {"origin"},  # no store has it
}
FOREIGN = frozenset({AWAITED, OF, SEAL, IMPORT, STREAMS})
KINDS: dict[str, Any] = {
    "run": RunRecord, "transition": Transition, "signal": Signal, "consumed": Consumed,
}  # fmt: skip
"""The kinds of frames, in the order of a file."""


def packed(item: Any, clean: Clean) -> tuple[dict[str, Any], list[bytes]]:
    """Return the JSON and the encoded values of a frame."""
    values: list[bytes] = []

    def size(key: str, value: Any, own: bool) -> int | list[int]:
        found = clean(key, value, own)
        parts = found if found.__class__ is Appended else (found,)
        values.extend(parts)
        return [len(part) for part in parts] if found.__class__ is Appended else len(found)

    meta: dict[str, Any] = {"kind": next(kind for kind, each in KINDS.items() if isinstance(item, each))}
    for name in item._fields:
        value = getattr(item, name)
        if name in LEFT_OUT.get(type(item), ()) or (name == "lane" and value is None):
            continue
        if name in ("data", "changed", "own") and isinstance(value, Mapping):
            own = name == "own"
            kept = [key for key in value if not (own and key in FOREIGN)]
            meta[name] = [[key, size(key, value[key], own)] for key in kept]
        elif name == "payload":
            meta[name] = None if value is None else size(getattr(item, "name", "payload"), value, False)
        elif name == "status":
            meta[name] = value.value
        else:
            meta[name] = dict(value) if isinstance(value, Mapping) else value
    return meta, values


class Unpacker:
    """Makes records of frames. It trusts no part of them.

    Args:
        limits: the sizes of ids, names and errors that are accepted.
    """

    def __init__(self, limits: SizeLimits) -> None:
        self._limits = limits
        name = self._name
        self._checks: dict[str, Callable[[Any], Any]] = {
            "run_id": self._id, "workflow": name, "state": name, "name": _text, "id": _text, "version": _text,
            "fingerprint": _text,
            "seq": _count, "token": _count, "created": _time, "updated": _time, "at": _time,
            "status": _status, "error": self._error, "wait": self._wait,
            "removed": _texts, "own_removed": _texts, "ids": _texts, "to": _seq, "answered": _answered,
            "lane": _lane,
        }  # fmt: skip

    def unpacked(self, frame: Frame) -> Any:
        """Return the record, transition, signal or ids of a frame. Raises ValueError, naming what is wrong."""
        kind = KINDS.get(frame.meta["kind"])
        if kind is None:
            raise ValueError(f"its kind {frame.meta['kind']!r:.30} is unknown")
        names = [name for name in kind._fields if name not in LEFT_OUT.get(kind, ())]
        meta = _as_now(frame.meta)
        if meta.keys() != {"kind", *names}:
            raise ValueError(f"a {meta['kind']} has {sorted(meta.keys() ^ {'kind', *names})!r:.100}")
        values, found = _Values(frame.values), dict[str, Any]()
        for name in names:
            value = meta[name]
            try:
                if name in ("data", "changed") or (name == "own" and kind in (RunRecord, Transition)):
                    found[name] = values.mapping(value, own=name == "own")
                elif name == "payload":
                    found[name] = None if value is None else values.take(value)
                elif name == "own":
                    found[name] = _switch(value)
                else:
                    found[name] = self._checks[name](value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"its {name}: {error}") from error
        values.finish()
        item = kind(**found)
        if isinstance(item, RunRecord):
            _check_place(item)
        return item

    def _id(self, value: Any) -> str:
        if value == MARK:
            raise ValueError("it is that of an encrypted store's own record")
        self._limits.check("ids", "the run id", self._plain(value))
        return value  # type: ignore[no-any-return]

    def _name(self, value: Any) -> str:
        self._limits.check("names", "the name", self._plain(value))
        return value  # type: ignore[no-any-return]

    @staticmethod
    def _plain(value: Any) -> str:
        if not _text(value) or "\0" in value:
            raise ValueError("it is empty, or has a NUL")
        return value  # type: ignore[no-any-return]

    def _error(self, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict) or not all(
            isinstance(each, str | int | float | None) for each in value.values()
        ):
            raise TypeError("it is not the error of a run")
        return {key: self._limits.cut(each) if isinstance(each, str) else each for key, each in value.items()}

    def _wait(self, value: Any) -> Wait | None:
        if value is None:
            return None
        then, signal, until, on_timeout, own = value
        return Wait(
            self._name(then), None if signal is None else _text(signal), None if until is None else _time(until),
            None if on_timeout is None else self._name(on_timeout), _switch(own),
        )  # fmt: skip


class _Values:
    """The encoded values of a frame, taken from its bytes one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def mapping(self, sizes: Any, *, own: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, size in sizes:
            if _text(key) in found or (not own and key[:1] == "\0") or (own and key in FOREIGN):
                raise ValueError(f"the key {key!r:.50} is there twice, or is not allowed in a file")
            found[key] = self.take(size)
        return found

    def take(self, size: Any) -> Any:
        if isinstance(size, list):
            return Appended([self.take(_count(each)) for each in size])
        start, self._at = self._at, self._at + _count(size)
        if self._at > len(self._data):
            raise ValueError("its values have fewer bytes than it says")
        return self._data[start : self._at]

    def finish(self) -> None:
        if self._at != len(self._data):
            raise ValueError("its values have more bytes than it says")


def _check_place(record: RunRecord) -> None:
    """Raise ValueError if a record cannot be that of a run."""
    shown = record.status in (RunStatus.INTERRUPTED, RunStatus.QUEUED)  # no store has these
    if shown or (record.status is RunStatus.PARKED) is (record.wait is None):
        raise ValueError(f"its status is {record.status.value}, and its wait {record.wait!r:.100}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it is {value!r:.50}, not a text")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"it is {value!r:.50}, not a list")
    return [*map(_text, value)]


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"it is {value!r:.50}, not a number of at least 0")
    return value


def _lane(value: Any) -> Lane | None:
    if value is None:
        return None
    queue, priority, key = value
    try:
        return Lane.checked(queue, priority, key)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _seq(value: Any) -> int | None:
    return None if value is None else _count(value)


def _answered(value: Any) -> list[tuple[int, str]]:
    if not isinstance(value, list):
        raise TypeError(f"it is {value!r:.50}, not a list")
    return [(_count(to), _text(id)) for to, id in value]


def _as_now(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON of a frame. In the signals of an earlier version, the ids have the waits that they answer."""
    if meta["kind"] == "run":
        return {"lane": None, **meta}
    if meta["kind"] == "signal" and "to" not in meta:
        to, id = (None, meta.get("id")) if meta.get("own") else _addressed(meta.get("id"))
        return {**meta, "to": to, "id": id}
    if meta["kind"] == "consumed" and "answered" not in meta:
        found = [(None, id) if meta.get("own") else _addressed(id) for id in _texts(meta.get("ids"))]
        answered = [[to, id] for to, id in found if to is not None]
        return {**meta, "ids": [id for to, id in found if to is None], "answered": answered}
    return meta


def _addressed(id: Any) -> tuple[int | None, Any]:
    match = _ADDRESSED.fullmatch(id) if isinstance(id, str) else None
    return (None, id) if match is None else (int(match[1]), match[2])


def _time(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"it is {value!r:.50}, not a time")
    return float(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"it is {value!r:.50}, not true or false")
    return value


def _status(value: Any) -> RunStatus:
    return RunStatus(value)


def grouped(signals: Signals) -> Iterator[Consumed]:
    """Yield the consumed signals, in groups of a frame."""
    consumed, own, answered = [*signals.consumed], [*signals.own_consumed], [*signals.answered]
    for at in range(0, len(consumed), IDS):
        yield Consumed(consumed[at : at + IDS], False, [])
    for at in range(0, len(own), IDS):
        yield Consumed(own[at : at + IDS], True, [])
    for at in range(0, len(answered), IDS):
        yield Consumed([], False, answered[at : at + IDS])
