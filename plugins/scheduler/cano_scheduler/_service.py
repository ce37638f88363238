"""The implementation of `Scheduler`, which checks the arguments."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from cano import (
    CanoError,
    ConfigurationError,
    Kernel,
    PermanentStoreError,
    RunExistsError,
    RunHandle,
    RunRecord,
    SchedulerError,
    SerializationError,
    Workflow,
    derived_id,
)
from cano.safe_text import escaped

from cano_scheduler import _check, _lifecycle
from cano_scheduler._decide import Decision, admit, start
from cano_scheduler._defining import Seconds, make
from cano_scheduler._loop import Loop
from cano_scheduler._repository import LocalRepository, Repository
from cano_scheduler._runner import Runner
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import Job, State
from cano_scheduler._stored_repository import StoredRepository
from cano_scheduler._times import LAST, run_id_of
from cano_scheduler._triggers import NoTrigger, Trigger
from cano_scheduler.info import FlowInfo, corrupt_info, info_of
from cano_scheduler.tick import Tick

_log = logging.getLogger("cano.scheduler")
_AT_ONCE = 100
_CHANGES = {"pause": _lifecycle.pause, "resume": _lifecycle.resume, "reset": _lifecycle.reset}


class Service:
    """The schedules of one scheduler and the operations on them.

    Args:
        kernel: executes the runs.
        poll: seconds between two checks of the store for changes by other processes.
        keep_ticks: the newest ticks of each schedule to keep in a durable store that can discard others; None for all.

    Attributes:
        schedules: the definitions by id.
        loop: the loop while the scheduler runs, or None.
    """

    def __init__(self, kernel: Kernel, poll: float, keep_ticks: int | None = None) -> None:
        self.schedules: dict[str, Schedule] = {}
        self.loop: Loop | None = None
        self._kernel = kernel
        self._poll = poll
        self._keep_ticks = keep_ticks
        self._runner: Runner | None = None
        self._attached: dict[str, Schedule] = {}
        self._out_of_order: dict[str, str] = {}  # ids of schedules whose state cannot be read, with the error
        self._starting = False

    # defining

    def add(self, id: str, flow: Workflow[Any], trigger: Trigger, grace: Seconds, options: dict[str, Any]) -> None:
        """Add or replace a schedule."""
        replace = options.pop("replace", False)
        if id in self.schedules and not replace:
            raise SchedulerError(f"id={id!r}: a schedule with this id exists; pass replace=True to replace it")
        if unknown := options.keys() - _OPTIONS:
            raise ConfigurationError(f"unknown option(s) {', '.join(sorted(unknown))}; known: {_KNOWN}")
        self._kernel.limits.check("ids", "the longest run id of the schedule", f"{id}@{'0' * 32}")
        schedule = make(self._kernel, id, flow, trigger, grace, **options)
        if self._runner is not None:
            self._check_data(schedule)
        self.schedules[id] = schedule
        if self.loop is not None and self._runner is not None:
            self._runner.spawn(self._begin(schedule))

    async def _begin(self, schedule: Schedule) -> None:
        """Begin a schedule that was added to a running scheduler."""
        if self.schedules.get(schedule.id) is not schedule:
            return
        if await self._attach_if_readable(schedule) and self.loop is not None:
            self.loop.plan(schedule)

    def _check_data(self, schedule: Schedule) -> None:
        assert self._runner is not None
        for key, value in (schedule.data or {}).items():
            self._pack({key: value}, schedule, f"data of schedule {schedule.id!r}")

    def _pack(self, data: Mapping[str, Any] | None, schedule: Schedule, label: str = "data") -> Any:
        assert self._runner is not None
        checked = _check.data("data", data)
        try:
            return self._runner.repository.pack(checked, schedule)
        except SerializationError as error:
            raise ConfigurationError(f"{label} cannot be stored: {error}") from error

    async def _open(self) -> Runner:
        """Open the kernel, and choose the repository for the states."""
        await self._kernel.open()
        if self._runner is None:
            backend, repository = self._kernel.backend, None
            if backend is not None and backend.capabilities.durable:
                repository = StoredRepository(backend, self._kernel, self._keep_ticks)
            self._runner = Runner(self._kernel, repository or LocalRepository(), 2 * self._poll)
        return self._runner

    @property
    def repository(self) -> Repository:
        """The repository of the states."""
        assert self._runner is not None
        return self._runner.repository

    async def _attach(self, schedule: Schedule, now: int | None = None) -> None:
        if self._attached.get(schedule.id) is not schedule:
            runner = await self._open()
            await runner.repository.attach(schedule, runner.now() if now is None else now)
            self._attached[schedule.id] = schedule

    async def _attach_if_readable(self, schedule: Schedule, now: int | None = None) -> bool:
        """Attach a schedule, and return True. If its state cannot be read, log why, once: the others continue."""
        try:
            await self._attach(schedule, now)
        except (PermanentStoreError, RunExistsError) as error:
            if self._out_of_order.get(schedule.id) != str(error):
                self._out_of_order[schedule.id] = str(error)
                _log.error("schedule %s is out of order: %s", escaped(schedule.id), escaped(str(error)))
            return False
        self._out_of_order.pop(schedule.id, None)
        return True

    async def _repaired(self) -> list[Schedule]:
        """Return the schedules that were out of order, and whose state can be read now."""
        found = [self.schedules.get(id) for id in self._out_of_order]
        return [each for each in found if each is not None and await self._attach_if_readable(each)]

    async def _get(self, id: str) -> tuple[Schedule, Runner]:
        schedule = self.schedules.get(id) if isinstance(id, str) else None
        if schedule is None:
            known = ", ".join(map(repr, self.schedules)) or "none"
            raise SchedulerError(f"there is no schedule {id!r}; known schedules: {known}")
        runner = await self._open()
        await self._attach(schedule)
        return schedule, runner

    # running

    async def start(self) -> None:
        """Start the loop."""
        if self.loop is not None or self._starting:
            raise SchedulerError("the scheduler is already running; call stop() before you start it again")
        self._starting = True
        try:
            runner = await self._open()
            runner.stopping = False
            for schedule in self.schedules.values():
                self._check_data(schedule)
            now = runner.now()
            schedules = list(self.schedules.values())
            await runner.repository.prepare()
            for first in range(0, len(schedules), _AT_ONCE):  # they share the store's syncs
                some = schedules[first : first + _AT_ONCE]
                await asyncio.gather(*(self._attach_if_readable(schedule, now) for schedule in some))
            loop = Loop(self._kernel, runner, self.schedules, self._poll, self._repaired)
            await loop.start()
            self.loop = loop
        finally:
            self._starting = False

    async def stop(self, timeout: float) -> None:
        """Stop the loop, and wait for runs to end.

        Raises:
            ConfigurationError: a task of such a run calls this.
        """
        if self._runner is not None:
            self._runner.refuse_inside()
        loop, self.loop = self.loop, None
        if loop is not None:
            await loop.stop()
        if self._runner is not None:
            self._runner.stopping = True
            await self._runner.finish(timeout)

    # acting

    async def _add_job(self, schedule: Schedule, runner: Runner, job: Job, policy: bool) -> list[RunHandle]:
        """Start `job`, or, if `policy` is set, apply the overlap policy to it."""

        def change(state: State) -> Decision | None:
            if job.run_id in state.active or any(other.run_id == job.run_id for other in state.queue):
                return None
            decision = Decision()
            (admit if policy else start)(schedule, state, job, job.at, decision)
            return decision

        return await runner.apply(schedule, await runner.repository.update(schedule.id, change, job.kind))

    async def trigger(self, id: str, data: Mapping[str, Any] | None) -> RunHandle:
        """Run a schedule's workflow now."""
        schedule, runner = await self._get(id)
        now = runner.now()
        job = Job(
            f"{runner.repository.key(id)}@{uuid.uuid4().hex}", "trigger", None, now, now, self._pack(data, schedule)
        )
        handles = await self._add_job(schedule, runner, job, policy=False)
        if not handles:
            state = await runner.repository.load(id)
            reason = "" if state is None or state.last_error is None else f": {state.last_error}"
            raise SchedulerError(f"the run of schedule {id!r} could not be started{reason}")
        return handles[0]

    async def emit(self, event: str, data: Mapping[str, Any] | None, name: str | None) -> list[RunHandle]:
        """Emit an event to the schedules that wait for it."""
        runner = await self._open()
        data, handles = _check.data("data", data), list[RunHandle]()
        waiting = [
            (schedule, self._pack(data, schedule))
            for schedule in self.schedules.values()
            if isinstance(schedule.trigger, NoTrigger) and schedule.trigger.event == event
        ]
        for schedule, packed in waiting:
            if not await self._attach_if_readable(schedule):
                continue
            now = runner.now()
            run_id = derived_id(f"{runner.repository.key(schedule.id)}@{event}:{name or uuid.uuid4().hex}")
            if name is None or not await self._exists(schedule, runner, run_id):
                handles += await self._add_job(schedule, runner, Job(run_id, "event", None, now, now, packed), True)
        return handles

    async def _exists(self, schedule: Schedule, runner: Runner, run_id: str) -> bool:
        if runner.repository.shared:
            assert self._kernel.backend is not None
            record = await self._kernel.backend.load(run_id)
            return record is not None and self._is_of(record, schedule)
        return any(tick.run_id == run_id for tick in await runner.repository.history(schedule.id))

    def _is_of(self, record: RunRecord, schedule: Schedule) -> bool:
        """Return whether a run is one of a schedule. If an earlier version started it, its workflow tells."""
        by, codec = record.own.get("by"), self._kernel.codec
        if isinstance(by, bytes) and codec is not None:
            by = codec.decode(by)
        return record.workflow == schedule.flow.name and by in (None, schedule.origin)

    async def change(self, id: str, name: str) -> None:
        """Apply the change "pause", "resume" or "reset"."""
        schedule, runner = await self._get(id)
        change = _CHANGES[name]
        while True:
            decision = await runner.repository.update(id, lambda state: change(schedule, state, runner.now()), name)
            await runner.apply(schedule, decision)
            if decision is None or not decision.more:
                break
        if self.loop is not None:
            self.loop.plan(schedule)

    async def remove(self, id: str) -> None:
        """Remove a schedule."""
        schedule, runner = await self._get(id)
        decision = await runner.repository.update(
            id, lambda state: _lifecycle.remove(schedule, state, runner.now()), "remove"
        )
        await runner.apply(schedule, decision)
        if self.schedules.get(id) is schedule:
            del self.schedules[id]
        self._attached.pop(id, None)
        if self.loop is not None:
            self.loop.unplan(id)

    async def backfill(self, id: str, first: int, end: int, limit: int) -> list[RunHandle]:
        """Run the workflow for past nominal times that have no run."""
        schedule, runner = await self._get(id)
        state = await runner.repository.load(id)
        assert state is not None
        if isinstance(schedule.trigger, NoTrigger):
            kind = schedule.trigger.kind
            raise SchedulerError(f"schedule {id!r} has no nominal times to backfill: its kind is {kind!r}")
        if end > runner.now():
            raise ConfigurationError("end must not be in the future: the scheduler fires future times itself")
        slots, handles = asyncio.Semaphore(limit), list[RunHandle]()

        async def one(nominal: int) -> None:
            async with slots:
                run_id, now = run_id_of(runner.repository.key(id), nominal), runner.now()
                if not await self._exists(schedule, runner, run_id):
                    job = Job(run_id, "backfill", nominal, nominal, now)
                    for handle in await self._add_job(schedule, runner, job, policy=False):
                        handles.append(handle)
                        with contextlib.suppress(CanoError):  # the handle has the error
                            await handle.result()

        async with asyncio.TaskGroup() as group:
            nominal = schedule.next(first - 1, state.anchor)
            while nominal is not None and nominal < end:
                group.create_task(one(nominal))
                nominal = schedule.next(nominal, state.anchor)
        return handles

    # reading

    async def _state(self, id: str) -> tuple[Schedule, State, Runner]:
        """Return the present state. For a schedule that no process has started, return the state of one begun now."""
        if not isinstance(id, str) or id not in self.schedules:
            await self._get(id)
        schedule, runner = self.schedules[id], await self._open()
        await runner.repository.resolve(schedule)
        state = await runner.repository.load(id)
        if state is None or (self.loop is not None and self._attached.get(id) is not schedule):
            if self.loop is not None:
                await self._attach(schedule)
                state = await runner.repository.load(id)
            state = state or _lifecycle.begin(schedule, runner.now())
        return schedule, state, runner

    async def status(self, id: str) -> FlowInfo:
        """Return the status of a schedule."""
        schedule, state, runner = await self._state(id)
        return info_of(schedule, state, runner.now())

    async def listed(self) -> list[FlowInfo]:
        """Return the status of every schedule; one that cannot be read hides no other."""
        found = []
        for id, schedule in tuple(self.schedules.items()):
            try:
                found.append(await self.status(id))
            except SerializationError as error:
                found.append(corrupt_info(schedule, error))
        return found

    async def history(self, id: str) -> list[Tick]:
        """Return the ticks of a schedule."""
        _, _, runner = await self._state(id)
        backend = self._kernel.backend
        if runner.repository.shared and backend is not None and not backend.capabilities.history:
            raise ConfigurationError(
                f"the store {self._kernel.store_name} keeps no history, so history({id!r}) is not available; "
                "status() returns the counts; for ticks, use a store with history (`cano plugins` lists them)"
            )
        return await runner.repository.history(id)

    async def upcoming(self, id: str, count: int) -> list[int]:
        """Return the next nominal times of a schedule."""
        schedule, state, runner = await self._state(id)
        found, at = list[int](), schedule.next(max(state.cursor, runner.now() - 1), state.anchor)
        while at is not None and at < LAST and len(found) < count:
            found.append(at)
            at = schedule.next(at, state.anchor)
        return found


_OPTIONS = set(make.__kwdefaults__ or ())
_KNOWN = ", ".join(sorted(_OPTIONS | {"replace"}))
