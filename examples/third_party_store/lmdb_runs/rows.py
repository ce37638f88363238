"""Keys and values as bytes: what a row is made of. No pickle: MessagePack, and a checksum."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from cano import RunRecord, SerializationError, Signal, Transition
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

T = TypeVar("T")

# What keys begin with. The rows of a run lie side by side: LMDB writes whole pages, and so a step touches few of them.
OF_RUNS = b"."  # run, table, rest
UNFINISHED = b"u"  # run: empty; an index of those that could be ready
COUNTER = b"c"  # the last number given out: numbers put keys and signals in order

# The tables of each run, in the order in which they lie.
HISTORY = b"h"  # seq: Transition
DATA = b"k"  # key of the data: Data
RUN = b"r"  # RunRecord, without data
SEEN = b"s"  # id of a signal: Seen; there as long as the run, so that no signal counts twice
WAITING = b"w"  # number: Signal that no commit has consumed


class Data(NamedTuple):
    """A key of a run's data, and its value."""

    number: int
    key: str
    value: bytes | None


class Seen(NamedTuple):
    """A signal, consumed or not."""

    number: int
    run_id: str
    signal_id: str


def key(run_id: str, table: bytes = b"", rest: str | int | None = None) -> bytes:
    """The key of a row of a run. Without `rest` it begins the keys of the whole table, or run, and of no others."""
    end = b"" if rest is None else struct.pack(">Q", rest) if isinstance(rest, int) else _short(rest)
    return _start(OF_RUNS, run_id) + table + end


def unfinished(run_id: str) -> bytes:
    """The key of a run in that index."""
    return _start(UNFINISHED, run_id)


@lru_cache(1000)
def _start(first: bytes, run_id: str) -> bytes:
    run = _short(run_id)
    return first + len(run).to_bytes(2) + run


def run_of(key: bytes) -> bytes:
    """The beginning of all keys of the run that a key is about."""
    return OF_RUNS + key[1 : 3 + int.from_bytes(key[1:3])]


def run_id(key: bytes) -> str:
    """The run that a key is about, or, where its id is long, how that begins. To name it where the row is damaged."""
    return run_of(key)[3:].decode(errors="replace")


def _short(text: str) -> bytes:
    """At most 200 bytes for any text, no two alike: an LMDB key has room for 511 bytes, and holds two of these."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw if len(raw) < 200 else raw[:168] + hashlib.sha256(raw).digest()


_encode = Encoder(enc_hook=dict).encode  # a mapping of another class is kept as a dict
_decode: dict[type[Any], Any] = {each: Decoder(each).decode for each in (RunRecord, Transition, Signal, Data, Seen)}


def pack(row: Any, values: Iterable[object] = ()) -> bytes:
    """A row. Raises SerializationError where it cannot be kept as it is, or one of its `values` is not bytes."""
    for value in values:
        if value is not None and not isinstance(value, bytes):
            raise SerializationError(f"LMDB keeps values as bytes, not as {type(value).__name__}: is a codec there?")
    try:
        body = _encode(row)
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"LMDB cannot keep {row!r}: {error}") from error
    return zlib.crc32(body).to_bytes(4) + body


def unpack(run_id: str, row: bytes, type: type[T]) -> T:
    """What `pack` was given, of this type. Raises SerializationError, which names the run, where it is damaged."""
    body = row[4:]
    try:
        if row[:4] == zlib.crc32(body).to_bytes(4):
            found: T = _decode[type](body)
            return found
    except MsgspecError:
        pass  # written by something else
    error = SerializationError(f"what LMDB has of the run {run_id!r} is damaged: delete it, or restore a copy")
    error.run_id = run_id
    raise error
