"""`cano resume`: resume one run and wait for its end."""

from __future__ import annotations

from functools import partial

import click
from cano import Kernel, RunResult

from cano_cli.acting import Many, act_on_many, check_one_or_many, many_options
from cano_cli.completing import optional_run_argument
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import tracebacks
from cano_cli.execution import Execution, execute, stdout_reserved
from cano_cli.hints import command
from cano_cli.loading import load_flow
from cano_cli.report import report_end
from cano_cli.settings import SHORT_LEASE, Settings, executor_option, flow_argument, lease_option, store_option
from cano_cli.stores import backend_of, check_exists, required_url


@click.command()
@flow_argument
@optional_run_argument
@store_option
@many_options
@click.option("--timeout", type=duration, metavar=METAVAR, help="Fail the run after this time, from now on.")
@lease_option(SHORT_LEASE)
@executor_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; tasks' output goes to stderr.")
@click.option("--no-progress", is_flag=True, help="Do not show the states live.")
@click.pass_context
def resume(
    ctx: click.Context,
    *,
    target: str,
    traceback: bool,
    run: str | None,
    store: str | None,
    many: Many,
    timeout: float | None,
    lease: float,
    as_json: bool,
    no_progress: bool,
) -> None:
    """Resume a run and wait for its end.

    An interrupted or failed run continues from its last commit. A parked run continues when its signal or time has
    come. Without --timeout the run keeps its own, which starts again if the run has ended.

    If another process holds the run, the exit code is 1 and the run is unchanged. With --where, the exit code is 1 if
    any run was refused or failed again; the same command resumes what is left.

    Example: cano resume shop.py --where "status = failed and updated > 2h ago" --rate 20/s
    """
    settings: Settings = ctx.obj
    url = required_url(store)
    check_one_or_many(ctx, many, {"RUN": run})
    if run is None:
        if timeout is not None:
            raise click.UsageError("--timeout is for one run; it does not go with --where.", ctx)
        with stdout_reserved(as_json) as stdout, tracebacks(traceback):
            flow = load_flow(target)
            act_on_many(
                ctx, many, url, lambda kernel, where, pace: kernel.resume_many(flow, where, **pace), "resumed",
                as_json=as_json, file=stdout, lease=lease,
            )  # fmt: skip
        return
    with stdout_reserved(as_json), tracebacks(traceback):
        check_exists(settings.kernel(), url)
        execution = Execution(load_flow(target), partial(command, ctx), target, run, waits_for_holder=False)

        async def work(kernel: Kernel) -> RunResult:
            backend_of(kernel)
            return await kernel.resume(execution.flow, run, timeout=timeout)

        outcome = execute(ctx, execution, work, store=url, lease=lease, progress=not no_progress)
    report_end(ctx, execution, outcome, as_json=as_json, traceback=traceback)
