"""`cano run --many`: one run for each line of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

import click
from cano import ConcurrentWorkflow, WaitStrategy, Workflow

from cano_cli.batch import Batch, Counts
from cano_cli.errors import FAILED, STOPPED, usage_error
from cano_cli.execution import report_unhandled
from cano_cli.failure import failure_of
from cano_cli.lines import Lines
from cano_cli.progress import batch_progress, live_view
from cano_cli.report import show_failure
from cano_cli.settings import Settings
from cano_cli.stores import USAGE_ERRORS
from cano_cli.tables import show
from cano_cli.times import show_seconds


class Many(NamedTuple):
    """A batch: the arguments and options of `cano run --many`.

    Attributes:
        ctx: the command's context.
        flow: the workflow.
        file: the name of a JSON Lines file; `-` is stdin.
        initial: data that all runs begin with.
        limit: the maximum number of concurrent runs.
        quota: stop after this number of successful runs.
        duration: stop after this number of seconds.
        output: where to print a line of JSON for each run; if None, only the summary is printed, on stdout.
        progress: whether to show a progress bar on a terminal.
        traceback: whether to print the traceback of an error that stops the whole batch.
    """

    ctx: click.Context
    flow: Workflow[Any]
    file: str
    initial: Mapping[str, Any]
    limit: int
    quota: int | None
    duration: float | None
    output: TextIO | None
    progress: bool
    traceback: bool

    @property
    def strategy(self) -> WaitStrategy:
        """The wait strategy of the batch."""
        quota, duration = self.quota, self.duration
        if quota is not None:
            return WaitStrategy.quota(quota) if duration is None else WaitStrategy.quota_or_duration(quota, duration)
        return WaitStrategy.forever() if duration is None else WaitStrategy.duration(duration)

    @property
    def has_bar(self) -> bool:
        """Whether to show the bar: not if the JSON lines go to the terminal, which it would overwrite."""
        return self.progress and (self.output is None or not self.output.isatty())


def run_many(given: Many) -> None:
    """Run the workflow once for each line of the file and print a summary.

    Exit with 1 unless all runs, or the quota, succeed.

    Raises:
        CliError: the file cannot be opened, or an option is invalid.
    """
    ctx, flow, output = given.ctx, given.flow, given.output
    settings: Settings = ctx.obj
    ended_by: str | None = None

    async def work() -> None:
        nonlocal ended_by
        asyncio.get_running_loop().set_exception_handler(report_unhandled)
        async with settings.kernel(quiet=True, plugins=[batch]) as kernel:
            try:
                concurrent = ConcurrentWorkflow(flow, limit=given.limit, kernel=kernel)
                results, status = await concurrent.execute_concurrent(batch.data_sets(), given.strategy)
            finally:
                await kernel.close(grace=0)  # the batch does not await runs that were parked and woken
        ended_by = status.ended_by
        batch.end(results)

    with Lines(given.file) as lines:
        batch = Batch(flow, lines, given.initial, output, given.quota)
        code, failure = FAILED, None
        with live_view(lambda: batch_progress(batch), wanted=given.has_bar):
            try:
                asyncio.run(work())
            except KeyboardInterrupt:
                code = STOPPED
            except USAGE_ERRORS as error:
                raise usage_error(error) from error
            except (Exception, SystemExit) as error:  # noqa: BLE001  # any error is reported below
                failure = failure_of(error, flow, None)
            finally:
                batch.end()
    if batch.output_error is not None:
        raise batch.output_error
    show_summary(batch, ended_by, given.duration, err=output is not None)
    if code == STOPPED:
        click.echo("Cancelled: the runs were stopped", err=True)
    elif failure is not None:
        show_failure(failure, traceback=given.traceback)
    elif ended_by == "quota" or (ended_by == "all" and not batch.failed and not batch.cancelled):
        return
    ctx.exit(code)


def show_summary(batch: Counts, ended_by: str | None, duration: float | None, *, err: bool) -> None:
    """Print the number of runs for each status, why the batch stopped, and the first errors."""
    counts = [str(batch.succeeded), str(batch.failed), str(batch.cancelled)]
    row = [*counts, show_seconds(batch.seconds), f"{batch.rate:.1f} runs/s"]
    show(["succeeded", "failed", "cancelled", "time", "rate"], [row], err=err)
    why = {
        "quota": f"stopped: the quota of {batch.quota} was reached",
        "quota unreachable": f"stopped: the quota of {batch.quota} can no longer be reached",
        "duration": f"stopped after {duration} s",
    }.get(ended_by or "")
    if why is not None:
        click.echo(f"\n{why}" + ("" if batch.all_read else "; some lines were not read"), err=err)
    if batch.failures:
        click.echo(err=err)
        rows = [[str(number), " ".join(message.split()), place] for number, message, place in sorted(batch.failures)]
        show(["line", "error", "at"], rows, err=err)
        if batch.failed > len(rows):
            click.echo(f"and {batch.failed - len(rows)} more", err=err)
