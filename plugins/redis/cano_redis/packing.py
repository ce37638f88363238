"""Texts and bytes for the scripts: msgpack of plain values, so that reading it back can build nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cano import SerializationError
from cano_msgspec.packing import DamagedError
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

Body = tuple[str, str, float, dict[str, bytes], list[str]]
"""Of a line of history: its state, status and time, what it changed, what it removed."""

HEAD = 32
"""Bytes of a line before its body: the id of the commit, and its seq in 16 digits."""

_LARGEST = 2**53  # what Lua can count to

_encode = Encoder().encode
_decode_body = Decoder(Body).decode


def text(value: Any) -> bytes:
    """A text, checked. Raises SerializationError."""
    if not isinstance(value, str):
        raise SerializationError(f"{value!r} is of type {type(value).__name__}, and not a text", actual=type(value))
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise SerializationError(f"the text {value!r} cannot be stored: {error}") from error


def number(value: Any) -> bytes:
    """A seq or token, checked. Raises SerializationError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise SerializationError(f"{value!r} is not a whole number from 0 to 2**53", actual=type(value))
    return b"%d" % value


def time(value: Any) -> bytes:
    """Seconds, such that they are read back to the last bit. Raises SerializationError."""
    if not isinstance(value, float | int) or isinstance(value, bool) or math.isnan(value):
        raise SerializationError(f"{value!r} is not a time in seconds", actual=type(value))
    return repr(float(value)).encode()


def pairs(changed: Mapping[str, Any]) -> list[bytes]:
    """Each key and then its value. Raises SerializationError where a value is not bytes."""
    flat: list[bytes] = []
    for key, value in changed.items():
        if value.__class__ is not bytes:
            raise SerializationError(
                f"this store keeps bytes, but the value of key {key!r} is of type {type(value).__name__}",
                key=str(key),
                actual=type(value),
            )
        flat += (text(key), value)
    return flat


def unpaired(flat: object) -> dict[bytes, bytes]:
    """A hash as the server hands it out."""
    if not isinstance(flat, list):
        raise DamagedError("it is no hash")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def pack_line(op: bytes, seq: int, state: str, status: str, at: float, made: Any) -> bytes:
    """A line of history: `made` is what it changed and what it removed; None for a commit without a transition."""
    head = b"%s%016d" % (op, seq)
    if made is None:
        return head
    changed, removed = made
    try:
        return head + _encode((state, status, at, changed if changed.__class__ is dict else dict(changed), removed))
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"the line of {[*changed, *removed]!r} cannot be stored: {error}") from error


def unpack_line(line: bytes) -> tuple[int, Body | None]:
    """The seq of a line, and the rest; None for a commit without a transition. Raises DamagedError."""
    digits, body = line[16:HEAD], line[HEAD:]
    if len(digits) != 16 or not digits.isdigit():
        raise DamagedError("a line of its history is damaged")
    try:
        return int(digits), _decode_body(body) if body else None
    except (MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"a line of its history is damaged: {error}") from error


def texts(values: Iterable[Any] | Sequence[Any]) -> list[bytes]:
    """Several texts, checked."""
    return [text(value) for value in values]
