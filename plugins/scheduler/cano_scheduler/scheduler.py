"""`Scheduler`: runs workflows by the clock, by events and by hand."""

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
from cano_scheduler._times import SECOND, datetime_of
from cano_scheduler._triggers import AtTrigger, NoTrigger
from cano_scheduler.info import FlowInfo
from cano_scheduler.tick import Tick


class Scheduler:
    """A scheduler of workflows. As an async context manager, it starts with the block and stops at its end.

    With a durable store, the states of the schedules are stored, and any number of processes may run the same
    scheduler: exactly one of them decides each nominal time. Otherwise the states are kept in this process.

    Every schedule takes these options, by keyword:

    - `data=`: the initial data of its runs.
    - `instances=`: each tick starts a `ConcurrentWorkflow`: the number of its runs, or a list with the data of each.
    - `wait=`: the `WaitStrategy` of that `ConcurrentWorkflow`.
    - `jitter=`: the maximum delay in seconds; the delay is a hash of the schedule's id and the nominal time.
    - `grace=`: seconds after its due time for which a nominal time is on time; after that it is missed.
    - `misfire=`: start a run for the last missed time ("once"), for none ("skip"), or for the last `limit=` ("all").
    - `overlap=`, `overlap_limit=`: while `overlap_limit` runs (1) are active, "skip" the time or "replace" the oldest
      run. "queue" keeps up to `overlap_limit` times (100, or `limit=` if that is more) and runs them one after the
      other. "allow" runs up to `overlap_limit` at once (no limit). The default is "skip", but "queue" for
      `misfire="all"`, which allows neither "skip" nor "replace".
    - `timeout=`: seconds for each run.
    - `backoff=`: seconds for which times are skipped after a failure; they double with each consecutive failure, up to
      an hour. Or a `RetryStrategy`, which decides the delay, and trips the schedule when it gives up.
    - `trip_after=`: the number of consecutive failures that trip the schedule. A tripped schedule skips its times until
      `reset`, or until a `trigger` succeeds.
    - `replace=True`: replace the schedule with the same id.

    Args:
        kernel: executes the runs. The scheduler opens it if necessary, and does not close it.
        grace: the `grace` of schedules that do not set it.
        poll: seconds between two checks of a durable store for changes by other processes and for interrupted runs.
        stop_timeout: seconds that runs have to end when the block ends.
        keep_ticks: number of the newest ticks of each schedule to keep in its history, at least; None keeps all.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        grace: Seconds = 1.0,
        poll: Seconds = 1.0,
        stop_timeout: Seconds = 10.0,
        keep_ticks: int | None = 10_000,
    ) -> None:
        if not isinstance(kernel, Kernel):
            refuse("kernel", kernel, "a Kernel")
        _check.duration("grace", grace, least=0)
        self._grace = grace
        self._stop_timeout = _check.duration("stop_timeout", stop_timeout, least=0) / SECOND
        if keep_ticks is not None:
            whole("keep_ticks", keep_ticks, 1)
        self._service = Service(kernel, _check.duration("poll", poll) / SECOND, keep_ticks)
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
        """Run `flow` at the times that a cron expression matches.

        Args:
            id: the schedule's id.
            flow: the workflow.
            expr: five fields, or six with the seconds first (`0 0 9 * * *` is daily at nine), or a name like `@daily`.
                Weekdays are 0 to 7 or names; 0 and 7 are Sunday.
            tz: the time zone of the expression.
            gap: when to run for a wall time that does not exist: "next", at the first time after the gap; "skip",
                never; "shift", later by the length of the gap.
            fold: when to run for a wall time that exists twice: "first", "last" or "both". By default, `gap` and
                `fold` are as in classic cron: "next" and "first", but "skip" and "both" if the minute or the hour
                field begins with `*`.
            options: see the class.

        Raises:
            ConfigurationError: an argument is invalid; the message names it.
            SchedulerError: a schedule with this id exists.
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
        """Run `flow` at equal intervals, counted from the first time, so that they do not drift.

        Args:
            id: the schedule's id.
            flow: the workflow.
            interval: seconds or a timedelta; it may be less than a second.
            first: the first time as a datetime, or its delay after the start; by default 0.
            options: see the class.

        Raises:
            ConfigurationError: an argument is invalid; the message names it.
            SchedulerError: a schedule with this id exists.
        """
        return self._add(id, flow, every_trigger(interval, first), options)

    def at(self, id: str, flow: Workflow[Any], when: datetime | float, **options: Unpack[Options]) -> Scheduler:
        """Run `flow` once, at an aware datetime or seconds since the epoch. Arguments and errors as for `every`."""
        return self._add(id, flow, AtTrigger(_check.aware("when", when)), options)

    def on(self, id: str, flow: Workflow[Any], event: str, **options: Unpack[Options]) -> Scheduler:
        """Run `flow` for each emitted event with the name `event`. Arguments and errors as for `every`."""
        return self._add(id, flow, NoTrigger(_check.name("event", event)), options)

    def manual(self, id: str, flow: Workflow[Any], **options: Unpack[Options]) -> Scheduler:
        """Run `flow` only when `trigger` is called. Arguments and errors as for `every`."""
        return self._add(id, flow, NoTrigger(), options)

    def _add(self, id: str, flow: Workflow[Any], trigger: Any, options: Options) -> Scheduler:
        self._service.add(_check.name("id", id), flow, trigger, self._grace, dict(options))
        return self

    # running

    async def start(self) -> None:
        """Start to fire due times. A schedule whose stored state cannot be read is out of order until it is repaired.

        The log says so, and `list` shows the error; the other schedules run.

        Raises:
            SchedulerError: the scheduler is already running.
            ConfigurationError: the data of a schedule cannot be stored.
        """
        await self._service.start()

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Stop firing, wait up to `timeout` for the runs of this process to end, then cancel them.

        Parked runs in a durable store stay parked, and queued ones stay queued. The scheduler can be started again.

        Raises:
            ConfigurationError: a task of such a run calls this, so that it would wait for itself.
        """
        seconds = self._stop_timeout if timeout is None else _check.duration("timeout", timeout, least=0) / SECOND
        await self._service.stop(seconds)

    @property
    def running(self) -> bool:
        """Whether the scheduler is started and not stopped."""
        return self._service.loop is not None

    # acting

    async def trigger(self, id: str, data: Mapping[str, Any] | None = None) -> RunHandle:
        """Run a schedule's workflow now, even if the schedule is paused, tripped or running.

        The keys of `data` override those of the schedule.

        Raises:
            SchedulerError: there is no such schedule, or its run could not be started.
            ConfigurationError: the data cannot be stored.
        """
        return await self._service.trigger(id, data)

    async def emit(
        self, event: str, data: Mapping[str, Any] | None = None, *, id: str | None = None
    ) -> list[RunHandle]:
        """Emit an event and return the handles of the runs that start now. The overlap policies apply.

        Args:
            event: the name of the event.
            data: data of the runs; its keys override those of each schedule.
            id: with a durable store, only the first event with this id starts runs.

        Raises:
            ConfigurationError: an argument is invalid, or the data cannot be stored.
        """
        name = None if id is None else _check.name("id", id)
        return await self._service.emit(_check.name("event", event), data, name)

    async def pause(self, id: str) -> None:
        """Pause a schedule: its times are skipped, and its active runs continue. Raises SchedulerError."""
        await self._service.change(id, "pause")

    async def resume(self, id: str) -> None:
        """Resume a paused schedule, from now on. Raises SchedulerError."""
        await self._service.change(id, "resume")

    async def reset(self, id: str) -> None:
        """Clear the consecutive failures of a schedule, and end tripping and backoff. Raises SchedulerError."""
        await self._service.change(id, "reset")

    async def remove(self, id: str) -> None:
        """Remove a schedule in every process. Active runs continue; queued ones are skipped. Raises SchedulerError."""
        await self._service.remove(id)

    async def backfill(self, id: str, start: datetime, end: datetime, *, limit: int = 1) -> list[RunHandle]:
        """Run a schedule's workflow for its nominal times without a run, from `start` to before `end`; wait for all.

        Args:
            id: the schedule's id.
            start, end: aware datetimes, not in the future.
            limit: the maximum number of concurrent runs.

        Returns:
            The handles of the runs. A failed run does not stop the others.

        Raises:
            SchedulerError: there is no such schedule, or it has no nominal times.
            ConfigurationError: an argument is invalid.
        """
        span = _check.aware("start", start), _check.aware("end", end)
        return await self._service.backfill(id, *span, whole("limit", limit, 1))

    # reading

    async def status(self, id: str) -> FlowInfo:
        """Return the status of a schedule. Raises SchedulerError if there is no such schedule."""
        return await self._service.status(id)

    async def list(self) -> list[FlowInfo]:
        """Return the status of every schedule, in the order in which they were added."""
        return await self._service.listed()

    async def history(self, id: str) -> tuple[Tick, ...]:
        """Return the ticks of a schedule, oldest first: the outcomes of its times, events and triggers.

        A durable store has all ticks since the schedule was first added; otherwise the last 1,000 are kept.

        Raises:
            SchedulerError: there is no such schedule.
            ConfigurationError: the store is durable and keeps no history.
        """
        return tuple(await self._service.history(id))

    async def upcoming(self, id: str, count: int = 5) -> tuple[datetime, ...]:
        """Return the next `count` nominal times of a schedule, in UTC: 10,000 at most. Raises SchedulerError."""
        return tuple(map(datetime_of, await self._service.upcoming(id, whole("count", count, 1, 10_000))))

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all schedules, in the order in which they were added."""
        return tuple(self._service.schedules)

    def __repr__(self) -> str:
        return f"<Scheduler of {len(self._service.schedules)} schedule(s){', running' if self.running else ''}>"
