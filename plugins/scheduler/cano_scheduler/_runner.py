"""Starting the runs of schedules, tracking them to their end, and taking them over from dead processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from cano import (
    CanoError,
    Kernel,
    PermanentStoreError,
    RunCancelledError,
    RunHandle,
    RunInterruptedError,
    RunStatus,
    StoreError,
    is_held,
)
from cano.engine.ports import refuse_inside
from cano.safe_text import escaped

from cano_scheduler._batch import batch_end
from cano_scheduler._decide import Decision
from cano_scheduler._observers import Observers
from cano_scheduler._repository import LocalRepository, Repository
from cano_scheduler._run_end import SUCCEEDED, RunEnd, record_end
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import Job, State
from cano_scheduler._times import micros

_log = logging.getLogger("cano.scheduler")


class Runner:
    """The part of a scheduler that applies decisions.

    Args:
        kernel: executes the runs.
        repository: keeps the states of the schedules.
        start_timeout: seconds after a decision in which the deciding process must start the run; then another may.

    Attributes:
        stopping: whether the scheduler stops, so that the end of a run does not start a queued one.
    """

    def __init__(self, kernel: Kernel, repository: Repository, start_timeout: float) -> None:
        self.repository = repository
        self.stopping = False
        self._kernel = kernel
        self._start_timeout = micros(start_timeout)
        self._observers = Observers(kernel)
        self._tracked: dict[str, tuple[RunHandle, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> int:
        """Return the current time in microseconds since the epoch."""
        return micros(self._kernel.clock.time())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do `work` in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task of the scheduler failed", exc_info=error)

    async def apply(self, schedule: Schedule, decision: Decision | None) -> list[RunHandle]:
        """Cancel runs, call hooks and start runs as decided. Return the handles of the started runs."""
        if decision is None:
            return []
        for run_id in decision.cancels:
            await self._cancel(run_id)
        if not self.repository.shared:
            return await self.apply_local(schedule, decision)
        self._observers.call_hooks(decision.ticks)
        handles = [await self.start(schedule, job) for job in decision.starts]
        return [handle for handle in handles if handle is not None]

    async def apply_local(self, schedule: Schedule, decision: Decision) -> list[RunHandle]:
        """Call hooks and start runs without a shared store. The decision must cancel no runs."""
        self._observers.call_hooks(decision.ticks)
        handles = [await self._start_local(schedule, job) for job in decision.starts]
        return [handle for handle in handles if handle is not None]

    async def start(self, schedule: Schedule, job: Job) -> RunHandle | None:
        """Start or take over a run in the store. Return None, and log or record the error, if that fails."""
        data = {**(schedule.data or {}), **self.repository.unpack(job.data, schedule)}
        try:
            handle = await self._kernel.start(
                schedule.flow, data, run_id=job.run_id, timeout=schedule.timeout, on_existing="same-data",
                origin=schedule.origin,
            )  # fmt: skip
        except CanoError as error:
            if _may_pass(error):  # `recover_runs` of any process tries again
                names = escaped(schedule.id), escaped(job.run_id)
                _log.warning("schedule %s: run %s could not be started: %r", *names, error)
            else:
                await self._record_end(schedule, job.run_id, RunEnd(failed=True, failures=1, error=error))
            return None
        if job.run_id not in self._tracked:
            self._track(schedule, handle)
        return handle

    async def _start_local(self, schedule: Schedule, job: Job) -> RunHandle | None:
        """Start a run in memory, without suspending. Return None, and record the error, if that fails."""
        data = {**schedule.data, **(job.data or {})} if schedule.data else job.data
        start = self._kernel.start(schedule.flow, data, run_id=job.run_id, timeout=schedule.timeout, keep=False)
        try:
            handle = await start
        except CanoError as error:
            await self._record_end(schedule, job.run_id, RunEnd(failed=True, failures=1, error=error))
            return None
        self._track(schedule, handle)
        return handle

    def _track(self, schedule: Schedule, handle: RunHandle) -> None:
        """Wait for the end of a run in the background, and record it."""
        task = asyncio.get_running_loop().create_task(self._await_end(schedule, handle))
        self._tracked[handle.run_id] = handle, task

    async def _await_end(self, schedule: Schedule, handle: RunHandle) -> None:
        try:
            end = await _run_end(schedule, handle, self.repository.shared)
            if end is not None:
                await self._record_end(schedule, handle.run_id, end)
        except Exception:  # noqa: BLE001  # no code awaits this task
            names = escaped(schedule.id), escaped(handle.run_id)
            _log.exception("schedule %s: the end of run %s could not be recorded", *names)
        finally:
            del self._tracked[handle.run_id]

    async def _record_end(self, schedule: Schedule, run_id: str, end: RunEnd) -> None:
        if isinstance(self.repository, LocalRepository):
            state = self.repository.states[schedule.id]
            decision = record_end(schedule, state, run_id, end, self.now(), self.stopping)
            self.repository.record(schedule.id, decision)
            if decision is not None and decision.ticks:
                await self.apply_local(schedule, decision)
            return

        def change(state: State) -> Decision | None:
            return record_end(schedule, state, run_id, end, self.now(), self.stopping)

        try:
            decision = await self.repository.update(schedule.id, change)
        except StoreError as error:
            names = escaped(schedule.id), escaped(run_id)
            _log.warning("schedule %s: the end of run %s could not be recorded: %r", *names, error)
            return  # `recover_runs` of any process records it
        if decision is not None and decision.ticks:
            await self.apply(schedule, decision)

    async def _cancel(self, run_id: str) -> None:
        tracked = self._tracked.get(run_id)
        if tracked is None:
            await self._kernel.cancel(run_id)
        else:
            await tracked[0].cancel()

    async def recover_runs(self, schedule: Schedule) -> None:
        """Start or resume the active runs that were not started or were interrupted; record unrecorded ends.

        A run that can never continue, as one whose record cannot be read, has failed.
        """
        state = self.repository.state(schedule.id)
        for job in () if state is None else list(state.active.values()):
            try:
                await self._recover_run(schedule, job)
            except CanoError as error:
                if _may_pass(error):
                    raise
                await self._record_end(schedule, job.run_id, RunEnd(failed=True, failures=1, error=error))

    async def _recover_run(self, schedule: Schedule, job: Job) -> None:
        if job.run_id in self._tracked:
            if job.cancelled:
                await self._cancel(job.run_id)
            return
        assert self._kernel.backend is not None
        record, now = await self._kernel.backend.load(job.run_id), self._kernel.clock.time()
        if record is None and abs(micros(now) - job.at) < self._start_timeout:
            return  # the deciding process may still start it
        if record is not None and not record.status.finished:
            if job.cancelled:
                await self._kernel.cancel(job.run_id)
            if is_held(record, now):
                return  # another process executes it
            if record.status is RunStatus.PARKED and not await self._wake(schedule, job):
                return
        await self.start(schedule, job)

    async def _wake(self, schedule: Schedule, job: Job) -> bool:
        """Resume a parked run if its signal or time has come. Return whether this kernel executes it now."""
        await self._kernel.start(schedule.flow, run_id=job.run_id, timeout=schedule.timeout, origin=schedule.origin)
        return job.run_id in self._kernel.active

    def tracks_all(self, schedule: Schedule) -> bool:
        """Return whether this process tracks all active runs of a schedule."""
        state = self.repository.state(schedule.id)
        return state is None or all(run_id in self._tracked for run_id in state.active)

    def refuse_inside(self) -> None:
        """Raise ConfigurationError if a task of a tracked run calls this."""
        active = self._kernel.active
        refuse_inside([active[run_id] for run_id in self._tracked if run_id in active], "stop its scheduler")

    async def finish(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the tracked runs to end, then cancel them. Parked runs stay parked."""
        clock = self._kernel.clock
        timer = asyncio.ensure_future(clock.sleep(timeout))
        try:
            while (busy := self._busy()) and not timer.done():
                await asyncio.wait({timer, *busy}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        # checked in each turn: a slow store may start a run late, and a run may park before it is cancelled
        while self._tasks or self._tracked:
            for cancellation in [handle.cancel() for handle, _ in self._tracked.values() if not self._is_left(handle)]:
                await cancellation
            for handle, task in self._tracked.values():
                if self._is_left(handle):
                    task.cancel()
            tasks = self._tasks | {task for _, task in self._tracked.values()}
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)

    def _busy(self) -> set[asyncio.Task[None]]:
        return self._tasks | {task for handle, task in self._tracked.values() if not self._is_left(handle)}

    def _is_left(self, handle: RunHandle) -> bool:
        """Return whether the run is parked, or executed by another process."""
        return handle.run_id not in self._kernel.active and handle.status().status in (
            RunStatus.PARKED,
            RunStatus.RUNNING,
        )


def _may_pass(error: CanoError) -> bool:
    """Return whether the call that raised `error` may succeed later."""
    return isinstance(error, StoreError) and not isinstance(error, PermanentStoreError)


async def _run_end(schedule: Schedule, handle: RunHandle, stored: bool) -> RunEnd | None:
    """Return the end of the run; None if it was interrupted and will be resumed, as only a stored run can be."""
    try:
        result = await handle.result()
        return SUCCEEDED if schedule.batch is None else batch_end(result)
    except RunCancelledError:
        return RunEnd(cancelled=True)
    except RunInterruptedError:
        return None
    except Exception as error:  # noqa: BLE001  # any error of a run is recorded
        if stored and isinstance(error, CanoError) and _may_pass(error):
            return None
        return RunEnd(failed=True, failures=1, error=error)
