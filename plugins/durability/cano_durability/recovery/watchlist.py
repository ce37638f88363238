"""The runs that a kernel takes over when they can continue and no process executes them."""

from __future__ import annotations

from weakref import WeakValueDictionary

from cano import Run, RunRecord


class Watchlist:
    """The runs that one kernel continues: those of recovered workflows, and those that it parked.

    Attributes:
        workflows: names of the workflows whose runs it takes over, from any process.
        parked: ids of the runs that it parked.
        objects: the parked runs that handles still refer to, and the read-only ones, by id.
    """

    def __init__(self) -> None:
        self.workflows: set[str] = set()
        self.parked: set[str] = set()
        self.objects: WeakValueDictionary[str, Run] = WeakValueDictionary()

    def __bool__(self) -> bool:
        """Return whether the list names any workflows or runs."""
        return bool(self.workflows or self.parked)

    def __contains__(self, record: RunRecord) -> bool:
        """Return whether this kernel takes over that run."""
        return record.workflow in self.workflows or record.run_id in self.parked

    def continued(self, run: Run) -> None:
        """Let handles of the parked run follow the object that continues it."""
        if (parked := self.objects.pop(run.run_id, None)) is not None:
            parked.successor = run
