"""Takes over runs in the store that can continue, cancels runs on request, and handles the store's notifications."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable

from cano import CanoError, NotifyingStore, Run, RunFilter, RunRecord, RunStatus, is_held
from cano.engine.ports import BoundWorkflow, Host

from cano_durability.cancelling import Canceller
from cano_durability.claiming import Claimer
from cano_durability.recovery.heart import Heart
from cano_durability.recovery.waiting import Waiters
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.stored_runs import StoredRuns

_AT_ONCE = 100
_log = logging.getLogger("cano")


class Caretaker:
    """Takes over the runs on the watchlist of one kernel that can continue, and cancels runs on request."""

    def __init__(
        self,
        kernel: Host,
        stored: StoredRuns,
        heart: Heart,
        watchlist: Watchlist,
        waiters: Waiters,
        claimer: Claimer,
        canceller: Canceller,
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._heart = heart
        self._watchlist = watchlist
        self._waiters = waiters
        self._claimer = claimer
        self._canceller = canceller
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()  # one takeover at a time, so that `recover` returns every run that is ready
        self._concurrency: int | None = None  # maximum number of taken-over runs that are executed here at once
        self._taken: set[str] = set()  # ids of the taken-over runs that are executed here
        self._refilling = False
        self._logged: set[tuple[str, str]] = set()
        self._changed: set[str | None] = set()  # runs that notifications named, None for any
        self._follower: asyncio.Task[None] | None = None
        if isinstance(stored.backend, NotifyingStore):
            stored.backend.watch(self._notified)

    def look_after(self, run: Run) -> Run:
        """Start the background work for a run that is about to be executed here, and return the run."""
        self._heart.start(run)
        self.start()
        return run

    def start(self) -> None:
        """Start the background task, unless it runs already or the store needs none."""
        if self._stored.durable and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work(), name="cano caretaker")

    async def close(self) -> None:
        """Stop the background tasks."""
        await self._heart.close()
        if self._task is not None and not self._task.done():  # done: its event loop has ended
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        """Cancel runs on request, and take over runs, until it is cancelled."""
        clock, lease = self._kernel.clock, self._stored.lease
        checked = clock.monotonic()
        while True:
            await clock.sleep(min(self._kernel.poll, lease / 3))
            try:
                if clock.monotonic() - checked >= lease / 3:
                    checked = clock.monotonic()
                    await self._cancel_requested(tuple(self._kernel.active))
                if self._watchlist:
                    await self._take_over_ready()
            except Exception as error:  # noqa: BLE001  # a store may be unreachable for a while
                _log_retry(error)

    # taking over

    async def recover(self, plans: Iterable[BoundWorkflow], concurrency: int | None) -> list[Run]:
        """See `RunKeeper.recover`."""
        self._concurrency = concurrency
        for plan in plans:
            self._stored.register(plan)
            self._watchlist.workflows.add(plan.name)
        self.start()
        taken = await self._take_over_ready()
        now = self._stored.now()
        running = await self._stored.backend.runs(RunFilter(status=RunStatus.RUNNING))
        held_by_dead = [record for record in running if record.holder is not None and not is_held(record, now)]
        async with self._lock:
            return [*taken, *await self._take_over_all(held_by_dead)]

    async def _take_over_ready(self) -> list[Run]:
        async with self._lock:
            if not self._free_slots():
                return []
            return await self._take_over_all(await self._stored.backend.ready(self._stored.now()))

    def _free_slots(self) -> int:
        """Return the number of runs that this kernel may take over now."""
        return _AT_ONCE if self._concurrency is None else min(_AT_ONCE, self._concurrency - len(self._taken))

    async def _take_over_all(self, records: Iterable[RunRecord]) -> list[Run]:
        """Take over runs in groups: the claims of a group share the store's syncs."""
        waiting = deque(record for record in records if record in self._watchlist)
        taken: list[Run] = []
        while waiting and (slots := self._free_slots()) > 0:
            group = [waiting.popleft() for _ in range(min(slots, len(waiting)))]
            runs = await asyncio.gather(*map(self._take_over_one, group))
            taken += [run for run in runs if run is not None]
        return taken

    async def _take_over_one(self, record: RunRecord) -> Run | None:
        plan = self._stored.plan_of(record.workflow)
        try:
            return None if plan is None else await self.take_over(plan, record.run_id)
        except Exception as error:  # noqa: BLE001  # the other runs can continue all the same
            self._log_once(record.run_id, error)
            return None

    def stopped_driving(self, run_id: str) -> None:
        """Called when this kernel stops executing a run: it may take over another in its place."""
        if run_id in self._taken:
            self._taken.discard(run_id)
            if self._concurrency is not None and not self._refilling and not self._kernel.closed:
                self._refilling = True
                self._kernel.spawn(self._refill())

    async def _refill(self) -> None:
        self._refilling = False
        try:
            await self._take_over_ready()
        except Exception as error:  # noqa: BLE001  # the next poll retries
            _log_retry(error)

    async def take_over(self, plan: BoundWorkflow, run_id: str, *, resume_ended: bool = False) -> Run | None:
        """Claim a run and execute it here, if it can continue and no live process holds it. See `Claimer.claim`."""
        self._stored.register(plan)
        run = await self._claimer.claim(plan, await self._stored.load(run_id), resume_ended=resume_ended)
        if run is not None:
            self._taken.add(run_id)
            self._kernel.drive(self.look_after(run))
        return run

    async def wake(self, run_id: str) -> None:
        """Execute a parked run if it can continue and its workflow is known; or cancel it if that was requested."""
        try:
            record = await self._stored.backend.load(run_id)
            if record is None or record.status is not RunStatus.PARKED:
                self._watchlist.parked.discard(run_id)
            elif await self._canceller.request(run_id):
                await self._canceller.cancel_unheld(record)
            elif (plan := self._stored.plan_of(record.workflow)) is not None and self._free_slots() > 0:
                await self.take_over(plan, run_id)
        except Exception as error:  # noqa: BLE001  # no caller waits for this
            self._log_once(run_id, error)

    def _log_once(self, run_id: str, error: Exception) -> None:
        """Log why a run cannot continue, unless the same error of it is already logged."""
        if (run_id, str(error)) not in self._logged:
            self._logged.add((run_id, str(error)))
            _log.error("run %s cannot continue: %s", run_id, error, exc_info=not isinstance(error, CanoError))

    # cancelling

    async def _cancel_requested(self, run_ids: Collection[str]) -> None:
        """Stop those of these runs that this kernel executes, and whose cancellation another process has requested."""
        active = self._kernel.active
        held = [run for run in map(active.get, run_ids) if run is not None and run.journal is not None]
        for first in range(0, len(held), _AT_ONCE):
            some = held[first : first + _AT_ONCE]
            requests = await asyncio.gather(*(self._canceller.request(run.run_id) for run in some))
            for run, signal in zip(some, requests, strict=True):
                if signal is not None and active.get(run.run_id) is run:  # unless it has stopped in the meantime
                    self._canceller.stop(run.run_id, signal)

    # notifications

    def _notified(self, run_id: str | None) -> None:
        """Handle a notification: this run changed, or with None, any run may have."""
        self._changed.add(run_id)
        if self._follower is None and not self._kernel.closed:
            self._follower = self._kernel.spawn(self._follow())

    async def _follow(self) -> None:
        """Handle all notifications, including those that arrive in the meantime."""
        try:
            while self._changed and not self._kernel.closed:
                changed, self._changed = self._changed, set()
                active = self._kernel.active.keys()
                concerned = {run_id for run_id in changed if run_id is not None}
                others = None in changed or not concerned <= active
                if None in changed:
                    concerned |= self._waiters.run_ids | active
                for run_id in concerned:
                    self._waiters.notify(run_id)
                await self._cancel_requested(concerned)
                if others and self._watchlist:
                    await self._take_over_ready()
        except Exception as error:  # noqa: BLE001  # a store may be unreachable for a while; the next poll retries
            _log_retry(error)
        finally:
            self._follower = None


def _log_retry(error: Exception) -> None:
    _log.warning("the store failed: %r; retrying", error)
