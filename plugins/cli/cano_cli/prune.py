"""`cano prune`: forget finished runs."""

from __future__ import annotations

import click
from cano import ConfigurationError, Retention

from cano_cli.errors import CliError, refused
from cano_cli.jsonable import dumps
from cano_cli.records import counted
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask


@click.command()
@click.option("--keep-last", type=int, metavar="N", help="Keep the newest N of each workflow.")
@click.option("--max-age", type=float, metavar="SECONDS", help="Keep those that ended no longer ago.")
@click.option("--delete-all-finished", is_flag=True, help="Keep none.")
@store_option
@json_option
@click.pass_context
def prune(
    ctx: click.Context,
    *,
    keep_last: int | None,
    max_age: float | None,
    delete_all_finished: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Forget finished runs, with their history. Those that can still go on by themselves are kept in any case.

    With several options a run has to pass all of them to be kept.
    """
    settings: Settings = ctx.obj
    if keep_last is None and max_age is None and not delete_all_finished:
        raise CliError("prune what? Give --keep-last N, --max-age SECONDS or --delete-all-finished")
    terminal = "delete" if delete_all_finished else "keep"
    try:
        retention = Retention(keep_last=keep_last, max_age=max_age, on_terminal=terminal)
    except ConfigurationError as error:
        raise refused(error) from error

    gone = ask(settings, store, lambda kernel: kernel.prune(retention))
    if as_json:
        click.echo(dumps({"pruned": gone}, indent=2))
        return
    for run_id in gone:
        click.echo(run_id)
    click.echo(f"{counted(len(gone), 'run')} forgotten")
