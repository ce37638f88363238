"""`cano check`: what is wrong in a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from cano import Finding, Kernel, SerializationError, Workflow

from cano_cli.errors import FAILED
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask, backend_of
from cano_cli.tables import show
from cano_cli.values import know, read


@click.command()
@click.argument("targets", metavar="[MODULE:FLOW]...", nargs=-1)
@store_option
@json_option
@click.pass_context
def check(ctx: click.Context, *, targets: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Look for what is wrong in a store.

    That is: damaged runs, sub-workflows without their parent, leases of processes that died. The values in the data are
    looked at for the workflows that are named, since their classes are known then. The exit code is 1 when anything is
    found.
    """
    settings: Settings = ctx.obj
    flows = [load_flow(target) for target in targets]

    async def question(kernel: Kernel) -> list[Finding]:
        know(kernel, flows)
        found = await kernel.check()
        corrupt = {finding.run_id for finding in found if finding.kind == "corrupt"}
        return found + [finding for finding in await _unreadable(kernel, flows) if finding.run_id not in corrupt]

    findings = ask(settings, store, question)
    if as_json:
        click.echo(dumps([finding._asdict() for finding in findings], indent=2))
    elif findings:
        show(["kind", "run", "detail"], [[kind, run, " ".join(detail.split())] for kind, run, detail in findings])
    else:
        click.echo("ok: nothing is wrong")
    if findings:
        ctx.exit(FAILED)


async def _unreadable(kernel: Kernel, flows: Iterable[Workflow[Any]]) -> list[Finding]:
    """The values of these workflows' runs that cannot be read."""
    found = []
    for flow in flows:
        for listed in await kernel.runs(workflow=flow.name):
            try:
                record = await backend_of(kernel).load(listed.run_id)
            except SerializationError:
                continue  # the kernel has found that
            unreadable = {} if record is None else read(kernel, record.data).unreadable
            found += [Finding("corrupt", listed.run_id, f"key {key!r}: {why}") for key, why in unreadable.items()]
    return found
