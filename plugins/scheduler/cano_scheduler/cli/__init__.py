"""`cano schedule`. Only the command line imports this package, because it requires click."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from cano import CanoError, ConfigurationError, RunInfo, SchedulerError
from cano.safe_text import safe_str

from cano_scheduler import _check
from cano_scheduler.cli.formatting import (
    format_time,
    info_as_json,
    next_lines,
    shown,
    table,
    tick_as_json,
    ticks_table,
    timing,
)
from cano_scheduler.cli.loading import UsageError, load_scheduler
from cano_scheduler.info import FlowInfo
from cano_scheduler.scheduler import Scheduler

R = TypeVar("R")
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def schedule() -> None:
    """Run and manage schedules.

    The environment variable CANO_SCHEDULER names the scheduler for all commands that are given none.
    """


def _on_scheduler(command: Command) -> Command:
    option = click.option(
        "-s", "--scheduler", "target", metavar="MODULE:SCHEDULER", envvar="CANO_SCHEDULER", required=True,
        help="A Scheduler in a module or .py file, or a function that returns one.",
    )  # fmt: skip
    return option(command)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _print_json(answer: Any) -> None:
    click.echo(json.dumps(answer, indent=2))


def _print_schedules(infos: Sequence[FlowInfo], as_json: bool) -> None:
    if as_json:
        _print_json([*map(info_as_json, infos)])
    else:
        click.echo(table(infos))


def _print_change(id: str, change: str, as_json: bool) -> None:
    if as_json:
        _print_json({"id": id, "state": change})
    else:
        click.echo(f"{shown(shlex.quote(id))}: {change}")


def _parse_data(data: str | None) -> Any:
    try:
        return None if data is None else json.loads(data)
    except ValueError as error:
        raise UsageError(f"--data {data}: not JSON: {error}; give an object, such as '{{\"key\": 1}}'") from error


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
@click.argument("target", metavar="MODULE:SCHEDULER", envvar="CANO_SCHEDULER")
@click.option(
    "--grace", type=click.FloatRange(min=0), default=10.0, show_default=True,
    help="Seconds that runs have to end after a signal.",
)  # fmt: skip
@_json_option
def run(target: str, grace: float, as_json: bool) -> None:
    """Fire due times until SIGINT or SIGTERM. --json prints the schedules as JSON first."""

    async def work(scheduler: Scheduler) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        await scheduler.start()
        _print_schedules(await scheduler.list(), as_json)
        click.echo("Running; Ctrl-C stops it.", err=as_json)
        await stopped.wait()
        click.echo(f"Stopping: {grace:g} s for active runs to end.", err=as_json)
        await scheduler.stop(grace)

    _do(target, work)


@schedule.command("list")
@_on_scheduler
@_json_option
def list_(target: str, as_json: bool) -> None:
    """List all schedules. Times are relative to now; WHEN has the time zone of the schedule."""
    _print_schedules(_do(target, lambda scheduler: scheduler.list()), as_json)


@schedule.command("next")
@click.argument("id")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Number of times.")
@click.option("--tz", metavar="ZONE", help="Time zone of the output. [default: yours]")
@_on_scheduler
@_json_option
def next_(id: str, count: int, tz: str | None, target: str, as_json: bool) -> None:
    """Show the next times of schedule ID. Times on the day of a daylight saving change are marked."""
    try:
        zone = None if tz is None else _check.zone(tz).info
    except ConfigurationError as error:
        raise UsageError(f"--{error}") from error

    async def work(scheduler: Scheduler) -> tuple[FlowInfo, tuple[datetime, ...]]:
        return await scheduler.status(id), await scheduler.upcoming(id, count)

    info, times = _do(target, work)
    if as_json:
        _print_json(
            {"id": id, "state": info.state, "when": timing(info), "times": [each.isoformat() for each in times]}
        )
        return
    for line in next_lines(times, zone):
        click.echo(line)
    click.echo(shown(f"the schedule: {timing(info)}"), err=True)
    if info.state in ("paused", "tripped"):
        resume_it = f"cano schedule resume {shlex.quote(id)}"
        click.echo(shown(f"it is {info.state}: these times will be skipped until you call: {resume_it}"), err=True)


@schedule.command()
@click.argument("id")
@click.option("--data", metavar="JSON", help="A JSON object; its keys override those of the schedule's data.")
@_on_scheduler
@_json_option
def trigger(id: str, data: str | None, target: str, as_json: bool) -> None:
    """Run schedule ID now, in this process, and wait for its end."""
    given = _parse_data(data)

    async def work(scheduler: Scheduler) -> tuple[str, str]:
        result = await (await scheduler.trigger(id, given)).result()
        return result.run_id, str(getattr(result.state, "name", result.state))

    run_id, state = _do(target, work)
    if as_json:
        _print_json({"run_id": run_id, "state": state})
    else:
        click.echo(shown(f"{shlex.quote(run_id)}: {state}"))


@schedule.command()
@click.argument("event")
@click.option("--data", metavar="JSON", help="A JSON object; its keys override those of each schedule's data.")
@click.option("--id", "event_id", metavar="ID", help="With a durable store, only the first event with this ID counts.")
@_on_scheduler
@_json_option
def emit(event: str, data: str | None, event_id: str | None, target: str, as_json: bool) -> None:
    """Emit EVENT, and run the schedules that wait for it.

    They run in this process, to their ends. The overlap policies apply. The exit code is 1 if a run failed.
    """
    given = _parse_data(data)

    async def work(scheduler: Scheduler) -> list[RunInfo]:
        handles = await scheduler.emit(event, given, id=event_id)
        await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
        waits = {info.definition.partition(" ")[2] for info in await scheduler.list() if info.kind == "on"}
        if event not in waits:
            known = ", ".join(map(repr, sorted(waits))) or "none"
            click.echo(shown(f"Note: no schedule waits for event {event!r}; known events: {known}"), err=True)
        return [handle.status() for handle in handles]

    _report(_do(target, work), f"started by event {event!r}", as_json)


@schedule.command()
@click.argument("id")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest N outcomes.")
@_on_scheduler
@_json_option
def history(id: str, limit: int, target: str, as_json: bool) -> None:
    """Show what became of schedule ID's times, events and triggers.

    Each was fired, late or skipped, and the table says why.
    """
    ticks = _do(target, lambda scheduler: scheduler.history(id))
    if as_json:
        _print_json([*map(tick_as_json, ticks[-limit:])])
    elif not ticks:
        click.echo("no time, event or trigger yet")
    else:
        click.echo(ticks_table(ticks[-limit:]))
        if len(ticks) > limit:
            click.echo(f"there are {len(ticks) - limit} older ones; --limit N shows more", err=True)


@schedule.command()
@click.argument("id")
@_on_scheduler
@_json_option
def pause(id: str, target: str, as_json: bool) -> None:
    """Pause schedule ID in every process."""
    _do(target, lambda scheduler: scheduler.pause(id), durable=True)
    _print_change(id, "paused", as_json)


@schedule.command()
@click.argument("id")
@_on_scheduler
@_json_option
def resume(id: str, target: str, as_json: bool) -> None:
    """Resume schedule ID if paused, and reset it if tripped."""

    async def work(scheduler: Scheduler) -> None:
        await scheduler.resume(id)
        await scheduler.reset(id)

    _do(target, work, durable=True)
    _print_change(id, "resumed", as_json)


@schedule.command()
@click.argument("id")
@click.argument("start", metavar="START")
@click.argument("end", metavar="END")
@click.option("--limit", type=click.IntRange(min=1), default=1, show_default=True, help="Maximum concurrent runs.")
@_on_scheduler
@_json_option
def backfill(id: str, start: str, end: str, limit: int, target: str, as_json: bool) -> None:
    """Run schedule ID for its times from START to before END.

    Times that have a run are left out. START and END are in ISO 8601; without an offset they are in UTC. The exit code
    is 1 if a run failed.
    """
    span = _parse_time("START", start), _parse_time("END", end)
    handles = _do(target, lambda scheduler: scheduler.backfill(id, *span, limit=limit))
    what = f"from {format_time(span[0])} to {format_time(span[1])}"
    _report([handle.status() for handle in handles], what, as_json)


def _report(runs: list[RunInfo], what: str, as_json: bool) -> None:
    """Print runs with their statuses and errors. The exit code is 1 if one of them failed."""
    failed = sum(run.status.value == "failed" for run in runs)
    errors = [None if run.error is None else safe_str(run.error) for run in runs]
    if as_json:
        listed = [
            {"run_id": run.run_id, "status": run.status.value, "error": error}
            for run, error in zip(runs, errors, strict=True)
        ]
        _print_json({"runs": listed, "failed": failed})
    else:
        for run, error in zip(runs, errors, strict=True):
            why = "" if error is None else f": {error}"
            click.echo(shown(f"{shlex.quote(run.run_id)}: {run.status.value}{why}"))
        click.echo(f"{len(runs)} run{'s' * (len(runs) != 1)} {shown(what)}, {failed} failed")
    if failed:
        raise SystemExit(1)


def _parse_time(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
