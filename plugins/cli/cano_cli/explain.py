"""`cano explain`: explain why a run is not progressing."""

from __future__ import annotations

import click

from cano_cli.jsonable import dumps
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store


@click.command()
@click.argument("run")
@store_option
@json_option
@click.pass_context
def explain(ctx: click.Context, *, run: str, store: str | None, as_json: bool) -> None:
    """Explain why a run is not progressing.

    Prints one reason and its details; the set of reasons is fixed.
    """
    settings: Settings = ctx.obj
    found = with_store(settings, store, lambda kernel: kernel.explain(run))
    if as_json:
        answer = {"run_id": run, "reason": found.reason.name, "detail": found.detail, "text": str(found)}
        click.echo(dumps(answer, indent=2))
    else:
        click.echo(line(found))
