"""`cano schedule`. Only the command line imports this package, because it requires click."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from cano import CanoError, ConfigurationError, SchedulerError

from cano_scheduler import _check
from cano_scheduler.cli.formatting import format_time, next_lines, shown, table
from cano_scheduler.cli.loading import UsageError, load_scheduler
from cano_scheduler.scheduler import Scheduler

R = TypeVar("R")
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def schedule() -> None:
    """Run and manage schedules.

    All commands but `run` take the scheduler from --scheduler or from the environment variable CANO_SCHEDULER.
    """


def _on_scheduler(command: Command) -> Command:
    option = click.option(
        "-s", "--scheduler", "target", metavar="MODULE:SCHEDULER", envvar="CANO_SCHEDULER", required=True,
        help="A Scheduler in a module or .py file, or a function that returns one.",
    )  # fmt: skip
    return option(command)


def _do(target: str, work: Callable[[Scheduler], Awaitable[R]], durable: bool = False) -> R:
    """Return the result of `work` on the scheduler, and close its kernel afterwards."""

    async def done(scheduler: Scheduler) -> R:
        kernel = scheduler.kernel
        wanted = getattr(click.get_current_context().obj, "namespace", None)
        if wanted not in (None, kernel.namespace):
            raise UsageError(f"the scheduler's kernel works in {kernel.store_name}, so --namespace cannot be "
                             f"{wanted!r}; change Kernel(namespace=…) in the module, or leave it out")  # fmt: skip
        async with kernel:
            if durable and not (kernel.backend is not None and kernel.backend.capabilities.durable):
                raise UsageError("the scheduler's store is not durable, so other processes do not share its schedules; "
                                 "name a durable store, such as sqlite:///jobs.db")  # fmt: skip
            try:
                return await work(scheduler)
            finally:
                await scheduler.stop()

    try:
        return asyncio.run(done(load_scheduler(target)))
    except (SchedulerError, ConfigurationError) as error:
        raise UsageError(str(error)) from error
    except CanoError as error:
        raise click.ClickException("\n".join(map(shown, [error, *getattr(error, "__notes__", ())]))) from error


@schedule.command()
@click.argument("target", metavar="MODULE:SCHEDULER")
@click.option("--grace", default=10.0, show_default=True, help="Seconds that runs have to end after a signal.")
def run(target: str, grace: float) -> None:
    """Fire due times until SIGINT or SIGTERM."""

    async def work(scheduler: Scheduler) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        await scheduler.start()
        click.echo(table(await scheduler.list()))
        click.echo("Running; Ctrl-C stops it.")
        await stopped.wait()
        click.echo(f"Stopping: {grace:g} s for active runs to end.")
        await scheduler.stop(grace)

    _do(target, work)


@schedule.command("list")
@_on_scheduler
def list_(target: str) -> None:
    """List all schedules."""
    click.echo(table(_do(target, lambda scheduler: scheduler.list())))


@schedule.command("next")
@click.argument("id")
@click.option("-n", "count", default=5, show_default=True, help="Number of times.")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="Time zone of the output.")
@_on_scheduler
def next_(id: str, count: int, tz: str, target: str) -> None:
    """Show the next times of schedule ID. Times on the day of a daylight saving change are marked."""
    try:
        zone = _check.zone(tz).info
    except ConfigurationError as error:
        raise UsageError(f"--{error}") from error
    for line in next_lines(_do(target, lambda scheduler: scheduler.upcoming(id, count)), zone):
        click.echo(line)


@schedule.command()
@click.argument("id")
@click.option("--data", metavar="JSON", help="A JSON object; its keys override those of the schedule's data.")
@_on_scheduler
def trigger(id: str, data: str | None, target: str) -> None:
    """Run schedule ID now, in this process, and wait for its end."""
    try:
        given = None if data is None else json.loads(data)
    except ValueError as error:
        raise UsageError(f"--data {data}: not JSON: {error}; give an object, such as '{{\"key\": 1}}'") from error

    async def work(scheduler: Scheduler) -> str:
        result = await (await scheduler.trigger(id, given)).result()
        return f"{shlex.quote(result.run_id)}: {getattr(result.state, 'name', result.state)}"

    click.echo(shown(_do(target, work)))


@schedule.command()
@click.argument("id")
@_on_scheduler
def pause(id: str, target: str) -> None:
    """Pause schedule ID in every process."""
    _do(target, lambda scheduler: scheduler.pause(id), durable=True)
    click.echo(f"{shown(shlex.quote(id))}: paused")


@schedule.command()
@click.argument("id")
@_on_scheduler
def resume(id: str, target: str) -> None:
    """Resume schedule ID if it is paused, and reset it if it is tripped."""

    async def work(scheduler: Scheduler) -> None:
        await scheduler.resume(id)
        await scheduler.reset(id)

    _do(target, work, durable=True)
    click.echo(f"{shown(shlex.quote(id))}: resumed")


@schedule.command()
@click.argument("id")
@click.argument("start", metavar="START")
@click.argument("end", metavar="END")
@click.option("--limit", default=1, show_default=True, help="Maximum concurrent runs.")
@_on_scheduler
def backfill(id: str, start: str, end: str, limit: int, target: str) -> None:
    """Run schedule ID for its times without a run, from START to before END.

    START and END are in ISO 8601; without an offset they are in UTC. The exit code is 1 if a run failed.
    """
    span = _parse_time("START", start), _parse_time("END", end)
    handles = _do(target, lambda scheduler: scheduler.backfill(id, *span, limit=limit))
    failed = 0
    for handle in handles:
        info = handle.status()
        failed += info.error is not None
        click.echo(f"{shown(shlex.quote(handle.run_id))}: {info.status.value}")
    click.echo(f"{len(handles)} run(s) from {format_time(span[0])} to {format_time(span[1])}, {failed} failed")
    if failed:
        raise SystemExit(1)


def _parse_time(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
