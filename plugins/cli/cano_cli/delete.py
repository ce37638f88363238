"""`cano delete`: delete one run."""

from __future__ import annotations

import click

from cano_cli.completing import run_argument
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store


@click.command()
@run_argument
@store_option
@json_option
@click.pass_context
def delete(ctx: click.Context, *, run: str, store: str | None, as_json: bool) -> None:
    """Delete a finished run, or one that cannot be read, with its history.

    An unfinished run that can be read is refused, with exit code 1: cancel it first.
    """
    settings: Settings = ctx.obj
    with_store(settings, store, lambda kernel: kernel.delete(run))
    click.echo(dumps({"deleted": run}, indent=2) if as_json else f"run {word(run)} is deleted")
