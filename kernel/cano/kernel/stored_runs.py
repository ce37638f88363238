"""What a kernel can do with the runs that its store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cano.durability import inspection
from cano.durability.inspection import Explanation, Finding, Retention, RunListing, insist, seen_at
from cano.errors import ConflictError
from cano.kernel.handle import RunHandle
from cano.kernel.resources import Host
from cano.model.result import RunResult
from cano.model.workflow import Workflow
from cano.records import RunFilter, RunStatus, Transition

if TYPE_CHECKING:
    from cano.kernel.kernel import Kernel


class StoredRuns(Host):
    """The part of a kernel that is about runs in its store."""

    async def resume(self, flow: Workflow[Any], run_id: str) -> RunResult:
        """Let an interrupted or failed run go on from its last commit, and wait for its end.

        Raises:
            RunNotFoundError: there is no such run.
            ConflictError: somebody else is driving it; nothing is changed.
            VersionMismatchError: it belongs to another definition, and `migrate` does not say how to go on.
        """
        await self.open()
        plan, durability = self.bind(flow), self.store_of_runs
        run = await durability.take(plan, run_id, again=True)
        if run is not None:
            self.drive(run)
        elif run_id not in self.active:
            record = seen_at(await durability.load(run_id), durability.now())
            if record.status is RunStatus.RUNNING:
                raise ConflictError(f"run {run_id} is being driven by {record.holder}", run_id=run_id)
        else:
            raise ConflictError(f"run {run_id} is being driven by this kernel", run_id=run_id)
        return await durability.settled(plan, run_id)

    async def recover(self, *flows: Workflow[Any]) -> list[RunHandle]:
        """Take over every run of `flows` that can go on and that nobody drives; from now on watch for more.

        That is: runs whose process died, or was closed; parked runs whose signal or time has come. A run that
        cannot go on (a changed definition, a damaged row) is logged and left; the others go on.
        """
        await self.open()
        taken = await self.store_of_runs.recover([self.bind(flow) for flow in flows])
        return [RunHandle(cast("Kernel", self), run.plan, run) for run in taken]

    async def signal(self, run_id: str, name: str, payload: Any = None, *, id: str | None = None) -> bool:
        """Send a signal to a run that waits for it, or will. False where the run has ended already.

        Args:
            run_id: the run.
            name: the signal's name, as in `wait_for(name, …)`.
            payload: what the state that follows finds in `current_step().payload`.
            id: a signal sent twice under one id counts once.

        Raises:
            RunNotFoundError: there is no such run.
            SerializationError: the payload cannot be kept.
        """
        await self.open()
        return await self.store_of_runs.signal(run_id, name, payload, id)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run, wherever it is driven. False where it has ended already. Raises RunNotFoundError."""
        await self.open()
        return await self.store_of_runs.cancel(run_id)

    def runs(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | str | None = None,
        parent: str | None = None,
        limit: int | None = None,
    ) -> RunListing:
        """The runs that match, newest first: `await` it for a list, or go through it with `async for`."""
        wanted = None if status is None else RunStatus(status)
        filter = RunFilter(workflow=workflow, status=wanted, parent=parent, limit=limit)
        return RunListing(cast("Kernel", self), filter)

    async def history(self, run_id: str) -> list[Transition]:
        """Every transition of a run with what it changed, oldest first.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: the store keeps no history.
        """
        await self.open()
        return await inspection.history(insist(self.store_of_runs, "history", self.store_name), run_id)

    async def fork(self, run_id: str, seq: int, new_run_id: str) -> str:
        """Make a run that stands where `run_id` stood after transition `seq`; `resume` lets it go on.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigurationError: it has no such transition, `new_run_id` is taken, or the store keeps no history.
        """
        await self.open()
        return await inspection.fork(insist(self.store_of_runs, "history", self.store_name), run_id, seq, new_run_id)

    async def explain(self, run_id: str) -> Explanation:
        """Why a run does not move: one reason out of a closed list. Raises RunNotFoundError."""
        await self.open()
        return await inspection.explain(self.store_of_runs, run_id, run_id in self.active)

    async def check(self) -> list[Finding]:
        """What is wrong in the store: corrupt rows, orphans, stale leases."""
        await self.open()
        return await inspection.check(self.store_of_runs)

    async def prune(self, retention: Retention) -> list[str]:
        """Forget the finished runs that `retention` does not keep; returns their ids.

        Raises:
            ConfigurationError: the store keeps everything.
        """
        await self.open()
        return await inspection.prune(insist(self.store_of_runs, "retention", self.store_name), retention)
