"""`cano run`: run a workflow once, or once for each line of a file, and report the results."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import click
from cano import Kernel, RunResult
from click.core import ParameterSource

from cano_cli.data import read_data
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError, tracebacks
from cano_cli.execution import Execution, execute, stdout_reserved
from cano_cli.hints import command
from cano_cli.loading import load_flow
from cano_cli.report import report_end
from cano_cli.settings import SHORT_LEASE, data_option, executor_option, flow_argument, lease_option, store_option

DEFAULT_LIMIT = 100
MANY_OPTIONS = ("limit", "quota", "duration")
SINGLE_RUN_OPTIONS = {
    "timeout": "--duration limits the time",
    "on_existing": "each run gets its own id",
}
"""Options that --many does not allow, and why."""


@click.command()
@flow_argument
@data_option
@store_option
@click.option("--run-id", metavar="ID", help="ID of the run. With a store, repeat the ID to resume it.")
@click.option(
    "--on-existing",
    type=click.Choice(["return", "same-data", "reject"]),
    default="return",
    show_default=True,
    help="If the run exists: resume it, or print its result; the same, but only if it began with the given data, or "
    "none is given; or fail.",
)
@click.option("--timeout", type=duration, metavar=METAVAR, help="Fail the run after this time.")
@lease_option(SHORT_LEASE)
@executor_option
@click.option("--many", metavar="FILE", help="Start one run for each line of FILE, with its JSON object; - is stdin.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMIT,
    show_default=True,
    metavar="N",
    help="Maximum concurrent runs.",
)
@click.option("--quota", type=click.IntRange(min=1), metavar="N", help="Stop after N successful runs.")
@click.option("--duration", type=duration, metavar=METAVAR, help="Stop after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; tasks' output goes to stderr.")
@click.option("--no-progress", is_flag=True, help="Do not show the states live.")
@click.pass_context
def run(
    ctx: click.Context,
    *,
    target: str,
    traceback: bool,
    data: tuple[str, ...],
    store: str | None,
    run_id: str | None,
    on_existing: str,
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

    MODULE is the name of a module or the path of a .py file. FLOW is a workflow in it, or a function without
    arguments that returns one. :FLOW may be omitted if the module has exactly one workflow.

    Without --store, the run is kept in memory. With --store and --run-id, it survives this command: repeat the
    command to resume the run from its last commit, or to print the result of a finished run. If others may have used
    the ID, --on-existing same-data or reject refuses a run that is not the one you mean.

    --many starts one run for each line of FILE, a JSON object. Blank lines are skipped. A line that is not a JSON
    object counts as a failed run; its number is reported, and the other lines are run. With --store and --run-id, the
    batch survives this command: repeat the command to continue it. Its runs are the children of the run ID.

    Exit codes: 0 if the run ended in an exit state (with --many: all runs, or --quota of them), 1 if it failed, 2
    for a usage error, 130 after Ctrl-C. Ctrl-C cancels a run in memory; a run in a store can be resumed.

    Example: cano run examples/quickstart.py:flow --data name=Ada --data tries=3
    """
    _check_options(ctx, many is not None)
    initial = read_data(data)
    with stdout_reserved(as_json) as stdout, tracebacks(traceback):
        if many is not None:
            from cano_cli.many import Many, run_many

            if run_id is not None:
                from cano_cli.many_stored import run_many_stored as run_many
            batch = Many(
                ctx,
                load_flow(target),
                many,
                initial,
                limit=limit,
                quota=quota,
                duration=duration,
                output=stdout if as_json else None,
                progress=not no_progress,
                traceback=traceback,
            )
            run_many(batch)
            return
        # a run that is to be refused is not loaded: what it waits for would be reported first
        known_id = None if on_existing == "reject" else run_id
        execution = Execution(load_flow(target), partial(command, ctx), target, known_id, waits_for_holder=True)

        async def work(kernel: Kernel) -> RunResult:
            handle = await kernel.start(
                execution.flow, initial if data else None, run_id=run_id, timeout=timeout, on_existing=on_existing
            )
            try:
                return await handle.result()
            except asyncio.CancelledError:
                if not execution.durable:
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # a task raised it; the loop stops anyway
                        await handle.cancel()
                raise

        outcome = execute(ctx, execution, work, store=store, lease=lease, progress=not no_progress)
    report_end(ctx, execution, outcome, as_json=as_json, traceback=traceback)


def _check_options(ctx: click.Context, many: bool) -> None:
    """Refuse options that conflict with --many, or need it."""
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for name in SINGLE_RUN_OPTIONS if many else MANY_OPTIONS:
        if name in given:
            option = "--" + name.replace("_", "-")
            if many:
                raise CliError(f"{option} cannot be used with --many: {SINGLE_RUN_OPTIONS[name]}; remove it")
            raise CliError(f"{option} requires --many FILE")
    if many and "run_id" in given and not ctx.params["store"]:
        raise CliError("--run-id with --many requires --store URL: without a store, no batch survives the command")
    if many and "store" in given and "run_id" not in given:
        raise CliError("--store with --many requires --run-id ID, which continues the batch when it is repeated")
    if "on_existing" in given and not (ctx.params["store"] and ctx.params["run_id"]):
        raise CliError("--on-existing requires --store URL and --run-id ID: another run has no ID that could exist")
    if "lease" in given and not ctx.params["store"]:
        raise CliError("--lease requires --store URL: a run in memory has no lease")
