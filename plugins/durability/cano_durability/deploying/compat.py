"""Finds the unfinished runs that this program cannot continue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cano import (
    CompatGroup,
    CompatReport,
    RunFilter,
    RunNotFoundError,
    RunRecord,
    RunStatus,
    SerializationError,
    StoreBackend,
    Workflow,
)
from cano.engine.ports import BoundWorkflow, Host, in_pages

from cano_durability.batches.membership import SUFFIX
from cano_durability.bounds import count_of, off_loop
from cano_durability.deploying.versions import OtherVersions
from cano_durability.failures import is_unreadable
from cano_durability.recovery.groups import AT_ONCE
from cano_durability.stored_runs import StoredRuns, is_incomplete

EXAMPLES = 3
"""The most ids of runs, and reasons why runs cannot be read, of one group."""
UNFINISHED = RunStatus.PARKED, RunStatus.RUNNING, RunStatus.INTERRUPTED
"""How stores have runs that have not ended; queued and interrupted ones are RUNNING, unreadable ones INTERRUPTED."""

PLUGINS = "cano."
"""How the names of workflows begin that plugins define for runs of their own. Their settings may not be known here."""


class _Verdict(NamedTuple):
    """The judgement on a run: the fields of `CompatGroup` with these names."""

    problem: str = ""
    differences: tuple[str, ...] = ()
    remedy: str = ""


_CONTINUES = _Verdict()
_UNREADABLE = (
    "name the classes of the data in Workflow(types=[…]), keep their fields readable, use the codec and the keys that "
    "the runs were stored with; or finish the runs with the old program, or cancel or delete them"
)


class Compat:
    """One search for the unfinished runs that this program cannot continue.

    Args:
        kernel, stored: the kernel, and its store.
        plans: the workflows that the program has.
        only_given: whether runs of other workflows are left out.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, plans: Iterable[BoundWorkflow], only_given: bool) -> None:
        self._stored = stored
        self._only_given = only_given
        self._plans = {plan.name: plan for plan in (*_with_children(kernel, plans), *plans)}
        for plan in self._plans.values():
            stored.register(plan)
        self._versions = OtherVersions()
        self._groups: dict[tuple[str, ...], tuple[CompatGroup, list[str], list[str]]] = {}
        self._parents: dict[str, bool] = {}

    async def report(self) -> CompatReport:
        """See `Kernel.compat`. What is read does not grow with the runs that have ended."""
        some = list[RunRecord]()
        async for record in _unfinished(self._stored.backend):
            some.append(record)
            if len(some) == AT_ONCE:
                await self._add_all(some)
                some.clear()
        await self._add_all(some)
        groups = [
            group._replace(examples=tuple(ids), differences=tuple(reasons) or group.differences)
            for group, ids, reasons in self._groups.values()
        ]
        return CompatReport(tuple(sorted(groups, key=lambda group: (not group.problem, group[:4]))))

    async def _add_all(self, listed: Sequence[RunRecord]) -> None:
        for each in await asyncio.gather(*map(self._judged, listed)):
            if each is not None:
                self._add(*each)

    def _add(self, record: RunRecord, verdict: _Verdict) -> None:
        key = (record.workflow, record.version, record.fingerprint, record.state, verdict.problem)
        if key not in self._groups:
            remedy = verdict.remedy
            self._groups[key] = CompatGroup(*key[:4], 0, verdict.problem, verdict.differences, remedy), [], []
        group, ids, reasons = self._groups[key]
        if len(ids) < EXAMPLES:
            ids.append(record.run_id)
        if verdict.problem == "unreadable" and len(reasons) < EXAMPLES:
            reasons += verdict.differences
        self._groups[key] = group._replace(runs=group.runs + 1), ids, reasons

    async def _judged(self, listed: RunRecord) -> tuple[RunRecord, _Verdict] | None:
        """Return a run with the definition that it has migrated to, and the verdict; None if it is left out."""
        if is_incomplete(listed) or (self._only_given and self._base(listed) not in self._plans):
            return None
        try:
            record = await self._stored.load(listed.run_id)
        except RunNotFoundError:
            return (listed, _unreadable(f"{(listed.error or {}).get('message')}")) if is_unreadable(listed) else None
        except SerializationError as error:
            return listed, _unreadable(str(error))
        if record.status.finished or (record.status is RunStatus.PARKED and record.wait is None):
            return None  # it has ended since, or a plugin keeps it for its own use
        plan = self._plans.get(record.workflow)
        if plan is None:
            of_plugin = record.workflow.startswith(PLUGINS)
            return None if of_plugin else (record, await self._without_plan(record))
        verdict = self._landing(plan, record)
        if verdict.problem:
            return record, verdict
        try:
            await self._read(plan, record)
        except SerializationError as error:
            return record, _unreadable(str(error))
        return record, verdict

    def _landing(self, plan: BoundWorkflow, record: RunRecord) -> _Verdict:
        """Return whether the definition of `plan` can continue a run of the record's definition, in its state."""
        on_timeout = None if record.wait is None else record.wait.on_timeout
        for state in (record.state, on_timeout):
            error = None if state is None else self._versions.mismatch(plan, record._replace(state=state))
            if error is not None:
                remedy = [line for line in str(error).splitlines()[1:] if not line.startswith("  - ")]
                return _Verdict("changed", error.differences, "\n".join(remedy))
        return _CONTINUES

    async def _read(self, plan: BoundWorkflow, record: RunRecord) -> None:
        """Read all that a process that continues the run would read. Raises SerializationError."""
        values = self._stored.register(plan)
        await off_loop(count_of(record.data), lambda: self._stored.check(record), self._stored.clock)
        values.payload(record.payload, record.run_id)
        if record.status is RunStatus.PARKED:
            for signal in (await self._stored.backend.signals(record.run_id)).waiting:
                if not signal.own:
                    values.payload(signal.payload, record.run_id)

    async def _without_plan(self, record: RunRecord) -> _Verdict:
        """Return the verdict on a run whose workflow is not known by its name."""
        if self._base(record) in self._plans or (record.parent is not None and await self._knows(record.parent)):
            return _CONTINUES  # a batch, or a child whose workflow its parent's code makes
        return _Verdict(
            "missing",
            (f"this program has no workflow {record.workflow!r}",),
            "name it, too, if this program has it; otherwise finish its runs with the old program, or cancel them",
        )

    @staticmethod
    def _base(record: RunRecord) -> str:
        """Return the name of a run's workflow; of a batch, that of the workflow whose runs it starts."""
        return record.workflow.removesuffix(SUFFIX)

    async def _knows(self, parent: str) -> bool:
        """Return whether the program has the workflow of a run, or of its parent, or of any above that."""
        path: list[str] = []
        above: str | None = parent
        while above is not None and above not in (*self._parents, *path):
            path.append(above)
            record = None
            with suppress(SerializationError):
                record = await self._stored.backend.load(above)
            if record is not None and self._base(record) in self._plans:
                self._parents[above] = True
            above = None if record is None else record.parent
        known = above is not None and self._parents.get(above, False)
        self._parents.update((each, known) for each in path if each not in self._parents)
        return self._parents[parent]


def _unreadable(reason: str) -> _Verdict:
    return _Verdict("unreadable", (reason,), _UNREADABLE)


async def _unfinished(backend: StoreBackend) -> AsyncIterator[RunRecord]:
    """Yield the runs that have not ended, with empty data. One that changes meanwhile may come twice."""
    for status in UNFINISHED:
        if backend.capabilities.pages:
            async for record in in_pages(backend.runs, RunFilter(status=status)):
                yield record
        else:
            for record in await backend.runs(RunFilter(status=status)):
                yield record


def _with_children(kernel: Host, plans: Iterable[BoundWorkflow]) -> list[BoundWorkflow]:
    """Return the workflows that these execute as sub-workflows, also in branches of splits, and theirs."""
    flows: list[Workflow[Any]] = [plan.flow for plan in plans]
    known = len(flows)
    for flow in flows:
        for registration in flow.tasks.values():
            for task in (registration.task, *getattr(registration.task, "branches", ())):
                child = getattr(task, "flow", None)
                if isinstance(child, Workflow) and child not in flows:
                    flows.append(child)
    return [kernel.bind(flow) for flow in flows[known:]]
