"""Forks stored runs: time travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cano import (
    Appended,
    ConfigurationError,
    HistoryDiscardedError,
    RunRecord,
    RunStatus,
    StoreBackend,
    Transition,
    read_history,
)
from cano.engine.ports import Host, check_key, check_type, declared_keys, unpack_key

from cano_durability.identity import was_discarded
from cano_durability.inspection.promises import require
from cano_durability.keys import (
    ATTRIBUTES,
    BY,
    CAPPED,
    DEADLINE,
    DEFINITION,
    FIRST,
    LASTING,
    LATE,
    NOTICES,
    ORIGIN,
    PAYLOAD,
    PROGRESS,
    STREAMS,
    TRACEBACK,
    VISIT,
    WAIT,
)
from cano_durability.lateness.watching import LateRuns
from cano_durability.searching.attributes import Kept, is_value
from cano_durability.stored_runs import StoredRuns
from cano_durability.waits import kept_wait

AT_ONCE = 1000
"""The most entries that are read together."""


async def fork(
    kernel: Host,
    stored: StoredRuns,
    late: LateRuns,
    run_id: str,
    seq: int,
    new_run_id: str,
    changes: Mapping[Any, Any],
    removed: Sequence[Any],
) -> str:
    """See `Kernel.fork`."""
    require(kernel, "history")
    values, record = stored.values, await stored.record(run_id)
    changed = _encoded(kernel, stored, record, changes, new_run_id) if changes else {}
    entries = await _entries(stored.backend, run_id, seq)
    first = entries[:1] or await read_history(stored.backend, run_id, limit=1)
    if first and was_discarded(record, first[0]):
        raise HistoryDiscardedError(
            f"run {run_id} cannot be forked: the history before transition {first[0].seq} was discarded, and its data "
            f"at transition {seq!r} is not known; start a run with the data that it needs",
            run_id=run_id, first=first[0].seq,
        )  # fmt: skip
    if not entries or (point := entries[-1]).seq != seq:
        numbers = [entry.seq for entry in await stored.backend.history(run_id)]
        whole = len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1  # or some commits made several
        known = f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers)) or "none"
        raise ConfigurationError(f"run {run_id} has no transition {seq!r}; there are: {known}", run_id=run_id)
    data: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for entry in entries:
        Appended.gather(data, entry.changed, entry.removed)
        own = {name: value for name, value in own.items() if name in LASTING and name not in entry.own_removed}
        own.update(entry.own)
    payload, kept = own.pop(PAYLOAD, None), kept_wait(values, record, own)
    if record.seq == seq and record.status is not RunStatus.SUCCEEDED:  # a signal may have ended its wait
        payload, kept = record.payload, stored.wait(record)
        point = point._replace(state=record.state)  # it may have migrated to another definition there
        own |= {name: record.own[name] for name in (DEFINITION,) if name in record.own}
    elif point.status is RunStatus.PARKED and kept is None:
        raise ConfigurationError(
            f"an earlier version parked run {run_id} at transition {seq} and kept no wait in the history; fork an "
            "earlier transition, so that it waits again",
            run_id=run_id, state=point.state,
        )  # fmt: skip
    created, now, due = stored.unique_now(), stored.now(), None
    if (limit := stored.limit(record)) is not None:
        due = now + limit[0]
        own |= values.encode_own({DEADLINE: (limit[0], due)})
    own |= values.encode_own({ORIGIN: (run_id, seq)})
    for name in (WAIT, BY, FIRST, PROGRESS, STREAMS, TRACEBACK, LATE, VISIT, CAPPED, NOTICES):
        own.pop(name, None)
    if kept is not None:
        kept = kept.begun_at(now)
        own |= values.encode_own({WAIT: kept.packed()})
    elif payload is not None:
        own[PAYLOAD] = payload
    data = _edited(Appended.gathered(data), changed, removed, run_id, seq)
    attributes = stored.attributes(record._replace(run_id=new_run_id, own=own))
    if (changes or removed) and (edited := _edited_attributes(kernel, stored, attributes, record.workflow, data)):
        attributes = edited
        own |= values.encode_own({ATTRIBUTES: edited.packed()})
    forked = RunRecord(
        run_id=new_run_id, workflow=record.workflow, version=record.version, fingerprint=record.fingerprint,
        state=point.state, seq=seq, data=data, own=own,
        status=RunStatus.RUNNING if kept is None else RunStatus.PARKED,
        wait=None if kept is None else kept.before(due), payload=payload if kept is None else None,
        created=created, updated=created, holder=stored.holder, expires=created, token=1,
        attributes=attributes.encoded(), lane=record.lane,
    )  # fmt: skip
    if forked.wait is not None and (plan := stored.plan_of(record.workflow)) is not None:
        wait, capped = late.capped(plan, forked, forked.wait)
        forked = forked._replace(wait=wait, own=own | capped)
    audit = stored.audited(new_run_id, "fork", f"of {run_id} after transition {seq}")
    with stored.holding:
        try:
            if new_run_id in kernel.active or await stored.create(forked, *audit) is not None:
                raise ConfigurationError(f"the run id {new_run_id!r} is in use; fork to another", run_id=new_run_id)
            await stored.backend.release(new_run_id, 1)
        except BaseException:
            await stored.let_go(new_run_id, created)
            raise
    return new_run_id


def _encoded(
    kernel: Host, stored: StoredRuns, record: RunRecord, changes: Mapping[Any, Any], new_run_id: str
) -> dict[str, Any]:
    """Return the values that a fork's data gets, as the store keeps them. Raises TypeMismatchError."""
    plan = stored.plan_of(record.workflow) or kernel.bound.get(record.workflow)
    declared = set() if plan is None else declared_keys(plan.flow)
    given: dict[str, Any] = {}
    for key, value in changes.items():
        name, expected = unpack_key(key, None)
        check_key(name)
        kernel.limits.check("names", "the key", name)
        if name in given:
            raise ConfigurationError(f"changes has the key {name!r} twice; name it once", key=name)
        for type in (expected, *(each.type for each in declared if each.name == name)):
            if type is not None:
                check_type(name, value, type)
        given[name] = value
    encode = stored.values_of(record.workflow).encode
    return {name: encode(name, value, new_run_id) for name, value in given.items()}


