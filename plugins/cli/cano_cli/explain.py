"""`cano explain`: why a run does not move."""

from __future__ import annotations

import click

from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask


@click.command()
@click.argument("run")
@store_option
@json_option
@click.pass_context
def explain(ctx: click.Context, *, run: str, store: str | None, as_json: bool) -> None:
    """Say why a run does not move.

    It is one reason out of a closed list, and the particulars.
    """
    settings: Settings = ctx.obj
    found = ask(settings, store, lambda kernel: kernel.explain(run))
    if as_json:
        answer = {"run_id": run, "reason": found.reason.name, "detail": found.detail, "text": str(found)}
        click.echo(dumps(answer, indent=2))
    else:
        click.echo(str(found))
