"""`cano run`: run a workflow, once or many times, and tell how it ended."""

from __future__ import annotations

import asyncio
import contextlib

import click
from cano import Kernel, RunResult
from click.core import ParameterSource

from cano_cli.data import read_data
from cano_cli.driving import Driver, drive, stdout_kept
from cano_cli.errors import CliError, tracebacks
from cano_cli.loading import load_flow
from cano_cli.many import run_many
from cano_cli.report import tell_end
from cano_cli.settings import SHORT_LEASE, flow_argument, lease_option, store_option

LIMIT = 100
OF_MANY = ("limit", "quota", "duration")
OF_ONE = {
    "store": "all are kept in memory",
    "timeout": "the time is limited by --duration",
    "run_id": "each has an id of its own",
    "lease": "all are kept in memory",
}


@click.command()
@flow_argument
@click.option(
    "--data",
    multiple=True,
    metavar="KEY=VALUE|@FILE",
    help="First data of the run; repeat it for more. A VALUE that is not JSON is a string. FILE holds a JSON object.",
)
@store_option
@click.option("--run-id", metavar="ID", help="The run's id: with a store, the same one again goes on.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long the run may take.")
@lease_option(SHORT_LEASE)
@click.option("--many", metavar="FILE", help="One run for each line of FILE, which is its data; - reads stdin.")
@click.option("--limit", type=int, default=LIMIT, show_default=True, metavar="N", help="How many runs at a time.")
@click.option("--quota", type=int, metavar="N", help="Stop when so many runs have succeeded.")
@click.option("--duration", type=float, metavar="SECONDS", help="Stop after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON; what tasks print goes to stderr.")
@click.option("--no-progress", is_flag=True, help="Show no live view of the states.")
@click.pass_context
def run(
    ctx: click.Context,
    *,
    target: str,
    traceback: bool,
    data: tuple[str, ...],
    store: str | None,
    run_id: str | None,
    timeout: float | None,
    lease: float,
    many: str | None,
    limit: int,
    quota: int | None,
    duration: float | None,
    as_json: bool,
    no_progress: bool,
) -> None:
    """Run a workflow.

    MODULE is the name of a module, or a path to a .py file; FLOW is a workflow in it, or a function without
    arguments that returns one. FLOW may be left out where the module has one workflow only.

    Runs are kept in memory, unless there is a store. There a run with a --run-id outlives this command: the same
    command again goes on where the last one stopped, or was killed, and prints a finished run's result.

    With --many there is one run for each line of a file, a JSON object. Blank lines are passed over. A line that
    cannot be read counts as a failed run, and is named with its number; the others are run.

    The exit code is 0 when the run ends in an exit state (all of --many, or its --quota), 1 when it fails, 2 when
    what was asked for is wrong, and 130 after Ctrl-C, which cancels a run in memory and leaves one in a store to go on.

    Example: cano run examples/quickstart.py:flow --data name=Ada --data tries=3
    """
    _check_together(ctx, many is not None)
    first = read_data(data)
    with stdout_kept(as_json) as stdout, tracebacks(traceback):
        if many is not None:
            run_many(
                ctx,
                load_flow(target),
                many,
                first,
                limit=limit,
                quota=quota,
                duration=duration,
                output=stdout if as_json else None,
                progress=not no_progress,
                traceback=traceback,
            )
            return
        driver = Driver(load_flow(target), target, run_id, patient=True)

        async def work(kernel: Kernel) -> RunResult:
            handle = await kernel.start(driver.flow, first, run_id=run_id, timeout=timeout)
            try:
                return await handle.result()
            except asyncio.CancelledError:
                if not driver.durable:
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a task: it ends the loop anyway
                        await handle.cancel()
                raise

        ended = drive(ctx, driver, work, store=store, lease=lease, progress=not no_progress)
    tell_end(ctx, driver, ended, as_json=as_json, traceback=traceback)


def _check_together(ctx: click.Context, many: bool) -> None:
    """Refuse options that make no sense together."""
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for name in OF_ONE if many else OF_MANY:
        if name in given:
            option = "--" + name.replace("_", "-")
            if many:
                raise CliError(f"{option} is for a single run; with --many, {OF_ONE[name]}; leave it out")
            raise CliError(f"{option} is for many runs: give --many FILE, too")
