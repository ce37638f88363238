"""For stores: what goes into a row as one blob. msgpack of plain values: reading it back can build nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cano import SerializationError, Wait
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

Changes = tuple[dict[str, bytes], list[str]]
Extra = tuple[dict[str, Any] | None, Wait | None, bytes | None]

_encode = Encoder().encode
_decode_changes: Callable[[bytes], Changes] = Decoder(Changes).decode
_decode_extra = Decoder(
    tuple[dict[str, Any] | None, tuple[str, str | None, float | None, str | None] | None, bytes | None]
).decode

LARGE = 65_536
"""Bytes of changes from which they are packed by the writer: copying them would hold up the event loop."""

_PLAIN = (str, bytes, int, float, bool, type(None))


def size_of(changed: Mapping[str, Any]) -> int:
    """How many bytes there are. Raises SerializationError where a value is something else."""
    size = 0
    for key, value in changed.items():
        if value.__class__ is not bytes or not isinstance(key, str):
            raise _refused(key, value)
        size += len(value)
    return size


def pack_changes(changed: Mapping[str, Any], removed: Sequence[str]) -> bytes:
    """The keys that a commit sets, each with its bytes, and those that it removes."""
    try:
        return _encode((changed if changed.__class__ is dict else dict(changed), removed))
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"the keys {[*changed, *removed]!r} cannot be stored: {error}") from error


def unpack_changes(blob: object) -> Changes:
    """What `pack_changes` was given. Raises DamagedError."""
    try:
        return _decode_changes(_bytes(blob))
    except (MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"a journal line is damaged: {error}") from error


def pack_extra(error: Mapping[str, Any] | None, wait: Wait | None, payload: Any) -> bytes | None:
    """The parts of a record that are seldom there; None where none of them is."""
    if error is None and wait is None and payload is None:
        return None
    waits = None if wait is None else (wait.then, wait.signal, wait.until, wait.on_timeout)
    checked = payload_bytes(payload)
    try:
        return _encode((None if error is None else _plain(dict(error)), waits, checked))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise SerializationError(f"the run's error or wait cannot be stored: {problem}") from problem


def unpack_extra(blob: object) -> Extra:
    """What `pack_extra` was given. Raises DamagedError."""
    if blob is None:
        return None, None, None
    try:
        error, waits, payload = _decode_extra(_bytes(blob))
        if error is not None:
            _plain(error)
    except (MsgspecError, RecursionError, TypeError, ValueError) as problem:
        raise DamagedError(f"its error, wait or payload is damaged: {problem}") from problem
    if waits is None:
        return error, None, payload
    then, signal, until, on_timeout = waits
    return error, Wait(then=then, signal=signal, until=until, on_timeout=on_timeout), payload


def payload_bytes(payload: Any) -> bytes | None:
    """A payload, checked."""
    if payload is not None and payload.__class__ is not bytes:
        raise SerializationError(
            f"this store keeps bytes, but the payload is of type {type(payload).__name__}", actual=type(payload)
        )
    return payload


class DamagedError(Exception):
    """A blob is not what was written."""


def _refused(key: object, value: object) -> SerializationError:
    if not isinstance(key, str):
        return SerializationError(f"keys are text, but {key!r} is of type {type(key).__name__}")
    return SerializationError(
        f"this store keeps bytes, but the value of key {key!r} is of type {type(value).__name__}",
        key=key,
        actual=type(value),
    )


def _bytes(blob: object) -> bytes:
    if not isinstance(blob, bytes):
        raise DamagedError(f"it holds a value of type {type(blob).__name__} where a blob belongs")
    return blob


def _plain(value: Any) -> Any:
    """`value`, unless there is something in it that would not come back as it is."""
    if value.__class__ is dict:
        for key, item in value.items():
            if key.__class__ is not str:
                raise TypeError(f"{key!r} is no text")
            _plain(item)
    elif value.__class__ is list:
        for item in value:
            _plain(item)
    elif value.__class__ not in _PLAIN:
        raise TypeError(f"{value!r} is of type {type(value).__name__}")
    return value
