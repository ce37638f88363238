"""What becomes of the runs that a kernel takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from cano import Run, RunHandle, RunStatus, hookimpl, state_name

from cano_cli.errors import one_line
from cano_cli.records import counted, waits_for


class Ending(NamedTuple):
    """How a run was left: it has ended, waits, or was interrupted.

    Attributes:
        run_id, workflow, status, state, steps: see `RunRecord`.
        note: its error, or what it waits for.
    """

    run_id: str
    workflow: str
    status: RunStatus
    state: str
    steps: int
    note: str

    @property
    def well(self) -> bool:
        """Whether nobody needs to care."""
        return self.status in (RunStatus.SUCCEEDED, RunStatus.PARKED)

    def __str__(self) -> str:
        where = "in" if self.status is RunStatus.SUCCEEDED else "in state"
        place = f"{where} {self.state} after {counted(self.steps, 'step')}"
        text = f"run {self.run_id} of {self.workflow} {self.status.value} {place}"
        return f"{text}: {self.note}" if self.note else text

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**self._asdict(), "status": self.status.value, "note": self.note or None}


class Caretaker:
    """An observer of the runs of one kernel; sub-workflows are their parents' affair.

    Args:
        tell: told how each run was left.

    Attributes:
        under_way: ids of the runs that are being driven.
        well: whether all that were left were left well.
    """

    def __init__(self, tell: Callable[[Ending], None]) -> None:
        self.under_way: set[str] = set()
        self.well = True
        self._tell = tell
        self._endings: asyncio.Queue[Ending] = asyncio.Queue()

    async def wait(self, *, forever: bool) -> None:
        """Tell how runs are left, until none is under way any more, or for ever."""
        while forever or self.under_way or not self._endings.empty():
            self._take(await self._endings.get())

    def tell_all(self) -> None:
        """Tell how those were left of which that was not told yet."""
        while not self._endings.empty():
            self._take(self._endings.get_nowait())

    def _take(self, ending: Ending) -> None:
        # not in the hooks: what an observer raises, such as that nobody reads any more, would go unheard
        self.well = self.well and ending.well
        self._tell(ending)

    def expect(self, handle: RunHandle) -> None:
        """Know of a run that may not have begun yet."""
        if handle.status().status is RunStatus.RUNNING:
            self.under_way.add(handle.run_id)

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """It is under way."""
        if run.parent is None:
            self.under_way.add(run.run_id)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """It has ended, or was interrupted."""
        self._left(run, "" if run.error is None else one_line(run.error))

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """It waits."""
        self._left(run, f"waits{waits_for(run.wait)}")

    def _left(self, run: Run, note: str) -> None:
        if run.parent is None:
            self.under_way.discard(run.run_id)
            state, steps = state_name(run.state), run.steps
            if run.status is RunStatus.PARKED and run.wait is not None:
                state, steps = run.wait.then, run.step.seq  # where it stands in the store
            self._endings.put_nowait(Ending(run.run_id, run.workflow, run.status, state, steps, note))
