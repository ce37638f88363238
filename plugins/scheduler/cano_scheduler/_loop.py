"""The scheduler's loop: sleeps until something is due, decides it, and sleeps again."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from cano import Kernel

from cano_scheduler._agenda import Agenda
from cano_scheduler._decide import Decision, belongs, decide, waiting
from cano_scheduler._driver import Driver
from cano_scheduler._ledger import LocalLedger
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import State
from cano_scheduler._times import micros

_SWEEP = ""  # in the agenda: look at what other processes did; no schedule has this id
_BREATH = 20  # schedules in a row after which the runs that were started get to begin
_log = logging.getLogger("cano.scheduler")


class Loop:
    """Decides what is due, as long as it is not stopped.

    Args:
        kernel: whose clock counts.
        driver: carries out what is decided.
        schedules: the definitions, by id; may change meanwhile.
        poll: seconds between two looks at what other processes did.
    """

    def __init__(self, kernel: Kernel, driver: Driver, schedules: dict[str, Schedule], poll: float) -> None:
        self._driver = driver
        self._ledger = driver.ledger
        self._schedules = schedules
        self._poll = micros(poll)
        self._wake = asyncio.Event()
        self._agenda = Agenda(kernel.clock, self._wake.set)
        self._under_way: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        for schedule in self._schedules.values():
            self.plan(schedule)
            await self._start_waiting(schedule)
        if self._ledger.shared:
            self._agenda.put(_SWEEP, self._agenda.now() + self._poll)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cano scheduler")

    async def stop(self) -> None:
        """Decide nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._agenda.disarm()

    def plan(self, schedule: Schedule) -> None:
        """Put the schedule's next time on the agenda, and see to it."""
        self._put(schedule)
        self._wake.set()

    def _put(self, schedule: Schedule) -> None:
        state = self._ledger.state(schedule.id)
        due = None
        if state is not None and self._schedules.get(schedule.id) is schedule and belongs(schedule, state):
            nominal = schedule.next(state.cursor, state.anchor)
            due = None if nominal is None else schedule.due(nominal, state.anchor)
        self._agenda.put(schedule.id, due)

    def forget(self, id: str) -> None:
        """Take a schedule off the agenda."""
        self._agenda.put(id, None)

    async def _run(self) -> None:
        turns = 0
        while True:
            self._wake.clear()
            while due := self._agenda.pop():
                for id in due:
                    if id == _SWEEP:
                        self._driver.spawn(self._sweep())
                    elif (schedule := self._schedules.get(id)) is not None and id not in self._under_way:
                        if isinstance(self._ledger, LocalLedger):
                            self._tick_here(schedule, self._ledger)
                        else:
                            self._driver.spawn(self._tick(schedule))
                    turns += 1
                    if turns % _BREATH == 0:
                        await asyncio.sleep(0)
            self._agenda.arm()
            await self._wake.wait()

    def _tick_here(self, schedule: Schedule, ledger: LocalLedger) -> None:
        """Decide what is due of one schedule, where nothing is shared."""
        state = ledger.states[schedule.id]
        try:
            decision = decide(schedule, state, self._agenda.now())
        except Exception:  # noqa: BLE001  # one that cannot be decided must not stop the others
            _log.exception("schedule %s cannot be decided; it is not tried again", schedule.id)
            return
        ledger.note(schedule.id, decision)
        if decision is not None and decision.due is not None:
            self._agenda.put(schedule.id, decision.due)
        else:
            self._put(schedule)
        if decision is None:
            return
        if decision.cancels:
            self._driver.spawn(self._carry_out(schedule, decision))  # a clean-up may take its time
        else:
            self._driver.carry_out_here(schedule, decision)

    async def _tick(self, schedule: Schedule) -> None:
        """Decide what is due of one schedule, before another process does."""
        self._under_way.add(schedule.id)
        try:
            if not self._driver.follows_all(schedule):
                await self._driver.look_after(schedule)  # what another process left must block nothing
            decision = await self._ledger.update(schedule.id, partial(self._decide, schedule))
        except Exception as error:  # noqa: BLE001  # whatever a store raises, the schedule must go on
            _log.warning("schedule %s: %r; trying again", schedule.id, error)
            self._agenda.put(schedule.id, self._agenda.now() + self._poll)
            self._wake.set()
            return
        finally:
            self._under_way.discard(schedule.id)
        self.plan(schedule)
        await self._carry_out(schedule, decision)

    async def _carry_out(self, schedule: Schedule, decision: Decision | None) -> None:
        await self._driver.carry_out(schedule, decision)

    def _decide(self, schedule: Schedule, state: State) -> Decision | None:
        return decide(schedule, state, self._agenda.now())

    async def _start_waiting(self, schedule: Schedule) -> None:
        """Start what waits although nothing is under way."""
        state = self._ledger.state(schedule.id)
        if state is not None and state.queue and not state.running():
            decision = await self._ledger.update(schedule.id, lambda s: waiting(schedule, s, self._agenda.now()))
            await self._driver.carry_out(schedule, decision)

    async def _sweep(self) -> None:
        """See what other processes did, and take over what they left."""
        try:
            for id in await self._ledger.refresh():
                if id in self._schedules and id not in self._under_way:
                    self.plan(self._schedules[id])
            for schedule in list(self._schedules.values()):
                if not self._driver.follows_all(schedule):
                    await self._driver.look_after(schedule)
                await self._start_waiting(schedule)
        except Exception as error:  # noqa: BLE001  # a store may be out of reach for a while
            _log.warning("the store could not be asked: %r; trying again", error)
        finally:
            self._agenda.put(_SWEEP, self._agenda.now() + self._poll)
            self._wake.set()
