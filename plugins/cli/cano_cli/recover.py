"""`cano recover`: take over the runs that can go on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

import click
from cano import Kernel, RunStatus, Workflow

from cano_cli.caretaker import Caretaker, Ending
from cano_cli.driving import report_unhandled, stdout_kept
from cano_cli.errors import FAILED, STOPPED, CliError, refused, tracebacks
from cano_cli.failure import message_of
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.records import counted, holder_of
from cano_cli.settings import LONG_LEASE, Settings, json_option, lease_option, store_option, traceback_option
from cano_cli.stores import WRONG_QUESTIONS, backend_of, needed

SHOWN = 3
GRACE = 10.0
"""Seconds that runs get to finish after Ctrl-C."""


@click.command()
@click.argument("targets", metavar="MODULE:FLOW...", nargs=-1, required=True)
@store_option
@lease_option(LONG_LEASE)
@click.option("--watch", is_flag=True, help="Stay, and take over whatever can go on, until Ctrl-C.")
@json_option
@traceback_option
@click.pass_context
def recover(
    ctx: click.Context,
    *,
    targets: tuple[str, ...],
    store: str | None,
    lease: float,
    watch: bool,
    as_json: bool,
    traceback: bool,
) -> None:
    """Take over the runs that can go on.

    These are the runs of the workflows named that nobody drives: whose process was killed or stopped, or for which
    there is what they waited for. How each ends is printed when it does: with --json as a line of JSON. A run that
    waits again is left waiting.

    The exit code is 0 when all have ended in an exit state or wait, 1 when one has not, or cannot go on. Ctrl-C and
    SIGTERM let runs finish for 10 s, and leave the rest to go on later.
    """
    settings: Settings = ctx.obj
    url = needed(store)
    with stdout_kept(as_json) as stdout, tracebacks(traceback):
        flows = [load_flow(target) for target in targets]
        names = [flow.name for flow in flows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise CliError(f"two of these workflows are named {twice.pop()!r}; a run could belong to either")

        def tell(ending: Ending) -> None:
            click.echo(dumps(ending.as_json()) if as_json else str(ending), file=stdout)

        caretaker = Caretaker(tell)
        options: dict[str, Any] = {"store": url, "lease": lease, "grace": GRACE, "plugins": [caretaker]}
        try:
            well = asyncio.run(_recover(lambda: settings.kernel(**options), caretaker, flows, watch))
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo("Stopped.", err=True)
            ctx.exit(0 if watch else STOPPED)
        except WRONG_QUESTIONS as error:
            raise refused(error) from error
        except SystemExit as error:
            raise click.ClickException(message_of(error)) from error
    if not well:
        ctx.exit(FAILED)


async def _recover(
    make_kernel: Callable[[], Kernel], caretaker: Caretaker, flows: list[Workflow[Any]], watch: bool
) -> bool:
    """Whether all is well in the end."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    loop.set_exception_handler(report_unhandled)
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows has none
        loop.add_signal_handler(signal.SIGTERM, main.cancel)
    async with make_kernel() as kernel:
        backend_of(kernel)
        try:
            handles = await kernel.recover(*flows)
            for handle in handles:
                caretaker.expect(handle)
            taken = {handle.run_id for handle in handles}
            click.echo(f"{counted(len(taken), 'run')} taken over", err=True)
            stuck = await _left_alone(kernel, {flow.name for flow in flows}, taken)
            await caretaker.wait(forever=watch)
        except asyncio.CancelledError:
            try:
                if caretaker.under_way:
                    runs = counted(len(caretaker.under_way), "run")
                    click.echo(
                        f"Stopping: {runs} under way, with {GRACE:g} s to finish; Ctrl-C stops at once", err=True
                    )
                await kernel.close()
            except (KeyboardInterrupt, asyncio.CancelledError):
                await kernel.close(grace=0)
                raise
            finally:
                caretaker.tell_all()
            raise
    return caretaker.well and not stuck


async def _left_alone(kernel: Kernel, names: set[str], taken: set[str]) -> bool:
    """Tell which runs were not taken over; whether there are any that could have been."""
    now = kernel.clock.time()
    held = [record for record in await kernel.runs(status=RunStatus.RUNNING) if record.holder is not None]
    held = [record for record in held if record.workflow in names and record.run_id not in {*taken, *kernel.active}]
    for record in held[:SHOWN]:
        click.echo(f"run {record.run_id} is left to {holder_of(record, now)}", err=True)
    if len(held) > SHOWN:
        click.echo(f"and {counted(len(held) - SHOWN, 'more run')} to others", err=True)
    ready = [record for record in await backend_of(kernel).ready(now) if record.workflow in names]
    stuck = [record.run_id for record in ready if record.run_id not in {*taken, *kernel.active}]
    if stuck:
        click.echo(f"{counted(len(stuck), 'run')} cannot go on", err=True)  # why, the kernel has logged
    return bool(stuck)
