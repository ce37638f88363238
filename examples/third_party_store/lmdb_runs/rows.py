"""Keys and values as bytes: what a row is made of. No pickle: JSON, bytes and a checksum."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from cano import RunRecord, RunStatus, SerializationError, Wait

# the first byte of a key says what the row is
RUN = b"r"  # run: its record, without data
UNFINISHED = b"u"  # run: empty; an index of those that could be ready
DATA = b"d"  # run, key of the data: its number, the key, the value
HISTORY = b"h"  # run, seq: a transition
WAITING = b"w"  # run, number: a signal that no commit has consumed
SEEN = (
    b"s"  # run, id of a signal: its number, the run, the id; there as long as the run, so that no signal counts twice
)
COUNTER = b"c"  # the last number given out: numbers put keys and signals in order


def key(table: bytes, run_id: str, rest: str | int | None = None) -> bytes:
    """The key of a row. Without `rest` it begins the keys of all of the run's rows in that table, and of no others."""
    run = _short(run_id)
    end = b"" if rest is None else struct.pack(">Q", rest) if isinstance(rest, int) else _short(rest)
    return table + struct.pack(">H", len(run)) + run + end


def run_id(key: bytes) -> str:
    """The run that a row is about, or, where its id is long, how that begins. To name it where the row is damaged."""
    return key[3 : 3 + int.from_bytes(key[1:3])].decode(errors="replace")


def _short(text: str) -> bytes:
    """At most 200 bytes for any text, no two alike: an LMDB key has room for 511 bytes, and holds two of these."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw if len(raw) < 200 else raw[:168] + hashlib.sha256(raw).digest()


def pack(head: Any, *values: bytes | None) -> bytes:
    """A row of something JSON can keep (floats exactly) and of values. Raises SerializationError."""
    try:
        sizes = [None if value is None else len(value) for value in values]
        text = json.dumps([head, sizes]).encode("ascii")
        body = b"".join([struct.pack(">I", len(text)), text, *(value for value in values if value is not None)])
    except (TypeError, ValueError) as error:
        raise SerializationError(
            f"LMDB keeps values as bytes and errors as JSON: {error}; is a codec there?"
        ) from error
    return struct.pack(">I", zlib.crc32(body)) + body


def unpack(run_id: str, row: bytes) -> tuple[Any, list[bytes | None]]:
    """What `pack` was given. Raises SerializationError, which names the run, where the row is damaged."""
    if row[:4] != struct.pack(">I", zlib.crc32(row[4:])):
        raise damaged(run_id)
    end = 8 + struct.unpack(">I", row[4:8])[0]
    head, sizes = json.loads(row[8:end])
    values: list[bytes | None] = []
    for size in sizes:
        values.append(None if size is None else row[end : end + size])
        end += size or 0
    return head, values


def damaged(run_id: str) -> SerializationError:
    """The error for a run whose rows cannot be read."""
    error = SerializationError(f"what LMDB has of the run {run_id!r} is damaged: delete it, or restore a copy")
    error.run_id = run_id
    return error


def pack_run(run: RunRecord) -> bytes:
    """The row of a record, without its data."""
    fields = run._replace(data={})._asdict()
    del fields["payload"]
    return pack(fields | {"status": run.status.value}, run.payload)


def unpack_run(run_id: str, row: bytes) -> RunRecord:
    """The record of a row, without its data. Raises SerializationError."""
    fields, (payload,) = unpack(run_id, row)
    wait: Sequence[Any] | None = fields["wait"]
    fields |= {"status": RunStatus(fields["status"]), "wait": None if wait is None else Wait(*wait)}
    return RunRecord(**fields, payload=payload)
