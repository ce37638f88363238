"""Reads all that a store knows of one run, and waits for the ends of runs that others execute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from cano import RunFilter, RunInterruptedError, RunRecord, RunStatus, RunView, SerializationError
from cano.engine.ports import Host

from cano_durability.bounds import off_loop
from cano_durability.lateness.expectations import lateness_of
from cano_durability.looking.progress import progress_of
from cano_durability.recovery.leases import with_status_at
from cano_durability.recovery.waiting import Waiters
from cano_durability.stored_runs import StoredRuns

V = TypeVar("V")

CHILDREN = 100
"""The most children that a view names."""


class Viewer:
    """Looks at the runs of one store. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns, waiters: Waiters, listen: Callable[[], bool]) -> None:
        self._kernel = kernel
        self._stored = stored
        self._waiters = waiters
        self._listen = listen  # follows the store's notifications; see `Caretaker.start`

    async def get(self, run_id: str) -> RunView:
        """See `Kernel.get`."""
        return await self._view(await self._stored.record(run_id))

    async def ended(self, run_id: str) -> RunView:
        """See `RunKeeper.ended`."""
        while True:
            with self._waiters.waiter(run_id) as changed:
                if (run := self._kernel.active.get(run_id)) is not None:
                    await run.ended()
                if self._kernel.closed:
                    message = f"the kernel closed before run {run_id} ended; ask another kernel for its result"
                    raise RunInterruptedError(message, run_id=run_id)
                record = await self._stored.record(run_id)
                if record.status.finished and run_id not in self._kernel.active:  # otherwise it is about to leave
                    return await self._view(record)
                if run_id not in self._kernel.active and not self._listen():
                    await self._waiters.change(changed, self._kernel.poll if self._stored.durable else None)

    async def _view(self, stored_record: RunRecord) -> RunView:
        stored, run_id = self._stored, stored_record.run_id
        migrated = _readable(lambda: stored.migrated(stored_record)) or stored_record
        record = with_status_at(migrated, stored.now())
        children = await stored.backend.runs(RunFilter(parent=run_id, limit=CHILDREN))
        signals = await stored.backend.signals(run_id)
        data, unreadable = await off_loop(len(record.data), lambda: self._decoded(record), stored.clock)
        payload = None
        if record.payload is not None:
            try:
                payload = stored.values_of(record.workflow).payload(record.payload, run_id)
            except SerializationError as error:
                unreadable[""] = str(error)
        limit = _readable(lambda: stored.limit(record))
        attributes = _readable(lambda: stored.attributes(record).values)
        held = record.status is RunStatus.RUNNING
        return RunView(
            run_id, record.workflow, record.version, record.status, record.state, record.seq, data, unreadable,
            stored.error(record), record.wait, record.wait_token, payload,
            tuple(signal.name for signal in signals.waiting if not signal.own), record.parent,
            tuple(child.run_id for child in children), _readable(lambda: stored.origin(run_id, record.own)),
            None if limit is None else limit[1], record.created, record.updated, record.holder if held else None,
            record.expires if held else None, progress_of(self._kernel, stored, record),
            attributes or {}, tuple(lateness_of(stored.values, record).found(record.status)), stored.now(), record.lane,
        )  # fmt: skip

    def _decoded(self, record: RunRecord) -> tuple[Mapping[str, Any], dict[str, str]]:
        """Return the values of the run's data, and for those that this process cannot read the reasons."""
        values, data, unreadable = self._stored.values_of(record.workflow), {}, {}
        total = values.total()
        for key in record.data:
            try:  # of an encrypted store, to look up a value is to decrypt it
                data[key] = values.decode(key, record.data[key], record.run_id, total=total)
            except SerializationError as error:
                unreadable[key] = str(error)
        return data, unreadable


def _readable(read: Callable[[], V | None]) -> V | None:
    """Return a value of the engine's, or None if it cannot be read: `explain` and `check` say so."""
    with suppress(SerializationError, TypeError, ValueError):
        return read()
    return None
