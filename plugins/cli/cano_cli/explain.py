"""`cano explain`: explain why a run is not progressing."""

from __future__ import annotations

from functools import partial

import click
from cano import Kernel

from cano_cli.completing import run_argument
from cano_cli.hints import command
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.reasons import Reason, reason_of
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, flows_option, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.values import register_types


@click.command()
@run_argument
@store_option
@flows_option("Check that this workflow could continue the run.")
@json_option
@click.pass_context
def explain(ctx: click.Context, *, run: str, store: str | None, flows: tuple[str, ...], as_json: bool) -> None:
    """Explain why a run is not progressing.

    Prints one reason and its details; the set of reasons is fixed. With --flow, a changed definition and unreadable
    values of the run are reasons, too.
    """
    settings: Settings = ctx.obj
    loaded = [load_flow(target) for target in flows]

    async def action(kernel: Kernel) -> Reason:
        register_types(kernel, loaded)
        return await reason_of(kernel, run, partial(command, ctx), flows)

    found, text = with_store(settings, store, action)
    if as_json:
        answer = {"run_id": run, "reason": found.reason.name, "detail": found.detail, "text": text}
        click.echo(dumps(answer, indent=2))
    else:
        click.echo(line(text))
