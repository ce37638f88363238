"""Encrypts the values of a store again: in the newest form, and with the present key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, cast

from cano import (
    Appended,
    AuditEntry,
    AuditingStore,
    ConflictError,
    PermanentStoreError,
    RewritingStore,
    RunFilter,
    RunRecord,
)
from cano.engine.ports import lives

from cano_durability.inspection.durations import duration
from cano_durability.keys import IMPORTED, MARK
from cano_durability.recovery.leases import after_lease
from cano_durability.restating import put_back
from cano_durability.sealing.marks import renew_mark
from cano_durability.sealing.renewing import Sealed, renew_history, renew_signals, renew_streams, stale
from cano_durability.sealing.seals import SEAL

LEASE = 60.0
"""Seconds of a claim, which is renewed for each part of a history."""


class Reencrypted(NamedTuple):
    """The result for one run.

    Attributes:
        run_id: the run, or an id for which signals wait.
        values: number of values that were encrypted again, in its history, waiting signals and streams, too.
        problem: why the run was left as it is; None if it was not.
        left: number of values in its history, waiting signals and streams that other keys still encrypt, since the
            store cannot replace them.
    """

    run_id: str
    values: int = 0
    problem: str | None = None
    left: int = 0


async def reencrypted(
    store: Sealed, holder: str, now: Callable[[], float], actor: str | None
) -> AsyncIterator[Reencrypted]:
    """Encrypt the values of all runs again, and yield the result for each.

    When every run has a seal, and no signal waits that an earlier version sent, the store no longer accepts what has
    none.

    Args:
        store: the open store.
        holder: the name under which this process claims the runs.
        now: returns the wall-clock time in seconds.
        actor: who asked for it, for the store's audit; None for no entry.
    """
    complete = True
    ids = [record.run_id for record in await store.inner.runs(RunFilter()) if record.run_id != MARK]
    for run_id in [*ids, *(each for each in await store.inner.missing_recipients() if each not in ids)]:
        renewal = _Renewal(store, run_id, holder, now, actor)
        try:
            result = await renewal.result()
        except ConflictError:
            result = Reencrypted(run_id, problem=await renewal.held())
        except PermanentStoreError as error:
            result = Reencrypted(run_id, problem=str(error))
        complete &= result.problem is None
        if result != Reencrypted(run_id) or run_id in ids:
            yield result
    if complete:
        await renew_mark(store.inner, store.layer, store.place)


class _Renewal:
    """The encryption of one run, and of the signals that wait for it. `reencrypted` has the arguments."""

    def __init__(self, store: Sealed, run_id: str, holder: str, now: Callable[[], float], actor: str | None) -> None:
        self._store = store
        self._run_id = run_id
        self._holder = holder
        self._now = now
        self._token = 0
        self._rewrites = isinstance(store.inner, RewritingStore)
        audited = actor is not None and store.capabilities.audit
        self._audit = [AuditEntry(run_id, "reencrypt", actor or "", now())] if audited else []

    async def result(self) -> Reencrypted:
        """Encrypt what is not as it should be.

        Raises:
            ConflictError: another process executes or has claimed the run.
        """
        store, run_id = self._store, self._run_id
        stored = await store.inner.load(run_id)
        values = old = 0
        if stored is not None:
            old = await self._old_history()
            present = SEAL not in stored.own or stale(store.layer, stored.data, stored.own)
            values = await self._renew(stored, old > 0) if present or (old and self._rewrites) else 0
        renewed, left = await renew_streams(store, run_id)
        values += renewed
        if self._rewrites:
            values += (signals := await renew_signals(store, run_id))
            if values and values == signals + renewed:
                await self._add_audit()
            return Reencrypted(run_id, values, left=left)
        waiting = (await store.inner.signals(run_id)).waiting
        unbound = next((each.name for each in waiting if not store.is_bound(run_id, each)), None)
        problem = None if unbound is None else f"a signal {unbound!r} of an earlier version waits for it"
        old += sum(each.payload is not None and not store.layer.is_current(each.payload) for each in waiting)
        return Reencrypted(run_id, values, problem, old + left)

    async def _old_history(self) -> int:
        """Return the number of values in the history that are not encrypted as new ones are."""
        entries = await self._store.inner.history(self._run_id)
        return sum(len(stale(self._store.layer, entry.changed, entry.own)) for entry in entries)

    async def _renew(self, record: RunRecord, history: bool) -> int:
        """Encrypt the run's present values, and its history. Return the number of values.

        The last write releases the lease, so that no run waits for a killed process.
        """
        store, run_id, history = self._store, self._run_id, history and self._rewrites
        self._token = await self._claim(record)
        free = record.holder != IMPORTED
        try:
            stored, run = await store.inner.load(run_id), await store.load(run_id)
            if stored is None or run is None:
                return 0
            old, keys = stale(store.layer, stored.data, stored.own), list(stored.data)
            parted = [(False, key) in old and stored.data[key].__class__ is Appended for key in keys]
            removed = keys[parted.index(True) :] if True in parted else []  # set again, so that nothing is appended
            changed = {key: run.data[key] for key in keys if (False, key) in old or key in removed}
            own = {name: run.own[name] for name in run.own if (True, name) in old}
            commit = put_back(run)._replace(  # a queued run keeps its place
                token=self._token, changed=changed, removed=removed, own=own, release=free and not history
            )
            if self._rewrites:  # a process that needs no lease, such as a schedule's, may have sealed a commit by now
                await store.rewrite_present(commit)
                self._token += 1
                await self._add_audit()
            else:
                await store.commit(commit, *self._audit)
            count = await renew_history(store, run_id, self._hold(record), release=free) if history else 0
            return len(changed) + len(own) + count
        finally:
            for token in (self._token - 1, self._token) if free else ():  # the last rewriting may have failed
                await store.release(run_id, token)

    async def _add_audit(self) -> None:
        if self._audit:
            await cast(AuditingStore, self._store.inner).add_audit(self._audit)

    async def _claim(self, record: RunRecord) -> int:
        """Claim the run, at once if its holder is dead. Return the fencing token. Raises ConflictError."""
        run_id = self._run_id
        for at in (self._now(), after_lease(record, imported=True)):
            if at is not None:
                token = await self._store.claim(run_id, *self._lease(record, at))
                if token is not None:
                    return token
        raise ConflictError(f"the run {run_id!r} is held", run_id=run_id)

    def _lease(self, record: RunRecord, at: float) -> tuple[str, float, float]:
        """Return the arguments of a claim at that time. An imported run stays held: no worker is to execute it."""
        if record.holder == IMPORTED and record.expires is not None:
            return IMPORTED, at, record.expires
        return self._holder, at, self._now() + LEASE

    def _hold(self, record: RunRecord) -> Callable[[], Awaitable[int]]:
        async def hold() -> int:
            token, (holder, _, expires) = self._token, self._lease(record, 0)
            if await self._store.renew(holder, {self._run_id: token}, expires):
                raise ConflictError(f"the run {self._run_id!r} was claimed", run_id=self._run_id)
            self._token += 1  # the rewriting that follows raises it
            return token

        return hold

    async def held(self) -> str:
        """Return why the run could not be claimed or changed, with the remedy."""
        record = await self._store.inner.load(self._run_id)
        if record is None or record.holder is None or record.expires is None:
            return "another process has just changed it; repeat the command"
        if lives(record.holder):
            return f"{record.holder} executes it; repeat the command when it has ended or is parked"
        left = duration(max(record.expires - self._now(), 0))
        return f"{record.holder} holds it for {left}, and longer if it lives; repeat the command then"
