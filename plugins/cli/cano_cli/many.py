"""`cano run --many`: one run for each line of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TextIO

import click
from cano import ConcurrentWorkflow, WaitStrategy, Workflow

from cano_cli.batch import SHOWN, Batch
from cano_cli.driving import report_unhandled
from cano_cli.errors import FAILED, STOPPED, refused
from cano_cli.failure import failure_of
from cano_cli.lines import Lines
from cano_cli.progress import bar, live_view
from cano_cli.report import show_failure
from cano_cli.settings import Settings
from cano_cli.stores import WRONG_QUESTIONS
from cano_cli.tables import show
from cano_cli.times import show_seconds


def run_many(
    ctx: click.Context,
    flow: Workflow[Any],
    file: str,
    first: Mapping[str, Any],
    *,
    limit: int,
    quota: int | None,
    duration: float | None,
    output: TextIO | None,
    progress: bool,
    traceback: bool,
) -> None:
    """Run `flow` on each line of `file`, tell how that went, and end the command unless all is well.

    Args:
        ctx: the command's context.
        flow: the workflow.
        file: JSON Lines; `-` is stdin.
        first: data that all runs begin with.
        limit: how many run at a time.
        quota: stop when so many have succeeded.
        duration: stop after so many seconds.
        output: where to print a line of JSON for each run; None prints none, and the summary for people on stdout.
        progress: whether to show a bar on a terminal.
        traceback: whether to print the traceback of what ends all runs at once.

    Raises:
        CliError: the file cannot be opened, or an option is wrong.
    """
    settings: Settings = ctx.obj
    ended_by: str | None = None

    async def work() -> None:
        nonlocal ended_by
        asyncio.get_running_loop().set_exception_handler(report_unhandled)
        async with settings.kernel(plugins=[batch]) as kernel:
            try:
                concurrent = ConcurrentWorkflow(flow, limit=limit, kernel=kernel)
                results, status = await concurrent.execute_concurrent(batch.stores(), _wait(quota, duration))
            finally:
                await kernel.close(grace=0)  # what was parked and woken is none of the batch's own tasks
        ended_by = status.ended_by
        batch.end(results)

    with Lines(file) as lines:
        batch = Batch(flow, lines, first, output, quota)
        code, failure = FAILED, None
        # a bar on the terminal where the answers go would be drawn over them
        with live_view(lambda: bar(batch), wanted=progress and (output is None or not output.isatty())):
            try:
                asyncio.run(work())
            except KeyboardInterrupt:
                code = STOPPED
            except WRONG_QUESTIONS as error:
                raise refused(error) from error
            except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever ends it, it is told
                failure = failure_of(error, flow, None)
            finally:
                batch.end()
    if batch.broken is not None:
        raise batch.broken
    show_summary(batch, ended_by, duration, err=output is not None)
    if code == STOPPED:
        click.echo("Cancelled: the runs were stopped", err=True)
    elif failure is not None:
        show_failure(failure, traceback=traceback)
    elif ended_by == "quota" or (ended_by == "all" and not batch.failed and not batch.cancelled):
        return
    ctx.exit(code)


def show_summary(batch: Batch, ended_by: str | None, duration: float | None, *, err: bool) -> None:
    """Print how many runs ended how, and the first few errors."""
    counts = [str(batch.succeeded), str(batch.failed), str(batch.cancelled)]
    row = [*counts, show_seconds(batch.seconds), f"{batch.rate:.1f} runs/s"]
    show(["succeeded", "failed", "cancelled", "time", "rate"], [row], err=err)
    why = {
        "quota": f"the quota of {batch.quota} is met",
        "quota unreachable": f"the quota of {batch.quota} cannot be met any more",
        "duration": f"the time of {duration} s is over",
    }.get(ended_by or "")
    if why is not None:
        click.echo(f"\n{why}" + ("" if batch.all_read else "; not all lines were read"), err=err)
    if batch.failures:
        click.echo(err=err)
        rows = [[str(number), " ".join(message.split()), place] for number, message, place in sorted(batch.failures)]
        show(["line", "error", "at"], rows, err=err)
    if batch.failed > SHOWN:
        click.echo(f"and {batch.failed - SHOWN} more", err=err)


def _wait(quota: int | None, duration: float | None) -> WaitStrategy:
    if quota is not None:
        return WaitStrategy.quota(quota) if duration is None else WaitStrategy.quota_or_duration(quota, duration)
    return WaitStrategy.forever() if duration is None else WaitStrategy.duration(duration)
