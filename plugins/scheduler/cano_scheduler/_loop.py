"""The scheduler's loop, which waits for due times and decides them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from cano import Kernel, Timer
from cano.safe_text import escaped

from cano_scheduler._decide import Decision, decide, is_current, start_queue_if_idle
from cano_scheduler._lifecycle import restart_interval
from cano_scheduler._repository import LocalRepository
from cano_scheduler._runner import Runner
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import State
from cano_scheduler._timer_queue import TimerQueue
from cano_scheduler._times import SECOND, micros

_YIELD_EVERY = 20  # schedules decided before the event loop may start their runs
_log = logging.getLogger("cano.scheduler")


class Loop:
    """The loop of a running scheduler.

    Args:
        kernel: provides the clock.
        runner: applies the decisions.
        schedules: the definitions by id; they may change while the loop runs.
        poll: seconds between two checks of the store for changes by other processes.
        repaired: returns the schedules whose state could not be read, and can be read now.
    """

    def __init__(
        self,
        kernel: Kernel,
        runner: Runner,
        schedules: dict[str, Schedule],
        poll: float,
        repaired: Callable[[], Awaitable[list[Schedule]]],
    ) -> None:
        self._runner = runner
        self._repository = runner.repository
        self._schedules = schedules
        self._poll = poll
        self._repaired = repaired
        self._clock = kernel.clock
        self._sweep_timer: Timer | None = None
        self._wake = asyncio.Event()
        self._timers = TimerQueue(kernel.clock, self._wake.set)
        self._deciding: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start deciding."""
        for schedule in self._schedules.values():
            self.plan(schedule)
            await self._apart(schedule, self._start_queue_if_idle)
        if self._repository.shared:
            self._plan_sweep()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cano scheduler")

    async def stop(self) -> None:
        """Stop deciding."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._timers.disarm()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def _plan_sweep(self) -> None:
        self._sweep_timer = self._clock.call_at(
            self._clock.monotonic() + self._poll, lambda: self._runner.spawn(self._sweep())
        )

    def plan(self, schedule: Schedule) -> None:
        """Put the next due time of the schedule into the timer queue, and wake the loop."""
        self._put(schedule)
        self._wake.set()

    def _put(self, schedule: Schedule) -> None:
        state = self._repository.state(schedule.id)
        due = None
        if state is not None and self._schedules.get(schedule.id) is schedule and is_current(schedule, state):
            nominal = schedule.next(state.cursor, state.anchor)
            due = None if nominal is None else schedule.due(nominal, state.anchor)
        self._timers.put(schedule.id, due)

    def unplan(self, id: str) -> None:
        """Remove a schedule from the timer queue."""
        self._timers.put(id, None)

    async def _run(self) -> None:
        turns = 0
        while True:
            self._wake.clear()
            if (step := self._timers.set_back()) > 0:
                self._runner.spawn(self._restart_intervals(step))
            while due := self._timers.pop():
                for id in due:
                    if (schedule := self._schedules.get(id)) is not None and id not in self._deciding:
                        if isinstance(self._repository, LocalRepository):
                            await self._tick_local(schedule, self._repository)
                        else:
                            self._runner.spawn(self._tick(schedule))
                    turns += 1
                    if turns % _YIELD_EVERY == 0:
                        await asyncio.sleep(0)
            self._timers.arm()
            await self._wake.wait()

    async def _tick_local(self, schedule: Schedule, repository: LocalRepository) -> None:
        """Decide the due times of one schedule without a shared store."""
        state = repository.states[schedule.id]
        try:
            decision = decide(schedule, state, self._timers.now())
        except Exception:  # noqa: BLE001  # one faulty schedule must not stop the others
            _log.exception("schedule %s cannot be decided; it fires nothing more", escaped(schedule.id))
            return
        repository.record(schedule.id, decision)
        if decision is not None and decision.due is not None:
            self._timers.put(schedule.id, decision.due)
        else:
            self._put(schedule)
        if decision is None:
            return
        if decision.cancels:
            self._runner.spawn(self._apply(schedule, decision))  # cancelled runs may take long to clean up
        else:
            await self._runner.apply_local(schedule, decision)
        if decision.more:
            await asyncio.sleep(0)

    async def _tick(self, schedule: Schedule) -> None:
        """Decide the due times of one schedule in the shared store."""
        self._deciding.add(schedule.id)
        try:
            if not self._runner.tracks_all(schedule):
                await self._runner.recover_runs(schedule)  # a run of a dead process must not count as an overlap
            decision = await self._repository.update(schedule.id, partial(self._decide, schedule))
        except Exception as error:  # noqa: BLE001  # no error of a store may stop the schedule
            _log.warning("schedule %s: the store failed: %r; retrying", escaped(schedule.id), error)
            self._timers.put(schedule.id, self._timers.now() + micros(self._poll))
            self._wake.set()
            return
        finally:
            self._deciding.discard(schedule.id)
        self.plan(schedule)
        await self._apply(schedule, decision)

    async def _apply(self, schedule: Schedule, decision: Decision | None) -> None:
        await self._runner.apply(schedule, decision)

    def _decide(self, schedule: Schedule, state: State) -> Decision | None:
        return decide(schedule, state, self._timers.now())

    async def _start_queue_if_idle(self, schedule: Schedule) -> None:
        """Start the next queued job if none is running."""
        state = self._repository.state(schedule.id)
        if state is not None and state.queue and not state.running():
            decision = await self._repository.update(
                schedule.id, lambda state: start_queue_if_idle(schedule, state, self._timers.now())
            )
            await self._runner.apply(schedule, decision)

    async def _restart_intervals(self, step: int) -> None:
        """Let the intervals continue after the wall clock was set back by `step` microseconds, and plan all again."""
        _log.warning("the wall clock was set back by %.1f s", step / SECOND)
        for schedule in list(self._schedules.values()):
            try:
                await self._repository.update(
                    schedule.id, partial(restart_interval, schedule, now=self._timers.now(), step=step)
                )
            except Exception as error:  # noqa: BLE001  # a store may be unavailable for a while
                _log.warning("schedule %s: the store failed: %r", escaped(schedule.id), error)
            self.plan(schedule)

    async def _take_over(self, schedule: Schedule) -> None:
        """Take over the runs of a schedule from dead processes."""
        if not self._runner.tracks_all(schedule):
            await self._runner.recover_runs(schedule)
        await self._start_queue_if_idle(schedule)

    async def _apart(self, schedule: Schedule, work: Callable[[Schedule], Awaitable[None]]) -> None:
        """Do `work` for one schedule. An error of it concerns this schedule alone."""
        try:
            await work(schedule)
        except Exception as error:  # noqa: BLE001  # the other schedules continue
            _log.warning("schedule %s: the store failed: %r; retrying", escaped(schedule.id), error)

    async def _sweep(self) -> None:
        """Reload the states that other processes changed, and take over the runs of dead processes."""
        try:
            for id in await self._repository.refresh():
                if id in self._schedules and id not in self._deciding:
                    self.plan(self._schedules[id])
            for schedule in await self._repaired():
                self.plan(schedule)
            for id in self._repository.busy():
                if (busy := self._schedules.get(id)) is not None:
                    await self._apart(busy, self._take_over)
        except Exception as error:  # noqa: BLE001  # a store may be unavailable for a while
            _log.warning("the store failed: %r; retrying", error)
        finally:
            if self._task is not None and not self._task.done():
                self._plan_sweep()
