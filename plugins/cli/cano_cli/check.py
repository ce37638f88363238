"""`cano check`: find corrupt runs, orphans and stale leases in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import click
from cano import Finding, Kernel, SerializationError

from cano_cli.errors import FAILED
from cano_cli.hints import MODULE_FLOW, command, word
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.migration import SCHEDULES
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, files, json_option, store_option
from cano_cli.stores import backend_of, with_store
from cano_cli.tables import show
from cano_cli.values import decode_values, register_types

NAMES_SHOWN = 5
"""How many workflow names the note on stderr lists."""


@click.command()
@click.argument("targets", metavar="[MODULE:FLOW]...", nargs=-1, shell_complete=files)
@store_option
@json_option
@click.pass_context
def check(ctx: click.Context, *, targets: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Check the runs in a store.

    Finds corrupt runs, sub-workflows without their parent, and leases of dead processes. Values are checked only for
    the workflows given as MODULE:FLOW, because their classes are known; a note on stderr says how many runs had
    unchecked values. The exit code is 1 if anything was found.
    """
    settings: Settings = ctx.obj
    flows = [load_flow(target) for target in targets]

    async def action(kernel: Kernel) -> tuple[list[Finding], Counter[str]]:
        register_types(kernel, flows)
        found = await kernel.check()
        corrupt = {finding.run_id for finding in found if finding.kind == "corrupt"}
        intact = [record for record in await kernel.runs() if record.run_id not in corrupt]
        known = {SCHEDULES, *(flow.name for flow in flows)}
        unreadable = await _unreadable(kernel, [record.run_id for record in intact if record.workflow in known])
        return found + unreadable, Counter(record.workflow for record in intact if record.workflow not in known)

    findings, unchecked = with_store(settings, store, action)
    findings = [_with_remedy(finding, partial(command, ctx)) for finding in findings]
    if as_json:
        click.echo(dumps([finding._asdict() for finding in findings], indent=2))
    elif findings:
        show(["kind", "run", "detail"], [[kind, word(run), " ".join(detail.split())] for kind, run, detail in findings])
    else:
        click.echo("ok: no problems found")
    if unchecked:
        names = ", ".join(map(line, sorted(unchecked)[:NAMES_SHOWN])) + (", …" if len(unchecked) > NAMES_SHOWN else "")
        click.echo(
            f"Note: the values of {counted(unchecked.total(), 'run')} were not checked (workflows: {names}); to check "
            "them, name the workflows: cano check MODULE:FLOW...",
            err=True,
        )
    if findings:
        ctx.exit(FAILED)


def _with_remedy(finding: Finding, command: Callable[..., str]) -> Finding:
    """Add the command that solves the problem, if there is one."""
    remedy = {
        "stale lease": f"to take it over: {command('recover', MODULE_FLOW)}",
        "incomplete import": f"to remove it: {command('delete', finding.run_id)}",
        "orphan": f"to end it: {command('cancel', finding.run_id)}",
    }.get(finding.kind)
    return finding if remedy is None else finding._replace(detail=f"{finding.detail}; {remedy}")


async def _unreadable(kernel: Kernel, run_ids: Iterable[str]) -> list[Finding]:
    """Return a finding for each value of these runs that cannot be decoded."""
    found = []
    for run_id in run_ids:
        try:
            record = await backend_of(kernel).load(run_id)
        except SerializationError:
            continue  # corrupt since the kernel's check
        unreadable = {} if record is None else decode_values(kernel, record.data).unreadable
        found += [Finding("corrupt", run_id, f"key {key!r}: {why}") for key, why in unreadable.items()]
    return found
