"""Recognises the run that has an id as the one that a caller means: by its record, never by the id alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import Run, RunExistsError, RunRecord, SerializationError, StoreView, Transition, read_history
from cano.engine.ports import BoundWorkflow

from cano_durability.bounds import off_loop
from cano_durability.keys import BY, FIRST, OF
from cano_durability.stored_runs import StoredRuns

if TYPE_CHECKING:
    from cano_durability.journal import Journal


def was_discarded(record: RunRecord, first: Transition) -> bool:
    """Return whether the oldest entries of a run's history were discarded, of which `first` is the first that exists.

    The creation has the time at which the run was created, whatever its `seq`.
    """
    return first.seq > 0 and first.at != record.created


class Identity:
    """A caller's knowledge of the run that it starts, or that exists already. `RunKeeper.begin` has the arguments."""

    def __init__(
        self,
        stored: StoredRuns,
        plan: BoundWorkflow,
        run_id: str,
        view: StoreView,
        parent: Journal | None,
        on_existing: str | None,
        origin: str | None,
    ) -> None:
        self._stored = stored
        self._plan = plan
        self._run_id = run_id
        self._view = view
        self.parent = None if parent is None else parent.run_id
        self._of = None if parent is None else parent.created
        self._on_existing = on_existing
        self._origin = origin

    async def kept(self) -> dict[str, Any]:
        """Return what a new run keeps of it. The store's layers hide it, as they do with all values."""
        kept = {name: value for name, value in ((BY, self._origin), (OF, self._of)) if value is not None}
        if self._on_existing is None or self._stored.backend.capabilities.history:  # the first entry has the data
            return kept
        return kept | {FIRST: await self._digest()}

    async def _digest(self) -> bytes | None:
        values, base = self._stored.register(self._plan), self._view.base
        return await off_loop(len(base), lambda: values.digest(base), self._stored.clock)

    async def check_running(self, run: Run) -> None:
        """Check the run with this id that this kernel executes. Raises RunExistsError."""
        self._check(run.workflow, run.parent_id)
        known = self._origin is None and self._of is None and self._on_existing in (None, "return")
        if run.journal is not None and not known:
            await self.check(await self._stored.record(self._run_id))

    async def check(self, record: RunRecord) -> None:
        """Check the run with this id, as it is stored. Raises RunExistsError."""
        self._check(record.workflow, record.parent)
        own = self._stored.values.own
        if self._of is not None and own(OF, record.own, self._run_id) not in (None, self._of):
            problem = f"its run is a child of an earlier run {self.parent}, which was deleted"
            raise self._refusal(record.workflow, problem, f"delete it, too: kernel.delete({self._run_id!r})")
        if self._origin is not None and BY in record.own:
            if (by := own(BY, record.own, self._run_id)) != self._origin:
                raise self._refusal(record.workflow, f"{by} started it, not {self._origin}")
        elif self._on_existing == "same-data" and not await self._began_so(record):
            raise self._refusal(record.workflow, "it began with other data")
        if self._on_existing == "reject":
            raise self._refusal(record.workflow, "a run with it exists")

    def _check(self, workflow: str, parent: str | None) -> None:
        if workflow != self._plan.name:
            raise self._refusal(workflow, f"it belongs to a run of workflow {workflow!r}, not {self._plan.name!r}")
        if self.parent is not None and parent != self.parent:
            raise self._refusal(workflow, f"its run is not a child of run {self.parent}: another caller chose this id")

    async def _began_so(self, record: RunRecord) -> bool:
        """Return whether a run began with the data that is given now: equal, or encoded in the same way."""
        values = self._stored.register(self._plan)
        if FIRST in record.own:
            return bool(await self._digest() == self._stored.values.own(FIRST, record.own, self._run_id))
        history = await read_history(self._stored.backend, self._run_id, limit=1)
        if not history or was_discarded(record, history[0]):
            return True  # an earlier version began it, or its first data is no longer known
        try:
            first = values.data(history[0].changed, self._run_id)
        except SerializationError:  # its classes are not known here, so this caller did not give it
            return False
        if first == dict(self._view.base):
            return True
        digest = await self._digest()
        return digest is not None and digest == values.digest(first)

    def _refusal(self, workflow: str, problem: str, remedy: str = "choose another id") -> RunExistsError:
        message = f"the run id {self._run_id!r} is in use: {problem}; {remedy}"
        return RunExistsError(message, run_id=self._run_id, workflow=workflow)
