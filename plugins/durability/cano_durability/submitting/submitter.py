"""Stores runs that this process does not execute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from cano import ConfigurationError, Lane, RunRecord, RunStatus, StoreView, Wait
from cano.engine.ports import BoundWorkflow, Host, Submission

from cano_durability.identity import Identity
from cano_durability.inspection.promises import require
from cano_durability.keys import WAIT
from cano_durability.stored_runs import StoredRuns
from cano_durability.waits import KeptWait

AT_ONCE = 100
"""The most runs that are stored together: their calls share the store's syncs."""


class Submitter:
    """Submits runs of one workflow."""

    def __init__(self, kernel: Host, stored: StoredRuns, plan: BoundWorkflow, asked: Submission) -> None:
        require(kernel, "durable")
        if asked.lane != Lane():
            require(kernel, "queues")
        self._lane = asked.lane if stored.backend.capabilities.queues else None
        stored.register(plan)
        self._kernel = kernel
        self._stored = stored
        self._plan = plan
        self._asked = asked

    async def submit(self) -> int:
        """Store a run for each row, group by group, and return their number."""
        number, group = 0, list[tuple[str, Any]]()
        async for row in _each(self._asked.rows):
            number += 1
            group.append((self._asked.id_of(number), row))
            if len(group) == AT_ONCE:
                await self._store(group)
                group.clear()
        await self._store(group)
        return number

    async def _store(self, group: Iterable[tuple[str, Any]]) -> None:
        """Store the runs of a group. Raise the first error when all of them have been tried."""
        work = [self._store_one(run_id, data) for run_id, data in group]
        for error in await asyncio.gather(*work, return_exceptions=True):
            if error is not None:
                raise error

    async def _store_one(self, run_id: str, data: Any) -> None:
        self._kernel.limits.check("ids", "the run id", run_id)
        view = self._asked.view_of(data)
        if not isinstance(view, StoreView):
            message = f"the data of a run that is submitted must be a mapping, not of type {type(view).__name__}"
            raise ConfigurationError(message, run_id=run_id)
        plan, on_existing = self._plan, self._asked.on_existing
        if on_existing == "same-data" and data is None:
            on_existing = "return"
        identity = Identity(self._stored, plan, run_id, view, None, on_existing, None)
        if (running := self._kernel.active.get(run_id)) is not None:
            await identity.check_running(running)
            return
        record = await self._stored.new_record(plan, view, run_id, None, None, await identity.kept())
        if (found := await self._stored.create(self._unheld(record))) is not None:
            await identity.check(found)

    def _unheld(self, record: RunRecord) -> RunRecord:
        """Return the record of a new run without a holder; with a delay, it is parked until then."""
        record = record._replace(holder=None, expires=None, token=0, lane=self._lane)
        if self._asked.delay is None:
            return record
        wait = Wait(record.state, until=record.created + self._asked.delay)
        own = self._stored.values.encode_own({WAIT: KeptWait(wait).packed()}, record.run_id)
        return record._replace(status=RunStatus.PARKED, wait=wait, own={**record.own, **own})


async def _each(rows: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row
