"""Keys and values of rows as bytes. Values are MessagePack with a checksum; never pickle."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from cano import RunRecord, SerializationError, Signal, SignalKey, Transition
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

T = TypeVar("T")

VERSION = b"v"  # the version of the rows, from 1; without it, version 1

# The first byte of a key. The rows of a run are adjacent: LMDB writes whole pages, so a step touches few of them.
OF_RUNS = b"."  # run, table, rest
UNFINISHED = b"u"  # run: empty; an index of the runs that may be ready
COUNTER = b"c"  # the last number given out; numbers order keys and signals

# The tables of each run, in the order of their keys.
HISTORY = b"h"  # seq: Transition
DATA = b"k"  # key of the data: Data
OWN = b"o"  # name of one of the engine's own values: Data
RUN = b"r"  # RunRecord, without data and the engine's values
SEEN = b"s"  # id of a signal: Seen; kept as long as the run, so that no signal counts twice
OWN_SEEN = b"t"  # id of a signal of the engine's own: Seen
SEEN_TO = b"u"  # Signal.to, and id of a signal to one wait: Seen
WAITING = b"w"  # number: an unconsumed Signal


class Data(NamedTuple):
    """A key of a run's data, with its value."""

    number: int
    key: str
    value: bytes | None


class Seen(NamedTuple):
    """A signal that was put, consumed or not."""

    number: int
    run_id: str
    signal_id: str
    to: int | None = None


def key(run_id: str, table: bytes = b"", rest: str | int | None = None) -> bytes:
    """Return the key of a row of a run. Without `rest`, it is the prefix of the table's keys, or of the run's."""
    end = b"" if rest is None else struct.pack(">Q", rest) if isinstance(rest, int) else short(rest)
    return _start(OF_RUNS, run_id) + table + end


def seen(run_id: str, signal: SignalKey) -> bytes:
    """Return the key of the row of a signal."""
    own, to, id = signal
    if to is None:
        return key(run_id, OWN_SEEN if own else SEEN, id)
    return key(run_id, SEEN_TO, to) + short(id)


def unfinished(run_id: str) -> bytes:
    """Return the key of a run in the index."""
    return _start(UNFINISHED, run_id)


@lru_cache(1000)
def _start(first: bytes, run_id: str) -> bytes:
    run = short(run_id)
    return first + len(run).to_bytes(2) + run


def run_of(key: bytes) -> bytes:
    """Return the prefix of all keys of the run to which a key belongs."""
    return OF_RUNS + key[1 : 3 + int.from_bytes(key[1:3])]


def run_id(key: bytes) -> str:
    """Return the run's id, or its beginning if it is long, from a key, to name a run whose row is corrupt."""
    return run_of(key)[3:].decode(errors="replace")


def short(text: str) -> bytes:
    """Return at most 200 bytes that identify `text`: an LMDB key has at most 511 bytes, and contains two of these."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw if len(raw) < 200 else raw[:168] + hashlib.sha256(raw).digest()


_encode = Encoder(enc_hook=dict).encode  # a mapping of another class is stored as a dict
_decode: dict[type[Any], Any] = {each: Decoder(each).decode for each in (RunRecord, Transition, Signal, Data, Seen)}


def pack(row: Any, values: Iterable[object] = ()) -> bytes:
    """Return a row. Raise SerializationError if it cannot be stored, or one of its `values` is not bytes."""
    for value in values:
        if value is not None and not isinstance(value, bytes):
            raise SerializationError(f"LMDB stores bytes, but this value is a {type(value).__name__}; install a codec")
    try:
        body = _encode(row)
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"LMDB cannot store {row!r}: {error}") from error
    return zlib.crc32(body).to_bytes(4) + body


def unpack(run_id: str, row: bytes, type: type[T]) -> T:
    """Return what `pack` was given. Raise SerializationError with the run's id if the row is corrupt."""
    body = row[4:]
    try:
        if row[:4] == zlib.crc32(body).to_bytes(4):
            found: T = _decode[type](body)
            return found
    except MsgspecError:
        pass  # another program wrote it
    raise SerializationError(f"the run {run_id!r} is corrupt in LMDB: delete it, or restore a backup", run_id=run_id)
