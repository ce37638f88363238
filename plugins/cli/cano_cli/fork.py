"""`cano fork`: a new run that stands where another one stood."""

from __future__ import annotations

import click
from cano import Kernel, RunRecord

from cano_cli.jsonable import dumps
from cano_cli.records import record_as_json
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask, record_of


@click.command()
@click.argument("run")
@click.argument("seq", type=int)
@click.argument("new_run")
@store_option
@json_option
@click.pass_context
def fork(ctx: click.Context, *, run: str, seq: int, new_run: str, store: str | None, as_json: bool) -> None:
    """Make a run that stands where another one stood.

    NEW_RUN stands where RUN stood after its step SEQ (`cano show RUN` lists them), and `cano resume` lets it go on. RUN
    stays as it is.
    """
    settings: Settings = ctx.obj

    async def question(kernel: Kernel) -> tuple[RunRecord, float]:
        await kernel.fork(run, seq, new_run)
        return await record_of(kernel, new_run), kernel.clock.time()

    record, now = ask(settings, store, question)
    if as_json:
        click.echo(dumps(record_as_json(record, now), indent=2))
    else:
        click.echo(f"run {new_run} stands in state {record.state}, as run {run} did after step {seq}")
