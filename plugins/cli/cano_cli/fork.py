"""`cano fork`: create a run from an earlier step of another run."""

from __future__ import annotations

import click
from cano import Kernel, RunRecord

from cano_cli.completing import run_argument, steps
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import record_as_json
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import record_of, with_store


@click.command()
@run_argument
@click.argument("seq", type=click.IntRange(min=0), shell_complete=steps)
@click.argument("new_run")
@store_option
@json_option
@click.pass_context
def fork(ctx: click.Context, *, run: str, seq: int, new_run: str, store: str | None, as_json: bool) -> None:
    """Create a run from an earlier step of another run.

    NEW_RUN gets the state and the data of RUN after its step SEQ; `cano show RUN` lists the steps. `cano resume`
    executes NEW_RUN from there. RUN does not change.
    """
    settings: Settings = ctx.obj

    async def action(kernel: Kernel) -> tuple[RunRecord, float]:
        await kernel.fork(run, seq, new_run)
        return await record_of(kernel, new_run), kernel.clock.time()

    record, now = with_store(settings, store, action)
    if as_json:
        click.echo(dumps(record_as_json(record, now), indent=2))
    else:
        click.echo(f"run {word(new_run)} created in state {line(record.state)}, from run {word(run)} after step {seq}")
