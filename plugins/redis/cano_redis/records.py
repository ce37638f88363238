"""Run records as hashes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cano import Appended, ClaimedRun, RunRecord, RunStatus, SerializationError
from cano_msgspec.packing import DamagedError, pack_extra, unpack_extra, unreadable, unreadable_record

from cano_redis.packing import number, text, time, unpaired

_NO_DATA: dict[str, bytes] = {}  # one for all runs of lists: the garbage collector counts each dict
STATUSES = {status.value: status for status in RunStatus}


def fields(run: RunRecord) -> list[bytes]:
    """Return the names and values of a new run's hash. Raise SerializationError if a value cannot be stored."""
    flat = [
        b"workflow", text(run.workflow), b"version", text(run.version), b"fingerprint", text(run.fingerprint),
        b"state", text(run.state), b"seq", number(run.seq), b"status", run.status.value.encode(),
        b"created", time(run.created), b"updated", time(run.updated), b"fence", number(run.token),
        b"extra", pack_extra(run.error, run.wait, run.payload) or b"",
    ]  # fmt: skip
    if run.parent is not None:
        flat += (b"parent", text(run.parent))
    if run.holder is not None:
        flat += (b"holder", text(run.holder))
    if run.expires is not None:
        flat += (b"expires", time(run.expires))
    if run.status is RunStatus.PARKED and run.wait is not None:
        if run.wait.until is not None:
            flat += (b"until", time(run.wait.until))
        if run.wait.signal is not None:
            flat += (b"awaited", text(run.wait.signal))
            if run.wait.own:
                flat += (b"awaits", b"own-")
    return flat


def record(run_id: str, flat: Any, data: dict[str, bytes]) -> RunRecord:
    """Return the run in a hash. Raise SerializationError if it is corrupt."""
    try:
        return _record(run_id, unpaired(flat), data)
    except (DamagedError, ValueError, KeyError) as error:
        if isinstance(error, SerializationError):
            raise
        what = f"its field {error} is missing" if isinstance(error, KeyError) else error
        raise unreadable(run_id, f"its record is corrupt: {what}") from error


def _record(run_id: str, has: dict[bytes, bytes], data: dict[str, bytes]) -> RunRecord:
    error, wait, payload = unpack_extra(has[b"extra"] or None)
    parent, holder, expires = has.get(b"parent"), has.get(b"holder"), has.get(b"expires")
    status = STATUSES.get(has[b"status"].decode())
    if status is None:
        raise DamagedError(f"there is no status {has[b'status']!r}")
    return RunRecord(
        run_id=run_id,
        workflow=has[b"workflow"].decode(),
        version=has[b"version"].decode(),
        fingerprint=has[b"fingerprint"].decode(),
        state=has[b"state"].decode(),
        seq=int(has[b"seq"]),
        status=status,
        data=data,
        error=error,
        wait=wait,
        payload=payload,
        parent=None if parent is None else parent.decode(),
        created=float(has[b"created"]),
        updated=float(has[b"updated"]),
        holder=None if holder is None else holder.decode(),
        expires=None if expires is None else float(expires),
        token=int(has[b"fence"]),
    )


def whole(run_id: str, answer: Any) -> RunRecord:
    """Return the run in an answer of `load` or `create`. Raise SerializationError if it is corrupt."""
    flat, keys, values, lines, own, parts = answer
    run = record(run_id, flat, {})
    has = unpaired(values)
    if len(keys) != len(has) or any(key not in has for key in keys):
        raise unreadable(run_id, "its keys and values differ")
    if unpaired(flat).get(b"lines") != b"%d" % lines:
        raise unreadable(run_id, "entries of its history are missing")
    try:
        values_of_engine = {name.decode(): value for name, value in unpaired(own).items()}
        data: dict[str, Any] = {key.decode(): has[key] for key in keys}
        data |= {key.decode(): Appended(some) for key, some in unpaired(parts).items()}
        return run._replace(data=data, own=values_of_engine)
    except UnicodeDecodeError as error:
        raise unreadable(run_id, f"a key is corrupt: {error}") from error


def claimed(id: bytes, token: bytes, answer: Any, signals: int) -> ClaimedRun:
    """Return a run that was claimed in a group. If it is corrupt, it has no record."""
    run_id, run = id.decode(errors="replace"), None
    with suppress(SerializationError):
        run = whole(run_id, answer) if answer else None
    return ClaimedRun(run_id, int(token), run, bool(signals))


def listed(run_id: str, flat: Any) -> RunRecord:
    """Return the run in a hash of a list. A corrupt run carries the problem as its error, and does not hide others."""
    try:
        return record(run_id, flat, _NO_DATA)
    except SerializationError as error:
        has = unpaired(flat) if isinstance(flat, list) else {}
        workflow = has.get(b"workflow", b"").decode(errors="replace")
        status = STATUSES.get(has.get(b"status", b"").decode(errors="replace"), RunStatus.INTERRUPTED)
        try:
            created = float(has[b"created"])
        except (KeyError, ValueError):
            created = 0.0
        return unreadable_record(run_id, workflow, status, error, created=created)
