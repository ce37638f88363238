"""Cancels runs in any process, with their children."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import chain

from cano import (
    AuditEntry,
    Commit,
    ConflictError,
    PermanentStoreError,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    StoreError,
    is_held,
)
from cano.engine.ports import Host
from cano.safe_text import escaped

from cano_durability.failures import cancelled_child
from cano_durability.families.lineage import announce_end
from cano_durability.keys import AWAITED, CANCEL, WITH_PARENT
from cano_durability.recovery.leases import Leases, journal_of
from cano_durability.recovery.waiting import Alarms, Waiters
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.stored_runs import StoredRuns
from cano_durability.streaming.streams import Streams

UNFINISHED = RunStatus.RUNNING, RunStatus.PARKED
_log = logging.getLogger("cano")


class Canceller:
    """Cancels runs: those of this kernel at once, those of others by a signal to their holders."""

    def __init__(
        self,
        kernel: Host,
        stored: StoredRuns,
        leases: Leases,
        watchlist: Watchlist,
        alarms: Alarms,
        waiters: Waiters,
        streams: Streams,
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._leases = leases
        self._watchlist = watchlist
        self._alarms = alarms
        self._waiters = waiters
        self._streams = streams

    async def cancel(self, run_id: str, *, with_parent: bool = False) -> bool:
        """Cancel a run in any process. Return False if it has already ended.

        Args:
            run_id: the run.
            with_parent: whether it ends only because its parent, or the attempt that waits for it, does.

        Raises:
            RunNotFoundError: there is no such run.
        """
        if (run := self._kernel.active.get(run_id)) is not None:
            run.stop(RunStatus.CANCELLED, with_parent=with_parent)
            if run.journal is None or not run.interrupted():
                return True
            if not run.driven_by(asyncio.current_task()):
                await run.ended()  # its interruption came first, and another process may hold the run by now
        record, corrupt = await self._stored.head(run_id)
        if record.status.finished:
            return False
        id = f"{WITH_PARENT if with_parent else CANCEL} {record.token}"
        audit = () if with_parent else self._stored.audited(run_id, "cancel")
        try:
            # the holder checks for this signal when it renews leases or releases an unfinished run
            await self._stored.backend.put_signal(run_id, Signal(id, CANCEL, own=True), *audit)
            audit = ()
        except SerializationError as error:
            corrupt = corrupt or error
        try:
            with self._stored.holding:
                cancelled = await self.cancel_unheld(record, audit)
        except (SerializationError, ConflictError) as error:
            if corrupt is None:
                raise
            raise _not_cancelled(run_id, error) from error
        if corrupt is not None and not cancelled and not is_held(record, self._stored.now()):
            raise _not_cancelled(run_id, corrupt) from corrupt
        return True

    async def request(self, run_id: str) -> Signal | None:
        """Return the signal that requests the run's cancellation, or None if there is none."""
        return await self._stored.backend.next_signal(run_id, CANCEL, True)

    async def cancel_unheld(self, record: RunRecord, audit: tuple[AuditEntry, ...] = ()) -> bool:
        """Cancel a run that no live process holds. Return False if one does: the holder cancels it."""
        run_id = record.run_id
        token = await self._leases.claim(record, imported=True)
        if token is None:
            return False
        try:
            record, corrupt = await self._stored.head(run_id)
            if not record.status.finished:
                if corrupt is not None:
                    record = await self._placed(record, token)
                request = None
                with suppress(SerializationError):  # corrupt signals must not keep the run alive
                    request = await self.request(run_id)
                await self.commit(record, request, audit)
                return True
            await self._stored.backend.release(run_id, token)
        except BaseException:
            await self._leases.release(run_id, token)
            raise
        return True

    async def _placed(self, record: RunRecord, token: int) -> RunRecord:
        """Return the listed record of a corrupt run with its place, which its history may know. A list may not."""
        if record.token == token:
            return record
        for entry in await self._stored.backend.history(record.run_id):
            record = record._replace(token=token, seq=entry.seq, state=entry.state)
        return record

    async def commit(self, record: RunRecord, request: Signal | None, audit: tuple[AuditEntry, ...] = ()) -> None:
        """Cancel the children of a run that this kernel has just claimed; then commit that it is cancelled, too.

        If that is cut short, the run's request remains, so that the next process to claim the run finishes it.
        """
        await self.cancel_children(record.run_id)
        error = None if request is not None and _with_parent(request) else cancelled_child(record)
        if record.parent is not None and AWAITED in record.own:
            await announce_end(self._stored.backend, record.parent, record.run_id, record.token)
        chunks, own = await self._streams.last_chunks(record)
        await self._stored.backend.commit(
            Commit(
                run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.CANCELLED, error=error, own=own, own_consumed=() if request is None else (request.id,),
                chunks=chunks, release=True, at=self._stored.now(),
            ),
            *audit,
        )  # fmt: skip
        self._alarms.cancel(record.run_id)
        self._watchlist.parked.pop(record.run_id, None)
        self._waiters.notify(record.run_id)
        if record.parent is not None and AWAITED in record.own:
            self._alarms.wake(record.parent)

    async def cancel_children(self, run_id: str) -> None:
        """Cancel the unfinished children of a run, also beside a child that is corrupt and cannot be cancelled."""
        runs = self._stored.backend.runs
        unfinished = [await runs(RunFilter(parent=run_id, status=status)) for status in UNFINISHED]
        for child in sorted(chain.from_iterable(unfinished), key=lambda child: child.place, reverse=True):
            try:
                active = self._kernel.active.get(child.run_id)
                await self.cancel(child.run_id, with_parent=True)
                if active is not None and not active.driven_by(asyncio.current_task()):
                    await active.ended()
            except PermanentStoreError as error:
                _log.warning("a child of run %s was not cancelled: %s", escaped(run_id), escaped(str(error)))

    def stop(self, run_id: str, signal: Signal) -> None:
        """Stop a run that this kernel executes. Another process has requested that with `signal`."""
        run = self._kernel.active[run_id]
        journal = journal_of(run)
        journal.own_consumed, journal.requested = (*journal.own_consumed, signal.id), True
        run.stop(RunStatus.CANCELLED, with_parent=_with_parent(signal))


def is_final(request: Signal, record: RunRecord) -> bool:
    """Return whether `request` also applies to a child that ended before it was read: no retry may resume it then."""
    return record.parent is not None and not _with_parent(request)


def _with_parent(request: Signal) -> bool:
    """Return whether `request` is one to end a run together with its parent, or with the attempt that waits for it."""
    return request.id.startswith(WITH_PARENT)


def _not_cancelled(run_id: str, problem: StoreError) -> SerializationError:
    message = f"run {run_id} is corrupt, so that only a process that executes it can cancel it; to delete it, call "
    return SerializationError(f"{message}kernel.delete({run_id!r}): {problem}", run_id=run_id)
