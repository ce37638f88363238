"""`RunHandle`, for a run that was started, and `RunListing`, for stored runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from cano.checks import text, whole, whole_or_none
from cano.engine.run_view import Progress, RunInfo
from cano.errors import SerializationError
from cano.model.result import RunResult
from cano.records import RunRecord, RunStatus
from cano.run_filter import RunFilter, RunPage, in_pages

if TYPE_CHECKING:
    from cano.engine.binding import BoundWorkflow
    from cano.engine.run import Run
    from cano.engine.run_view import RunView
    from cano.kernel.kernel import Kernel
    from cano.streams import RunEvent, StreamItem


class RunHandle:
    """A handle to a started run. Dropping it, or cancelling its waiters, does not stop the run.

    The kernel logs a warning if the run fails and no caller asks for its error: none waits for it, and the last handle
    was dropped without it. A plugin that observes the ends of runs takes the place of this warning.
    """

    def __init__(self, kernel: Kernel, plan: BoundWorkflow, run: Run, read: RunInfo | None = None) -> None:
        self._kernel = kernel
        self._plan = plan
        self._run = run
        self._read = None if read is None else (run, read)  # from the store, after `run` stopped executing here
        run.askers += 1

    def __del__(self) -> None:
        run = self._latest()
        run.askers -= 1
        if run.error is not None:
            run.report_unasked()

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result, even if the run is parked in between.

        Raises:
            WorkflowError: the run failed, timed out, was cancelled or interrupted.
        """
        run = self._latest()
        await run.ended()
        if run.status is RunStatus.PARKED:
            return await self._kernel.required_keeper().settled(self._plan, run.run_id)
        if run.error is not None:
            run.askers += 1
            raise run.error
        return run.result(run.bound.state)

    def cancel(self) -> Awaitable[None]:
        """Cancel the run. Await the result to be sure that the run has ended.

        A run that has already ended keeps its outcome.
        """
        run = self._latest()
        if run.status is RunStatus.PARKED or (run.journal is not None and run.interrupted()):
            return self._kernel.spawn(self._cancel_elsewhere())
        run.stop(RunStatus.CANCELLED)
        return _Ended(run)

    async def _cancel_elsewhere(self) -> None:
        await self._kernel.required_keeper().cancel(self.run_id)
        await self.refresh()

    def status(self) -> RunInfo:
        """Return the run's progress as this kernel knows it, without reading the store; `as_of` is the time of that.

        If the kernel executes the run, that is now. Otherwise it is the time when the kernel stopped executing it, or
        when this handle last read it from the store: see `refresh`.
        """
        run = self._latest()
        if run.status is RunStatus.RUNNING:
            return _info_of(run, self._kernel.clock.time())
        if self._read is not None and self._read[0] is run:
            return self._read[1]
        return _info_of(run, run.stopped_at)

    async def refresh(self) -> RunInfo:
        """Read the run's progress from the store, unless this kernel executes the run; return it, as `status` does.

        Raises:
            RunNotFoundError: the run was deleted.
            SerializationError: it cannot be read.
        """
        run = self._latest()
        if run.status is RunStatus.PARKED or (run.status is not RunStatus.RUNNING and run.journal is not None):
            self._read = run, await self._kernel.required_keeper().info(self._plan, self.run_id)
        return self.status()

    async def progress(self) -> Progress | None:
        """Return the last progress that the run's step has reported, in whatever process; None without one.

        Raises:
            RunNotFoundError: the run was deleted.
            SerializationError: it cannot be read.
        """
        return (await self.refresh()).progress

    def events(self, after: int | None = None, *, follow: bool = True) -> AsyncIterator[RunEvent]:
        """Iterate over what happens to the run, in whatever processes it executes, until it ends.

        Transitions and ends come from the run's history. Retries, progress and waits are seen if a look at the run
        finds them, and so are the transitions of a run that no store keeps; its end is always seen. The kernel looks
        up to four times a second, and costs no step anything.

        Args:
            after: the position of the last event that the caller has; None for all from the run's creation.
            follow: whether to wait for more, until the run ends.

        Raises:
            RunInterruptedError: this kernel was closed before.
            RunNotFoundError: the run was deleted.
        """
        keeper, after = self._kernel.required_keeper("events"), whole_or_none("after", after, 0)
        return keeper.events(self.run_id, after, follow, self._latest())

    def stream(self, channel: str, after: int = 0, *, follow: bool = True) -> AsyncIterator[StreamItem]:
        """Iterate over what the run's steps emit to a channel, until the run ends, in whatever processes it executes.

        Items come in the order of their offsets, each once. A `StreamItem` with `superseded` follows those of an
        attempt that failed. A child run has streams of its own, and so has a fork, which begins without items.

        Args:
            channel: the channel's name. It need not exist yet.
            after: the offset of the last item that the caller has; 0 for all items.
            follow: whether to wait for more, until the run ends.

        Raises:
            RunInterruptedError: this kernel was closed before.
            RunNotFoundError: the run was deleted.
            SerializationError: items are missing, or cannot be read here.
        """
        keeper, after = self._kernel.required_keeper("a stream"), whole("after", after, 0)
        return keeper.stream(self.run_id, text("channel", channel), after, self._latest(), follow)

    def _latest(self) -> Run:
        """Return the object that executes the run now; it changes when a parked run is resumed."""
        while (successor := self._run.successor) is not None:
            self._run = successor
        return self._run

    def __repr__(self) -> str:
        return f"<RunHandle of {self._latest()!r}>"


