"""Describing a stored run in text and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cano import CanoError, Kernel, LateRun, RunRecord, RunStatus, Wait, is_held, is_queued

from cano_cli.hints import word
from cano_cli.times import iso, when


def status_of(record: RunRecord, now: float) -> RunStatus:
    """Return the run's status. A running run without a valid lease is interrupted; or queued, if it never had one."""
    if is_queued(record):
        return RunStatus.QUEUED
    if record.status is not RunStatus.RUNNING or is_held(record, now):
        return record.status
    return RunStatus.INTERRUPTED


def holder_of(record: RunRecord, now: float) -> str:
    """Return the run's holder and the time until its lease expires."""
    return f"{record.holder} (lease expires in {max(0.0, (record.expires or now) - now):.1f} s)"


def waits_for(wait: Wait | None) -> str:
    """Return what a parked run waits for, as the end of a sentence with a leading space."""
    parts = []
    if wait is not None and wait.child is not None:
        parts.append(f" for the end of child {word(wait.child)}")
    elif wait is not None and wait.signal is not None:
        parts.append(f" for signal {wait.signal!r}")
    if wait is not None and wait.until is not None:
        parts.append(f" until {when(wait.until)}")
    if wait is not None and wait.child is None:
        parts.append(f" then {wait.then}")
        if wait.until is not None and wait.on_timeout is not None:
            parts.append(f" otherwise {wait.on_timeout}")
    return ",".join(parts)


async def with_own_waits(kernel: Kernel, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs with their real waits. A listed wait ends earlier if the run will be late before."""
    found = []
    for record in records:
        if record.status is RunStatus.PARKED and record.wait is not None and record.wait.until is not None:
            with suppress(CanoError):  # it is corrupt, or was deleted meanwhile
                if (view := await kernel.get(record.run_id)).seq == record.seq:
                    record = record._replace(wait=view.wait)
        found.append(record)
    return found


def detail_of(record: RunRecord, now: float) -> str:
    """Return the detail that matters for the run's status: its holder, its wait, or its error."""
    error: Mapping[str, Any] = record.error or {}  # stores also report here why a row is corrupt, also of a parked run
    status = status_of(record, now)
    if status is RunStatus.RUNNING:
        return f"held by {holder_of(record, now)}"
    if status is RunStatus.QUEUED and not error:
        return "waits for a worker"
    if status is RunStatus.PARKED and not error:
        return f"waits{waits_for(record.wait)}"
    return " ".join(str(error.get("message", "")).split())


def record_as_json(record: RunRecord, now: float) -> dict[str, Any]:
    """Return all fields of the run but its data, as JSON."""
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
            "signal": None if wait.child is not None else wait.signal, "child": wait.child, "until": iso(wait.until),
            "then": wait.then, "on_timeout": wait.on_timeout, "token": record.wait_token,
        },
    }  # fmt: skip


def late_as_json(late: Iterable[LateRun]) -> list[dict[str, Any]]:
    """Return that a run, its visit of a state, or both were found to be late, as JSON."""
    return [{"step": each.step, "within": each.within, "due": iso(each.due)} for each in late]


def counted(count: int, thing: str) -> str:
    """Return the count with the noun, in the plural unless it is 1: `1 run`, `2 runs`."""
    return f"{count} {thing}" + ("" if count == 1 else "s")
