"""`cano runs`: list the runs in a store."""

from __future__ import annotations

import click
from cano import Kernel, RunListing, RunRecord, RunStatus

from cano_cli.completing import workflow_names
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import detail_of, record_as_json, status_of, with_own_waits
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.tables import show
from cano_cli.times import relative

DEFAULT_LIMIT = 50
ORDERS = "-created", "created", "-updated", "updated"


@click.command()
@store_option
@click.option("--workflow", metavar="NAME", shell_complete=workflow_names, help="Only runs of this workflow.")
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only runs with this status.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"At most N runs. [default: {DEFAULT_LIMIT}; all with --json]",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="Sort by the creation, or runs that have ended by their end; the latest first with a leading -.",
)
@click.option("--after", metavar="CURSOR", help="Continue a list where it ended; it prints the cursor.")
@click.option("--where", metavar="FILTER", help='Only runs that match, such as "status = failed and updated > 2h ago".')
@click.option("--count", is_flag=True, help="Print only the number of matching runs.")
@json_option
@click.pass_context
def runs(
    ctx: click.Context,
    *,
    store: str | None,
    workflow: str | None,
    status: str | None,
    limit: int | None,
    order: str,
    after: str | None,
    where: str | None,
    count: bool,
    as_json: bool,
) -> None:
    """List the runs in a store, by default the newest first.

    FILTER is one or more conditions, joined by `and`. The fields are workflow, status, state, error and parent,
    compared by =, != or in (..., ...); and created and updated, compared by <, <=, > or >= with a time such as 2h ago,
    1d12h ago, yesterday, today, 2026-11-30, or 2026-11-30T09:00, which are local, and a day is its beginning; later is
    greater. `error` is the class of a failed run's error, or of its cause.
    Search attributes are compared by all of these signs. Quote a value that has spaces.

    To sort runs by their end, give a status, such as --status failed --order=-updated.

    Example: cano runs --where "tenant = acme and status = failed and updated > yesterday"
    """
    settings: Settings = ctx.obj
    if count:
        number = with_store(settings, store, lambda kernel: _count(kernel, workflow, status, where, limit))
        click.echo(dumps({"count": number}, indent=2) if as_json else str(number))
        if number == limit:
            click.echo("there may be more runs; --limit ends the count", err=True)
        return

    async def action(kernel: Kernel) -> tuple[list[RunRecord], str | None, float]:
        def wanted(most: int | None, after: str | None) -> RunListing:
            return kernel.runs(workflow=workflow, status=status, limit=most, where=where, order=order, after=after)

        found, cursor = list[RunRecord](), after
        most = limit or (None if as_json else DEFAULT_LIMIT)
        if most is None:
            return await wanted(None, after), None, kernel.clock.time()
        while True:  # a page may end before it is full, since it reads a bounded part of the store
            page = await wanted(most - len(found), cursor).page()
            found += page.runs
            cursor = page.cursor
            if cursor is None or len(found) == most:
                break
        if not as_json:  # which lists any number of runs, and this reads each
            found = await with_own_waits(kernel, found)
        return found, cursor, kernel.clock.time()

    found, cursor, now = with_store(settings, store, action)
    if as_json:
        click.echo(dumps([record_as_json(record, now) for record in found], indent=2))
    elif not found:
        click.echo("no runs")
    else:
        rows = [_cells(record, now) for record in found]
        hint = "`cano show RUN` shows long notes whole"
        show(["run", "workflow", "status", "state", "steps", "updated", "note"], rows, hint=hint)
    if cursor is not None:
        click.echo(f"there are more runs; --limit N shows more, --after {cursor} the next", err=True)


async def _count(kernel: Kernel, workflow: str | None, status: str | None, where: str | None, limit: int | None) -> int:
    return await kernel.runs(workflow=workflow, status=status, where=where, limit=limit).count()


def _cells(record: RunRecord, now: float) -> list[str]:
    status, note = status_of(record, now).value, detail_of(record, now)
    return [
        word(record.run_id),
        record.workflow,
        status,
        record.state,
        str(record.seq),
        relative(record.updated, now),
        note,
    ]
