"""What `Scheduler` does, behind its checked arguments."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from cano import CanoError, ConfigurationError, Kernel, RunHandle, SchedulerError, SerializationError, Workflow

from cano_scheduler import _check, _standing
from cano_scheduler._decide import Decision, admit, start
from cano_scheduler._defining import Seconds, make
from cano_scheduler._driver import Driver
from cano_scheduler._ledger import Ledger, LocalLedger
from cano_scheduler._loop import Loop
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import Entry, State
from cano_scheduler._stored import StoredLedger
from cano_scheduler._times import run_id_of
from cano_scheduler._triggers import NoTrigger, Trigger
from cano_scheduler.info import FlowInfo, info_of
from cano_scheduler.tick import Tick

_CHANGES = {"pause": _standing.pause, "resume": _standing.resume, "reset": _standing.reset}


class Service:
    """The schedules of one scheduler, and what is done with them.

    Args:
        kernel: drives the runs.
        poll: seconds between two looks at what other processes did.

    Attributes:
        schedules: the definitions, by id.
        loop: fires what is due, while it is running.
    """

    def __init__(self, kernel: Kernel, poll: float) -> None:
        self.schedules: dict[str, Schedule] = {}
        self.loop: Loop | None = None
        self._kernel = kernel
        self._poll = poll
        self._driver: Driver | None = None
        self._attached: dict[str, Schedule] = {}
        self._starting = False

    # defining

    def add(self, id: str, flow: Workflow[Any], trigger: Trigger, grace: Seconds, options: dict[str, Any]) -> None:
        """Add a schedule, or replace one."""
        replace = options.pop("replace", False)
        if id in self.schedules and not replace:
            raise SchedulerError(f"id={id!r}: there is a schedule of that id; say replace=True to change it")
        if unknown := options.keys() - _OPTIONS:
            raise ConfigurationError(f"unknown option(s) {', '.join(sorted(unknown))}; known: {_KNOWN}")
        schedule = make(self._kernel, id, flow, trigger, grace, **options)
        if self._driver is not None:
            self._check_data(schedule)
        self.schedules[id] = schedule
        if self.loop is not None and self._driver is not None:
            self._driver.spawn(self._begin(schedule))

    async def _begin(self, schedule: Schedule) -> None:
        """Let a schedule that was added while it runs be due."""
        if self.schedules.get(schedule.id) is schedule:
            await self._attach(schedule)
            if self.loop is not None:
                self.loop.plan(schedule)

    def _check_data(self, schedule: Schedule) -> None:
        assert self._driver is not None
        for key, value in (schedule.data or {}).items():
            self._pack({key: value}, f"data of schedule {schedule.id!r}")

    def _pack(self, data: Mapping[str, Any] | None, what: str = "data") -> Any:
        assert self._driver is not None
        checked = _check.data("data", data)
        try:
            return self._driver.ledger.pack(checked)
        except SerializationError as error:
            raise ConfigurationError(f"{what} cannot be stored: {error}") from error

    async def _open(self) -> Driver:
        """Know where the states are kept."""
        await self._kernel.open()
        if self._driver is None:
            backend, ledger = self._kernel.backend, None
            if backend is not None and backend.capabilities.durable:
                ledger = StoredLedger(backend, self._kernel.codec)
            self._driver = Driver(self._kernel, ledger or LocalLedger(), 2 * self._poll)
        return self._driver

    @property
    def ledger(self) -> Ledger:
        """Where the states are."""
        assert self._driver is not None
        return self._driver.ledger

    async def _attach(self, schedule: Schedule, now: int | None = None) -> None:
        if self._attached.get(schedule.id) is not schedule:
            driver = await self._open()
            await driver.ledger.attach(schedule, driver.now() if now is None else now)
            self._attached[schedule.id] = schedule

    async def _get(self, id: str) -> tuple[Schedule, Driver]:
        schedule = self.schedules.get(id)
        if schedule is None:
            known = ", ".join(map(repr, self.schedules)) or "none"
            raise SchedulerError(f"there is no schedule {id!r}; there are: {known}")
        driver = await self._open()
        await self._attach(schedule)
        return schedule, driver

    # running

    async def start(self) -> None:
        """Begin to fire."""
        if self.loop is not None or self._starting:
            raise SchedulerError("the scheduler is running already; it can be started once, and again after stop()")
        self._starting = True
        try:
            driver = await self._open()
            driver.stopping = False
            for schedule in self.schedules.values():
                self._check_data(schedule)
            now = driver.now()
            for schedule in list(self.schedules.values()):
                await self._attach(schedule, now)
            loop = Loop(self._kernel, driver, self.schedules, self._poll)
            await loop.start()
            self.loop = loop
        finally:
            self._starting = False

    async def stop(self, timeout: float) -> None:
        """Fire nothing more, and let runs end."""
        loop, self.loop = self.loop, None
        if loop is not None:
            await loop.stop()
        if self._driver is not None:
            self._driver.stopping = True
            await self._driver.finish(timeout)

    # doing

    async def _put(self, schedule: Schedule, driver: Driver, entry: Entry, policy: bool) -> list[RunHandle]:
        """Start `entry`, or, where the `policy` for overlaps counts, do with it what that says."""

        def change(state: State) -> Decision | None:
            if entry.run_id in state.active or any(other.run_id == entry.run_id for other in state.queue):
                return None
            decision = Decision()
            (admit if policy else start)(schedule, state, entry, entry.at, decision)
            return decision

        return await driver.carry_out(schedule, await driver.ledger.update(schedule.id, change))

    async def trigger(self, id: str, data: Mapping[str, Any] | None) -> RunHandle:
        """Run it now."""
        schedule, driver = await self._get(id)
        now = driver.now()
        entry = Entry(f"{id}@{uuid.uuid4().hex}", "trigger", None, now, now, self._pack(data))
        handles = await self._put(schedule, driver, entry, policy=False)
        if not handles:
            state = await driver.ledger.look(id)
            said = "" if state is None or state.last_error is None else f": {state.last_error}"
            raise SchedulerError(f"schedule {id!r} could not be started{said}")
        return handles[0]

    async def emit(self, event: str, data: Mapping[str, Any] | None, name: str | None) -> list[RunHandle]:
        """Let an event happen."""
        driver = await self._open()
        packed, handles = self._pack(data), []
        for schedule in list(self.schedules.values()):
            if isinstance(schedule.trigger, NoTrigger) and schedule.trigger.event == event:
                await self._attach(schedule)
                now = driver.now()
                run_id = f"{schedule.id}@{event}:{name or uuid.uuid4().hex}"
                if name is not None and await self._exists(schedule, driver, run_id):
                    continue
                handles += await self._put(schedule, driver, Entry(run_id, "event", None, now, now, packed), True)
        return handles

    async def _exists(self, schedule: Schedule, driver: Driver, run_id: str) -> bool:
        if driver.ledger.shared:
            assert self._kernel.backend is not None
            return await self._kernel.backend.load(run_id) is not None
        return any(tick.run_id == run_id for tick in await driver.ledger.history(schedule.id))

    async def change(self, id: str, how: str) -> None:
        """Pause, resume or reset."""
        schedule, driver = await self._get(id)
        while True:
            decision = await driver.ledger.update(id, lambda s: _CHANGES[how](schedule, s, driver.now()))
            await driver.carry_out(schedule, decision)
            if decision is None or not decision.more:
                break
        if self.loop is not None:
            self.loop.plan(schedule)

    async def remove(self, id: str) -> None:
        """Forget it."""
        schedule, driver = await self._get(id)
        decision = await driver.ledger.update(id, lambda s: _standing.remove(schedule, s, driver.now()))
        await driver.carry_out(schedule, decision)
        if self.schedules.get(id) is schedule:
            del self.schedules[id]
        self._attached.pop(id, None)
        if self.loop is not None:
            self.loop.forget(id)

    async def backfill(self, id: str, first: int, end: int, limit: int) -> list[RunHandle]:
        """Run what has not run."""
        schedule, driver = await self._get(id)
        state = await driver.ledger.look(id)
        assert state is not None
        if isinstance(schedule.trigger, NoTrigger):
            raise SchedulerError(f"schedule {id!r} has no nominal times to run again: it is {schedule.trigger.kind!r}")
        if end > driver.now():
            raise ConfigurationError("end must not be in the future: what is still to come is not missing")
        places, handles = asyncio.Semaphore(limit), list[RunHandle]()

        async def one(nominal: int) -> None:
            async with places:
                run_id, now = run_id_of(id, nominal), driver.now()
                if not await self._exists(schedule, driver, run_id):
                    entry = Entry(run_id, "backfill", nominal, nominal, now)
                    for handle in await self._put(schedule, driver, entry, policy=False):
                        handles.append(handle)
                        with contextlib.suppress(CanoError):  # the handle tells
                            await handle.result()

        async with asyncio.TaskGroup() as group:
            nominal = schedule.next(first - 1, state.anchor)
            while nominal is not None and nominal < end:
                group.create_task(one(nominal))
                nominal = schedule.next(nominal, state.anchor)
        return handles

    # looking

    async def _state(self, id: str) -> tuple[Schedule, State, Driver]:
        """The state as it is; a schedule that nobody has started yet is only imagined to begin now."""
        if id not in self.schedules:
            await self._get(id)
        schedule, driver = self.schedules[id], await self._open()
        state = await driver.ledger.look(id)
        if state is None or (self.loop is not None and self._attached.get(id) is not schedule):
            if self.loop is not None:
                await self._attach(schedule)
                state = await driver.ledger.look(id)
            state = state or _standing.begin(schedule, driver.now())
        return schedule, state, driver

    async def status(self, id: str) -> FlowInfo:
        """Where it stands."""
        schedule, state, driver = await self._state(id)
        return info_of(schedule, state, driver.now())

    async def history(self, id: str) -> list[Tick]:
        """What became of its times."""
        _, _, driver = await self._state(id)
        backend = self._kernel.backend
        if driver.ledger.shared and backend is not None and not backend.capabilities.history:
            raise ConfigurationError(
                f"the store {self._kernel.store_name} keeps no history, so that of schedule {id!r} cannot be told; "
                "status() has its counts; use a store with history, see `cano plugins`"
            )
        return await driver.ledger.history(id)

    async def upcoming(self, id: str, count: int) -> list[int]:
        """Its next nominal times."""
        schedule, state, driver = await self._state(id)
        found, at = list[int](), schedule.next(max(state.cursor, driver.now() - 1), state.anchor)
        while at is not None and len(found) < count:
            found.append(at)
            at = schedule.next(at, state.anchor)
        return found


_OPTIONS = set(make.__kwdefaults__ or ())
_KNOWN = ", ".join(sorted(_OPTIONS | {"replace"}))
