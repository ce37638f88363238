"""Runs of schedules: started, followed to their end, and taken over from processes that died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from cano import (
    CanoError,
    Kernel,
    Run,
    RunCancelledError,
    RunHandle,
    RunInterruptedError,
    RunStatus,
    StoreError,
    StoreView,
    is_held,
    isolate,
)

from cano_scheduler._batch import ending_of
from cano_scheduler._decide import Decision
from cano_scheduler._ledger import Ledger, LocalLedger
from cano_scheduler._observers import Observers
from cano_scheduler._schedule import Schedule
from cano_scheduler._settle import SUCCEEDED, Ending, settle
from cano_scheduler._state import Entry, State
from cano_scheduler._times import micros

_log = logging.getLogger("cano.scheduler")


class Driver:
    """Carries out what was decided.

    Args:
        kernel: drives the runs.
        ledger: has the schedules' states.
        patience: seconds that whoever decided on a run gets to start it, before another process does.

    Attributes:
        stopping: whether what waits for a run's end is to wait on.
    """

    def __init__(self, kernel: Kernel, ledger: Ledger, patience: float) -> None:
        self.ledger = ledger
        self.stopping = False
        self._kernel = kernel
        self._patience = micros(patience)
        self._observers = Observers(kernel)
        self._followed: dict[str, tuple[RunHandle, asyncio.Task[None]]] = {}
        self._plans: dict[str, tuple[Schedule, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> int:
        """Microseconds since the epoch."""
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
            _log.error("the scheduler's own work failed", exc_info=error)

    async def carry_out(self, schedule: Schedule, decision: Decision | None) -> list[RunHandle]:
        """Cancel, tell and start what was decided; the handles of what was started."""
        if decision is None:
            return []
        for run_id in decision.cancels:
            await self._cancel(run_id)
        if not self.ledger.shared:
            return self.carry_out_here(schedule, decision)
        self._observers.tell(decision.ticks)
        handles = [await self.start(schedule, entry) for entry in decision.starts]
        return [handle for handle in handles if handle is not None]

    def carry_out_here(self, schedule: Schedule, decision: Decision) -> list[RunHandle]:
        """The same at once, where nothing is shared and nothing is to be cancelled first."""
        self._observers.tell(decision.ticks)
        return [self._start_here(schedule, entry) for entry in decision.starts]

    async def start(self, schedule: Schedule, entry: Entry) -> RunHandle | None:
        """Start a run in the store, or take it over; None where that cannot be."""
        if entry.data is not None and self._kernel.codec is not None:
            self._kernel.codec.register(*self._kernel.bind(schedule.flow).types())
        data = {**(schedule.data or {}), **self.ledger.unpack(entry.data)}
        try:
            handle = await self._kernel.start(schedule.flow, data, run_id=entry.run_id, timeout=schedule.timeout)
        except StoreError as error:
            _log.warning("schedule %s: run %s could not be started: %r", schedule.id, entry.run_id, error)
            return None  # whoever looks after it next tries again
        except CanoError as error:
            await self._end(schedule, entry.run_id, Ending(failed=True, failures=1, error=error))
            return None
        if entry.run_id not in self._followed:
            self._follow(schedule, handle, None)
        return handle

    def _start_here(self, schedule: Schedule, entry: Entry) -> RunHandle:
        """Start a run that no store keeps: under its own id, which `Kernel.start` would have kept, at a price."""
        known = self._plans.get(schedule.id)
        if known is None or known[0] is not schedule:
            known = self._plans[schedule.id] = schedule, self._kernel.bind(schedule.flow)
        plan = known[1]
        data = {**schedule.data, **(entry.data or {})} if schedule.data else entry.data or {}
        view = StoreView({key: isolate(value) for key, value in data.items()})
        run = Run(self._kernel, plan, entry.run_id, view, timeout=schedule.timeout)
        handle = RunHandle(self._kernel, plan, run)
        self._follow(schedule, handle, run)
        return handle

    def _follow(self, schedule: Schedule, handle: RunHandle, run: Run | None) -> None:
        """See a run through to its end, and note that."""
        task = asyncio.get_running_loop().create_task(self._see_through(schedule, handle, run))
        self._followed[handle.run_id] = handle, task

    async def _see_through(self, schedule: Schedule, handle: RunHandle, run: Run | None) -> None:
        try:
            if run is not None:
                try:  # noqa: SIM105  # suppress() costs as much as all the rest here
                    await run.drive()
                except Exception:  # noqa: BLE001  # the handle tells
                    pass
                done = run.status is RunStatus.SUCCEEDED and schedule.batch is None
                ending = SUCCEEDED if done else await _ending(schedule, handle)
            else:
                ending = await _ending(schedule, handle)
            if ending is not None:
                await self._end(schedule, handle.run_id, ending)
        except Exception:  # noqa: BLE001  # nobody awaits this task: it is told here
            _log.exception("schedule %s: the end of run %s could not be noted", schedule.id, handle.run_id)
        finally:
            del self._followed[handle.run_id]

    async def _end(self, schedule: Schedule, run_id: str, ending: Ending) -> None:
        if isinstance(self.ledger, LocalLedger):
            state = self.ledger.states[schedule.id]
            decision = settle(schedule, state, run_id, ending, self.now(), self.stopping)
            self.ledger.note(schedule.id, decision)
            if decision is not None and decision.ticks:
                self.carry_out_here(schedule, decision)
            return

        def change(state: State) -> Decision | None:
            return settle(schedule, state, run_id, ending, self.now(), self.stopping)

        try:
            decision = await self.ledger.update(schedule.id, change)
        except StoreError as error:
            _log.warning("schedule %s: the end of run %s could not be noted: %r", schedule.id, run_id, error)
            return  # whoever looks after it next does
        if decision is not None and decision.ticks:
            await self.carry_out(schedule, decision)

    async def _cancel(self, run_id: str) -> None:
        followed = self._followed.get(run_id)
        if followed is None:
            await self._kernel.cancel(run_id)
        else:
            await followed[0].cancel()

    async def look_after(self, schedule: Schedule) -> None:
        """Take care of the runs that no process may be driving: not started, interrupted, ended without a note."""
        state, backend = self.ledger.state(schedule.id), self._kernel.backend
        assert backend is not None
        for entry in () if state is None else list(state.active.values()):
            if entry.run_id in self._followed:
                if entry.cancelled:
                    await self._cancel(entry.run_id)
                continue
            record, now = await backend.load(entry.run_id), self._kernel.clock.time()
            if record is None and micros(now) - entry.at < self._patience:
                continue  # it is just being started
            if record is not None and not record.status.finished:
                if entry.cancelled:
                    await self._kernel.cancel(entry.run_id)
                if is_held(record, now):
                    continue  # somebody drives it
                if record.status is RunStatus.PARKED and not await self._wakes(schedule, entry):
                    continue
            await self.start(schedule, entry)

    async def _wakes(self, schedule: Schedule, entry: Entry) -> bool:
        """Whether a parked run goes on here, now: what it waits for is there."""
        await self._kernel.start(schedule.flow, {}, run_id=entry.run_id, timeout=schedule.timeout)
        return entry.run_id in self._kernel.active

    def follows_all(self, schedule: Schedule) -> bool:
        """Whether all runs of a schedule that are under way are followed here."""
        state = self.ledger.state(schedule.id)
        return state is None or all(run_id in self._followed for run_id in state.active)

    async def finish(self, timeout: float) -> None:
        """Let the runs followed here end within `timeout` seconds, then cancel them; parked ones stay parked."""
        clock = self._kernel.clock
        patience = asyncio.ensure_future(clock.sleep(timeout))
        try:
            while (busy := self._busy()) and not patience.done():
                await asyncio.wait({patience, *busy}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            await asyncio.gather(patience, return_exceptions=True)
        # in each turn anew: work that the store held up may begin a run late, and a run may park instead of ending
        while self._tasks or self._followed:
            for end in [handle.cancel() for handle, _ in self._followed.values() if not self._is_parked(handle)]:
                await end
            for handle, task in self._followed.values():
                if self._is_parked(handle):
                    task.cancel()
            tasks = self._tasks | {task for _, task in self._followed.values()}
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)

    def _busy(self) -> set[asyncio.Task[None]]:
        return self._tasks | {task for handle, task in self._followed.values() if not self._is_parked(handle)}

    def _is_parked(self, handle: RunHandle) -> bool:
        return handle.run_id not in self._kernel.active and handle.status().status is RunStatus.PARKED


async def _ending(schedule: Schedule, handle: RunHandle) -> Ending | None:
    """How the run ended; None where it was interrupted, so that it goes on at another time."""
    try:
        result = await handle.result()
        return SUCCEEDED if schedule.batch is None else ending_of(result)
    except RunCancelledError:
        return Ending(cancelled=True)
    except RunInterruptedError:
        return None
    except Exception as error:  # noqa: BLE001  # whatever a run fails with is noted
        return Ending(failed=True, failures=1, error=error)
