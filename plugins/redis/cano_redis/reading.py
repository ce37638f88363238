"""Decodes the answers of queries: histories, lists and signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from cano import RunFilter, RunRecord, RunStatus, Signal, SignalKey, Signals, Transition
from cano_msgspec.packing import DamagedError, unreadable

from cano_redis.packing import OP, key_of, pack_line, unpack_line, unpaired
from cano_redis.records import STATUSES, listed


def history(run_id: str, after: int, lines: Sequence[bytes]) -> list[Transition]:
    """Return the transitions after `after`. Raise SerializationError if an entry is corrupt."""
    found: list[Transition] = []
    for line in lines:
        try:
            seq, body = unpack_line(line)
        except DamagedError as error:
            raise unreadable(run_id, error) from error
        last = found[-1].seq if found else after
        if body is None:  # a commit that made no transition
            if seq != last:
                raise unreadable(run_id, f"its history is corrupt at transition {seq}")
            continue
        if seq <= last or body.status not in STATUSES:
            raise unreadable(run_id, f"its history is corrupt at transition {seq}")
        found.append(Transition(seq=seq, **body._asdict() | {"status": STATUSES[body.status]}))
    return found


def rewritten(run_id: str, first: int, lines: Sequence[bytes], new: Mapping[int, Transition]) -> list[bytes]:
    """Return the entries of a history that have new values, each after its position; `first` is that of the first."""
    found: list[bytes] = []
    try:
        for position, line in enumerate(lines, first):
            seq, body = unpack_line(line)
            if body is not None and seq in new:
                made = dict(new[seq].changed), body.removed, dict(new[seq].own), body.own_removed
                found += b"%d" % position, pack_line(line[:OP], seq, body.state, body.status, body.at, made)
    except DamagedError as error:
        raise unreadable(run_id, error) from error
    return found


def seq_of(run_id: str, line: bytes) -> int:
    """Return the seq of an entry of a history."""
    try:
        return unpack_line(line)[0]
    except DamagedError as error:
        raise unreadable(run_id, error) from error


def records(flat: Sequence[Any]) -> list[RunRecord]:
    """Return the runs of a flat list of ids and hashes."""
    return [listed(run_id.decode(errors="replace"), has) for run_id, has in zip(flat[::2], flat[1::2], strict=True)]


def placed(flat: Sequence[Any]) -> list[RunRecord]:
    """Return the runs of a flat list of times, ids and hashes."""
    return [
        listed(run_id.decode(errors="replace"), has)._replace(created=float(created))
        for created, run_id, has in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]


def matches(run: RunRecord, filter: RunFilter) -> bool:
    """Return whether a run still matches the filter. A corrupt run matches, since its fields are unknown."""
    return (run.version, run.fingerprint, run.state) == ("", "", "") or filter.matches(run)


def could_go_on(run: RunRecord, now: float) -> bool:
    """Return whether a kernel can still claim and resume the run."""
    free = run.holder is None or run.expires is None or run.expires < now
    return free and run.status in (RunStatus.RUNNING, RunStatus.PARKED)


def signal(run_id: str, name: str, own: bool, id: bytes, known: bytes | None, payload: bytes | None) -> Signal:
    """Return the oldest unconsumed signal of a name. Raise SerializationError if it is corrupt."""
    try:
        if known is None or known[:1] != b"w" or known[17:].decode() != name:
            raise unreadable(run_id, f"its signal {id!r} is corrupt")
        _, to, its = key_of(own, id)
        return Signal(its, name, payload, own, to)
    except ValueError as error:
        raise unreadable(run_id, f"its signal {id!r} is corrupt: {error}") from error


def signals(run_id: str, *kinds: Any) -> Signals:
    """Return the waiting signals in their order, and the consumed ids. Raise SerializationError if one is corrupt.

    Args:
        run_id: the run.
        kinds: the signals of users, and the payloads of the waiting ones; then the same of the engine's own.
    """
    found: list[tuple[bytes, Signal]] = []
    consumed: list[SignalKey] = []
    try:
        for own, flat, payloads in zip((False, True), kinds[::2], kinds[1::2], strict=True):
            known, with_payload = unpaired(flat), unpaired(payloads)
            waiting = [(id, value) for id, value in known.items() if value[:1] == b"w"]
            gone = [key_of(own, id) for id, value in known.items() if value == b"c"]
            consumed += gone
            if len(waiting) + len(gone) != len(known) or with_payload.keys() - known.keys():
                raise unreadable(run_id, "its signals are corrupt")
            for id, value in waiting:
                _, to, its = key_of(own, id)
                found.append((value[1:17], Signal(its, value[17:].decode(), with_payload.get(id), own, to)))
    except (DamagedError, ValueError) as error:
        raise unreadable(run_id, f"its signals are corrupt: {error}") from error
    found.sort(key=itemgetter(0))
    return Signals.of([signal for _, signal in found], consumed)
