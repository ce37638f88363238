"""`Scheduler`: workflows that run by the clock, by events and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Unpack
from zoneinfo import ZoneInfo

from cano import Kernel, RunHandle, Workflow
from cano.options import refuse, whole

from cano_scheduler import _check
from cano_scheduler._daylight import Fold, Gap
from cano_scheduler._defining import Options, Seconds, cron_trigger, every_trigger
from cano_scheduler._service import Service
from cano_scheduler._times import SECOND, moment
from cano_scheduler._triggers import AtTrigger, NoTrigger
from cano_scheduler.info import FlowInfo
from cano_scheduler.tick import Tick


class Scheduler:
    """Runs workflows when they are due. An async context manager: it starts with the block and stops at its end.

    With a durable store the state of the schedules lives there, and any number of processes may run the same
    scheduler: each nominal time is decided by one of them. Otherwise it lives in this process.

    Every schedule takes, by keyword:

    - `data=`: the first data of its runs.
    - `instances=`, `wait=`: run that many at once, as a `ConcurrentWorkflow`; or a list with the data of each.
    - `jitter=`: up to so many seconds later, by a hash of the schedule's id and the nominal time.
    - `grace=`: seconds after which a time counts as missed rather than on time.
    - `misfire=`: run the last of the missed times ("once"), none ("skip"), or the last `limit=` of them ("all").
    - `overlap=`, `overlap_limit=`: while `overlap_limit` runs (1) are under way, "skip" the time or "replace" the
      oldest run; "queue" up to `overlap_limit` (100) times, to run one by one; "allow" `overlap_limit` at once (any).
    - `timeout=`: seconds for each run.
    - `backoff=`: after a failure, skip what is due for so many seconds, doubling with each failure in a row up to an
      hour; or a `RetryStrategy` that says how long, and trips the schedule where it gives up.
    - `trip_after=`: after so many failures in a row run nothing more until `reset`, or a `trigger` that succeeds.
    - `replace=True`: take the place of the schedule of that id.

    Args:
        kernel: drives the runs. It is opened where need be, and not closed.
        grace: the `grace` of schedules that have none of their own.
        poll: seconds between two looks into a durable store at what other processes did or left.
        stop_timeout: seconds that runs get to end when the block is left.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self, kernel: Kernel, *, grace: Seconds = 1.0, poll: Seconds = 1.0, stop_timeout: Seconds = 10.0
    ) -> None:
        if not isinstance(kernel, Kernel):
            refuse("kernel", kernel, "a Kernel")
        _check.duration("grace", grace, least=0)
        self._grace = grace
        self._stop_timeout = _check.duration("stop_timeout", stop_timeout, least=0) / SECOND
        self._service = Service(kernel, _check.duration("poll", poll) / SECOND)
        self.kernel = kernel

    async def __aenter__(self) -> Scheduler:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(self._stop_timeout)

    # defining

    def cron(
        self,
        id: str,
        flow: Workflow[Any],
        expr: str,
        *,
        tz: str | ZoneInfo = "UTC",
        gap: Gap | None = None,
        fold: Fold | None = None,
        **options: Unpack[Options],
    ) -> Scheduler:
        """Run `flow` wherever a cron expression matches.

        Args:
            id: the schedule's id.
            flow: what to run.
            expr: five fields, or six with the seconds first: `0 0 9 * * *` is daily at nine; or `@daily` and the like.
                Weekdays are 0 to 7 or names; 0 and 7 are Sunday.
            tz: whose wall clock counts.
            gap: what a wall time that does not exist means: "next", the first moment that does; "skip", nothing;
                "shift", as much later as the clocks were put forward.
            fold: which of two equal wall times counts: "first", "last" or "both". Left out, `gap` and `fold` are
                those of classic cron: "next" and "first"; where minute or hour begin with `*`, "skip" and "both".
            options: see the class.

        Raises:
            ConfigurationError: an argument is wrong; the message names it.
            SchedulerError: there is a schedule of that id.
        """
        return self._add(id, flow, cron_trigger(expr, tz, gap, fold), options)

    def every(
        self,
        id: str,
        flow: Workflow[Any],
        interval: Seconds,
        *,
        first: Seconds | datetime | None = None,
        **options: Unpack[Options],
    ) -> Scheduler:
        """Run `flow` at equal intervals, counted from the first time, so that nothing drifts.

        Args:
            id: the schedule's id.
            flow: what to run.
            interval: seconds or a timedelta, also below a second.
            first: the first time, or how long after the start it comes; by default it comes at the start.
            options: see the class.

        Raises:
            ConfigurationError: an argument is wrong; the message names it.
            SchedulerError: there is a schedule of that id.
        """
        return self._add(id, flow, every_trigger(interval, first), options)

    def at(self, id: str, flow: Workflow[Any], when: datetime | float, **options: Unpack[Options]) -> Scheduler:
        """Run `flow` once, at an aware datetime or seconds since the epoch. Arguments and errors as for `every`."""
        return self._add(id, flow, AtTrigger(_check.aware("when", when)), options)

    def on(self, id: str, flow: Workflow[Any], event: str, **options: Unpack[Options]) -> Scheduler:
        """Run `flow` for each event of that name that is emitted. Arguments and errors as for `every`."""
        return self._add(id, flow, NoTrigger(_check.name("event", event)), options)

    def manual(self, id: str, flow: Workflow[Any], **options: Unpack[Options]) -> Scheduler:
        """Run `flow` when it is triggered by hand. Arguments and errors as for `every`."""
        return self._add(id, flow, NoTrigger(), options)

    def _add(self, id: str, flow: Workflow[Any], trigger: Any, options: Options) -> Scheduler:
        self._service.add(_check.name("id", id), flow, trigger, self._grace, dict(options))
        return self

    # running

    async def start(self) -> None:
        """Begin to fire what is due.

        Raises:
            SchedulerError: it is running already.
            ConfigurationError: the data of a schedule cannot be stored.
        """
        await self._service.start()

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Fire nothing more; let the runs of this process end within `timeout`, then cancel them.

        What is parked in a durable store stays parked, and what waits in a queue waits on. It may be started again.
        """
        seconds = self._stop_timeout if timeout is None else _check.duration("timeout", timeout, least=0) / SECOND
        await self._service.stop(seconds)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._service.loop is not None

    # doing

    async def trigger(self, id: str, data: Mapping[str, Any] | None = None) -> RunHandle:
        """Run a schedule's flow now, whatever it is doing. `data` cover the schedule's, key by key.

        Raises:
            SchedulerError: there is no such schedule, or its run could not be started.
            ConfigurationError: the data cannot be stored.
        """
        return await self._service.trigger(id, data)

    async def emit(
        self, event: str, data: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> list[RunHandle]:
        """Let an event happen: the handles of the runs that start at once. Overlaps are treated as the policies say.

        Args:
            event: its name.
            data: cover those of each schedule, key by key.
            id: with a durable store an event emitted twice under one id starts one run.

        Raises:
            ConfigurationError: an argument is wrong, or the data cannot be stored.
        """
        name = None if id is None else _check.name("id", id)
        return await self._service.emit(_check.name("event", event), data, name)

    async def pause(self, id: str) -> None:
        """Let a schedule's times pass, each noted as skipped. Its runs go on. Raises SchedulerError."""
        await self._service.change(id, "pause")

    async def resume(self, id: str) -> None:
        """Let a paused schedule fire again, from now on. Raises SchedulerError."""
        await self._service.change(id, "resume")

    async def reset(self, id: str) -> None:
        """Forget a schedule's failures in a row: it fires again if it was tripped, or backs off. SchedulerError."""
        await self._service.change(id, "reset")

    async def remove(self, id: str) -> None:
        """Forget a schedule, in every process. Its runs go on; what waits is skipped. Raises SchedulerError."""
        await self._service.remove(id)

    async def backfill(self, id: str, start: datetime, end: datetime, *, limit: int = 1) -> list[RunHandle]:
        """Run a schedule's flow for its nominal times from `start` to before `end` that have not run; wait for all.

        Args:
            id: the schedule.
            start, end: aware datetimes; not in the future.
            limit: how many to run at once.

        Returns:
            A handle of each run; what failed did not stop the others.

        Raises:
            SchedulerError: there is no such schedule, or it has no nominal times.
            ConfigurationError: an argument is wrong.
        """
        span = _check.aware("start", start), _check.aware("end", end)
        return await self._service.backfill(id, *span, whole("limit", limit, 1))

    # looking

    async def status(self, id: str) -> FlowInfo:
        """Where a schedule stands. Raises SchedulerError where there is no such schedule."""
        return await self._service.status(id)

    async def list(self) -> list[FlowInfo]:
        """Where every schedule stands, in the order in which they were added."""
        return [await self._service.status(id) for id in tuple(self._service.schedules)]

    async def history(self, id: str) -> tuple[Tick, ...]:
        """What became of a schedule's times, events and triggers, oldest first.

        A durable store has all since the schedule was first added; without one the last 1,000 are remembered.

        Raises:
            SchedulerError: there is no such schedule.
            ConfigurationError: the store is durable and keeps no history.
        """
        return tuple(await self._service.history(id))

    async def upcoming(self, id: str, count: int = 5) -> tuple[datetime, ...]:
        """The next nominal times of a schedule, in UTC. Raises SchedulerError."""
        return tuple(map(moment, await self._service.upcoming(id, whole("count", count, 1))))

    def ids(self) -> tuple[str, ...]:
        """The ids of all schedules, in the order in which they were added."""
        return tuple(self._service.schedules)

    def __repr__(self) -> str:
        return f"<Scheduler of {len(self._service.schedules)} schedule(s){', running' if self.running else ''}>"
