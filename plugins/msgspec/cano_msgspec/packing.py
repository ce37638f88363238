"""For stores: packs the parts of a row into MessagePack blobs of plain values. Unpacking can build nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cano import Appended, AuditEntry, ConflictError, RunFilter, RunRecord, RunStatus, SerializationError, Wait
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

Values = dict[str, bytes | tuple[bytes, ...]]
"""Values by key, of which the tuples are `Appended`."""


class Changes(NamedTuple):
    """The keys and values that a commit sets, the keys that it removes; and the same of the engine's own values."""

    changed: Values
    removed: list[str]
    own: Values = {}  # noqa: RUF012  # msgspec copies it
    own_removed: list[str] = []  # noqa: RUF012


Extra = tuple[dict[str, Any] | None, Wait | None, bytes | None]

_ADDRESSED = re.compile(rb"\0wait (\d{1,18}) (.*)", re.DOTALL)
_encode = Encoder().encode
_decode_changes: Callable[[bytes], Changes] = Decoder(Changes).decode
_decode_parts: Callable[[bytes], tuple[bytes, ...]] = Decoder(tuple[bytes, ...]).decode


class _Wait(NamedTuple):
    """A wait, as it is packed. An earlier version had no `own`."""

    then: str
    signal: str | None
    until: float | None
    on_timeout: str | None
    own: bool = False


_decode_extra = Decoder(tuple[dict[str, Any] | None, _Wait | None, bytes | None]).decode

LARGE = 65_536
"""Bytes. The store's writer packs changes of this size or more, so that copying them does not block the event loop."""

_PLAIN = (str, bytes, int, float, bool, type(None))


def size_of(changed: Mapping[str, Any]) -> int:
    """Return the total size of the values. Raises SerializationError if a value is not bytes or a key not a string."""
    size = 0
    for key, value in changed.items():
        if value.__class__ is bytes and isinstance(key, str):
            size += len(value)
        else:
            size += sum(len(part) for part in parts_of(key, value))
    return size


def parts_of(key: object, value: Any) -> Appended:
    """Return an `Appended` value. Raises SerializationError if it is another, or a part is not bytes."""
    if value.__class__ is Appended and isinstance(key, str) and {bytes}.issuperset(map(type, value)):
        return value
    raise _refused(key, value)


def with_appended(values: Values) -> Values:
    """Return unpacked values as they were packed: with `Appended` ones in place of tuples."""
    if not values or tuple not in map(type, values.values()):
        return values
    return {key: Appended(value) if value.__class__ is tuple else value for key, value in values.items()}


def pack_parts(parts: Sequence[bytes]) -> bytes:
    """Pack the parts of a value."""
    return _encode(parts)


def unpack_parts(blob: object) -> Appended:
    """Return the argument of `pack_parts`. Raises DamagedError if the blob is corrupt."""
    try:
        return Appended(_decode_parts(_bytes(blob)))
    except (MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"the parts of a value are corrupt: {error}") from error


def pack_changes(
    changed: Mapping[str, Any],
    removed: Sequence[str],
    own: Mapping[str, Any] | None = None,
    own_removed: Sequence[str] = (),
) -> bytes:
    """Pack `Changes`."""
    try:
        data = changed if changed.__class__ is dict else dict(changed)
        return _encode((data, removed, dict(own or {}), own_removed) if own or own_removed else (data, removed))
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"the keys {[*changed, *removed]!r} cannot be stored: {error}") from error


def unpack_changes(blob: object) -> Changes:
    """Return the arguments of `pack_changes`. Raises DamagedError if the blob is corrupt."""
    try:
        found = _decode_changes(_bytes(blob))
    except (MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"a journal entry is corrupt: {error}") from error
    changed, own = with_appended(found.changed), with_appended(found.own)
    if changed is found.changed and own is found.own:
        return found
    return found._replace(changed=changed, own=own)


