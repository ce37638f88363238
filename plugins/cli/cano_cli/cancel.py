"""`cano cancel`: cancel a run."""

from __future__ import annotations

import click
from cano import Kernel, RunStatus

from cano_cli.acting import Many, act_on_many, check_one_or_many, many_options
from cano_cli.completing import optional_run_argument
from cano_cli.errors import FAILED
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import holder_of, status_of
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import head_of, with_store


@click.command()
@optional_run_argument
@store_option
@many_options
@json_option
@click.pass_context
def cancel(
    ctx: click.Context,
    *,
    run: str | None,
    store: str | None,
    many: Many,
    as_json: bool,
) -> None:
    """Cancel a run permanently. A running one stops when its process next checks the store.

    The exit code is 1 if the run has already ended; with --where, if any run was refused.
    """
    settings: Settings = ctx.obj
    check_one_or_many(ctx, many, {"RUN": run})
    if run is None:
        act_on_many(
            ctx, many, store, lambda kernel, where, pace: kernel.cancel_many(where, **pace), "cancelled",
            as_json=as_json,
        )  # fmt: skip
        return

    async def action(kernel: Kernel) -> tuple[bool, RunStatus, str]:
        done = await kernel.cancel(run)
        record, now = await head_of(kernel, run), kernel.clock.time()
        return done, status_of(record, now), holder_of(record, now)

    done, status, holder = with_store(settings, store, action)
    if as_json:
        click.echo(dumps({"run_id": run, "accepted": done, "status": status.value}, indent=2))
    elif not done:
        click.echo(f"run {word(run)} has already ended: {status.value}", err=True)
    elif status is RunStatus.CANCELLED:
        click.echo(f"run {word(run)} is cancelled")
    else:
        click.echo(f"cancellation of run {word(run)} requested; it is held by {line(holder)}")
    if not done:
        ctx.exit(FAILED)
