"""Takes over runs in the store that can continue, cancels runs on request, and handles the store's notifications."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cano import (
    AuditEntry,
    CanoError,
    NotifyingStore,
    Run,
    RunFilter,
    RunRecord,
    RunStatus,
    VersionMismatchError,
    is_held,
    read_ready,
)
from cano.engine.ports import BoundWorkflow, Host
from cano.safe_text import escaped, safe_str

from cano_durability.cancelling import Canceller
from cano_durability.claiming import Claimer
from cano_durability.families.lineage import only_waits
from cano_durability.lateness.unheld import UnheldRuns
from cano_durability.patience import cancelled
from cano_durability.recovery.groups import AT_ONCE, Group, GroupClaims
from cano_durability.recovery.heart import Heart
from cano_durability.recovery.waiting import Waiters
from cano_durability.recovery.watchlist import Watchlist
from cano_durability.stored_runs import StoredRuns

COUNTED = 10_000
"""The most runs that are counted in a queue."""
PAGE = 1000
"""The most runs of a list that is read page by page."""
LOGGED = 10_000
"""The most runs that cannot continue whose errors are remembered, so that each is logged once."""
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
        unheld: UnheldRuns,
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._heart = heart
        self._watchlist = watchlist
        self._waiters = waiters
        self._claimer = claimer
        self._canceller = canceller
        self._unheld = unheld
        self._task: asyncio.Task[None] | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._groups: dict[str, Group] = {}  # by workflow
        self.claims = Counter(calls=0, runs=0, refused=0)  # see `RunKeeper.claims`
        self._claims = GroupClaims(kernel, stored, claimer, self.claims)
        self._backlog: deque[RunRecord] = deque()  # runs to claim one by one that found their group full
        self._refilling = False
        self._logged: dict[tuple[str, str], None] = {}  # the newest
        self._changed: set[str | None] = set()  # runs that notifications named, None for any
        self._follower: asyncio.Task[None] | None = None
        self._watching = False
        self._attending = False

    def look_after(self, run: Run) -> None:
        """Start the background work for a run that is about to be executed here."""
        self._heart.start(run)
        self.start()

    def start(self) -> bool:
        """Start the background task, unless it runs already or the store needs none.

        Return whether it follows the store's notifications from now on: what changed before has to be read again.
        """
        if self._stored.durable and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work(), name="cano caretaker")
            self._attending = False  # if it was done, its event loop has ended; the store is to notify in this one
        if began := not self._attending:
            self._attend(True)
        return began

    def _attend(self, wanted: bool) -> None:
        """Begin or stop to follow the store's notifications."""
        self._attending, backend = wanted, self._stored.backend
        if not self._watching and isinstance(backend, NotifyingStore):
            self._watching = True
            backend.watch(self._notified)
        elif (attend := getattr(backend, "attend", None)) is not None:
            attend(wanted)

    async def close(self) -> None:
        """Stop the background tasks."""
        await self._heart.close()
        await cancelled(self._task)

    async def _work(self) -> None:
        """Cancel runs on request, and take over runs, until it is cancelled."""
        clock, lease = self._kernel.clock, self._stored.lease
        checked = clock.monotonic()
        while True:
            await clock.sleep(min(self._kernel.poll, lease / 3))
            try:
                if look := clock.monotonic() - checked >= lease / 3:
                    checked = clock.monotonic()
                    await self._cancel_requested(tuple(self._kernel.active))
                    await self._unheld.look(self._watchlist.workflows)
                if self._watchlist:
                    await self._take_over_ready(look=look)
                elif self._attending and not (self._waiters.run_ids or self._kernel.active):
                    self._attend(False)
            except Exception as error:  # noqa: BLE001  # a store may be unreachable for a while
                _log_retry(error)

    # taking over

    async def recover(
        self, plans: Sequence[BoundWorkflow], concurrency: int | None, queues: Collection[str] | None
    ) -> list[Run]:
        """See `RunKeeper.recover`."""
        group = Group(plans, concurrency, queues)
        group.more = self._claims.possible
        async with self._turn():  # whatever is notified meanwhile, this takes over all that is ready
            for plan in plans:
                self._stored.register(plan)
                self._watchlist.watch(plan)
                self._groups[plan.name] = group
            self.start()
            held_by_dead = await self._held_by_dead()
            taken = await self._take_over()
            taken += await self._take_over(look=True)
            taken += await self._take_over_all(held_by_dead)
        return [run for run in taken if run.workflow in self._watchlist.workflows]  # no children of parked runs

    async def _held_by_dead(self) -> list[RunRecord]:
        """Return the running runs whose holder does not live, page by page: most that run are held or ready."""
        found: list[RunRecord] = []
        backend, now = self._stored.backend, self._stored.now()
        held = True if backend.capabilities.queues else None  # queued runs, of which there may be many, have no holder
        page = RunFilter(status=RunStatus.RUNNING, held=held, limit=PAGE if backend.capabilities.pages else None)
        while True:
            records = await backend.runs(page)
            found += [record for record in records if record.holder is not None and not is_held(record, now)]
            if page.limit is None or len(records) < page.limit:
                return found
            page = page._replace(after=records[-1].place)

    def _turn(self) -> asyncio.Lock:
        """Return the lock of this event loop: one takeover at a time, so that `recover` returns all that is ready."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]

    async def _take_over_ready(self, *, look: bool = False) -> list[Run]:
        """See `_take_over`. Called without the turn."""
        async with self._turn():
            return await self._take_over(look=look)

    async def _take_over(self, *, look: bool = False) -> list[Run]:
        """Take over the runs that are ready and have a place. List them if `look`, or if none is known to be ready."""
        self._refilling = False
        groups = set(self._groups.values())
        if groups and not self._watchlist.parked and all(group.places == 0 for group in groups):
            return []
        if look or not (self._backlog or self._is_more):
            ready = await read_ready(self._stored.backend, self._stored.now(), self._watchlist.names)
            self._backlog = deque(self._claims.split(ready, self._group, self._log_once))
        records, self._backlog = self._backlog, deque()
        taken = await self._take_over_all(records)
        for group in groups:
            taken += await self._claims.take_over(group, self._log_once)
        return taken

    @property
    def _is_more(self) -> bool:
        """Whether runs are ready that can be claimed in groups, as far as this kernel knows."""
        return any(group.more for group in self._groups.values())

    async def _take_over_all(self, records: Iterable[RunRecord]) -> list[Run]:
        """Take over runs, many at a time: their claims share the store's syncs."""
        taken: list[Run] = []
        some: list[RunRecord] = []
        for record in records:
            if not self._is_ours(record) and await self._plan_of_child(record) is None:
                continue
            if not self._group(record.workflow).reserve(record.run_id):
                self._backlog.append(record)
                continue
            some.append(record)
            if len(some) == AT_ONCE:
                taken += await self._take_over_some(some)
                some = []
        return taken + await self._take_over_some(some)

    def _is_ours(self, record: RunRecord) -> bool:
        """Return whether this kernel takes over that run by itself: for its workflow and queue, or as it parked it."""
        return record in self._watchlist and self._serves(record)

    def _serves(self, record: RunRecord) -> bool:
        """Return whether this kernel takes over runs of that workflow and queue, or parked that run itself."""
        return record.run_id in self._watchlist.parked or self._group(record.workflow).serves(record)

    async def queue_sizes(self) -> Mapping[str, int]:
        """Return how many runs wait in each queue that `recover` serves, up to `COUNTED`; none without `queues`."""
        found, groups = Counter[str](), set(self._groups.values())
        store: Any = self._stored.backend
        if not store.capabilities.queues:
            return found
        for group in groups:
            sizes = await store.queue_sizes(sorted(group.definitions), COUNTED)
            found.update({name: size for name, size in sizes.items() if group.queues is None or name in group.queues})
        return found

    async def _take_over_some(self, records: Iterable[RunRecord]) -> list[Run]:
        runs = await asyncio.gather(*map(self._take_over_one, records))
        return [run for run in runs if run is not None]

    async def _take_over_one(self, record: RunRecord) -> Run | None:
        """Take over a run that has a place in its group; if it is not executed here, free the place."""
        plan, run = self._stored.plan_of(record.workflow), None
        try:
            run = None if plan is None else await self.take_over(plan, record.run_id)
            self.claims.update(calls=1, runs=run is not None)
        except Exception as error:  # noqa: BLE001  # the other runs can continue all the same
            if isinstance(error, VersionMismatchError):
                self._claims.refuse(record)
            self._log_once(record.run_id, error)
        finally:
            if run is None:
                self._group(record.workflow).taken.discard(record.run_id)
        return run

    async def _plan_of_child(self, record: RunRecord) -> BoundWorkflow | None:
        """Return the workflow of a child that a run is parked for, if this kernel takes over that; otherwise None."""
        if record.parent is None or record.workflow not in self._watchlist.children:
            return None
        parent = await self._stored.backend.load(record.parent)
        if parent is None or parent.wait is None or parent.wait.child != record.run_id:
            return None
        plan = self._stored.plan_of(parent.workflow) if self._is_ours(parent) else await self._plan_of_child(parent)
        task = None if plan is None else only_waits(plan, parent.state)
        if task is None or task.flow.name != record.workflow:
            return None
        self._groups.setdefault(record.workflow, self._group(parent.workflow))
        child = self._kernel.bind(task.flow)
        self._stored.register(child)
        return child

    def _group(self, workflow: str) -> Group:
        """Return the group of a workflow. One that was not recovered has no limit."""
        return self._groups.get(workflow) or Group()

    def stopped_driving(self, run: Run) -> None:
        """Called when this kernel stops executing a run: it may take over another in its place."""
        group = self._group(run.workflow)
        if run.run_id in group.taken:
            group.taken.discard(run.run_id)
            self.refill()

    def refill(self) -> None:
        """Start to take over what is ready, in the background, unless that is under way."""
        if not self._refilling and not self._kernel.closed:
            self._refilling = True
            self._kernel.spawn(self._refill())

    async def _refill(self) -> None:
        try:
            await self._take_over_ready()
        except Exception as error:  # noqa: BLE001  # the next poll retries
            _log_retry(error)

    async def take_over(
        self,
        plan: BoundWorkflow,
        run_id: str,
        *,
        resume_ended: bool = False,
        timeout: float | None = None,
        audit: tuple[AuditEntry, ...] = (),
    ) -> Run | None:
        """Claim a run and execute it here, if it can continue and no live process holds it. See `Claimer.claim`."""
        self._stored.register(plan)
        record = await self._stored.load(run_id)
        run = await self._claimer.claim(plan, record, resume_ended=resume_ended, timeout=timeout, audit=audit)
        if run is not None:
            self._kernel.drive(run)
        elif run_id in self._watchlist.parked:
            self.start()  # it waits again: look for its signal
        return run

    async def wake(self, run_id: str) -> None:
        """Execute a parked run if it can continue and its workflow is known; or cancel it if that was requested."""
        try:
            record = await self._stored.backend.load(run_id)
            if record is None or record.status is not RunStatus.PARKED:
                self._watchlist.parked.pop(run_id, None)
            elif await self._canceller.request(run_id):
                await self._canceller.cancel_unheld(record)
            elif self._serves(record) and self._group(record.workflow).reserve(run_id):
                await self._take_over_one(record)
        except Exception as error:  # noqa: BLE001  # no caller waits for this
            self._log_once(run_id, error)

    def _log_once(self, run_id: str, error: Exception) -> None:
        """Log why a run cannot continue, unless the same error of it, or the same difference, is already logged."""
        key = run_id, str(error)
        if different := isinstance(error, VersionMismatchError):
            key = f"{error.workflow}", "\n".join(error.differences)
        if key not in self._logged:
            self._logged[key] = None
            if len(self._logged) > LOGGED:
                del self._logged[next(iter(self._logged))]
            self.claims.update(refused=1)
            # only this error has lines of its own; any other line break comes from an id or a value
            text = str(error) if different else escaped(safe_str(error))
            _log.error("run %s cannot continue: %s", escaped(run_id), text, exc_info=not isinstance(error, CanoError))

    # cancelling

    async def _cancel_requested(self, run_ids: Collection[str]) -> None:
        """Stop those of these runs that this kernel executes, and whose cancellation another process has requested."""
        active = self._kernel.active
        held = [run for run in map(active.get, run_ids) if run is not None and run.journal is not None]
        for first in range(0, len(held), AT_ONCE):
            some = held[first : first + AT_ONCE]
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
                    await self._take_over_ready(look=bool(concerned & self._watchlist.parked.keys()))
        except Exception as error:  # noqa: BLE001  # a store may be unreachable for a while; the next poll retries
            _log_retry(error)
        finally:
            self._follower = None


def _log_retry(error: Exception) -> None:
    _log.warning("the store failed: %r; retrying", error)
