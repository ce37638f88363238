"""`cano audit`: show who acted on a run from outside, and when."""

from __future__ import annotations

from typing import Any

import click
from cano import AuditEntry, Kernel

from cano_cli.completing import optional_run_argument
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.tables import show
from cano_cli.times import clock, iso

DEFAULT_LIMIT = 50


@click.command()
@optional_run_argument
@store_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"The newest N entries. [default: {DEFAULT_LIMIT}; all with --json]",
)
@click.option("--prune", "max_age", type=duration, metavar=METAVAR, help="Delete older entries, of all runs.")
@json_option
@click.pass_context
def audit(
    ctx: click.Context, *, run: str | None, store: str | None, limit: int | None, max_age: float | None, as_json: bool
) -> None:
    """Show who acted on a run from outside, and when: signals, cancellations, forks and the like.

    Without RUN, show the entries of the whole store. A deleted run keeps its entries until --prune deletes them. The
    actor is what the caller said: see `cano --actor`.
    """
    settings: Settings = ctx.obj
    if max_age is not None:
        if run is not None or limit is not None:
            raise CliError("--prune deletes entries of all runs; give it neither RUN nor --limit")
        deleted = with_store(settings, store, lambda kernel: kernel.prune_audit(max_age))
        text = f"{deleted:,} {'entry' if deleted == 1 else 'entries'} deleted"
        click.echo(dumps({"pruned": deleted}, indent=2) if as_json else text)
        return
    if limit is None and not as_json:
        limit = DEFAULT_LIMIT

    async def action(kernel: Kernel) -> list[AuditEntry]:
        return await kernel.audit(run, limit=None if limit is None else limit + 1)

    found = with_store(settings, store, action)
    more = limit is not None and len(found) > limit
    if more:
        del found[0]
    if as_json:
        click.echo(dumps([_as_json(entry) for entry in found], indent=2))
    elif not found:
        click.echo("no entries")
    else:
        rows = [[clock(each.at), each.actor, each.action, *_run(run, each), each.detail] for each in found]
        show(["time", "actor", "action", *([] if run else ["run"]), "detail"], rows)
    if more:
        click.echo("there are older entries; --limit N shows more", err=True)


def _run(run: str | None, entry: AuditEntry) -> list[str]:
    """Return the cell of the column of runs, if there is one."""
    return [] if run else ["" if entry.run_id is None else word(entry.run_id)]


def _as_json(entry: AuditEntry) -> dict[str, Any]:
    return entry._asdict() | {"at": iso(entry.at)}
