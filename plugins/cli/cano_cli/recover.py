"""`cano recover`: find and resume the runs of workflows; with --watch, a worker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

import click
from cano import Kernel, RunStatus, Workflow, read_ready

from cano_cli.errors import FAILED, STOPPED, Failed, tracebacks, usage_error
from cano_cli.execution import report_unhandled, stdout_reserved
from cano_cli.failure import message_of
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.outcomes import OutcomeReporter, RunOutcome
from cano_cli.records import counted, holder_of
from cano_cli.safe_lines import line
from cano_cli.settings import (
    LONG_LEASE,
    Settings,
    executor_option,
    files,
    json_option,
    lease_option,
    store_option,
    traceback_option,
)
from cano_cli.stores import USAGE_ERRORS, backend_of, required_url

RUNS_SHOWN = 3
"""How many runs held by other processes are listed."""
GRACE = 10.0
"""Seconds that runs have to finish after Ctrl-C."""


@click.command()
@click.argument("targets", metavar="MODULE:FLOW...", nargs=-1, required=True, shell_complete=files)
@store_option
@lease_option(LONG_LEASE)
@executor_option
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N",
    help="Execute at most N runs at once; take over the others as these end.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Keep running, and resume runs as they become ready, until Ctrl-C.")
@json_option
@traceback_option
@click.pass_context
def recover(
    ctx: click.Context,
    *,
    targets: tuple[str, ...],
    store: str | None,
    lease: float,
    concurrency: int | None,
    watch: bool,
    as_json: bool,
    traceback: bool,
) -> None:
    """Find and resume runs that no process executes.

    These are runs of the given workflows whose process died or stopped, and parked runs whose signal or time has
    come. Each outcome is printed when the run ends or is parked again; --json prints one line of JSON for each.

    The exit code is 0 if all runs ended in an exit state or are parked, and 1 if a run failed or could not be
    resumed. After Ctrl-C or SIGTERM, runs have 10 s to finish; the rest are released for other processes.
    """
    settings: Settings = ctx.obj
    url = required_url(store)
    with stdout_reserved(as_json) as stdout, tracebacks(traceback):
        flows = [load_flow(target) for target in targets]

        def report(outcome: RunOutcome) -> None:
            click.echo(dumps(outcome.as_json()) if as_json else line(outcome), file=stdout)

        reporter = OutcomeReporter(report, {flow.name for flow in flows})
        options: dict[str, Any] = {"store": url, "lease": lease, "grace": GRACE, "plugins": [reporter]}
        try:
            ok = asyncio.run(_recover(lambda: settings.kernel(**options), reporter, flows, concurrency, watch))
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo("Stopped.", err=True)
            ctx.exit(0 if watch else STOPPED)
        except USAGE_ERRORS as error:
            raise usage_error(error) from error
        except SystemExit as error:
            raise Failed(message_of(error)) from error
    if not ok:
        ctx.exit(FAILED)


async def _recover(
    make_kernel: Callable[[], Kernel],
    reporter: OutcomeReporter,
    flows: list[Workflow[Any]],
    concurrency: int | None,
    watch: bool,
) -> bool:
    """Resume the runs of `flows`. Return whether every outcome is ok and no run is stuck."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    names, stuck = {flow.name for flow in flows}, None
    assert main is not None
    loop.set_exception_handler(report_unhandled)
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows has none
        loop.add_signal_handler(signal.SIGTERM, main.cancel)
    async with make_kernel() as kernel:
        backend_of(kernel)
        try:
            handles = await kernel.recover(*flows, concurrency=concurrency)
            click.echo(f"took over {counted(len(handles), 'run')}", err=True)
            await _report_held(kernel, names, {handle.run_id for handle in handles})
            while stuck is None:
                for handle in handles:
                    reporter.expect(handle)
                if concurrency is None or not (handles or kernel.active):
                    stuck = await _report_stuck(kernel, names, {handle.run_id for handle in handles})
                await reporter.wait(forever=watch)
                if stuck is None:  # the kernel may not have taken over the next runs yet
                    handles = await kernel.recover(*flows, concurrency=concurrency)
        except asyncio.CancelledError:
            try:
                if reporter.active:
                    runs = counted(len(reporter.active), "active run")
                    click.echo(f"Stopping: {GRACE:g} s for {runs} to finish; Ctrl-C stops at once", err=True)
                await kernel.close()
            except (KeyboardInterrupt, asyncio.CancelledError):
                await kernel.close(grace=0)
                raise
            finally:
                reporter.report_remaining()
            raise
    return reporter.ok and not stuck


async def _report_held(kernel: Kernel, names: set[str], claimed: set[str]) -> None:
    """Print which runs other processes hold."""
    now = kernel.clock.time()
    held = [record for record in await kernel.runs(status=RunStatus.RUNNING) if record.holder is not None]
    held = [record for record in held if record.workflow in names and record.run_id not in {*claimed, *kernel.active}]
    for record in held[:RUNS_SHOWN]:
        click.echo(f"run {word(record.run_id)} is held by {line(holder_of(record, now))}", err=True)
    if len(held) > RUNS_SHOWN:
        click.echo(f"other processes hold {counted(len(held) - RUNS_SHOWN, 'more run')}", err=True)


async def _report_stuck(kernel: Kernel, names: set[str], claimed: set[str]) -> bool:
    """Print how many ready runs this kernel could not claim or resume. Return whether there are any."""
    now = kernel.clock.time()
    ready = await read_ready(backend_of(kernel), now, names)
    stuck = [record.run_id for record in ready if record.run_id not in {*claimed, *kernel.active}]
    if stuck:
        click.echo(f"{counted(len(stuck), 'run')} could not be resumed", err=True)  # the kernel has logged the reasons
    return bool(stuck)