def with_changes(
    run_id: str, snapshot: tuple[dict[str, Any], dict[str, Any]], entries: Iterable[Changes]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all data of a run, and the engine's own values: those of a snapshot, changed by the entries after it.

    Args:
        run_id: the run.
        snapshot: data and own values as `Appended.gather` keeps them. They are changed.
        entries: the changes, oldest first.

    Raises:
        SerializationError: the snapshot has None in place of a value, but no parts of it.
    """
    if any(None in values.values() for values in snapshot):
        raise unreadable(run_id, "a value in its snapshot has no parts")
    for entry in entries:
        for values, changed, removed in zip(snapshot, entry[::2], entry[1::2], strict=True):
            Appended.gather(values, changed, removed)
    data, own = map(Appended.gathered, snapshot)
    return data, own


def apart(changes: Changes) -> Changes:
    """Return the changes of an earlier version, whose keys of the engine's own values began with NUL, with these apart.

    For migrations of stores.
    """
    changed: Values = {}
    own: Values = {}
    removed: list[str] = []
    own_removed: list[str] = []
    for key, value in changes.changed.items():
        (own if key.startswith("\0") else changed)[key.removeprefix("\0")] = value
    for key in changes.removed:
        (own_removed if key.startswith("\0") else removed).append(key.removeprefix("\0"))
    return Changes(changed, removed, {**own, **changes.own}, [*own_removed, *changes.own_removed])


def addressed(id: bytes) -> tuple[int | None, bytes]:
    """Return `Signal.to` and the id of a caller's signal, of which the ids of an earlier version had both.

    For migrations of stores.
    """
    match = _ADDRESSED.fullmatch(id)
    return (None, id) if match is None else (int(match[1]), match[2])


def pack_extra(error: Mapping[str, Any] | None, wait: Wait | None, payload: Any) -> bytes | None:
    """Pack the parts that most records lack. Return None if all are missing."""
    if error is None and wait is None and payload is None:
        return None
    checked = payload_bytes(payload)
    try:
        return _encode((None if error is None else _plain(dict(error)), wait, checked))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise SerializationError(f"the run's error or wait cannot be stored: {problem}") from problem


def unpack_extra(blob: object) -> Extra:
    """Return the arguments of `pack_extra`. Raises DamagedError if the blob is corrupt."""
    if blob is None:
        return None, None, None
    try:
        error, wait, payload = _decode_extra(_bytes(blob))
        if error is not None:
            _plain(error)
    except (MsgspecError, RecursionError, TypeError, ValueError) as problem:
        raise DamagedError(f"its error, wait or payload is corrupt: {problem}") from problem
    return error, None if wait is None else Wait(*wait), payload


def outcome_of(
    status: RunStatus, state: str, error: Mapping[str, Any] | None
) -> tuple[str | None, str | None, str | None]:
    """Return what a run that has ended is found by: its state, and the classes of a failed run's error; or None."""
    if not status.finished:
        return None, None, None
    names = RunFilter.classes_of(error) if error is not None and status is RunStatus.FAILED else ()
    first, second, *_ = (*names, None, None)
    return state, first, second


def payload_bytes(payload: Any) -> bytes | None:
    """Return the payload. Raises SerializationError unless it is bytes or None."""
    if payload is not None and payload.__class__ is not bytes:
        raise SerializationError(
            f"this store keeps bytes, but the payload is of type {type(payload).__name__}", actual=type(payload)
        )
    return payload


def unreadable(run_id: str, what: object, *, key: str | None = None) -> SerializationError:
    """Return the error for a run that cannot be read."""
    return SerializationError(f"the run {run_id!r} cannot be read from the store: {what}", key=key, run_id=run_id)


def unreadable_record(
    run_id: str, workflow: str, status: RunStatus, error: SerializationError, *, created: float = 0.0
) -> RunRecord:
    """Return a record, for lists, of a run that cannot be read. It carries the problem as its error."""
    said = {"type": "SerializationError", "message": str(error)}
    return RunRecord(
        run_id=run_id, workflow=workflow, version="", fingerprint="", state="", status=status, error=said,
        created=created,
    )  # fmt: skip


def unpacked_record(run_id: str, extra: object, **others: Any) -> RunRecord:
    """Return the record of a run, with the parts that `pack_extra` packed. Raises SerializationError.

    Args:
        others: the other fields of the record.
    """
    try:
        error, wait, payload = unpack_extra(extra)
    except DamagedError as problem:
        raise unreadable(run_id, problem) from problem
    return RunRecord(run_id=run_id, error=error, wait=wait, payload=payload, **others)


def stale(run_id: str, seq: int, token: int, found: Sequence[object] | None) -> ConflictError:
    """Return the error for a stale commit.

    Args:
        run_id, seq, token: its run, and the seq and the token that it expects.
        found: the seq and the token of the run, as numbers or texts; None if it does not exist.
    """
    if found is None:
        problem = "it does not exist"
    elif str(found[1]) != str(token):
        problem = f"another holder claimed it: its token is {found[1]}, not {token}"
    else:
        problem = f"it has made {found[0]} transitions, not {seq}"
    return ConflictError(f"a commit to the run {run_id!r} is stale: {problem}", run_id=run_id)


class DamagedError(Exception):
    """A stored blob is corrupt."""


def _refused(key: object, value: object) -> SerializationError:
    if not isinstance(key, str):
        return SerializationError(f"keys must be strings, but {key!r} is of type {type(key).__name__}")
    return SerializationError(
        f"this store keeps bytes, but the value of key {key!r} is of type {type(value).__name__}",
        key=key,
        actual=type(value),
    )


def _bytes(blob: object) -> bytes:
    if not isinstance(blob, bytes):
        raise DamagedError(f"it contains a value of type {type(blob).__name__} instead of a blob")
    return blob


def _plain(value: Any) -> Any:
    """Return `value`. Raises TypeError unless it consists of plain values, lists, and dicts with string keys."""
    if value.__class__ is dict:
        for key, item in value.items():
            if key.__class__ is not str:
                raise TypeError(f"{key!r} is not a string")
            _plain(item)
    elif value.__class__ is list:
        for item in value:
            _plain(item)
    elif value.__class__ not in _PLAIN:
        raise TypeError(f"{value!r} is of type {type(value).__name__}")
    return value


def audit_entry(run_id: str | None, action: str, actor: str, at: float, detail: str) -> AuditEntry:
    """Return an entry of the audit. One whose time is not finite has the time 0, and a detail that says so."""
    if math.isfinite(at):
        return AuditEntry(run_id, action, actor, at, detail)
    return AuditEntry(run_id, action, actor, 0.0, f"corrupt time; {detail}")
