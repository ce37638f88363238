"""Looking after the runs of a store: renewing leases, taking over what nobody drives, hearing what others do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from cano import errors
from cano.durability.claiming import CANCEL, Taking
from cano.durability.holders import is_held
from cano.engine.run import Run
from cano.protocols import NotifyingStore, StoreBackend
from cano.records import RunFilter, RunRecord, RunStatus

if TYPE_CHECKING:
    from cano.engine.binding import Plan
    from cano.kernel.kernel import Kernel

_log = logging.getLogger("cano")
_AT_ONCE = 100


class Caretaking(Taking):
    """The part of `Durability` that looks after runs in the background."""

    def __init__(self, kernel: Kernel, backend: StoreBackend, *, lease: float, poll: float) -> None:
        super().__init__(kernel, backend, lease=lease, poll=poll)
        self._heard: set[str | None] = set()
        self._follower: asyncio.Task[None] | None = None
        if isinstance(backend, NotifyingStore):
            backend.watch(self.hear)

    # taking over

    async def recover(self, plans: list[Plan]) -> list[Run]:
        """Every run of these workflows that can go on and that nobody holds; from now on watch for more."""
        for plan in plans:
            self._know(plan)
            self._watched.add(plan.name)
        self.care()
        now = self._kernel.clock.time()
        running = await self.backend.runs(RunFilter(status=RunStatus.RUNNING))
        held_by_the_dead = [record for record in running if record.holder is not None and not is_held(record, now)]
        return [*await self._take_ready(), *await self._take_all(held_by_the_dead)]

    async def _take_ready(self) -> list[Run]:
        return await self._take_all(await self.backend.ready(self._kernel.clock.time()))

    async def _take_all(self, records: Iterable[RunRecord]) -> list[Run]:
        taken = []
        for record in records:
            plan = self._plans.get(record.workflow)
            if plan is None or not (record.workflow in self._watched or record.run_id in self._left):
                continue
            try:
                run = await self._take_and_drive(plan, record.run_id)
            except Exception as error:  # noqa: BLE001  # others can go on all the same
                self._cannot_go_on(record.run_id, error)
            else:
                taken += [] if run is None else [run]
        return taken

    async def _take_and_drive(self, plan: Plan, run_id: str) -> Run | None:
        run = await self._take(plan, await self.load(run_id))
        if run is not None:
            self._kernel.drive(run)
        return run

    def _cannot_go_on(self, run_id: str, error: Exception) -> None:
        """Say so, once."""
        if (run_id, str(error)) not in self._logged:
            self._logged.add((run_id, str(error)))
            _log.error("run %s cannot go on: %s", run_id, error, exc_info=not isinstance(error, errors.CanoError))

    # leases

    def care(self) -> None:
        """See to it that leases are renewed, from now on."""
        if self.capabilities.durable and (self._caretaker is None or self._caretaker.done()):
            self._caretaker = asyncio.get_running_loop().create_task(self._take_care(), name="cano caretaker")

    async def _take_care(self) -> None:
        """Renew leases, look for runs to take over, and wake who waits, as long as there is anything to do."""
        clock = self._kernel.clock
        renewed = clock.monotonic()
        while True:
            await clock.sleep(min(self._poll, self._lease / 3))
            try:
                if clock.monotonic() - renewed >= self._lease / 3:
                    renewed = clock.monotonic()
                    await self._renew()
                if self._watched or self._left:
                    await self._take_ready()
            except Exception as error:  # noqa: BLE001  # a store may be out of reach for a while
                self._out_of_reach(error)

    async def _renew(self) -> None:
        held = {run.run_id: run.journal for run in self._kernel.active.values() if run.journal is not None}
        if not held:
            return
        tokens = {run_id: journal.token for run_id, journal in held.items()}
        lost = await self.backend.renew(self.holder, tokens, self._kernel.clock.time() + self._lease)
        for run_id in lost:
            run = self._kernel.active.get(run_id)
            # unless it gave the lease back meanwhile, or does so right now
            if run is not None and run.journal is held[run_id] and not run.journal.leaving:
                run.lose()
        await self._cancel_asked(tuple(held))

    async def _cancel_asked(self, run_ids: Collection[str]) -> None:
        """Stop those of the runs driven here that somebody, anywhere, has asked to end."""
        held = [run for run in map(self._kernel.active.get, run_ids) if run is not None and run.journal is not None]
        for first in range(0, len(held), _AT_ONCE):
            some = held[first : first + _AT_ONCE]
            journals = [run.journal for run in some]
            asked = await asyncio.gather(*(self.backend.take_signal(run.run_id, CANCEL) for run in some))
            for run, journal, signal in zip(some, journals, asked, strict=True):
                # unless it was left meanwhile
                if signal is not None and journal is not None and self._kernel.active.get(run.run_id) is run:
                    journal.consumed = (*journal.consumed, signal.id)
                    run.stop(RunStatus.CANCELLED)

    def _out_of_reach(self, error: Exception) -> None:
        _log.warning("the store could not be asked: %r; trying again", error)

    # news

    def tell(self, run_id: str) -> None:
        """Wake who waits for the run here."""
        for news in self._news.get(run_id, ()):
            if not news.done():
                news.set_result(None)

    def hear(self, run_id: str | None) -> None:
        """The store says that others did something to a run, or, with None, perhaps to any."""
        self._heard.add(run_id)
        if self._follower is None and not self._kernel.closed:
            self._follower = self._kernel.spawn(self._follow())

    async def _follow(self) -> None:
        """Look at what was heard of, and at what comes in meanwhile."""
        try:
            while self._heard and not self._kernel.closed:
                heard, self._heard = self._heard, set()
                active = self._kernel.active.keys()
                concerned = {run_id for run_id in heard if run_id is not None}
                others = None in heard or not concerned <= active
                if None in heard:
                    concerned |= self._news.keys() | active
                for run_id in concerned:
                    self.tell(run_id)
                await self._cancel_asked(concerned)
                if others and (self._watched or self._left):
                    await self._take_ready()
        except Exception as error:  # noqa: BLE001  # a store may be out of reach for a while; the caretaker goes on
            self._out_of_reach(error)
        finally:
            self._follower = None
