"""`cano resume`: let a run go on."""

from __future__ import annotations

import click
from cano import Kernel, RunResult

from cano_cli.driving import Driver, drive, stdout_kept
from cano_cli.errors import tracebacks
from cano_cli.loading import load_flow
from cano_cli.report import tell_end
from cano_cli.settings import SHORT_LEASE, Settings, flow_argument, lease_option, store_option
from cano_cli.stores import backend_of, check_there, needed


@click.command()
@flow_argument
@click.argument("run")
@store_option
@lease_option(SHORT_LEASE)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON; what tasks print goes to stderr.")
@click.option("--no-progress", is_flag=True, help="Show no live view of the states.")
@click.pass_context
def resume(
    ctx: click.Context,
    *,
    target: str,
    traceback: bool,
    run: str,
    store: str | None,
    lease: float,
    as_json: bool,
    no_progress: bool,
) -> None:
    """Let a run go on, and wait for its end.

    One that was interrupted or has failed goes on from its last commit. One that waits goes on when what it waits for
    is there. One that somebody else drives is left alone: exit code 1.
    """
    settings: Settings = ctx.obj
    url = needed(store)
    with stdout_kept(as_json), tracebacks(traceback):
        check_there(settings.kernel(), url)
        driver = Driver(load_flow(target), target, run, patient=False)

        async def work(kernel: Kernel) -> RunResult:
            backend_of(kernel)
            return await kernel.resume(driver.flow, run)

        ended = drive(ctx, driver, work, store=url, lease=lease, progress=not no_progress)
    tell_end(ctx, driver, ended, as_json=as_json, traceback=traceback)
