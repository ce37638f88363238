"""Resumes, cancels, signals or forks all runs that match a filter, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from cano import (
    BulkReport,
    CanoError,
    ConflictError,
    Pace,
    Run,
    RunFilter,
    RunRecord,
    RunStatus,
    TransientStoreError,
)
from cano.engine.ports import BoundWorkflow, Host, in_pages
from cano.options import refuse, switch
from cano.safe_text import error_text

from cano_durability.keys import IMPORTED
from cano_durability.recovery.leases import with_status_at
from cano_durability.selecting.listing import Lister
from cano_durability.stored_runs import StoredRuns


class Acts(Protocol):
    """The actions on one run. `Keeper` has them."""

    async def take_up(self, plan: BoundWorkflow, run_id: str, timeout: float | None) -> Run | None: ...
    async def cancel(self, run_id: str) -> bool: ...
    async def signal(self, run_id: str, name: str, payload: Any, id: str | None, wait: str | None) -> bool: ...
    async def fork(
        self, run_id: str, seq: int, new_run_id: str, changes: Mapping[Any, Any], removed: Sequence[Any]
    ) -> str: ...


Act = Callable[[RunRecord], Awaitable[str | None]]
"""Acts on a run. Returns why it did not, or None."""


class Bulk:
    """Acts on many runs of one kernel. `Kernel` documents the actions.

    Each run is looked at again before the action, which leaves its own entry in the audit. Cancelling the call stops
    it between two runs; the runs that it has resumed continue.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, lister: Lister, acts: Acts) -> None:
        self._kernel = kernel
        self._stored = stored
        self._lister = lister
        self._acts = acts

    async def act(self, action: str, where: str | RunFilter, pace: Pace, *given: Any) -> BulkReport:
        """See `RunKeeper.act_on_many`."""
        rate, dry_run = pace.get("rate"), switch("dry_run", pace.get("dry_run", False))
        if rate is not None and not (isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0):
            refuse("rate", rate, "a positive number of runs per second, or None")
        if not isinstance(where, str | RunFilter):
            refuse("where", where, "a text or a RunFilter")
        filter = RunFilter() if isinstance(where, str) else where
        filter = await self._lister.selected(filter, where if isinstance(where, str) else None)
        clock, progress, resumed = self._kernel.clock, pace.get("progress"), Resumed()
        acts: dict[str, Act] = {
            "resume": lambda record: self._resume(record, resumed, *given),
            "cancel": lambda record: self._cancel(record),
            "signal": lambda record: self._signal(record, *given),
            "fork": lambda record: self._fork(record, *given),
        }
        refused = dict[str, str]()
        report, turn = BulkReport(refused=refused, failed=resumed.failed, outcomes=resumed.outcomes), clock.monotonic()
        try:
            async for record in in_pages(self._lister.runs, filter):
                problem = self._obstacle(action, record, *given)
                if problem is None and not dry_run:
                    if (wait := turn - clock.monotonic()) > 0:
                        await clock.sleep(wait)
                    turn = max(turn, clock.monotonic()) + (1 / rate if rate else 0)
                    problem = await self._tried(acts[action], record.run_id, filter)
                if problem is not None:
                    refused[record.run_id] = problem
                report = report._replace(matched=report.matched + 1, done=report.done + (problem is None))
                if progress is not None:
                    progress(report)
            await resumed.ended()
        finally:
            resumed.leave()
        return report

    async def _tried(self, act: Act, run_id: str, filter: RunFilter) -> str | None:
        """Act on a run if it still matches. Return why not, or None. A store that does not answer ends all."""
        try:
            record = with_status_at(await self._stored.record(run_id), self._stored.now())
            if not filter._replace(after=None).matches(self._stored.searchable(record, filter)):
                return f"it no longer matches: it is {record.status.value} in {record.state}"
            return await act(record)
        except CanoError as error:
            if isinstance(error, TransientStoreError) and not isinstance(error, ConflictError):
                raise
            return str(error)

    def _obstacle(self, action: str, record: RunRecord, *given: Any) -> str | None:
        """Return why a run would be refused, as far as its record shows."""
        if action == "resume":
            plan: BoundWorkflow = given[0]
            if record.workflow != plan.name:
                return f"it is a run of workflow {record.workflow!r}, not {plan.name!r}"
            return self._not_resumable(record)
        if action == "fork" or not (record.status.finished if action == "cancel" else _is_over(record)):
            return None
        return f"it has ended: {record.status.value}"

    def _not_resumable(self, record: RunRecord) -> str | None:
        if _is_over(record):
            return f"it has ended: {record.status.value}"
        if record.status is RunStatus.RUNNING:
            return f"it is executed by {record.holder}"
        return "it was imported; resume it by itself, or fork it" if record.holder == IMPORTED else None

    async def _resume(self, record: RunRecord, resumed: Resumed, plan: BoundWorkflow) -> str | None:
        run = await self._acts.take_up(plan, record.run_id, None)
        if run is not None:
            resumed.add(run)
            return None
        record = with_status_at(await self._stored.record(record.run_id), self._stored.now())
        return self._not_resumable(record) or f"it is {record.status.value}, and what it waits for has not come"

    async def _cancel(self, record: RunRecord) -> str | None:
        return None if await self._acts.cancel(record.run_id) else "it has ended"

    async def _signal(self, record: RunRecord, name: str, payload: Any, id: str | None) -> str | None:
        return None if await self._acts.signal(record.run_id, name, payload, id, None) else "it has ended"

    async def _fork(
        self, record: RunRecord, suffix: str, changes: Mapping[Any, Any], removed: Sequence[Any], seq: int | None
    ) -> str | None:
        self._kernel.limits.check("ids", "the run id", new := record.run_id + suffix)
        await self._acts.fork(record.run_id, record.seq if seq is None else seq, new, changes, removed)
        return None


def _is_over(record: RunRecord) -> bool:
    """Return whether a run has ended, and a resume does not continue it."""
    return record.status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED)


class Resumed:
    """The runs that an action has resumed, until they end or are parked; and how they did."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.outcomes = Counter[str]()
        self._runs: list[Run] = []
        self._most = 100

    def add(self, run: Run) -> None:
        """Wait for a run, whose error then is not logged: the report has it."""
        run.askers += 1
        self._runs.append(run)
        if len(self._runs) > self._most:  # seldom, so that the time does not grow with the runs that are executed
            self.note()
            self._most = 2 * len(self._runs) + 100

    def note(self) -> None:
        """Note the ends of runs so far."""
        ended = [run for run in self._runs if run.stopped_at]
        self._runs = [run for run in self._runs if not run.stopped_at]
        for run in ended:
            self.outcomes[run.status.value] += 1
            if run.status is RunStatus.FAILED and run.error is not None:
                self.failed[run.run_id] = error_text(run.error)

    async def ended(self) -> None:
        """Wait until all have ended or are parked."""
        for run in self._runs:
            await run.ended()
        self.note()

    def leave(self) -> None:
        """Let the errors of the runs that are left be logged, as of all runs that no caller waits for."""
        for run in self._runs:
            run.askers -= 1
            run.report_unasked()
