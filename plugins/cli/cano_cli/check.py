"""`cano check`: what is wrong in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import click
from cano import Finding, Kernel, SerializationError

from cano_cli.errors import FAILED
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.migration import SCHEDULES
from cano_cli.records import counted
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask, backend_of
from cano_cli.tables import show
from cano_cli.values import know, read

SHOWN = 5
"""How many names of workflows are told."""


@click.command()
@click.argument("targets", metavar="[MODULE:FLOW]...", nargs=-1)
@store_option
@json_option
@click.pass_context
def check(ctx: click.Context, *, targets: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Look for what is wrong in a store.

    That is: damaged runs, sub-workflows without their parent, leases of processes that died. The values in the data are
    looked into for the workflows that are named, since their classes are known then; of how many runs they were not is
    said on stderr. The exit code is 1 when anything is found.
    """
    settings: Settings = ctx.obj
    flows = [load_flow(target) for target in targets]

    async def question(kernel: Kernel) -> tuple[list[Finding], Counter[str]]:
        know(kernel, flows)
        found = await kernel.check()
        corrupt = {finding.run_id for finding in found if finding.kind == "corrupt"}
        intact = [record for record in await kernel.runs() if record.run_id not in corrupt]
        known = {SCHEDULES, *(flow.name for flow in flows)}
        unreadable = await _unreadable(kernel, [record.run_id for record in intact if record.workflow in known])
        return found + unreadable, Counter(record.workflow for record in intact if record.workflow not in known)

    findings, passed_over = ask(settings, store, question)
    if as_json:
        click.echo(dumps([finding._asdict() for finding in findings], indent=2))
    elif findings:
        show(["kind", "run", "detail"], [[kind, run, " ".join(detail.split())] for kind, run, detail in findings])
    else:
        click.echo("ok: nothing is wrong")
    if passed_over:
        names = ", ".join(sorted(passed_over)[:SHOWN]) + (", …" if len(passed_over) > SHOWN else "")
        click.echo(
            f"Note: the values of {counted(passed_over.total(), 'run')} were not looked into (of {names}); name their "
            "workflows for that: cano check MODULE:FLOW...",
            err=True,
        )
    if findings:
        ctx.exit(FAILED)


async def _unreadable(kernel: Kernel, run_ids: Iterable[str]) -> list[Finding]:
    """The values of these runs that cannot be read."""
    found = []
    for run_id in run_ids:
        try:
            record = await backend_of(kernel).load(run_id)
        except SerializationError:
            continue  # damaged since the kernel has looked
        unreadable = {} if record is None else read(kernel, record.data).unreadable
        found += [Finding("corrupt", run_id, f"key {key!r}: {why}") for key, why in unreadable.items()]
    return found
