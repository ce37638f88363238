"""The groups of workflows that a kernel recovers, and claims of many of their runs in one call of the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias
from zlib import crc32

from cano import ClaimedRun, ClaimingStore, Run, RunRecord
from cano.engine.ports import BoundWorkflow, Host

from cano_durability.claiming import Claimer
from cano_durability.deploying.versions import OtherVersions
from cano_durability.recovery.leases import journal_of
from cano_durability.stored_runs import StoredRuns
from cano_durability.stores.lanes import is_new

Log: TypeAlias = Callable[[str, Exception], None]

AT_ONCE = 100
"""The most runs that are taken over together."""

MOST_ODD = 1000
"""The most runs that claims skip. If there are more, runs are claimed one by one."""


class Group:
    """The workflows of one call of `recover`, and the ids of their runs that were taken over and are executed here.

    Attributes:
        plans: the workflows, by name.
        queues: the queues whose runs are taken over; None for all.
        definitions: name, version and fingerprint of the definitions of which runs are claimed: those of the workflows,
            and older ones that these cover.
        taken: the runs.
        more: whether the last claim found as many runs as it asked for, so that there may be more.
    """

    def __init__(
        self, plans: Iterable[BoundWorkflow] = (), limit: int | None = None, queues: Collection[str] | None = None
    ) -> None:
        self._limit = limit
        self.queues = queues
        self._claiming = 0
        self.plans = {plan.name: plan for plan in plans}
        self.definitions = {(plan.name, plan.version, plan.fingerprint) for plan in self.plans.values()}
        self.taken: set[str] = set()
        self.more = False

    @property
    def places(self) -> int | None:
        """The number of runs that can still be taken over; None if there is no limit."""
        return None if self._limit is None else max(self._limit - len(self.taken) - self._claiming, 0)

    def serves(self, record: RunRecord) -> bool:
        """Return whether runs of that queue are taken over."""
        return self.queues is None or record.queue in self.queues

    def reserve(self, run_id: str) -> bool:
        """Take a place for a run, and return whether there was one."""
        if self._limit is not None:
            if run_id in self.taken or not self.places:
                return False
            self.taken.add(run_id)
        return True

    def claiming(self, most: int) -> None:
        """Take places for runs that are not known yet, until `claimed`."""
        self._claiming = most

    def claimed(self, run_ids: Iterable[str]) -> None:
        """Give the places to these runs, and free the others."""
        self._claiming = 0
        if self._limit is not None:
            self.taken.update(run_ids)


class GroupClaims:
    """Claims many runs of a kernel's groups in one call, if the store can. One process scans once for all of them.

    Claimed so are runs without a holder, of definitions that continue here. Others are claimed one by one: those whose
    lease has expired, since their holder may be alive, and those that could not be continued here. Runs of versions
    that do not continue here are left to workers of those versions.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, claimer: Claimer, counts: Counter[str]) -> None:
        self._kernel = kernel
        self._counts = counts  # see `RunKeeper.claims`
        self._stored = stored
        self._claimer = claimer
        backend = stored.backend
        capable = backend.capabilities.claims and isinstance(backend, ClaimingStore)
        self._store: ClaimingStore | None = backend if capable else None  # type: ignore[assignment]  # it is one
        self._odd: set[str] = set()
        self._versions = OtherVersions()

    @property
    def possible(self) -> bool:
        """Whether runs can be claimed in groups."""
        return self._store is not None and len(self._odd) <= MOST_ODD

    def split(self, records: Iterable[RunRecord], group_of: Callable[[str], Group], log: Log) -> list[RunRecord]:
        """Return those of the ready runs that have to be claimed one by one; note in which groups there are others.

        `log` is called with the id and the error of runs that only another version can continue.
        """
        apart, ready, versions = [], set(), self._versions
        for record in records:
            group = group_of(record.workflow)
            plan = group.plans.get(record.workflow)
            ready.add(record.run_id)
            free = record.holder is None and record.run_id not in self._odd and self.possible
            if plan is not None and free and versions.covers(plan, record):
                if group.serves(record):
                    group.more = True
                    group.definitions.add((record.workflow, record.version, record.fingerprint))
            elif plan is not None and (refusal := versions.refusal(plan, record)) is not None:
                log(record.run_id, refusal)
            elif not versions.is_refused(record):
                apart.append(record)
        self._odd &= ready
        versions.keep(ready)
        return sorted(apart, key=self._turn)  # those without a holder stay in the store's order

    def _turn(self, record: RunRecord) -> int:
        """Return a sorting key: workers that see the runs of a lost one at once do not all try the same ones first."""
        text = f"{self._stored.holder} {record.run_id}"
        return -1 if record.holder is None else crc32(text.encode(errors="replace"))

    def refuse(self, record: RunRecord) -> None:
        """Leave a run to workers of another version until it has changed."""
        self._versions.refuse(record)

    async def take_over(self, group: Group, log: Log) -> list[Run]:
        """Claim runs of a group and execute them, until it is full or no more are ready. Return those that are new.

        Args:
            group: the group.
            log: called with the id and the error of each run that cannot.
        """
        taken: list[Run] = []
        while self._store is not None and group.more and group.places != 0 and not self._kernel.closed:
            most = AT_ONCE if group.places is None else min(group.places, AT_ONCE)
            group.claiming(most)
            leaving = [run.run_id for run in self._kernel.active.values() if _is_leaving(run)]
            try:
                with self._stored.holding:
                    since, definitions = self._stored.elapsed(), sorted(group.definitions)
                    skip = [*leaving, *self._odd]
                    claimed = await self._stored.claim_ready(self._store, definitions, most, skip, group.queues)
                    group.claimed([each.run_id for each in claimed])
                    self._counts.update(calls=1, runs=len(claimed))
                    work = [self._continue(group, each, since, log) for each in claimed]
                    taken += [run for run in await asyncio.gather(*work) if run is not None]
            finally:
                group.claimed(())
            # a store may return fewer runs of queues than there are
            group.more = len(claimed) == most or any(is_new(each.record) for each in claimed if each.record)
        return taken

    async def _continue(self, group: Group, claimed: ClaimedRun, since: float, log: Log) -> Run | None:
        """Execute a claimed run; if that cannot be, free its place, and do not claim it in a group again."""
        run = None
        try:
            run = await self._claimer.continued(claimed, since)
        except Exception as error:  # noqa: BLE001  # the other runs can continue all the same
            log(claimed.run_id, error)
        finally:
            if run is None:
                group.taken.discard(claimed.run_id)
                self._odd.add(claimed.run_id)
        if run is not None:
            self._kernel.drive(run)
        return run


def _is_leaving(run: Run) -> bool:
    """Return whether the run has released its lease, or is about to."""
    return run.journal is not None and journal_of(run).releasing