def _edited(
    data: dict[str, Any], changed: dict[str, Any], removed: Sequence[Any], run_id: str, seq: int
) -> dict[str, Any]:
    """Return a fork's data with the changes of the caller. Raises ConfigurationError."""
    for name in (unpack_key(key, None)[0] for key in removed):
        if name in changed or name not in data:
            there = ", ".join(map(repr, sorted(data)[:20])) or "none"
            problem = "is among the changes, too" if name in changed else f"is not in the data; there are: {there}"
            message = f"the key {name!r}, to be removed from the data of run {run_id} after transition {seq}, {problem}"
            raise ConfigurationError(message, run_id=run_id, key=name)
        del data[name]
    return data | changed


def _edited_attributes(
    kernel: Host, stored: StoredRuns, kept: Kept, workflow: str, data: Mapping[str, Any]
) -> Kept | None:
    """Return the search attributes of a fork whose data was changed; None if they do not change.

    Without the workflow, only the attributes that the run has are known.
    """
    plan = stored.plan_of(workflow) or kernel.bound.get(workflow)
    decode = stored.values_of(workflow).decode

    def find(name: str) -> Any:
        return decode(name, data[name], "") if name in data else None

    if plan is not None:
        return stored.tracked(plan, "", kept).next(find) if plan.flow.attributes else None
    values = {name: value if name in kept.set else find(name) for name, value in kept.values.items()}
    return kept._replace(values={name: value for name, value in values.items() if is_value(value)})


async def _entries(backend: StoreBackend, run_id: str, seq: int) -> list[Transition]:
    """Return the history up to transition `seq`, and little more of it is read."""
    page = min(seq + 1, AT_ONCE) if backend.capabilities.history_pages else None  # others read all each time
    entries: list[Transition] = []
    while some := await read_history(backend, run_id, entries[-1].seq if entries else None, page):
        entries += [entry for entry in some if entry.seq <= seq]
        if page is None or len(some) < page or some[-1].seq >= seq:
            break
    return entries
