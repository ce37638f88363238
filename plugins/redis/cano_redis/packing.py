"""Commands, and arguments and answers of the scripts as bytes.

The answers are msgpack of plain values: decoding can build nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cano import Appended, SerializationError, SignalKey
from cano_msgspec.packing import DamagedError, Values, parts_of, with_appended
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder
from redis.asyncio.connection import AbstractConnection

_TO = b"\xff"


class Body(NamedTuple):
    """The body of a history entry: state, status, time, changed and removed keys; the same of the engine's values."""

    state: str
    status: str
    at: float
    changed: Values
    removed: list[str]
    own: Values = {}  # noqa: RUF012  # msgspec copies it
    own_removed: list[str] = []  # noqa: RUF012


OP = 16
"""Bytes of the id of a commit."""

HEAD = 32
"""Bytes of an entry before its body: the id of the commit, and its seq in 16 digits."""

_LARGEST = 2**53  # Lua's integers are exact up to here

_encode = Encoder().encode
_decode_body = Decoder(Body).decode


def text(value: Any) -> bytes:
    """Return a str as UTF-8. Raise SerializationError if it cannot be stored."""
    if not isinstance(value, str):
        raise SerializationError(f"{value!r} is a {type(value).__name__}, not a str", actual=type(value))
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise SerializationError(f"the text {value!r} cannot be stored: {error}") from error


def number(value: Any) -> bytes:
    """Return a seq or token as digits. Raise SerializationError if it is out of range."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise SerializationError(f"{value!r} is not a whole number from 0 to 2**53", actual=type(value))
    return b"%d" % value


def time(value: Any) -> bytes:
    """Return a time in seconds as text that keeps every bit. Raise SerializationError if it is not a time."""
    if not isinstance(value, float | int) or isinstance(value, bool) or math.isnan(value):
        raise SerializationError(f"{value!r} is not a time in seconds", actual=type(value))
    return repr(float(value)).encode()


def pairs(changed: Mapping[str, Any]) -> list[bytes]:
    """Return each key followed by its value. Raise SerializationError if a value is not bytes."""
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


def split(changed: Mapping[str, Any]) -> tuple[list[bytes], list[bytes]]:
    """Return each key followed by its value, and for `Appended` values by nothing; and for these, by each part.

    Raises:
        SerializationError: a value, or a part, is not bytes.
    """
    if Appended not in map(type, changed.values()):
        return pairs(changed), []
    appended = {key: parts_of(key, value) for key, value in changed.items() if value.__class__ is Appended}
    flat = [each for key, parts in appended.items() for part in parts for each in (text(key), part)]
    return pairs({key: b"" if key in appended else value for key, value in changed.items()}), flat


def unpaired(flat: object) -> dict[bytes, bytes]:
    """Return a hash from the server's flat list."""
    if not isinstance(flat, list):
        raise DamagedError("it is not a hash")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def pack_line(op: bytes, seq: int, state: str, status: str, at: float, made: Any) -> bytes:
    """Return a history entry.

    `made` is its changed and removed keys, and those of the engine's values; None for a commit without a transition.
    """
    head = b"%s%016d" % (op, seq)
    if made is None:
        return head
    changed, removed, own, own_removed = made
    body = state, status, at, changed if changed.__class__ is dict else dict(changed), removed
    try:
        return head + _encode((*body, dict(own), own_removed) if own or own_removed else body)
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"the entry of {[*changed, *removed]!r} cannot be stored: {error}") from error


def unpack_line(line: bytes) -> tuple[int, Body | None]:
    """Return an entry's seq and body, or None for a commit without a transition. Raise DamagedError if corrupt."""
    digits, body = line[16:HEAD], line[HEAD:]
    if len(digits) != 16 or not digits.isdigit():
        raise DamagedError("an entry of its history is corrupt")
    try:
        if not body:
            return int(digits), None
        found = _decode_body(body)
        return int(digits), found._replace(changed=with_appended(found.changed), own=with_appended(found.own))
    except (MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"an entry of its history is corrupt: {error}") from error


def field_of(key: SignalKey) -> bytes:
    """Return the field of a signal in the hash of its kind. That of one to a wait cannot be UTF-8, as ids are."""
    _, to, id = key
    return text(id) if to is None else b"%b%d %b" % (_TO, to, text(id))


def key_of(own: bool, field: bytes) -> SignalKey:
    """Return the key of a signal from its field. Raise ValueError if that is corrupt."""
    if field[:1] != _TO:
        return own, None, field.decode()
    to, _, id = field[1:].partition(b" ")
    return own, int(to), id.decode()


def texts(values: Iterable[Any]) -> list[bytes]:
    """Return several strings as UTF-8."""
    return [text(value) for value in values]


async def ask(connection: AbstractConnection, *command: Any) -> Any:
    """Send a command, and return its answer."""
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disable_decoding=True)
