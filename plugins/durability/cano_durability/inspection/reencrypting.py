"""Encrypts the present values of a store again: in the newest form, and with the present key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from cano import (
    Appended,
    AuditEntry,
    ConflictError,
    ContextLayer,
    LayerContext,
    PermanentStoreError,
    RunFilter,
    Signal,
    StoreBackend,
)

from cano_durability.keys import MARK
from cano_durability.restating import restated
from cano_durability.sealing.marks import renew_mark
from cano_durability.sealing.seals import SEAL, Name

HELD = "a process executes it; repeat the command when it has ended"


class Reencrypted(NamedTuple):
    """The result for one run.

    Attributes:
        run_id: the run.
        values: number of values that were encrypted again.
        problem: why the run was left as it is; None if it was not.
        left: number of values in its history, and of signals that wait for it, that other keys still encrypt.
    """

    run_id: str
    values: int = 0
    problem: str | None = None
    left: int = 0


class Sealed(StoreBackend, Protocol):
    """A store that seals runs. See `SealedStore`."""

    inner: StoreBackend
    layer: ContextLayer
    place: LayerContext

    def is_bound(self, run_id: str, signal: Signal) -> bool:
        """Return whether a stored signal was sealed when it was sent."""
        ...


async def reencrypted(
    store: Sealed, holder: str, now: Callable[[], float], actor: str | None
) -> AsyncIterator[Reencrypted]:
    """Encrypt the values of all runs again, and yield the result for each.

    The values in histories stay as they are; the seal of their run vouches for them. When every run has a seal, and no
    signal waits that an earlier version sent, the store no longer accepts what has none.

    Args:
        store: the open store.
        holder: the name under which this process claims the runs.
        now: returns the wall-clock time in seconds.
        actor: who asked for it, for the store's audit; None for no entry.
    """
    complete = True
    ids = [record.run_id for record in await store.inner.runs(RunFilter()) if record.run_id != MARK]
    for run_id in ids:
        try:
            result = await _reencrypted(store, run_id, holder, now(), actor)
            result = result._replace(left=await _left(store, run_id))
        except ConflictError:
            result = Reencrypted(run_id, problem=HELD)
        except PermanentStoreError as error:
            result = Reencrypted(run_id, problem=str(error))
        complete &= result.problem is None
        yield result
    for run_id in [*ids, *(missing := await store.inner.missing_recipients())]:
        old = [each for each in (await store.inner.signals(run_id)).waiting if not store.is_bound(run_id, each)]
        complete &= not old
        if old:
            yield Reencrypted(run_id, problem=f"a signal {old[0].name!r} of an earlier version waits for it")
        if run_id in missing and (left := await _left(store, run_id)):
            yield Reencrypted(run_id, left=left)
    if complete:
        await renew_mark(store.inner, store.layer, store.place)


async def _reencrypted(store: Sealed, run_id: str, holder: str, now: float, actor: str | None) -> Reencrypted:
    """Encrypt the values of a run again, unless they are as they should be."""
    stored = await store.inner.load(run_id)
    if stored is None or not (SEAL not in stored.own or _stale(store, stored.data, stored.own)):
        return Reencrypted(run_id)
    token = await store.claim(run_id, holder, now, now + 60)
    if token is None:
        return Reencrypted(run_id, problem=HELD)
    try:
        stored, record = await store.inner.load(run_id), await store.load(run_id)
        if stored is None or record is None:
            return Reencrypted(run_id)
        stale, keys = _stale(store, stored.data, stored.own), list(stored.data)
        parted = [(False, key) in stale and stored.data[key].__class__ is Appended for key in keys]
        removed = keys[parted.index(True) :] if True in parted else []  # set again, so that nothing is appended
        changed = {key: record.data[key] for key in keys if (False, key) in stale or key in removed}
        own = {name: record.own[name] for name in record.own if (True, name) in stale}
        audit = [] if actor is None or not store.capabilities.audit else [AuditEntry(run_id, "reencrypt", actor, now)]
        commit = restated(record, token, record.updated)._replace(
            changed=changed, removed=removed, own=own, release=True
        )
        await store.commit(commit, *audit)
    finally:
        await store.release(run_id, token)
    return Reencrypted(run_id, len(changed) + len(own))


async def _left(store: Sealed, run_id: str) -> int:
    """Count the values in a run's history and waiting signals that are not encrypted as new ones are."""
    stale = sum([len(_stale(store, entry.changed, entry.own)) for entry in await store.inner.history(run_id)])
    waiting = (await store.inner.signals(run_id)).waiting
    return stale + sum(each.payload is not None and not store.layer.is_current(each.payload) for each in waiting)


def _stale(store: Sealed, data: Mapping[str, Any], own_values: Mapping[str, Any]) -> set[Name]:
    """Return the names of the stored values that are not encrypted as new ones are."""
    values = ((own, name, value) for own, some in ((False, data), (True, own_values)) for name, value in some.items())
    return {
        (own, name)
        for own, name, value in values
        if not all(map(store.layer.is_current, value if value.__class__ is Appended else (value,)))
    }
