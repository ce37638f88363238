"""`cano run`: run a workflow and tell how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from cano import ConfigurationError, Kernel, PluginError, RunResult, ValidationError, Workflow

from cano_cli.data import read_data
from cano_cli.errors import print_traceback, refused, tracebacks
from cano_cli.failure import Failure, failure_of, stopped
from cano_cli.loading import load_flow
from cano_cli.progress import live_view
from cano_cli.recorder import Recorder
from cano_cli.report import result_as_json, show_json, show_result
from cano_cli.settings import Settings, flow_argument

FAILED = 1
STOPPED = 130  # what a shell says of a program that Ctrl-C ended


@click.command()
@flow_argument
@click.option(
    "--data",
    multiple=True,
    metavar="KEY=VALUE|@FILE",
    help="First data of the run; repeat it for more. A VALUE that is not JSON is a string. FILE holds a JSON object.",
)
@click.option("--store", metavar="URL", help="Where the run is kept, such as sqlite:///runs.db. [default: in memory]")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long the run may take.")
@click.option("--run-id", metavar="ID", help="The run's id. [default: a new one]")
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
    timeout: float | None,
    run_id: str | None,
    as_json: bool,
    no_progress: bool,
) -> None:
    """Run a workflow.

    MODULE is the name of a module, or a path to a .py file; FLOW is a workflow in it, or a function without
    arguments that returns one. FLOW may be left out where the module has one workflow only.

    The exit code is 0 when the run ends in an exit state, 1 when it fails, 2 when what was asked for is wrong, and
    130 after Ctrl-C, which cancels the run.

    Example: cano run examples/quickstart.py:flow --data name=Ada --data tries=3
    """
    settings: Settings = ctx.obj
    first = read_data(data)
    recorder = Recorder(tell=lambda message: click.echo(f"Parked: {message}", err=True))
    options = {} if store is None else {"store": store}
    with _stdout_kept(as_json), tracebacks(traceback):
        flow = load_flow(target)
        with live_view(recorder, wanted=not no_progress) as view:
            ended = run_to_end(
                flow,
                lambda: settings.kernel(plugins=[recorder], **options),
                first,
                recorder,
                run_id=run_id,
                timeout=timeout,
            )
            view.keep(isinstance(ended, Failure))
    if isinstance(ended, RunResult):
        if as_json:
            show_json(result_as_json(flow, ended), recorder)
        else:
            show_result(flow, ended, recorder)
        return
    if as_json:
        show_json(ended.as_json(), recorder)
    show_failure(ended, traceback=traceback)
    ctx.exit(STOPPED if ended.stopped else FAILED)


def run_to_end(
    flow: Workflow[Any],
    make_kernel: Callable[[], Kernel],
    data: Mapping[str, Any],
    recorder: Recorder,
    *,
    run_id: str | None,
    timeout: float | None,
) -> RunResult | Failure:
    """Run `flow` in an event loop of its own, and tell how it ended.

    Args:
        flow: the workflow.
        make_kernel: makes the kernel to run it on, which `recorder` observes.
        data: the run's first data.
        recorder: knows the run, once it has begun.
        run_id: the run's id; None for a new one.
        timeout: seconds for the whole run.

    Raises:
        CliError: the definition or the configuration is wrong; the run has not begun.
    """
    try:
        return asyncio.run(run_one(make_kernel(), flow, data, run_id=run_id, timeout=timeout))
    except KeyboardInterrupt as error:
        return stopped(error, flow, recorder.run)
    except (Exception, asyncio.CancelledError, SystemExit) as error:
        if recorder.run is None and isinstance(error, ConfigurationError | ValidationError | PluginError):
            raise refused(error) from error
        return failure_of(error, flow, recorder.run)


async def run_one(
    kernel: Kernel, flow: Workflow[Any], data: Mapping[str, Any], *, run_id: str | None, timeout: float | None
) -> RunResult:
    """One run on `kernel`, which is closed after it. Cancelling this cancels the run, and waits until it has ended."""
    asyncio.get_running_loop().set_exception_handler(_report_unhandled)
    async with kernel:
        handle = await kernel.start(flow, data, run_id=run_id, timeout=timeout)
        try:
            return await handle.result()
        except asyncio.CancelledError:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a task: it ends the event loop anyway
                await handle.cancel()
            raise


def _report_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio does itself, except for what ends the whole event loop: that is told as the run's failure."""
    if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
        loop.default_exception_handler(context)


def show_failure(failure: Failure, *, traceback: bool) -> None:
    """Print the failure for people, on stderr."""
    if traceback:
        print_traceback(failure.error)
    for line in failure.lines():
        click.echo(line, err=True)
    if not traceback and not failure.stopped:
        click.echo("  (--traceback prints the whole traceback)", err=True)


def _stdout_kept(wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Let what the user's code prints go to stderr, so that stdout has nothing but the answer."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()
