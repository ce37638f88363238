"""`cano prune`: delete finished runs."""

from __future__ import annotations

import click
from cano import ConfigurationError, Kernel, Retention

from cano_cli.completing import workflow_names
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError, usage_error
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import counted
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store

SHOWN = 20
"""The most deleted runs that are printed; --json prints all."""


@click.command()
@click.option(
    "--keep-last", type=click.IntRange(0), metavar="N", help="Keep the newest N finished runs of each workflow."
)
@click.option("--max-age", type=duration, metavar=METAVAR, help="Keep runs finished at most this long ago, such as 7d.")
@click.option("--workflow", metavar="NAME", shell_complete=workflow_names, help="Delete only runs of this workflow.")
@click.option("--where", metavar="FILTER", help="Delete only runs that match; see `cano runs --help`.")
@click.option("--dry-run", is_flag=True, help="Only count the runs that would be deleted, and name the newest.")
@click.option("--delete-all-finished", is_flag=True, help="Keep no finished run.")
@store_option
@json_option
@click.pass_context
def prune(
    ctx: click.Context,
    *,
    keep_last: int | None,
    max_age: float | None,
    workflow: str | None,
    where: str | None,
    dry_run: bool,
    delete_all_finished: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Delete finished runs and their history.

    A run is kept only if every given option keeps it. Unfinished runs and their sub-workflows are always kept. A run
    that cannot be read is kept unless --delete-all-finished is given; `cano check` names it, `cano delete` deletes it.
    """
    settings: Settings = ctx.obj
    if keep_last is None and max_age is None and not delete_all_finished:
        raise CliError("no option says which runs to keep; give --keep-last N, --max-age DURATION or "
                       "--delete-all-finished")  # fmt: skip
    terminal = "delete" if delete_all_finished else "keep"
    try:
        retention = Retention(keep_last=keep_last, max_age=max_age, on_terminal=terminal)
    except ConfigurationError as error:
        raise usage_error(error) from error

    async def action(kernel: Kernel) -> list[str]:
        return await kernel.prune(retention, workflow=workflow, where=where, dry_run=dry_run)

    deleted = with_store(settings, store, action)
    if as_json:
        click.echo(dumps({"would_prune" if dry_run else "pruned": deleted}, indent=2))
        return
    for run_id in deleted[:SHOWN]:
        click.echo(word(run_id))
    if len(deleted) > SHOWN:
        click.echo(f"and {counted(len(deleted) - SHOWN, 'more run')}; --json names all", err=True)
    click.echo(f"{counted(len(deleted), 'run')} {'would be ' if dry_run else ''}deleted")
