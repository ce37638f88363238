"""What is told of a run as a store has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cano import RunRecord, RunStatus, Wait, is_held

from cano_cli.times import iso, when

HIDDEN = "\0"
"""Keys that begin with it are the engine's own."""


def status_of(record: RunRecord, now: float) -> RunStatus:
    """How the run stands: what says that it runs while nobody holds it was interrupted."""
    if record.status is not RunStatus.RUNNING or is_held(record, now):
        return record.status
    return RunStatus.INTERRUPTED


def holder_of(record: RunRecord, now: float) -> str:
    """Who drives it, and for how long that is sure."""
    return f"{record.holder} (for {max(0.0, (record.expires or now) - now):.1f} s, unless renewed)"


def waits_for(wait: Wait | None) -> str:
    """What a parked run waits for, as the end of a sentence."""
    what = []
    if wait is not None and wait.signal is not None:
        what.append(f" for the signal {wait.signal!r}")
    if wait is not None and wait.until is not None:
        what.append(f" until {when(wait.until)}")
    return ",".join(what)


def note_on(record: RunRecord, now: float) -> str:
    """What people want to know of it beside its state: who drives it, what it waits for, why it failed."""
    status = status_of(record, now)
    if status is RunStatus.RUNNING:
        return holder_of(record, now)
    if status is RunStatus.PARKED:
        return f"waits{waits_for(record.wait)}"
    error: Mapping[str, Any] = record.error or {}  # also of a row that cannot be read
    return " ".join(str(error.get("message", "")).split())


def record_as_json(record: RunRecord, now: float) -> dict[str, Any]:
    """All of it but its data."""
    wait = record.wait
    return {
        "run_id": record.run_id,
        "workflow": record.workflow,
        "version": record.version,
        "status": status_of(record, now).value,
        "state": record.state,
        "steps": record.seq,
        "created": iso(record.created),
        "updated": iso(record.updated),
        "parent": record.parent,
        "holder": record.holder if is_held(record, now) else None,
        "lease_until": iso(record.expires) if is_held(record, now) else None,
        "error": record.error,
        "waits_for": None if wait is None else {
            "signal": wait.signal, "until": iso(wait.until), "then": wait.then, "on_timeout": wait.on_timeout,
        },
    }  # fmt: skip


def counted(count: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {thing}" + ("" if count == 1 else "s")