class AttachedRun:
    """A handle to a stored run of any process, which never executes it. `Kernel.attach` makes it.

    Attributes:
        run_id: the run's id.
    """

    def __init__(self, kernel: Kernel, run_id: str) -> None:
        self._kernel = kernel
        self.run_id = run_id

    async def view(self) -> RunView:
        """See `Kernel.get`."""
        return await self._kernel.get(self.run_id)

    async def progress(self) -> Progress | None:
        """Return the last progress that the run's step has reported and a process has stored; None without one."""
        return (await self.view()).progress

    async def result(self) -> RunResult:
        """Wait until any process has executed the run to its end, and return its result, with the state's name.

        Raises:
            RunInterruptedError: this kernel was closed before.
            RunNotFoundError: the run was deleted.
            SerializationError: this process cannot read its data; bind its workflow to the kernel.
            WorkflowError: the run failed or was cancelled.
        """
        view = await (await self._kernel.opened_keeper()).ended(self.run_id)
        if view.error is not None:
            raise view.error
        for key, reason in view.unreadable.items():
            raise SerializationError(reason, key=key, run_id=self.run_id)
        return RunResult(self.run_id, view.state, view.data, view.seq)

    async def events(self, after: int | None = None, *, follow: bool = True) -> AsyncIterator[RunEvent]:
        """See `RunHandle.events`."""
        async for event in (await self._kernel.opened_keeper()).events(
            self.run_id, whole_or_none("after", after, 0), follow, None
        ):
            yield event

    async def stream(self, channel: str, after: int = 0, *, follow: bool = True) -> AsyncIterator[StreamItem]:
        """See `RunHandle.stream`."""
        keeper, after = await self._kernel.opened_keeper(), whole("after", after, 0)
        async for item in keeper.stream(self.run_id, text("channel", channel), after, None, follow):
            yield item

    async def channels(self) -> Sequence[str]:
        """Return the names of the channels that the run has emitted to."""
        return await (await self._kernel.opened_keeper()).channels(self.run_id)

    async def cancel(self) -> bool:
        """See `Kernel.cancel`."""
        return await self._kernel.cancel(self.run_id)

    async def signal(
        self, name: str, payload: Any = None, *, id: str | None = None, wait: str | None = None, connection: Any = None
    ) -> bool:
        """See `Kernel.signal`."""
        return await self._kernel.signal(self.run_id, name, payload, id=id, wait=wait, connection=connection)

    def __repr__(self) -> str:
        return f"<AttachedRun {self.run_id}>"


def _info_of(run: Run, as_of: float) -> RunInfo:
    step, state = run.step, run.state
    run.askers += run.error is not None
    if run.status is RunStatus.PARKED and run.wait is not None:
        state = run.plan.by_name[run.wait.then].state
    return RunInfo(
        run.run_id, run.workflow, run.status, state, step.seq, step.attempt, step.last_progress, run.error, as_of
    )


class _Ended:
    """An awaitable for the end of a run, which need not be awaited."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        return self._run.ended().__await__()


class RunListing:
    """The runs of a store: `await` it for a list, or iterate over it with `async for`.

    An iteration reads the list in pages, so that it holds few records. A run that is created meanwhile is left out.
    """

    def __init__(self, kernel: Kernel, filter: RunFilter, where: str | None) -> None:
        self._kernel = kernel
        self._filter = filter, where

    async def _records(self) -> list[RunRecord]:
        keeper = await self._kernel.opened_keeper()
        return await keeper.runs(await keeper.selected(*self._filter))

    async def page(self) -> RunPage:
        """Return the first runs, at most the list's `limit`, or 500, and the cursor of the next page.

        A page takes a bounded time: if the store must be read for a condition that no index serves, the page ends after
        some thousand runs, with fewer than its limit or none, and a cursor.
        """
        keeper = await self._kernel.opened_keeper()
        return await keeper.page(await keeper.selected(*self._filter))

    async def count(self) -> int:
        """Return how many runs match, at most the list's `limit`.

        A store with the capability `attributes` counts them itself. For `!=` and `in (…)` it counts several times, so
        that runs which change meanwhile may count twice or not at all. Running, interrupted and queued runs, and those
        with an `error`, are read. The time of an exact count grows with the runs; a `limit` bounds it.
        """
        keeper = await self._kernel.opened_keeper()
        return await keeper.count(await keeper.selected(*self._filter))

    def __await__(self) -> Generator[Any, None, list[RunRecord]]:
        return self._records().__await__()

    async def __aiter__(self) -> AsyncIterator[RunRecord]:
        keeper = await self._kernel.opened_keeper()
        async for record in in_pages(keeper.runs, await keeper.selected(*self._filter)):
            yield record
