"""`cano compat`: find the unfinished runs that new code could not continue."""

from __future__ import annotations

import zlib

import click
from cano import CompatGroup

from cano_cli.errors import FAILED, tracebacks
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, files, json_option, store_option, traceback_option
from cano_cli.stores import with_store
from cano_cli.tables import show


@click.command()
@click.argument("targets", metavar="MODULE:FLOW...", nargs=-1, required=True, shell_complete=files)
@store_option
@click.option("--only-given", is_flag=True, help="Leave out the runs of workflows that are not given.")
@json_option
@traceback_option
@click.pass_context
def compat(
    ctx: click.Context,
    *,
    targets: tuple[str, ...],
    store: str | None,
    only_given: bool,
    as_json: bool,
    traceback: bool,
) -> None:
    """Find the unfinished runs that new code could not continue, before it is deployed.

    Name all workflows of the new code; those of sub-workflows need not be named. A run would be stranded if its
    definition has changed and `migrate` does not cover that, if its state was removed, if a value cannot be decoded,
    or if its workflow is missing. Runs are counted by workflow, version, definition and state. Nothing is claimed or
    changed, and runs that have ended cost nothing.

    The exit code is 0 if the new code can continue all runs, 1 if runs would be stranded or the store failed, and 2
    for a usage error.

    Example: cano compat shop.py:flow --store postgresql://db/shop
    """
    settings: Settings = ctx.obj
    with tracebacks(traceback):
        flows = [load_flow(target) for target in targets]
        report = with_store(settings, store, lambda kernel: kernel.compat(*flows, only_given=only_given))
    if as_json:
        groups = [group._asdict() for group in report.groups]
        click.echo(dumps({"unfinished": report.unfinished, "stranded": report.stranded, "groups": groups}, indent=2))
    else:
        if report.groups:
            show(["workflow", "version", "definition", "state", "runs", "problem"], list(map(_cells, report.groups)))
        for group in report.groups:
            if group.problem:
                click.echo(_problem(group))
        if report.stranded:
            click.echo(
                f"{report.stranded} of {counted(report.unfinished, 'unfinished run')} would be stranded", err=True
            )
        else:
            click.echo(f"ok: this code can continue {counted(report.unfinished, 'unfinished run')}")
    if report.stranded:
        ctx.exit(FAILED)


def _cells(group: CompatGroup) -> list[str]:
    definition = f"{zlib.crc32(group.fingerprint.encode(errors='surrogatepass')):08x}"
    return [group.workflow, group.version, definition, group.state, str(group.runs), group.problem]


def _problem(group: CompatGroup) -> str:
    """Return the differences and the remedy of a group in lines, after a blank one."""
    examples = ", ".join(map(word, group.examples)) + (", …" if group.runs > len(group.examples) else "")
    head = f"\n{group.problem}: workflow {line(group.workflow)} {line(group.version)}, state {line(group.state)}: "
    differences = [f"  - {line(' '.join(each.split()))}" for each in group.differences]
    return "\n".join([head + examples, *differences, *(f"  {line(each)}" for each in group.remedy.splitlines())])
