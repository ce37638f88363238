"""The audit: entries that stay when their runs are deleted."""

from __future__ import annotations

from collections.abc import Sequence

from cano import AuditEntry
from cano_msgspec.packing import audit_entry
from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from cano_redis.packing import text, time

HEAD = 16
"""Bytes of an entry before the length of its run's id: the id of the call that adds it."""
_encode = Encoder().encode
_decode = Decoder(tuple[str, str, float, str]).decode


def pack(op: bytes, entry: AuditEntry) -> tuple[bytes, bytes]:
    """Return the time and the packed entry. Raise SerializationError if a text cannot be stored."""
    run_id = None if entry.run_id is None else text(entry.run_id)
    size = b"-" if run_id is None else b"%d" % len(run_id)
    for each in (entry.action, entry.actor, entry.detail):
        text(each)
    body = _encode((entry.action, entry.actor, entry.at, entry.detail))
    return time(entry.at), b"%s%s:%s%s" % (op, size, run_id or b"", body)


def unpack(packed: Sequence[bytes]) -> list[AuditEntry]:
    """Return the entries in packed ones, which are newest first; whatever is in them."""
    return [_unpacked(each) for each in reversed(packed)]


def _unpacked(packed: bytes) -> AuditEntry:
    size, _, rest = packed[HEAD:].partition(b":")
    length = 0 if size == b"-" else int(size) if size.isdigit() and len(size) < 10 else -1
    try:
        if not 0 <= length <= len(rest):
            raise ValueError("it does not contain the id of its run")
        run_id = None if size == b"-" else rest[:length].decode()
        action, actor, at, detail = _decode(rest[length:])
    except (MsgspecError, ValueError, RecursionError):
        return AuditEntry("corrupt", "corrupt", "corrupt", 0.0, "corrupt")
    return audit_entry(run_id, action, actor, at, detail)
