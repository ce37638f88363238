"""The runs that a kernel takes over when they can continue and no process executes them."""

from __future__ import annotations

from weakref import WeakValueDictionary

from cano import Run, RunRecord
from cano.engine.ports import BoundWorkflow

from cano_durability.families.lineage import children_of


class Watchlist:
    """The runs that one kernel continues: those of recovered workflows, and those that it parked.

    Attributes:
        workflows: names of the workflows whose runs it takes over, from any process.
        children: names of the workflows of children that those runs, and the parked ones, are parked for.
        parked: the parked runs that it takes over, each with its workflow: those that it parked, or that a caller here
            waits for.
        objects: the parked runs that handles still refer to, and the read-only ones, by id.
    """

    def __init__(self) -> None:
        self.workflows: set[str] = set()
        self.children: set[str] = set()
        self.parked: dict[str, str] = {}
        self._names: set[str] = set()  # workflows of which runs were parked, so that no poll looks at each
        self.objects: WeakValueDictionary[str, Run] = WeakValueDictionary()

    def __bool__(self) -> bool:
        """Return whether the list names any workflows or runs."""
        return bool(self.workflows or self.parked)

    def __contains__(self, record: RunRecord) -> bool:
        """Return whether this kernel takes over that run."""
        return record.workflow in self.workflows or record.run_id in self.parked

    @property
    def names(self) -> set[str]:
        """The workflows of all runs that it may take over."""
        return self.workflows | self.children | (self._names if self.parked else set())

    def watch(self, plan: BoundWorkflow, run_id: str | None = None) -> None:
        """Take over the runs of a workflow, or the one with this id, and the children that they are parked for."""
        if run_id is None:
            self.workflows.add(plan.name)
        else:
            self.park(run_id, plan.name)
        self.children.update(children_of(plan))

    def park(self, run_id: str, workflow: str) -> None:
        """Take over this parked run."""
        self.parked[run_id] = workflow
        self._names.add(workflow)

    def continued(self, run: Run) -> None:
        """Let handles of the parked run follow the object that continues it."""
        if (parked := self.objects.pop(run.run_id, None)) is not None:
            parked.successor = run
            run.askers += parked.askers
